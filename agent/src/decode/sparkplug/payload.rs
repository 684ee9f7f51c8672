//! A payload → its messages ([`super::proto`]): its memory is known before it is taken, and
//! a text that is none does not cost the whole of it.

use std::ops::Range;

use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::proto::{
    self, DataSet, DataSetValue, MetaData, Metric, MetricValue, Parameter, Payload, PropertySet,
    PropertyValue, Row, Template,
};
use crate::event::{Field, Value};

/// Bytes of memory that the messages of one payload may take; its fields as many again.
pub(super) const MOST_BYTES: usize = 8 * 1_024 * 1_024;

/// Bytes of memory for each byte of the payload that its fields may take: a data set has a
/// value for each column and row, also where hardly a byte of them is sent.
const FOR_EACH_BYTE: usize = 64;

/// The same for a payload of whatever length.
const AT_LEAST: usize = 16 * 1_024;

/// Bytes of a metric's name, which each of its columns and members repeats.
const LONGEST_NAME: usize = 1_024;

/// A name that only the birth says.
const NAME_OF_ALIAS: usize = 128;

/// A field takes as much as two, until its event is made.
const FIELD: usize = 2 * size_of::<Field>();

/// Messages within messages that the decoder follows; the next one it refuses.
const DEEPEST: usize = 100;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("payload is not of Sparkplug B: {0}")]
    Malformed(#[from] prost::DecodeError),
    #[error("payload would take more than {} MiB of memory", MOST_BYTES / 1_024 / 1_024)]
    TooMuch,
    #[error("its values would take more than {FOR_EACH_BYTE} times the memory of the payload")]
    Swollen,
    #[error("a metric's name has more than {LONGEST_NAME} bytes")]
    LongName,
}

/// Reads a payload. In a text that is not UTF-8, as of devices with a code page of their
/// own, `?` stands for each byte that is none.
pub fn read(bytes: &[u8]) -> Result<Payload, Error> {
    let mut wire = Wire { left: MOST_BYTES, wrong: Vec::new() };
    wire.message(Kind::Payload, bytes, 0, 0)?;
    let payload = if wire.wrong.is_empty() {
        Payload::decode(bytes)?
    } else {
        let mut mended = bytes.to_vec();
        for text in wire.wrong {
            mended.get_mut(text).into_iter().for_each(mend);
        }
        Payload::decode(&*mended)?
    };
    let most = bytes.len().saturating_mul(FOR_EACH_BYTE).saturating_add(AT_LEAST);
    let mut left = most.min(MOST_BYTES);
    for metric in &payload.metrics {
        fields(metric, 0, &mut left)?;
    }
    Ok(payload)
}

/// Puts `?` for what is no UTF-8. The length stays, so that all around it is right.
fn mend(text: &mut [u8]) {
    let mut from = 0;
    while let Some(rest) = text.get(from..)
        && let Err(error) = std::str::from_utf8(rest)
    {
        let at = from + error.valid_up_to();
        let to = error.error_len().map_or(text.len(), |length| at + length);
        text.get_mut(at..to).into_iter().for_each(|wrong| wrong.fill(b'?'));
        from = to;
    }
}

/// The messages of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Payload,
    Metric,
    MetaData,
    PropertySet,
    PropertySets,
    Property,
    DataSet,
    Row,
    Cell,
    Template,
    Parameter,
}

/// What a field with a length holds.
enum Body {
    Message(Kind),
    Text,
    Bytes,
    Numbers,
    /// The decoder passes it over.
    Unknown,
}

impl Kind {
    const fn body(self, tag: u32) -> Body {
        match (self, tag) {
            (Self::Payload | Self::Template, 2) => Body::Message(Self::Metric),
            (Self::Metric, 8) => Body::Message(Self::MetaData),
            (Self::Metric | Self::Property, 9) | (Self::PropertySets, 1) => {
                Body::Message(Self::PropertySet)
            }
            (Self::Metric, 17) => Body::Message(Self::DataSet),
            (Self::Metric, 18) => Body::Message(Self::Template),
            (Self::PropertySet, 2) => Body::Message(Self::Property),
            (Self::Property, 10) => Body::Message(Self::PropertySets),
            (Self::DataSet, 4) => Body::Message(Self::Row),
            (Self::Row, 1) => Body::Message(Self::Cell),
            (Self::Template, 3) => Body::Message(Self::Parameter),
            (Self::Payload, 5) | (Self::Metric, 16) => Body::Bytes,
            (Self::DataSet, 3) => Body::Numbers,
            (Self::Payload, 4)
            | (Self::Metric, 1 | 15)
            | (Self::MetaData, 2 | 5..=8)
            | (Self::PropertySet | Self::Parameter, 1)
            | (Self::Property | Self::Parameter, 8)
            | (Self::DataSet, 2)
            | (Self::Cell, 6)
            | (Self::Template, 1 | 4) => Body::Text,
            _ => Body::Unknown,
        }
    }

