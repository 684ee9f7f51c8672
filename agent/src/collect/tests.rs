//! The promises of the writer, on real files.

mod trouble;

use std::path::Path;

use super::*;
use crate::buffer::{Batch, BatchId};
use crate::event::{Field, Quality, Timestamp, Value};
use crate::flow::Lane;
use crate::units::{ByteSize, Period, Room as Free};

/// Nothing is committed for the time alone.
pub(super) const NEVER: Period = Period::from_secs(3_600);

struct Fixture {
    collector: Collector,
    intakes: Vec<Intake>,
    flow: crate::flow::Flow,
    id: crate::flow::Id,
}

pub(super) fn config(folder: &Path) -> buffer::Config {
    buffer::Config {
        path: folder.join("buffer.db"),
        commit_interval: NEVER,
        max_size: ByteSize::mib(64),
        min_free_disk: Free::Size(ByteSize(0)),
        ..buffer::Config::default()
    }
}

pub(super) fn open(config: &buffer::Config) -> Buffer {
    Buffer::open(config, "gw1", Clock::fixed(Timestamp(7))).unwrap()
}

fn begin(config: &buffer::Config, lane: Lane) -> Fixture {
    let mut flows = Flows::default();
    let id = flows.id("plant", lane);
    let flow = flows.get(id).clone();
    let source = |name: &str| SourceInfo {
        name: name.into(),
        labels: vec![("site".into(), "north".into())],
    };
    let (collector, intakes) = start(open(config), vec![source("a"), source("b")], flows).unwrap();
    Fixture { collector, intakes, flow, id }
}

pub(super) fn event(flow: crate::flow::Id, value: i64) -> Event {
    Event {
        flow,
        device: "boiler".into(),
        time: Timestamp(value),
        read_at: None,
        quality: Quality::Good,
        fields: vec![Field {
            name: "n".into(),
            unit: None,
            value: Value::I64(value),
            quality: None,
        }],
    }
}

fn delivery(flow: crate::flow::Id, values: std::ops::Range<i64>) -> Delivery {
    Delivery { events: values.map(|n| event(flow, n)).collect(), bytes: 100, ..Delivery::default() }
}

/// An urgent delivery of events that take 8 KiB of the file each.
pub(super) fn noisy(flow: crate::flow::Id, first: i64, count: i64) -> Delivery {
    let noise = |number: i64| {
        let mut state = 0x9e37_79b9_u64.wrapping_mul(number.cast_unsigned() + 1);
        let bytes: Vec<u8> = (0..8_192)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_be_bytes()[0]
            })
            .collect();
        let mut event = event(flow, number);
        event.fields[0].value = Value::Bytes(bytes.into());
        event
    };
    let events = (first..first + count).map(noise).collect();
    Delivery { events, bytes: 100, urgent: true, ..Delivery::default() }
}

pub(super) fn all(store: &Store, flow: &crate::flow::Flow) -> Vec<Batch> {
    store.reader().unwrap().batches(flow.hash, BatchId(0), u32::MAX, usize::MAX).unwrap()
}

/// Times of the stored events, which are the numbers that they were made with.
pub(super) fn stored(store: &Store, flow: &crate::flow::Flow) -> Vec<i64> {
    times(&all(store, flow))
}

/// Times of the events in these batches.
pub(super) fn times(batches: &[Batch]) -> Vec<i64> {
    let mut times = Vec::new();
    for batch in batches {
        batch
            .events(|event| {
                times.push(event.time.0);
                Ok(())
            })
            .unwrap();
    }
    times
}

#[tokio::test]
async fn what_is_committed_is_read_and_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let Fixture { collector, mut intakes, flow, id } = begin(&config(folder.path()), Lane::Live);
    let store = collector.store();
    let ticket = intakes[0].deliver(delivery(id, 0..3)).await.unwrap();
    assert_eq!(intakes[0].committed(), Ticket(0));
    intakes[0].flush();
    intakes[0].wait_committed(ticket).await.unwrap();
    assert_eq!(stored(&store, &flow), [0, 1, 2]);
    let batch = all(&store, &flow).remove(0);
    assert_eq!((batch.number, batch.first_seq, batch.count, &*batch.gateway), (1, 1, 3, "gw1"));

    let mut position = store.next_position(None, "kafka");
    position.advance(flow.hash, batch.epoch, batch.number);
    let adopted = store.adopt(&position, "kafka").unwrap();
    assert_eq!((adopted.deleted_batches, adopted.deleted_events), (1, 3));
    assert_eq!(stored(&store, &flow), Vec::<i64>::new());
    assert_eq!(store.stats().borrow().events, 0);
    collector.close();
}

