//! What was released and comes again all the same.

use super::tests::{answers, counting, crash};
use super::*;

/// Takes a message of QoS 2 under one ticket, and its PUBREL under the next.
fn release(session: &mut Session, ticket: u64, id: u16, hash: u32) {
    assert_eq!(session.publish(2, id, false, hash), Verdict::Take);
    session.delivered(Some(Ticket(ticket)), 1);
    answers(session, ticket);
    session.release(id);
    session.delivered(Some(Ticket(ticket + 1)), 0);
}

/// A session with these messages released and answered, behind 4.
fn released(ids: &[u16]) -> Session {
    let mut session = counting();
    for (ticket, id) in (1..).step_by(2).zip(ids) {
        release(&mut session, ticket, *id, u32::from(*id) * 10);
        assert_eq!(answers(&mut session, ticket + 1).first(), Some(&0x70));
    }
    session
}

/// The connection is lost, and so is the process.
fn both(mut session: Session) -> [Session; 2] {
    let restored = crash(&session);
    session.resume();
    [session, restored]
}

#[test]
fn what_was_released_and_is_published_again_is_known_and_goes_its_way_again() {
    for mut session in both(released(&[5, 6])) {
        assert_eq!(session.publish(2, 5, true, 50), Verdict::Known);
        assert!(!session.changed());
        session.delivered(None, 0);
        assert_eq!(answers(&mut session, 9), [0x50, 2, 0, 5]);
        assert_eq!(session.publish(2, 5, true, 50), Verdict::Known, "now by its id");
        session.release(5);
        assert!(session.changed(), "its PUBCOMP waits for the commit that removes the id");
        session.delivered(Some(Ticket(10)), 0);
        assert_eq!(session.publish(2, 6, true, 60), Verdict::Known);
        let mut again = crash(&session);
        assert_eq!(again.publish(2, 5, true, 50), Verdict::Known, "released once more");
    }
}

#[test]
fn what_is_released_again_and_broken_off_is_known_when_it_is_published() {
    for mut session in both(released(&[5, 6])) {
        session.release(5);
        assert!(!session.changed());
        session.delivered(None, 0);
        answers(&mut session, 9);
        for mut session in both(session) {
            assert_eq!(session.publish(2, 5, true, 50), Verdict::Known);
            assert_eq!(session.publish(2, 6, true, 60), Verdict::Known);
        }
    }
}

#[test]
fn with_a_broker_that_may_reuse_ids_it_is_taken_again() {
    for kind in [0, 2] {
        let mut session = released(&[5]);
        session.numbering = Numbering::restore([kind, 5, 0]);
        for mut session in both(session) {
            assert_eq!(session.publish(2, 5, true, 50), Verdict::Again);
            assert!(session.changed());
        }
    }
}

#[test]
fn without_dup_or_with_another_content_it_is_a_new_message() {
    for (dup, hash) in [(false, 50), (true, 51)] {
        for mut session in both(released(&[5, 6])) {
            assert_eq!(session.publish(2, 5, dup, hash), Verdict::Take);
            session.delivered(Some(Ticket(9)), 1);
            assert_eq!(session.publish(2, 6, true, 60), Verdict::Take, "what is new ends it");
        }
    }
}

#[test]
fn a_message_that_was_never_seen_ends_what_may_come_again_and_that_is_saved() {
    for (qos, dup) in [(1, false), (1, true), (2, false), (2, true)] {
        for mut session in both(released(&[5])) {
            assert_eq!(session.publish(qos, 6, dup, 60), Verdict::Take);
            session.delivered(Some(Ticket(9)), 1);
            assert_eq!(crash(&session).publish(2, 5, true, 50), Verdict::Take);
            assert_eq!(session.publish(2, 5, true, 50), Verdict::Take);
        }
    }
    // One of QoS 1 that comes again is not new.
    let mut session = counting();
    session.publish(1, 4, false, 40);
    release(&mut session, 1, 5, 50);
    for mut session in both(session) {
        assert_eq!(session.publish(1, 4, true, 40), Verdict::Known);
        assert_eq!(session.publish(2, 5, true, 50), Verdict::Known);
    }
}

/// A broker with all ids in flight but that of the released message may give it again.
#[test]
fn once_the_count_has_gone_on_by_half_of_all_ids_what_looks_the_same_is_taken() {
    for (ahead, verdict) in [(1 << 15, Verdict::Again), ((1 << 15) - 1, Verdict::Known)] {
        let mut session = released(&[40_000]);
        let newest = 40_000_u16.wrapping_add(ahead);
        assert_eq!(session.publish(2, newest, false, 1), Verdict::Take);
        session.delivered(Some(Ticket(9)), 1);
        for mut session in both(session) {
            assert_eq!(session.publish(2, newest, true, 1), Verdict::Known);
            assert_eq!(session.publish(2, 40_000, true, 400_000), verdict);
        }
    }
}

