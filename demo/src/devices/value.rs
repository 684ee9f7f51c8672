//! How a value goes.

use std::time::Duration;

use serde::Deserialize;
use tidegate::units::Period;

use super::seed;
use crate::noise::Wander;

/// As it stands in the file: `{ sine = { low = 18, high = 22, period = "1 min" } }`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Form {
    /// Always the same.
    Constant(f64),
    /// From one to the other within the period, and again.
    Ramp { from: f64, to: f64, period: Period },
    /// Between the two, once in the period; it begins in the middle and rises.
    Sine { low: f64, high: f64, period: Period },
    /// Anywhere between the two, a small step with each reading.
    Walk { low: f64, high: f64 },
    /// `step` more after each `every`.
    Counter {
        #[serde(default)]
        from: f64,
        #[serde(default = "one")]
        step: f64,
        every: Period,
    },
}

const fn one() -> f64 {
    1.0
}

/// A value that goes on.
#[derive(Debug)]
pub(super) enum Value {
    OfTime(Form),
    Walk(Wander),
}

impl Form {
    /// What is wrong with it.
    pub(super) fn check(&self) -> Option<String> {
        let (Self::Ramp { period, .. }
        | Self::Sine { period, .. }
        | Self::Counter { every: period, .. }) = self
        else {
            return None;
        };
        period.get().is_zero().then(|| "a period of 0 has no time in it".to_owned())
    }

    /// It starts as the so many-th of its device: no walk goes as another does.
    pub(super) fn start(&self, number: u64) -> Value {
        match self {
            Self::Walk { low, high } => {
                let (middle, width) = (f64::midpoint(*low, *high), (high - low) / 2.0);
                Value::Walk(Wander::new(middle, width, seed(number)))
            }
            other => Value::OfTime(other.clone()),
        }
    }
}

impl Value {
    /// What it is now, `elapsed` after the start.
    pub(super) fn at(&mut self, elapsed: Duration) -> f64 {
        match self {
            Self::Walk(wander) => wander.step(),
            Self::OfTime(form) => form.at(elapsed),
        }
    }
}

impl Form {
    fn at(&self, elapsed: Duration) -> f64 {
        let turns = |period: &Period| elapsed.as_secs_f64() / period.get().as_secs_f64();
        match self {
            Self::Constant(value) => *value,
            Self::Ramp { from, to, period } => from + (to - from) * turns(period).fract(),
            Self::Sine { low, high, period } => {
                let angle = turns(period) * std::f64::consts::TAU;
                f64::midpoint(*low, *high) + (high - low) / 2.0 * angle.sin()
            }
            Self::Counter { from, step, every } => from + step * turns(every).floor(),
            Self::Walk { low, high } => f64::midpoint(*low, *high),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(form: &Form, seconds: f64, expected: f64) {
        let got = form.start(1).at(Duration::from_secs_f64(seconds));
        assert!((got - expected).abs() < 1e-9, "{form:?} after {seconds} s: {got}");
    }

    #[test]
    fn each_form_goes_as_it_says() {
        let period = Period::from_secs(8);
        check(&Form::Constant(21.5), 3.0, 21.5);
        let ramp = Form::Ramp { from: 10.0, to: 18.0, period };
        check(&ramp, 0.0, 10.0);
        check(&ramp, 6.0, 16.0);
        check(&ramp, 9.0, 11.0);
        let sine = Form::Sine { low: 10.0, high: 20.0, period };
        check(&sine, 0.0, 15.0);
        check(&sine, 2.0, 20.0);
        check(&sine, 6.0, 10.0);
        let counter = Form::Counter { from: 5.0, step: 2.0, every: period };
        check(&counter, 7.9, 5.0);
        check(&counter, 16.0, 9.0);
    }

    #[test]
    fn a_walk_stays_between_its_ends() {
        let mut walk = Form::Walk { low: 10.0, high: 12.0 }.start(3);
        for _ in 0..1_000 {
            assert!((10.0..=12.0).contains(&walk.at(Duration::ZERO)));
        }
    }

    #[test]
    fn no_walk_goes_as_another_does() {
        let step = |number| Form::Walk { low: 0.0, high: 1.0 }.start(number).at(Duration::ZERO);
        let mut steps: Vec<f64> = (1..20).map(step).collect();
        steps.sort_by(f64::total_cmp);
        assert!(steps.windows(2).all(|pair| pair[0] < pair[1]), "{steps:?}");
    }
}
