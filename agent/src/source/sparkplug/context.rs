//! What the parts of a host are given with each message, and where they put what becomes
//! of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::counts::{Count, Counts};
use super::held::Raw;
use crate::event::{Event, Timestamp};
use crate::flow;
use crate::supervise::Standing;

/// What the configuration says.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) flow: flow::Id,
    /// Names of events: of a node itself, and of a device.
    pub(super) node: String,
    pub(super) device: String,
    /// Names of metrics, or their beginnings with `*`; empty: all.
    pub(super) metrics: Vec<String>,
    /// Between two requests to one node.
    pub(super) interval: Duration,
    pub(super) hold: Hold,
}

/// Bounds of what is held raw.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hold {
    pub(super) messages: usize,
    pub(super) bytes: usize,
    pub(super) total: usize,
    pub(super) time: Duration,
}

impl Rules {
    pub(super) fn wants(&self, name: &str) -> bool {
        let matches = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            // A column of a data set or a member of a template is the metric's.
            None => name
                .strip_prefix(pattern.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        };
        self.metrics.is_empty() || self.metrics.iter().any(matches)
    }
}

/// What became of the messages since it was looked at.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) events: Vec<Event>,
    /// How devices stand, in the order in which it changed.
    pub(super) standings: Vec<(Arc<str>, Standing, String)>,
    /// Devices that are known no more.
    pub(super) gone: Vec<Arc<str>>,
}

#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) rules: &'a Rules,
    pub(super) now: Instant,
    /// Wall time.
    pub(super) time: Timestamp,
    pub(super) found: &'a mut Found,
    pub(super) counts: &'a Counts,
    pub(super) held: &'a mut InAll,
}

/// Bytes that all nodes take.
#[derive(Debug)]
pub(super) struct InAll {
    /// Of what is held.
    pub(super) bytes: usize,
    /// Those of them that stand in each checkpoint.
    pub(super) saved: usize,
    /// Of what their births said, and of their last values.
    pub(super) known: usize,
    most_known: usize,
}

impl InAll {
    pub(super) const fn of(most_known: usize) -> Self {
        Self { bytes: 0, saved: 0, known: 0, most_known }
    }

    /// Whether more may be known of them.
    pub(super) const fn has_room(&self) -> bool {
        self.known < self.most_known
    }

    pub(super) fn add(&mut self, raw: &Raw) {
        self.bytes += raw.bytes();
        self.saved += if raw.is_saved { raw.bytes() } else { 0 };
    }

    pub(super) fn remove(&mut self, raw: &Raw) {
        self.bytes -= raw.bytes();
        self.saved -= if raw.is_saved { raw.bytes() } else { 0 };
    }
}

impl Context<'_> {
    pub(super) fn extend(&mut self, events: impl IntoIterator<Item = Event>) {
        self.found.events.extend(events);
    }

    pub(super) fn stand(&mut self, device: &Arc<str>, standing: Standing, why: &str) {
        self.found.gone.retain(|gone| gone != device);
        self.found.standings.push((Arc::clone(device), standing, why.to_owned()));
    }

    pub(super) fn count(&self, count: Count) {
        self.counts.add(count);
    }

    /// Something went out without a birth.
    pub(super) fn unresolved(&self) {
        self.count(Count::Unresolved);
    }
}
