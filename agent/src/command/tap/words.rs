//! What a person reads: times, values, what they were made of, and how the source is.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use tidegate::clock::Clock;
use tidegate::decode::{escaped, sparkplug};
use tidegate::event::{Timestamp, Value};
use tidegate::raw::{Message, Raw};
use tidegate::supervise::State;

use crate::printable::printable;

/// An event that is older has its date, too.
const DAY: i64 = 86_400_000_000_000;

/// Characters of a value, and of what it was made of: more is for `--json`.
const MOST_VALUE: usize = 80;
const MOST_RAW: usize = 300;

/// One line on stdout. An error is for who calls, so that a closed pipe ends it.
pub(super) fn line(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{}", printable(text))
}

/// Whether a name has what is asked for, if anything is.
pub(super) fn has(wanted: Option<&str>, name: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| name.is_some_and(|name| name.contains(wanted)))
}

pub(super) fn topic(raw: Option<&Raw>) -> Option<&str> {
    match raw {
        Some(Raw::Message(message)) => Some(&message.topic),
        _ => None,
    }
}

/// The time of day in UTC, to the millisecond; of another day with the date.
pub(super) fn time(at: Timestamp) -> String {
    let is_near = Clock::system().now().0.abs_diff(at.0) < DAY.unsigned_abs();
    let form = if is_near { "%H:%M:%S%.3f" } else { "%Y-%m-%d %H:%M:%S%.3f" };
    instant(at).strftime(form).to_string()
}

/// Any number of nanoseconds in 64 bits is within the years that are known there.
pub(super) fn instant(at: Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_nanosecond(at.0.into()).unwrap_or_default()
}

/// A value of a record; a text without its quotes.
pub(super) fn value(json: &str) -> String {
    short(serde_json::from_str(json).unwrap_or_else(|_| json.to_owned()), MOST_VALUE)
}

/// What something was made of.
pub(super) fn raw(raw: &Raw) -> String {
    let text = match raw {
        Raw::Registers { table, address, words } => {
            let last = usize::from(*address) + words.len().saturating_sub(1);
            let to = if words.len() > 1 { format!(" to {last}") } else { String::new() };
            format!("{table} {address}{to}: {}", hex(words))
        }
        Raw::Bit { table, address, set } => format!("{table} {address}: {}", u8::from(*set)),
        Raw::Nothing { table, address, why } => format!("{table} {address}: {why}"),
        Raw::Message(message) => self::message(message),
        Raw::Frame(bytes) => escaped::print(bytes),
        Raw::Row(columns) => {
            let columns = columns.iter().map(|(name, value)| format!("{name}={}", stored(value)));
            columns.collect::<Vec<_>>().join(" ")
        }
    };
    short(text, MOST_RAW)
}

/// Registers as manuals and other tools show them.
fn hex(words: &[u16]) -> String {
    words.iter().map(|word| format!("{word:04X}")).collect::<Vec<_>>().join(" ")
}

fn message(message: &Message) -> String {
    let retained = if message.retained { ", retained" } else { "" };
    let properties = message.properties.iter().map(|(name, value)| format!(", {name}: {value}"));
    let properties: String = properties.collect();
    let mut seq = String::new();
    let payload = match sparkplug(message) {
        Some(mut shown) => {
            // What tells of a gap stands where a long birth is not cut off.
            let own = shown.as_object_mut().and_then(|shown| shown.remove("seq"));
            seq = own.map(|number| format!(", seq {number}")).unwrap_or_default();
            shown.to_string()
        }
        None => payload(&message.payload),
    };
    format!("{}, QoS {}{seq}{retained}{properties}: {payload}", message.topic, message.qos)
}

/// The payload of an edge node of Sparkplug, decoded.
pub(super) fn sparkplug(message: &Message) -> Option<serde_json::Value> {
    message.topic.starts_with("spBv1.0/").then(|| sparkplug::show(&message.payload)).flatten()
}

/// Bytes as text where they are, else as hexadecimal digits.
pub(super) fn payload(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02X}")),
    }
}

/// A value of a database as its own language has it.
pub(super) fn stored(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::I64(number) => number.to_string(),
        Value::F64(number) => format!("{number:?}"),
        Value::Text(text) => format!("'{text}'"),
        Value::Bytes(bytes) => {
            bytes.iter().fold("x'".to_owned(), |t, b| format!("{t}{b:02x}")) + "'"
        }
        other => format!("{other:?}"),
    }
}

