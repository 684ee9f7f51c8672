//! A payload as a tree: what JSON, CBOR and Protobuf have in common once they are read.
//!
//! One tree has one set of rules: an object's members become fields, nested objects are
//! joined with `_` (`CrateDB` refuses dots), an array of plain values stays an array, any
//! other array is passed on as JSON. What is no object becomes the field `value`. An
//! element of an array has a field of its own where a path of the configuration names it.

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;

use super::json::{DEEPEST, MOST_FIELDS, MOST_VALUES};
use super::names::Names;
use crate::event::{Decimal, Field, Value};

/// Values of one payload, in all of its arrays and objects: a few megabytes of tree.
const MOST_NODES: usize = 131_072;

/// Arrays and objects within each other, of which the payload is read at all.
const DEEPEST_TREE: usize = 32;

/// The path of a payload that is an array itself.
pub const WHOLE: &str = ".";

/// A value of a payload, with all that is in it.
#[derive(Debug, Clone, PartialEq)]
pub enum Node<'p> {
    Plain(Value),
    Object(Vec<(Cow<'p, str>, Node<'p>)>),
    Array(Vec<Node<'p>>),
}

/// A payload that no gateway should have to hold.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooMuch {
    #[error("objects are nested deeper than {DEEPEST}")]
    Objects,
    #[error("arrays and objects are nested deeper than {DEEPEST_TREE}")]
    Depth,
    #[error("more than {MOST_FIELDS} fields")]
    Fields,
    #[error("an array of more than {MOST_VALUES} values")]
    Array,
    #[error("more than {MOST_NODES} values")]
    Values,
}

/// What a payload that is being read has taken of the bounds.
#[derive(Debug, Default)]
pub struct Budget(usize);

impl Budget {
    /// One more value, within so many arrays and objects.
    pub fn spend(&mut self, depth: usize) -> Result<(), TooMuch> {
        self.spend_for(1, depth)
    }

    /// So many more values, within so many arrays and objects.
    pub fn spend_for(&mut self, values: usize, depth: usize) -> Result<(), TooMuch> {
        self.0 = self.0.saturating_add(values);
        if self.0 > MOST_NODES {
            return Err(TooMuch::Values);
        }
        if depth > DEEPEST_TREE { Err(TooMuch::Depth) } else { Ok(()) }
    }
}

/// Elements of arrays that paths of the configuration go through (`axes.0.speed`): each by
/// the name that the array has as a field, and its place in there.
#[derive(Debug, Clone, Default)]
pub struct Opened(Vec<(String, usize)>);

impl Opened {
    pub fn of<'a>(paths: impl Iterator<Item = &'a str>) -> Self {
        let mut opened = Self::default();
        for path in paths {
            let mut array = String::new();
            for step in path.split('.') {
                if let Ok(index) = step.parse() {
                    opened.0.push((array.clone(), index));
                }
                if !array.is_empty() {
                    array.push('_');
                }
                array.push_str(step);
            }
        }
        opened.0.sort();
        opened.0.dedup();
        opened
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn of_array(&self, name: &str) -> impl Iterator<Item = usize> {
        self.0.iter().filter(move |(array, _)| array == name).map(|(_, index)| *index)
    }
}

