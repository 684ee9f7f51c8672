//! `write = "when_needed"`: what stays in memory, what is written, and who is
//! answered when (SAFETY 22).

use std::path::Path;

use super::tests::{NEVER, config, event, open, stored, times};
use super::*;
use crate::buffer::{Batch, BatchId, Call, Errand, MOST_HELD, Position, Write};
use crate::event::Value;
use crate::flow::{Flow, Id, Lane};
use crate::units::Period;

struct Bench {
    collector: Collector,
    intakes: Vec<Intake>,
    flows: [Flow; 2],
    ids: [Id; 2],
    store: Store,
    folder: tempfile::TempDir,
}

fn needed(folder: &Path, interval: Period) -> buffer::Config {
    buffer::Config { write: Write::WhenNeeded, commit_interval: interval, ..config(folder) }
}

fn bench(interval: Period) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let mut flows = Flows::default();
    let ids = ["a", "b"].map(|name| flows.id(name, Lane::Live));
    let of = ids.map(|id| flows.get(id).clone());
    let source = |name: &str| SourceInfo { name: name.into(), labels: Vec::new() };
    let buffer = open(&needed(folder.path(), interval));
    let (collector, intakes) = start(buffer, vec![source("a"), source("b")], flows).unwrap();
    let store = collector.store();
    let bench = Bench { collector, intakes, flows: of, ids, store, folder };
    // A position exists, and the file knows it.
    let position = bench.position();
    bench.store.adopt(&position, "kafka").unwrap();
    bench.intakes[0].flush();
    bench
}

impl Bench {
    fn position(&self) -> Position {
        self.store.next_position(None, "kafka")
    }

    /// Events of a source's own flow, handed over, and their group closed.
    async fn hand_over(&mut self, source: usize, delivery: Delivery) -> Ticket {
        let ticket = self.intakes[source].deliver(delivery).await.unwrap();
        self.intakes[source].flush();
        ticket
    }

    fn events(&self, source: usize, numbers: std::ops::Range<i64>) -> Delivery {
        let events = numbers.map(|n| event(self.ids[source], n)).collect();
        Delivery { events, bytes: 100, ..Delivery::default() }
    }

    async fn until(&self, what: impl FnMut(&Stats) -> bool) -> Stats {
        self.store.stats().wait_for(what).await.unwrap().clone()
    }

    /// What the forwarder would send of a flow.
    fn to_send(&self, source: usize) -> Vec<Batch> {
        let mut reader = self.store.reader().unwrap();
        let (mut found, mut after) = (Vec::new(), BatchId(0));
        loop {
            let flow = self.flows[source].hash;
            let mut next = self.store.load(&mut reader, flow, after, 1, 1).unwrap();
            let Some(last) = next.last() else { return found };
            after = last.id;
            found.append(&mut next);
        }
    }

    /// Kafka has committed these flows as far as they go.
    fn deliver(&self, sources: &[usize]) {
        let mut position = self.position();
        for source in sources {
            if let Some(last) = self.to_send(*source).last() {
                position.advance(self.flows[*source].hash, last.written, last.number);
            }
        }
        self.store.forget(position, "kafka").unwrap();
    }

    fn in_file(&self, source: usize) -> Vec<i64> {
        stored(&self.store, &self.flows[source])
    }

    /// What a power cut at this moment would leave.
    fn cut(&self) -> (tempfile::TempDir, Buffer) {
        let copy = tempfile::tempdir().unwrap();
        for name in ["buffer.db", "buffer.db-wal"] {
            std::fs::copy(self.folder.path().join(name), copy.path().join(name)).unwrap();
        }
        let buffer = open(&config(copy.path()));
        (copy, buffer)
    }
}

fn session(bytes: &[u8]) -> Checkpoint {
    Checkpoint::Session(bytes.into())
}

#[tokio::test]
async fn what_kafka_takes_in_time_is_never_written() {
    let mut bench = bench(NEVER);
    let before = bench.store.stats().borrow().commits;
    for round in 0..20 {
        let ticket = bench.hand_over(0, bench.events(0, round * 3..round * 3 + 3)).await;
        bench.until(|stats| stats.in_memory.events == 3).await;
        assert!(bench.intakes[0].committed() < ticket, "it is nowhere safe");
        assert_eq!(times(&bench.to_send(0)), [round * 3, round * 3 + 1, round * 3 + 2]);
        bench.deliver(&[0]);
        bench.intakes[0].wait_committed(ticket).await.unwrap();
        let in_memory = bench.store.stats().borrow().in_memory.events;
        assert_eq!(in_memory, 0, "who is answered sees it");
    }
    let stats = bench.until(|stats| stats.in_memory.batches == 0).await;
    assert_eq!((stats.commits, stats.batches, stats.committed), (before, 0, 60));
    bench.collector.close();
}

