//! A JSON payload → fields.
//!
//! An object's members become fields, nested objects are joined with `_`
//! (`CrateDB` refuses dots), an array of plain values stays an array, any other
//! array is passed on as its JSON text. What is not an object becomes the field
//! `value`. Each value is first taken as its own text, so that numbers keep
//! every digit (see [`super::number`]).

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::names::Names;
use super::number;
use super::tree::{Budget, Node};
use crate::event::{Field, Value};

/// Objects within objects: deeper ones are not flattened by anybody on purpose.
pub const DEEPEST: usize = 8;
/// Fields of one event: `CrateDB` holds 1,000 columns a table by default.
pub const MOST_FIELDS: usize = 1_000;
/// Values of one array: a second of a vibration sensor has 25,600 or 51,200.
pub const MOST_VALUES: usize = 65_536;

#[derive(Debug, thiserror::Error)]
#[error("payload is not usable JSON: {0}")]
pub struct Error(#[from] serde_json::Error);

/// Appends the fields of `payload` to `fields`.
pub fn decode(payload: &[u8], names: &mut Names, fields: &mut Vec<Field>) -> Result<(), Error> {
    let root: &RawValue = serde_json::from_slice(payload)?;
    let mut walk = Walk { names, fields, path: String::new(), depth: 0 };
    let text = root.get();
    if text.starts_with('{') {
        walk.object(text)?;
    } else {
        walk.value("value", text)?;
    }
    Ok(())
}

/// All of `payload`, for who wants another part of it than its fields.
pub fn tree(payload: &[u8]) -> Result<Node<'_>, Error> {
    let root: &RawValue = serde_json::from_slice(payload)?;
    Ok(Branch { budget: &mut Budget::default(), depth: 0 }.node(root.get())?)
}

struct Walk<'a> {
    names: &'a mut Names,
    fields: &'a mut Vec<Field>,
    /// Names of the objects around, each followed by `_`.
    path: String,
    depth: usize,
}

impl Walk<'_> {
    fn object(&mut self, text: &str) -> Result<(), serde_json::Error> {
        if self.depth == DEEPEST {
            return Err(serde_json::Error::custom(format_args!(
                "objects are nested deeper than {DEEPEST}"
            )));
        }
        self.depth += 1;
        serde_json::Deserializer::from_str(text).deserialize_map(Members(self))?;
        self.depth -= 1;
        Ok(())
    }

    fn value(&mut self, name: &str, text: &str) -> Result<(), serde_json::Error> {
        let value = match text.as_bytes().first() {
            Some(b'{') => {
                let outer = self.path.len();
                self.path.push_str(name);
                self.path.push('_');
                self.object(text)?;
                self.path.truncate(outer);
                return Ok(());
            }
            Some(b'[') => serde_json::Deserializer::from_str(text)
                .deserialize_seq(Elements)?
                .map_or_else(|| Value::Json(text.into()), |list| Value::Array(list.into())),
            _ => plain(text)?,
        };
        if self.fields.len() >= MOST_FIELDS {
            return Err(serde_json::Error::custom(format_args!("more than {MOST_FIELDS} fields")));
        }
        let name = if self.path.is_empty() {
            self.names.get(name)
        } else {
            let outer = self.path.len();
            self.path.push_str(name);
            let name = self.names.get(&self.path);
            self.path.truncate(outer);
            name
        };
        self.fields.push(Field { name, unit: None, value, quality: None });
        Ok(())
    }
}

/// The text of a valid JSON value that is neither object nor array.
fn plain(text: &str) -> Result<Value, serde_json::Error> {
    Ok(match text {
        "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(inner) if !inner.contains('\\') => Value::Text(inner.into()),
            Some(_) => Value::Text(serde_json::from_str::<String>(text)?.into()),
            None => number::parse(text).ok_or_else(|| {
                serde_json::Error::custom(format_args!("number {text:.64} is out of range"))
            })?,
        },
    })
}

struct Members<'w, 'a>(&'w mut Walk<'a>);

impl<'de> Visitor<'de> for Members<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Key<'de>>()? {
            let value = map.next_value::<&'de RawValue>()?;
            self.0.value(key.as_str(), value.get()).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// A member's name: borrowed unless it has an escape in it.
enum Key<'de> {
    Borrowed(&'de str),
    Owned(String),
}

impl Key<'_> {
    fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Owned(text) => text,
        }
    }
}

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key::Borrowed(text))
            }

            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key::Owned(text.to_owned()))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// The plain values of an array, or `None` where others stand in it.
struct Elements;

impl<'de> Visitor<'de> for Elements {
    type Value = Option<Vec<Value>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut values = Some(Vec::new());
        while let Some(element) = seq.next_element::<&'de RawValue>()? {
            let text = element.get();
            if text.starts_with(['{', '[']) {
                values = None;
            }
            let Some(list) = &mut values else { continue };
            if list.len() == MOST_VALUES {
                return Err(A::Error::custom(format_args!(
                    "an array of more than {MOST_VALUES} values"
                )));
            }
            list.push(plain(text).map_err(A::Error::custom)?);
        }
        Ok(values)
    }
}

