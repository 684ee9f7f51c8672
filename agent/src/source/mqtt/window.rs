//! Learns how many messages the broker sends before it waits for
//! acknowledgements.
//!
//! Until the commit nothing is acknowledged, so that a broker with a window of
//! W delivers at most W messages a commit: when the source stands still for
//! that, the commit should come at once. MQTT 3.1.1 does not tell W, and in
//! version 5 a broker may hold less than it was allowed. So it is learned: reads
//! went quiet with n un-acknowledged, and right after the acknowledgements new
//! ones burst in: twice the same n, then that is W. A few new ones are no burst:
//! twenty a second that come at their own pace bring one or two in that time.
//!
//! A wrong guess costs a commit per W messages, so W is forgotten when more
//! than W arrive, and now and then the hurry is left out to see whether they do.

/// A smaller window than any broker is set to (mosquitto 20, `HiveMQ` 10): a
/// few messages a second must not be taken for one. A burst is as many: a broker
/// that holds some back soon holds back these.
const LEAST: usize = 8;

/// One in so many stand-stills waits for the ordinary commit, as a test.
const PROBE_EVERY: u32 = 32;

#[derive(Debug, Default)]
pub(super) struct Window {
    learned: Option<usize>,
    /// Un-acknowledged when the reads went quiet last.
    quiet: Option<usize>,
    /// That many were then acknowledged.
    candidate: Option<usize>,
    /// The last n that was followed by a burst.
    seen: Option<usize>,
    hurried: u32,
}

impl Window {
    /// A read brought messages; `unanswered` now wait for their commit, and the
    /// last acknowledgements went out just before.
    pub(super) fn arrived(&mut self, unanswered: usize, just_after_answers: bool) {
        if self.learned.is_some_and(|window| unanswered > window) {
            self.learned = None;
            self.seen = None;
        }
        if !just_after_answers {
            self.candidate = None;
        }
        if unanswered >= LEAST
            && let Some(count) = self.candidate.take()
        {
            if self.seen == Some(count) && self.learned.is_none() {
                self.learned = Some(count);
            }
            self.seen = Some(count);
        }
        self.quiet = None;
    }

    /// A read brought nothing.
    pub(super) fn went_quiet(&mut self, unanswered: usize) {
        if unanswered >= LEAST {
            self.quiet = Some(unanswered);
        }
    }

    /// Acknowledgements went out.
    pub(super) fn answered(&mut self) {
        self.candidate = self.quiet.take();
    }

    /// Whether the source stands still until the next commit. Asked once for
    /// each stand-still.
    pub(super) fn stands_still(&mut self, unanswered: usize) -> bool {
        if self.learned != Some(unanswered) {
            return false;
        }
        self.hurried += 1;
        !self.hurried.is_multiple_of(PROBE_EVERY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burst(window: &mut Window, count: usize) {
        window.arrived(count, true);
        window.went_quiet(count);
        window.answered();
    }

    #[test]
    fn a_window_is_learned_from_two_bursts_after_acknowledgements() {
        let mut window = Window::default();
        burst(&mut window, 20);
        assert!(!window.stands_still(20));
        burst(&mut window, 20);
        burst(&mut window, 20);
        assert!(window.stands_still(20));
        assert!(!window.stands_still(19));
    }

    #[test]
    fn a_message_a_second_is_never_taken_for_a_window() {
        let mut window = Window::default();
        for _ in 0..100 {
            burst(&mut window, 1);
        }
        assert!(!window.stands_still(1));
    }

    #[test]
    fn a_steady_pace_is_never_taken_for_a_window() {
        let mut window = Window::default();
        for _ in 0..100 {
            for count in 1..=20 {
                window.arrived(count, count <= 2);
                assert!(!window.stands_still(count));
                window.went_quiet(count);
            }
            window.answered();
        }
    }

    #[test]
    fn a_burst_may_come_in_pieces() {
        let mut window = Window::default();
        for _ in 0..3 {
            for count in [1, 5, 20] {
                window.arrived(count, true);
            }
            window.went_quiet(20);
            window.answered();
        }
        assert!(window.stands_still(20));
    }

    #[test]
    fn bursts_that_do_not_follow_the_acknowledgements_teach_nothing() {
        let mut window = Window::default();
        for _ in 0..100 {
            window.arrived(20, false);
            window.went_quiet(20);
            window.answered();
        }
        assert!(!window.stands_still(20));
    }

    #[test]
    fn more_than_the_window_makes_it_forgotten() {
        let mut window = Window::default();
        for _ in 0..3 {
            burst(&mut window, 20);
        }
        window.arrived(21, false);
        assert!(!window.stands_still(20));
    }

    #[test]
    fn now_and_then_the_hurry_is_left_out() {
        let mut window = Window::default();
        for _ in 0..3 {
            burst(&mut window, 20);
        }
        let hurried = (0..PROBE_EVERY).filter(|_| window.stands_still(20)).count();
        assert_eq!(hurried, 31);
    }
}
