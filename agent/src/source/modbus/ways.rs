//! Which of two ways to the same devices is taken. No socket; takes the time, never
//! asks for it.
//!
//! The first is the one that is meant, the second for when it fails, and there is never
//! more than one of them open. What makes the source take the other one:
//!
//! - **It cannot be opened**, twice in a row.
//! - **Nothing answers there** for [`SILENCE`], which two cycles at least have seen.
//! - **The first may be well again**: while the second is in use the first is tried, after
//!   [`STAY`] at first.
//!
//! The last two leave a way that can be opened, and so are a trial: where the other way
//! cannot be opened or all devices are silent there too, the one before is taken again at
//! once. It cannot flap: each trial doubles the time until the next of its kind, up to
//! [`LONGEST`]. Silence is waited for anew as soon as anything answers, and the stay on
//! the second is short again only after the first has held for [`LONGEST`].

use std::time::Duration;

use tokio::time::Instant;

/// One may be a gateway that starts, or a port that is just being freed.
const FAILED_CONNECTS: u32 = 2;

/// Cycles without an answer: one may be a lost packet.
const SILENT_CYCLES: u32 = 2;

/// In this time each silent device was asked again, for none rests longer.
pub(super) const SILENCE: Duration = Duration::from_secs(30);

/// Long enough for a gateway that restarts to be back for good.
pub(super) const STAY: Duration = Duration::from_mins(5);

/// A trial costs a time-out for each device at worst: not more often than this.
pub(super) const LONGEST: Duration = Duration::from_hours(1);

/// How this way is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    Kept,
    /// The way before could be opened, and nothing has answered on this one yet.
    Trial,
    /// A trial of the other one has just ended here.
    Back,
}

#[derive(Debug)]
pub(super) struct Ways {
    second: bool,
    /// When this way was taken.
    taken: Instant,
    hold: Hold,
    /// Tries to open it that failed, in a row.
    failed: u32,
    /// Since when nothing answers, and how many cycles have seen it.
    silent: Option<(Instant, u32)>,
    /// All devices were found to be silent.
    all_silent: bool,
    /// Silence that makes the other way worth a trial.
    patience: Duration,
    /// How long the second is kept before the first is tried.
    stay: Duration,
}

