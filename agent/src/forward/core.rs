//! The forwarder's states, and what follows from what: no clock, no broker.
//!
//! ```text
//! Connecting ─► ReadingPosition ─► Sending ─► Committing ─┐
//!     ▲               ▲              ▲  │          │      │
//!     │               │              │  ▼          ▼      │
//!     ├── rebuild ────┘           Sifting ◄── Aborting    │
//!     │                              ▲                    │
//!  Watching ◄── fenced               └────────────────────┘
//! ```
//! Where the position is lost, Looking comes between `ReadingPosition` and Sending.
//!
//! Every new producer runs the whole start (SAFETY 1). A commit whose outcome
//! is not known is only ever repeated, never aborted, and nothing is sent
//! before it is known or the position has said where Kafka stands (SAFETY 2).
//! After a fence it is looked who sends before anybody is fenced (SAFETY 5).

use std::time::Duration;

use super::trouble::Class;

/// First pause after a failure; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// A gateway that nobody drives to must go on soon after its uplink is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// How often it is looked whether a twin still sends: a read of one offset.
const TWIN_LOOK: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// No producer, or one that is not initialised.
    Connecting,
    /// The producer stands; Kafka's position is not known yet.
    ReadingPosition,
    /// The position is lost: looking for what is in Kafka already (SAFETY 3).
    Looking,
    /// No transaction, or one that is being filled.
    Sending,
    /// The commit was asked for; only its answer counts.
    Committing,
    /// The transaction is lost and must be aborted.
    Aborting,
    /// Records were refused; finding out which ones alone.
    Sifting,
    /// Fenced: looking who sends, without fencing anybody.
    Watching,
}

impl State {
    /// The word for status and logs.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::ReadingPosition => "reading position",
            Self::Looking => "looking",
            Self::Sending | Self::Sifting => "sending",
            Self::Committing => "committing",
            Self::Aborting => "aborting",
            Self::Watching => "standing aside",
        }
    }
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// The transaction goes on with another load, or the look with more records.
    More,
    /// Kafka has no position any more, and something is stored.
    Lost,
    /// There was nothing to send.
    Idle,
    /// Another agent sends.
    Aside,
    /// The transaction failed because records were refused.
    Refused,
    Failed(Class),
}

#[derive(Debug)]
pub(super) struct Core {
    state: State,
    /// Whether the producer must be dropped before the next step.
    rebuild: bool,
    /// Whether refused records wait to be sifted once the abort is done.
    refused: bool,
    failures: u32,
}

impl Core {
    pub(super) const fn new() -> Self {
        Self { state: State::Connecting, rebuild: false, refused: false, failures: 0 }
    }

    pub(super) const fn state(&self) -> State {
        self.state
    }

    /// Whether the producer is lost; asking is taking note of it.
    pub(super) const fn take_rebuild(&mut self) -> bool {
        std::mem::replace(&mut self.rebuild, false)
    }

    /// The step of the present state ended so; how long to pause before the
    /// next one.
    pub(super) fn settle(&mut self, outcome: Outcome) -> Duration {
        use Outcome::{Aside, Done, Failed, Idle, Lost, More, Refused};
        use State::{
            Aborting, Committing, Connecting, Looking, ReadingPosition, Sending, Sifting, Watching,
        };
        let state = self.state;
        self.state = match (state, outcome) {
            // What goes wrong while looking says nothing about the twin.
            (_, Failed(Class::Fenced)) | (Watching, Failed(Class::Rebuild)) => {
                self.give_up();
                Watching
            }
            (_, Failed(Class::Rebuild)) => {
                self.give_up();
                Connecting
            }
            (Watching, Done) => Connecting,
            (Connecting, Done) => ReadingPosition,
            // The commit is known: the producer and the line are well.
            (Committing, Done) => {
                self.failures = 0;
                Sending
            }
            (Sending, Done) => Committing,
            (Sending | Sifting, Refused) => {
                self.refused = true;
                Aborting
            }
            (Sending | Sifting, Failed(_)) | (Committing, Failed(Class::Abort)) => Aborting,
            (Aborting, Done) if std::mem::take(&mut self.refused) => Sifting,
            (ReadingPosition, Lost) => Looking,
            (ReadingPosition | Looking | Aborting | Sifting, Done) => Sending,
            // What has no transaction to lose is tried again as it is; a
            // commit above all.
            (same, _) => same,
        };
        match outcome {
            Failed(_) => self.pause(),
            Aside => TWIN_LOOK,
            Done | More | Lost | Idle | Refused => Duration::ZERO,
        }
    }

