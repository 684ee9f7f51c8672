//! The default record: one flat JSON object, ready to be a row.
//!
//! `gateway`, `epoch`, `seq`, `device`, `ts`, `ts_ns` (only where there is
//! something finer than a millisecond), `month`, `quality`, `read_ts` (only
//! where the event's time came from elsewhere), the static labels, then the
//! fields, each with `<name>_q` where its quality differs from the event's.
//!
//! | value | in JSON |
//! | --- | --- |
//! | null, bool, integers up to i64, finite floats | themselves |
//! | u64 beyond i64, decimals | text with all digits |
//! | NaN, infinities | null, and `out_of_range` as the field's quality |
//! | bytes | base64 text |
//! | timestamp with a zone | epoch milliseconds; RFC 3339 text in UTC where it is finer |
//! | timestamp without a zone | `YYYY-MM-DDTHH:MM:SS.fffffffff` |
//! | date, time, uuid | `YYYY-MM-DD`, `HH:MM:SS.fffffffff`, the usual 36 characters |
//! | json | as it came, where it is JSON; else text |
//! | array | array |
//!
//! Bytes are appended directly, no value tree is built: an event of eight
//! fields costs well under a microsecond.

use base64::Engine as _;

use super::{names, time};
use crate::buffer::{Epoch, EventRef, FieldRef, ValueRef};
use crate::event::{Decimal, Quality};

/// Writes the events of one batch after the other. What is the same for many
/// events (names, labels, the month) is made once.
#[derive(Debug, Default)]
pub struct Encoder {
    /// `{"gateway":"…","epoch":"…","seq":`
    head: Vec<u8>,
    /// By `name_index`: `"name":` as it stands in the record, `None`: not met.
    names: Vec<Option<Box<[u8]>>>,
    /// The labels that `label_text` was made of.
    labels: Vec<(String, String)>,
    label_text: Vec<u8>,
    label_names: Vec<Box<[u8]>>,
    /// First instant of the month met last, and of the one after it.
    month: (i64, i64),
}

impl Encoder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a batch: its names have indices of their own.
    pub fn begin(&mut self, gateway: &str, epoch: Epoch) {
        self.names.clear();
        self.head.clear();
        self.head.extend_from_slice(b"{\"gateway\":");
        text(gateway, &mut self.head);
        self.head.extend_from_slice(b",\"epoch\":\"");
        self.head.extend_from_slice(epoch.to_string().as_bytes());
        self.head.extend_from_slice(b"\",\"seq\":");
    }

    /// Appends one event of the begun batch.
    pub fn event(&mut self, event: &EventRef<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        integer(event.seq, out);
        out.extend_from_slice(b",\"device\":");
        text(event.device, out);
        let millis = event.time.0.div_euclid(1_000_000);
        let finer = event.time.0.rem_euclid(1_000_000);
        out.extend_from_slice(b",\"ts\":");
        integer(millis, out);
        if finer != 0 {
            out.extend_from_slice(b",\"ts_ns\":");
            integer(finer, out);
        }
        if millis < self.month.0 || millis >= self.month.1 {
            self.month = time::month_of(millis);
        }
        out.extend_from_slice(b",\"month\":");
        integer(self.month.0, out);
        out.extend_from_slice(b",\"quality\":\"");
        out.extend_from_slice(event.quality.as_str().as_bytes());
        out.push(b'"');
        if let Some(read_at) = event.read_at {
            out.extend_from_slice(b",\"read_ts\":");
            integer(read_at.0.div_euclid(1_000_000), out);
        }
        self.labels(event.labels);
        out.extend_from_slice(&self.label_text);
        for field in event.fields {
            self.field(field, event.quality, out);
        }
        out.push(b'}');
    }

    fn labels(&mut self, labels: &[(&str, &str)]) {
        let same = self.labels.len() == labels.len()
            && self.labels.iter().zip(labels).all(|(old, new)| old.0 == new.0 && old.1 == new.1);
        if same {
            return;
        }
        self.labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        // Names that met no label before may meet one of these.
        self.names.clear();
        self.label_names.clear();
        self.label_text.clear();
        for (name, value) in labels {
            let name = free_name(name, |new| self.label_names.iter().any(|n| **n == *new));
            self.label_text.push(b',');
            self.label_text.extend_from_slice(&name);
            text(value, &mut self.label_text);
            self.label_names.push(name);
        }
    }

    fn field(&mut self, field: &FieldRef<'_>, quality: Quality, out: &mut Vec<u8>) {
        if self.names.get(field.name_index).is_none_or(Option::is_none) {
            let taken = |new: &[u8]| {
                self.label_names.iter().any(|n| **n == *new)
                    || self.names.iter().flatten().any(|n| **n == *new)
            };
            let name = free_name(field.name, taken);
            // A batch has few names; one more slot for each is all it takes.
            if self.names.len() <= field.name_index {
                self.names.resize(field.name_index + 1, None);
            }
            if let Some(slot) = self.names.get_mut(field.name_index) {
                *slot = Some(name);
            }
        }
        let name = self
            .names
            .get(field.name_index)
            .and_then(Option::as_deref)
            .expect("the slot was filled above");
        out.push(b',');
        out.extend_from_slice(name);
        let mut finite = true;
        value(&field.value, out, &mut finite);
        let own = if finite { field.quality } else { Some(Quality::OutOfRange) };
        if let Some(own) = own.filter(|own| *own != quality) {
            out.push(b',');
            // `"name":` → `"name_q":`
            out.extend_from_slice(name.strip_suffix(b"\":").unwrap_or(name));
            out.extend_from_slice(b"_q\":\"");
            out.extend_from_slice(own.as_str().as_bytes());
            out.push(b'"');
        }
    }
}