impl Ways {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            second: false,
            taken: now,
            hold: Hold::Kept,
            failed: 0,
            silent: None,
            all_silent: false,
            patience: SILENCE,
            stay: STAY,
        }
    }

    pub(super) const fn is_second(&self) -> bool {
        self.second
    }

    /// Whether it is to be given up again should it not work.
    pub(super) const fn is_trial(&self) -> bool {
        matches!(self.hold, Hold::Trial)
    }

    /// It was left for a trial, which was in vain, and has not been opened since.
    pub(super) const fn is_back(&self) -> bool {
        matches!(self.hold, Hold::Back)
    }

    pub(super) const fn opened(&mut self) {
        self.failed = 0;
        if self.is_back() {
            self.hold = Hold::Kept;
        }
    }

    /// It could not be opened; true: the other one is to be taken, and it is.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        self.failed = self.failed.saturating_add(1);
        let leaves = self.is_trial() || self.failed >= FAILED_CONNECTS;
        if leaves {
            self.take_other(now, false);
        }
        leaves
    }

    /// Neither can be opened: both are tried again, the first one before.
    pub(super) fn lost(&mut self, now: Instant) {
        if self.second {
            self.take_other(now, false);
        }
        (self.failed, self.hold) = (FAILED_CONNECTS, Hold::Kept);
    }

    /// A device has answered, if only with a refusal.
    pub(super) const fn heard(&mut self) {
        self.hold = Hold::Kept;
        self.silent = None;
        self.all_silent = false;
        self.patience = SILENCE;
    }

    /// A cycle was not answered; whether `all` devices are silent by now.
    pub(super) fn unheard(&mut self, all: bool, now: Instant) {
        let (since, cycles) = self.silent.unwrap_or((now, 0));
        self.silent = Some((since, cycles.saturating_add(1)));
        self.all_silent = all;
    }

    /// Takes the other way where it is time to; true: it did.
    pub(super) fn change(&mut self, now: Instant) -> bool {
        let silent = |for_long: Duration| {
            let is_long = |since: Instant| now.saturating_duration_since(since) >= for_long;
            self.silent.is_some_and(|(since, seen)| seen >= SILENT_CYCLES && is_long(since))
        };
        if self.is_trial() {
            let fails = self.all_silent || silent(SILENCE);
            if fails {
                self.take_other(now, false);
            }
            return fails;
        }
        let is_silent = silent(self.patience);
        let is_over = self.second && now.saturating_duration_since(self.taken) >= self.stay;
        if is_silent {
            self.patience = self.patience.saturating_mul(2).min(LONGEST);
        }
        if is_silent || is_over {
            self.take_other(now, true);
        }
        is_silent || is_over
    }

    fn take_other(&mut self, now: Instant, trial: bool) {
        if self.second && trial {
            self.stay = self.stay.saturating_mul(2).min(LONGEST);
        } else if !self.second
            && !self.is_trial()
            && now.saturating_duration_since(self.taken) >= LONGEST
        {
            self.stay = STAY;
        }
        self.second = !self.second;
        self.taken = now;
        self.hold = match self.hold {
            _ if trial => Hold::Trial,
            Hold::Trial => Hold::Back,
            Hold::Kept | Hold::Back => Hold::Kept,
        };
        (self.failed, self.silent, self.all_silent) = (0, None, false);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_mins(1);

    /// On the second way, where a device answers, since the first could not be opened.
    fn on_second(now: Instant) -> Ways {
        let mut ways = Ways::new(now);
        assert!(!ways.failed(now), "once is not enough");
        assert!(ways.failed(now) && ways.is_second());
        ways.opened();
        ways.heard();
        ways
    }

    /// After which time the first is tried again.
    fn stay(ways: &mut Ways, now: &mut Instant) -> Duration {
        let began = *now;
        while !ways.change(*now) {
            *now += SECOND;
        }
        assert!(!ways.is_second() && ways.is_trial());
        now.duration_since(began)
    }

    #[test]
    fn a_way_that_fails_between_good_ones_is_kept() {
        let now = Instant::now();
        let mut ways = Ways::new(now);
        for _ in 0..9 {
            assert!(!ways.failed(now));
            ways.opened();
            ways.unheard(true, now);
            assert!(!ways.change(now + 59 * MINUTE), "one silent cycle");
            ways.heard();
        }
        assert!(!ways.change(now + 1000 * MINUTE), "the first is never left while it works");
    }

    #[test]
    fn the_first_is_tried_ever_less_and_a_trial_that_fails_is_over_at_once() {
        let mut now = Instant::now();
        let mut ways = on_second(now);
        for minutes in [5, 10, 20, 40, 60, 60] {
            assert_eq!(stay(&mut ways, &mut now), minutes * MINUTE);
            assert!(ways.failed(now) && ways.is_second() && !ways.is_trial());
            ways.opened();
            ways.heard();
        }
    }

    #[test]
    fn a_first_way_on_which_all_are_silent_is_left_again_as_soon_as_that_is_seen() {
        let mut now = Instant::now();
        let mut ways = on_second(now);
        stay(&mut ways, &mut now);
        ways.opened();
        ways.unheard(false, now);
        assert!(!ways.change(now), "others have not been asked yet");
        ways.unheard(true, now);
        assert!(ways.change(now) && ways.is_second() && !ways.is_trial());
    }

    #[test]
    fn a_first_way_that_works_again_is_kept_and_one_that_soon_fails_is_trusted_less() {
        let mut now = Instant::now();
        let mut ways = on_second(now);
        assert_eq!(stay(&mut ways, &mut now), 5 * MINUTE);
        ways.opened();
        ways.heard();
        assert!(!ways.is_trial());
        now += 59 * MINUTE;
        assert!(!ways.failed(now) && ways.failed(now));
        assert_eq!(stay(&mut ways, &mut now), 10 * MINUTE);
        ways.heard();
        now += 60 * MINUTE;
        assert!(!ways.failed(now) && ways.failed(now));
        assert_eq!(stay(&mut ways, &mut now), 5 * MINUTE);
    }

    #[test]
    fn silence_on_both_ways_is_no_reason_to_flap() {
        let mut now = Instant::now();
        let mut ways = Ways::new(now);
        for seconds in [30, 60, 120, 240] {
            ways.unheard(true, now);
            ways.unheard(true, now);
            assert!(!ways.change(now + (seconds - 1) * SECOND));
            now += seconds * SECOND;
            assert!(ways.change(now) && ways.is_second() && ways.is_trial());
            ways.unheard(true, now);
            assert!(ways.change(now) && !ways.is_second() && !ways.is_trial());
        }
        ways.heard();
        ways.unheard(true, now);
        ways.unheard(true, now);
        assert!(ways.change(now + SILENCE), "what answers is waited for anew");
    }

    #[test]
    fn where_neither_can_be_opened_each_try_is_one_of_both() {
        let now = Instant::now();
        let mut ways = Ways::new(now);
        assert!(!ways.failed(now));
        for _ in 0..9 {
            assert!(!ways.is_second() && ways.failed(now), "the first, and then the second");
            assert!(ways.is_second() && !ways.failed(now));
            ways.lost(now);
        }
    }

    proptest! {
        #[test]
        fn whatever_happens_a_way_that_answers_is_left_for_a_trial_only_and_ever_less(
            steps in prop::collection::vec((0_u8..6, 0_u64..400), 0..300),
        ) {
            let mut now = Instant::now();
            let mut ways = Ways::new(now);
            for (what, seconds) in steps {
                now += Duration::from_secs(seconds);
                let was = (ways.is_second(), ways.is_trial());
                match what {
                    0 => ways.opened(),
                    1 => drop(ways.failed(now)),
                    2 => ways.heard(),
                    3 => ways.unheard(false, now),
                    4 => ways.unheard(true, now),
                    _ => drop(ways.change(now)),
                }
                if was.0 && !was.1 && what == 5 && !ways.is_second() {
                    prop_assert!(ways.is_trial());
                }
                prop_assert!(ways.stay >= STAY && ways.stay <= LONGEST);
                prop_assert!(ways.patience >= SILENCE && ways.patience <= LONGEST);
            }
        }
    }
}
