//! The simulator finds what each rule is for: with the rule taken out, some
//! seed breaks the promise.

use super::Mutant;
use super::world::{self, full, held};

/// Seeds within which a broken rule must show.
const WITHIN: u64 = 200;

fn is_found(mutant: Mutant) {
    let found = (0..WITHIN).find_map(|seed| {
        let wrong = world::run(seed, Some(mutant)).err()?;
        Some(format!("seed {seed}: {wrong}"))
    });
    println!("{mutant:?}: {found:?}");
    assert!(found.is_some(), "{mutant:?} was not found within {WITHIN} seeds");
}

#[test]
fn an_acknowledgement_before_the_commit_is_found() {
    is_found(Mutant::AckBeforeCommit);
}

#[test]
fn a_record_with_the_time_of_an_old_event_is_found() {
    is_found(Mutant::OwnTimeAlways);
}

#[test]
fn a_drop_of_what_stands_in_an_open_transaction_is_found() {
    let wrong = full::readings_behind_an_open_transaction(Some(Mutant::Unpinned)).unwrap_err();
    assert!(wrong.ends_with(full::DISHONEST), "{wrong}");
}

#[test]
fn a_gap_that_is_sure_of_what_an_earlier_process_sent_is_found() {
    let wrong = full::readings_of_an_earlier_process(Some(Mutant::SureGap)).unwrap_err();
    assert!(wrong.ends_with(full::DISHONEST), "{wrong}");
}

#[test]
fn a_new_connection_that_does_not_wait_for_the_commits_of_the_old_one_is_found() {
    is_found(Mutant::Hasty);
}

#[test]
fn a_cursor_in_another_commit_than_its_rows_is_found() {
    is_found(Mutant::CursorApart);
}

#[test]
fn a_redelivery_that_is_taken_for_new_is_found() {
    is_found(Mutant::NoRedelivery);
}

#[test]
fn an_acknowledgement_of_what_is_in_memory_only_is_found() {
    is_found(Mutant::AckWhenHeld);
}

#[test]
fn a_row_behind_one_that_is_in_memory_only_is_found() {
    is_found(Mutant::PastHeld);
}

#[test]
fn a_stale_checkpoint_beside_what_is_in_memory_is_found() {
    let wrong = held::a_message_like_an_earlier_one(Some(Mutant::StaleCheckpoint)).unwrap_err();
    assert!(wrong.ends_with(held::LOST), "{wrong}");
}

#[test]
fn a_pubcomp_before_the_commit_that_removes_the_id_is_found() {
    is_found(Mutant::CompleteBeforeCommit);
}

#[test]
fn a_released_message_that_is_forgotten_with_its_pubrel_is_found() {
    is_found(Mutant::ForgetsReleased);
}
