//! The properties of a PUBLISH (MQTT 5, 3.3.2.3) → fields.
//!
//! They are read by hand and as far as they can be read: what a publisher spoils there must
//! not cost its message.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::decode::names::Names;
use crate::event::{Field, Value};

/// Stands for all user properties.
const ALL: &str = "*";

/// User properties of one message that become fields: more are left out.
const MOST: usize = 100;

/// `properties = { … }`: what of a message's properties becomes fields.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// User properties that become text fields of their names; `["*"]`: all of them, 100
    /// at most. One that comes several times is an array.
    #[serde(default)]
    pub user: Vec<String>,
    /// What stands before the names of these fields: `"user_"`. Default: nothing.
    #[serde(default)]
    pub prefix: String,
    /// Name of the field for the content type. Default: there is none.
    #[serde(default)]
    pub content_type: Option<String>,
    /// Name of the field for the response topic. Default: there is none.
    #[serde(default)]
    pub response_topic: Option<String>,
    /// Name of the field for the correlation data, bytes. Default: there is none.
    #[serde(default)]
    pub correlation_data: Option<String>,
    /// Name of the field for the seconds that the message had left to live when the broker
    /// sent it. Default: there is none.
    #[serde(default)]
    pub message_expiry_interval: Option<String>,
}

impl Config {
    /// What is wrong: the key's path, and what would be right.
    pub(super) fn check(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        if let Some(index) = self.user.iter().position(String::is_empty) {
            let what = "is empty: write the name of a user property, or \"*\" for all";
            wrong.push((format!("user[{index}]"), what.to_owned()));
        }
        for (key, name) in [
            ("content_type", &self.content_type),
            ("response_topic", &self.response_topic),
            ("correlation_data", &self.correlation_data),
            ("message_expiry_interval", &self.message_expiry_interval),
        ] {
            if name.as_deref() == Some("") {
                let what = "is empty: give the field a name, or leave it out";
                wrong.push((key.to_owned(), what.to_owned()));
            }
        }
        wrong
    }
}

