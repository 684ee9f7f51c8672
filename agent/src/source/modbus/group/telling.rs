//! What a group says in the log, each thing once: that its cycles are skipped, and what
//! the device refuses of it.

use super::super::plan::{BITS_PER_REGISTER, Span, range};
use super::super::sunspec::{self, Sunspec, Word};
use super::{Duration, Instant, Poll};
use crate::supervise::Link;

/// Places that one line names: more of them are one mistake.
const MOST_TOLD: usize = 5;

/// What was told holds for so long, and for so many cycles, after it was last seen.
const HOLDS: Duration = Duration::from_mins(1);
const CYCLES: u32 = 3;

/// What was said of requests that were refused, and when each was last so.
#[derive(Debug)]
pub(super) struct Refusals {
    holds: Duration,
    told: Vec<(String, Instant)>,
}

impl Poll {
    pub(in super::super) fn tell_pace(&mut self, missed: u64, now: Instant, link: &mut Link) {
        match self.pace.turn(missed, now) {
            Some(true) => {
                let what = format!("cannot be read every {}: cycles are skipped", self.interval);
                link.fault(&format!("{} interval", self.subject), &what);
            }
            Some(false) => link.well(&format!("{} interval", self.subject)),
            None => {}
        }
    }

    /// Tells which addresses the device refuses, when that has changed.
    pub(in super::super) fn tell_bad(&mut self, link: &mut Link) {
        if !self.requests.take_untold() {
            return;
        }
        self.tell_cuts(link);
        let mut bad = self.requests.bad();
        let told: Vec<String> = bad.by_ref().take(MOST_TOLD).map(range_of).collect();
        if told.is_empty() {
            return link.well(&self.addresses);
        }
        let more = match bad.count() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let what = format!(
            "the device refuses {}{more}: check table, address and type in its manual; what is \
             refused is asked again, each hour at the latest",
            told.join(", ")
        );
        link.fault(&self.addresses, &what);
    }

    /// Tells what the device's models are, or that it has none, when that has changed.
    pub(in super::super) fn tell_models(&mut self, link: &mut Link) {
        let subject = sunspec::subject(&self.subject);
        match self.sunspec.as_mut().and_then(Sunspec::take_word) {
            Some(Word::Note(what)) => {
                link.well(&subject);
                link.note(&self.subject, &what);
            }
            Some(Word::Fault(what)) => link.fault(&subject, &what),
            None => {}
        }
    }

    /// Says once which key would have spared a search.
    fn tell_cuts(&mut self, link: &Link) {
        let (holes, full): (Vec<_>, Vec<_>) = self.requests.cuts().partition(|(_, hole)| *hole > 0);
        let places = |cuts: &[(Span, u32)]| {
            let places = cuts.iter().take(MOST_TOLD).map(|(span, _)| range_of(*span));
            places.collect::<Vec<_>>().join(", ")
        };
        let mut said = Vec::new();
        // In registers, as the key has it.
        let narrow = |(span, hole): &(Span, u32)| {
            let unit = if span.table.is_bits() { BITS_PER_REGISTER.into() } else { 1 };
            (hole - 1) / unit
        };
        if let Some(most) = holes.iter().map(narrow).min() {
            said.push(format!(
                "the device refuses what lies unused before {}: `max_hole = {most}` would spare \
                 the search",
                places(&holes)
            ));
        }
        if !full.is_empty() {
            said.push(format!(
                "the device gives less at once than it was asked for, so that requests begin anew \
                 at {}: the right `max_registers` or `max_bits` would spare the search",
                places(&full)
            ));
        }
        let said = said.join("; ");
        if !said.is_empty() && said != self.cut {
            link.note(&self.subject, &said);
        }
        self.cut = said;
    }

    /// What the device refuses of it, if it is said to refuse anything.
    pub(in super::super) fn trouble(&self, link: &Link) -> Option<String> {
        let models = self.sunspec.is_some().then(|| sunspec::subject(&self.subject));
        let models = models.and_then(|subject| link.fault_of(&subject));
        let others = [&self.addresses, &self.subject].into_iter();
        let what = models.or_else(|| others.into_iter().find_map(|of| link.fault_of(of)))?;
        Some(format!("group {}: {what}", self.cycles.group))
    }

    /// A minute of whole cycles without a refusal ends the fault. What was told is not told
    /// again while it comes and goes: a device that refuses now this and now that has one
    /// fault, and not another one in each cycle.
    pub(in super::super) fn tell_refusal(
        &mut self,
        refused: Option<&str>,
        whole: bool,
        link: &mut Link,
    ) {
        let Some(what) = refused else {
            if whole {
                link.settled(&self.subject);
            }
            return;
        };
        let current = link.fault_of(&self.subject);
        link.fault(&self.subject, &self.refusals.word(what, current, Instant::now()));
    }
}

impl Refusals {
    pub(super) fn new(interval: Duration) -> Self {
        Self { holds: HOLDS.max(interval * CYCLES), told: Vec::new() }
    }

    /// What is to be told now that this was refused, where `current` is what was.
    fn word(&mut self, what: &str, current: Option<String>, now: Instant) -> String {
        self.told.retain(|(_, seen)| now.duration_since(*seen) < self.holds);
        let is_new = !self.told.iter().any(|(told, _)| told == what);
        if is_new && self.told.len() >= MOST_TOLD {
            // Nobody reads so many.
            return current.unwrap_or_else(|| what.to_owned());
        }
        self.told.retain(|(told, _)| told != what);
        self.told.push((what.to_owned(), now));
        let holds = |current: &String| self.told.iter().any(|(told, _)| told == current);
        match current.filter(holds) {
            Some(current) if !is_new => current,
            _ => what.to_owned(),
        }
    }
}

fn range_of(span: Span) -> String {
    range(span.table, span.address, span.width)
}
