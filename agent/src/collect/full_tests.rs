//! What the rules of a full file promise, on real files.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::tests::{all, config, noisy, open, pending, stored, times};
use super::*;
use crate::buffer::{BatchId, Dropped, Errand, Foreign, Reason, Skip};
use crate::event::Timestamp;
use crate::flow::{Flow, Id, Lane, Rules, Stream, WhenFull};
use crate::pulse;
use crate::units::{ByteSize, Percent, Period, Room as Free};

pub(super) struct Fixture {
    pub(super) collector: Collector,
    pub(super) intakes: Vec<Intake>,
    pub(super) store: Store,
    pub(super) flows: Flows,
}

pub(super) fn rules(name: &str, when_full: Option<WhenFull>, share: u8) -> Rules {
    let stream = Stream { name: name.into(), topic: name.into(), create: None };
    Rules { when_full, share: Percent::new(share), ..stream.into() }
}

/// A file of half a MiB, and two sources.
pub(super) fn begin(folder: &std::path::Path, flows: &Flows) -> Fixture {
    let config = buffer::Config {
        max_size: ByteSize(512 * 1024),
        min_free_disk: Free::Size(ByteSize(0)),
        ..config(folder)
    };
    let source = |name: &str| SourceInfo { name: name.into(), labels: Vec::new() };
    let sources = vec![source("a"), source("b")];
    let (collector, intakes) = start(open(&config), sources, flows.clone()).unwrap();
    let store = collector.store();
    Fixture { collector, intakes, store, flows: flows.clone() }
}

impl Fixture {
    async fn commit(&mut self, source: usize, delivery: Delivery) {
        let ticket = self.intakes[source].deliver(delivery).await.unwrap();
        self.intakes[source].wait_committed(ticket).await.unwrap();
    }

    /// Commits numbered events of this flow, one by one.
    pub(super) async fn fill(&mut self, source: usize, flow: Id, numbers: std::ops::Range<i64>) {
        for number in numbers {
            self.commit(source, noisy(flow, number, 1)).await;
        }
    }

    fn flow(&self, id: Id) -> &Flow {
        self.flows.get(id)
    }

    pub(super) fn stored(&self, id: Id) -> Vec<i64> {
        stored(&self.store, self.flow(id))
    }

    fn dropped(&self) -> Vec<Dropped> {
        self.store.stats().borrow().dropped.clone()
    }

    /// What was dropped, as stream, reason and number of events.
    fn counts(&self) -> Vec<(String, Reason, u64)> {
        self.dropped().into_iter().map(|one| (one.stream, one.reason, one.events)).collect()
    }

    /// Kafka has the flow's first batches; gives these. More may be stored meanwhile.
    fn send(&self, id: Id, batches: usize) -> Vec<buffer::Batch> {
        let flow = self.flow(id);
        let mut sent = all(&self.store, flow);
        sent.truncate(batches);
        let Some(last) = sent.last() else { return sent };
        let memory = self.store.memory();
        let mut position = self.store.next_position(memory.position.as_ref(), "kafka");
        position.advance(flow.hash, last.written, last.number);
        self.store.adopt(&position, "kafka").unwrap();
        sent
    }
}

#[tokio::test]
async fn a_stream_that_blocks_stops_its_own_source_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut flows = Flows::new([rules("small", None, 10), rules("large", None, 100)]);
    let (small, large) = (flows.id("small", None), flows.id("large", None));
    let mut fixture = begin(folder.path(), &flows);
    // 51 KiB are seven events.
    fixture.fill(0, small, 0..7).await;
    let held = fixture.intakes[0].deliver(noisy(small, 7, 1)).await.unwrap();
    // Also what would have room waits behind it.
    let behind = fixture.intakes[0].deliver(noisy(large, 100, 1)).await.unwrap();
    let mut stats = fixture.store.stats();
    stats.wait_for(|stats| stats.held_back).await.unwrap();
    fixture.fill(1, large, 0..20).await;
    assert!(pending(std::pin::pin!(fixture.intakes[0].wait_committed(held))));
    assert_eq!(fixture.stored(small), (0..7).collect::<Vec<_>>());
    assert_eq!(fixture.stored(large), (0..20).collect::<Vec<_>>());

    fixture.send(small, 4);
    fixture.intakes[0].wait_committed(behind).await.unwrap();
    assert_eq!(fixture.stored(small), [4, 5, 6, 7]);
    assert_eq!(fixture.stored(large).last(), Some(&100));
    stats.wait_for(|stats| !stats.held_back).await.unwrap();
    assert_eq!(fixture.dropped(), []);
    fixture.collector.close();
}

