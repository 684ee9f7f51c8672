//! What goes wrong, and when.

use std::time::Duration;

use serde::Deserialize;
use tidegate::units::Period;

use super::seed;
use crate::noise::Noise;

/// `{ what = { late = "2 s" }, when = { every = 5 } }`; `W` is what can go wrong.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault<W = What> {
    pub(super) what: W,
    pub(super) when: When,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum What {
    /// So much later; what is asked meanwhile waits.
    Late(Period),
    /// Bytes before it that belong to nothing.
    Noise,
    /// The first half only.
    Short,
    /// A Modbus exception of this code.
    Exception(u8),
    /// Nothing at all.
    Silence,
    /// The connection ends; a serial port has none, and is silent.
    Disconnect,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum When {
    /// With each so many-th request or message.
    Every(u32),
    /// With one in so many, as 0.05.
    Chance(f64),
    /// For a while, at the end of each period.
    During { each: Period, lasting: Period },
}

/// The faults of one device.
#[derive(Debug)]
pub(super) struct Faults<W = What> {
    all: Vec<Fault<W>>,
    /// Requests or messages until now.
    count: u32,
    noise: Noise,
}

impl<W> Fault<W> {
    /// What is wrong with it.
    pub(super) fn check(&self) -> Option<String> {
        match self.when {
            When::Every(0) => Some("every = 0 is never: 1 or more".to_owned()),
            When::Chance(chance) if !(0.0..=1.0).contains(&chance) => {
                Some(format!("a chance of {chance} is not from 0 to 1"))
            }
            When::During { each, lasting } if lasting > each || each.get().is_zero() => {
                Some("it lasts longer than the time that it stands in".to_owned())
            }
            _ => None,
        }
    }
}

impl<W: Copy> Faults<W> {
    /// Of the so many-th device: none fails with the same requests as another.
    pub(super) fn new(faults: &[Fault<W>], number: u64) -> Self {
        Self { all: faults.to_vec(), count: 0, noise: Noise::new(seed(number)) }
    }

    /// What goes wrong with the next request or message: the first that is due.
    pub(super) fn next(&mut self, elapsed: Duration) -> Option<W> {
        self.count = self.count.wrapping_add(1);
        let (count, noise) = (self.count, &mut self.noise);
        let due = |fault: &&Fault<W>| match fault.when {
            When::Every(many) => count.is_multiple_of(many),
            When::Chance(chance) => f64::midpoint(noise.draw(), 1.0) < chance,
            When::During { each, lasting } => {
                let (each, lasting) = (each.get().as_secs_f64(), lasting.get().as_secs_f64());
                elapsed.as_secs_f64() % each >= each - lasting
            }
        };
        self.all.iter().find(due).map(|fault| fault.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(when: When) -> Faults {
        Faults::new(&[Fault { what: What::Silence, when }], 5)
    }

    #[test]
    fn a_fault_comes_when_it_is_due() {
        let mut every = faults(When::Every(3));
        let come: Vec<bool> = (0..6).map(|_| every.next(Duration::ZERO).is_some()).collect();
        assert_eq!(come, [false, false, true, false, false, true]);

        let (each, lasting) = (Period::from_secs(10), Period::from_secs(2));
        let mut during = faults(When::During { each, lasting });
        let come = [0, 7, 8, 9, 10, 18].map(|at| during.next(Duration::from_secs(at)).is_some());
        assert_eq!(come, [false, false, true, true, false, true]);

        let mut chance = faults(When::Chance(0.1));
        let first = (0..20).filter(|_| chance.next(Duration::ZERO).is_some()).count();
        assert!(first < 8, "{first} of the first 20");
        let come = (0..10_000).filter(|_| chance.next(Duration::ZERO).is_some()).count();
        assert!((800..1_200).contains(&come), "{come} of 10,000");
    }
}
