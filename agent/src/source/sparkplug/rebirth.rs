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

/// A request of an edge node is wanted, and from when on one may go out.
#[derive(Debug, Default)]
pub(super) struct Rebirth {
    wanted: bool,
    earliest: Option<Instant>,
    asked: u64,
}

impl Rebirth {
    /// Something came that cannot be read.
    pub(super) const fn want(&mut self) {
        self.wanted = true;
    }

    /// It was born again, or is gone.
    pub(super) const fn settle(&mut self) {
        self.wanted = false;
    }

    /// When the next request is due, if one is wanted.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        self.wanted.then(|| self.earliest.unwrap_or(now))
    }

    /// Whether it is asked now. The next one is due after `interval` and up to a quarter
    /// of it more, another time for each node (`salt`), so that the many that lost one
    /// broker are not asked again all at once.
    pub(super) fn take(&mut self, now: Instant, interval: Duration, salt: &str) -> bool {
        if self.due(now).is_none_or(|due| due > now) {
            return false;
        }
        self.wanted = false;
        self.asked += 1;
        let chance = XxHash3_64::oneshot_with_seed(self.asked, salt.as_bytes()) % 1_024;
        let jitter = interval / 4 * u32::try_from(chance).unwrap_or_default() / 1_024;
        self.earliest = Some(now + interval + jitter);
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

    #[tokio::test(start_paused = true)]
    async fn who_was_born_again_is_not_asked_and_the_interval_holds_all_the_same() {
        let interval = Duration::from_mins(1);
        let (mut rebirth, now) = (Rebirth::default(), Instant::now());
        rebirth.want();
        assert!(rebirth.take(now, interval, "n"));
        rebirth.want();
        assert!(rebirth.due(now).unwrap() >= now + interval);
        rebirth.settle();
        assert_eq!(rebirth.due(now), None);
        rebirth.want();
        assert!(!rebirth.take(now + interval / 2, interval, "n"));
        assert!(rebirth.take(now + interval * 2, interval, "n"));
    }
}