#[tokio::test]
async fn what_is_polled_drops_the_oldest_of_bulk_then_of_live_and_no_alarm() {
    let folder = tempfile::tempdir().unwrap();
    let mut flows = Flows::default();
    let alarm = flows.polled("plant", Lane::Alarm);
    let live = flows.polled("plant", Lane::Live);
    let bulk = flows.polled("history", Lane::Bulk);
    let mut fixture = begin(folder.path(), &flows);
    fixture.fill(0, alarm, 0..3).await;
    fixture.fill(0, live, 0..10).await;
    fixture.fill(0, bulk, 0..20).await;
    fixture.fill(0, live, 10..60).await;
    assert_eq!(fixture.stored(bulk), Vec::<i64>::new(), "bulk is gone before live is touched");
    let kept = fixture.stored(live);
    assert_eq!(kept, (*kept.first().unwrap()..60).collect::<Vec<_>>(), "the newest stay");
    assert!(kept.len() < 60);
    assert_eq!(fixture.stored(alarm), [0, 1, 2]);
    let gone = 60 - kept.len() as u64;
    let expected =
        [("history".to_owned(), Reason::Size, 20), ("plant".to_owned(), Reason::Size, gone)];
    assert_eq!(fixture.counts(), expected);
    assert!(fixture.store.stats().borrow().bytes < 512 * 1024);

    // With nothing else left, alarms wait.
    let mut number = 3;
    let stats = fixture.store.stats();
    while !stats.borrow().held_back {
        fixture.fill(0, alarm, number..number + 1).await;
        number += 1;
    }
    assert_eq!(fixture.stored(alarm), (0..number).collect::<Vec<_>>());
    assert_eq!(fixture.stored(live), Vec::<i64>::new());
    fixture.collector.close();
}

#[tokio::test]
async fn a_stream_above_its_share_touches_only_its_own_batches() {
    let folder = tempfile::tempdir().unwrap();
    let mut flows = Flows::new([rules("small", None, 10), rules("large", None, 100)]);
    let (small, large) = (flows.polled("small", None), flows.polled("large", None));
    let mut fixture = begin(folder.path(), &flows);
    fixture.fill(1, large, 0..10).await;
    fixture.fill(0, small, 0..40).await;
    assert_eq!(fixture.stored(large), (0..10).collect::<Vec<_>>());
    let kept = fixture.stored(small);
    assert!((4..=7).contains(&kept.len()), "{kept:?}");
    let gone = 40 - kept.len() as u64;
    assert_eq!(fixture.counts(), [("small".to_owned(), Reason::Share, gone)]);
    fixture.collector.close();
}