    const fn size(self) -> usize {
        match self {
            Self::Payload => size_of::<Payload>(),
            Self::Metric => size_of::<Metric>(),
            Self::MetaData => size_of::<MetaData>(),
            Self::PropertySet => size_of::<PropertySet>(),
            Self::PropertySets => size_of::<proto::PropertySetList>(),
            Self::Property => size_of::<PropertyValue>(),
            Self::DataSet => size_of::<DataSet>(),
            Self::Row => size_of::<Row>(),
            Self::Cell => size_of::<DataSetValue>(),
            Self::Template => size_of::<Template>(),
            Self::Parameter => size_of::<Parameter>(),
        }
    }
}

/// The walk over a payload before any message of it is made. What is malformed, the
/// decoder tells.
struct Wire {
    left: usize,
    /// Where texts are that are no UTF-8.
    wrong: Vec<Range<usize>>,
}

impl Wire {
    /// `base` is where the message begins in the payload.
    fn message(
        &mut self,
        kind: Kind,
        bytes: &[u8],
        base: usize,
        depth: usize,
    ) -> Result<(), Error> {
        spend(&mut self.left, kind.size())?;
        let mut rest = bytes;
        while !rest.is_empty() && depth <= DEEPEST {
            let Ok((tag, wire)) = decode_key(&mut rest) else { break };
            if wire != WireType::LengthDelimited {
                if skip_field(wire, tag, &mut rest, DecodeContext::default()).is_err() {
                    break;
                }
                if matches!(kind.body(tag), Body::Numbers) {
                    spend(&mut self.left, size_of::<u32>())?;
                }
                continue;
            }
            let length = decode_varint(&mut rest).ok().and_then(|n| usize::try_from(n).ok());
            let Some((body, behind)) = length.and_then(|n| rest.split_at_checked(n)) else { break };
            let at = base + (bytes.len() - rest.len());
            rest = behind;
            self.body(&kind.body(tag), body, at, depth)?;
        }
        Ok(())
    }

    fn body(&mut self, kind: &Body, body: &[u8], at: usize, depth: usize) -> Result<(), Error> {
        match kind {
            Body::Message(kind) => self.message(*kind, body, at, depth + 1),
            Body::Text => {
                if std::str::from_utf8(body).is_err() {
                    self.wrong.push(at..at + body.len());
                }
                spend(&mut self.left, size_of::<String>() + body.len())
            }
            Body::Bytes => spend(&mut self.left, body.len()),
            // A varint ends with a byte below 128.
            Body::Numbers => {
                let count = body.iter().filter(|byte| **byte < 0x80).count();
                spend(&mut self.left, count * size_of::<u32>())
            }
            Body::Unknown => Ok(()),
        }
    }
}

fn spend(left: &mut usize, bytes: usize) -> Result<(), Error> {
    *left = left.checked_sub(bytes).ok_or(Error::TooMuch)?;
    Ok(())
}

/// Spends what the fields of a metric will take. `around` is the length of the name that
/// stands before its own.
fn fields(metric: &Metric, around: usize, left: &mut usize) -> Result<(), Error> {
    let own = metric.name.as_ref().map_or(NAME_OF_ALIAS, String::len);
    if own > LONGEST_NAME {
        return Err(Error::LongName);
    }
    let name = around + own + 1;
    let mut take = |bytes: usize| {
        *left = left.checked_sub(bytes).ok_or(Error::Swollen)?;
        Ok(())
    };
    match &metric.value {
        Some(MetricValue::DataSet(set)) => {
            let values = set.rows.len().saturating_mul(size_of::<Value>());
            set.columns.iter().try_for_each(|column| take(FIELD + name + column.len() + values))
        }
        Some(MetricValue::Template(it)) => {
            for parameter in &it.parameters {
                take(FIELD + name + parameter.name.as_ref().map_or(0, String::len))?;
            }
            it.metrics.iter().try_for_each(|member| fields(member, name, left))
        }
        _ => take(FIELD + around),
    }
}

#[cfg(test)]
#[path = "payload_tests.rs"]
mod tests;