/// Opens a copy of what stands on the disk at this moment: what a power cut
/// would have left.
fn killed(folder: &Path) -> (tempfile::TempDir, Buffer) {
    let copy = tempfile::tempdir().unwrap();
    for name in ["buffer.db", "buffer.db-wal"] {
        std::fs::copy(folder.join(name), copy.path().join(name)).unwrap();
    }
    let buffer = open(&config(copy.path()));
    (copy, buffer)
}

pub(super) fn pending<F: Future>(future: std::pin::Pin<&mut F>) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    future.poll(&mut context).is_pending()
}

#[tokio::test]
async fn an_acknowledged_delivery_and_its_checkpoint_outlive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let Fixture { collector, mut intakes, flow, id } = begin(&config(folder.path()), Lane::Live);
    for round in 0..5_u8 {
        let mut next = delivery(id, i64::from(round) * 2..i64::from(round) * 2 + 2);
        next.checkpoint = Some(Checkpoint::Cursor([round].as_slice().into()));
        next.urgent = true;
        let ticket = intakes[0].deliver(next).await.unwrap();
        intakes[0].wait_committed(ticket).await.unwrap();

        let (_copy, buffer) = killed(folder.path());
        assert_eq!(buffer.saved("a"), Some(Checkpoint::Cursor([round].as_slice().into())));
        assert_eq!(buffer.saved("b"), None);
        let times: Vec<i64> = (0..i64::from(round) * 2 + 2).collect();
        assert_eq!(stored(&buffer.store(), &flow), times);
    }
    collector.close();
}

#[tokio::test]
async fn nothing_is_acknowledged_before_its_commit() {
    let folder = tempfile::tempdir().unwrap();
    let Fixture { collector, mut intakes, flow, id } = begin(&config(folder.path()), Lane::Live);
    let mut next = delivery(id, 0..2);
    next.checkpoint = Some(Checkpoint::Session([1].as_slice().into()));
    intakes[0].deliver(next).await.unwrap();
    // A call of the forwarder has been answered since: it does not wait for
    // what is gathered, or it commits that too.
    collector.store().adopt(&collector.store().next_position(None, "kafka"), "kafka").unwrap();
    let (_copy, buffer) = killed(folder.path());
    let there = stored(&buffer.store(), &flow).len() == 2;
    assert_eq!(there, intakes[0].committed() == Ticket(1));
    assert_eq!(there, buffer.saved("a").is_some());
    collector.close();
}

#[tokio::test]
async fn an_alarm_commits_all_that_was_collected_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut flows = Flows::default();
    let (live, alarm) = (flows.id("plant", Lane::Live), flows.id("plant", Lane::Alarm));
    let flow = flows.get(live).clone();
    let source = |name: &str| SourceInfo { name: name.into(), labels: Vec::new() };
    let sources = vec![source("a"), source("b")];
    let (collector, mut intakes) = start(open(&config(folder.path())), sources, flows).unwrap();
    let before = intakes[0].deliver(delivery(live, 0..2)).await.unwrap();
    let loud = intakes[1].deliver(delivery(alarm, 2..3)).await.unwrap();
    intakes[1].wait_committed(loud).await.unwrap();
    intakes[0].wait_committed(before).await.unwrap();
    assert_eq!(stored(&collector.store(), &flow), [0, 1]);
    collector.close();
}

#[tokio::test]
async fn a_thousand_events_are_a_commit() {
    let folder = tempfile::tempdir().unwrap();
    let Fixture { collector, mut intakes, flow, id } = begin(&config(folder.path()), Lane::Live);
    let first = intakes[0].deliver(delivery(id, 0..600)).await.unwrap();
    let second = intakes[0].deliver(delivery(id, 600..1_000)).await.unwrap();
    intakes[0].wait_committed(second).await.unwrap();
    assert!(intakes[0].committed() > first);
    assert_eq!(all(&collector.store(), &flow).len(), 1);
    collector.close();
}

#[tokio::test]
async fn a_long_delivery_becomes_several_batches_in_one_commit() {
    let folder = tempfile::tempdir().unwrap();
    let Fixture { collector, mut intakes, flow, id } = begin(&config(folder.path()), Lane::Live);
    let ticket = intakes[0].deliver(delivery(id, 0..5_000)).await.unwrap();
    intakes[0].wait_committed(ticket).await.unwrap();
    let rows: Vec<_> = all(&collector.store(), &flow)
        .iter()
        .map(|batch| (batch.number, batch.first_seq, batch.count))
        .collect();
    assert_eq!(rows, [(1, 1, 1_400), (2, 1_401, 1_400), (3, 2_801, 1_400), (4, 4_201, 800)]);
    collector.close();
}

