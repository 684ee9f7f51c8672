//! Text, and what a position covers in files that something happened to.

use std::sync::Arc;

use proptest::prelude::*;

use crate::buffer::{BatchId, Epoch, FileEpoch, Named, Position};
use crate::flow::Hash;

const A: Epoch = Epoch(0xa);
const B: Epoch = Epoch(0xb);
const C: Epoch = Epoch(0xc);
const FLOW: Hash = Hash(7);

fn file(epochs: &[(Epoch, Option<u64>)]) -> Vec<FileEpoch> {
    (1..)
        .zip(epochs)
        .map(|(ordinal, (epoch, last))| FileEpoch {
            ordinal,
            epoch: *epoch,
            gateway: Arc::from("gw1"),
            last: *last,
        })
        .collect()
}

fn position(epochs: &[(Epoch, Option<u64>)], stands: (Epoch, u64)) -> Position {
    Position {
        gateway: "gw1".to_owned(),
        cluster: "kafka".to_owned(),
        epochs: epochs.iter().map(|(epoch, end)| Named { epoch: *epoch, end: *end }).collect(),
        flows: [(FLOW, stands)].into(),
    }
}

/// Whether the batch with this place in the file is covered.
fn covers(position: &Position, file: &[FileEpoch], ordinal: i64, number: u64) -> bool {
    let id = BatchId::new(ordinal, number);
    position.covered(FLOW, file).iter().any(|(first, last)| (*first..=*last).contains(&id))
}

#[test]
fn the_text_is_what_it_is() {
    let position = position(&[(A, Some(100)), (B, None)], (B, 35));
    let text = "1;gw1;kafka;000000000000000a.2s,000000000000000b;AAAAAH1z";
    assert_eq!(position.encode(), text);
    assert_eq!(Position::parse(text), Ok(position));
}

#[test]
fn the_longest_text_fits_into_an_offsets_metadata() {
    let mut longest = Position {
        gateway: "g".repeat(100),
        cluster: "c".repeat(100),
        epochs: Vec::new(),
        flows: (0..250)
            .map(|n| (Hash(u32::MAX - n), (Epoch(u64::from(n)), (1 << 40) - 1)))
            .collect(),
    };
    longest.epochs =
        (0..300).map(|n| Named { epoch: Epoch(n), end: Some((1 << 40) - 1) }).collect();
    assert!(longest.encode().len() <= 4096, "{}", longest.encode().len());
    for (epoch, _) in longest.flows.values_mut() {
        *epoch = Epoch(299);
    }
    let text = longest.encode();
    assert!(text.len() <= 4096, "{}", text.len());
    assert_eq!(Position::parse(&text).unwrap().flows.len(), 200);
}

#[test]
fn in_the_file_that_sent_all_up_to_the_entry_is_covered() {
    let file = file(&[(A, Some(100)), (B, None)]);
    let position = position(&[(A, Some(100)), (B, None)], (B, 5));
    assert!(covers(&position, &file, 1, 100) && covers(&position, &file, 2, 5));
    assert!(!covers(&position, &file, 2, 6));
}

#[test]
fn a_restored_image_sends_what_it_collected_after_it_was_restored() {
    // The image was taken at A 60 and runs as B; the original sent A 100.
    let image = file(&[(A, Some(60)), (B, None)]);
    let known = position(&[(A, None)], (A, 100));
    assert!(covers(&known, &image, 1, 60));
    assert!(!covers(&known, &image, 2, 1));
    // The same when the original had gone on in C.
    let unknown = position(&[(A, Some(100)), (C, None)], (C, 3));
    assert!(covers(&unknown, &image, 1, 60));
    assert!(!covers(&unknown, &image, 2, 1));
}

#[test]
fn the_original_of_a_cloned_card_sends_what_it_collected_after_the_copy() {
    // The clone took A up to 60, ran as B and sent; the original is at A 100.
    let clone = file(&[(A, Some(60)), (B, None)]);
    let mut sent =
        Position::continued(Some(&position(&[(A, None)], (A, 50))), "gw1", "kafka", &clone);
    sent.advance(FLOW, B, 5);
    let original = file(&[(A, None)]);
    assert!(covers(&sent, &original, 1, 60));
    assert!(!covers(&sent, &original, 1, 61));
}

#[test]
fn what_follows_a_lost_tail_is_sent() {
    // A 100 was sent, the file lost A 91 to 100, B goes on.
    let file = file(&[(A, Some(90)), (B, None)]);
    let position = position(&[(A, None)], (A, 100));
    assert!(covers(&position, &file, 1, 90));
    assert!(!covers(&position, &file, 2, 1));
}

#[test]
fn a_new_file_under_the_same_id_is_sent_whole() {
    let position = position(&[(A, None)], (A, 100));
    assert!(!covers(&position, &file(&[(B, None)]), 1, 1));
}