#[tokio::test]
async fn what_comes_to_a_full_stream_that_keeps_the_old_is_counted_and_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let newest = Some(WhenFull::DropNewest);
    let mut flows = Flows::new([rules("small", newest, 10), rules("large", None, 100)]);
    let (small, large) = (flows.id("small", None), flows.id("large", None));
    let mut fixture = begin(folder.path(), &flows);
    fixture.fill(0, small, 0..20).await;
    let mut mixed = noisy(small, 20, 2);
    mixed.events.extend(noisy(large, 0, 1).events);
    mixed.checkpoint = Some(Checkpoint::Cursor([9].as_slice().into()));
    fixture.commit(0, mixed).await;
    assert_eq!(fixture.stored(small), (0..7).collect::<Vec<_>>());
    assert_eq!(fixture.stored(large), [0], "the rest of the delivery is stored");
    assert_eq!(fixture.counts(), [("small".to_owned(), Reason::Newest, 15)]);
    // What is dropped gets no seq: those of what is stored have no gap.
    let last = all(&fixture.store, fixture.flow(large)).remove(0);
    assert_eq!(last.first_seq, 8);
    let gaps = fixture.store.gaps(0).unwrap();
    assert_eq!(gaps.len(), 1);
    assert_eq!((gaps[0].what.events, &gaps[0].ids), (15, &None));
    fixture.collector.close();
    let again = open(&config(folder.path()));
    assert_eq!(again.saved("a"), Some(Checkpoint::Cursor([9].as_slice().into())));
}

#[tokio::test]
async fn what_was_loaded_for_a_transaction_is_not_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let mut flows = Flows::default();
    let live = flows.polled("plant", None);
    let mut fixture = begin(folder.path(), &flows);
    fixture.fill(0, live, 0..10).await;
    let hash = fixture.flow(live).hash;
    let mut reader = fixture.store.reader().unwrap();
    let loaded = fixture.store.load(&mut reader, hash, BatchId(0), 5, usize::MAX).unwrap();
    assert_eq!(loaded.len(), 5);
    fixture.fill(0, live, 10..80).await;
    let kept = fixture.stored(live);
    assert_eq!(kept[..5], [0, 1, 2, 3, 4]);
    assert!(kept[5] > 10, "what is behind it goes");
    let gaps = fixture.store.gaps(0).unwrap();
    assert!(gaps.iter().all(|gap| !gap.perhaps_sent), "nothing behind it was ever sent");
    fixture.collector.close();
}

#[tokio::test]
async fn drops_and_gaps_outlive_a_restart_and_name_epoch_and_seqs() {
    let folder = tempfile::tempdir().unwrap();
    let mut flows = Flows::default();
    let live = flows.polled("plant", None);
    let mut fixture = begin(folder.path(), &flows);
    let mut rounds = Vec::new();
    for _ in 0..2 {
        fixture.fill(0, live, 0..80).await;
        let epoch = fixture.store.epochs().last().unwrap().epoch;
        rounds.push((epoch, all(&fixture.store, fixture.flow(live)).remove(0)));
        let before = fixture.dropped();
        fixture.collector.close();
        fixture = begin(folder.path(), &flows);
        assert_eq!(fixture.dropped(), before);
    }
    let gaps = fixture.store.gaps(0).unwrap();
    // Two of the first epoch: the second process does not touch what the first noted.
    let of = |epoch| {
        let ids = gaps.iter().filter_map(|gap| gap.ids.as_ref());
        ids.filter(|ids| ids.epoch == epoch).map(|ids| (ids.first, ids.last)).collect::<Vec<_>>()
    };
    let [(first, _), (second, kept)] = rounds.as_slice() else { unreachable!() };
    let of_first = of(*first);
    let [(1, end), (begin, 80)] = of_first.as_slice() else { panic!("{gaps:?}") };
    assert_eq!(*begin, end + 1);
    assert_eq!(of(*second), [(1, kept.first_seq - 1)]);
    let told: u64 = gaps.iter().map(|gap| gap.what.events).sum();
    assert_eq!(fixture.counts(), [("plant".to_owned(), Reason::Size, told)]);
    // The second process did not know yet how far the first had sent.
    let perhaps: Vec<bool> = gaps.iter().map(|gap| gap.perhaps_sent).collect();
    assert_eq!(perhaps, [false, true, false]);
    assert_eq!(fixture.store.gaps(gaps[1].id).unwrap(), gaps[2..]);
    fixture.collector.close();
}