#[test]
fn a_pingresp_drops_what_was_complete_before_its_pingreq_and_no_more() {
    let mut session = released(&[5]);
    session.ping(&mut Vec::new());
    release(&mut session, 9, 6, 60);
    answers(&mut session, 10);
    release(&mut session, 11, 7, 70);
    session.pong();
    session.ping(&mut Vec::new());
    let acked = crash(&session).publish(2, 5, true, 50);
    assert_eq!(acked, Verdict::Take);
    assert_eq!(crash(&session).publish(2, 6, true, 60), Verdict::Known);
    session.pong();
    assert_eq!(crash(&session).publish(2, 6, true, 60), Verdict::Take);
    assert_eq!(crash(&session).publish(2, 7, true, 70), Verdict::Known, "it is not answered");
}

#[test]
fn pubacks_and_pubcomps_are_counted_apart() {
    let mut session = released(&[5]);
    session.publish(1, 6, false, 60);
    session.delivered(Some(Ticket(9)), 1);
    session.ping(&mut Vec::new());
    answers(&mut session, 9);
    session.pong();
    assert_eq!(crash(&session).publish(1, 6, true, 60), Verdict::Known, "one answer, not two");
}

#[test]
fn a_broker_of_qos_2_alone_is_learned_with_a_few_pings_and_then_asked_seldom() {
    let mut session = Session::default();
    let mut pings = 0;
    for id in 1..=200 {
        release(&mut session, u64::from(id) * 2, id, 7);
        answers(&mut session, u64::from(id) * 2 + 1);
        if session.wants_proof() {
            pings += 1;
            session.ping(&mut Vec::new());
            assert!(!session.wants_proof());
            session.pong();
        }
        assert!(session.checkpoint().len() < 200, "a quiet source's is short");
    }
    assert_eq!(session.numbering(), Kind::Counts);
    assert!((5..=12).contains(&pings), "{pings}");
}

#[test]
fn a_release_that_was_never_handed_over_keeps_its_content() {
    let mut session = counting();
    session.publish(2, 5, false, 50);
    session.delivered(Some(Ticket(1)), 1);
    session.release(5);
    session.resume();
    session.release(5);
    session.delivered(Some(Ticket(2)), 0);
    assert_eq!(crash(&session).publish(2, 5, true, 50), Verdict::Known);
}

#[test]
fn a_new_session_at_the_broker_knows_nothing_of_it() {
    let mut session = released(&[5]);
    session.numbering = Numbering::default();
    session.start_anew();
    assert!(session.changed(), "that it is forgotten is to be committed");
    assert_eq!(crash(&session).released.len(), 0);
}

/// The login went unanswered before, and now there is a session.
fn unsure() -> [Session; 2] {
    let mut session = released(&[5, 6]);
    session.set_subscribed(9);
    session.begin_login();
    session.ask();
    let restored = Session::restore(Some(&session.checkpoint()));
    [restored, session].map(|mut session| {
        session.begin_login();
        session.ask();
        session.resume();
        assert!(session.doubts());
        session
    })
}

#[test]
fn after_an_unanswered_login_released_messages_are_in_doubt_too() {
    for mut session in unsure() {
        session.begin_login();
        session.ask();
        session.resume();
        assert!(session.doubts(), "it outlives the connection");
        session.forget_doubtful();
        assert!(session.changed() && !session.doubts(), "what is forgotten is committed");
        assert_eq!(crash(&session).publish(2, 5, true, 50), Verdict::Take);
        assert_eq!(session.publish(2, 5, true, 50), Verdict::Take);
    }
    for mut session in unsure() {
        assert_eq!(session.publish(2, 6, true, 60), Verdict::Known);
        assert!(!session.doubts(), "what comes again shows that the session is the old one");
    }
    for mut session in unsure() {
        session.release(5);
        assert!(!session.doubts());
        assert_eq!(session.publish(2, 6, true, 60), Verdict::Known);
    }
}

#[test]
fn a_checkpoint_holds_four_bytes_a_released_message_where_ids_count_upwards() {
    let mut session = counting();
    for id in 1..=1_000 {
        session.publish(2, id, false, u32::from(id));
    }
    assert!(session.checkpoint().len() < 4_024);
    for id in 1..=1_000 {
        session.release(id);
    }
    assert!(session.checkpoint().len() < 4_024);
    session.delivered(Some(Ticket(1)), 1);
    let mut session = crash(&session);
    assert_eq!(session.publish(2, 777, true, 777), Verdict::Known);
}

#[test]
fn ids_that_were_saved_without_a_content_are_known_while_they_are_held_and_not_when_released() {
    let mut saved = vec![2, 1, 4, 0];
    saved.extend_from_slice(&9_u64.to_le_bytes());
    saved.extend_from_slice(&[1, 0, 4, 0]);
    let mut session = crash(&Session::restore(Some(&saved)));
    assert_eq!(session.publish(2, 4, true, 0), Verdict::Known);
    session.delivered(None, 0);
    session.release(4);
    assert!(session.changed());
    session.delivered(Some(Ticket(1)), 0);
    for mut session in both(session) {
        assert_eq!(session.publish(2, 4, true, 0), Verdict::Take);
    }
}

/// SAFETY 22: an old entry must not be taken for a message that is in memory only.
#[test]
fn what_stands_for_messages_in_memory_knows_nothing_released() {
    let mut session = released(&[5]);
    session.publish(1, 6, false, 60);
    let idle = session.idle().expect("nothing of QoS 2 is held");
    assert_eq!(crash(&Session::restore(Some(&idle))).publish(2, 5, true, 50), Verdict::Take);
}