/// What is left of the bounds at one place of a tree.
struct Branch<'b> {
    budget: &'b mut Budget,
    depth: usize,
}

impl Branch<'_> {
    fn node<'p>(&mut self, text: &'p str) -> Result<Node<'p>, serde_json::Error> {
        self.budget.spend(self.depth).map_err(serde_json::Error::custom)?;
        let mut inner = serde_json::Deserializer::from_str(text);
        let below = Branch { budget: &mut *self.budget, depth: self.depth + 1 };
        match text.as_bytes().first() {
            Some(b'{') => inner.deserialize_map(below),
            Some(b'[') => inner.deserialize_seq(below),
            _ => plain(text).map(Node::Plain),
        }
    }
}

impl<'de> Visitor<'de> for Branch<'_> {
    type Value = Node<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Node<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(key) = map.next_key::<Key<'de>>()? {
            let value = map.next_value::<&'de RawValue>()?;
            let node = self.node(value.get()).map_err(A::Error::custom)?;
            members.push((key.into(), node));
        }
        Ok(Node::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Node<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(element) = seq.next_element::<&'de RawValue>()? {
            items.push(self.node(element.get()).map_err(A::Error::custom)?);
        }
        Ok(Node::Array(items))
    }
}

impl<'de> From<Key<'de>> for Cow<'de, str> {
    fn from(key: Key<'de>) -> Self {
        match key {
            Key::Borrowed(text) => Self::Borrowed(text),
            Key::Owned(text) => Self::Owned(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Decimal;

    fn fields(payload: &str) -> Vec<(String, Value)> {
        let mut fields = Vec::new();
        decode(payload.as_bytes(), &mut Names::default(), &mut fields).unwrap();
        fields.into_iter().map(|field| (field.name.to_string(), field.value)).collect()
    }

    #[test]
    fn members_become_fields_and_nested_objects_are_joined() {
        assert_eq!(
            fields(r#"{"temp":21.50,"n":3,"ok":true,"none":null,"a":{"b":{"c":"x\n"}},"t":"y"}"#),
            [
                ("temp".into(), Value::F64(21.5)),
                ("n".into(), Value::I64(3)),
                ("ok".into(), Value::Bool(true)),
                ("none".into(), Value::Null),
                ("a_b_c".into(), Value::Text("x\n".into())),
                ("t".into(), Value::Text("y".into())),
            ]
        );
    }

    #[test]
    fn an_array_of_plain_values_stays_one_and_others_are_json() {
        assert_eq!(
            fields(r#"{"a":[1,2.5,"x",null],"b":[{"c": 1}],"d":[]}"#),
            [
                (
                    "a".into(),
                    Value::Array(Box::new([
                        Value::I64(1),
                        Value::F64(2.5),
                        Value::Text("x".into()),
                        Value::Null
                    ]))
                ),
                ("b".into(), Value::Json(r#"[{"c": 1}]"#.into())),
                ("d".into(), Value::Array(Box::default())),
            ]
        );
    }

    #[test]
    fn what_is_no_object_is_the_field_value_and_digits_are_kept() {
        assert_eq!(fields(" 5 "), [("value".into(), Value::I64(5))]);
        assert_eq!(
            fields(r#"{"x":0.12345678901234567890123}"#),
            [(
                "x".into(),
                Value::Decimal(Decimal { unscaled: 12_345_678_901_234_567_890_123, scale: 23 })
            )]
        );
    }

    #[test]
    fn what_is_broken_too_deep_or_too_wide_is_an_error() {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(DEEPEST + 1), "}".repeat(DEEPEST + 1));
        let wide: Vec<String> = (0..=MOST_FIELDS).map(|n| format!(r#""f{n}":1"#)).collect();
        let wide = format!("{{{}}}", wide.join(","));
        let long = format!("[{}1]", "1,".repeat(MOST_VALUES));
        for payload in [r#"{"a":1"#, "", "{]", r#"{"a":1e999}"#, &deep, &wide, &long] {
            let result = decode(payload.as_bytes(), &mut Names::default(), &mut Vec::new());
            assert!(result.is_err(), "{payload:.40}");
        }
    }

    #[test]
    fn an_error_does_not_repeat_a_payload_of_digits() {
        let digits = "9".repeat(1_000_000);
        let error = decode(digits.as_bytes(), &mut Names::default(), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().len() < 200);
    }

    proptest! {
        #[test]
        fn any_bytes_give_fields_or_an_error(payload: Vec<u8>) {
            let _either: Result<(), Error> = decode(&payload, &mut Names::default(), &mut Vec::new());
        }

        #[test]
        fn any_text_of_json_signs_gives_fields_or_an_error(payload in r#"[\[\]{}":,0-9eE.+\-a\\u ]{0,40}"#) {
            let _either: Result<(), Error> =
                decode(payload.as_bytes(), &mut Names::default(), &mut Vec::new());
        }
    }
}