#[tokio::test]
async fn a_file_gives_its_room_back_once_its_backlog_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mut flows = Flows::default();
    let live = flows.id("plant", None);
    let source = SourceInfo { name: "a".into(), labels: Vec::new() };
    let config = config(folder.path());
    let (collector, mut intakes) = start(open(&config), vec![source], flows.clone()).unwrap();
    let store = collector.store();
    for round in 0..20 {
        let ticket = intakes[0].deliver(noisy(live, round * 64, 64)).await.unwrap();
        intakes[0].wait_committed(ticket).await.unwrap();
    }
    let mut stats = store.stats();
    let full = stats.borrow().length;
    assert!(full > 10 << 20);
    let flow = flows.get(live);
    let last = all(&store, flow).pop().unwrap();
    let mut position = store.next_position(None, "kafka");
    position.advance(flow.hash, last.epoch, last.number);
    store.adopt(&position, "kafka").unwrap();
    stats.wait_for(|stats| stats.length <= 5 << 20).await.unwrap();
    collector.close();
    // Closing writes the WAL into the file.
    let length = std::fs::metadata(&config.path).unwrap().len();
    assert!((4 << 20..=5 << 20).contains(&length), "{length} of {full}: a spare part stays");
}

/// The writer on what a fixture has left, without its thread; its time stands.
fn assembled(buffer: Buffer, flows: &Flows) -> (writer::Writer, Vec<Intake>, Steady) {
    let source = SourceInfo { name: "a".into(), labels: Vec::new() };
    let time = Steady::still();
    let (mut writer, intakes) = assemble(buffer, vec![source], flows.clone(), time.clone());
    writer.begin();
    (writer, intakes, time)
}

#[tokio::test]
async fn a_size_that_was_lowered_is_reached_in_steps_and_not_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let mut flows = Flows::default();
    let live = flows.polled("plant", None);
    let mut fixture = begin(folder.path(), &flows);
    fixture.fill(0, live, 0..40).await;
    fixture.collector.close();
    let buffer = open(&config(folder.path()));
    let store = buffer.store();
    let (mut writer, ..) = assembled(buffer, &flows);
    let pulse = Pulse::new("buffer");
    pulse.is_of_this_thread();
    pulse.hang();
    let before = store.stats().borrow().commits;
    let smaller = buffer::Config { max_size: ByteSize(128 * 1024), ..config(folder.path()) };
    writer.obey(flows.clone(), &smaller);
    assert!(pulse.silent() < pulse::SILENCE, "the watchdog is fed");
    let kept = stored(&store, flows.get(live));
    let gone = 40 - kept.len() as u64;
    let steps = store.stats().borrow().commits - before;
    // Eight batches are 64 KiB.
    assert!(gone > 24 && steps >= gone.div_ceil(8), "{gone} in {steps}");
    let gaps = store.gaps(0).unwrap();
    let ids = gaps[0].ids.as_ref().unwrap();
    assert_eq!((gaps.len(), gaps[0].what.events, ids.first, ids.last), (1, gone, 1, gone));
}

#[tokio::test]
async fn what_is_too_old_goes_in_steps_and_what_comes_goes_between_them() {
    const DAY: i64 = 86_400_000_000_000;
    let folder = tempfile::tempdir().unwrap();
    let mut flows = Flows::default();
    let live = flows.id("plant", None);
    let max_age = Some(Period::from_secs(7 * 86_400));
    let config = buffer::Config { max_age, ..config(folder.path()) };
    let clock = Clock::fixed(Timestamp(20_500 * DAY));
    let buffer = Buffer::open(&config, "gw1", clock.clone()).unwrap();
    let store = buffer.store();
    let (mut writer, mut intakes, time) = assembled(buffer, &flows);
    for number in 0..20 {
        intakes[0].deliver(noisy(live, number, 1)).await.unwrap();
        writer.turn();
    }
    // It takes note how old they are.
    writer.turn();
    clock.set(Timestamp(20_508 * DAY));
    time.pass(std::time::Duration::from_hours(1));
    let mut first = Vec::new();
    for number in 20..26 {
        writer.turn();
        first.push(stored(&store, flows.get(live))[0]);
        if number < 23 {
            intakes[0].deliver(noisy(live, number, 1)).await.unwrap();
            writer.turn();
        }
    }
    // Eight of them are a step.
    assert_eq!(first, [8, 16, 20, 20, 20, 20]);
    assert_eq!(stored(&store, flows.get(live)), [20, 21, 22]);
    assert!(writer.wake().unwrap() > time.now(), "it rests again");
    let gaps = store.gaps(0).unwrap();
    assert_eq!((gaps.len(), gaps[0].what.events), (1, 20));
}

