use super::*;

/// A session with a broker that is known to count its packet ids up.
pub(super) fn counting() -> Session {
    Session { numbering: Numbering::restore([1, 0, 0]), ..Session::default() }
}

/// Takes a batch of QoS 1 messages under one ticket.
fn take(session: &mut Session, ticket: u64, messages: &[(u16, u32)]) {
    for (id, hash) in messages {
        assert_eq!(session.publish(1, *id, false, *hash), Verdict::Take);
    }
    session.delivered(Some(Ticket(ticket)), messages.len());
}

pub(super) fn answers(session: &mut Session, committed: u64) -> Vec<u8> {
    let mut out = Vec::new();
    session.answer(Ticket(committed), &mut out);
    out
}

pub(super) fn crash(session: &Session) -> Session {
    let mut restored = Session::restore(Some(&session.checkpoint()));
    restored.resume();
    restored
}

#[test]
fn nothing_is_acknowledged_before_its_commit_and_then_in_order_of_arrival() {
    let mut session = Session::default();
    take(&mut session, 1, &[(7, 10), (3, 20)]);
    take(&mut session, 2, &[(5, 30)]);
    assert!(answers(&mut session, 0).is_empty());
    assert_eq!(answers(&mut session, 1), [0x40, 2, 0, 7, 0x40, 2, 0, 3]);
    assert_eq!(session.unanswered(), 1);
    assert_eq!(answers(&mut session, 2), [0x40, 2, 0, 5]);
    assert_eq!((session.unanswered(), session.unanswered_bytes()), (0, 0));
}

#[test]
fn what_is_held_of_qos_0_has_a_ticket_to_wait_for_too() {
    let mut session = Session::default();
    assert_eq!(session.publish(0, 0, false, 10), Verdict::Take);
    session.delivered(Some(Ticket(1)), 9);
    assert_eq!((session.next_ticket(), session.unanswered_bytes()), (Some(Ticket(1)), 9));
    assert!(answers(&mut session, 1).is_empty());
    assert_eq!((session.next_ticket(), session.unanswered_bytes()), (None, 0));
}

#[test]
fn answers_of_a_lost_connection_are_never_sent_on_the_next() {
    let mut session = Session::default();
    take(&mut session, 1, &[(1, 10)]);
    session.resume();
    assert!(answers(&mut session, 1).is_empty());
}

#[test]
fn a_redelivery_after_a_crash_is_recognised_and_acknowledged() {
    let mut session = counting();
    take(&mut session, 1, &[(1, 10), (2, 20), (3, 30)]);
    let mut session = crash(&session);
    // The PUBACK of the first had arrived.
    assert_eq!(session.publish(1, 2, true, 20), Verdict::Known);
    assert_eq!(session.publish(1, 3, true, 30), Verdict::Known);
    assert!(!session.changed());
    session.delivered(None, 0);
    assert_eq!(answers(&mut session, 0), [0x40, 2, 0, 2, 0x40, 2, 0, 3]);
}

#[test]
fn without_dup_or_with_another_content_or_id_a_message_is_new() {
    for (id, dup, hash) in [(1, false, 10), (1, true, 12), (2, true, 10)] {
        let mut session = counting();
        take(&mut session, 1, &[(1, 10)]);
        assert_eq!(crash(&session).publish(1, id, dup, hash), Verdict::Take);
    }
}

#[test]
fn the_first_new_message_ends_the_run_and_that_is_saved() {
    let mut session = counting();
    take(&mut session, 1, &[(1, 10), (2, 20)]);
    let mut session = crash(&session);
    take(&mut session, 2, &[(3, 30)]);
    assert_eq!(session.publish(1, 2, true, 20), Verdict::Take);
    session.delivered(Some(Ticket(3)), 0);
    assert_eq!(crash(&session).publish(1, 1, true, 10), Verdict::Take);
}

#[test]
fn a_run_goes_forward_only() {
    let mut session = counting();
    take(&mut session, 1, &[(1, 10), (2, 20)]);
    let mut session = crash(&session);
    assert_eq!(session.publish(1, 2, true, 20), Verdict::Known);
    assert_eq!(session.publish(1, 1, true, 10), Verdict::Take);
}

