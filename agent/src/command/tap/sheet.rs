//! The newest value of each field, in a table that is drawn anew in its place.
//!
//! Plain control sequences of ECMA-48, which every terminal knows: the cursor goes up by
//! the lines drawn before, and a line that is the same is passed over, so that a table
//! over a slow line costs what changed in it.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use rustix::termios::tcgetwinsize;
use tidegate::tap::{Dead, Seen};
use tokio::time::Instant;

use super::words::{self, Faults};
use crate::command::table;
use crate::printable::printable;

/// More than any bus has. What comes beyond is not shown, and that is said.
const MOST_ROWS: usize = 2_000;

/// Columns and lines where nobody says how large the terminal is.
const USUAL: (usize, usize) = (80, 24);

const HEAD: [&str; 7] = ["DEVICE", "FIELD", "VALUE", "UNIT", "QUALITY", "AGE", "RAW"];

/// A field, and what it was when it was read last.
#[derive(Debug)]
struct Row {
    device: String,
    field: String,
    value: String,
    unit: String,
    quality: String,
    raw: String,
    read: Instant,
}

#[derive(Debug)]
pub(super) struct Sheet {
    source: String,
    rows: Vec<Row>,
    is_full: bool,
    dead: u64,
    /// Why the newest dead letter is one.
    reason: String,
    /// What stands on the terminal, and for which size it was drawn.
    drawn: Vec<String>,
    size: (usize, usize),
}

impl Sheet {
    pub(super) fn new(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            rows: Vec::new(),
            is_full: false,
            dead: 0,
            reason: String::new(),
            drawn: Vec::new(),
            size: USUAL,
        }
    }

    pub(super) fn event(&mut self, seen: Seen) {
        let message = seen.raw.as_ref().map(words::raw).unwrap_or_default();
        for shown in seen.fields {
            let row = Row {
                device: seen.event.device.to_string(),
                field: shown.name,
                value: words::value(&shown.value),
                unit: shown.unit.unwrap_or_default(),
                quality: shown.quality,
                raw: shown.raw.as_ref().map_or_else(|| message.clone(), words::raw),
                read: Instant::now(),
            };
            let is_same = |old: &Row| old.device == row.device && old.field == row.field;
            let known = self.rows.iter().position(is_same).unwrap_or(self.rows.len());
            match self.rows.get_mut(known) {
                Some(old) => *old = row,
                None if known < MOST_ROWS => self.rows.push(row),
                None => self.is_full = true,
            }
        }
    }

    pub(super) fn dead(&mut self, dead: &Dead) {
        self.dead += 1;
        self.reason.clone_from(&dead.letter.reason);
    }

    /// Brings the terminal to what is known now.
    pub(super) fn draw(&mut self, after: Duration, events: u64, faults: &Faults) -> io::Result<()> {
        let size = size();
        let lines = self.lines(after, events, faults, size);
        let text = redrawn(&self.drawn, &lines, size != self.size);
        (self.drawn, self.size) = (lines, size);
        let mut out = io::stdout();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// What is to be seen on a terminal of so many columns and lines.
    fn lines(
        &self,
        after: Duration,
        events: u64,
        faults: &Faults,
        (columns, rows): (usize, usize),
    ) -> Vec<String> {
        let up = if faults.is_up() { "up" } else { "not up" };
        let seconds = after.as_secs();
        let source = &self.source;
        let mut top =
            vec![format!("{source}: {up}, {events} events in {seconds} s; Ctrl-C ends it")];
        top.extend(faults.now().map(|fault| format!("! {fault}")));
        if self.dead > 0 {
            top.push(format!("! {} dead letters, the last one: {}", self.dead, self.reason));
        }
        if self.is_full {
            top.push(format!("! more than {MOST_ROWS} fields: --device or --field choose"));
        }
        let cells: Vec<Vec<String>> = self.rows.iter().map(Row::cells).collect();
        let mut all: Vec<String> = top.iter().map(|line| printable(line).into_owned()).collect();
        all.extend(table::lines(&HEAD, &cells));
        // The cursor stands on a line of its own.
        let most = rows.saturating_sub(1).max(2);
        if all.len() > most {
            let hidden = all.len() - most + 1;
            all.truncate(most - 1);
            all.push(format!(
                "{hidden} more lines: a taller window, --device or --field show them"
            ));
        }
        all.into_iter().map(|line| words::cut(line, columns)).collect()
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let age = self.read.elapsed().as_secs();
        vec![
            self.device.clone(),
            self.field.clone(),
            self.value.clone(),
            self.unit.clone(),
            self.quality.clone(),
            format!("{age} s"),
            self.raw.clone(),
        ]
    }
}

