//! A Protobuf payload → a tree, by a descriptor that `protoc` made.
//!
//! A field without a value on the wire has its default where its syntax knows no absence
//! (proto3 without `optional`): a temperature of 0 is a value, and no byte of it is sent.
//! Fields that the descriptor does not know are passed over. `google.protobuf.Timestamp` is
//! an instant, and the wrappers (`google.protobuf.DoubleValue` …) are what they hold.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use prost::Message as _;
use prost::encoding::{WireType, decode_key, decode_varint};
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MapKey, MessageDescriptor};
use serde::{Deserialize, Serialize};

use super::number::of_f32;
use super::tree::{Budget, Node, TooMuch};
use crate::config::nearest;
use crate::event::{Timestamp, Value};

/// Far above any plant's messages.
const LARGEST_DESCRIPTOR: u64 = 16 * 1_024 * 1_024;

/// A message within another takes about as much memory as so many plain values.
const MESSAGE: usize = 4;

/// Names of messages that are told where none is near.
const TOLD: usize = 5;

/// A payload of Protobuf, and where it is described.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// A file that `protoc --include_imports --descriptor_set_out=plant.pb plant.proto`
    /// wrote.
    pub descriptor: PathBuf,
    /// The message with its package: `plant.v1.Reading`.
    pub message: String,
}

impl Config {
    /// What is wrong: the key's path, and what would be right.
    pub fn check(&self) -> Vec<(String, String)> {
        self.load().err().map(|(key, what)| (key.to_owned(), what)).into_iter().collect()
    }

    fn load(&self) -> Result<MessageDescriptor, (&'static str, String)> {
        let file = self.descriptor.display();
        let wrong = |what: String| ("descriptor", what);
        let bytes = self.read().map_err(|cause| wrong(format!("cannot read {file}: {cause}")))?;
        let pool = DescriptorPool::decode(bytes.as_slice()).map_err(|error| {
            let hint = "`protoc --include_imports --descriptor_set_out=FILE` writes one";
            wrong(format!("{file} holds no whole descriptor set ({error:.200}): {hint}"))
        })?;
        if pool.all_messages().next().is_none() {
            return Err(wrong(format!(
                "{file} describes no message: `protoc --descriptor_set_out` writes one that does"
            )));
        }
        pool.get_message_by_name(&self.message)
            .ok_or_else(|| ("message", unknown(&self.message, &pool)))
    }

    fn read(&self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(&self.descriptor)?.take(LARGEST_DESCRIPTOR + 1).read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST_DESCRIPTOR) {
            return Err(std::io::Error::other("it has more than 16 MiB"));
        }
        Ok(bytes)
    }
}

/// That a message is not there, and which may have been meant.
fn unknown(message: &str, pool: &DescriptorPool) -> String {
    let names: Vec<String> = pool.all_messages().map(|m| m.full_name().to_owned()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // The package is what is left out most often.
    let last = |name: &str| name.rsplit('.').next().is_some_and(|last| last == message);
    let near = names.iter().copied().find(|name| last(name)).or_else(|| nearest(message, &names));
    let what = format!("the descriptor has no message `{message}`");
    if let Some(name) = near {
        return format!("{what}: did you mean `{name}`?");
    }
    let more = if names.len() > TOLD { " …" } else { "" };
    let some: Vec<String> = names.iter().take(TOLD).map(|name| format!("`{name}`")).collect();
    format!("{what}: it has {}{more}", some.join(", "))
}

/// A checked [`Config`].
#[derive(Debug)]
pub struct Decoder {
    /// Or why the file, which was there when it was checked, is no more what it was.
    message: Result<MessageDescriptor, String>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    NoDescriptor(String),
    #[error("payload is no {message}: {what}")]
    Malformed { message: String, what: String },
    #[error("payload is no {0}: none of its fields is in it")]
    Foreign(String),
    #[error("{0}")]
    TooMuch(#[from] TooMuch),
}

impl Decoder {
    pub fn new(config: &Config) -> Self {
        Self { message: config.load().map_err(|(_, what)| what) }
    }

    pub fn tree(&self, payload: &[u8]) -> Result<Node<'static>, Error> {
        let descriptor = self.message.as_ref().map_err(|what| Error::NoDescriptor(what.clone()))?;
        weigh(Some(descriptor), &mut &*payload, &mut Budget::default(), 0)?;
        let name = || descriptor.full_name().to_owned();
        let mut message = DynamicMessage::new(descriptor.clone());
        message
            .merge(payload)
            .map_err(|error| Error::Malformed { message: name(), what: error.to_string() })?;
        // Nearly any bytes are some message: what has only strange fields is another one.
        if message.fields().next().is_none() && message.unknown_fields().next().is_some() {
            return Err(Error::Foreign(name()));
        }
        Ok(object(&message, &mut Budget::default(), 0)?)
    }
}

/// Spends what the values of a message will take before any is made of it: a byte of a
/// packed list becomes one of 70. `None` is a message that the descriptor does not know.
/// What is malformed, the decoder tells.
fn weigh(
    message: Option<&MessageDescriptor>,
    bytes: &mut &[u8],
    budget: &mut Budget,
    depth: usize,
) -> Result<(), TooMuch> {
    budget.spend_for(MESSAGE, depth)?;
    while !bytes.is_empty() {
        let Ok((number, wire)) = decode_key(bytes) else { break };
        let kind = message.and_then(|m| m.get_field(number)).map(|field| field.kind());
        let inner = kind.as_ref().and_then(Kind::as_message);
        let mut values = 1;
        match wire {
            WireType::EndGroup => break,
            WireType::StartGroup => weigh(inner, bytes, budget, depth + 1)?,
            WireType::Varint => {
                let Ok(_) = decode_varint(bytes) else { break };
            }
            WireType::ThirtyTwoBit => *bytes = bytes.get(4..).unwrap_or_default(),
            WireType::SixtyFourBit => *bytes = bytes.get(8..).unwrap_or_default(),
            WireType::LengthDelimited => {
                let length = decode_varint(bytes).ok().and_then(|n| usize::try_from(n).ok());
                let Some((mut body, rest)) = length.and_then(|n| bytes.split_at_checked(n)) else {
                    break;
                };
                *bytes = rest;
                match inner {
                    Some(_) => weigh(inner, &mut body, budget, depth + 1)?,
                    None => values = packed(kind.as_ref(), body),
                }
            }
        }
        budget.spend_for(values, depth)?;
    }
    Ok(())
}

/// Values in a body that may be a packed list: a varint ends with a byte below 128.
fn packed(kind: Option<&Kind>, body: &[u8]) -> usize {
    match kind {
        None | Some(Kind::String | Kind::Bytes | Kind::Message(_)) => 1,
        Some(Kind::Double | Kind::Fixed64 | Kind::Sfixed64) => body.len() / 8,
        Some(Kind::Float | Kind::Fixed32 | Kind::Sfixed32) => body.len() / 4,
        Some(_) => body.iter().filter(|byte| **byte < 0x80).count(),
    }
}

fn object(
    message: &DynamicMessage,
    budget: &mut Budget,
    depth: usize,
) -> Result<Node<'static>, TooMuch> {
    budget.spend(depth)?;
    let descriptor = prost_reflect::ReflectMessage::descriptor(message);
    if let Some(known) = well_known(message, descriptor.full_name()) {
        return Ok(Node::Plain(known));
    }
    let mut members = Vec::new();
    for field in descriptor.fields() {
        let may_lack = field.supports_presence() || field.is_list() || field.is_map();
        if may_lack && !message.has_field(&field) {
            continue;
        }
        let value = message.get_field(&field);
        let name = Cow::Owned(field.name().to_owned());
        members.push((name, node(&value, &field.kind(), budget, depth + 1)?));
    }
    Ok(Node::Object(members))
}