/// One property that may become a field.
#[derive(Debug, PartialEq, Eq)]
enum Property<'p> {
    Expiry(u32),
    ContentType(&'p [u8]),
    ResponseTopic(&'p [u8]),
    CorrelationData(&'p [u8]),
    User(&'p [u8], &'p [u8]),
    Other,
}

/// The next property, and what stands behind it; `None` at the end, and where the bytes are
/// none (MQTT 5, 2.2.2.2: the identifiers are below 128).
fn next(bytes: &[u8]) -> Option<(Property<'_>, &[u8])> {
    let (id, rest) = bytes.split_first()?;
    Some(match id {
        // Payload format indicator; also those that no PUBLISH has, of one byte.
        0x01 => (Property::Other, rest.get(1..)?),
        0x02 => {
            let (seconds, rest) = rest.split_first_chunk::<4>()?;
            (Property::Expiry(u32::from_be_bytes(*seconds)), rest)
        }
        0x03 => text(rest).map(|(text, rest)| (Property::ContentType(text), rest))?,
        0x08 => text(rest).map(|(text, rest)| (Property::ResponseTopic(text), rest))?,
        0x09 => text(rest).map(|(bytes, rest)| (Property::CorrelationData(bytes), rest))?,
        // Subscription identifier: up to four bytes, the last of them below 128.
        0x0B => {
            let last = rest.iter().take(4).position(|byte| byte & 0x80 == 0)?;
            (Property::Other, rest.get(last + 1..)?)
        }
        // Topic alias, which we allow no broker.
        0x23 => (Property::Other, rest.get(2..)?),
        0x26 => {
            let (name, rest) = text(rest)?;
            let (value, rest) = text(rest)?;
            (Property::User(name, value), rest)
        }
        _ => return None,
    })
}

/// A text or bytes behind their length (MQTT 5, 1.5.4 and 1.5.6).
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// A checked [`Config`].
#[derive(Debug)]
pub(super) struct Reader {
    config: Config,
    names: Names,
}

impl Reader {
    pub(super) fn new(config: &Config) -> Self {
        Self { config: config.clone(), names: Names::default() }
    }

    /// Appends the fields of what stands in these bytes.
    pub(super) fn read(&mut self, mut bytes: &[u8], fields: &mut Vec<Field>) {
        let mut users = 0;
        let first = fields.len();
        self.names.rewind();
        while let Some((property, rest)) = next(bytes) {
            bytes = rest;
            let said = |bytes: &[u8]| Value::Text(String::from_utf8_lossy(bytes).into());
            let (name, value) = match property {
                Property::Expiry(seconds) => {
                    (&self.config.message_expiry_interval, Value::I64(seconds.into()))
                }
                Property::ContentType(text) => (&self.config.content_type, said(text)),
                Property::ResponseTopic(text) => (&self.config.response_topic, said(text)),
                Property::CorrelationData(bytes) => {
                    (&self.config.correlation_data, Value::Bytes(bytes.into()))
                }
                Property::User(name, value) => {
                    let name = String::from_utf8_lossy(name);
                    let wanted = |user: &String| user == ALL || *user == *name;
                    if users < MOST && self.config.user.iter().any(wanted) {
                        users += 1;
                        let name = match self.config.prefix.as_str() {
                            "" => self.names.get(&name),
                            prefix => self.names.get(&format!("{prefix}{name}")),
                        };
                        push(fields, first, name, said(value));
                    }
                    continue;
                }
                Property::Other => continue,
            };
            if let Some(name) = name {
                let name = self.names.get(name);
                fields.push(Field { name, unit: None, value, quality: None });
            }
        }
    }
}

/// One more value; of a name that is there already the values are an array.
fn push(fields: &mut Vec<Field>, first: usize, name: Arc<str>, value: Value) {
    let known = fields.iter_mut().skip(first).find(|field| field.name == name);
    let Some(known) = known else {
        fields.push(Field { name, unit: None, value, quality: None });
        return;
    };
    let before = std::mem::replace(&mut known.value, Value::Null);
    let values = match before {
        Value::Array(values) => values.into_vec().into_iter().chain([value]).collect(),
        single => vec![single, value],
    };
    known.value = Value::Array(values.into());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user(name: &str, value: &str) -> Vec<u8> {
        let text = |text: &str| {
            let length = u16::try_from(text.len()).unwrap().to_be_bytes();
            [&length[..], text.as_bytes()].concat()
        };
        [vec![0x26], text(name), text(value)].concat()
    }

    fn all() -> Config {
        Config {
            user: vec![ALL.to_owned()],
            prefix: "u_".to_owned(),
            content_type: Some("kind".to_owned()),
            response_topic: Some("answer_to".to_owned()),
            correlation_data: Some("correlation".to_owned()),
            message_expiry_interval: Some("expires_s".to_owned()),
        }
    }

    fn read(config: &Config, bytes: &[u8]) -> Vec<(String, Value)> {
        let mut fields = Vec::new();
        Reader::new(config).read(bytes, &mut fields);
        fields.into_iter().map(|field| (field.name.to_string(), field.value)).collect()
    }

    fn said(text: &str) -> Value {
        Value::Text(text.into())
    }

    /// One of each that a PUBLISH may have.
    fn each() -> Vec<u8> {
        [
            &[0x01, 1][..],
            &[0x02, 0, 0, 1, 0],
            b"\x03\0\x04json",
            b"\x08\0\x03a/b",
            b"\x09\0\x02\x00\xff",
            &[0x0B, 0x80, 0x01],
            &[0x23, 0, 7],
            &user("site", "north"),
        ]
        .concat()
    }

    #[test]
    fn each_property_becomes_the_field_that_is_asked_for() {
        let expected = [
            ("expires_s", Value::I64(256)),
            ("kind", said("json")),
            ("answer_to", said("a/b")),
            ("correlation", Value::Bytes([0, 255].as_slice().into())),
            ("u_site", said("north")),
        ];
        assert_eq!(read(&all(), &each()), expected.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(read(&Config::default(), &each()), []);
    }

    #[test]
    fn user_properties_are_chosen_by_name_and_repeated_ones_are_an_array() {
        let config = Config { user: vec!["a".to_owned()], ..Config::default() };
        let bytes = [user("a", "1"), user("b", "2"), user("a", "3"), user("a", "4")].concat();
        let values = Value::Array([said("1"), said("3"), said("4")].into());
        assert_eq!(read(&config, &bytes), [("a".to_owned(), values)]);
    }

    #[test]
    fn what_is_malformed_ends_the_properties_and_keeps_those_before_it() {
        let bytes = [user("a", "1"), vec![0x26, 0, 9, b'x']].concat();
        assert_eq!(read(&all(), &bytes), [("u_a".to_owned(), said("1"))]);
        let bytes = [vec![0x7E], user("a", "1")].concat();
        assert_eq!(read(&all(), &bytes), []);
        let bytes = [&[0x26, 0, 1, b'a', 0, 1, 0xFF][..]].concat();
        assert_eq!(read(&all(), &bytes), [("u_a".to_owned(), said("\u{fffd}"))]);
    }

    #[test]
    fn a_flood_of_user_properties_makes_a_hundred_fields() {
        let bytes: Vec<u8> = (0..3 * MOST).flat_map(|n| user(&n.to_string(), "")).collect();
        assert_eq!(read(&all(), &bytes).len(), MOST);
    }

    proptest! {
        #[test]
        fn any_bytes_give_fields(bytes: Vec<u8>, cut in 0..60_usize) {
            read(&all(), &bytes);
            let each = each();
            read(&all(), each.get(..cut).unwrap_or(&each));
            read(&all(), &[&each[..], &bytes].concat());
        }
    }
}