fn size() -> (usize, usize) {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => USUAL,
    }
}

/// What makes of the lines `old`, below which the cursor stands, the lines `new`. Where the
/// size is another one, nobody knows where the old ones went.
fn redrawn(old: &[String], new: &[String], is_resized: bool) -> String {
    let mut text = String::new();
    let old = if is_resized && !old.is_empty() {
        text.push_str("\x1b[2J\x1b[H");
        &[]
    } else {
        old
    };
    if !old.is_empty() {
        write!(text, "\x1b[{}A\r", old.len()).expect("writing to a string does not fail");
    }
    for (index, line) in new.iter().enumerate() {
        if old.get(index) != Some(line) {
            text.push_str("\x1b[2K");
            text.push_str(line);
        }
        text.push_str("\r\n");
    }
    text.push_str("\x1b[0J");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal of so many lines that knows what we send.
    fn shown(texts: &[String], height: usize) -> Vec<String> {
        let (mut screen, mut at) = (vec![String::new(); height], 0_usize);
        for text in texts {
            let mut rest = text.as_str();
            while !rest.is_empty() {
                if let Some(after) = rest.strip_prefix("\x1b[") {
                    let end = after.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                    let number: usize = after[..end].parse().unwrap_or(0);
                    match &after[end..=end] {
                        "A" => at -= number,
                        "H" => at = 0,
                        "K" => screen[at].clear(),
                        "J" if number == 2 => screen.iter_mut().for_each(String::clear),
                        "J" => screen[at..].iter_mut().for_each(String::clear),
                        other => panic!("{other}"),
                    }
                    rest = &after[end + 1..];
                } else if let Some(after) = rest.strip_prefix("\r\n") {
                    at += 1;
                    if at == height {
                        screen.remove(0);
                        screen.push(String::new());
                        at -= 1;
                    }
                    rest = after;
                } else if let Some(after) = rest.strip_prefix('\r') {
                    rest = after;
                } else {
                    let end = rest.find(['\x1b', '\r']).unwrap_or(rest.len());
                    screen[at].push_str(&rest[..end]);
                    rest = &rest[end..];
                }
            }
        }
        screen.retain(|line| !line.is_empty());
        screen
    }

    fn lines(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_table_that_is_drawn_anew_shows_what_is_new_and_nothing_else() {
        let steps = [
            lines(&["up", "a 1", "b 2"]),
            lines(&["up", "a 1", "b 3", "c 4"]),
            lines(&["down", "c 4"]),
            lines(&["up", "a 1", "b 3", "c 4"]),
        ];
        for height in 5..8 {
            let mut sent = Vec::new();
            let mut old: &[String] = &[];
            for new in &steps {
                sent.push(redrawn(old, new, false));
                assert_eq!(&shown(&sent, height), new);
                old = new;
            }
            sent.push(redrawn(old, &steps[0], true));
            assert_eq!(shown(&sent, height), steps[0], "after another size");
        }
    }

    #[test]
    fn what_has_not_changed_is_not_sent_again() {
        let old = lines(&["up", "a 1"]);
        assert!(!redrawn(&old, &lines(&["up", "a 2"]), false).contains("up"));
    }

    #[test]
    fn a_table_never_has_more_lines_or_columns_than_the_terminal() {
        let mut sheet = Sheet::new("bus");
        let faults = Faults::new(None);
        for field in 0..40 {
            sheet.rows.push(Row {
                device: "boiler".into(),
                field: format!("field {field}"),
                value: "ä".repeat(70),
                unit: String::new(),
                quality: "good".into(),
                raw: String::new(),
                read: Instant::now(),
            });
        }
        for size in [(20, 5), (80, 24), (200, 60), (1, 1)] {
            let drawn = sheet.lines(Duration::ZERO, 7, &faults, size);
            assert!(drawn.len() < size.1.max(3), "{size:?}");
            assert!(drawn.iter().all(|line| line.chars().count() <= size.0), "{size:?}");
        }
    }
}