#[tokio::test]
async fn labels_of_the_source_stand_with_its_events() {
    let folder = tempfile::tempdir().unwrap();
    let Fixture { collector, mut intakes, flow, id } = begin(&config(folder.path()), Lane::Live);
    intakes[0].deliver(delivery(id, 0..1)).await.unwrap();
    assert!(collector.settle());
    all(&collector.store(), &flow)[0]
        .events(|event| {
            assert_eq!(event.labels, [("site", "north")]);
            Ok(())
        })
        .unwrap();
    let flows = collector.store().reader().unwrap().flows().unwrap();
    assert_eq!(flows, [(flow.hash, flow.lane, flow.stream)]);
    collector.close();
}

#[tokio::test]
async fn an_id_never_comes_again_after_the_file_was_emptied() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let Fixture { collector, mut intakes, flow, id } =
            begin(&config(folder.path()), Lane::Live);
        let store = collector.store();
        intakes[0].deliver(delivery(id, 0..2)).await.unwrap();
        assert!(collector.settle());
        let batch = all(&store, &flow).remove(0);
        assert!(seen.iter().all(|(known, epoch)| *known < batch.id && *epoch != batch.epoch));
        seen.push((batch.id, batch.epoch));
        let mut position = store.next_position(store.memory().position.as_ref(), "kafka");
        position.advance(flow.hash, batch.epoch, batch.number);
        store.forget(position, "kafka").unwrap();
        // The end commits what is still to be deleted.
        collector.close();
        assert_eq!(stored(&open(&config(folder.path())).store(), &flow), Vec::<i64>::new());
    }
}

#[tokio::test]
async fn what_waits_for_the_writer_is_bounded_and_a_dropped_delivery_is_none() {
    let folder = tempfile::tempdir().unwrap();
    // Full from the first: the writer commits nothing.
    let config = buffer::Config { max_size: ByteSize(1), ..config(folder.path()) };
    let Fixture { collector, mut intakes, id, .. } = begin(&config, Lane::Live);
    for n in 0..QUEUE_DELIVERIES {
        let n = i64::try_from(n).unwrap();
        intakes[0].deliver(delivery(id, n..n + 1)).await.unwrap();
    }
    assert!(pending(std::pin::pin!(intakes[0].deliver(delivery(id, 0..1)))));
    // The other's room is its own.
    intakes[1].deliver(delivery(id, 0..1)).await.unwrap();
    assert_eq!(intakes[0].last.0, QUEUE_DELIVERIES as u64);
    assert_eq!(intakes[0].committed(), Ticket(0));
    assert!(!collector.settle());
    intakes[0].deliver(delivery(id, 0..1)).await.unwrap_err();
    collector.close();
}

#[tokio::test]
async fn a_full_file_holds_the_sources_back_until_deletes_made_room() {
    let folder = tempfile::tempdir().unwrap();
    let config = buffer::Config { max_size: ByteSize(256 * 1024), ..config(folder.path()) };
    let Fixture { collector, mut intakes, flow, id } = begin(&config, Lane::Live);
    let store = collector.store();
    let mut stats = store.stats();
    let mut sent = 0;
    while !stats.borrow().held_back {
        let next = noisy(id, sent, 1);
        let ticket = intakes[0].deliver(next).await.unwrap();
        intakes[0].wait_committed(ticket).await.unwrap();
        sent += 1;
    }
    let mut held = delivery(id, sent..sent + 1);
    held.urgent = true;
    let ticket = intakes[0].deliver(held).await.unwrap();
    assert!(pending(std::pin::pin!(intakes[0].wait_committed(ticket))));

    let last = all(&store, &flow).pop().unwrap();
    assert_eq!(stored(&store, &flow), (0..sent).collect::<Vec<_>>());
    let mut position = store.next_position(None, "kafka");
    position.advance(flow.hash, last.epoch, last.number);
    store.adopt(&position, "kafka").unwrap();
    intakes[0].wait_committed(ticket).await.unwrap();
    stats.wait_for(|stats| !stats.held_back).await.unwrap();
    assert_eq!(stored(&store, &flow), [sent]);
    collector.close();
}

