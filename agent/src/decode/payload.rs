//! `{ as = … }`: what becomes of a payload, a serial line's frame or a message of MQTT: one
//! set of words for both.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::names::Names;
use super::nmea::Sentence;
use super::tree::{Node, Opened};
use super::{cbor, columns, json, layout, nmea, pattern, protobuf, scalar, text};
use crate::event::{Field, Quality, Value};

/// Pieces of one payload that become events: beyond it is a history, or nonsense.
pub const MOST_RECORDS: usize = 10_000;

/// How a payload is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "as", rename_all = "lowercase")]
pub enum Config {
    /// By regular expressions with named groups.
    Pattern(pattern::Config),
    /// By columns.
    Columns(columns::Config),
    /// As a sentence of NMEA 0183.
    Nmea(nmea::Config),
    /// As JSON.
    Json(Json),
    /// As CBOR (RFC 8949).
    Cbor(Cbor),
    /// As a message of Protobuf.
    Protobuf(protobuf::Config),
    /// By where bytes stand.
    Binary(layout::Config),
    /// As one number, true, false or text.
    Scalar(Scalar),
    /// As it came.
    Raw(Raw),
}

/// JSON: its members are the fields.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Json {}

/// CBOR, read as JSON is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cbor {}

/// One plain value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scalar {
    /// Name of its field. Default: `value`.
    #[serde(default = "default_field")]
    pub field: String,
}

/// A payload that is taken as it came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// Name of its field. Default: `value`.
    #[serde(default = "default_field")]
    pub field: String,
    /// `text`, `hex` (digits) or `bytes` (Base64 in JSON). Default: `text`.
    #[serde(default)]
    pub encoding: Encoding,
}

#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    #[default]
    Text,
    Hex,
    Bytes,
}

fn default_field() -> String {
    "value".to_owned()
}

impl Default for Config {
    fn default() -> Self {
        Self::Raw(Raw { field: default_field(), encoding: Encoding::default() })
    }
}

impl Config {
    /// Whether payloads are text, in which no byte is 0.
    pub const fn is_text(&self) -> bool {
        match self {
            Self::Raw(how) => matches!(how.encoding, Encoding::Text),
            Self::Binary(_) | Self::Cbor(_) | Self::Protobuf(_) => false,
            _ => true,
        }
    }

    /// What is wrong: the key's path, and what would be right.
    pub fn check(&self) -> Vec<(String, String)> {
        match self {
            Self::Pattern(how) => how.check(),
            Self::Columns(how) => how.check(),
            Self::Nmea(how) => how.check(),
            Self::Binary(how) => how.check(),
            Self::Protobuf(how) => how.check(),
            Self::Scalar(Scalar { field }) | Self::Raw(Raw { field, .. }) if field.is_empty() => {
                vec![("field".to_owned(), "is empty: give the value a name".to_owned())]
            }
            Self::Json(_) | Self::Cbor(_) | Self::Scalar(_) | Self::Raw(_) => Vec::new(),
        }
    }
    /// The file that it names.
    pub fn file(&self) -> Option<PathBuf> {
        match self {
            Self::Protobuf(how) => Some(how.descriptor.clone()),
            _ => None,
        }
    }

    /// The key by which a payload has several rows, if it has.
    pub const fn rows(&self) -> Option<&'static str> {
        match self {
            Self::Columns(how) => how.rows(),
            _ => None,
        }
    }

    /// Whether it has objects and arrays within each other.
    pub const fn is_nested(&self) -> bool {
        matches!(self, Self::Json(_) | Self::Cbor(_) | Self::Protobuf(_))
    }

    /// Whether it has values by name, and not one value only.
    pub const fn is_named(&self) -> bool {
        !matches!(self, Self::Scalar(_) | Self::Raw(_))
    }
}

/// What a payload is.
#[derive(Debug, PartialEq)]
pub enum Reading {
    /// Its fields were appended.
    Event(Quality),
    /// It is right, and nobody asked for it.
    Unwanted,
}

/// A payload in its pieces, each of which is an event.
#[derive(Debug, Default)]
pub struct Records<'p> {
    /// What stands beside them.
    pub beside: Vec<Field>,
    pub list: Vec<Record<'p>>,
}

/// A piece of a payload.
#[derive(Debug)]
pub enum Record<'p> {
    Element(Node<'p>),
    Row(Cow<'p, str>),
}

impl Record<'_> {
    /// It as a line of text: an element as JSON.
    pub fn to_line(&self) -> Cow<'_, str> {
        match self {
            Self::Element(node) => Cow::Owned(node.to_json()),
            Self::Row(row) => Cow::Borrowed(row),
        }
    }
}

/// A checked [`Config`].
#[derive(Debug)]
pub struct Parser {
    how: How,
    opened: Opened,
    /// Names of what stands beside several records.
    beside: Names,
}

#[derive(Debug)]
enum How {
    Pattern(pattern::Decoder),
    Columns(columns::Decoder),
    Nmea(nmea::Config, Names),
    Json(Names),
    Cbor(Names),
    Protobuf(protobuf::Decoder, Names),
    Binary(layout::Decoder),
    Scalar(Arc<str>),
    Raw(Arc<str>, Encoding),
}

impl Parser {
    pub fn new(config: &Config) -> Self {
        let how = match config {
            Config::Pattern(how) => How::Pattern(pattern::Decoder::new(how)),
            Config::Columns(how) => How::Columns(columns::Decoder::new(how)),
            Config::Nmea(how) => How::Nmea(how.clone(), Names::default()),
            Config::Json(_) => How::Json(Names::default()),
            Config::Cbor(_) => How::Cbor(Names::default()),
            Config::Protobuf(how) => How::Protobuf(protobuf::Decoder::new(how), Names::default()),
            Config::Binary(how) => How::Binary(layout::Decoder::new(how)),
            Config::Scalar(how) => How::Scalar(how.field.as_str().into()),
            Config::Raw(how) => How::Raw(how.field.as_str().into(), how.encoding),
        };
        Self { how, opened: Opened::default(), beside: Names::default() }
    }

