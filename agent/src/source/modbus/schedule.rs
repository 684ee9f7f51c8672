//! When which group is read: takes the time, never asks for it.
//!
//! Every group has a slot each interval. What cannot be read in its slot is
//! skipped and counted, never made up for in a bunch: old values are not worth
//! a crowded bus.

use std::time::Duration;

use tokio::time::Instant;

/// At the start groups are spread over their interval, but nobody wants to
/// wait longer than this for the first value of a slow one.
const LONGEST_STAGGER: Duration = Duration::from_secs(1);

/// Late turns in a row that show an interval to be too short; a time-out of
/// another device makes one, and has a line of its own.
const BEHIND: u32 = 3;

/// A group that has kept its slots for this long is said to be well again.
const STEADY: Duration = Duration::from_mins(1);

/// What is silent is first left alone this long; it doubles up to [`LONGEST_REST`].
const FIRST_REST: Duration = Duration::from_secs(1);

/// A device that was switched on again is read within half a minute, and a
/// dead one costs the others one time-out in that time.
pub(super) const LONGEST_REST: Duration = Duration::from_secs(30);

/// The slots of all groups.
#[derive(Debug)]
pub(super) struct Schedule {
    intervals: Vec<Duration>,
    /// Next slot of each group; empty until the source first runs.
    next: Vec<Instant>,
}

/// A group's turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) group: usize,
    /// Slots that went by before this one was taken.
    pub(super) missed: u64,
}

impl Schedule {
    pub(super) fn new(intervals: Vec<Duration>) -> Self {
        Self { intervals, next: Vec::new() }
    }

    /// Lays out the first slots; later calls change nothing, so that what a
    /// broken connection cost is counted.
    pub(super) fn begin(&mut self, now: Instant) {
        if !self.next.is_empty() {
            return;
        }
        let groups = u32::try_from(self.intervals.len()).unwrap_or(u32::MAX).max(1);
        let phases = (0_u32..).zip(&self.intervals);
        self.next = phases
            .map(|(index, interval)| now + (*interval).min(LONGEST_STAGGER) / groups * index)
            .collect();
    }

    /// The earliest slot of all: who waited longest comes first.
    pub(super) fn due(&self) -> Option<Instant> {
        self.next.iter().min().copied()
    }

    /// Takes the earliest slot if its time has come, and gives the group its
    /// next one, which lies after `now`.
    pub(super) fn take(&mut self, now: Instant) -> Option<Turn> {
        let (group, next) = self.next.iter_mut().enumerate().min_by_key(|(_, at)| **at)?;
        let late = now.checked_duration_since(*next)?;
        let interval = *self.intervals.get(group)?;
        // `check` refuses an interval of zero; unchecked it reads without a pause.
        let missed = late.as_nanos().checked_div(interval.as_nanos()).unwrap_or(0);
        let missed = u32::try_from(missed).unwrap_or(u32::MAX - 1);
        *next += interval.saturating_mul(missed.saturating_add(1));
        Some(Turn { group, missed: u64::from(missed) })
    }
}

/// Whether a group keeps its slots.
#[derive(Debug, Default)]
pub(super) struct Pace {
    late_in_a_row: u32,
    /// Fallen behind: when it last missed a slot.
    behind: Option<Instant>,
}

impl Pace {
    /// `Some(true)` when it falls behind, `Some(false)` when it has kept up
    /// for long enough, `None` while nothing changes.
    pub(super) fn turn(&mut self, missed: u64, now: Instant) -> Option<bool> {
        if missed > 0 {
            self.late_in_a_row = self.late_in_a_row.saturating_add(1);
            if self.behind.is_some() || self.late_in_a_row >= BEHIND {
                return self.behind.replace(now).is_none().then_some(true);
            }
            return None;
        }
        self.late_in_a_row = 0;
        if self.behind.is_some_and(|at| now.duration_since(at) >= STEADY) {
            self.behind = None;
            return Some(false);
        }
        None
    }
}

/// The back-off of a request, or of a device none of whose requests is
/// answered. It outlives connections.
#[derive(Debug, Default)]
pub(super) struct Health {
    failures: u32,
    rests_until: Option<Instant>,
}

impl Health {
    /// Left alone for now: it did not answer.
    pub(super) fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    /// Has not answered since it failed.
    pub(super) const fn is_silent(&self) -> bool {
        self.failures > 0
    }

