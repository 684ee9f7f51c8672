//! Slows what comes late, for lines that cost by volume or must stay free.

use std::time::{Duration, Instant};

use crate::buffer::{Batch, Damaged};
use crate::encode::record;
use crate::event::Timestamp;
use crate::units::ByteSize;

/// So much may go ahead of the rate: small batches would else go one by one,
/// each in a transaction of its own.
const AHEAD: Duration = Duration::from_secs(1);

/// How much of a backlog goes in a second, before compression. Only what is
/// read more than [`record::BACKFILL_AFTER`] ago counts as such.
#[derive(Debug)]
pub(super) struct Backfill {
    /// Bytes a second; none: as fast as it goes.
    rate: Option<f64>,
    /// By when the rate has caught up with what went.
    paid: Instant,
}

impl Backfill {
    #[expect(clippy::cast_precision_loss, reason = "nobody counts a rate by bytes beyond 2^53")]
    pub(super) fn new(rate: Option<ByteSize>, now: Instant) -> Self {
        Self { rate: rate.map(|rate| (rate.0 as f64).max(1.0)), paid: now }
    }

    pub(super) fn may_go(&self, now: Instant) -> bool {
        self.rate.is_none() || self.paid.saturating_duration_since(now) < AHEAD
    }

    /// So many bytes of a backlog go now.
    #[expect(clippy::cast_precision_loss, reason = "a batch has fewer bytes than 2^53")]
    pub(super) fn goes(&mut self, bytes: usize, now: Instant) {
        if let Some(rate) = self.rate {
            let takes = Duration::try_from_secs_f64(bytes as f64 / rate).unwrap_or(Duration::MAX);
            let from = self.paid.max(now);
            self.paid = from.checked_add(takes).unwrap_or(from);
        }
    }

    /// Whether the rate holds for this batch; false where there is none.
    pub(super) fn holds_for(&self, batch: &Batch, now: Timestamp) -> bool {
        if self.rate.is_none() {
            return false;
        }
        let mut late = false;
        // Its first event alone is looked at: the walk ends with an error.
        drop(batch.events(|event| {
            late = record::is_backfill(event.time, event.read_at, now);
            Err(Damaged(String::new()))
        }));
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_the_rate_goes_ahead_and_then_no_more_than_the_rate() {
        let now = Instant::now();
        let mut limit = Backfill::new(Some(ByteSize(1_000)), now);
        let mut gone = 0;
        for tenth in 0..100 {
            let now = now + Duration::from_millis(tenth * 100);
            while limit.may_go(now) {
                limit.goes(50, now);
                gone += 50;
            }
        }
        assert_eq!(gone, 1_000 + 9_900);
    }

    #[test]
    fn a_batch_that_is_larger_than_the_rate_goes_and_is_waited_for() {
        let now = Instant::now();
        let mut limit = Backfill::new(Some(ByteSize(1_000)), now);
        limit.goes(100_000, now);
        assert!(!limit.may_go(now + Duration::from_secs(99)));
        assert!(limit.may_go(now + Duration::from_millis(99_001)));
    }

    #[test]
    fn what_was_not_used_is_not_saved_up() {
        let start = Instant::now();
        let mut limit = Backfill::new(Some(ByteSize(1_000)), start);
        let now = start + Duration::from_hours(1);
        limit.goes(1_000, now);
        assert!(!limit.may_go(now));
    }
}