    /// One that gives elements of arrays fields of their own where these paths go through
    /// them.
    pub fn opening(config: &Config, opened: Opened) -> Self {
        Self { opened, ..Self::new(config) }
    }

    /// Appends the fields of a payload that is one event, or says why it is none that can be
    /// read.
    pub fn parse(&mut self, payload: &[u8], fields: &mut Vec<Field>) -> Result<Reading, String> {
        match &mut self.how {
            // The usual one makes no tree.
            How::Json(names) if self.opened.is_empty() => {
                names.rewind();
                json::decode(payload, names, fields).map_err(|error| error.to_string())?;
            }
            How::Json(_) | How::Cbor(_) | How::Protobuf(..) => {
                let node = self.tree(payload)?;
                self.element(&node, fields)?;
            }
            How::Pattern(how) => {
                how.decode(payload, fields).map_err(|error| error.to_string())?;
            }
            How::Columns(how) => {
                how.decode(payload, fields).map_err(|error| error.to_string())?;
            }
            How::Nmea(config, names) => {
                let sentence = nmea::decode(payload, config, names, fields);
                return match sentence.map_err(|error| error.to_string())? {
                    Sentence::Taken(quality) => Ok(Reading::Event(quality)),
                    Sentence::Passed => Ok(Reading::Unwanted),
                };
            }
            How::Binary(how) => how.decode(payload, fields),
            How::Scalar(name) => {
                let value = scalar::decode(payload).map_err(|error| error.to_string())?;
                fields.push(field(name, value));
            }
            How::Raw(name, encoding) => fields.push(field(name, encoding.value(payload)?)),
        }
        Ok(Reading::Event(Quality::Good))
    }

    /// The pieces of a payload: the elements of the array at `each`, or else its rows.
    pub fn split<'p>(
        &mut self,
        payload: &'p [u8],
        each: Option<&str>,
    ) -> Result<Records<'p>, String> {
        let mut records = Records::default();
        match (&mut self.how, each) {
            (How::Columns(how), _) => {
                let rows = how.rows(text::of_bytes(payload))?;
                records.list = rows.into_iter().map(Record::Row).collect();
            }
            (_, Some(each)) => {
                let (around, elements) = self.tree(payload)?.split(each)?;
                around
                    .flatten(&mut self.beside, &self.opened, &mut records.beside)
                    .map_err(|error| error.to_string())?;
                records.list = elements.into_iter().map(Record::Element).collect();
            }
            (_, None) => return Err("a payload of several events, and no array".to_owned()),
        }
        if records.list.len() > MOST_RECORDS {
            return Err(format!("more than {MOST_RECORDS} events in one message"));
        }
        Ok(records)
    }

    /// Appends the fields of one of them.
    pub fn record(&mut self, record: &Record<'_>, fields: &mut Vec<Field>) -> Result<(), String> {
        match (record, &self.how) {
            (Record::Element(node), _) => self.element(node, fields),
            (Record::Row(row), How::Columns(how)) => {
                how.row(row, fields).map_err(|error| error.to_string())
            }
            (Record::Row(_), _) => Err("a row where there are none".to_owned()),
        }
    }

    fn tree<'p>(&self, payload: &'p [u8]) -> Result<Node<'p>, String> {
        match &self.how {
            How::Cbor(_) => cbor::tree(payload).map_err(|error| error.to_string()),
            How::Protobuf(how, _) => how.tree(payload).map_err(|error| error.to_string()),
            _ => json::tree(payload).map_err(|error| error.to_string()),
        }
    }

    fn element(&mut self, node: &Node<'_>, fields: &mut Vec<Field>) -> Result<(), String> {
        let (How::Json(names) | How::Cbor(names) | How::Protobuf(_, names)) = &mut self.how else {
            return Err("an element where there are none".to_owned());
        };
        node.flatten(names, &self.opened, fields).map_err(|error| error.to_string())
    }

    /// The fields without values, as far as they are known before a payload came.
    pub fn absent(&self) -> Vec<Field> {
        match &self.how {
            How::Pattern(how) => how.absent(),
            How::Columns(how) => how.absent(),
            How::Binary(how) => how.absent(),
            How::Scalar(name) | How::Raw(name, _) => vec![field(name, Value::Null)],
            How::Nmea(..) | How::Json(_) | How::Cbor(_) | How::Protobuf(..) => Vec::new(),
        }
    }
}

fn field(name: &Arc<str>, value: Value) -> Field {
    Field { name: Arc::clone(name), unit: None, value, quality: None }
}

impl Encoding {
    fn value(self, frame: &[u8]) -> Result<Value, String> {
        Ok(match self {
            Self::Text => {
                let text = std::str::from_utf8(frame).map_err(
                    |_| "text is not UTF-8: `encoding = \"hex\"` or `\"bytes\"` takes any bytes",
                )?;
                Value::Text(text.into())
            }
            Self::Hex => {
                let digits = |byte: &u8| {
                    [byte >> 4, byte & 0xF]
                        .map(|digit| char::from_digit(digit.into(), 16).unwrap_or_default())
                };
                Value::Text(frame.iter().flat_map(digits).collect::<String>().into())
            }
            Self::Bytes => Value::Bytes(frame.into()),
        })
    }
}