/// `"name":` of the renamed name, numbered where it is taken.
fn free_name(name: &str, taken: impl Fn(&[u8]) -> bool) -> Box<[u8]> {
    let new = names::rename(name);
    let member = |suffix: &str| {
        let mut out = Vec::with_capacity(new.len() + 8);
        text(&format!("{new}{suffix}"), &mut out);
        out.push(b':');
        out.into_boxed_slice()
    };
    let plain = member("");
    if !taken(&plain) {
        return plain;
    }
    // One more attempt than there can be names ends it for certain.
    (2..=u32::MAX)
        .map(|n| member(&format!("_{n}")))
        .find(|m| !taken(m))
        .expect("an event has fewer fields than there are numbers")
}

fn value(given: &ValueRef<'_>, out: &mut Vec<u8>, finite: &mut bool) {
    match *given {
        ValueRef::Null => out.extend_from_slice(b"null"),
        ValueRef::Bool(true) => out.extend_from_slice(b"true"),
        ValueRef::Bool(false) => out.extend_from_slice(b"false"),
        ValueRef::I64(number) => integer(number, out),
        ValueRef::U64(number) if i64::try_from(number).is_ok() => integer(number, out),
        ValueRef::U64(number) => quoted(out, |out| integer(number, out)),
        ValueRef::F64(number) if number.is_finite() => {
            out.extend_from_slice(zmij::Buffer::new().format_finite(number).as_bytes());
        }
        ValueRef::F64(_) => {
            *finite = false;
            out.extend_from_slice(b"null");
        }
        ValueRef::Decimal(number) => quoted(out, |out| decimal(number, out)),
        ValueRef::Text(said) => text(said, out),
        ValueRef::Bytes(bytes) => quoted(out, |out| {
            let from = out.len();
            let length = base64::encoded_len(bytes.len(), true).unwrap_or(0);
            out.resize(from + length, b'=');
            if let Some(room) = out.get_mut(from..) {
                base64::engine::general_purpose::STANDARD
                    .encode_slice(bytes, room)
                    .expect("the room has the length that base64 asks for");
            }
        }),
        ValueRef::Timestamp { time: at, zoned: true } => {
            if at.0.rem_euclid(1_000_000) == 0 {
                integer(at.0.div_euclid(1_000_000), out);
            } else {
                quoted(out, |out| {
                    time::date_time(at, out);
                    out.push(b'Z');
                });
            }
        }
        ValueRef::Timestamp { time: at, zoned: false } => {
            quoted(out, |out| time::date_time(at, out));
        }
        ValueRef::Date(days) => quoted(out, |out| time::date(i64::from(days), out)),
        ValueRef::Time(nanos) => quoted(out, |out| time::time_of_day(nanos, out)),
        ValueRef::Uuid(bytes) => quoted(out, |out| uuid(bytes, out)),
        ValueRef::Json(raw) => {
            if serde_json::from_str::<serde::de::IgnoredAny>(raw).is_ok() {
                out.extend_from_slice(raw.as_bytes());
            } else {
                text(raw, out);
            }
        }
        ValueRef::Array(array) => {
            out.push(b'[');
            for (index, element) in array.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                value(&element, out, finite);
            }
            out.push(b']');
        }
    }
}

fn quoted(out: &mut Vec<u8>, inner: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    inner(out);
    out.push(b'"');
}

fn integer(number: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn decimal(number: Decimal, out: &mut Vec<u8>) {
    if number.unscaled < 0 {
        out.push(b'-');
    }
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(number.unscaled.unsigned_abs()).as_bytes();
    let scale = usize::from(number.scale);
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(scale));
    out.extend_from_slice(if whole.is_empty() { b"0" } else { whole });
    if scale > 0 {
        out.push(b'.');
        out.extend(std::iter::repeat_n(b'0', scale - fraction.len()));
        out.extend_from_slice(fraction);
    }
}

fn uuid(bytes: [u8; 16], out: &mut Vec<u8>) {
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        for nibble in [byte >> 4, byte & 15] {
            out.push(if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 });
        }
    }
}

/// A JSON string. What needs no escape, which is nearly all, is copied whole.
fn text(said: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = said.as_bytes();
    while let Some(at) = rest.iter().position(|b| *b < 0x20 || *b == b'"' || *b == b'\\') {
        let (clean, from) = rest.split_at(at);
        out.extend_from_slice(clean);
        let Some((special, behind)) = from.split_first() else { break };
        match special {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => out.extend_from_slice(format!("\\u{control:04x}").as_bytes()),
        }
        rest = behind;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
