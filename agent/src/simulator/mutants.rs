//! The simulator finds what each rule is for: with the rule taken out, some
//! seed breaks the promise.

use super::{Mutant, world};

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
fn a_cursor_in_another_commit_than_its_rows_is_found() {
    is_found(Mutant::CursorApart);
}

#[test]
fn a_redelivery_that_is_taken_for_new_is_found() {
    is_found(Mutant::NoRedelivery);
}

#[test]
fn a_pubcomp_before_the_commit_that_removes_the_id_is_found() {
    is_found(Mutant::CompleteBeforeCommit);
}
