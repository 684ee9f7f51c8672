//! What stands around the value: key, headers and timestamp of the record.
//!
//! The key is the device, so that a device keeps its order in one partition.

use crate::buffer::Epoch;
use crate::event::Timestamp;

/// Version of the record's shape, in the header `schema`.
pub const SCHEMA: &str = "1";

/// An event that waited longer than this between its reading and its sending
/// carries the header `backfill`: a minute is longer than any commit interval
/// and any transaction, so it was an outage.
pub const BACKFILL_AFTER: i64 = 60 * SECOND;

/// An older record is stamped with the time of sending: retention counts from
/// the record's timestamp, and a backlog must not be deleted as it arrives.
pub const STAMP_OLDER: i64 = 86_400 * SECOND;

/// A clock further ahead than this is not trusted (brokers refuse an hour).
pub const STAMP_AHEAD: i64 = 60 * SECOND;

const SECOND: i64 = 1_000_000_000;

/// The id of an event, `<gateway>/<epoch>/<seq>`, in the header `id`.
pub fn id(gateway: &str, epoch: Epoch, seq: u64, out: &mut String) {
    use std::fmt::Write as _;
    out.clear();
    write!(out, "{gateway}/{epoch}/{seq}").expect("writing to a string does not fail");
}

/// Whether the event comes late: read more than [`BACKFILL_AFTER`] ago.
pub fn is_backfill(time: Timestamp, read_at: Option<Timestamp>, now: Timestamp) -> bool {
    now.0.saturating_sub(read_at.unwrap_or(time).0) > BACKFILL_AFTER
}

/// The record's timestamp in epoch milliseconds (SAFETY 10): the event's own
/// time, or the time of sending where a broker would refuse or soon delete it.
pub fn timestamp(time: Timestamp, now: Timestamp) -> i64 {
    let age = now.0.saturating_sub(time.0);
    let trusted = (-STAMP_AHEAD..=STAMP_OLDER).contains(&age);
    (if trusted { time } else { now }).0.div_euclid(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_767_225_600_000_000_000);

    fn ago(seconds: i64) -> Timestamp {
        Timestamp(NOW.0 - seconds * SECOND)
    }

    #[test]
    fn a_record_is_stamped_with_its_own_time_only_within_a_day() {
        assert_eq!(timestamp(ago(86_400), NOW), 1_767_139_200_000);
        assert_eq!(timestamp(ago(86_401), NOW), 1_767_225_600_000);
        assert_eq!(timestamp(ago(-60), NOW), 1_767_225_660_000);
        assert_eq!(timestamp(ago(-61), NOW), 1_767_225_600_000);
        assert_eq!(timestamp(Timestamp(i64::MIN), NOW), 1_767_225_600_000);
    }

    #[test]
    fn backfill_counts_from_the_reading() {
        assert!(!is_backfill(ago(60), None, NOW));
        assert!(is_backfill(ago(61), None, NOW));
        assert!(!is_backfill(ago(1_000), Some(ago(1)), NOW));
    }
}