#[test]
fn a_new_session_at_the_broker_recognises_nothing() {
    let mut session = counting();
    session.set_subscribed(9);
    take(&mut session, 1, &[(1, 10)]);
    assert!(session.begin_login());
    session.start_anew();
    assert!(session.changed(), "the end of the old session is to be committed");
    assert_eq!(session.subscribed(), 0);
    assert_eq!(crash(&session).publish(1, 1, true, 10), Verdict::Take);
}

#[test]
fn a_new_session_at_the_broker_may_be_another_brokers() {
    let mut session = counting();
    session.start_anew();
    assert!(session.changed(), "that it is not known any more is to be committed");
    assert_eq!(session.numbering(), Kind::Unknown);
}

#[test]
fn only_a_login_that_was_answered_knows_what_is_subscribed() {
    let mut session = Session::default();
    assert!(!session.begin_login());
    session.start_anew();
    session.set_subscribed(9);
    assert!(session.begin_login(), "to be committed before the login");
    assert_eq!(Session::restore(Some(&session.checkpoint())).subscribed(), 0);
    session.resume();
    assert_eq!((session.subscribed(), session.changed()), (9, true));
    session.begin_login();
    assert!(!session.begin_login(), "nothing was asked: the broker was not there");
    session.ask();
    session.resume();
    assert_eq!(session.subscribed(), 9);
    session.begin_login();
    session.ask();
    session.begin_login();
    session.ask();
    session.resume();
    assert_eq!(session.subscribed(), 0, "the first login had no answer");
}

/// Two that go on behind an unanswered login and find a session: the process that asked
/// before, and one that is started anew. Both know 7 of QoS 2 and 8 of QoS 1.
fn unsure() -> [Session; 2] {
    let mut session = counting();
    session.set_subscribed(9);
    session.publish(2, 7, false, 70);
    session.publish(1, 8, false, 80);
    session.delivered(Some(Ticket(1)), 2);
    session.begin_login();
    session.ask();
    let restored = Session::restore(Some(&session.checkpoint()));
    [restored, session].map(|mut session| {
        session.begin_login();
        session.ask();
        session.resume();
        assert_eq!(session.subscribed(), 0, "a new session has no subscriptions");
        assert!(session.doubts() && session.idle().is_none());
        session
    })
}

/// A login whose answer was lost may have made a new session, in which other
/// messages have the ids of the old one.
#[test]
fn after_an_unanswered_login_ids_alone_tell_no_redelivery() {
    for mut session in unsure() {
        session.forget_doubtful();
        assert!(session.changed() && !session.doubts(), "what is forgotten is committed");
        assert_eq!(session.publish(2, 7, true, 71), Verdict::Take);
        assert_eq!(session.publish(1, 8, true, 80), Verdict::Known, "known by its content too");
    }
    for mut session in unsure() {
        assert_eq!(session.publish(2, 7, false, 71), Verdict::Take, "it was never sent before");
        session.delivered(Some(Ticket(2)), 0);
        assert_eq!(crash(&session).publish(2, 7, true, 71), Verdict::Known);
    }
}

/// Nothing is delivered in a session in which nothing was subscribed.
#[test]
fn what_is_delivered_again_after_an_unanswered_login_shows_that_the_session_is_the_old_one() {
    for mut session in unsure() {
        assert_eq!(session.publish(2, 7, true, 70), Verdict::Known);
        assert!(!session.doubts());
    }
    for mut session in unsure() {
        assert_eq!(session.publish(1, 8, true, 80), Verdict::Known);
        assert_eq!(session.publish(2, 7, true, 70), Verdict::Known);
    }
    for mut session in unsure() {
        session.release(7);
        assert!(!session.doubts() && session.changed(), "its PUBCOMP waits for a commit");
    }
}

#[test]
fn a_doubt_that_was_not_settled_outlives_the_connection_and_the_process() {
    for mut session in unsure() {
        let mut again = Session::restore(Some(&session.checkpoint()));
        session.begin_login();
        session.ask();
        session.resume();
        assert!(session.doubts());
        again.begin_login();
        again.ask();
        again.resume();
        assert!(again.doubts());
        again.start_anew();
        assert!(!again.doubts() && again.changed());
    }
}

