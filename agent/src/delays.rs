//! How long something took, many times over: counted in steps, so that it costs
//! the same whatever was counted.

use std::time::Duration;

/// Upper ends of the steps, in milliseconds: from a commit on a good disk to an
/// hour without a line.
const STEPS: [u64; 15] =
    [1, 5, 10, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 3_600_000];

/// What was counted, by steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delays {
    counts: [u64; STEPS.len()],
    /// Longer than the last step.
    longer: u64,
    sum: Duration,
}

impl Delays {
    /// Counts one.
    pub fn add(&mut self, delay: Duration) {
        // What takes as long as a step's end belongs to it.
        let step = STEPS.iter().position(|end| delay <= Duration::from_millis(*end));
        match step.and_then(|step| self.counts.get_mut(step)) {
            Some(count) => *count += 1,
            None => self.longer += 1,
        }
        self.sum = self.sum.saturating_add(delay);
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.longer
    }

    pub const fn sum(&self) -> Duration {
        self.sum
    }

    /// The end of each step in seconds and what fell into it; of the last one
    /// the end is infinite.
    pub fn steps(&self) -> impl Iterator<Item = (f64, u64)> {
        let ends = STEPS.iter().map(|end| Duration::from_millis(*end).as_secs_f64());
        let longer = std::iter::once((f64::INFINITY, self.longer));
        ends.zip(self.counts.iter().copied()).chain(longer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_delay_falls_into_the_step_that_it_does_not_go_beyond() {
        let mut delays = Delays::default();
        for millis in [0, 1, 2, 3_600_000, 3_600_001] {
            delays.add(Duration::from_millis(millis));
        }
        let steps: Vec<_> = delays.steps().filter(|(_, count)| *count > 0).collect();
        assert_eq!(steps, [(0.001, 2), (0.005, 1), (3_600.0, 1), (f64::INFINITY, 1)]);
        assert_eq!((delays.count(), delays.sum()), (5, Duration::from_millis(7_200_004)));
    }
}
