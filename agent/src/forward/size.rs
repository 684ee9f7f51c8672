//! How much goes into one transaction: by time first (SAFETY 6).

use std::time::Duration;

/// No load has more records: a delivery failure report for each still fits in
/// memory, and the client's queue holds them.
const MOST_PART_EVENTS: u32 = 10_000;

/// No transaction has more records: what a commit costs is spread thin enough
/// by then.
const MOST_EVENTS: u32 = 50_000;

/// Bytes of records after which a load takes no further batch. Two loads, each
/// with up to twice of that reserved, and librdkafka's copy of one stand in
/// memory at a time: 2 MiB of it made 15 of the 27 MB that were in use at the
/// peak of a burst.
const MOST_PART_BYTES: usize = 512 * 1024;

/// Bytes of records after which a transaction gets no further load: at this the
/// fastest line takes about half a second for it.
const MOST_BYTES: f64 = 16.0 * 1024.0 * 1024.0;

/// A transaction should take about this long: it also holds back the
/// read-committed readers of other gateways.
pub(super) const TARGET: Duration = Duration::from_secs(1);

/// Bytes of the first transaction on a line that is not known yet: a 64 kbit/s
/// line takes some seconds for them, compressed, and 16 as they are.
const FIRST: f64 = 128.0 * 1024.0;

/// What still fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) events: u32,
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) struct Sizer {
    /// What the next transaction may hold.
    bytes: f64,
    /// What a load may hold.
    part: usize,
    /// The shortest that a transaction took: so long it takes without any data.
    latency: Duration,
}

impl Sizer {
    pub(super) const fn new() -> Self {
        Self { bytes: FIRST, part: MOST_PART_BYTES, latency: Duration::MAX }
    }

    /// Loads so small that a few events fill them.
    #[cfg(test)]
    pub(super) fn in_parts_of(&mut self, bytes: usize) {
        self.part = bytes;
    }

    /// What the next load may hold, behind so many events and bytes of the same
    /// transaction; none: it is full. At least one batch goes into a transaction
    /// in any case.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within bounds")]
    pub(super) fn room(&self, events: usize, bytes: usize) -> Room {
        let events = MOST_EVENTS.saturating_sub(u32::try_from(events).unwrap_or(MOST_EVENTS));
        let left = (self.bytes.clamp(1.0, MOST_BYTES) as usize).saturating_sub(bytes);
        Room { events: events.min(MOST_PART_EVENTS), bytes: left.min(self.part) }
    }

    /// A transaction was committed; one without records says how long the way to
    /// the broker is.
    pub(super) fn committed(&mut self, bytes: usize, took: Duration) {
        self.latency = self.latency.min(took);
        let data = took.saturating_sub(self.latency);
        let bytes = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
        let fits = bytes * TARGET.as_secs_f64() / data.as_secs_f64().max(0.001);
        if data > TARGET && fits < self.bytes {
            self.bytes = fits.max(1.0);
        } else if bytes >= self.bytes / 2.0 {
            // Grows only by what was really tried, at most twofold.
            self.bytes = fits.min(self.bytes * 2.0).min(MOST_BYTES);
        }
    }

    /// A transaction did not come through in time.
    pub(super) fn timed_out(&mut self) {
        self.bytes = (self.bytes / 2.0).max(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the next transaction, load by load.
    fn bytes(sizer: &Sizer) -> usize {
        let mut sum = 0;
        loop {
            match sizer.room(0, sum).bytes {
                0 => return sum,
                more => sum += more,
            }
        }
    }

    #[test]
    fn a_fast_line_gets_the_largest_transactions_soon() {
        let mut sizer = Sizer::new();
        for _ in 0..7 {
            let bytes = bytes(&sizer);
            sizer.committed(bytes, Duration::from_millis(20));
        }
        assert_eq!(bytes(&sizer), 16 * 1024 * 1024);
        assert_eq!(sizer.room(0, 0), Room { events: 10_000, bytes: 512 * 1024 });
        assert_eq!(sizer.room(49_000, 0).events, 1_000);
        assert_eq!(sizer.room(50_000, 16 * 1024 * 1024), Room { events: 0, bytes: 0 });
    }

    #[test]
    fn a_slow_line_gets_a_second_of_its_throughput() {
        let mut sizer = Sizer::new();
        sizer.committed(0, Duration::from_millis(100));
        sizer.committed(100_000, Duration::from_millis(10_100));
        assert_eq!(bytes(&sizer), 10_000);
    }

    #[test]
    fn a_long_way_is_not_taken_for_a_narrow_one() {
        let mut sizer = Sizer::new();
        sizer.committed(0, Duration::from_secs(3));
        sizer.committed(300, Duration::from_millis(3_010));
        assert_eq!(bytes(&sizer), 128 * 1024);
        sizer.committed(128 * 1024, Duration::from_millis(3_200));
        assert_eq!(bytes(&sizer), 256 * 1024);
    }

    #[test]
    fn time_outs_halve_down_to_one_batch() {
        let mut sizer = Sizer::new();
        sizer.timed_out();
        assert_eq!(bytes(&sizer), 64 * 1024);
        for _ in 0..20 {
            sizer.timed_out();
        }
        assert_eq!(bytes(&sizer), 1);
    }

    #[test]
    fn small_transactions_of_a_quiet_gateway_say_nothing_about_the_line() {
        let mut sizer = Sizer::new();
        for took in [5, 400] {
            sizer.committed(300, Duration::from_millis(took));
        }
        assert_eq!(bytes(&sizer), 128 * 1024);
    }
}