#[test]
fn a_pingresp_drops_what_was_acknowledged_before_its_pingreq_and_no_more() {
    let mut session = counting();
    take(&mut session, 1, &[(1, 10)]);
    answers(&mut session, 1);
    session.ping(&mut Vec::new());
    take(&mut session, 2, &[(2, 20)]);
    answers(&mut session, 2);
    session.pong();
    let mut session = crash(&session);
    assert_eq!(session.publish(1, 2, true, 20), Verdict::Known);
    let mut other = crash(&session);
    assert_eq!(other.publish(1, 1, true, 10), Verdict::Take);
}

#[test]
fn a_proof_is_asked_for_when_enough_is_unproven_and_again_after_twice_as_many() {
    let mut session = counting();
    for n in 0..32 {
        assert!(!session.wants_proof());
        take(&mut session, u64::from(n) + 1, &[(n + 1, 2 * u32::from(n))]);
        answers(&mut session, u64::from(n) + 1);
    }
    assert!(session.wants_proof());
    session.ping(&mut Vec::new());
    for n in 32..96 {
        assert!(!session.wants_proof());
        take(&mut session, u64::from(n) + 1, &[(n + 1, 2 * u32::from(n))]);
        answers(&mut session, u64::from(n) + 1);
    }
    assert!(session.wants_proof(), "the second after twice as many");
    session.ping(&mut Vec::new());
    session.pong();
    session.pong();
    assert!(!session.wants_proof());
}

#[test]
fn a_new_message_beyond_the_receive_maximum_proves_the_oldest_acknowledgements() {
    let mut session = Session::default();
    session.promise(Some(100));
    let all: Vec<_> = (1..=50_000_u16).map(|id| (id, u32::from(id) * 2)).collect();
    let mut longest = 0;
    for (ticket, batch) in (1..).zip(all.chunks(100)) {
        take(&mut session, ticket, batch);
        longest = longest.max(session.checkpoint().len());
        answers(&mut session, ticket);
    }
    assert!(longest < 100 * 4 + 24, "{longest}");
    // Nothing of the last hundred is proven.
    assert_eq!(crash(&session).publish(1, 49_901, true, 49_901 * 2), Verdict::Known);
}

#[test]
fn redeliveries_beyond_the_receive_maximum_prove_nothing() {
    let mut session = counting();
    let messages: Vec<_> = (1..=10_u16).map(|id| (id, u32::from(id) * 2)).collect();
    take(&mut session, 1, &messages);
    let mut session = crash(&session);
    session.promise(Some(2));
    for (id, hash) in &messages {
        assert_eq!(session.publish(1, *id, true, *hash), Verdict::Known);
    }
    session.delivered(None, 0);
    answers(&mut session, 0);
    assert_eq!(crash(&session).publish(1, 1, true, 2), Verdict::Known);
}

#[test]
fn without_any_other_proof_the_list_ends_where_the_ids_come_around() {
    let mut session = Session::default();
    let ids = (1..=u16::MAX).chain(1..=u16::MAX);
    for (ticket, id) in (1..).zip(ids) {
        take(&mut session, ticket, &[(id, 10)]);
        answers(&mut session, ticket);
    }
    assert_eq!(session.entries.len(), usize::from(u16::MAX));
}

#[test]
fn a_new_message_under_the_id_of_an_acknowledged_one_proves_that_one_and_those_before() {
    let mut session = Session::default();
    take(&mut session, 1, &[(1, 10), (2, 20), (3, 30)]);
    answers(&mut session, 1);
    take(&mut session, 2, &[(2, 40)]);
    let ids: Vec<u16> = session.entries.iter().map(|entry| entry.id).collect();
    assert_eq!(ids, [3, 2]);
}

#[test]
fn where_ids_may_be_reused_a_proof_is_asked_for_at_once() {
    let mut session = Session::default();
    assert!(!session.wants_proof());
    take(&mut session, 1, &[(1, 10)]);
    assert!(!session.wants_proof());
    answers(&mut session, 1);
    assert!(session.wants_proof());
    session.ping(&mut Vec::new());
    assert!(!session.wants_proof());
}