    /// It failed, and is to be asked again before its rest is over.
    pub(super) const fn is_woken(&self) -> bool {
        self.is_silent() && self.rests_until.is_none()
    }

    /// Did not answer. Of several that are silent together each rests
    /// `sharers` times as long, so that all have their turn.
    pub(super) fn failed(&mut self, now: Instant, sharers: u32) {
        let rest = FIRST_REST.saturating_mul(2_u32.saturating_pow(self.failures));
        self.rests_until = Some(now + rest.min(LONGEST_REST).saturating_mul(sharers));
        self.failures = self.failures.saturating_add(1);
    }

    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }

    /// Something else of the device has answered: it is worth a try.
    pub(super) const fn wake(&mut self) {
        self.rests_until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn groups_of_one_interval_start_one_after_the_other() {
        let start = Instant::now();
        let mut schedule = Schedule::new(vec![100 * MS; 4]);
        schedule.begin(start);
        for (group, at) in [(0, 0), (1, 25), (2, 50), (3, 75), (0, 100), (1, 125)] {
            let due = start + at * MS;
            assert_eq!(schedule.due(), Some(due));
            assert_eq!(schedule.take(due), Some(Turn { group, missed: 0 }));
        }
    }

    #[test]
    fn the_first_value_of_a_slow_group_comes_within_a_second() {
        let start = Instant::now();
        let mut schedule = Schedule::new(vec![Duration::from_hours(1); 2]);
        schedule.begin(start);
        assert!(schedule.take(start).is_some());
        assert_eq!(schedule.due(), Some(start + 500 * MS));
    }

    #[test]
    fn nothing_is_taken_before_its_time() {
        let start = Instant::now();
        let mut schedule = Schedule::new(vec![100 * MS]);
        schedule.begin(start);
        assert!(schedule.take(start).is_some());
        assert_eq!(schedule.take(start + 99 * MS), None);
    }

    #[test]
    fn missed_slots_are_counted_and_not_made_up_for() {
        let start = Instant::now();
        let mut schedule = Schedule::new(vec![100 * MS]);
        schedule.begin(start);
        assert_eq!(schedule.take(start + 350 * MS), Some(Turn { group: 0, missed: 3 }));
        assert_eq!(schedule.take(start + 351 * MS), None);
        assert_eq!(schedule.due(), Some(start + 400 * MS));
        assert_eq!(schedule.take(start + 400 * MS), Some(Turn { group: 0, missed: 0 }));
    }

    #[test]
    fn a_second_begin_forgets_no_slot() {
        let start = Instant::now();
        let mut schedule = Schedule::new(vec![100 * MS]);
        schedule.begin(start);
        schedule.begin(start + 1000 * MS);
        assert_eq!(schedule.take(start + 1000 * MS), Some(Turn { group: 0, missed: 10 }));
    }

    #[test]
    fn falling_behind_is_told_once_and_recovery_after_a_minute() {
        let start = Instant::now();
        let mut pace = Pace::default();
        assert_eq!(pace.turn(0, start), None);
        for missed in [2, 1, 0, 1, 1] {
            assert_eq!(pace.turn(missed, start), None);
        }
        assert_eq!(pace.turn(1, start), Some(true));
        assert_eq!(pace.turn(1, start + 1000 * MS), None);
        assert_eq!(pace.turn(0, start + 60_000 * MS), None);
        assert_eq!(pace.turn(0, start + 61_000 * MS), Some(false));
        assert_eq!(pace.turn(0, start + 62_000 * MS), None);
    }

    #[test]
    fn a_dead_device_rests_longer_each_time_up_to_half_a_minute() {
        let start = Instant::now();
        let mut health = Health::default();
        for rest in [1, 2, 4, 8, 16, 30, 30] {
            health.failed(start, 1);
            assert!(health.rests(start + Duration::from_secs(rest) - MS));
            assert!(!health.rests(start + Duration::from_secs(rest)));
        }
        health.answered();
        assert!(!health.rests(start));
        health.failed(start, 1);
        assert!(!health.rests(start + Duration::from_secs(1)));
    }

    #[test]
    fn those_who_are_silent_together_take_turns() {
        let start = Instant::now();
        let mut health = Health::default();
        health.failed(start, 3);
        assert!(health.rests(start + Duration::from_secs(3) - MS));
        assert!(!health.rests(start + Duration::from_secs(3)));
        health.wake();
        assert!(!health.rests(start) && health.is_silent());
    }
}
