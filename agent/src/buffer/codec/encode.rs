//! Events → bytes, one by one as they come.

use std::collections::HashMap;
use std::sync::Arc;

use ciborium_ll::{Encoder as Heads, Header, simple};

use super::{
    BIG_NEGATIVE, BIG_POSITIVE, DATE, DECIMAL, JSON, LOCAL, MAX_DEPTH, POWERS, SHORT, TIME, U64,
    UUID, VERSION, ZONED,
};
use crate::event::{Decimal, Event, Field, Timestamp, Value};

/// Static fields of a gateway and a source.
pub(crate) type Labels = Arc<[(Arc<str>, Arc<str>)]>;

type Name = (Arc<str>, Option<Arc<str>>);

/// A batch in the making: the events of one flow, encoded as they are added.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    origins: Vec<Origin>,
    origin_index: HashMap<(u16, Arc<str>), usize>,
    names: Vec<Name>,
    name_index: HashMap<Name, usize>,
    /// Encoded events, one behind the other.
    body: Vec<u8>,
    /// About the bytes of origins and names.
    dictionary: usize,
    last_origin: usize,
    last_time: i64,
    count: u32,
    oldest: Option<Timestamp>,
}

#[derive(Debug)]
struct Origin {
    source: u16,
    device: Arc<str>,
    labels: Labels,
    /// Names of the last event, in order: the next one most likely has the
    /// same, and comparing is cheaper than hashing.
    guess: Vec<usize>,
}

impl Encoder {
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Time of the oldest event.
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        self.oldest
    }

    /// About the bytes of the batch so far.
    pub(crate) fn len(&self) -> usize {
        self.body.len() + self.dictionary
    }

    /// About the bytes that `event` adds at most.
    pub(crate) fn size(event: &Event) -> usize {
        let fields = event.fields.iter().map(|field| {
            let unit = field.unit.as_ref().map_or(0, |unit| unit.len());
            size(&field.value) + field.name.len() + unit + HEAD
        });
        event.device.len() + fields.sum::<usize>() + 4 * HEAD
    }

    /// Adds an event of `source`, whose labels are `labels`.
    pub(crate) fn add(&mut self, source: u16, labels: &Labels, event: &Event) {
        let origin = self.origin(source, labels, &event.device);
        self.last_origin = origin;
        let time = event.time.0;
        unsigned(&mut self.body, origin as u64);
        signed(&mut self.body, time.wrapping_sub(self.last_time));
        self.last_time = time;
        match event.read_at {
            Some(read) => signed(&mut self.body, read.0.wrapping_sub(time)),
            None => head(&mut self.body, Header::Simple(simple::NULL)),
        }
        unsigned(&mut self.body, event.quality as u64);
        unsigned(&mut self.body, event.fields.len() as u64);
        for (place, field) in event.fields.iter().enumerate() {
            let name = self.name(origin, place, field);
            match field.quality {
                None => {
                    unsigned(&mut self.body, name as u64);
                    value(&mut self.body, &field.value, 0);
                }
                Some(quality) => {
                    head(&mut self.body, Header::Negative(name as u64));
                    value(&mut self.body, &field.value, 0);
                    unsigned(&mut self.body, quality as u64);
                }
            }
        }
        self.count += 1;
        self.oldest = Some(self.oldest.map_or(event.time, |oldest| oldest.min(event.time)));
    }

    /// The whole batch, into `out`.
    pub(crate) fn finish(&self, out: &mut Vec<u8>) {
        out.clear();
        head(out, Header::Array(Some(4)));
        unsigned(out, VERSION);
        head(out, Header::Array(Some(self.origins.len())));
        for origin in &self.origins {
            head(out, Header::Array(Some(2)));
            text(out, &origin.device);
            head(out, Header::Array(Some(origin.labels.len())));
            for (label, word) in origin.labels.iter() {
                head(out, Header::Array(Some(2)));
                text(out, label);
                text(out, word);
            }
        }
        head(out, Header::Array(Some(self.names.len())));
        for (name, unit) in &self.names {
            head(out, Header::Array(Some(2)));
            text(out, name);
            match unit {
                Some(unit) => text(out, unit),
                None => head(out, Header::Simple(simple::NULL)),
            }
        }
        head(out, Header::Array(Some(self.count as usize)));
        out.extend_from_slice(&self.body);
    }

    fn origin(&mut self, source: u16, labels: &Labels, device: &Arc<str>) -> usize {
        if let Some(last) = self.origins.get(self.last_origin)
            && last.source == source
            && last.device == *device
        {
            return self.last_origin;
        }
        *self.origin_index.entry((source, Arc::clone(device))).or_insert_with(|| {
            let words = labels.iter().map(|(label, word)| label.len() + word.len());
            self.dictionary += device.len() + words.sum::<usize>();
            self.origins.push(Origin {
                source,
                device: Arc::clone(device),
                labels: Arc::clone(labels),
                guess: Vec::new(),
            });
            self.origins.len() - 1
        })
    }

    fn name(&mut self, origin: usize, place: usize, field: &Field) -> usize {
        let guess = &mut self.origins.get_mut(origin).expect("the caller has just found it").guess;
        if let Some(index) = guess.get(place)
            && let Some((name, unit)) = self.names.get(*index)
            && *name == field.name
            && *unit == field.unit
        {
            return *index;
        }
        let key = (Arc::clone(&field.name), field.unit.clone());
        let index = *self.name_index.entry(key).or_insert_with_key(|key| {
            self.dictionary += key.0.len() + key.1.as_ref().map_or(0, |unit| unit.len());
            self.names.push(key.clone());
            self.names.len() - 1
        });
        match guess.get_mut(place) {
            Some(known) => *known = index,
            // Places come in order, so that this one is the next.
            None => guess.push(index),
        }
        index
    }
}

