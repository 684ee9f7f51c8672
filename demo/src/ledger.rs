//! What the plant made beside what a consumer read: compared number by number.
//!
//! Each device counts its events from 1 without gaps. A number is *delivered*
//! when a record carried it, *lost* when none did, *duplicated* when a further
//! record did. Live, a number counts as lost only once a later one of its
//! device was read, since the order of a device holds in a flow.
//!
//! librdkafka's mock cluster keeps no control batches: what a transaction wrote
//! before it was aborted stays readable, and the same events come again, under
//! the same ids. Such a copy is told apart, as *repeated*, only if three things
//! hold: the cluster is the mock, the copy has the id of the first one, and the
//! event was made before the last outage ended. Any other copy is a duplicate.
//!
//! Memory: four bytes an event, 17 MB a day at 50 events a second.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// The parts of the plant that make events; each is one source of the agent
/// and one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    Boiler,
    Sensors,
    Machine,
}

impl Source {
    pub const ALL: [Self; 3] = [Self::Boiler, Self::Sensors, Self::Machine];

    /// The name of the source in the agent's configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boiler => "boiler",
            Self::Sensors => "sensors",
            Self::Machine => "machine",
        }
    }

    /// The stream and its topic.
    pub const fn topic(self) -> &'static str {
        match self {
            Self::Boiler => "plant.boiler",
            Self::Sensors => "plant.sensors",
            Self::Machine => "plant.machine",
        }
    }

    pub fn of_topic(topic: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.topic() == topic)
    }
}

/// The result, for all or for one source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Numbers that the plant gave away.
    pub produced: u64,
    /// Numbers that were read at least once.
    pub delivered: u64,
    /// Live: numbers that were passed over. At the end: all that never came.
    pub lost: u64,
    /// Records that carried a number again.
    pub duplicated: u64,
    /// Copies that only the mock cluster shows; see the module.
    pub repeated: u64,
    /// Numbers that came after a later one of their device.
    pub out_of_order: u64,
}

#[derive(Debug, Default)]
struct Device {
    /// The numbers 1 to this one were made.
    produced: u64,
    /// Those up to here were made before the last outage ended.
    before_outage: u64,
    /// Fingerprint of the first record of number `index + 1`; 0: not read yet.
    first: Vec<u32>,
    highest: u64,
    delivered: u64,
    duplicated: u64,
    repeated: u64,
    out_of_order: u64,
}

/// The comparison; cheap to clone, all clones are one.
#[derive(Debug, Clone)]
pub struct Ledger(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    /// Whether aborted transactions stay visible.
    mock: bool,
    devices: BTreeMap<(Source, String), Device>,
    /// Records with a number that nobody made.
    unexpected: u64,
}

