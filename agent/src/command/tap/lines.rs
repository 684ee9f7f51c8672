//! A line for each field. An event that was made of one thing, a message or a row, has
//! that before its fields.

use std::io;

use tidegate::tap::{Dead, Seen};

use super::words;
use crate::printable::printable;

/// A column does not get wider for a single long name.
const WIDEST: usize = 32;

const HEAD: [&str; 7] = ["TIME (UTC)", "DEVICE", "FIELD", "VALUE", "UNIT", "QUALITY", "RAW"];

/// The columns, as wide as what stood in them so far.
#[derive(Debug, Default)]
pub(super) struct Lines {
    widths: [usize; HEAD.len()],
    has_head: bool,
}

impl Lines {
    pub(super) fn event(&mut self, seen: &Seen) -> io::Result<()> {
        let time = words::time(seen.event.time);
        let rows: Vec<[String; HEAD.len()]> = seen
            .fields
            .iter()
            .map(|field| {
                [
                    time.clone(),
                    seen.event.device.to_string(),
                    field.name.clone(),
                    words::value(&field.value),
                    field.unit.clone().unwrap_or_default(),
                    field.quality.clone(),
                    field.raw.as_ref().map(words::raw).unwrap_or_default(),
                ]
            })
            .collect();
        self.widen(&rows);
        if !std::mem::replace(&mut self.has_head, true) {
            self.print(&HEAD.map(str::to_owned))?;
        }
        if let Some(raw) = &seen.raw {
            words::line(&format!("{time}  {}", words::raw(raw)))?;
        }
        rows.iter().try_for_each(|row| self.print(row))
    }

    fn widen(&mut self, rows: &[[String; HEAD.len()]]) {
        let head = HEAD.map(str::to_owned);
        for row in rows.iter().chain([&head]) {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(printable(cell).chars().count().min(WIDEST));
            }
        }
    }

    fn print(&self, row: &[String; HEAD.len()]) -> io::Result<()> {
        let cells = row.iter().zip(self.widths);
        let cells = cells.map(|(cell, width)| format!("{:width$}", printable(cell)));
        words::line(cells.collect::<Vec<_>>().join("  ").trim_end())
    }
}

/// What became no event, and why.
pub(super) fn dead(dead: &Dead) -> io::Result<()> {
    let time = words::time(tidegate::clock::Clock::system().now());
    let what = match &dead.raw {
        Some(raw) => words::raw(raw),
        None => format!("{}, {} bytes", dead.letter.origin, dead.letter.length),
    };
    words::line(&format!("{time}  {what}"))?;
    words::line(&format!("{time}  no event, a dead letter: {}", dead.letter.reason))
}
