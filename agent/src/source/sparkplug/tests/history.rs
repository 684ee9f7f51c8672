//! Random histories against the truth: an edge node whose aliases mean something else in
//! each session, whose device changes them within one, and which loses messages, sends them twice, dies, and is not heard at all
//! while the connection is down.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::edge::{Bench, Edge, Sent, metric};
use crate::decode::sparkplug::proto::Metric;
use crate::event::{Event, Quality, Value};

/// Aliases of the node; its device has as many from 100 on.
const ALIASES: u64 = 4;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// A rebirth, also one that nobody asked for; with the device or without.
    Birth(bool),
    Data {
        of_device: bool,
        alias: u64,
    },
    /// The same, and it does not arrive.
    Lost {
        of_device: bool,
        alias: u64,
    },
    /// It begins a new session. Its birth may be lost; its will may come after that.
    Restart {
        birth_is_lost: bool,
        is_late: bool,
    },
    DeviceDeath,
    /// The device is born again without its node, with other aliases.
    Change,
    /// So many messages ago comes once more.
    Again(usize),
    Retained,
    Disconnect,
    Connect,
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => any::<bool>().prop_map(Step::Birth),
        12 => (any::<bool>(), 0..ALIASES)
            .prop_map(|(of_device, alias)| Step::Data { of_device, alias }),
        2 => (any::<bool>(), 0..ALIASES)
            .prop_map(|(of_device, alias)| Step::Lost { of_device, alias }),
        2 => any::<(bool, bool)>()
            .prop_map(|(birth_is_lost, is_late)| Step::Restart { birth_is_lost, is_late }),
        1 => Just(Step::DeviceDeath),
        2 => Just(Step::Change),
        1 => (1..6_usize).prop_map(Step::Again),
        1 => Just(Step::Retained),
        1 => Just(Step::Disconnect),
        3 => Just(Step::Connect),
        1 => (1..100_u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..120)
}

struct World {
    bench: Bench,
    edge: Edge,
    connected: bool,
    /// Whether the host has a birth of this session.
    is_known: bool,
    /// How often the device's aliases have changed.
    version: u64,
    /// Whether the device was born behind the node's last birth. Else its aliases are those
    /// that it had before.
    is_born: bool,
    next: i32,
    /// What each value is truly called.
    truth: BTreeMap<i32, (String, String)>,
    /// Values that arrived.
    arrived: Vec<i32>,
    sent: Vec<Sent>,
    events: Vec<Event>,
}

impl World {
    fn metric(&mut self, of_device: bool, alias: u64, named: bool) -> Metric {
        self.next += 1;
        let version = if of_device { self.version } else { 0 };
        let name = format!("m{}", (alias + self.edge.session) % (ALIASES + 1) + version);
        let device = if of_device { "n/d" } else { "n" };
        self.truth.insert(self.next, (device.to_owned(), name.clone()));
        let alias = if of_device { alias + 100 } else { alias };
        metric(named.then_some(&name), Some(alias), self.next)
    }

    fn metrics(&mut self, of_device: bool) -> Vec<Metric> {
        (0..ALIASES).map(|alias| self.metric(of_device, alias, true)).collect()
    }

    /// Gives whether it arrives.
    fn deliver(&mut self, message: Sent, values: std::ops::Range<i32>) -> bool {
        if self.connected {
            let events = self.bench.hear(&message);
            self.events.extend(events);
            self.arrived.extend(values);
        }
        self.sent.push(message);
        self.connected
    }

    fn birth(&mut self, with_device: bool) {
        let first = self.next + 1;
        let metrics = self.metrics(false);
        let message = self.edge.birth(metrics);
        self.is_born = false;
        self.is_known |= self.deliver(message, first..self.next + 1);
        if with_device {
            self.device_birth();
        }
    }

    fn device_birth(&mut self) {
        let first = self.next + 1;
        let metrics = self.metrics(true);
        let message = self.edge.send("DBIRTH/n/d", metrics);
        self.is_born = true;
        self.deliver(message, first..self.next + 1);
    }

    fn data(&mut self, of_device: bool, alias: u64) -> Sent {
        let metric = self.metric(of_device, alias, false);
        self.edge.send(if of_device { "DDATA/n/d" } else { "NDATA/n" }, vec![metric])
    }