#[tokio::test]
async fn an_import_takes_what_fits_in_order_and_drops_nothing_for_it() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut flows = Flows::new([rules("small", None, 10)]);
    let small = flows.polled("small", None);
    let source = SourceInfo { name: "a".into(), labels: Vec::new() };
    let elsewhere = config(there.path());
    let mut unbounded = Flows::default();
    unbounded.id("small", None);
    let (collector, mut intakes) = start(open(&elsewhere), vec![source], unbounded).unwrap();
    for number in 0..10 {
        let ticket = intakes[0].deliver(noisy(small, number, 1)).await.unwrap();
        intakes[0].wait_committed(ticket).await.unwrap();
    }
    collector.close();
    let portion = Foreign::open(&elsewhere.path).unwrap().portion(BatchId(0)).unwrap();
    let place = |index: usize| portion[index].id.0;

    let fixture = begin(here.path(), &flows);
    // 51 KiB take six events.
    let done = fixture.store.errand(Errand::Import(portion.clone())).unwrap();
    assert_eq!((done.done, done.skipped), (6, vec![(place(6), Skip::NoRoom)]));
    assert_eq!(fixture.stored(small), (0..6).collect::<Vec<_>>());
    let none = fixture.store.errand(Errand::Import(portion.clone())).unwrap();
    assert_eq!((none.done, none.skipped.len()), (0, 7));
    fixture.send(small, 6);
    let rest = fixture.store.errand(Errand::Import(portion.clone())).unwrap();
    let known = (0..6).map(|index| (place(index), Skip::Imported)).collect::<Vec<_>>();
    assert_eq!((rest.done, rest.skipped), (4, known));
    assert_eq!(fixture.stored(small), [6, 7, 8, 9]);
    assert_eq!(fixture.dropped(), []);
    fixture.collector.close();
}

#[tokio::test]
async fn what_waits_for_room_at_the_end_is_not_settled_until_it_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let mut flows = Flows::new([rules("small", None, 10)]);
    let small = flows.id("small", None);
    let mut fixture = begin(folder.path(), &flows);
    fixture.fill(0, small, 0..7).await;
    let held = fixture.intakes[0].deliver(noisy(small, 7, 1)).await.unwrap();
    assert!(!fixture.store.settle().unwrap());
    let mut stats = fixture.store.stats();
    assert!(stats.borrow().unsettled);
    fixture.send(small, 7);
    let after = stats.borrow().clone();
    assert!(after.batches == 1 || after.unsettled, "the file is empty and more comes");
    stats.wait_for(|stats| !stats.unsettled).await.unwrap();
    fixture.intakes[0].wait_committed(held).await.unwrap();
    assert_eq!(fixture.stored(small), [7]);
    fixture.collector.close();
}

#[derive(Debug, Clone)]
enum Step {
    /// So many events of this flow.
    Deliver(usize, i64),
    /// The flow's first batches are loaded for a transaction.
    Load(usize, u32),
    /// Kafka has the flow's first batches.
    Send(usize, usize),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..6_usize, 1..9_i64).prop_map(|(flow, count)| Step::Deliver(flow, count)),
        2 => (0..6_usize, 1..20_u32).prop_map(|(flow, count)| Step::Load(flow, count)),
        3 => (0..6_usize, 1..6_usize).prop_map(|(flow, count)| Step::Send(flow, count)),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..60)
}

/// What a flow was given, and what became of it.
#[derive(Default)]
struct Fate {
    given: BTreeSet<i64>,
    sent: BTreeSet<i64>,
    loaded: Vec<i64>,
}