#[tokio::test]
async fn a_commit_that_fails_is_kept_and_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let Fixture { collector, mut intakes, flow, id } = begin(&config(folder.path()), Lane::Live);
    let mut stats = collector.store().stats();
    let other = rusqlite::Connection::open(folder.path().join("buffer.db")).unwrap();
    other.execute_batch("ALTER TABLE batch RENAME TO hidden").unwrap();
    let mut next = delivery(id, 0..2);
    next.urgent = true;
    let ticket = intakes[0].deliver(next).await.unwrap();
    stats.wait_for(|stats| stats.failing.is_some()).await.unwrap();
    assert_eq!(intakes[0].committed(), Ticket(0));
    other.execute_batch("ALTER TABLE hidden RENAME TO batch").unwrap();
    intakes[0].wait_committed(ticket).await.unwrap();
    assert_eq!(stored(&collector.store(), &flow), [0, 1]);
    assert_eq!(all(&collector.store(), &flow)[0].first_seq, 1);
    collector.close();
}

#[tokio::test]
async fn dead_letters_are_on_disk_when_the_call_returns() {
    let folder = tempfile::tempdir().unwrap();
    let Fixture { collector, .. } = begin(&config(folder.path()), Lane::Live);
    let dead = DeadLetter {
        reason: "too large".to_owned(),
        origin: "topic".to_owned(),
        payload: vec![1, 2],
        length: 9,
    };
    collector.store().bury(vec![dead.clone(), dead]).unwrap();
    let (copy, _buffer) = killed(folder.path());
    let other = rusqlite::Connection::open(copy.path().join("buffer.db")).unwrap();
    let count: i64 = other
        .query_row("SELECT count(*) FROM dead_letter WHERE length = 9 AND at = 7", [], |r| r.get(0))
        .unwrap();
    assert_eq!(count, 2);
    assert_eq!(collector.store().stats().borrow().dead_letters, 2);
    collector.close();
}

#[tokio::test]
async fn the_end_commits_what_was_handed_in_and_takes_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let Fixture { collector, mut intakes, flow, id } = begin(&config(folder.path()), Lane::Live);
    let store = collector.store();
    let ticket = intakes[0].deliver(delivery(id, 0..2)).await.unwrap();
    collector.close();
    intakes[0].wait_committed(ticket).await.unwrap();
    intakes[0].deliver(delivery(id, 2..3)).await.unwrap_err();
    store.adopt(&store.next_position(None, "kafka"), "kafka").unwrap_err();
    assert_eq!(stored(&store, &flow), [0, 1]);
}

#[test]
fn a_second_agent_is_told_who_has_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let _first = open(&config);
    let error = Buffer::open(&config, "gw1", Clock::system()).unwrap_err();
    let path = config.path.display();
    let pid = std::process::id();
    assert_eq!(error.to_string(), format!("{path} is in use by another agent (pid {pid})"));
}

#[test]
fn a_file_of_another_program_or_a_newer_layout_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    drop(open(&config));
    let other = rusqlite::Connection::open(&config.path).unwrap();
    other.pragma_update(None, "user_version", 99).unwrap();
    let newer = Buffer::open(&config, "gw1", Clock::system()).unwrap_err();
    assert!(matches!(newer, buffer::OpenError::Newer { found: 99, .. }), "{newer}");

    config.path = folder.path().join("other.db");
    let other = rusqlite::Connection::open(&config.path).unwrap();
    other.execute_batch("CREATE TABLE t (x)").unwrap();
    let foreign = Buffer::open(&config, "gw1", Clock::system()).unwrap_err();
    assert!(matches!(foreign, buffer::OpenError::Foreign(_)), "{foreign}");
}

#[tokio::test]
async fn a_batch_keeps_the_gateway_that_it_was_written_under() {
    let folder = tempfile::tempdir().unwrap();
    let Fixture { collector, mut intakes, flow, id } = begin(&config(folder.path()), Lane::Live);
    intakes[0].deliver(delivery(id, 0..2)).await.unwrap();
    collector.close();
    let renamed = Buffer::open(&config(folder.path()), "gw2", Clock::system()).unwrap();
    assert_eq!(&*all(&renamed.store(), &flow)[0].gateway, "gw1");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_call_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let Fixture { collector, .. } = begin(&config(folder.path()), Lane::Live);
    let store = collector.store();
    let mut stats = store.stats();
    let other = rusqlite::Connection::open(folder.path().join("buffer.db")).unwrap();
    other.execute_batch("ALTER TABLE dead_letter RENAME TO hidden").unwrap();
    let caller = std::thread::spawn(move || store.bury(vec![letter(1)]));
    stats.wait_for(|stats| stats.failing.is_some()).await.unwrap();
    // Nothing was handed in, so that nothing is missing.
    assert!(collector.settle());
    caller.join().unwrap().unwrap_err();
    collector.close();
}