impl Node<'_> {
    /// Takes out what stands at a path with dots.
    pub fn take(&mut self, path: &str) -> Option<Self> {
        let (step, rest) = match path.split_once('.') {
            Some((step, rest)) => (step, Some(rest)),
            None => (path, None),
        };
        match (self, rest) {
            (Self::Object(members), rest) => {
                let at = members.iter().position(|(name, _)| name == step)?;
                match rest {
                    None => Some(members.remove(at).1),
                    Some(rest) => members.get_mut(at)?.1.take(rest),
                }
            }
            (Self::Array(items), rest) => {
                let at: usize = step.parse().ok()?;
                match rest {
                    None => (at < items.len()).then(|| items.remove(at)),
                    Some(rest) => items.get_mut(at)?.take(rest),
                }
            }
            (Self::Plain(_), _) => None,
        }
    }

    /// The elements of the array at a path, and what stands beside it.
    pub fn split(mut self, path: &str) -> Result<(Self, Vec<Self>), String> {
        let array = if path == WHOLE {
            Some(std::mem::replace(&mut self, Self::Object(Vec::new())))
        } else {
            self.take(path)
        };
        match array {
            Some(Self::Array(items)) => Ok((self, items)),
            // Some writers have no empty array.
            Some(Self::Plain(Value::Null)) => Ok((self, Vec::new())),
            Some(_) => Err(format!("what stands at `{path}` is no array")),
            None => Err(format!("there is no array at `{path}`")),
        }
    }

    /// Appends its fields.
    pub fn flatten(
        &self,
        names: &mut Names,
        opened: &Opened,
        fields: &mut Vec<Field>,
    ) -> Result<(), TooMuch> {
        names.rewind();
        let mut flat = Flat { names, opened, fields, path: String::new(), depth: 0 };
        match self {
            Self::Object(members) => flat.object(members),
            Self::Array(items) if flat.opened.of_array("").next().is_some() => flat.elements(items),
            other => flat.value("value", other),
        }
    }

    /// Its JSON; bytes as Base64, instants as RFC 3339, and null for what is no number.
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Plain(value) => plain(value, out),
            Self::Array(items) => list(items, out),
            Self::Object(members) => {
                out.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    quoted(name, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

struct Flat<'a> {
    names: &'a mut Names,
    opened: &'a Opened,
    fields: &'a mut Vec<Field>,
    /// Names of what is around, each followed by `_`.
    path: String,
    depth: usize,
}

impl Flat<'_> {
    fn object(&mut self, members: &[(Cow<'_, str>, Node<'_>)]) -> Result<(), TooMuch> {
        if self.depth == DEEPEST {
            return Err(TooMuch::Objects);
        }
        self.depth += 1;
        for (name, node) in members {
            self.value(name, node)?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn value(&mut self, name: &str, node: &Node<'_>) -> Result<(), TooMuch> {
        let outer = self.path.len();
        self.path.push_str(name);
        let done = match node {
            Node::Plain(value) => self.push(value.clone()),
            Node::Object(members) => {
                self.path.push('_');
                self.object(members)
            }
            Node::Array(items) if self.opened.of_array(&self.path).next().is_some() => {
                self.elements(items)
            }
            Node::Array(items) => array(items).and_then(|value| self.push(value)),
        };
        self.path.truncate(outer);
        done
    }

    /// Those of an array that somebody asks for.
    fn elements(&mut self, items: &[Node<'_>]) -> Result<(), TooMuch> {
        let opened = self.opened;
        let array = self.path.clone();
        if !self.path.is_empty() {
            self.path.push('_');
        }
        for index in opened.of_array(&array) {
            if let Some(item) = items.get(index) {
                self.value(&index.to_string(), item)?;
            }
        }
        Ok(())
    }

    fn push(&mut self, value: Value) -> Result<(), TooMuch> {
        if self.fields.len() >= MOST_FIELDS {
            return Err(TooMuch::Fields);
        }
        let name = self.names.get(&self.path);
        self.fields.push(Field { name, unit: None, value, quality: None });
        Ok(())
    }
}

fn array(items: &[Node<'_>]) -> Result<Value, TooMuch> {
    let plain = items.iter().map(|item| match item {
        Node::Plain(value) => Some(value.clone()),
        _ => None,
    });
    match plain.collect::<Option<Vec<_>>>() {
        Some(values) if values.len() > MOST_VALUES => Err(TooMuch::Array),
        Some(values) => Ok(Value::Array(values.into())),
        None => {
            let mut json = String::new();
            list(items, &mut json);
            Ok(Value::Json(json.into()))
        }
    }
}

fn list(items: &[Node<'_>], out: &mut String) {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        item.write(out);
    }
    out.push(']');
}

fn plain(value: &Value, out: &mut String) {
    let written = match value {
        Value::Bool(value) => write!(out, "{value}"),
        Value::I64(number) => write!(out, "{number}"),
        Value::U64(number) => write!(out, "{number}"),
        Value::F64(number) if number.is_finite() => write!(out, "{number:?}"),
        Value::Decimal(number) => {
            decimal(*number, out);
            Ok(())
        }
        Value::Text(text) => {
            quoted(text, out);
            Ok(())
        }
        Value::Json(json) => {
            out.push_str(json);
            Ok(())
        }
        Value::Bytes(bytes) => {
            quoted(&base64::engine::general_purpose::STANDARD.encode(bytes), out);
            Ok(())
        }
        Value::Timestamp { time, .. } => match jiff::Timestamp::from_nanosecond(time.0.into()) {
            Ok(time) => write!(out, "\"{time}\""),
            Err(_) => write!(out, "null"),
        },
        Value::Uuid(bytes) => write!(out, "\"{:032x}\"", u128::from_be_bytes(*bytes)),
        // Not made by any of these decoders, or no number.
        Value::Null | Value::F64(_) | Value::Date(_) | Value::Time(_) | Value::Array(_) => {
            write!(out, "null")
        }
    };
    written.expect("writing to memory does not fail");
}

/// All digits, with the point where it belongs.
fn decimal(number: Decimal, out: &mut String) {
    let (unscaled, scale) = (number.unscaled, usize::from(number.scale));
    if unscaled < 0 {
        out.push('-');
    }
    let digits = format!("{:0width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(scale));
    out.push_str(whole);
    if scale > 0 {
        out.push('.');
        out.push_str(fraction);
    }
}

fn quoted(text: &str, out: &mut String) {
    let json = serde_json::to_string(text).expect("a text can be written as JSON");
    out.push_str(&json);
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
