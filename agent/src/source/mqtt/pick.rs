//! Which of a payload's values become fields, under which names, and which of them are the
//! event's time and device.

use std::fmt;
use std::sync::Arc;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::config::Subscription;
use crate::decode::time;
use crate::decode::tree::Opened;
use crate::event::{Event, Field, Timestamp, Value};

/// A value of the payload: its path, or a table with its path and how its field is.
// Not `untagged` for reading, as `Payload`.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum Wanted {
    /// A path alone.
    Path(String),
    /// A path, and how its field is.
    Full(Named),
}

/// A value, and the field that it becomes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// Where it stands, with dots within nested objects and for places in arrays:
    /// `axes.0.speed`.
    pub path: String,
    /// Name of its field. Default: the path with `_` for its dots.
    #[serde(default)]
    pub name: Option<String>,
    /// Unit, for the schema.
    #[serde(default)]
    pub unit: Option<String>,
}

impl<'de> Deserialize<'de> for Wanted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Wanted;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path or a table")
            }

            fn visit_str<E>(self, path: &str) -> Result<Wanted, E> {
                Ok(Wanted::Path(path.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Wanted, A::Error> {
                let named = Named::deserialize(MapAccessDeserializer::new(map));
                named.map(Wanted::Full).map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Wanted {
    fn path(&self) -> &str {
        match self {
            Self::Path(path) | Self::Full(Named { path, .. }) => path,
        }
    }

    /// What is wrong with it.
    pub(super) fn check(&self) -> Option<&'static str> {
        let named = match self {
            Self::Path(_) => None,
            Self::Full(named) => named.name.as_deref(),
        };
        if !is_path(self.path()) {
            return Some(NO_PATH);
        }
        (named == Some("")).then_some("has an empty `name`: write one, or leave it out")
    }

    /// What is wrong with it beside another of the same list.
    pub(super) fn check_beside(&self, earlier: &Self) -> Option<&'static str> {
        if flat(self.path()) == flat(earlier.path()) {
            return Some("has the path of one before it: each value becomes one field");
        }
        let same = self.field() == earlier.field();
        same.then_some("has the name of one before it: give it another `name`")
    }

    /// Name of its field.
    fn field(&self) -> String {
        match self {
            Self::Full(Named { name: Some(name), .. }) => name.clone(),
            Self::Path(path) | Self::Full(Named { path, .. }) => flat(path),
        }
    }
}

pub(super) const NO_PATH: &str = "is no path: names with dots between them, as in \"motor.speed\"";

pub(super) fn is_path(path: &str) -> bool {
    !path.split('.').any(str::is_empty)
}

/// A path with dots as the decoder names what it flattens.
fn flat(path: &str) -> String {
    path.replace('.', "_")
}

/// A checked [`Wanted`].
#[derive(Debug)]
struct Pick {
    from: String,
    /// Where its field has another name.
    name: Option<Arc<str>>,
    unit: Option<Arc<str>>,
}

impl Pick {
    fn new(wanted: &Wanted) -> Self {
        let from = flat(wanted.path());
        let Wanted::Full(named) = wanted else {
            return Self { from, name: None, unit: None };
        };
        let shared = |text: &Option<String>| text.as_deref().map(Arc::from);
        Self { from, name: shared(&named.name), unit: shared(&named.unit) }
    }
}

/// Whether a field is among these; then it has its name and its unit from there.
fn pick(picks: &[Pick], field: &mut Field) -> bool {
    let Some(pick) = picks.iter().find(|pick| *pick.from == *field.name) else { return false };
    if let Some(name) = &pick.name {
        field.name = Arc::clone(name);
    }
    field.unit.clone_from(&pick.unit);
    true
}

/// What a subscription wants of its payloads.
#[derive(Debug)]
pub(super) struct Picks {
    device: Option<String>,
    time: Option<(String, time::Reader)>,
    /// Empty: all.
    fields: Vec<Pick>,
    /// None: all.
    carry: Option<Vec<Pick>>,
}

/// Where in an event's fields those of the payload begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begin {
    /// Of what stands beside the array; before it is what the message itself gives.
    pub(super) beside: usize,
    pub(super) own: usize,
}

impl Picks {
    /// `None` where the time is none that can be read, which `check` refused before.
    pub(super) fn new(subscription: &Subscription) -> Option<Self> {
        let time = match &subscription.time {
            Some(time) => Some((flat(&time.path), time::Reader::new(time).ok()?)),
            None => None,
        };
        let carry = subscription.carry.as_ref();
        Some(Self {
            device: subscription.device_path.as_deref().map(flat),
            time,
            fields: subscription.fields.iter().map(Pick::new).collect(),
            carry: carry.map(|wanted| wanted.iter().map(Pick::new).collect()),
        })
    }

    /// The elements of arrays that its paths go through.
    pub(super) fn opened(subscription: &Subscription) -> Opened {
        let carried = subscription.carry.iter().flatten();
        let wanted = subscription.fields.iter().chain(carried).map(Wanted::path);
        let time = subscription.time.iter().map(|time| time.path.as_str());
        let device = subscription.device_path.iter().map(String::as_str);
        Opened::of(wanted.chain(time).chain(device))
    }

    /// Whether something beside the array is of any use to the events.
    pub(super) fn carries(&self, name: &str) -> bool {
        let Some(carry) = &self.carry else { return true };
        let time = self.time.as_ref().map(|(path, _)| path);
        carry.iter().map(|pick| &pick.from).chain(time).chain(&self.device).any(|it| it == name)
    }

    /// Makes the event what is wanted of it, or says why it is none. A value of the payload
    /// itself goes before one of the same name that stands beside it.
    pub(super) fn apply(
        &self,
        event: &mut Event,
        begin: Begin,
        now: Timestamp,
    ) -> Result<(), String> {
        let Begin { beside, mut own } = begin;
        if beside < own {
            own -= drop_hidden(&mut event.fields, begin);
        }
        if let Some((path, reader)) = &self.time {
            let index = place(event, path, beside)
                .ok_or_else(|| format!("there is no time at `{path}`"))?;
            let field = event.fields.remove(index);
            own -= usize::from(index < own);
            event.time = reader.read(&field.value).map_err(|error| error.to_string())?;
            event.read_at = Some(now);
        }
        if let Some(path) = &self.device {
            let named = place(event, path, beside).and_then(|index| event.fields.get(index));
            event.device = match named.map(|field| &field.value) {
                Some(Value::Text(text)) => Arc::clone(text),
                Some(Value::I64(number)) => number.to_string().into(),
                Some(Value::U64(number)) => number.to_string().into(),
                _ => return Err(format!("there is no device at `{path}`")),
            };
        }
        if !self.fields.is_empty() || (self.carry.is_some() && beside < own) {
            own = self.choose(&mut event.fields, Begin { beside, own });
        }
        // Again: what a topic and properties give, and by the names that fields have now.
        let gone = drop_hidden(&mut event.fields, Begin { beside: 0, own: beside });
        drop_hidden(&mut event.fields, Begin { beside: beside - gone, own: own - gone });
        Ok(())
    }

    /// Drops what nobody wants; gives where the payload's own begin now.
    fn choose(&self, fields: &mut Vec<Field>, Begin { beside, own }: Begin) -> usize {
        let (mut index, mut around) = (0, 0);
        fields.retain_mut(|field| {
            let at = index;
            index += 1;
            let keep = match &self.carry {
                _ if at < beside => true,
                Some(carry) if at < own => pick(carry, field),
                None if at < own => true,
                _ => self.fields.is_empty() || pick(&self.fields, field),
            };
            around += usize::from(keep && at < own);
            keep
        });
        around
    }
}

fn place(event: &Event, name: &str, from: usize) -> Option<usize> {
    let found = event.fields.iter().skip(from).position(|field| *field.name == *name);
    found.map(|index| from + index)
}

/// Drops what stands beside and has the name of an own one; gives how many.
fn drop_hidden(fields: &mut Vec<Field>, Begin { beside, own }: Begin) -> usize {
    let hidden: Vec<usize> = (beside..own)
        .filter(|at| {
            let (around, own) = fields.split_at(own.min(fields.len()));
            around.get(*at).is_some_and(|f| own.iter().any(|o| *o.name == *f.name))
        })
        .collect();
    if hidden.is_empty() {
        return 0;
    }
    let mut index = 0;
    fields.retain(|_| {
        index += 1;
        !hidden.contains(&(index - 1))
    });
    hidden.len()
}

/// Of fields with one name keeps the last.
pub(super) fn keep_last(fields: &mut Vec<Field>) {
    let mut at = 0;
    while let Some((field, later)) = fields.get(at..).and_then(<[Field]>::split_first) {
        if later.iter().any(|other| *other.name == *field.name) {
            fields.remove(at);
        } else {
            at += 1;
        }
    }
}
