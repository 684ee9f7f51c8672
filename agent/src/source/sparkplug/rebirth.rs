//! When an edge node is asked to be born again: at once where something of it cannot be
//! read, and then at most once in an interval. No clock.

use std::time::Duration;

use prost::Message as _;
use tokio::time::Instant;
use twox_hash::XxHash3_64;

use crate::decode::sparkplug::proto::{DataType, Metric, MetricValue, Payload};
use crate::event::Timestamp;

/// Name of the metric that asks for it (Sparkplug 3.0, 6.4.20); it has no alias.
pub(super) const REBIRTH: &str = "Node Control/Rebirth";

/// Requests in vain, one behind the other, after which the pause is doubled no more: a
/// node that does not answer is asked at each 16th interval then.
const MOST_DOUBLINGS: u32 = 4;

/// Between the first requests to the nodes that were there when a connection was lost: a
/// gateway that takes 10,000 births at once falls behind.
pub(super) const APART: Duration = Duration::from_millis(10);

/// Whether a request to an edge node is wanted, and from when on one may go out.
#[derive(Debug, Default)]
pub(super) struct Rebirth {
    wanted: Wanted,
    /// For what came since the last request.
    earliest: Option<Instant>,
    /// For what the last request has not mended.
    later: Option<Instant>,
    /// It was born since the last request.
    was_born: bool,
    in_vain: u32,
    asked: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    #[default]
    No,
    /// It was asked, and has not answered, or its birth did not help.
    Again,
    Yes,
}

impl Rebirth {
    /// Something came that cannot be read.
    pub(super) const fn want(&mut self) {
        self.wanted = Wanted::Yes;
    }

    /// Something came that the birth should have named. Where that was asked for, another
    /// one will hardly name it.
    pub(super) const fn want_another(&mut self) {
        match self.wanted {
            Wanted::No if self.was_born => self.wanted = Wanted::Again,
            Wanted::No => self.wanted = Wanted::Yes,
            Wanted::Again | Wanted::Yes => {}
        }
    }

    pub(super) const fn is_wanted(&self) -> bool {
        !matches!(self.wanted, Wanted::No)
    }

    /// It was born again.
    pub(super) const fn born(&mut self) {
        self.was_born = self.asked > 0;
        self.settle();
    }

    /// It is gone, or nobody is asked.
    pub(super) const fn settle(&mut self) {
        self.wanted = Wanted::No;
    }

    /// None goes out before.
    pub(super) fn not_before(&mut self, time: Instant) {
        self.earliest = self.earliest.max(Some(time));
        self.later = self.later.max(Some(time));
    }

    /// When the next request is due, if one is wanted.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        match self.wanted {
            Wanted::No => None,
            Wanted::Again => Some(self.later.unwrap_or(now)),
            Wanted::Yes => Some(self.earliest.unwrap_or(now)),
        }
    }

    /// Whether it is asked now; it stays wanted until a birth. The next one is due after
    /// `interval` and up to a quarter of it more, another time for each node (`salt`), so
    /// that the many that lost one broker are not asked again all at once. Each one that is
    /// in vain doubles that.
    pub(super) fn take(&mut self, now: Instant, interval: Duration, salt: &str) -> bool {
        if self.due(now).is_none_or(|due| due > now) {
            return false;
        }
        let is_again = self.wanted == Wanted::Again;
        self.in_vain = if is_again { (self.in_vain + 1).min(MOST_DOUBLINGS) } else { 0 };
        self.wanted = Wanted::Again;
        self.was_born = false;
        self.asked += 1;
        let chance = XxHash3_64::oneshot_with_seed(self.asked, salt.as_bytes()) % 1_024;
        let jitter = interval / 4 * u32::try_from(chance).unwrap_or_default() / 1_024;
        self.earliest = Some(now + interval + jitter);
        self.later = Some(now + (interval + jitter) * (1 << self.in_vain));
        true
    }
}

/// The payload of the command: without a sequence number (6.4.20).
pub(super) fn command(now: Timestamp) -> Vec<u8> {
    let millis = u64::try_from(now.0 / 1_000_000).unwrap_or_default();
    let metric = Metric {
        name: Some(REBIRTH.to_owned()),
        timestamp: Some(millis),
        datatype: Some(DataType::Boolean as u32),
        value: Some(MetricValue::Boolean(true)),
        ..Metric::default()
    };
    let payload = Payload { timestamp: Some(millis), metrics: vec![metric], ..Payload::default() };
    payload.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_is_asked_at_once_and_then_once_in_an_interval_with_jitter() {
        let interval = Duration::from_mins(1);
        let mut rebirth = Rebirth::default();
        let start = Instant::now();
        let mut asked = Vec::new();
        for _ in 0..600 {
            rebirth.want();
            if rebirth.take(Instant::now(), interval, "g/n") {
                asked.push(start.elapsed().as_secs());
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(asked.first(), Some(&0));
        assert!((9..=10).contains(&asked.len()), "{asked:?}");
        let pauses: Vec<u64> = asked.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(pauses.iter().all(|pause| (60..=75).contains(pause)), "{pauses:?}");
        assert!(pauses.iter().any(|pause| *pause != pauses[0]), "no jitter: {pauses:?}");
    }

    /// The seconds at which it is asked within an hour, where `each` happens every second.
    fn asked_in_an_hour(each: impl Fn(&mut Rebirth)) -> Vec<u64> {
        let (mut rebirth, start) = (Rebirth::default(), Instant::now());
        rebirth.want();
        let mut asked = Vec::new();
        for second in 0..3_600 {
            if rebirth.take(start + Duration::from_secs(second), Duration::from_mins(1), "g/n") {
                asked.push(second);
            }
            each(&mut rebirth);
        }
        asked
    }

    #[test]
    fn who_does_not_answer_is_asked_again_and_ever_more_seldom() {
        let asked = asked_in_an_hour(|_| {});
        assert!((5..=7).contains(&asked.len()), "{asked:?}");
        assert!((60..=76).contains(&asked[1]), "{asked:?}");
        assert!((180..=226).contains(&asked[2]), "{asked:?}");
    }

    #[test]
    fn what_no_birth_mends_is_asked_for_ever_more_seldom() {
        let asked = asked_in_an_hour(|rebirth| {
            rebirth.born();
            rebirth.want_another();
        });
        assert!((5..=7).contains(&asked.len()), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_born_again_is_not_asked_and_the_interval_holds_all_the_same() {
        let interval = Duration::from_mins(1);
        let (mut rebirth, now) = (Rebirth::default(), Instant::now());
        rebirth.want();
        assert!(rebirth.take(now, interval, "n"));
        rebirth.want();
        assert!(rebirth.due(now).unwrap() >= now + interval);
        rebirth.born();
        assert_eq!(rebirth.due(now), None);
        rebirth.want();
        assert!(!rebirth.take(now + interval / 2, interval, "n"));
        assert!(rebirth.take(now + interval * 2, interval, "n"));
    }
}