async fn check(steps: Vec<Step>) {
    let mut flows = Flows::new([
        rules("waits", None, 50),
        rules("polled", None, 60),
        rules("oldest", Some(WhenFull::DropOldest), 100),
        rules("newest", Some(WhenFull::DropNewest), 30),
    ]);
    let ids = [
        flows.id("waits", None),
        flows.polled("polled", Lane::Alarm),
        flows.polled("polled", Lane::Live),
        flows.polled("polled", Lane::Bulk),
        flows.id("oldest", Lane::Alarm),
        flows.id("newest", None),
    ];
    // By the rules, none of these is ever dropped.
    let stay = [ids[0], ids[1]];
    let folder = tempfile::tempdir().unwrap();
    let mut fixture = begin(folder.path(), &flows);
    let mut fates: BTreeMap<Id, Fate> = ids.iter().map(|id| (*id, Fate::default())).collect();
    let mut number = 0;
    for step in steps {
        match step {
            Step::Deliver(index, count) => {
                let id = ids[index];
                let ticket = fixture.intakes[0].deliver(noisy(id, number, count)).await.unwrap();
                fates.get_mut(&id).unwrap().given.extend(number..number + count);
                number += count;
                let mut stats = fixture.store.stats();
                tokio::select! {
                    done = fixture.intakes[0].wait_committed(ticket) => done.unwrap(),
                    full = stats.wait_for(|stats| stats.held_back) => drop(full.unwrap()),
                }
                // Whoever holds it up gets room: then it is stored.
                for id in ids {
                    if fixture.intakes[0].committed() < ticket {
                        forget(&fixture, &mut fates, id, usize::MAX);
                    }
                }
                fixture.intakes[0].wait_committed(ticket).await.unwrap();
            }
            Step::Load(index, count) => {
                let id = ids[index];
                let mut reader = fixture.store.reader().unwrap();
                let hash = fixture.flow(id).hash;
                let loaded = fixture.store.load(&mut reader, hash, BatchId(0), count, 1 << 20);
                let fate = fates.get_mut(&id).unwrap();
                fate.loaded = times(&loaded.unwrap());
            }
            Step::Send(index, count) => forget(&fixture, &mut fates, ids[index], count),
            Step::Restart => {
                fixture.collector.close();
                fixture = begin(folder.path(), &flows);
                for fate in fates.values_mut() {
                    fate.loaded.clear();
                }
            }
        }
        let mut dropped: BTreeMap<&str, u64> = BTreeMap::new();
        for (id, fate) in &fates {
            let stored: BTreeSet<i64> = fixture.stored(*id).into_iter().collect();
            assert!(stored.is_disjoint(&fate.sent) && stored.is_subset(&fate.given));
            assert!(fate.loaded.iter().all(|number| stored.contains(number)), "pinned");
            let gone = fate.given.len() - stored.len() - fate.sent.len();
            assert!(gone == 0 || !stay.contains(id), "no rule lets these go");
            *dropped.entry(&flows.get(*id).stream.name).or_default() += gone as u64;
        }
        let mut counted: BTreeMap<&str, u64> = dropped.keys().map(|name| (*name, 0)).collect();
        let counts = fixture.dropped();
        for one in &counts {
            *counted.get_mut(&*one.stream).unwrap() += one.events;
        }
        assert_eq!(counted, dropped, "every drop is counted");
        let told = fixture.store.gaps(0).unwrap().iter().map(|gap| gap.what.events).sum::<u64>();
        assert_eq!(told, counted.values().sum::<u64>(), "and told");
    }
    fixture.collector.close();
}

fn forget(fixture: &Fixture, fates: &mut BTreeMap<Id, Fate>, id: Id, count: usize) {
    let sent = times(&fixture.send(id, count));
    let fate = fates.get_mut(&id).unwrap();
    fate.loaded.retain(|number| !sent.contains(number));
    fate.sent.extend(sent);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn nothing_is_dropped_that_no_rule_lets_go_and_every_drop_is_counted(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(steps));
    }
}
