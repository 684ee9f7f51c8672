//! Events that Kafka refused: kept whole, sent again under their own ids.

use std::path::Path;
use std::sync::Arc;

use crate::buffer::dead::Skip;
use crate::buffer::{
    Batch, BatchId, Burial, Changes, Demand, Done, Encoder, Epoch, Errand, File, Ids, Labels, Pins,
    Position, Reader, Reason, Sealed, View, Which, verify,
};
use crate::collect::DeadLetter;
use crate::event::{Event, Quality, Timestamp};
use crate::flow::{self, Flows, Lane, Stream};

/// Epoch, first and last seq of what a gap names.
type Told = (Epoch, u64, u64);

struct Fixture {
    folder: tempfile::TempDir,
    file: File,
    flows: Flows,
    id: flow::Id,
}

fn path(folder: &Path) -> std::path::PathBuf {
    folder.join("buffer.db")
}

fn flows(topic: &str) -> (Flows, flow::Id) {
    let plant = Stream { name: "plant".into(), topic: topic.into(), create: None };
    let mut flows = Flows::new([plant]);
    let id = flows.id("plant", Lane::Live);
    (flows, id)
}

/// A file with one batch of three events, whose times are 11, 12 and 13.
fn begin() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let file = File::open(&path(folder.path()), "gw1").unwrap();
    let (flows, id) = flows("plant");
    let mut fixture = Fixture { folder, file, flows, id };
    fixture.append(11..14);
    fixture
}

impl Fixture {
    fn append(&mut self, times: std::ops::Range<i64>) {
        let labels: Labels = Arc::from([]);
        let mut encoder = Encoder::default();
        for time in times {
            let event = Event {
                flow: self.id,
                device: "d".into(),
                time: Timestamp(time),
                read_at: None,
                quality: Quality::Good,
                fields: Vec::new(),
            };
            encoder.add(0, &labels, &event);
        }
        let batches = vec![Sealed { flow: self.flows.get(self.id), events: &encoder }];
        self.file.commit(&Changes { batches, ..Changes::default() }, Timestamp(0)).unwrap();
    }

    fn hash(&self) -> flow::Hash {
        self.flows.get(self.id).hash
    }

    fn batches(&self) -> Vec<Batch> {
        let mut reader = Reader::open(&path(self.folder.path())).unwrap();
        reader.batches(self.hash(), BatchId(0), u32::MAX, usize::MAX).unwrap()
    }

    /// Buries the event with this number of the first batch, as the forwarder
    /// does.
    fn bury(&mut self, seq: u64) {
        let batch = self.batches().remove(0);
        let letter = DeadLetter {
            reason: "refused".into(),
            origin: format!("gw1/{}/{seq} for plant", batch.epoch),
            payload: b"{}".to_vec(),
            length: 2,
        };
        let burial = Burial { letter, event: Some(batch.refused(seq).unwrap()) };
        let changes = Changes { buried: vec![&burial], ..Changes::default() };
        self.file.commit(&changes, Timestamp(5)).unwrap();
    }

    /// Kafka has everything up to this batch.
    fn sent(&mut self, batch: &Batch) {
        let mut position = Position::continued(None, "gw1", "kafka", self.file.epochs());
        position.advance(self.hash(), batch.written, batch.number);
        let positions = vec![(&position, "kafka")];
        self.file.commit(&Changes { positions, ..Changes::default() }, Timestamp(0)).unwrap();
    }

    fn requeue(&mut self, letters: &[i64]) -> Done {
        self.file.errand(&Errand::Requeue(letters.to_vec()), &self.flows, |_, _| true).unwrap()
    }

    /// What is not pinned is dropped for room.
    fn evict(&mut self) {
        let of = vec![vec![(self.hash(), "plant".to_owned())]];
        let demand = Demand { reason: Reason::Size, bytes: u64::MAX, of };
        self.file.evict(&demand, &Pins::default()).unwrap();
    }

    /// Of each gap the number of events, and the epoch and numbers of their ids.
    fn gaps(&self) -> Vec<(u64, Option<Told>)> {
        let gaps = Reader::open(&path(self.folder.path())).unwrap().gaps(0).unwrap();
        let ids = |ids: Ids| (ids.epoch, ids.first, ids.last);
        gaps.into_iter().map(|gap| (gap.what.events, gap.ids.map(ids))).collect()
    }

    /// Everything that is counted is what is there.
    fn is_well(&self) {
        let verified = verify(&path(self.folder.path()), |_, _| {}).unwrap();
        assert_eq!(verified.wrong, Vec::<String>::new());
    }

    fn letters(&self) -> Vec<i64> {
        View::open(&path(self.folder.path())).unwrap().ids(&Which::All, false).unwrap()
    }

    fn reopen(self) -> Self {
        let Self { folder, file, flows, id } = self;
        drop(file);
        let file = File::open(&path(folder.path()), "gw1").unwrap();
        Self { folder, file, flows, id }
    }
}

