//! `parse = { as = … }`: what becomes of a frame.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::decode::names::Names;
use crate::decode::nmea::Sentence;
use crate::decode::{columns, json, layout, nmea, pattern, scalar};
use crate::event::{Field, Quality, Value};

/// How a frame is read.
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
    /// By where bytes stand.
    Binary(layout::Config),
    /// As one number, true, false or text.
    Scalar(Scalar),
    /// As it came.
    Raw(Raw),
}

/// A frame of JSON: its members are the fields.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Json {}

/// A frame that is one plain value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scalar {
    /// Name of its field. Default: `value`.
    #[serde(default = "default_field")]
    pub field: String,
}

/// A frame that is taken as it came.
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
    /// Whether frames are text, in which no byte is 0.
    pub(super) const fn is_text(&self) -> bool {
        match self {
            Self::Raw(how) => matches!(how.encoding, Encoding::Text),
            Self::Binary(_) => false,
            _ => true,
        }
    }

    /// What is wrong: the key's path, and what would be right.
    pub(super) fn check(&self) -> Vec<(String, String)> {
        match self {
            Self::Pattern(how) => how.check(),
            Self::Columns(how) => how.check(),
            Self::Nmea(how) => how.check(),
            Self::Binary(how) => how.check(),
            Self::Scalar(Scalar { field }) | Self::Raw(Raw { field, .. }) if field.is_empty() => {
                vec![("field".to_owned(), "is empty: give the value a name".to_owned())]
            }
            Self::Json(_) | Self::Scalar(_) | Self::Raw(_) => Vec::new(),
        }
    }
}

/// What a frame gave.
#[derive(Debug, PartialEq)]
pub(super) enum Reading {
    Event(Quality, Vec<Field>),
    /// It is right, and nobody asked for it.
    Unwanted,
}

/// A checked [`Config`].
#[derive(Debug)]
pub(super) enum Parser {
    Pattern(pattern::Decoder),
    Columns(columns::Decoder),
    Nmea(nmea::Config, Names),
    Json(Names),
    Binary(layout::Decoder),
    Scalar(Arc<str>),
    Raw(Arc<str>, Encoding),
}

impl Parser {
    pub(super) fn new(config: &Config) -> Self {
        match config {
            Config::Pattern(how) => Self::Pattern(pattern::Decoder::new(how)),
            Config::Columns(how) => Self::Columns(columns::Decoder::new(how)),
            Config::Nmea(how) => Self::Nmea(how.clone(), Names::default()),
            Config::Json(_) => Self::Json(Names::default()),
            Config::Binary(how) => Self::Binary(layout::Decoder::new(how)),
            Config::Scalar(how) => Self::Scalar(how.field.as_str().into()),
            Config::Raw(how) => Self::Raw(how.field.as_str().into(), how.encoding),
        }
    }

    /// The fields of a frame, or why it is none that can be read.
    pub(super) fn parse(&mut self, frame: &[u8]) -> Result<Reading, String> {
        let mut fields = Vec::new();
        match self {
            Self::Pattern(how) => {
                how.decode(frame, &mut fields).map_err(|error| error.to_string())?;
            }
            Self::Columns(how) => {
                how.decode(frame, &mut fields).map_err(|error| error.to_string())?;
            }
            Self::Nmea(config, names) => {
                let sentence = nmea::decode(frame, config, names, &mut fields);
                return match sentence.map_err(|error| error.to_string())? {
                    Sentence::Taken(quality) => Ok(Reading::Event(quality, fields)),
                    Sentence::Passed => Ok(Reading::Unwanted),
                };
            }
            Self::Json(names) => {
                names.rewind();
                json::decode(frame, names, &mut fields).map_err(|error| error.to_string())?;
            }
            Self::Binary(how) => how.decode(frame, &mut fields),
            Self::Scalar(name) => {
                let value = scalar::decode(frame).map_err(|error| error.to_string())?;
                fields.push(field(name, value));
            }
            Self::Raw(name, encoding) => fields.push(field(name, encoding.value(frame)?)),
        }
        Ok(Reading::Event(Quality::Good, fields))
    }

    /// The fields without values, as far as they are known before a frame came.
    pub(super) fn absent(&self) -> Vec<Field> {
        match self {
            Self::Pattern(how) => how.absent(),
            Self::Columns(how) => how.absent(),
            Self::Binary(how) => how.absent(),
            Self::Scalar(name) | Self::Raw(name, _) => vec![field(name, Value::Null)],
            Self::Nmea(..) | Self::Json(_) => Vec::new(),
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
