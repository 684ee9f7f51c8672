//! One figure of the table, and the table.

use std::fmt::Write as _;
use std::io::Write as _;

use serde::Serialize;

#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) part: &'static str,
    pub(crate) figure: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// At most this much, or with `at_least` no less, where the project has set a
    /// limit.
    pub(crate) limit: Option<f64>,
    pub(crate) at_least: bool,
    pub(crate) within: Option<bool>,
    pub(crate) note: Option<String>,
}

impl Line {
    /// A figure without a limit.
    pub(crate) fn told(
        part: &'static str,
        figure: &'static str,
        value: f64,
        unit: &'static str,
    ) -> Self {
        Self { part, figure, value, unit, limit: None, at_least: false, within: None, note: None }
    }

    pub(crate) fn at_most(self, limit: f64) -> Self {
        Self { limit: Some(limit), within: Some(self.value <= limit), ..self }
    }

    pub(crate) fn at_least(self, limit: f64) -> Self {
        let within = Some(self.value >= limit);
        Self { limit: Some(limit), at_least: true, within, ..self }
    }

    pub(crate) fn note(self, note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..self }
    }
}

/// Events and bytes are far below the 2^53 up to which a float counts exactly.
#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are small")]
pub(crate) const fn float(count: u64) -> f64 {
    count as f64
}

pub(crate) fn progress(text: &str) {
    // Without a terminal there is nobody to tell.
    writeln!(std::io::stderr(), "{text}").ok();
}

pub(crate) fn print(lines: &[Line], json: bool) {
    say(&if json { serde_json::json!({ "lines": lines }).to_string() } else { table(lines) });
}

pub(crate) fn say(text: &str) {
    // A reader that has gone wants no more of it.
    writeln!(std::io::stdout(), "{text}").ok();
}

fn table(lines: &[Line]) -> String {
    let mut text = format!(
        "\n{:<16} {:<34} {:>11} {:<8} {:>9}  within\n",
        "part", "figure", "measured", "unit", "limit"
    );
    for line in lines {
        writeln!(text, "{}", row(line)).expect("a string takes text");
    }
    text
}

pub(crate) fn row(line: &Line) -> String {
    let sign = if line.at_least { "≥ " } else { "" };
    let limit = line.limit.map_or_else(String::new, |limit| format!("{sign}{limit}"));
    let within = match line.within {
        Some(true) => "✓",
        Some(false) if line.at_least => "under",
        Some(false) => "over",
        None => "",
    };
    let note = line.note.as_deref().unwrap_or_default();
    let value = number(line.value);
    let row = format!(
        "{:<16} {:<34} {value:>11} {:<8} {limit:>9}  {within:<6} {note}",
        line.part, line.figure, line.unit
    );
    row.trim_end().to_owned()
}

/// Three digits that count, whatever the size.
fn number(value: f64) -> String {
    match value {
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ if value >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_above_its_limit_is_told_and_one_at_its_limit_is_within() {
        let line = |value| Line::told("burst", "CPU", value, "µs/event").at_most(9.0);
        assert_eq!([line(9.0).within, line(9.1).within], [Some(true), Some(false)]);
        let shown = table(&[line(9.1)]);
        assert!(shown.contains("9.10 µs/event         9  over"), "{shown}");
    }

    #[test]
    fn a_figure_that_must_be_reached_is_told_below_its_limit() {
        let line = |value| Line::told("drain", "rate", value, "×").at_least(0.8);
        assert_eq!([line(0.8).within, line(0.79).within], [Some(true), Some(false)]);
        let shown = table(&[line(0.79)]);
        assert!(shown.contains("0.790 ×            ≥ 0.8  under"), "{shown}");
    }
}