fn events(batch: &Batch) -> Vec<(u64, i64)> {
    let mut events = Vec::new();
    batch
        .events(|event| {
            events.push((event.seq, event.time.0));
            Ok(())
        })
        .unwrap();
    events
}

#[test]
fn a_refused_event_comes_back_under_its_id_in_a_place_that_no_position_has_passed() {
    let mut fixture = begin();
    let first = fixture.batches().remove(0);
    fixture.bury(2);
    fixture.sent(&first);
    // The epoch of its birth is not the one in which it is put in again.
    let mut fixture = fixture.reopen();
    fixture.append(20..21);
    assert_eq!(fixture.requeue(&[1]), Done { done: 1, skipped: Vec::new() });
    let [newer, again]: [Batch; 2] = fixture.batches().try_into().unwrap();
    assert_eq!((again.epoch, &*again.gateway), (first.epoch, "gw1"));
    assert_eq!((again.written, again.number), (newer.epoch, 2));
    assert_ne!(again.written, again.epoch);
    assert_eq!(events(&again), [(2, 12)]);
    assert_eq!(fixture.letters(), Vec::<i64>::new());
    assert_eq!((fixture.file.totals().events, fixture.file.totals().batches), (2, 2));
    assert_eq!((fixture.file.totals().dead_letters, fixture.file.totals().dead_bytes), (0, 0));
    fixture.is_well();

    // Its place is what positions speak of: the batch before it does not take
    // it along, its own does.
    fixture.sent(&newer);
    assert_eq!(fixture.batches().len(), 1);
    fixture.sent(&again);
    assert_eq!((fixture.batches().len(), fixture.file.usage(fixture.hash())), (0, 0));
    // The numbers of new events know nothing of it.
    fixture.append(30..31);
    assert_eq!(events(&fixture.batches()[0]), [(2, 30)]);
}

#[test]
fn while_its_batch_is_in_the_file_a_letter_stays_and_its_event_is_marked() {
    let mut fixture = begin();
    fixture.bury(2);
    assert_eq!(fixture.requeue(&[1]).skipped, [(1, Skip::StillSending)]);
    let mut fixture = fixture.reopen();
    assert_eq!(fixture.batches()[0].buried, [2]);
    assert_eq!(fixture.requeue(&[1]).skipped, [(1, Skip::StillSending)]);
    assert_eq!(fixture.letters(), [1]);
    // What is met again after a power cut is not buried again.
    fixture.bury(2);
    assert_eq!(fixture.letters(), [1]);
    assert_eq!(fixture.file.totals().dead_letters, 1);
}

#[test]
fn only_events_are_sent_again_and_each_once() {
    let mut fixture = begin();
    let first = fixture.batches().remove(0);
    fixture.bury(1);
    fixture.bury(3);
    let dead = DeadLetter {
        reason: "no JSON".into(),
        origin: "topic".into(),
        payload: vec![1],
        length: 1,
    };
    let changes = Changes { dead: vec![&dead], ..Changes::default() };
    fixture.file.commit(&changes, Timestamp(9)).unwrap();
    fixture.sent(&first);
    let view = View::open(&path(fixture.folder.path())).unwrap();
    assert_eq!(view.ids(&Which::All, true).unwrap(), [1, 2]);
    assert_eq!(view.ids(&Which::Before(9), false).unwrap(), [1, 2]);
    let streams: Vec<Option<String>> =
        view.letters(None, 9).unwrap().into_iter().map(|letter| letter.stream).collect();
    assert_eq!(streams, [None, Some("plant".to_owned()), Some("plant".to_owned())]);
    let done = fixture.requeue(&[1, 1, 3, 4]);
    let skipped = vec![(1, Skip::Unknown), (3, Skip::NoEvent), (4, Skip::Unknown)];
    assert_eq!(done, Done { done: 1, skipped });
    assert_eq!(fixture.batches().len(), 1);
    let dropped =
        fixture.file.errand(&Errand::Drop(vec![2, 3]), &fixture.flows, |_, _| true).unwrap();
    assert_eq!(dropped.done, 2);
    assert_eq!(fixture.letters(), Vec::<i64>::new());
    assert_eq!(fixture.file.totals().dead_bytes, 0);
}

#[test]
fn a_requeue_that_cannot_be_written_leaves_the_letter() {
    let mut fixture = begin();
    let first = fixture.batches().remove(0);
    fixture.bury(2);
    fixture.sent(&first);
    let other = rusqlite::Connection::open(path(fixture.folder.path())).unwrap();
    let stop =
        "CREATE TRIGGER stop BEFORE DELETE ON dead_event BEGIN SELECT RAISE(ABORT, 'x'); END";
    other.execute_batch(stop).unwrap();
    fixture.file.errand(&Errand::Requeue(vec![1]), &fixture.flows, |_, _| true).unwrap_err();
    assert_eq!((fixture.letters(), fixture.batches().len()), (vec![1], 0));
    other.execute_batch("DROP TRIGGER stop").unwrap();
    assert_eq!(fixture.requeue(&[1]).done, 1);
    assert_eq!(fixture.batches()[0].number, 2);
}