#[tokio::test]
async fn what_kafka_does_not_take_in_time_is_written_under_the_same_numbers() {
    let mut bench = bench(Period::from_millis(30));
    let ticket = bench.hand_over(0, bench.events(0, 0..3)).await;
    bench.intakes[0].wait_committed(ticket).await.unwrap();
    assert_eq!(bench.in_file(0), [0, 1, 2]);
    let batch = bench.to_send(0).remove(0);
    assert_eq!((batch.number, batch.first_seq, batch.count), (1, 1, 3));
    // Those behind it are written too, though Kafka would be there now.
    let ticket = bench.hand_over(0, bench.events(0, 3..5)).await;
    bench.intakes[0].wait_committed(ticket).await.unwrap();
    assert_eq!(bench.in_file(0), [0, 1, 2, 3, 4]);
    assert_eq!(bench.store.stats().borrow().in_memory.batches, 0);
    bench.deliver(&[0]);
    bench.until(|stats| stats.batches == 0).await;
    bench.collector.close();
}

#[tokio::test]
async fn once_kafka_has_what_is_in_the_file_the_flash_rests_again() {
    let mut bench = bench(NEVER);
    let ticket = bench.hand_over(0, bench.events(0, 0..3)).await;
    bench.intakes[0].write();
    bench.intakes[0].wait_committed(ticket).await.unwrap();
    assert_eq!(bench.in_file(0), [0, 1, 2]);
    bench.deliver(&[0]);
    // The delete is due long after; what comes next has it done.
    bench.hand_over(0, bench.events(0, 3..5)).await;
    let stats = bench.until(|stats| stats.in_memory.events == 2).await;
    assert_eq!((stats.batches, stats.events), (0, 0));
    assert_eq!(bench.to_send(0)[0].first_seq, 4);
    bench.collector.close();
}

#[tokio::test]
async fn a_ticket_waits_for_all_that_its_group_and_those_before_it_hold() {
    let mut bench = bench(NEVER);
    let first = bench.hand_over(0, bench.events(0, 0..1)).await;
    bench.until(|stats| stats.in_memory.batches == 1).await;
    let second = bench.hand_over(1, bench.events(1, 1..2)).await;
    bench.until(|stats| stats.in_memory.batches == 2).await;
    bench.deliver(&[1]);
    bench.until(|stats| stats.in_memory.batches == 1).await;
    assert_eq!(bench.intakes[1].committed(), Ticket(0));
    bench.deliver(&[0, 1]);
    bench.intakes[0].wait_committed(first).await.unwrap();
    bench.intakes[1].wait_committed(second).await.unwrap();
    bench.collector.close();
}

#[tokio::test]
async fn a_cursor_is_written_at_once_with_all_that_is_in_memory_before_it() {
    let mut bench = bench(NEVER);
    let first = bench.hand_over(0, bench.events(0, 0..2)).await;
    bench.until(|stats| stats.in_memory.events == 2).await;
    let cursor = Some(Checkpoint::Cursor([7].as_slice().into()));
    let rows = Delivery { checkpoint: cursor.clone(), ..bench.events(1, 2..4) };
    let second = bench.hand_over(1, rows).await;
    bench.intakes[1].wait_committed(second).await.unwrap();
    bench.intakes[0].wait_committed(first).await.unwrap();
    assert_eq!((bench.in_file(0), bench.in_file(1)), (vec![0, 1], vec![2, 3]));
    let (_copy, buffer) = bench.cut();
    assert_eq!(buffer.saved("b"), cursor);
    bench.collector.close();
}

#[tokio::test]
async fn a_dead_letter_is_written_with_what_is_in_memory_before_it() {
    let mut bench = bench(NEVER);
    let letter =
        || DeadLetter { reason: "no".into(), origin: "a".into(), payload: Vec::new(), length: 0 };
    bench.hand_over(0, bench.events(0, 0..2)).await;
    bench.until(|stats| stats.in_memory.events == 2).await;
    bench.store.bury(vec![letter()]).unwrap();
    assert_eq!(bench.in_file(0), [0, 1]);
    // One that a source hands over is never in memory only.
    let dead = Delivery { dead: vec![letter()], ..bench.events(1, 2..3) };
    let ticket = bench.hand_over(1, dead).await;
    bench.intakes[1].wait_committed(ticket).await.unwrap();
    assert_eq!(bench.in_file(1), [2]);
    bench.collector.close();
}