impl Ledger {
    pub fn new(mock: bool) -> Self {
        Self(Arc::new(Mutex::new(Inner { mock, devices: BTreeMap::new(), unexpected: 0 })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the event that is about to be made.
    pub fn produce(&self, source: Source, device: &str) -> u64 {
        let mut inner = self.lock();
        let device = inner.devices.entry((source, device.to_owned())).or_default();
        device.produced += 1;
        device.first.push(0);
        device.produced
    }

    /// The event with this number, the device's newest, was not made after all.
    pub fn take_back(&self, source: Source, device: &str, number: u64) {
        let mut inner = self.lock();
        if let Some(device) = inner.devices.get_mut(&(source, device.to_owned()))
            && device.produced == number
        {
            device.produced -= 1;
            device.first.pop();
        }
    }

    /// A record was read; `id` is the agent's id of the event.
    pub fn arrived(&self, source: Source, device: &str, number: u64, id: &str) {
        let mut inner = self.lock();
        let mock = inner.mock;
        let Some(known) = inner.devices.get_mut(&(source, device.to_owned())) else {
            inner.unexpected += 1;
            return;
        };
        let index = number.checked_sub(1).and_then(|index| usize::try_from(index).ok());
        let Some(first) = index.and_then(|index| known.first.get_mut(index)) else {
            inner.unexpected += 1;
            return;
        };
        let print = fingerprint(id);
        if *first == 0 {
            *first = print;
            known.delivered += 1;
            if number < known.highest {
                known.out_of_order += 1;
            }
            known.highest = known.highest.max(number);
        } else if mock && *first == print && number <= known.before_outage {
            known.repeated += 1;
        } else {
            known.duplicated += 1;
        }
    }

    /// The uplink is back: what was made until now may have stood in a
    /// transaction that the outage broke.
    pub fn outage_over(&self) {
        for device in self.lock().devices.values_mut() {
            device.before_outage = device.produced;
        }
    }

    /// Records whose number nobody made.
    pub fn unexpected(&self) -> u64 {
        self.lock().unexpected
    }

    /// The state while the plant runs: what is on its way is not lost.
    pub fn live(&self, source: Option<Source>) -> Totals {
        self.totals(source, |device| device.highest)
    }

    /// The state after the end: whatever was not read is lost.
    pub fn at_end(&self, source: Option<Source>) -> Totals {
        self.totals(source, |device| device.produced)
    }

    fn totals(&self, source: Option<Source>, due: impl Fn(&Device) -> u64) -> Totals {
        let mut sum = Totals::default();
        for ((from, _), device) in &self.lock().devices {
            if source.is_some_and(|wanted| wanted != *from) {
                continue;
            }
            sum.produced += device.produced;
            sum.delivered += device.delivered;
            sum.lost += due(device).saturating_sub(device.delivered);
            sum.duplicated += device.duplicated;
            sum.repeated += device.repeated;
            sum.out_of_order += device.out_of_order;
        }
        sum
    }
}

/// Never 0. Two ids of one number collide once in four thousand million.
fn fingerprint(id: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    let [a, b, c, d, ..] = hasher.finish().to_le_bytes();
    u32::from_le_bytes([a, b, c, d]).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Source = Source::Sensors;

    fn ledger(mock: bool, made: u64) -> Ledger {
        let ledger = Ledger::new(mock);
        for number in 1..=made {
            assert_eq!(ledger.produce(S, "a"), number);
        }
        ledger
    }

    #[test]
    fn a_number_that_never_came_is_lost_at_the_end_and_live_once_it_was_passed_over() {
        let ledger = ledger(true, 4);
        ledger.arrived(S, "a", 1, "g/e/1");
        assert_eq!(ledger.live(None).lost, 0, "2, 3 and 4 are on their way");
        ledger.arrived(S, "a", 3, "g/e/3");
        assert_eq!(ledger.live(None).lost, 1, "2 was passed over");
        let end = ledger.at_end(None);
        assert_eq!((end.produced, end.delivered, end.lost, end.duplicated), (4, 2, 2, 0));
    }

    #[test]
    fn equal_counts_do_not_hide_a_loss_and_a_duplicate() {
        let ledger = ledger(true, 2);
        ledger.arrived(S, "a", 1, "g/e/1");
        ledger.arrived(S, "a", 1, "g/e/2");
        let end = ledger.at_end(None);
        assert_eq!((end.produced, end.lost, end.duplicated), (2, 1, 1));
    }

    #[test]
    fn a_copy_under_the_same_id_is_forgiven_only_by_the_mock_and_only_around_an_outage() {
        for (mock, outage, duplicated) in
            [(true, true, 0), (true, false, 1), (false, true, 1), (false, false, 1)]
        {
            let ledger = ledger(mock, 1);
            ledger.arrived(S, "a", 1, "g/e/1");
            if outage {
                ledger.outage_over();
            }
            ledger.arrived(S, "a", 1, "g/e/1");
            let end = ledger.at_end(None);
            assert_eq!((end.duplicated, end.repeated), (duplicated, 1 - duplicated));
        }
    }

    #[test]
    fn a_copy_under_another_id_is_always_a_duplicate() {
        let ledger = ledger(true, 1);
        ledger.arrived(S, "a", 1, "g/e/1");
        ledger.outage_over();
        ledger.arrived(S, "a", 1, "g/e/2");
        assert_eq!(ledger.at_end(None).duplicated, 1);
    }

    #[test]
    fn what_is_made_after_the_outage_may_not_come_again() {
        let ledger = ledger(true, 1);
        ledger.outage_over();
        assert_eq!(ledger.produce(S, "a"), 2);
        ledger.arrived(S, "a", 2, "g/e/2");
        ledger.arrived(S, "a", 2, "g/e/2");
        assert_eq!(ledger.at_end(None).duplicated, 1);
    }

    #[test]
    fn a_number_that_nobody_made_is_unexpected() {
        let ledger = ledger(true, 1);
        ledger.arrived(S, "a", 0, "g/e/1");
        ledger.arrived(S, "a", 2, "g/e/1");
        ledger.arrived(S, "b", 1, "g/e/1");
        ledger.arrived(Source::Boiler, "a", 1, "g/e/1");
        assert_eq!((ledger.unexpected(), ledger.at_end(None).delivered), (4, 0));
    }

    #[test]
    fn a_number_after_a_later_one_is_out_of_order_and_no_longer_lost() {
        let ledger = ledger(true, 2);
        ledger.arrived(S, "a", 2, "g/e/2");
        ledger.arrived(S, "a", 1, "g/e/1");
        let live = ledger.live(Some(S));
        assert_eq!((live.lost, live.out_of_order, live.delivered), (0, 1, 2));
    }

    #[test]
    fn an_event_that_was_taken_back_is_not_missed() {
        let ledger = ledger(true, 2);
        ledger.take_back(S, "a", 2);
        assert_eq!(ledger.at_end(None).produced, 1);
        assert_eq!(ledger.produce(S, "a"), 2);
    }
}
