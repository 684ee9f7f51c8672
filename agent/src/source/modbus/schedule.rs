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

/// The slots of all groups, and whose turn it is.
#[derive(Debug)]
pub(super) struct Schedule {
    slots: Vec<Slot>,
    /// It has run before.
    begun: bool,
    /// When a turn last ended in silence.
    silence: Option<Instant>,
    /// The last turn was an urgent group's.
    was_urgent: bool,
}

/// When a group is read.
#[derive(Debug)]
struct Slot {
    interval: Duration,
    /// Goes before others that are due.
    urgent: bool,
    /// The next one; without a meaning until the source first runs.
    next: Instant,
}

/// A group's turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) group: usize,
    /// Slots that went by before this one was taken.
    pub(super) missed: u64,
}

impl Schedule {
    /// Of groups with these intervals, of which those with `true` are urgent.
    pub(super) fn new(groups: impl IntoIterator<Item = (Duration, bool)>) -> Self {
        let next = Instant::now();
        let slots = groups.into_iter();
        let slots = slots.map(|(interval, urgent)| Slot { interval, urgent, next }).collect();
        Self { slots, begun: false, silence: None, was_urgent: false }
    }

    /// Lays out the first slots; later calls change nothing, so that what a
    /// broken connection cost is counted.
    pub(super) fn begin(&mut self, now: Instant) {
        if self.begun {
            return;
        }
        self.begun = true;
        let groups = u32::try_from(self.slots.len()).unwrap_or(u32::MAX).max(1);
        for (index, slot) in (0_u32..).zip(&mut self.slots) {
            slot.next = now + slot.interval.min(LONGEST_STAGGER) / groups * index;
        }
    }

    /// The earliest slot of all.
    pub(super) fn due(&self) -> Option<Instant> {
        self.slots.iter().map(|slot| slot.next).min()
    }

    /// The time of this group has come, if it had not before.
    pub(super) fn hasten(&mut self, group: usize, now: Instant) {
        if let Some(slot) = self.slots.get_mut(group) {
            slot.next = slot.next.min(now);
        }
    }

    /// The last turn ended without an answer, and held all others up.
    pub(super) const fn silent(&mut self, now: Instant) {
        self.silence = Some(now);
    }

    #[cfg(test)]
    pub(super) const fn last_silence(&self) -> Option<Instant> {
        self.silence
    }

