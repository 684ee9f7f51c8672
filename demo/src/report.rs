//! What became of every event: the result of a run.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use tidegate_demo::ledger::{Ledger, Source, Totals};

/// The result; as JSON, the last line of `--json`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether all that was under way at the end was waited for; if not, it
    /// does not count as lost.
    complete: bool,
    produced: u64,
    /// Most events that were in the buffer at once.
    buffered_peak: u64,
    delivered: u64,
    lost: u64,
    duplicated: u64,
    /// Copies that only the mock cluster shows.
    repeated: u64,
    out_of_order: u64,
    /// Records with a number that the plant never gave away.
    unexpected: u64,
    /// What could not become an event.
    dead_letters: u64,
    sources: BTreeMap<&'static str, Totals>,
    /// What this result does not prove.
    note: &'static str,
}

impl Report {
    pub(crate) fn new(
        ledger: &Ledger,
        complete: bool,
        buffered_peak: u64,
        dead_letters: u64,
        note: &'static str,
    ) -> Self {
        let totals = |source| if complete { ledger.at_end(source) } else { ledger.live(source) };
        let all = totals(None);
        let by = |source: Source| (source.name(), totals(Some(source)));
        Self {
            complete,
            produced: all.produced,
            buffered_peak,
            delivered: all.delivered,
            lost: all.lost,
            duplicated: all.duplicated,
            repeated: all.repeated,
            out_of_order: all.out_of_order,
            unexpected: ledger.unexpected(),
            dead_letters,
            sources: Source::ALL.into_iter().map(by).collect(),
            note,
        }
    }

    /// Whether the promise was kept.
    pub(crate) fn is_clean(&self) -> bool {
        let broken = [self.lost, self.duplicated, self.out_of_order, self.unexpected];
        broken.iter().all(|count| *count == 0) && self.produced > 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, totals) in &self.sources {
            writeln!(
                f,
                "{name:<8} produced {}, delivered {}, lost {}, duplicated {}",
                totals.produced, totals.delivered, totals.lost, totals.duplicated
            )?;
        }
        writeln!(
            f,
            "{:<8} produced {}, delivered {}, lost {}, duplicated {}, at most {} in the buffer",
            "all", self.produced, self.delivered, self.lost, self.duplicated, self.buffered_peak
        )?;
        if !self.complete {
            writeln!(f, "ended before everything that was under way had arrived")?;
        }
        if self.repeated > 0 {
            writeln!(f, "{} copies under the same id around an outage", self.repeated)?;
        }
        write!(f, "{}", self.note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_line_has_the_promised_fields_by_source_and_in_all() {
        let ledger = Ledger::new(true);
        ledger.produce(Source::Boiler, "b");
        ledger.produce(Source::Sensors, "s");
        ledger.arrived(Source::Sensors, "s", 1, "g/e/1");
        ledger.arrived(Source::Sensors, "s", 1, "g/e/2");
        let report = Report::new(&ledger, true, 7, 1, "a note");
        assert!(!report.is_clean());
        let json = serde_json::to_value(&report).unwrap();
        let expected = serde_json::json!({
            "complete": true, "produced": 2, "buffered_peak": 7, "delivered": 1, "lost": 1, "duplicated": 1,
            "repeated": 0, "out_of_order": 0, "unexpected": 0, "dead_letters": 1,
            "note": "a note",
            "sources": {
                "boiler": { "produced": 1, "delivered": 0, "lost": 1, "duplicated": 0,
                            "repeated": 0, "out_of_order": 0 },
                "sensors": { "produced": 1, "delivered": 1, "lost": 0, "duplicated": 1,
                             "repeated": 0, "out_of_order": 0 },
                "machine": { "produced": 0, "delivered": 0, "lost": 0, "duplicated": 0,
                             "repeated": 0, "out_of_order": 0 },
            },
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn what_was_not_waited_for_is_not_called_lost() {
        let ledger = Ledger::new(true);
        ledger.produce(Source::Boiler, "b");
        let report = Report::new(&ledger, false, 0, 0, "");
        assert_eq!((report.produced, report.delivered, report.lost), (1, 0, 0));
    }

    #[test]
    fn a_run_without_events_proves_nothing() {
        assert!(!Report::new(&Ledger::new(true), true, 0, 0, "").is_clean());
    }
}
