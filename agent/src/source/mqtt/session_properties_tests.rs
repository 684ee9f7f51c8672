//! The session against a model of a broker, the wires between, and the file.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

/// How the broker chooses the id of a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Broker {
    #[default]
    CountsUp,
    TakesTheLowest,
}

/// A broker with a window, the wires between, and the file. Messages are numbered;
/// the session sees their contents alone.
#[derive(Debug, Default)]
struct World {
    broker: Broker,
    /// Whether the broker was told its window as the Receive Maximum.
    version_5: bool,
    /// So many contents come in turn; 0: each has its own.
    contents: u32,
    published: u32,
    queue: VecDeque<u32>,
    last_id: u16,
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
    /// Read on this connection: since the last delivery, handed over, and
    /// acknowledged.
    read: Vec<u32>,
    waiting: VecDeque<u32>,
    acknowledged: Vec<u32>,
    /// What the broker holds for certain and has not delivered again.
    certain: BTreeSet<u32>,
    /// What may be taken a second time.
    doubt: BTreeSet<u32>,
}

#[derive(Debug)]
enum Wire {
    Publish { id: u16, dup: bool, number: u32 },
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
    /// A world in which the session has learned how the broker counts.
    fn learned(version_5: bool, contents: u32) -> Self {
        let mut world = Self { version_5, contents, ..Self::default() };
        world.session.promise(world.promised());
        for _ in 0..6 {
            world.step(&Step::Publish);
            world.settle();
        }
        assert_eq!(world.session.numbering(), Kind::Counts);
        world
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Publish => {
                self.queue.push_back(self.published);
                self.published += 1;
            }
            Step::BrokerSends => {
                if self.inflight.len() < WINDOW
                    && let Some(number) = self.queue.pop_front()
                {
                    let id = self.free_id();
                    self.inflight.push((id, number));
                    self.to_client.push_back(Wire::Publish { id, dup: false, number });
                }
            }
            Step::ClientReads => match self.to_client.pop_front() {
                Some(Wire::Pong) => self.session.pong(),
                Some(Wire::Publish { id, dup, number }) => self.client_reads(id, dup, number),
                None => {}
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
                self.waiting.extend(self.read.drain(..));
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
                let count = self.session.answer(self.durable, &mut out);
                self.acknowledged.extend(self.waiting.drain(..count));
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
                // In order a message that was not acknowledged vouches for those before.
                if self.waiting.is_empty() && self.certain.is_empty() {
                    self.doubt.extend(&self.acknowledged);
                }
                self.certain.extend(self.waiting.drain(..));
                self.doubt.retain(|number| !self.certain.contains(number));
                self.reconnect();
            }
            Step::Crash { arrives } => {
                self.step(&Step::BrokerReads(*arrives));
                self.handed.clear();
                self.tickets = 0;
                self.durable = Ticket(0);
                self.session = Session::restore(self.saved.as_deref());
                self.waiting.clear();
                self.certain.clear();
                self.doubt.extend(&self.file);
                self.reconnect();
            }
        }
    }

    fn promised(&self) -> Option<u16> {
        self.version_5.then_some(4)
    }

    fn free_id(&mut self) -> u16 {
        let free = |id: &u16| self.inflight.iter().all(|(held, _)| held != id);
        let id = match self.broker {
            Broker::CountsUp => self.last_id + 1,
            Broker::TakesTheLowest => (1..=u16::MAX).find(free).unwrap(),
        };
        self.last_id = id;
        id
    }

    fn client_reads(&mut self, id: u16, dup: bool, number: u32) {
        let content = if self.contents == 0 { number } else { number % self.contents };
        self.read.push(number);
        self.certain.remove(&number);
        if self.session.publish(1, id, dup, content) == Verdict::Known {
            return;
        }
        let twice = self.file.contains(&number)
            || self.handed.iter().any(|(_, events, _)| events.contains(&number));
        assert!(!twice || self.doubt.contains(&number), "{number} is taken twice without a doubt");
        self.taken.push(number);
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

    /// The broker delivers again what it holds.
    fn reconnect(&mut self) {
        self.taken.clear();
        self.read.clear();
        self.acknowledged.clear();
        self.session.resume();
        self.session.promise(self.promised());
        self.to_broker.clear();
        self.to_client.clear();
        for (id, number) in &self.inflight {
            self.to_client.push_back(Wire::Publish { id: *id, dup: true, number: *number });
        }
    }

    /// Until all is acknowledged, and that is proven.
    fn settle(&mut self) {
        while !(self.queue.is_empty() && self.inflight.is_empty()) {
            self.step(&Step::BrokerSends);
            self.step(&Step::ClientReads);
            self.step(&Step::ClientHandsOver);
            self.step(&Step::Commit);
            self.step(&Step::ClientAnswers { ping: true });
            self.step(&Step::BrokerReads(2));
        }
        while !self.to_broker.is_empty() || !self.to_client.is_empty() {
            self.step(&Step::BrokerReads(1));
            self.step(&Step::ClientReads);
        }
    }

    fn run(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
        }
        self.settle();
    }

    fn all(&self) -> Vec<u32> {
        (0..self.published).collect()
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Publish),
        8 => Just(Step::BrokerSends),
        8 => Just(Step::ClientReads),
        6 => Just(Step::ClientHandsOver),
        5 => Just(Step::Commit),
        5 => any::<bool>().prop_map(|ping| Step::ClientAnswers { ping }),
        6 => (1..4_usize).prop_map(Step::BrokerReads),
        1 => (0..6_usize).prop_map(|arrives| Step::Cut { arrives }),
        1 => (0..6_usize).prop_map(|arrives| Step::Crash { arrives }),
    ];
    proptest::collection::vec(step, 1..250)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Also of contents that come again and again.
    #[test]
    fn whatever_is_cut_or_crashes_a_broker_that_counts_has_each_message_taken_once_and_in_order(
        version_5: bool,
        contents in 0..4_u32,
        steps in steps()
    ) {
        let mut world = World::learned(version_5, contents);
        world.run(&steps);
        prop_assert_eq!(&world.file, &world.all());
    }

    /// The world itself holds that nothing is taken twice without a doubt.
    #[test]
    fn whatever_is_cut_or_crashes_no_message_is_lost_with_any_broker_that_is_not_known(
        lowest: bool,
        version_5: bool,
        contents in 0..4_u32,
        steps in steps()
    ) {
        let broker = if lowest { Broker::TakesTheLowest } else { Broker::CountsUp };
        let mut world = World { broker, version_5, contents, ..World::default() };
        world.session.promise(world.promised());
        world.run(&steps);
        let mut seen = BTreeSet::new();
        let first: Vec<u32> = world.file.iter().copied().filter(|n| seen.insert(*n)).collect();
        prop_assert_eq!(&first, &world.all());
        prop_assert!(!lowest || world.session.numbering() != Kind::Counts);
    }

    #[test]
    fn any_saved_bytes_give_a_session(bytes: Vec<u8>) {
        let session = Session::restore(Some(&bytes));
        let again = Session::restore(Some(&session.checkpoint()));
        prop_assert_eq!(session.checkpoint(), again.checkpoint());
    }
}