    /// Takes the slot of the group whose turn it is, if the time of any has come, and
    /// gives the group its next one, which lies after `now`. Who waited longest comes
    /// first, but for two rules:
    ///
    /// - An urgent group goes before others. Between two such turns one of the others
    ///   has its own, so that an interval that is too short leaves them half the bus.
    /// - What `may_hang` (was not answered when it was last asked) waits after a time-out
    ///   until those who had waited through that one have had their turn: several dead
    ///   devices hold nobody up for more than one time-out.
    pub(super) fn take(&mut self, now: Instant, may_hang: impl Fn(usize) -> bool) -> Option<Turn> {
        let due = || self.slots.iter().enumerate().filter(|(_, slot)| slot.next <= now);
        let waited = |slot: &Slot| self.silence.is_some_and(|silence| slot.next <= silence);
        let shy = due().any(|(group, slot)| waited(slot) && !may_hang(group));
        let (group, _) = due()
            .filter(|(group, _)| !shy || !may_hang(*group))
            .min_by_key(|(_, slot)| (slot.urgent == self.was_urgent, slot.next))?;
        let slot = self.slots.get_mut(group)?;
        let late = now.saturating_duration_since(slot.next);
        // `check` refuses an interval of zero; unchecked it reads without a pause.
        let missed = late.as_nanos().checked_div(slot.interval.as_nanos()).unwrap_or(0);
        let missed = u32::try_from(missed).unwrap_or(u32::MAX - 1);
        slot.next += slot.interval.saturating_mul(missed.saturating_add(1));
        self.was_urgent = slot.urgent;
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

    /// Groups of one interval, none of them urgent.
    fn schedule(interval: Duration, groups: usize) -> Schedule {
        Schedule::new(std::iter::repeat_n((interval, false), groups))
    }

    /// The group that is taken, where none hangs.
    fn taken(schedule: &mut Schedule, now: Instant) -> Option<usize> {
        schedule.take(now, |_| false).map(|turn| turn.group)
    }

    #[test]
    fn groups_of_one_interval_start_one_after_the_other() {
        let start = Instant::now();
        let mut schedule = schedule(100 * MS, 4);
        schedule.begin(start);
        for (group, at) in [(0, 0), (1, 25), (2, 50), (3, 75), (0, 100), (1, 125)] {
            let due = start + at * MS;
            assert_eq!(schedule.due(), Some(due));
            assert_eq!(schedule.take(due, |_| false), Some(Turn { group, missed: 0 }));
        }
    }

    #[test]
    fn the_first_value_of_a_slow_group_comes_within_a_second() {
        let start = Instant::now();
        let mut schedule = schedule(Duration::from_hours(1), 2);
        schedule.begin(start);
        assert!(schedule.take(start, |_| false).is_some());
        assert_eq!(schedule.due(), Some(start + 500 * MS));
    }

    #[test]
    fn nothing_is_taken_before_its_time() {
        let start = Instant::now();
        let mut schedule = schedule(100 * MS, 1);
        schedule.begin(start);
        assert!(schedule.take(start, |_| false).is_some());
        assert_eq!(schedule.take(start + 99 * MS, |_| false), None);
    }

    #[test]
    fn a_group_that_is_hastened_is_next_and_has_its_interval_after_that() {
        let start = Instant::now();
        let mut schedule = schedule(100 * MS, 2);
        schedule.begin(start);
        assert_eq!(taken(&mut schedule, start), Some(0));
        schedule.hasten(0, start + 10 * MS);
        assert_eq!(schedule.due(), Some(start + 10 * MS));
        assert_eq!(taken(&mut schedule, start + 10 * MS), Some(0));
        schedule.hasten(1, start + 70 * MS);
        assert_eq!(schedule.due(), Some(start + 50 * MS), "none is put off");
        assert_eq!(taken(&mut schedule, start + 50 * MS), Some(1));
        assert_eq!(schedule.due(), Some(start + 110 * MS));
    }

    #[test]
    fn missed_slots_are_counted_and_not_made_up_for() {
        let start = Instant::now();
        let mut schedule = schedule(100 * MS, 1);
        schedule.begin(start);
        assert_eq!(schedule.take(start + 350 * MS, |_| false), Some(Turn { group: 0, missed: 3 }));
        assert_eq!(schedule.take(start + 351 * MS, |_| false), None);
        assert_eq!(schedule.due(), Some(start + 400 * MS));
        assert_eq!(schedule.take(start + 400 * MS, |_| false), Some(Turn { group: 0, missed: 0 }));
    }

    #[test]
    fn a_second_begin_forgets_no_slot() {
        let start = Instant::now();
        let mut schedule = schedule(100 * MS, 1);
        schedule.begin(start);
        schedule.begin(start + 1000 * MS);
        assert_eq!(
            schedule.take(start + 1000 * MS, |_| false),
            Some(Turn { group: 0, missed: 10 })
        );
    }

    #[test]
    fn an_urgent_group_goes_before_those_who_waited_longer() {
        let start = Instant::now();
        let groups = [(100 * MS, false), (100 * MS, false), (100 * MS, true)];
        let mut schedule = Schedule::new(groups);
        schedule.begin(start);
        // Something took long: all three are due.
        let now = start + 90 * MS;
        assert_eq!([(); 3].map(|()| taken(&mut schedule, now)), [Some(2), Some(0), Some(1)]);
    }

    #[test]
    fn an_urgent_group_that_does_not_fit_leaves_the_others_every_second_turn() {
        let start = Instant::now();
        let groups = [(MS, true), (100 * MS, false), (100 * MS, false)];
        let mut schedule = Schedule::new(groups);
        schedule.begin(start);
        let mut turns = Vec::new();
        for turn in 10..16 {
            turns.extend(taken(&mut schedule, start + turn * 10 * MS));
        }
        assert_eq!(turns, [0, 1, 0, 2, 0, 1]);
    }

    #[test]
    fn the_dead_give_way_after_a_time_out_to_all_who_waited_through_it() {
        let start = Instant::now();
        let mut schedule = schedule(100 * MS, 5);
        schedule.begin(start);
        let dead = |group: usize| group < 3;
        // A time-out of 300 ms: by then all five are due, the dead for longest.
        assert_eq!(schedule.take(start, dead).map(|turn| turn.group), Some(0));
        let mut now = start + 300 * MS;
        schedule.silent(now);
        let mut turns = Vec::new();
        for _ in 0..5 {
            let group = schedule.take(now, dead).map(|turn| turn.group);
            now += if group.is_some_and(dead) { 300 * MS } else { 10 * MS };
            if group.is_some_and(dead) {
                schedule.silent(now);
            }
            turns.extend(group);
        }
        assert_eq!(turns, [3, 4, 1, 3, 4], "one time-out, and then all who live");
    }

    #[test]
    fn where_all_are_dead_they_have_their_turns() {
        let start = Instant::now();
        let mut schedule = schedule(100 * MS, 2);
        schedule.begin(start);
        let now = start + 200 * MS;
        schedule.silent(now);
        let mut turn = || schedule.take(now, |_| true).map(|turn| turn.group);
        assert_eq!([turn(), turn()], [Some(0), Some(1)]);
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