#[tokio::test]
async fn while_messages_are_in_memory_the_file_recognises_nothing() {
    let mut bench = bench(NEVER);
    let messages = |bench: &Bench, state: u8, numbers| Delivery {
        checkpoint: Some(session(&[9, state])),
        idle: Some(session(&[9])),
        ..bench.events(0, numbers)
    };
    let ticket = bench.hand_over(0, messages(&bench, 1, 0..2)).await;
    bench.until(|stats| stats.in_memory.events == 2).await;
    assert_eq!(bench.cut().1.saved("a"), Some(session(&[9])));
    bench.intakes[0].write();
    bench.intakes[0].wait_committed(ticket).await.unwrap();
    assert_eq!(bench.cut().1.saved("a"), Some(session(&[9, 1])));
    // In memory again, the old state would recognise what it must not.
    bench.deliver(&[0]);
    let ticket = bench.hand_over(0, messages(&bench, 2, 2..4)).await;
    bench.until(|stats| stats.in_memory.events == 2).await;
    assert_eq!(bench.cut().1.saved("a"), Some(session(&[9])));
    bench.deliver(&[0]);
    bench.intakes[0].wait_committed(ticket).await.unwrap();
    // Who stops leaves what the next start is to recognise.
    assert!(bench.store.settle().unwrap());
    assert_eq!(bench.cut().1.saved("a"), Some(session(&[9, 2])));
    bench.collector.close();
}

#[tokio::test]
async fn a_stop_writes_what_is_in_memory() {
    let mut bench = bench(NEVER);
    let ticket = bench.hand_over(0, bench.events(0, 0..2)).await;
    bench.until(|stats| stats.in_memory.events == 2).await;
    assert!(bench.store.settle().unwrap());
    assert_eq!(bench.in_file(0), [0, 1]);
    assert_eq!(bench.intakes[0].committed(), ticket);
    bench.collector.close();
}

#[tokio::test]
async fn more_than_the_bound_is_written() {
    let mut bench = bench(NEVER);
    let part = MOST_HELD / 5 * 2;
    for round in 0..3 {
        let mut large = bench.events(0, round..round + 1);
        large.events[0].fields[0].value = Value::Bytes(vec![0; part].into());
        bench.hand_over(0, large).await;
        if round < 2 {
            let expected = round.cast_unsigned() + 1;
            bench.until(|stats| stats.in_memory.batches == expected).await;
        }
    }
    let stats = bench.until(|stats| stats.batches == 3).await;
    assert_eq!(stats.in_memory.batches, 0);
    assert_eq!(bench.in_file(0), [0, 1, 2]);
    bench.collector.close();
}

#[tokio::test]
async fn a_position_is_remembered_once_and_what_it_says_with_the_next_commit() {
    let mut bench = bench(NEVER);
    bench.hand_over(0, bench.events(0, 0..1)).await;
    bench.until(|stats| stats.in_memory.batches == 1).await;
    bench.deliver(&[0]);
    bench.until(|stats| stats.in_memory.batches == 0).await;
    let known = bench.store.memory().position.unwrap();
    assert!(known.flows.contains_key(&bench.flows[0].hash), "this process knows it");
    let remembered = |buffer: &Buffer| buffer.store().memory().position.unwrap();
    assert!(remembered(&bench.cut().1).flows.is_empty(), "the flash rests");
    let ticket = bench.hand_over(0, bench.events(0, 1..2)).await;
    bench.intakes[0].write();
    bench.intakes[0].wait_committed(ticket).await.unwrap();
    assert_eq!(remembered(&bench.cut().1).flows, known.flows);
    bench.collector.close();
}

#[tokio::test]
async fn a_copy_of_the_file_names_no_number_as_its_own_that_was_in_memory() {
    let mut bench = bench(NEVER);
    bench.hand_over(0, bench.events(0, 0..1)).await;
    bench.until(|stats| stats.in_memory.batches == 1).await;
    bench.hand_over(1, bench.events(1, 1..2)).await;
    bench.until(|stats| stats.in_memory.batches == 2).await;
    let ended = |buffer: &Buffer| buffer.store().epochs()[0].last.unwrap();
    // Something else is written meanwhile.
    bench.store.adopt(&bench.position(), "kafka").unwrap();
    assert_eq!(ended(&bench.cut().1), 0);
    // The second is with Kafka, the first is not.
    bench.deliver(&[1]);
    bench.until(|stats| stats.in_memory.batches == 1).await;
    bench.store.adopt(&bench.position(), "kafka").unwrap();
    assert_eq!(ended(&bench.cut().1), 0);
    bench.store.write_held().unwrap();
    assert_eq!(ended(&bench.cut().1), 2);
    bench.collector.close();
}

#[tokio::test]
async fn a_checkpoint_without_events_is_answered_and_leaves_nothing_unsettled() {
    let mut bench = bench(NEVER);
    let state = Delivery {
        checkpoint: Some(session(&[9, 1])),
        idle: Some(session(&[9])),
        bytes: 1,
        ..Delivery::default()
    };
    let ticket = bench.hand_over(0, state).await;
    bench.intakes[0].wait_committed(ticket).await.unwrap();
    bench.until(|stats| !stats.unsettled).await;
    assert_eq!(bench.cut().1.saved("a"), Some(session(&[9])));
    bench.collector.close();
}

