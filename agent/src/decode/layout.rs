//! Bytes → fields by where they stand and what they are.
//!
//! The types and the orders of bytes are those of Modbus registers, so that both
//! decode alike.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::registers::{Decoder as Registers, Linear, Meaning, Order, Type};
use crate::event::{Field, Quality, Value};

/// Where values stand in a frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Order of the bytes of its values, unless one has its own: `abcd` (the highest
    /// first), `dcba` (the lowest first), `cdab` or `badc`. Default: `abcd`.
    #[serde(default)]
    pub order: Order,
    /// The values.
    pub fields: Vec<Place>,
}

/// One value of a frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Name of the field in the record.
    pub name: String,
    /// Its first byte, counted from 0 at the frame's first.
    pub at: u16,
    /// `u8`, `i8`, `u16`, `i16`, `u32`, `i32`, `u64`, `i64`, `f16`, `f32`, `f64`,
    /// `bcd16`, `bcd32`, `bcd64`, `bool` (a byte that is not 0), `bit` (of a byte) or
    /// `string`. Default: `u8`.
    #[serde(rename = "type", default = "default_kind")]
    pub kind: Type,
    /// Order of its bytes. Default: that of the layout.
    #[serde(default)]
    pub order: Option<Order>,
    /// Bytes of a `string`.
    #[serde(default)]
    pub length: Option<u16>,
    /// Number of the bit of a `bit`, 0 to 7; 0 is the lowest.
    #[serde(default)]
    pub bit: Option<u8>,
    /// Unit, for the schema.
    #[serde(default)]
    pub unit: Option<String>,
    /// The value is the raw number times this.
    #[serde(default)]
    pub scale: Option<f64>,
    /// Added after `scale`.
    #[serde(default)]
    pub offset: Option<f64>,
}

const fn default_kind() -> Type {
    Type::U8
}

impl Config {
    /// What is wrong: the key's path, and what would be right.
    pub fn check(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        if self.fields.is_empty() {
            wrong.push(("fields".to_owned(), "is empty: name what stands in a frame".to_owned()));
        }
        let mut names = BTreeSet::new();
        for (index, field) in self.fields.iter().enumerate() {
            let mut told = field.check();
            if !names.insert(&field.name) {
                told.push(("name", format!("`{}` is the name of an earlier value", field.name)));
            }
            let at = |(key, what)| (format!("fields[{index}].{key}"), what);
            wrong.extend(told.into_iter().map(at));
        }
        wrong
    }

    /// The first value that stands beyond so many bytes, by its place among the fields.
    pub fn beyond(&self, bytes: usize) -> Option<usize> {
        let end = |field: &Place| usize::from(field.at) + usize::from(field.width());
        self.fields.iter().position(|field| end(field) > bytes)
    }
}

impl Place {
    fn check(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        let mut say = |key, what: &str| wrong.push((key, what.to_owned()));
        if self.name.is_empty() {
            say("name", "is empty: give the value a name");
        }
        match (self.kind, self.bit) {
            (Type::Bit, None) => say("bit", "is missing: the number of the bit, 0 to 7"),
            (Type::Bit, Some(8..)) => say("bit", "is not within 0 to 7: a byte has 8 bits"),
            (Type::Bit, Some(_)) | (_, None) => {}
            (_, Some(_)) => say("bit", "is for the type `bit`: leave it out"),
        }
        match (self.kind, self.length) {
            (Type::String, None | Some(0)) => say("length", "is missing: the bytes of the text"),
            (Type::String, Some(_)) | (_, None) => {}
            (_, Some(_)) => say("length", "is for the type `string`: leave it out"),
        }
        for (key, given) in [("scale", self.scale), ("offset", self.offset)] {
            if given.is_some() && !self.kind.is_number() {
                say(key, "is for numbers: leave it out");
            } else if given.is_some_and(|number| !number.is_finite()) {
                say(key, "is no finite number");
            }
        }
        wrong
    }

    /// Bytes that it takes.
    fn width(&self) -> u16 {
        match self.kind {
            Type::String => self.length.unwrap_or(0),
            Type::Bool | Type::Bit | Type::I8 | Type::U8 => 1,
            _ => self.kind.width(0).saturating_mul(2),
        }
    }
}

/// A checked [`Config`].
#[derive(Debug)]
pub struct Decoder(Vec<Slot>);

#[derive(Debug)]
struct Slot {
    name: Arc<str>,
    unit: Option<Arc<str>>,
    at: usize,
    width: usize,
    registers: Registers,
}

impl Decoder {
    pub fn new(config: &Config) -> Self {
        Self(config.fields.iter().map(|field| Slot::new(field, config.order)).collect())
    }

    /// Appends the fields. What a frame is too short for, or what is not what it should
    /// be, has no value; its neighbours have theirs.
    pub fn decode(&self, frame: &[u8], fields: &mut Vec<Field>) {
        fields.extend(self.0.iter().map(|slot| {
            let bytes = frame.get(slot.at..slot.at.saturating_add(slot.width));
            let value = bytes.and_then(|bytes| slot.value(bytes));
            let quality = value.is_none().then_some(Quality::BadPayload);
            Field { value: value.unwrap_or(Value::Null), quality, ..slot.absent() }
        }));
    }

    /// The fields without values.
    pub fn absent(&self) -> Vec<Field> {
        self.0.iter().map(Slot::absent).collect()
    }
}

