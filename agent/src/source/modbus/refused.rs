//! What a device is known to refuse in a group, and when it is asked for it
//! again. Takes the time, never asks for it.
//!
//! Nothing is refused for ever: a device that is still starting refuses what it
//! has, and another firmware has what the one before refused. So each fact is
//! doubted from time to time, soon at first and then ever less.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::time::Instant;

use super::config::Table;
use super::plan::Span;

/// What was found while a device was starting is mended a minute later; twice as
/// long each time, up to [`LONGEST_REST`].
pub(super) const FIRST_REST: Duration = Duration::from_mins(1);

/// Nobody who changed a device waits longer than this, and a fact that holds
/// costs 24 requests of a signal a day.
pub(super) const LONGEST_REST: Duration = Duration::from_hours(1);

/// One thing that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fact {
    /// This place was refused when it was all that was asked for.
    Bad(Span),
    /// What lies before this place and what begins with it was answered, but not
    /// both at once: there is a refused hole between them, or the device takes
    /// less at once than is configured.
    Cut(Span),
}

impl Fact {
    pub(super) const fn span(self) -> Span {
        match self {
            Self::Bad(span) | Self::Cut(span) => span,
        }
    }
}

/// When a fact is doubted next, and how long it was left alone.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    at: Instant,
    rest: Duration,
}

/// All that is known to be refused.
#[derive(Debug, Clone, Default)]
pub(super) struct Refused(BTreeMap<Fact, Doubt>);

impl Refused {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_bad(&self, span: Span) -> bool {
        self.0.contains_key(&Fact::Bad(span))
    }

    pub(super) fn is_cut(&self, span: Span) -> bool {
        self.0.contains_key(&Fact::Cut(span))
    }

    /// Whether this range holds the whole of a bad place: it would be refused.
    pub(super) fn is_within(&self, table: Table, address: u16, count: u16) -> bool {
        let last = address.saturating_add(count.saturating_sub(1));
        let place = |address, width| Fact::Bad(Span { table, address, width });
        let begins: RangeInclusive<Fact> = place(address, 0)..=place(last, u16::MAX);
        let end = u32::from(address) + u32::from(count);
        self.0.range(begins).any(|(fact, _)| fact.span().end() <= end)
    }

    pub(super) fn facts(&self) -> impl Iterator<Item = Fact> {
        self.0.keys().copied()
    }

    /// The places that are bad, in the order of their addresses.
    pub(super) fn bad(&self) -> impl Iterator<Item = Span> {
        self.facts().filter(|fact| matches!(fact, Fact::Bad(_))).map(Fact::span)
    }

    /// The places that are read apart from what lies before them.
    pub(super) fn cuts(&self) -> impl Iterator<Item = Span> {
        self.facts().filter(|fact| matches!(fact, Fact::Cut(_))).map(Fact::span)
    }

    pub(super) fn learn(&mut self, fact: Fact, now: Instant) {
        self.0.insert(fact, Doubt { at: now + FIRST_REST, rest: FIRST_REST });
    }

    pub(super) fn forget(&mut self, fact: Fact) {
        self.0.remove(&fact);
    }

    pub(super) fn forget_bad(&mut self) {
        self.0.retain(|fact, _| !matches!(fact, Fact::Bad(_)));
    }

    /// What is to be asked again now: what has waited longest.
    pub(super) fn doubtful(&self, now: Instant) -> Option<Fact> {
        let due = self.0.iter().filter(|(_, doubt)| doubt.at <= now);
        due.min_by_key(|(_, doubt)| doubt.at).map(|(fact, _)| *fact)
    }

    /// It was asked again, and nothing has changed.
    pub(super) fn still(&mut self, fact: Fact, now: Instant) {
        if let Some(doubt) = self.0.get_mut(&fact) {
            doubt.rest = doubt.rest.saturating_mul(2).min(LONGEST_REST);
            doubt.at = now + doubt.rest;
        }
    }

    /// The device may have changed: all of it is asked again, one after the other.
    pub(super) fn doubt(&mut self, now: Instant) {
        self.0.values_mut().for_each(|doubt| *doubt = Doubt { at: now, rest: FIRST_REST });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    const fn place(address: u16, width: u16) -> Span {
        Span { table: Table::Holding, address, width }
    }

    #[test]
    fn a_fact_that_holds_is_doubted_ever_less_down_to_once_an_hour() {
        let (mut now, mut refused) = (Instant::now(), Refused::default());
        let fact = Fact::Bad(place(7, 1));
        refused.learn(fact, now);
        for rest in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(refused.doubtful(now + rest * MINUTE - Duration::from_millis(1)), None);
            now += rest * MINUTE;
            assert_eq!(refused.doubtful(now), Some(fact));
            refused.still(fact, now);
        }
        refused.doubt(now);
        assert_eq!(refused.doubtful(now), Some(fact));
        refused.still(fact, now);
        assert_eq!(refused.doubtful(now + 2 * MINUTE), Some(fact));
    }

    #[test]
    fn a_range_is_refused_where_it_holds_the_whole_of_a_bad_place() {
        let mut refused = Refused::default();
        refused.learn(Fact::Bad(place(10, 2)), Instant::now());
        refused.learn(Fact::Cut(place(20, 1)), Instant::now());
        let is_within = |address, count| refused.is_within(Table::Holding, address, count);
        assert!(is_within(10, 2) && is_within(0, 12) && is_within(10, 9) && is_within(9, 100));
        assert!(!is_within(0, 11) && !is_within(11, 9) && !is_within(10, 1) && !is_within(20, 1));
        assert!(!refused.is_within(Table::Input, 0, 100));
        refused.learn(Fact::Bad(place(u16::MAX, 1)), Instant::now());
        assert!(refused.is_within(Table::Holding, u16::MAX, 1));
        assert!(!refused.is_within(Table::Holding, u16::MAX, 0));
    }
}
