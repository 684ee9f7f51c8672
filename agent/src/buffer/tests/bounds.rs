//! What the file drops by a rule: for its age, and what an older layout becomes.

use std::sync::Arc;

use super::event;
use crate::buffer::{
    BatchId, Changes, Demand, Dropped, Encoder, File, Pins, Reader, Reason, Sealed, drops, schema,
};
use crate::event::Timestamp;
use crate::flow::{self, Flows, Lane};

const DAY: i64 = 86_400_000_000_000;

/// Long after the first day on which this program was there.
const NOW: i64 = 20_500 * DAY;

fn open(folder: &std::path::Path) -> File {
    File::open(&folder.join("buffer.db"), "gw1").unwrap()
}

fn store(file: &mut File, flows: &Flows, flow: flow::Id, count: u32) {
    let mut events = Encoder::default();
    for n in 0..count {
        events.add(0, &Arc::from([]), &event(flow, n.into()));
    }
    let batches = vec![Sealed { flow: flows.get(flow), events: &events }];
    file.commit(&Changes { batches, ..Changes::default() }, Timestamp(0)).unwrap();
}

fn counts(folder: &std::path::Path, flow: flow::Hash) -> Vec<u32> {
    let mut reader = Reader::open(&folder.join("buffer.db")).unwrap();
    let batches = reader.batches(flow, BatchId(0), u32::MAX, usize::MAX).unwrap();
    batches.iter().map(|batch| batch.count).collect()
}

fn age(file: &mut File, day: i64, pins: &Pins) -> u64 {
    let now = NOW + day * DAY;
    file.expire(Timestamp(now), Timestamp(now - 7 * DAY), u64::MAX, pins).unwrap()
}

#[test]
fn what_was_stored_too_long_ago_is_dropped_of_every_stream_and_nothing_younger() {
    let folder = tempfile::tempdir().unwrap();
    let mut flows = Flows::default();
    let (a, b) = (flows.id("a", Lane::Alarm), flows.id("b", Lane::Bulk));
    let hashes = [a, b].map(|id| flows.get(id).hash);
    let mut file = open(folder.path());
    store(&mut file, &flows, a, 1);
    store(&mut file, &flows, b, 2);
    assert_eq!(age(&mut file, 0, &Pins::default()), 0);
    store(&mut file, &flows, b, 3);
    assert_eq!(age(&mut file, 1, &Pins::default()), 0);
    drop(file);
    // The next process knows it too, also of streams that it no longer has.
    let mut file = open(folder.path());
    assert_eq!(age(&mut file, 7, &Pins::default()), 0, "to the day");
    assert_eq!(age(&mut file, 8, &Pins::default()), 2);
    assert_eq!(hashes.map(|hash| counts(folder.path(), hash)), [vec![], vec![3]]);
    let of = |stream: &str, events| {
        let bytes = file.dropped().iter().find(|one| one.stream == stream).unwrap().bytes;
        Dropped { stream: stream.into(), reason: Reason::Age, events, bytes }
    };
    assert_eq!(file.dropped(), [of("a", 1), of("b", 2)]);
    assert_eq!(file.totals().events, 3);
    assert!(file.usage(hashes[0]) == 0 && file.usage(hashes[1]) > 0);
}

#[test]
fn what_is_pinned_outlives_its_age_and_a_clock_that_nobody_set_ages_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut flows = Flows::default();
    let a = flows.id("a", Lane::Live);
    let mut file = open(folder.path());
    store(&mut file, &flows, a, 1);
    let first = file.newest();
    store(&mut file, &flows, a, 2);
    // An hour after 1970, and then the clock is set.
    let unset = file.expire(Timestamp(DAY / 24), Timestamp(-7 * DAY), u64::MAX, &Pins::default());
    assert_eq!(unset, Ok(0));
    assert_eq!(age(&mut file, 0, &Pins::default()), 0);
    let mut pins = Pins::default();
    pins.loaded.insert(flows.get(a).hash, first);
    assert_eq!(age(&mut file, 8, &pins), 1);
    assert_eq!(counts(folder.path(), flows.get(a).hash), [1]);
    assert_eq!(age(&mut file, 9, &Pins::default()), 1, "it is not forgotten");
}

