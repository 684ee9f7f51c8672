use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// Takes a batch of QoS 1 messages under one ticket.
fn take(session: &mut Session, ticket: u64, messages: &[(u16, u32)]) {
    for (id, hash) in messages {
        assert_eq!(session.publish(1, *id, false, *hash), Verdict::Take);
    }
    session.delivered(Some(Ticket(ticket)), messages.len());
}

fn answers(session: &mut Session, committed: u64) -> Vec<u8> {
    let mut out = Vec::new();
    session.answer(Ticket(committed), &mut out);
    out
}

fn crash(session: &Session) -> Session {
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
    let mut session = Session::default();
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
        let mut session = Session::default();
        take(&mut session, 1, &[(1, 10)]);
        assert_eq!(crash(&session).publish(1, id, dup, hash), Verdict::Take);
    }
}

#[test]
fn the_first_new_message_ends_the_run_and_that_is_saved() {
    let mut session = Session::default();
    take(&mut session, 1, &[(1, 10), (2, 20)]);
    let mut session = crash(&session);
    take(&mut session, 2, &[(3, 30)]);
    assert_eq!(session.publish(1, 2, true, 20), Verdict::Take);
    session.delivered(Some(Ticket(3)), 0);
    assert_eq!(crash(&session).publish(1, 1, true, 10), Verdict::Take);
}

#[test]
fn a_run_goes_forward_only() {
    let mut session = Session::default();
    take(&mut session, 1, &[(1, 10), (2, 20)]);
    let mut session = crash(&session);
    assert_eq!(session.publish(1, 2, true, 20), Verdict::Known);
    assert_eq!(session.publish(1, 1, true, 10), Verdict::Take);
}

#[test]
fn a_new_session_at_the_broker_recognises_nothing() {
    let mut session = Session::default();
    session.set_subscribed(9);
    take(&mut session, 1, &[(1, 10)]);
    assert!(session.begin_login());
    session.start_anew();
    assert!(session.changed(), "the end of the old session is to be committed");
    assert_eq!(session.subscribed(), 0);
    assert_eq!(crash(&session).publish(1, 1, true, 10), Verdict::Take);
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
    session.begin_login();
    session.resume();
    assert_eq!(session.subscribed(), 0, "the first login had no answer");
}

#[test]
fn a_pingresp_drops_what_was_acknowledged_before_its_pingreq_and_no_more() {
    let mut session = Session::default();
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
    let mut session = Session::default();
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
    assert!(longest < 100 * 4 + 20, "{longest}");
    // Nothing of the last hundred is proven.
    assert_eq!(crash(&session).publish(1, 49_901, true, 49_901 * 2), Verdict::Known);
}

