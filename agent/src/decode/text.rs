//! A piece of text that a device wrote, as the value that it is said to be.
//!
//! What devices do with numbers is taken: blanks around them and behind the sign,
//! zeros before them, a comma for the point where it is said. A piece that is not
//! what it should be costs its own field only.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::number;
use super::registers::Linear;
use crate::event::{Field, Quality, Value};

/// One value in a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the field in the record. A column named `-` is left out.
    pub name: String,
    /// What it is: `number` (whole or not, as it is written), `integer`, `float`,
    /// `hex` (a whole number in hex digits), `bool` (1 and 0, true and false, on
    /// and off, yes and no) or `text`. Default: `number`.
    #[serde(rename = "type", default)]
    pub kind: Kind,
    /// Unit, for the schema.
    #[serde(default)]
    pub unit: Option<String>,
    /// The value is what is written times this.
    #[serde(default)]
    pub scale: Option<f64>,
    /// Added after `scale`.
    #[serde(default)]
    pub offset: Option<f64>,
    /// The device writes a comma for the point: `12,5`. Default: false.
    #[serde(default)]
    pub comma: bool,
}

/// What a piece of text is.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    #[default]
    Number,
    Integer,
    Float,
    Hex,
    Bool,
    Text,
}

impl Config {
    /// One with this name and nothing else said.
    pub fn plain(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: Kind::default(),
            unit: None,
            scale: None,
            offset: None,
            comma: false,
        }
    }

    /// Key and what is wrong with it.
    pub fn check(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        if self.name.is_empty() {
            wrong.push(("name", "is empty: give the value a name".to_owned()));
        }
        let is_number = !matches!(self.kind, Kind::Bool | Kind::Text);
        for (key, given) in [("scale", self.scale), ("offset", self.offset)] {
            if given.is_some() && !is_number {
                wrong.push((key, "is for numbers: leave it out, or give another `type`".into()));
            } else if given.is_some_and(|number| !number.is_finite()) {
                wrong.push((key, "is no finite number".to_owned()));
            }
        }
        if self.scale == Some(0.0) {
            wrong.push(("scale", "is 0, which makes every value the same: leave it out".into()));
        }
        wrong
    }
}

/// What one value's text becomes; made once.
#[derive(Debug, Clone)]
pub struct Piece {
    name: Arc<str>,
    unit: Option<Arc<str>>,
    kind: Kind,
    linear: Option<Linear>,
    comma: bool,
}

impl Piece {
    pub fn new(config: &Config) -> Self {
        Self {
            name: config.name.as_str().into(),
            unit: config.unit.as_deref().map(Arc::from),
            kind: config.kind,
            linear: Linear::new(config.scale, config.offset),
            comma: config.comma,
        }
    }

    /// Its field; without a value where nothing but blanks is written.
    pub fn field(&self, text: &str) -> Field {
        // Not `\0`: a serial port gives it for a byte whose parity is wrong.
        let text = text.trim();
        let value = if text.is_empty() { Some(Value::Null) } else { self.value(text) };
        let quality = value.is_none().then_some(Quality::BadPayload);
        Field { value: value.unwrap_or(Value::Null), quality, ..self.absent() }
    }

    /// Its field where there is no value.
    pub fn absent(&self) -> Field {
        let (name, unit) = (Arc::clone(&self.name), self.unit.clone());
        Field { name, unit, value: Value::Null, quality: None }
    }

    fn value(&self, text: &str) -> Option<Value> {
        match self.kind {
            Kind::Text => return Some(Value::Text(text.into())),
            Kind::Bool => return truth(text).map(Value::Bool),
            Kind::Hex => {
                let digits = text.strip_prefix("0x").unwrap_or(text);
                // `from_str_radix` takes a sign.
                let digits = Some(digits).filter(|text| !text.starts_with(['+', '-']))?;
                let number = u64::from_str_radix(digits, 16).ok()?;
                return Some(match &self.linear {
                    Some(linear) => Value::F64(linear.of_integer(number.into())),
                    None => Value::U64(number),
                });
            }
            Kind::Number | Kind::Integer | Kind::Float => {}
        }
        let number = number::parse(&self.tidied(text))?;
        let whole = matches!(number, Value::I64(_) | Value::U64(_));
        if self.kind == Kind::Integer && !whole {
            return None;
        }
        Some(match (&self.linear, number) {
            (Some(linear), Value::I64(number)) => Value::F64(linear.of_integer(number.into())),
            (Some(linear), Value::U64(number)) => Value::F64(linear.of_integer(number.into())),
            (Some(linear), Value::F64(number)) => Value::F64(linear.of_float(number)),
            // More digits than a double holds: as the double nearest to it.
            (Some(linear), _) => Value::F64(linear.of_float(self.tidied(text).parse().ok()?)),
            (None, Value::I64(_) | Value::U64(_) | Value::Decimal(_))
                if self.kind == Kind::Float =>
            {
                Value::F64(self.tidied(text).parse().ok()?)
            }
            (None, number) => number,
        })
    }