    fn restart(&mut self, birth_is_lost: bool, is_late: bool) {
        let will = self.edge.death();
        // Where the host knows no session, only the will tells it of another one: a
        // broker sends it before it lets the node in again.
        let is_late = is_late && self.is_known && !birth_is_lost;
        if !is_late && self.deliver(will.clone(), 0..0) {
            self.is_known = false;
        }
        let was_connected = self.connected;
        self.connected &= !birth_is_lost;
        self.birth(true);
        self.connected = was_connected;
        if is_late {
            self.deliver(will, 0..0);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Birth(with_device) => self.birth(with_device),
            Step::Data { of_device, alias } => {
                let message = self.data(of_device, alias);
                self.deliver(message, self.next..self.next + 1);
            }
            Step::Lost { of_device, alias } => drop(self.data(of_device, alias)),
            Step::Restart { birth_is_lost, is_late } => self.restart(birth_is_lost, is_late),
            Step::Change => {
                self.version += u64::from(self.is_born);
                self.device_birth();
            }
            Step::DeviceDeath => {
                self.is_born = false;
                let message = self.edge.send("DDEATH/n/d", Vec::new());
                self.deliver(message, 0..0);
            }
            Step::Again(back) => {
                let message = self.sent.iter().rev().nth(back).cloned();
                // What never arrived is not sent again behind what came after it.
                let is_double = |message: &Sent| self.connected && self.bench.has_heard(message);
                if let Some(message) = message.filter(is_double) {
                    let events = self.bench.hear_with(&message, false, 1);
                    self.events.extend(events);
                }
            }
            Step::Retained => {
                if let Some(message) = self.sent.first().cloned().filter(|_| self.connected) {
                    let events = self.bench.hear_with(&message, true, 1);
                    self.events.extend(events);
                }
            }
            Step::Disconnect if self.connected => {
                self.connected = false;
                self.bench.host.lost(self.bench.now, self.bench.time);
            }
            Step::Connect if !self.connected => {
                self.connected = true;
                self.bench.host.log_in(self.bench.time);
                self.bench.host.connected(self.bench.now);
            }
            Step::Disconnect | Step::Connect => {}
            Step::Pass(seconds) => {
                self.bench.pass(Duration::from_secs(seconds));
                let events = self.bench.tick();
                self.events.extend(events);
            }
        }
        let events = self.bench.host.take_events();
        self.events.extend(events);
    }
}

fn value(value: &Value) -> Option<i32> {
    match value {
        Value::I64(number) => i32::try_from(*number).ok(),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_value_carries_the_name_that_was_meant_and_none_is_lost(steps in steps()) {
        let mut world = World {
            bench: Bench::new(),
            edge: Edge::new(),
            connected: true,
            is_known: false,
            version: 0,
            is_born: false,
            next: 0,
            truth: BTreeMap::new(),
            arrived: Vec::new(),
            sent: Vec::new(),
            events: Vec::new(),
        };
        for step in steps {
            world.step(step);
        }
        world.bench.host.leave(world.bench.now, world.bench.time);
        let events = world.bench.host.take_events();
        world.events.extend(events);
        let mut good: BTreeMap<i32, u32> = BTreeMap::new();
        let mut any: BTreeMap<i32, u32> = BTreeMap::new();
        for event in &world.events {
            for field in &event.fields {
                let Some(number) = value(&field.value) else { continue };
                let (device, name) = &world.truth[&number];
                let is_named = !field.name.starts_with("alias_");
                prop_assert!(is_named || event.quality == Quality::Stale);
                prop_assert_eq!(&*event.device, device);
                prop_assert!(!is_named || *field.name == **name, "{} is {}, not {}", number, name, field.name);
                *any.entry(number).or_default() += 1;
                if event.quality == Quality::Good {
                    *good.entry(number).or_default() += 1;
                }
            }
        }
        for number in &world.arrived {
            prop_assert!(any.contains_key(number), "{} is lost", number);
        }
        prop_assert!(good.values().all(|times| *times == 1), "twice");
    }
}

#[test]
fn any_bytes_on_any_topic_are_taken_or_refused() {
    proptest!(|(
        messages in prop::collection::vec((0..9_usize, prop::collection::vec(any::<u8>(), 0..80)), 1..20)
    )| {
        let mut bench = Bench::with(&serde_json::json!({ "host_id": "h" }));
        let mut edge = Edge::new();
        bench.hear(&edge.birth(vec![metric(Some("m"), Some(1), 1)]));
        for (topic, payload) in messages {
            let topic = [
                "spBv1.0/g/NBIRTH/n", "spBv1.0/g/NDEATH/n", "spBv1.0/g/NDATA/n",
                "spBv1.0/g/DBIRTH/n/d", "spBv1.0/g/DDEATH/n/d", "spBv1.0/g/DDATA/n/d",
                "spBv1.0/STATE/h", "spBv1.0", "",
            ][topic];
            let arrived = crate::source::sparkplug::Arrived {
                topic: topic.as_bytes(), payload: &payload, retained: false, qos: 0,
                now: bench.now, time: bench.time,
            };
            let _any = bench.host.take(arrived);
            bench.tick();
        }
        bench.host.leave(bench.now, bench.time);
    });
}