/// The writer without its thread, for what must happen between two of its turns; its
/// time stands. A position exists, and the file knows it.
struct Still {
    writer: writer::Writer,
    intakes: Vec<Intake>,
    ids: [Id; 2],
    flows: [Flow; 2],
    store: Store,
    time: Steady,
    folder: tempfile::TempDir,
}

const INTERVAL: u64 = 10;

fn still() -> Still {
    let folder = tempfile::tempdir().unwrap();
    let mut flows = Flows::default();
    let ids = ["a", "b"].map(|name| flows.id(name, Lane::Live));
    let of = ids.map(|id| flows.get(id).clone());
    let sources = ["a", "b"].map(|name| SourceInfo { name: name.into(), labels: Vec::new() });
    let buffer = open(&needed(folder.path(), Period::from_secs(INTERVAL)));
    let (store, time) = (buffer.store(), Steady::still());
    let (mut writer, intakes) = assemble(buffer, sources.into(), flows, time.clone());
    writer.begin();
    let (reply, adopted) = sync_channel(1);
    let position = store.next_position(None, "kafka");
    writer.ask(Call::Adopt { position, cluster: "kafka".into(), reply });
    writer.turn();
    adopted.try_recv().unwrap();
    Still { writer, intakes, ids, flows: of, store, time, folder }
}

impl Still {
    /// An event of a source's own flow, its group closed, and what the writer does then.
    async fn turn_with(&mut self, source: usize, number: i64) {
        let events = vec![event(self.ids[source], number)];
        let delivery = Delivery { events, bytes: 100, ..Delivery::default() };
        self.intakes[source].deliver(delivery).await.unwrap();
        self.intakes[source].flush();
        self.writer.turn();
    }

    fn in_memory(&self) -> u64 {
        self.store.stats().borrow().in_memory.events
    }

    /// Of each of the flow's batches the number and the events.
    fn batches(&self, source: usize) -> Vec<(u64, Vec<i64>)> {
        let (mut reader, hash) = (self.store.reader().unwrap(), self.flows[source].hash);
        let batches = self.store.batches(&mut reader, hash, BatchId(0), u32::MAX, usize::MAX);
        let seen = |batch: &Batch| (batch.number, times(std::slice::from_ref(batch)));
        batches.unwrap().iter().map(seen).collect()
    }

    /// Somebody else's hand on the file.
    fn side(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.folder.path().join("buffer.db")).unwrap()
    }
}

#[tokio::test]
async fn numbers_of_a_commit_that_failed_go_to_no_other_events() {
    let mut still = still();
    still.turn_with(1, 0).await;
    assert_eq!(still.in_memory(), 1);
    let side = still.side();
    side.execute_batch("ALTER TABLE batch RENAME TO hidden").unwrap();
    // What is in memory is due, and takes along what came.
    still.time.pass(std::time::Duration::from_secs(INTERVAL));
    still.turn_with(1, 1).await;
    assert!(still.store.stats().borrow().failing.is_some());
    // The first flow's batches get the first numbers.
    still.turn_with(0, 2).await;
    assert_eq!(still.in_memory(), 1, "nothing is shown to the forwarder");
    side.execute_batch("ALTER TABLE hidden RENAME TO batch").unwrap();
    still.time.pass(writer::AGAIN);
    still.writer.turn();
    assert_eq!((still.in_memory(), still.batches(1)), (0, vec![(1, vec![0]), (2, vec![1])]));
    // The flash rests again.
    still.writer.turn();
    assert_eq!((still.in_memory(), still.batches(0)), (1, vec![(3, vec![2])]));
}

#[tokio::test]
async fn numbers_of_what_an_operator_failed_to_put_in_are_written_before_any_is_held() {
    let mut still = still();
    let side = still.side();
    side.execute_batch("ALTER TABLE dead_event RENAME TO hidden").unwrap();
    let (reply, done) = sync_channel(1);
    still.writer.ask(Call::Errand { errand: Errand::Requeue(vec![1]), reply });
    still.writer.turn();
    done.try_recv().unwrap().unwrap_err();
    side.execute_batch("ALTER TABLE hidden RENAME TO dead_event").unwrap();
    still.turn_with(0, 0).await;
    assert_eq!((still.in_memory(), still.batches(0)), (0, vec![(1, vec![0])]));
    still.turn_with(1, 1).await;
    assert_eq!((still.in_memory(), still.batches(1)), (1, vec![(2, vec![1])]));
}
