//! Says what keeps Kafka from being reached: once, and once when it is over.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::trouble::{Class, Trouble};

/// What heals by itself within this time (a coordinator that moves, a fresh
/// broker) is not worth a line.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
pub(super) struct Voice {
    since: Option<Instant>,
    /// What was said last; times and addresses in a text change, its kind does
    /// not.
    said: Option<String>,
    pub(super) text: Option<String>,
}

impl Voice {
    /// `told` is what the client itself says about its connections.
    pub(super) fn trouble(
        &mut self,
        trouble: &Trouble,
        told: Option<&str>,
        brokers: &str,
        now: Instant,
    ) {
        let since = *self.since.get_or_insert(now);
        let text = told.unwrap_or(&trouble.text);
        // `… (after 3ms in state CONNECT)` differs each time.
        let text = text.split(" (after ").next().unwrap_or_default().to_owned();
        let kind = match (told, trouble.code) {
            (Some(told), _) => told.split(':').next().unwrap_or_default().to_owned(),
            (None, Some(code)) => format!("{code:?}"),
            (None, None) => text.clone(),
        };
        let small =
            trouble.class == Class::Repeat && told.is_none_or(|told| told.starts_with("no broker"));
        // What follows from something that was said is no news either.
        if small && (now - since < PATIENCE || self.said.is_some()) {
            return;
        }
        if self.said.as_ref() != Some(&kind) {
            warn!(brokers, error = %text, "cannot deliver to Kafka, events are kept");
            self.said = Some(kind);
        }
        self.text = Some(text);
    }

    /// Another agent delivers in this one's place.
    pub(super) fn aside(&mut self, text: String) {
        self.said = Some("twin".to_owned());
        self.text = Some(text);
    }

    /// A commit succeeded.
    pub(super) fn well(&mut self, brokers: &str) {
        self.since = None;
        self.text = None;
        if self.said.take().is_some() {
            info!(brokers, "delivering to Kafka again");
        }
    }
}