#[test]
fn a_stream_stays_known_while_a_letter_can_bring_its_event_back() {
    let mut fixture = begin();
    let first = fixture.batches().remove(0);
    fixture.bury(2);
    fixture.sent(&first);
    let fixture = fixture.reopen();
    let mut fixture = fixture.reopen();
    // The configuration no longer names it.
    fixture.file.errand(&Errand::Requeue(vec![1]), &Flows::default(), |_, _| true).unwrap();
    let mut reader = Reader::open(&path(fixture.folder.path())).unwrap();
    let (_, _, stream) = reader.flows().unwrap().remove(0);
    assert_eq!(stream.topic, "plant");
}

#[test]
fn what_is_sent_again_goes_where_the_configuration_says_now() {
    let mut fixture = begin();
    let first = fixture.batches().remove(0);
    fixture.bury(2);
    fixture.sent(&first);
    fixture.flows = flows("mended").0;
    assert_eq!(fixture.requeue(&[1]).done, 1);
    let mut reader = Reader::open(&path(fixture.folder.path())).unwrap();
    let (_, _, stream) = reader.flows().unwrap().remove(0);
    assert_eq!(stream.topic, "mended");
}

#[test]
fn a_rule_that_drops_what_was_put_in_again_tells_the_ids_of_its_birth() {
    let mut fixture = begin();
    let first = fixture.batches().remove(0);
    fixture.bury(2);
    fixture.sent(&first);
    let mut fixture = fixture.reopen();
    fixture.append(20..22);
    assert_eq!(fixture.requeue(&[1]).done, 1);
    let running = fixture.batches()[0].epoch;
    fixture.evict();
    let told = [(2, Some((running, 1, 2))), (1, Some((first.epoch, 2, 2)))];
    assert_eq!(fixture.gaps(), told);
    assert_eq!((fixture.batches().len(), fixture.file.usage(fixture.hash())), (0, 0));
    fixture.is_well();
}

#[test]
fn what_of_a_dropped_batch_is_a_dead_letter_is_no_drop_and_can_be_sent_again() {
    let mut fixture = begin();
    let epoch = fixture.batches()[0].epoch;
    fixture.bury(2);
    fixture.evict();
    assert_eq!(fixture.gaps(), [(2, Some((epoch, 1, 3)))]);
    assert_eq!(fixture.file.dropped()[0].events, 2);
    assert_eq!(fixture.requeue(&[1]).done, 1);
    assert_eq!(events(&fixture.batches()[0]), [(2, 12)]);
    // A batch of dead letters alone goes without a word.
    let mut fixture = begin();
    for seq in 1..4 {
        fixture.bury(seq);
    }
    fixture.evict();
    assert_eq!((fixture.batches().len(), fixture.gaps().len(), fixture.letters().len()), (0, 0, 3));
    fixture.is_well();
}

#[test]
fn the_age_of_what_was_put_in_again_counts_from_then() {
    let day = |day: i64| Timestamp((20_500 + day) * 86_400_000_000_000);
    let mut fixture = begin();
    let first = fixture.batches().remove(0);
    fixture.bury(2);
    fixture.append(20..21);
    fixture.file.expire(day(0), day(-7), u64::MAX, &Pins::default()).unwrap();
    fixture.sent(&first);
    assert_eq!(fixture.requeue(&[1]).done, 1);
    assert_eq!(fixture.file.expire(day(8), day(1), u64::MAX, &Pins::default()), Ok(1));
    assert_eq!(events(&fixture.batches()[0]), [(2, 12)]);
    assert_eq!(fixture.file.expire(day(16), day(9), u64::MAX, &Pins::default()), Ok(1));
    fixture.is_well();
}

#[test]
fn what_was_seen_in_kafka_goes_with_its_counts_and_frees_its_letters() {
    let mut fixture = begin();
    fixture.append(14..16);
    fixture.bury(2);
    let reader = Reader::open(&path(fixture.folder.path())).unwrap();
    let waiting = reader.waiting(fixture.hash(), BatchId(0), 9).unwrap();
    let known: Vec<_> = waiting.iter().map(|w| (w.first_seq, w.last_seq(), &*w.buried)).collect();
    assert_eq!(known, [(1, 3, &[2][..]), (4, 5, &[])]);
    assert_eq!(reader.oldest(fixture.hash()).unwrap(), Some(Timestamp(11)));

    let delivered = [waiting[0].id, BatchId(77)];
    let changes = Changes { delivered: &delivered, ..Changes::default() };
    let adopted = fixture.file.commit(&changes, Timestamp(0)).unwrap().pop().unwrap();
    assert_eq!((adopted.deleted_batches, adopted.deleted_events), (1, 3));
    let totals = fixture.file.totals();
    assert_eq!((totals.batches, totals.events), (1, 2));
    assert_eq!(reader.waiting(fixture.hash(), BatchId(0), 9).unwrap(), waiting[1..]);
    assert_eq!(fixture.requeue(&[1]).done, 1);
}
