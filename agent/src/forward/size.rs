//! How much goes into one transaction: by time first (SAFETY 6).

use std::time::Duration;

/// No transaction has more records: what a commit costs is spread thin enough
/// by then, and a delivery failure report for each still fits in memory.
pub(super) const MOST_EVENTS: u32 = 10_000;

/// Bytes of records after which a transaction takes no further batch. Two loads,
/// each with up to twice of that reserved, and librdkafka's copy of one stand in
/// memory at a time: 2 MiB of it made 15 of the 27 MB that were in use at the
/// peak of a burst.
pub(super) const MOST_BYTES: usize = 512 * 1024;

/// A transaction should take about this long: it also holds back the
/// read-committed readers of other gateways.
const TARGET: Duration = Duration::from_secs(1);

/// Records of the first transaction on a line that is not known yet: a
/// 64 kbit/s line takes some seconds for them.
const FIRST: f64 = 500.0;

#[derive(Debug)]
pub(super) struct Sizer {
    events: f64,
}

impl Sizer {
    pub(super) const fn new() -> Self {
        Self { events: FIRST }
    }

    /// Events that the next transaction may hold; at least one batch goes in
    /// any case.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within bounds")]
    pub(super) fn events(&self) -> u32 {
        self.events.clamp(1.0, f64::from(MOST_EVENTS)) as u32
    }

    /// A transaction was committed.
    pub(super) fn committed(&mut self, events: usize, took: Duration) {
        let events = f64::from(u32::try_from(events).unwrap_or(u32::MAX));
        let fits = events * TARGET.as_secs_f64() / took.as_secs_f64().max(0.001);
        if fits < self.events {
            self.events = fits.max(1.0);
        } else if events >= self.events / 2.0 {
            // Grows only by what was really tried, at most twofold.
            self.events = fits.min(self.events * 2.0).min(f64::from(MOST_EVENTS));
        }
    }

    /// A transaction did not come through in time.
    pub(super) fn timed_out(&mut self) {
        self.events = (self.events / 2.0).max(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_line_gets_the_largest_transactions_soon() {
        let mut sizer = Sizer::new();
        for _ in 0..5 {
            let events = sizer.events();
            sizer.committed(events as usize, Duration::from_millis(20));
        }
        assert_eq!(sizer.events(), MOST_EVENTS);
    }

    #[test]
    fn a_slow_line_gets_a_second_of_its_throughput() {
        let mut sizer = Sizer::new();
        sizer.committed(500, Duration::from_secs(10));
        assert_eq!(sizer.events(), 50);
    }

    #[test]
    fn time_outs_halve_down_to_one_batch() {
        let mut sizer = Sizer::new();
        sizer.timed_out();
        assert_eq!(sizer.events(), 250);
        for _ in 0..20 {
            sizer.timed_out();
        }
        assert_eq!(sizer.events(), 1);
    }

    #[test]
    fn small_transactions_of_a_quiet_gateway_say_nothing_about_the_line() {
        let mut sizer = Sizer::new();
        sizer.committed(3, Duration::from_millis(5));
        assert_eq!(sizer.events(), 500);
    }
}