    /// A number as JSON would write it.
    fn tidied<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut tidy = Cow::Borrowed(text);
        let digits = text.trim_start_matches(['+', '-']);
        if digits.starts_with(' ') {
            let sign = text.get(..text.len().saturating_sub(digits.len())).unwrap_or_default();
            tidy = Cow::Owned(format!("{sign}{}", digits.trim_start()));
        }
        if self.comma && tidy.contains(',') {
            tidy = Cow::Owned(tidy.replace(',', "."));
        }
        tidy
    }
}

fn truth(text: &str) -> Option<bool> {
    let is = |words: [&str; 4]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    if is(["1", "true", "on", "yes"]) {
        return Some(true);
    }
    is(["0", "false", "off", "no"]).then_some(false)
}

/// Bytes of a device as text: UTF-8, and what is none is read as Latin-1, so that one
/// degree sign of an old device does not cost its numbers.
pub fn of_bytes(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().map(|byte| char::from(*byte)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(kind: Kind, text: &str) -> (Value, Option<Quality>) {
        let piece = Piece::new(&Config { kind, ..Config::plain("x") });
        let field = piece.field(text);
        (field.value, field.quality)
    }

    #[test]
    fn numbers_are_read_as_devices_write_them() {
        for (text, value) in [
            ("  12.50 ", Value::F64(12.5)),
            ("+   12.34", Value::F64(12.34)),
            ("-   5", Value::I64(-5)),
            ("0012", Value::I64(12)),
            ("", Value::Null),
            (" ", Value::Null),
        ] {
            assert_eq!(read(Kind::Number, text), (value, None), "{text:?}");
        }
        let comma = Piece::new(&Config { comma: true, ..Config::plain("x") });
        assert_eq!(comma.field("- 1,25").value, Value::F64(-1.25));
    }

    #[test]
    fn what_is_not_what_it_should_be_costs_its_own_value() {
        let bad = (Value::Null, Some(Quality::BadPayload));
        for (kind, text) in [
            (Kind::Number, "12,5"),
            (Kind::Number, "12\0"),
            (Kind::Number, "------"),
            (Kind::Integer, "1.5"),
            (Kind::Hex, "-1"),
            (Kind::Hex, "g"),
            (Kind::Bool, "perhaps"),
        ] {
            assert_eq!(read(kind, text), bad, "{text}");
        }
    }

    #[test]
    fn each_type_is_what_it_says() {
        for (kind, text, value) in [
            (Kind::Integer, "7", Value::I64(7)),
            (Kind::Float, "7", Value::F64(7.0)),
            (Kind::Hex, "0xFF", Value::U64(255)),
            (Kind::Bool, "ON", Value::Bool(true)),
            (Kind::Text, " 007 ", Value::Text("007".into())),
        ] {
            assert_eq!(read(kind, text), (value, None), "{text}");
        }
        let config = Config { scale: Some(0.1), offset: Some(1.0), ..Config::plain("x") };
        assert_eq!(Piece::new(&config).field("215").value, Value::F64(22.5));
    }

    proptest! {
        #[test]
        fn any_text_gives_a_field(bytes: Vec<u8>, comma: bool) {
            for kind in [Kind::Number, Kind::Integer, Kind::Float, Kind::Hex, Kind::Bool, Kind::Text] {
                let scale = Some(0.5).filter(|_| comma);
                let config = Config { kind, scale, comma, ..Config::plain("x") };
                Piece::new(&config).field(&of_bytes(&bytes));
            }
        }
    }
}
