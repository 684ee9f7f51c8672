//! How a signal, or a named bit of it, becomes a field.

use std::sync::Arc;

use super::super::connection::Reply;
use super::super::plan::Request;
use crate::decode::registers::{self, Decoder, Linear};
use crate::event::{Field, Quality, Value};

#[derive(Debug)]
pub(in super::super) struct Signal {
    pub(in super::super) name: Arc<str>,
    pub(in super::super) unit: Option<Arc<str>>,
    pub(in super::super) decoder: Decoder,
    /// Registers or bits of its place, in which its own begin behind `skip` others.
    pub(in super::super) width: u16,
    pub(in super::super) skip: u16,
    pub(in super::super) factor: Option<Factor>,
}

/// Where the power of ten is by which a value is multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Factor {
    Always(i8),
    /// In the value's place, behind so many registers.
    Beside(u16),
    /// It is what this other signal of the group holds.
    Signal(usize),
}

/// The largest power of ten of a scale factor, either way (`SunSpec` Device Information
/// Model Specification 1.1, 4.2.8).
const MOST_PLACES: i64 = 10;

impl Signal {
    pub(super) fn new(name: String, unit: Option<Arc<str>>, decoder: Decoder) -> Self {
        let width = decoder.width();
        Self { name: Arc::from(name), unit, decoder, width, skip: 0, factor: None }
    }

    /// Where its own registers begin in its place, and how many they are.
    pub(super) const fn own(&self) -> (u16, u16) {
        (self.skip, self.decoder.width())
    }

    /// The value in the registers of its place, or why there is none; one whose factor
    /// stands elsewhere is not scaled yet.
    fn decode(&self, words: &[u16]) -> Result<Value, Quality> {
        let (skip, width) = (usize::from(self.skip), usize::from(self.decoder.width()));
        let own = words.get(skip..skip + width).ok_or(Quality::BadPayload)?;
        let value = self.decoder.decode(own).map_err(|error| match error {
            // Like exception 02: this device does not have it, and trying again helps nobody.
            registers::Error::Absent => Quality::BadAddress,
            _ => Quality::BadPayload,
        })?;
        match self.factor {
            None | Some(Factor::Signal(_)) => Ok(value),
            Some(Factor::Always(places)) => Ok(scaled(value, places)),
            Some(Factor::Beside(at)) => {
                let places = *words.get(usize::from(at)).ok_or(Quality::BadPayload)?;
                Ok(scaled(value, places_of(places.cast_signed().into())?))
            }
        }
    }
}

/// The power of ten that a scale factor holds. Without one a number says nothing.
fn places_of(number: i64) -> Result<i8, Quality> {
    if number == i64::from(i16::MIN) {
        return Err(Quality::BadAddress);
    }
    let within = (-MOST_PLACES..=MOST_PLACES).contains(&number);
    i8::try_from(number).ok().filter(|_| within).ok_or(Quality::BadPayload)
}

fn scaled(value: Value, places: i8) -> Value {
    let linear = Linear::power_of_ten(places);
    match value {
        Value::I64(number) => Value::F64(linear.of_integer(number.into())),
        Value::U64(number) => Value::F64(linear.of_integer(number.into())),
        other => other,
    }
}

pub(super) fn fill(signals: &[Signal], request: &Request, reply: &Reply, fields: &mut [Field]) {
    for (index, offset) in &request.signals {
        let (Some(field), Some(signal)) = (fields.get_mut(*index), signals.get(*index)) else {
            continue;
        };
        let start = usize::from(*offset);
        let decoded = match reply {
            Reply::Bits(bits) => bits.get(start).map(|bit| Ok(Value::Bool(*bit))),
            Reply::Words(words) => words
                .get(start..start + usize::from(signal.width))
                .map(|words| signal.decode(words)),
        };
        set(field, decoded.unwrap_or(Err(Quality::BadPayload)));
    }
}

fn set(field: &mut Field, outcome: Result<Value, Quality>) {
    (field.value, field.quality) = match outcome {
        Ok(value) => (value, None),
        Err(quality) => (Value::Null, Some(quality)),
    };
}

/// There are no values, for this reason.
pub(super) fn clear(fields: &mut [Field], why: Quality) {
    for field in fields {
        set(field, Err(why));
    }
}

/// The same, but what has no value keeps its own reason.
pub(super) fn withhold(fields: &mut [Field], why: Quality) {
    for field in fields.iter_mut().filter(|field| field.quality.is_none()) {
        set(field, Err(why));
    }
}

/// Scales the values whose factor is another signal. Where that has no value they have
/// none, for the same reason.
pub(super) fn scale(signals: &[Signal], fields: &mut [Field]) {
    for (index, signal) in signals.iter().enumerate() {
        let Some(Factor::Signal(of)) = signal.factor else { continue };
        let Some((factor, why)) = fields.get(of).map(|field| (&field.value, field.quality)) else {
            continue;
        };
        let places = match factor {
            Value::I64(number) => places_of(*number),
            _ => Err(why.unwrap_or(Quality::BadPayload)),
        };
        if let Some(field) = fields.get_mut(index).filter(|field| field.quality.is_none()) {
            let value = std::mem::replace(&mut field.value, Value::Null);
            set(field, places.map(|places| scaled(value, places)));
        }
    }
}