#[test]
fn a_gap_grows_by_what_stands_beside_it_and_goes_over_nothing_that_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let mut flows = Flows::default();
    let a = flows.id("a", Lane::Live);
    let hash = flows.get(a).hash;
    let mut file = open(folder.path());
    let ids: Vec<BatchId> = std::iter::repeat_with(|| {
        store(&mut file, &flows, a, 10);
        file.newest()
    })
    .take(6)
    .collect();
    let of = vec![vec![(hash, "a".to_owned())]];
    let oldest = Demand { reason: Reason::Size, bytes: 1, of };
    let mut pins = Pins::default();
    for loaded in [None, None, Some(ids[2]), None] {
        pins.loaded.extend(loaded.map(|id| (hash, id)));
        assert_eq!(file.evict(&oldest, &pins), Ok(1));
    }
    assert_eq!(gaps(&file), [(20, 1, 20), (20, 31, 50)]);
}

/// Of each gap the events, and the first and the last of their ids.
fn gaps(file: &File) -> Vec<(u64, u64, u64)> {
    let gaps = drops::gaps(&file.connection, 0).unwrap();
    let seen = |gap: &drops::Gap| {
        let ids = gap.ids.as_ref().unwrap();
        (gap.what.events, ids.first, ids.last)
    };
    gaps.iter().map(seen).collect()
}

#[test]
fn what_is_too_old_goes_in_steps_whose_gaps_are_one_where_nothing_was_sent_between() {
    let folder = tempfile::tempdir().unwrap();
    let mut flows = Flows::default();
    let a = flows.id("a", Lane::Live);
    let hash = flows.get(a).hash;
    let mut file = open(folder.path());
    let ids: Vec<BatchId> = std::iter::repeat_with(|| {
        store(&mut file, &flows, a, 10);
        file.newest()
    })
    .take(6)
    .collect();
    assert_eq!(age(&mut file, 0, &Pins::default()), 0);
    // Young: no step goes so far.
    store(&mut file, &flows, a, 10);
    let mut pins = Pins::default();
    let mut gone = Vec::new();
    for loaded in [None, None, Some(ids[2]), None, None, None] {
        // The forwarder reads between two steps.
        pins.loaded.extend(loaded.map(|id| (hash, id)));
        let now = NOW + 8 * DAY;
        gone.push(file.expire(Timestamp(now), Timestamp(now - 7 * DAY), 1, &pins).unwrap());
    }
    assert_eq!(gone, [1, 1, 1, 1, 1, 0]);
    assert_eq!(gaps(&file), [(20, 1, 20), (30, 31, 60)]);
    assert_eq!(counts(folder.path(), hash), [10, 10]);
}

#[test]
fn a_file_of_the_first_layout_is_brought_forward_with_its_events_added_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut flows = Flows::default();
    let a = flows.id("a", Lane::Live);
    let hash = flows.get(a).hash;
    let mut file = open(folder.path());
    store(&mut file, &flows, a, 1);
    store(&mut file, &flows, a, 2);
    let usage = file.usage(hash);
    drop(file);
    let path = folder.path().join("buffer.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch(
            "DROP TABLE dropped; DROP TABLE gap; DROP TABLE mark; DROP TABLE dead_event;
             DROP TABLE imported; ALTER TABLE batch DROP COLUMN birth;
             DELETE FROM state WHERE key = 'usage'; PRAGMA user_version = 1;",
        )
        .unwrap();
    let file = open(folder.path());
    assert!(usage > 0);
    assert_eq!(file.usage(hash), usage);
    assert_eq!(counts(folder.path(), hash), [1, 2]);
    assert_eq!(file.dropped(), []);
}

#[test]
fn a_list_of_gaps_that_is_shorter_than_what_was_told_is_another_file_s() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = schema::open(&folder.path().join("buffer.db")).unwrap();
    let what = Dropped { stream: "a".into(), reason: Reason::Newest, events: 1, bytes: 1 };
    let transaction = connection.transaction().unwrap();
    for told in 0..3 {
        drops::note_unnumbered(&transaction, &what, told).unwrap();
    }
    transaction.commit().unwrap();
    let seen = |after| -> Vec<i64> {
        drops::gaps(&connection, after).unwrap().iter().map(|gap| gap.id).collect()
    };
    assert_eq!(
        [seen(0), seen(2), seen(3), seen(57)],
        [vec![1, 2, 3], vec![3], vec![], vec![1, 2, 3]]
    );
}