/// The longest head of CBOR, and the longest value without bytes of its own
/// besides a decimal's.
const HEAD: usize = 9;

fn size(value: &Value) -> usize {
    match value {
        Value::Text(text) | Value::Json(text) => 2 * HEAD + text.len(),
        Value::Bytes(bytes) => HEAD + bytes.len(),
        Value::Array(elements) => HEAD + elements.iter().map(size).sum::<usize>(),
        _ => 3 * HEAD,
    }
}

/// A batch of one event out of another: its origin, the names of the other
/// batch, and the event behind its time, each as it stands there.
pub(super) fn single(origin: &[u8], names: &[u8], time: i64, rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(origin.len() + names.len() + rest.len() + 4 * HEAD);
    head(&mut out, Header::Array(Some(4)));
    unsigned(&mut out, VERSION);
    head(&mut out, Header::Array(Some(1)));
    out.extend_from_slice(origin);
    out.extend_from_slice(names);
    head(&mut out, Header::Array(Some(1)));
    unsigned(&mut out, 0);
    signed(&mut out, time);
    out.extend_from_slice(rest);
    out
}

fn head(out: &mut Vec<u8>, header: Header) {
    Heads::from(out).push(header).expect("writing to memory does not fail");
}

fn unsigned(out: &mut Vec<u8>, number: u64) {
    head(out, Header::Positive(number));
}

fn signed(out: &mut Vec<u8>, number: i64) {
    // CBOR has -1 - n for a negative number: its bits inverted.
    let magnitude = if number < 0 { !number } else { number }.cast_unsigned();
    head(out, if number < 0 { Header::Negative(magnitude) } else { Header::Positive(magnitude) });
}

fn text(out: &mut Vec<u8>, text: &str) {
    head(out, Header::Text(Some(text.len())));
    out.extend_from_slice(text.as_bytes());
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    head(out, Header::Bytes(Some(bytes.len())));
    out.extend_from_slice(bytes);
}