/// Its beginning, where it is longer than `most` characters.
pub(super) fn short(text: String, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// What of a line fits into so many columns.
pub(super) fn cut(mut line: String, columns: usize) -> String {
    if let Some((end, _)) = line.char_indices().nth(columns) {
        line.truncate(end);
    }
    line
}

/// How the source is, and what of it has been told.
#[derive(Debug)]
pub(super) struct Faults {
    up: bool,
    known: BTreeMap<String, String>,
    /// Told once, with the first connection that fails.
    hint: Option<String>,
    hinted: bool,
}

impl Faults {
    pub(super) const fn new(hint: Option<String>) -> Self {
        Self { up: false, known: BTreeMap::new(), hint, hinted: false }
    }

    /// Takes a state over; gives the lines that tell what is new in it.
    pub(super) fn changed(&mut self, state: &State) -> Vec<String> {
        let now = time(Clock::system().now());
        let mut told = Vec::new();
        if state.up && !self.up {
            told.push(format!("{now}  {} is up", state.source));
        }
        for (subject, what) in &state.faults {
            if self.known.get(subject) != Some(what) {
                told.push(format!("{now}  {}", fault(subject, what)));
            }
        }
        let over = self.known.keys().filter(|subject| !state.faults.contains_key(*subject));
        let named = over.filter(|subject| !subject.is_empty());
        told.extend(named.map(|subject| format!("{now}  {subject} is well again")));
        if state.faults.contains_key("") && !self.hinted {
            self.hinted = true;
            told.extend(self.hint.clone());
        }
        (self.up, self.known) = (state.up, state.faults.clone());
        told
    }

    pub(super) const fn is_up(&self) -> bool {
        self.up
    }

    /// What is wrong now, with what may help.
    pub(super) fn now(&self) -> impl Iterator<Item = String> {
        let all = self.known.iter().map(|(subject, what)| fault(subject, what));
        all.chain(self.hint.clone().filter(|_| self.known.contains_key("")))
    }
}

/// The connection itself has no subject.
fn fault(subject: &str, what: &str) -> String {
    if subject.is_empty() { what.to_owned() } else { format!("{subject}: {what}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_value_was_made_of_reads_as_in_manuals_and_queries() {
        let registers = |words| Raw::Registers { table: "holding", address: 107, words };
        let message = Message {
            topic: "a/b".into(),
            payload: vec![0xFF, 0],
            qos: 1,
            retained: true,
            properties: vec![("Content Type".into(), "x".into())],
        };
        let data = Message {
            topic: "spBv1.0/g/DDATA/n/d".into(),
            // A timestamp and a seq.
            payload: vec![0x08, 5, 0x18, 7],
            qos: 0,
            retained: false,
            properties: Vec::new(),
        };
        let row = [("id", Value::I64(7)), ("at", Value::Text("now".into())), ("x", Value::Null)];
        let row = row.map(|(name, value)| (name.into(), value)).to_vec();
        let why = "exception 02 (illegal data address)".to_owned();
        for (made_of, expected) in [
            (registers(vec![0xD7]), "holding 107: 00D7"),
            (registers(vec![0xD7, 1]), "holding 107 to 108: 00D7 0001"),
            (Raw::Bit { table: "coil", address: 3, set: true }, "coil 3: 1"),
            (
                Raw::Nothing { table: "input", address: 9, why },
                "input 9: exception 02 (illegal data address)",
            ),
            (Raw::Message(message), "a/b, QoS 1, retained, Content Type: x: 0xFF00"),
            (
                Raw::Message(data),
                r#"spBv1.0/g/DDATA/n/d, QoS 0, seq 7: {"metrics":[],"timestamp":5}"#,
            ),
            (Raw::Frame(b"\x02+ 12.5 kg\r\n".to_vec()), r"\x02+ 12.5 kg\r\n"),
            (Raw::Row(row), "id=7 at='now' x=NULL"),
        ] {
            assert_eq!(raw(&made_of), expected);
        }
    }

    #[test]
    fn each_change_of_a_source_is_told_once() {
        let mut faults = Faults::new(Some("stop the agent".into()));
        let state = |up, faults: &[(&str, &str)]| State {
            source: "bus".into(),
            up,
            faults: faults.iter().map(|(s, w)| ((*s).to_owned(), (*w).to_owned())).collect(),
            devices: BTreeMap::new(),
            way: None,
        };
        let mut told = |state: State| -> Vec<String> {
            let lines = faults.changed(&state).into_iter();
            lines.map(|line| line.split("  ").last().unwrap().to_owned()).collect()
        };
        assert_eq!(told(state(false, &[("", "no way")])), ["no way", "stop the agent"]);
        assert_eq!(told(state(false, &[("", "no way")])), [""; 0]);
        assert_eq!(told(state(true, &[("boiler", "late")])), ["bus is up", "boiler: late"]);
        assert_eq!(told(state(true, &[])), ["boiler is well again"]);
        assert_eq!(told(state(false, &[("", "gone")])), ["gone"]);
    }
}