impl Slot {
    fn new(field: &Place, order: Order) -> Self {
        let linear = Linear::new(field.scale, field.offset);
        let meaning = match (field.bit, linear) {
            (Some(bit), _) => Meaning::Bit(bit),
            (None, Some(linear)) => Meaning::Scaled(linear),
            (None, None) => Meaning::Number,
        };
        let width = usize::from(field.width());
        // A single byte has no order.
        let order = if width == 1 { Order::Abcd } else { field.order.unwrap_or(order) };
        Self {
            name: field.name.as_str().into(),
            unit: field.unit.as_deref().map(Arc::from),
            at: usize::from(field.at),
            width,
            registers: Registers {
                kind: field.kind,
                order,
                length: 0,
                absent: Vec::new(),
                meaning,
            },
        }
    }

    fn absent(&self) -> Field {
        let (name, unit) = (Arc::clone(&self.name), self.unit.clone());
        Field { name, unit, value: Value::Null, quality: None }
    }

    fn value(&self, bytes: &[u8]) -> Option<Value> {
        if self.registers.kind == Type::String {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            let text = std::str::from_utf8(bytes.get(..end)?).ok()?;
            return Some(Value::Text(text.trim_end_matches(' ').into()));
        }
        let words: Vec<u16> = match bytes {
            [byte] => vec![u16::from(*byte)],
            bytes => {
                bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair)).collect()
            }
        };
        self.registers.decode(&words).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(name: &str, at: u16, kind: Type) -> Place {
        Place {
            name: name.to_owned(),
            at,
            kind,
            order: None,
            length: None,
            bit: None,
            unit: None,
            scale: None,
            offset: None,
        }
    }

    fn read(fields: Vec<Place>, order: Order, frame: &[u8]) -> Vec<(Value, Option<Quality>)> {
        let config = Config { order, fields };
        assert_eq!(config.check(), []);
        let mut fields = Vec::new();
        Decoder::new(&config).decode(frame, &mut fields);
        fields.into_iter().map(|field| (field.value, field.quality)).collect()
    }

    #[test]
    fn values_are_read_where_they_stand() {
        let frame = [0x02, 0xFF, 0x01, 0x02, 0x03, 0x04, b'o', b'k', 0, 0x12, 0x34];
        let fields = vec![
            value("byte", 1, Type::U8),
            value("signed", 1, Type::I8),
            Place { scale: Some(0.1), ..value("scaled", 2, Type::U16) },
            value("big", 2, Type::U32),
            Place { order: Some(Order::Dcba), ..value("little", 2, Type::U32) },
            Place { bit: Some(1), ..value("bit", 0, Type::Bit) },
            Place { length: Some(3), ..value("text", 6, Type::String) },
            value("bcd", 9, Type::Bcd16),
        ];
        let expected = [
            Value::U64(255),
            Value::I64(-1),
            Value::F64(25.8),
            Value::U64(0x0102_0304),
            Value::U64(0x0403_0201),
            Value::Bool(true),
            Value::Text("ok".into()),
            Value::U64(1_234),
        ];
        assert_eq!(read(fields, Order::Abcd, &frame), expected.map(|value| (value, None)));
        let bytes = vec![value("byte", 1, Type::U8), value("word", 2, Type::U16)];
        let expected = [Value::U64(255), Value::U64(0x0201)];
        assert_eq!(read(bytes, Order::Dcba, &frame), expected.map(|value| (value, None)));
    }

    #[test]
    fn what_a_frame_is_too_short_for_has_no_value_and_its_neighbours_have_theirs() {
        let fields = vec![value("a", 0, Type::U8), value("b", 0, Type::U16)];
        let bad = (Value::Null, Some(Quality::BadPayload));
        assert_eq!(read(fields, Order::Abcd, &[7]), [(Value::U64(7), None), bad]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let fields = vec![
            value("a", 0, Type::Bit),
            Place { bit: Some(8), ..value("b", 0, Type::Bit) },
            value("a", 0, Type::String),
            Place { scale: Some(f64::NAN), ..value("c", 0, Type::U8) },
        ];
        let told = Config { order: Order::Abcd, fields }.check();
        let keys: Vec<&str> = told.iter().map(|(key, _)| key.as_str()).collect();
        let expected = [
            "fields[0].bit",
            "fields[1].bit",
            "fields[2].length",
            "fields[2].name",
            "fields[3].scale",
        ];
        assert_eq!(keys, expected);
    }

    proptest! {
        #[test]
        fn any_bytes_give_fields(frame in proptest::collection::vec(any::<u8>(), 0..40)) {
            let kinds = [
                Type::Bool, Type::I8, Type::U8, Type::I16, Type::U16, Type::I32, Type::U32,
                Type::I64, Type::U64, Type::Bcd16, Type::Bcd32, Type::Bcd64, Type::F16, Type::F32,
                Type::F64,
            ];
            for order in [Order::Abcd, Order::Cdab, Order::Badc, Order::Dcba] {
                let mut fields: Vec<Place> =
                    (0..).zip(kinds).map(|(n, kind)| value(&format!("{n}"), n, kind)).collect();
                fields.push(Place { length: Some(9), ..value("text", 3, Type::String) });
                fields.push(Place { bit: Some(7), ..value("bit", 3, Type::Bit) });
                prop_assert_eq!(read(fields, order, &frame).len(), kinds.len() + 2);
            }
        }
    }
}
