//! The session against a model of a broker with QoS 2 that publishes again what it has
//! released, as mosquitto does where it is cut while it sends its PUBRELs again.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
struct Flight {
    id: u16,
    number: u32,
    /// Its PUBREC came.
    received: bool,
}

/// A broker with a window, the wires between, and the file. Each third message is of QoS 1.
#[derive(Debug, Default)]
struct World {
    reuses: bool,
    /// So many contents come in turn; 0: each has its own.
    contents: u32,
    published: u32,
    queue: VecDeque<u32>,
    last_id: u16,
    inflight: Vec<Flight>,
    /// The broker was cut while it delivered again.
    broken: bool,
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
    Publish { id: u16, dup: bool, number: u32 },
    Release(u16),
    Pong,
}

#[derive(Debug, Clone)]
enum Step {
    Publish,
    BrokerSends,
    ClientReads(usize),
    ClientHandsOver,
    Commit,
    ClientAnswers {
        ping: bool,
    },
    BrokerReads(usize),
    /// The broker reads so much before, and delivers so much again behind it.
    Cut {
        arrives: usize,
        again: usize,
    },
    Crash {
        arrives: usize,
        again: usize,
    },
}

const WINDOW: usize = 6;

fn is_qos_1(number: u32) -> bool {
    number % 3 == 2
}

impl World {
    /// A world in which the session has learned how the broker counts.
    fn learned(last_id: u16, contents: u32) -> Self {
        let mut world = Self { contents, last_id, ..Self::default() };
        for _ in 0..8 {
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
                    && !self.broken
                    && let Some(number) = self.queue.pop_front()
                {
                    let id = self.free_id();
                    self.inflight.push(Flight { id, number, received: false });
                    self.to_client.push_back(Wire::Publish { id, dup: false, number });
                }
            }
            Step::ClientReads(packets) => {
                for _ in 0..*packets {
                    self.client_reads();
                }
            }
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
            Step::Cut { arrives, again } => {
                self.step(&Step::BrokerReads(*arrives));
                while !self.handed.is_empty() {
                    self.step(&Step::Commit);
                }
                self.reconnect(*again);
            }
            Step::Crash { arrives, again } => {
                self.step(&Step::BrokerReads(*arrives));
                self.handed.clear();
                self.tickets = 0;
                self.durable = Ticket(0);
                self.session = Session::restore(self.saved.as_deref());
                self.reconnect(*again);
            }
        }
    }

    fn free_id(&mut self) -> u16 {
        let free = |id: &u16| self.inflight.iter().all(|flight| flight.id != *id);
        self.last_id = if self.reuses {
            (1..=u16::MAX).find(free).unwrap()
        } else {
            self.last_id % u16::MAX + 1
        };
        self.last_id
    }

    fn client_reads(&mut self) {
        let (id, dup, number) = match self.to_client.pop_front() {
            Some(Wire::Publish { id, dup, number }) => (id, dup, number),
            Some(Wire::Release(id)) => return self.session.release(id),
            Some(Wire::Pong) => return self.session.pong(),
            None => return,
        };
        let qos = if is_qos_1(number) { 1 } else { 2 };
        let content = if self.contents == 0 { number } else { number % self.contents };
        if self.session.publish(qos, id, dup, content + 1) != Verdict::Known {
            self.taken.push(number);
        }
    }

    fn broker_reads(&mut self) {
        let Some(kind) = self.to_broker.pop_front() else { return };
        let length = usize::from(self.to_broker.pop_front().unwrap());
        let rest: Vec<u8> = self.to_broker.drain(..length).collect();
        if self.broken {
            return;
        }
        if kind == 0xC0 {
            return self.to_client.push_back(Wire::Pong);
        }
        let id = u16::from_be_bytes([rest[0], rest[1]]);
        let place = self.inflight.iter().position(|flight| flight.id == id);
        match (kind, place) {
            (0x40 | 0x70, Some(place)) => drop(self.inflight.remove(place)),
            (0x50, Some(place)) => {
                self.inflight[place].received = true;
                self.to_client.push_back(Wire::Release(id));
            }
            // A PUBREL that was sent twice is answered twice.
            (0x50 | 0x70, None) => {}
            _ => panic!("{kind:#x} for {id}, which is not in flight"),
        }
    }

    /// The broker delivers again what it holds, the first so many of it.
    fn reconnect(&mut self, again: usize) {
        self.taken.clear();
        self.session.resume();
        self.to_broker.clear();
        self.to_client.clear();
        self.broken = again < self.inflight.len();
        for (place, flight) in self.inflight.iter_mut().enumerate() {
            let Flight { id, number, received } = *flight;
            if place >= again {
                // The fault: it is published at the next login.
                flight.received = false;
            } else if received {
                self.to_client.push_back(Wire::Release(id));
            } else {
                self.to_client.push_back(Wire::Publish { id, dup: true, number });
            }
        }
    }

    /// Until all is acknowledged, and that is proven.
    fn settle(&mut self) {
        if self.broken {
            self.step(&Step::Cut { arrives: 0, again: usize::MAX });
        }
        while !(self.queue.is_empty() && self.inflight.is_empty()) {
            self.step(&Step::BrokerSends);
            self.step(&Step::ClientReads(2));
            self.step(&Step::ClientHandsOver);
            self.step(&Step::Commit);
            self.step(&Step::ClientAnswers { ping: true });
            self.step(&Step::BrokerReads(3));
        }
        while !self.to_broker.is_empty() || !self.to_client.is_empty() {
            self.step(&Step::BrokerReads(1));
            self.step(&Step::ClientReads(1));
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
    let ends = || (0..6_usize, prop_oneof![1 => 0..WINDOW, 1 => Just(usize::MAX)]);
    let step = prop_oneof![
        6 => Just(Step::Publish),
        8 => Just(Step::BrokerSends),
        8 => (1..4_usize).prop_map(Step::ClientReads),
        6 => Just(Step::ClientHandsOver),
        6 => Just(Step::Commit),
        6 => any::<bool>().prop_map(|ping| Step::ClientAnswers { ping }),
        8 => (1..4_usize).prop_map(Step::BrokerReads),
        1 => ends().prop_map(|(arrives, again)| Step::Cut { arrives, again }),
        1 => ends().prop_map(|(arrives, again)| Step::Crash { arrives, again }),
    ];
    proptest::collection::vec(step, 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Also of contents that come again and again, and while the count comes around.
    #[test]
    fn a_broker_that_counts_has_each_message_taken_once_though_it_publishes_released_ones(
        last_id in prop_oneof![Just(0), Just(u16::MAX - 20)],
        contents in 0..4_u32,
        steps in steps()
    ) {
        let mut world = World::learned(last_id, contents);
        world.run(&steps);
        prop_assert_eq!(&world.file, &world.all());
    }

    #[test]
    fn with_a_broker_that_is_not_known_no_message_is_lost(
        reuses: bool,
        contents in 0..4_u32,
        steps in steps()
    ) {
        let mut world = World { reuses, contents, ..World::default() };
        world.run(&steps);
        let mut seen = BTreeSet::new();
        let first: Vec<u32> = world.file.iter().copied().filter(|n| seen.insert(*n)).collect();
        prop_assert_eq!(&first, &world.all());
        prop_assert!(!reuses || world.session.numbering() != Kind::Counts);
    }
}