#[test]
fn after_a_crash_a_redelivery_is_taken_again_unless_the_broker_counts() {
    for (kind, verdict) in [(0, Verdict::Again), (1, Verdict::Known), (2, Verdict::Again)] {
        let numbering = Numbering::restore([kind, 0, 0]);
        let mut session = Session { numbering, ..Session::default() };
        take(&mut session, 1, &[(1, 10)]);
        assert_eq!(crash(&session).publish(1, 1, true, 10), verdict);
    }
}

#[test]
fn after_a_cut_before_the_last_acknowledgement_all_is_recognised_with_any_broker() {
    let mut session = Session::default();
    take(&mut session, 1, &[(1, 10), (2, 20)]);
    take(&mut session, 2, &[(3, 30)]);
    answers(&mut session, 1);
    session.resume();
    for (id, hash) in [(1, 10), (2, 20), (3, 30)] {
        assert_eq!(session.publish(1, id, true, hash), Verdict::Known);
    }
    // What stands behind them is new, whatever it looks like.
    assert_eq!(session.publish(1, 1, true, 10), Verdict::Take);
}

#[test]
fn after_a_cut_what_was_acknowledged_and_not_proven_is_taken_again_and_then_recognised() {
    let mut session = Session::default();
    take(&mut session, 1, &[(1, 10), (2, 20)]);
    answers(&mut session, 1);
    session.resume();
    assert_eq!(session.publish(1, 1, true, 10), Verdict::Again);
    assert!(session.changed());
    session.delivered(Some(Ticket(2)), 1);
    session.resume();
    assert_eq!(session.publish(1, 1, true, 10), Verdict::Known, "not acknowledged since");
    assert_eq!(session.publish(1, 2, true, 20), Verdict::Again, "still in doubt");
}

#[test]
fn what_was_certain_and_not_delivered_again_before_the_next_cut_stays_certain() {
    let mut session = Session::default();
    take(&mut session, 1, &[(1, 10), (2, 20)]);
    session.resume();
    assert_eq!(session.publish(1, 1, true, 10), Verdict::Known);
    session.delivered(None, 0);
    answers(&mut session, 1);
    session.resume();
    assert_eq!(session.publish(1, 1, true, 10), Verdict::Known);
    assert_eq!(session.publish(1, 2, true, 20), Verdict::Known);
}

#[test]
fn what_was_taken_again_and_never_handed_over_is_taken_once_more() {
    let mut session = Session::default();
    take(&mut session, 1, &[(1, 10)]);
    answers(&mut session, 1);
    session.resume();
    assert_eq!(session.publish(1, 1, true, 10), Verdict::Again);
    session.resume();
    assert_ne!(session.publish(1, 1, true, 10), Verdict::Known);
}

#[test]
fn a_session_saved_by_version_1_keeps_its_ids_and_recognises_no_entry() {
    let mut saved = vec![1];
    saved.extend_from_slice(&9_u64.to_le_bytes());
    saved.extend_from_slice(&[1, 0, 4, 0]);
    saved.extend_from_slice(&[1, 0, 1, 0]);
    saved.extend_from_slice(&10_u32.to_le_bytes());
    let mut session = Session::restore(Some(&saved));
    assert_eq!((session.subscribed(), session.numbering()), (9, Kind::Unknown));
    session.resume();
    assert_eq!(session.publish(2, 4, true, 20), Verdict::Known);
    assert_eq!(session.publish(1, 1, true, 10), Verdict::Again);
}

#[test]
fn what_was_taken_and_never_handed_over_is_new_when_it_comes_again() {
    let mut session = counting();
    session.publish(1, 1, false, 10);
    session.publish(2, 2, false, 20);
    session.resume();
    assert_eq!(session.publish(1, 1, true, 10), Verdict::Take);
    assert_eq!(session.publish(2, 2, true, 20), Verdict::Take);
}