fn value(out: &mut Vec<u8>, value: &Value, depth: usize) {
    match value {
        Value::Null => head(out, Header::Simple(simple::NULL)),
        Value::Bool(false) => head(out, Header::Simple(simple::FALSE)),
        Value::Bool(true) => head(out, Header::Simple(simple::TRUE)),
        Value::I64(number) => signed(out, *number),
        Value::U64(number) => {
            head(out, Header::Tag(U64));
            unsigned(out, *number);
        }
        Value::F64(number) => float(out, *number),
        Value::Decimal(number) => decimal(out, *number),
        Value::Text(word) => text(out, word),
        Value::Bytes(blob) => bytes(out, blob),
        Value::Timestamp { time, zoned } => {
            head(out, Header::Tag(if *zoned { ZONED } else { LOCAL }));
            signed(out, time.0);
        }
        Value::Date(days) => {
            head(out, Header::Tag(DATE));
            signed(out, i64::from(*days));
        }
        Value::Time(nanos) => {
            head(out, Header::Tag(TIME));
            unsigned(out, *nanos);
        }
        Value::Uuid(uuid) => {
            head(out, Header::Tag(UUID));
            bytes(out, uuid);
        }
        Value::Json(json) => {
            head(out, Header::Tag(JSON));
            bytes(out, json.as_bytes());
        }
        // Deeper than anything that a source reads; null rather than bytes
        // that no reader takes.
        Value::Array(_) if depth >= MAX_DEPTH => head(out, Header::Simple(simple::NULL)),
        Value::Array(elements) => {
            head(out, Header::Array(Some(elements.len())));
            for element in elements {
                self::value(out, element, depth + 1);
            }
        }
    }
}

/// By hand: `ciborium-ll` also tries 16 bits, which costs more than it saves.
fn float(out: &mut Vec<u8>, number: f64) {
    #[expect(clippy::cast_possible_truncation, reason = "the next line finds out")]
    let short = number as f32;
    if f64::from(short).to_bits() == number.to_bits() {
        out.push(0xfa);
        out.extend_from_slice(&short.to_be_bytes());
    } else if let Some((tag, digits)) = digits(number) {
        head(out, Header::Tag(tag));
        signed(out, digits);
    } else {
        out.push(0xfb);
        out.extend_from_slice(&number.to_be_bytes());
    }
}

/// A float that was a short decimal: its tag and its digits.
fn digits(number: f64) -> Option<(u64, i64)> {
    /// From here on it saves nothing.
    const MOST: f64 = 4_294_967_296.0;
    /// A product below that is rounded by less; what misses an integer by more is not
    /// worth a division.
    const NEAR: f64 = 1e-6;

    for (tag, power) in (SHORT..).zip(POWERS) {
        let scaled = number * power;
        if scaled.is_nan() || scaled.abs() >= MOST {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "it is smaller, and rounds")]
        let nearest = (scaled + 0.5_f64.copysign(scaled)) as i64;
        #[expect(clippy::cast_precision_loss, reason = "it has 32 bits")]
        let digits = nearest as f64;
        if (scaled - digits).abs() < NEAR && (digits / power).to_bits() == number.to_bits() {
            return Some((tag, nearest));
        }
    }
    None
}

/// RFC 8949, 3.4.4: `[exponent, mantissa]`.
fn decimal(out: &mut Vec<u8>, number: Decimal) {
    head(out, Header::Tag(DECIMAL));
    head(out, Header::Array(Some(2)));
    signed(out, -i64::from(number.scale));
    if let Ok(small) = i64::try_from(number.unscaled) {
        return signed(out, small);
    }
    let negative = number.unscaled < 0;
    let magnitude = if negative { !number.unscaled } else { number.unscaled };
    head(out, Header::Tag(if negative { BIG_NEGATIVE } else { BIG_POSITIVE }));
    bytes(out, &magnitude.to_be_bytes());
}