#[test]
fn redeliveries_beyond_the_receive_maximum_prove_nothing() {
    let mut session = Session::default();
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
fn a_content_that_came_twice_under_one_id_is_taken_again_rather_than_lost() {
    let mut session = Session::default();
    take(&mut session, 1, &[(1, 10)]);
    answers(&mut session, 1);
    take(&mut session, 2, &[(1, 10)]);
    let mut session = crash(&session);
    assert_eq!(session.publish(1, 1, true, 10), Verdict::Known, "the first was unique then");
    let mut session = crash(&session);
    session.publish(1, 1, true, 10);
    assert_eq!(session.publish(1, 1, true, 10), Verdict::Take);
}

#[test]
fn what_was_taken_and_never_handed_over_is_new_when_it_comes_again() {
    let mut session = Session::default();
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
    assert!(session.checkpoint().len() < 4_020);
    let mut session = Session::default();
    let apart: Vec<_> = (1..=1_000).map(|n| (n * 2, u32::from(n) * 2)).collect();
    take(&mut session, 1, &apart);
    assert!(session.checkpoint().len() < 8_020);
}

/// A broker with a window that reuses the lowest free id at once, the wires
/// between, and the file.
#[derive(Debug, Default)]
struct World {
    /// Whether the broker was told its window as the Receive Maximum.
    version_5: bool,
    published: u32,
    queue: VecDeque<u32>,
    /// What the broker holds un-acknowledged, in order of first sending.
    inflight: Vec<(u16, u32)>,
    to_client: VecDeque<Wire>,
    to_broker: VecDeque<u8>,
    session: Session,
    taken: Vec<u32>,
    handed: VecDeque<(Ticket, Vec<u32>, Vec<u8>)>,
    tickets: u64,
    durable: Ticket,
    file: Vec<u32>,
    saved: Option<Vec<u8>>,
}

#[derive(Debug)]
enum Wire {
    Publish { id: u16, dup: bool, content: u32 },
    Pong,
}

#[derive(Debug, Clone)]
enum Step {
    Publish,
    BrokerSends,
    ClientReads,
    ClientHandsOver,
    Commit,
    ClientAnswers { ping: bool },
    BrokerReads(usize),
    Cut { arrives: usize },
    Crash { arrives: usize },
}

const WINDOW: usize = 4;

impl World {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Publish => {
                self.queue.push_back(self.published);
                self.published += 1;
            }
            Step::BrokerSends => {
                if self.inflight.len() < WINDOW
                    && let Some(content) = self.queue.pop_front()
                {
                    let id = (1..=u16::MAX)
                        .find(|id| self.inflight.iter().all(|(o, _)| o != id))
                        .unwrap();
                    self.inflight.push((id, content));
                    self.to_client.push_back(Wire::Publish { id, dup: false, content });
                }
            }
            Step::ClientReads => match self.to_client.pop_front() {
                Some(Wire::Pong) => self.session.pong(),
                Some(Wire::Publish { id, dup, content })
                    if self.session.publish(1, id, dup, content << 1) == Verdict::Take =>
                {
                    self.taken.push(content);
                }
                Some(Wire::Publish { .. }) | None => {}
            },
            Step::ClientHandsOver => {
                let ticket = self.session.changed().then(|| {
                    self.tickets += 1;
                    let taken = std::mem::take(&mut self.taken);
                    let delivery = (Ticket(self.tickets), taken, self.session.checkpoint());
                    self.handed.push_back(delivery);
                    Ticket(self.tickets)
                });
                self.session.delivered(ticket, 1);
            }
            Step::Commit => {
                if let Some((ticket, events, checkpoint)) = self.handed.pop_front() {
                    self.durable = ticket;
                    self.file.extend(events);
                    self.saved = Some(checkpoint);
                }
            }
            Step::ClientAnswers { ping } => {
                let mut out = Vec::new();
                self.session.answer(self.durable, &mut out);
                if *ping {
                    self.session.ping(&mut out);
                }
                self.to_broker.extend(out);
            }
            Step::BrokerReads(packets) => {
                for _ in 0..*packets {
                    self.broker_reads();
                }
            }
            Step::Cut { arrives } => {
                self.step(&Step::BrokerReads(*arrives));
                while !self.handed.is_empty() {
                    self.step(&Step::Commit);
                }
                self.taken.clear();
                self.session.resume();
                self.session.promise(self.promised());
                self.redeliver();
            }
            Step::Crash { arrives } => {
                self.step(&Step::BrokerReads(*arrives));
                self.handed.clear();
                self.taken.clear();
                self.tickets = 0;
                self.durable = Ticket(0);
                self.session = Session::restore(self.saved.as_deref());
                self.session.resume();
                self.session.promise(self.promised());
                self.redeliver();
            }
        }
    }

    fn promised(&self) -> Option<u16> {
        self.version_5.then_some(4)
    }

    fn broker_reads(&mut self) {
        match self.to_broker.pop_front() {
            Some(0x40) => {
                let rest: Vec<u8> = self.to_broker.drain(..3).collect();
                let id = u16::from_be_bytes([rest[1], rest[2]]);
                let place = self.inflight.iter().position(|(held, _)| *held == id);
                self.inflight.remove(place.expect("only what is in flight is acknowledged"));
            }
            Some(0xC0) => {
                self.to_broker.pop_front();
                self.to_client.push_back(Wire::Pong);
            }
            Some(other) => panic!("unexpected {other:#x}"),
            None => {}
        }
    }

    fn redeliver(&mut self) {
        self.to_broker.clear();
        self.to_client.clear();
        for (id, content) in &self.inflight {
            self.to_client.push_back(Wire::Publish { id: *id, dup: true, content: *content });
        }
    }

    fn settle(&mut self) {
        while !(self.queue.is_empty() && self.inflight.is_empty()) {
            self.step(&Step::BrokerSends);
            self.step(&Step::ClientReads);
            self.step(&Step::ClientHandsOver);
            self.step(&Step::Commit);
            self.step(&Step::ClientAnswers { ping: false });
            self.step(&Step::BrokerReads(1));
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Publish),
        8 => Just(Step::BrokerSends),
        8 => Just(Step::ClientReads),
        6 => Just(Step::ClientHandsOver),
        5 => Just(Step::Commit),
        5 => any::<bool>().prop_map(|ping| Step::ClientAnswers { ping }),
        6 => (1..4_usize).prop_map(Step::BrokerReads),
        1 => (0..6_usize).prop_map(|arrives| Step::Cut { arrives }),
        1 => (0..6_usize).prop_map(|arrives| Step::Crash { arrives }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_is_cut_or_crashes_each_message_is_taken_once_and_in_order(
        version_5: bool,
        steps in proptest::collection::vec(step(), 1..250)
    ) {
        let mut world = World { version_5, ..World::default() };
        world.session.promise(world.promised());
        for step in &steps {
            world.step(step);
        }
        world.settle();
        let all: Vec<u32> = (0..world.published).collect();
        prop_assert_eq!(&world.file, &all);
    }

    #[test]
    fn any_saved_bytes_give_a_session(bytes: Vec<u8>) {
        let session = Session::restore(Some(&bytes));
        let again = Session::restore(Some(&session.checkpoint()));
        prop_assert_eq!(session.checkpoint(), again.checkpoint());
    }
}