fn letter(length: usize) -> DeadLetter {
    DeadLetter {
        reason: "too large".to_owned(),
        origin: "topic".to_owned(),
        payload: vec![1; length],
        length: length as u64,
    }
}

fn text_event(flow: crate::flow::Id, time: i64, length: usize) -> Event {
    let mut event = event(flow, time);
    event.fields[0].value = Value::Text("x".repeat(length).into());
    event
}

#[tokio::test]
async fn a_large_event_stands_in_a_batch_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let Fixture { collector, mut intakes, flow, id } = begin(&config(folder.path()), Lane::Live);
    let mut next = delivery(id, 0..10);
    next.events.push(text_event(id, 10, 1024 * 1024));
    next.events.extend((11..15).map(|n| event(id, n)));
    // Three of these are more than a batch.
    next.events.extend((15..18).map(|n| text_event(id, n, 50_000)));
    intakes[0].deliver(next).await.unwrap();
    assert!(collector.settle());
    let counts: Vec<_> = all(&collector.store(), &flow).iter().map(|batch| batch.count).collect();
    assert_eq!(counts, [10, 1, 6, 1]);
    assert_eq!(stored(&collector.store(), &flow), (0..18).collect::<Vec<_>>());
    collector.close();
}

#[tokio::test]
async fn an_event_beyond_all_bounds_becomes_a_dead_letter_and_its_neighbours_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let Fixture { collector, mut intakes, flow, id } = begin(&config(folder.path()), Lane::Live);
    let mut next = delivery(id, 0..2);
    next.events.push(text_event(id, 2, 65 * 1024 * 1024));
    next.events.push(event(id, 3));
    let ticket = intakes[0].deliver(next).await.unwrap();
    assert!(collector.settle());
    assert_eq!(intakes[0].committed(), ticket);
    assert_eq!(stored(&collector.store(), &flow), [0, 1, 3]);
    let other = rusqlite::Connection::open(folder.path().join("buffer.db")).unwrap();
    let (origin, payload, length): (String, i64, i64) = other
        .query_row("SELECT origin, length(payload), length FROM dead_letter", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    assert_eq!((&*origin, payload), ("a/boiler for plant", 64 * 1024));
    assert!(length > 65 * 1024 * 1024);
    collector.close();
}

#[tokio::test]
async fn a_batch_that_cannot_be_decompressed_is_damaged_and_shows_its_stored_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let Fixture { collector, mut intakes, flow, id } = begin(&config(folder.path()), Lane::Live);
    intakes[0].deliver(delivery(id, 0..2)).await.unwrap();
    assert!(collector.settle());
    let other = rusqlite::Connection::open(folder.path().join("buffer.db")).unwrap();
    other.execute_batch("UPDATE batch SET data = x'28b52ffd0102'").unwrap();
    let batch = all(&collector.store(), &flow).remove(0);
    assert_eq!(batch.events, [0x28, 0xb5, 0x2f, 0xfd, 1, 2]);
    batch.events(|_| Ok(())).unwrap_err();
    collector.close();
}

#[tokio::test]
async fn dead_letters_alone_never_fill_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    let Fixture { collector, .. } = begin(&config, Lane::Live);
    // 1.25 MiB.
    collector.store().bury(vec![letter(DEAD_LETTER_BYTES); 20]).unwrap();
    assert_eq!(collector.store().stats().borrow().dead_letters, 20);
    collector.close();
    // Nobody buries anything any more, and nothing is sent.
    config.max_size = ByteSize::mib(1);
    let Fixture { collector, mut intakes, flow, id } = begin(&config, Lane::Live);
    let stats = collector.store().stats();
    intakes[0].deliver(delivery(id, 0..2)).await.unwrap();
    assert!(collector.settle());
    assert_eq!(stored(&collector.store(), &flow), [0, 1]);
    assert_eq!((stats.borrow().dead_letters, stats.borrow().dead_dropped), (1, 19));
    collector.store().bury(vec![letter(DEAD_LETTER_BYTES); 2]).unwrap();
    assert_eq!((stats.borrow().dead_letters, stats.borrow().dead_dropped), (1, 21));
    collector.close();
}

#[tokio::test]
async fn a_writer_that_panics_is_noticed_while_others_hold_on_to_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let Fixture { mut collector, mut intakes, .. } = begin(&config(folder.path()), Lane::Live);
    let store = collector.store();
    assert!(pending(std::pin::pin!(collector.ended())));
    // There is no such flow.
    intakes[0].deliver(delivery(crate::flow::Id(9), 0..1)).await.unwrap();
    collector.ended().await;
    store.bury(Vec::new()).unwrap_err();
}