#[test]
fn an_image_that_ran_offline_past_the_position_sends_all_that_is_new() {
    let image = file(&[(A, Some(60)), (B, Some(500)), (C, None)]);
    let position = position(&[(A, None)], (A, 55));
    assert!(covers(&position, &image, 1, 55));
    for (ordinal, number) in [(1, 56), (2, 1), (2, 500), (3, 1)] {
        assert!(!covers(&position, &image, ordinal, number));
    }
}

#[test]
fn a_position_of_another_gateway_or_cluster_is_not_gone_on_with() {
    let kafka = position(&[(A, None)], (A, 100));
    let file = file(&[(A, Some(100)), (B, None)]);
    assert!(kafka.is_of(&file, "kafka"));
    assert!(!kafka.is_of(&file, "other"));
    assert!(Position::continued(Some(&kafka), "gw1", "other", &file).flows.is_empty());
    assert!(Position::continued(Some(&kafka), "gw2", "kafka", &file).flows.is_empty());
}

#[test]
fn eight_epochs_are_named_besides_those_that_flows_stand_in() {
    let epochs: Vec<_> = (1..20).map(|n| (Epoch(n), Some(3))).collect();
    let kafka = position(&[(Epoch(1), Some(3))], (Epoch(1), 2));
    let next = Position::continued(Some(&kafka), "gw1", "kafka", &file(&epochs));
    let named: Vec<u64> = next.epochs.iter().map(|named| named.epoch.0).collect();
    assert_eq!(named, [1, 12, 13, 14, 15, 16, 17, 18, 19]);
}

#[test]
fn an_epoch_that_a_flow_stands_in_is_kept_before_one_that_is_only_named() {
    let epochs: Vec<_> = (1..30).map(|n| (Epoch(n), Some(3))).collect();
    let mut next = Position::continued(None, "gw1", "kafka", &file(&epochs[20..]));
    for n in 1..=22 {
        next.advance(Hash(u32::try_from(n).unwrap()), Epoch(n), 2);
    }
    let text = Position::parse(&next.encode()).unwrap();
    assert_eq!(text.flows.len(), 22);
    assert_eq!(text.epochs.len(), 24);
    assert_eq!(text.epochs.last().unwrap().epoch, Epoch(29));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(1;)?[0-9a-zA-Z;,.-]{0,80}|\\PC{0,40}") {
        if let Ok(position) = Position::parse(&text) {
            prop_assert!(position.encode().len() <= 4096);
        }
    }
}

#[test]
fn a_kafka_that_lost_what_it_confirmed_stands_behind() {
    let file = file(&[(A, Some(60)), (B, None)]);
    let seen = position(&[(A, Some(60)), (B, None)], (B, 35));
    let behind = |kafka: &Position| kafka.behind(&seen, &file);
    // Where it stood, or further.
    assert_eq!(behind(&seen), []);
    assert_eq!(behind(&position(&[(A, Some(60)), (B, None)], (B, 36))), []);
    // In the same epoch, in the one before, and before the flow began.
    assert_eq!(behind(&position(&[(A, Some(60)), (B, None)], (B, 20))), [(FLOW, B, 20, 35)]);
    assert_eq!(behind(&position(&[(A, None)], (A, 50))), [(FLOW, B, 0, 35)]);
    let mut before = position(&[(A, None)], (A, 50));
    before.flows.clear();
    assert_eq!(behind(&before), [(FLOW, B, 0, 35)]);
    // Another file has sent since: nothing is known to be lost.
    assert_eq!(behind(&position(&[(B, Some(0)), (C, None)], (C, 1))), []);
}

#[test]
fn the_last_epoch_is_that_of_the_run_that_sends() {
    // Another file sent between two commits of this one.
    let file = file(&[(A, None)]);
    let other = position(&[(A, Some(0)), (B, None)], (B, 3));
    assert_eq!(other.sender(), Some(B));
    assert!(other.names_others(&file));
    let next = Position::continued(Some(&other), "gw1", "kafka", &file);
    assert_eq!(next.sender(), Some(A));
    assert!(!covers(&next, &file, 1, 1), "an end never rises");
}

#[test]
fn a_file_of_many_epochs_keeps_its_newest_in_the_list() {
    let epochs: Vec<(Epoch, Option<u64>)> =
        (1..=20).map(|n| (Epoch(n), (n < 20).then_some(1))).collect();
    let file = file(&epochs);
    let newest = position(&epochs[11..19], (Epoch(19), 1));
    let next = Position::continued(Some(&newest), "gw1", "kafka", &file);
    let named: Vec<u64> = next.epochs.iter().map(|named| named.epoch.0).collect();
    assert_eq!(named, (13..=20).collect::<Vec<_>>());
}

#[test]
fn an_epoch_that_left_the_list_is_not_covered_by_an_entry_of_another_file() {
    // Another file has sent since; the list no longer names this one's first.
    let file = file(&[(A, Some(17)), (B, None)]);
    let other = position(&[(B, Some(0)), (C, None)], (C, 5));
    let next = Position::continued(Some(&other), "gw1", "kafka", &file);
    assert!(!covers(&next, &file, 1, 1), "nobody has sent it");
}
