//! The simulator finds what each rule is for: with the rule taken out, some
//! seed breaks the promise.

use super::{Mutant, plan, renewal};

/// Seeds within which a broken rule must show.
const WITHIN: u64 = 200;

fn is_found(mutant: Mutant) {
    let found = (0..WITHIN).find_map(|seed| plan::run(seed, Some(mutant)).err());
    assert!(found.is_some(), "{mutant:?} was not found within {WITHIN} seeds");
}

#[test]
fn a_producer_that_does_not_fence_is_found() {
    is_found(Mutant::NoInit);
}

#[test]
fn a_position_of_an_open_transaction_is_found() {
    is_found(Mutant::ReadUncommitted);
}

#[test]
fn an_abort_of_a_commit_whose_outcome_is_not_known_is_found() {
    is_found(Mutant::AbortUnknownCommit);
}

#[test]
fn a_commit_believed_without_an_answer_is_found() {
    is_found(Mutant::SilenceIsCommit);
}

#[test]
fn an_error_taken_for_no_position_is_found() {
    is_found(Mutant::ErrorIsNoPosition);
}

#[test]
fn a_position_that_nobody_renews_is_found() {
    renewal::a_fortnight_without_an_event(Some(Mutant::NoRenewal)).unwrap_err();
}

#[test]
fn a_position_that_is_gone_taken_for_one_that_covers_all_is_found() {
    is_found(Mutant::GoneIsAll);
}

#[test]
fn two_agents_that_fence_each_other_are_found() {
    is_found(Mutant::NoLookForTwins);
}

#[test]
fn a_transaction_without_its_position_is_found() {
    is_found(Mutant::NoPosition);
}

#[test]
fn a_delete_before_the_commit_is_found() {
    is_found(Mutant::DeleteBeforeCommit);
}

#[test]
fn a_dead_letter_behind_its_position_is_found() {
    is_found(Mutant::DeadLetterLater);
}

#[test]
fn a_lost_position_without_a_look_at_the_topics_is_found() {
    is_found(Mutant::NoLook);
}

#[test]
fn a_look_that_takes_what_was_aborted_for_delivered_is_found() {
    is_found(Mutant::AbortedIsSeen);
}