#[test]
fn qos_2_is_received_after_the_commit_and_complete_after_the_commit_that_removes_its_id() {
    let mut session = Session::default();
    assert_eq!(session.publish(2, 4, false, 10), Verdict::Take);
    session.delivered(Some(Ticket(1)), 0);
    assert_eq!(answers(&mut session, 1), [0x50, 2, 0, 4]);
    session.release(4);
    assert!(session.changed(), "a delivery without events");
    session.delivered(Some(Ticket(2)), 0);
    assert!(answers(&mut session, 1).is_empty());
    assert_eq!(answers(&mut session, 2), [0x70, 2, 0, 4]);
}

#[test]
fn a_qos_2_message_that_comes_again_after_a_crash_is_received_and_not_taken() {
    let mut session = Session::default();
    session.publish(2, 4, false, 10);
    session.delivered(Some(Ticket(1)), 0);
    let mut session = crash(&session);
    assert_eq!(session.publish(2, 4, true, 10), Verdict::Known);
    session.delivered(None, 0);
    assert_eq!(answers(&mut session, 0), [0x50, 2, 0, 4]);
    session.release(4);
    session.delivered(Some(Ticket(1)), 0);
    let mut session = crash(&session);
    session.release(4);
    assert!(!session.changed());
    session.delivered(None, 0);
    assert_eq!(answers(&mut session, 0), [0x70, 2, 0, 4], "an unknown release is complete");
}

#[test]
fn a_release_that_was_never_handed_over_is_one_again_when_it_comes_again() {
    let mut session = Session::default();
    session.publish(2, 4, false, 10);
    session.delivered(Some(Ticket(1)), 0);
    session.release(4);
    session.resume();
    session.release(4);
    assert!(session.changed(), "its PUBCOMP waits for the commit that removes the id");
}

#[test]
fn a_checkpoint_holds_four_bytes_a_message_where_ids_count_upwards_and_at_most_eight() {
    let mut session = Session::default();
    let upwards: Vec<_> = (1..=1_000).map(|id| (id, u32::from(id) * 2)).collect();
    take(&mut session, 1, &upwards);
    assert!(session.checkpoint().len() < 4_024);
    let mut session = Session::default();
    let apart: Vec<_> = (1..=1_000).map(|n| (n * 2, u32::from(n) * 2)).collect();
    take(&mut session, 1, &apart);
    assert!(session.checkpoint().len() < 8_024);
}

/// The session after a crash that the messages were in memory for.
fn crash_idle(session: &Session) -> Session {
    let mut restored = Session::restore(session.idle().as_deref());
    restored.resume();
    restored
}

#[test]
fn what_stands_for_messages_in_memory_recognises_nothing() {
    let mut session = counting();
    session.set_subscribed(7);
    take(&mut session, 1, &[(1, 10), (2, 20)]);
    assert_eq!(Session::restore(session.idle().as_deref()).subscribed(), 7);
    let mut after = crash_idle(&session);
    assert_eq!(after.numbering(), Kind::Counts);
    for (id, hash) in [(1, 10), (2, 20)] {
        assert_eq!(after.publish(1, id, true, hash), Verdict::Take);
    }
    // Whatever comes and goes, it stays the same, so that it is written once.
    let idle = session.idle();
    answers(&mut session, 1);
    take(&mut session, 2, &[(3, 30)]);
    assert_eq!(session.idle(), idle);
}

#[test]
fn a_message_of_qos_2_and_the_end_of_its_id_are_never_in_memory_only() {
    let mut session = counting();
    assert_eq!(session.publish(2, 5, false, 10), Verdict::Take);
    assert_eq!(session.idle(), None);
    session.delivered(Some(Ticket(1)), 1);
    take(&mut session, 2, &[(6, 20)]);
    assert_eq!(session.idle(), None, "its id is held");
    session.release(5);
    assert_eq!(session.idle(), None, "its removal comes before PUBCOMP");
    session.delivered(Some(Ticket(3)), 0);
    assert!(session.idle().is_some());
}

#[test]
fn that_a_broker_reuses_ids_is_written_before_messages_are_in_memory_again() {
    let mut session = counting();
    take(&mut session, 1, &[(8, 10)]);
    let idle = session.idle();
    take(&mut session, 2, &[(3, 20)]);
    assert_ne!(session.idle(), idle);
    assert_eq!(crash_idle(&session).numbering(), Kind::Reuses);
}