fn node(
    value: &prost_reflect::Value,
    kind: &Kind,
    budget: &mut Budget,
    depth: usize,
) -> Result<Node<'static>, TooMuch> {
    use prost_reflect::Value as Wire;
    // A message spends for itself.
    if !matches!(value, Wire::Message(_)) {
        budget.spend(depth)?;
    }
    Ok(Node::Plain(match value {
        Wire::Bool(value) => Value::Bool(*value),
        Wire::I32(number) => Value::I64((*number).into()),
        Wire::I64(number) => Value::I64(*number),
        Wire::U32(number) => Value::I64((*number).into()),
        Wire::U64(number) => i64::try_from(*number).map_or(Value::U64(*number), Value::I64),
        Wire::F32(number) => Value::F64(of_f32(*number)),
        Wire::F64(number) => Value::F64(*number),
        Wire::String(text) => Value::Text(text.as_str().into()),
        Wire::Bytes(bytes) => Value::Bytes((&**bytes).into()),
        Wire::EnumNumber(number) => {
            let known = kind.as_enum().and_then(|kind| kind.get_value(*number));
            known.map_or(Value::I64((*number).into()), |known| Value::Text(known.name().into()))
        }
        Wire::Message(message) => return object(message, budget, depth),
        Wire::List(values) => {
            let items = values.iter().map(|value| node(value, kind, budget, depth + 1));
            return Ok(Node::Array(items.collect::<Result<_, _>>()?));
        }
        Wire::Map(values) => {
            let Some(entry) = kind.as_message() else { return Ok(Node::Object(Vec::new())) };
            let kind = entry.map_entry_value_field().kind();
            let mut values: Vec<_> = values.iter().collect();
            // The wire has no order of its own, and the same payload gives the same event.
            values.sort_by_key(|(key, _)| *key);
            let members = values.into_iter().map(|(key, value)| {
                Ok((Cow::Owned(name(key)), node(value, &kind, budget, depth + 1)?))
            });
            return Ok(Node::Object(members.collect::<Result<_, TooMuch>>()?));
        }
    }))
}

fn name(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

/// What Protobuf's own messages stand for (google/protobuf/timestamp.proto, wrappers.proto).
fn well_known(message: &DynamicMessage, name: &str) -> Option<Value> {
    let name = name.strip_prefix("google.protobuf.")?;
    let number = |field: u32| {
        let value = message.get_field_by_number(field)?;
        value.as_i64().or_else(|| value.as_i32().map(i64::from))
    };
    if name == "Timestamp" {
        let time = number(1)?.checked_mul(1_000_000_000)?.checked_add(number(2)?)?;
        return Some(Value::Timestamp { time: Timestamp(time), zoned: true });
    }
    name.strip_suffix("Value").filter(|kind| {
        let kinds = ["Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String"];
        kinds.contains(kind) || *kind == "Bytes"
    })?;
    let value = message.get_field_by_number(1)?;
    let field = prost_reflect::ReflectMessage::descriptor(message).get_field(1)?;
    match node(&value, &field.kind(), &mut Budget::default(), 0) {
        Ok(Node::Plain(value)) => Some(value),
        _ => None,
    }
}

#[cfg(test)]
#[path = "protobuf_tests.rs"]
pub(super) mod tests;