    /// The producer is dropped before the next step.
    const fn give_up(&mut self) {
        self.rebuild = true;
        self.refused = false;
    }

    fn pause(&mut self) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        pause.min(LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(outcomes: &[Outcome]) -> Core {
        let mut core = Core::new();
        for outcome in outcomes {
            core.settle(*outcome);
        }
        core
    }

    #[test]
    fn every_word_for_a_state_stands_in_the_list_of_the_status() {
        let states = [
            State::Connecting,
            State::ReadingPosition,
            State::Looking,
            State::Sending,
            State::Committing,
            State::Aborting,
            State::Sifting,
            State::Watching,
        ];
        let mut words = states.map(State::as_str).to_vec();
        words.dedup();
        let mut listed = crate::forward::Status::STATES.to_vec();
        for list in [&mut words, &mut listed] {
            list.sort_unstable();
            list.dedup();
        }
        assert_eq!(words, listed);
    }

    use Outcome::{Aside, Done, Failed, Idle, Lost, More, Refused};

    #[test]
    fn nothing_is_sent_before_the_position_was_read() {
        assert_eq!(run(&[Done]).state(), State::ReadingPosition);
        let failed = [Done, Failed(Class::Repeat), Failed(Class::Abort)];
        assert_eq!(run(&failed).state(), State::ReadingPosition);
        assert_eq!(run(&[Done, Done]).state(), State::Sending);
    }

    #[test]
    fn nothing_is_sent_before_a_look_has_ended() {
        let mut core = run(&[Done, Lost]);
        for looked in [More, Failed(Class::Repeat), More] {
            core.settle(looked);
            assert_eq!(core.state(), State::Looking, "{looked:?}");
        }
        core.settle(Done);
        assert_eq!(core.state(), State::Sending);
    }

    #[test]
    fn a_commit_that_timed_out_is_only_repeated() {
        let mut core = run(&[Done, Done, Done]);
        for _ in 0..100 {
            assert_eq!(core.state(), State::Committing);
            core.settle(Failed(Class::Repeat));
        }
        core.settle(Done);
        assert_eq!(core.state(), State::Sending);
    }

    #[test]
    fn a_fatal_error_runs_the_whole_start_from_every_state() {
        for before in [
            &[][..],
            &[Done],
            &[Done, Lost],
            &[Done, Done],
            &[Done, Done, Done],
            &[Done, Done, Failed(Class::Abort)],
            &[Done, Done, Refused, Done],
        ] {
            let mut core = run(before);
            core.settle(Failed(Class::Rebuild));
            assert!(core.take_rebuild(), "{before:?}");
            assert!(!core.take_rebuild());
            assert_eq!(core.state(), State::Connecting);
            core.settle(Done);
            assert_eq!(core.state(), State::ReadingPosition);
        }
    }

    #[test]
    fn after_a_fence_it_is_looked_who_sends_before_anybody_is_fenced() {
        for before in [&[][..], &[Done, Done], &[Done, Done, Done]] {
            let mut core = run(before);
            core.settle(Failed(Class::Fenced));
            assert!(core.take_rebuild());
            for looked in [Aside, Failed(Class::Repeat), Failed(Class::Rebuild)] {
                core.settle(looked);
                assert_eq!(core.state(), State::Watching, "{looked:?}");
            }
            core.settle(Done);
            assert_eq!(core.state(), State::Connecting);
        }
    }

    #[test]
    fn refused_records_are_sifted_only_after_the_abort() {
        assert_eq!(run(&[Done, Done, Refused]).state(), State::Aborting);
        assert_eq!(run(&[Done, Done, Refused, Failed(Class::Repeat)]).state(), State::Aborting);
        assert_eq!(run(&[Done, Done, Refused, Done]).state(), State::Sifting);
        assert_eq!(run(&[Done, Done, Refused, Done, Done]).state(), State::Sending);
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_end_with_a_commit() {
        let mut core = run(&[Done, Done]);
        assert_eq!(core.settle(Idle), Duration::ZERO);
        let pauses: Vec<u128> =
            (0..8).map(|_| core.settle(Failed(Class::Repeat)).as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
        for _ in 0..3 {
            core.settle(Done);
        }
        assert_eq!(core.settle(Failed(Class::Abort)), FIRST_PAUSE);
    }
}
