//! `[[source.subscription]]`: what is subscribed, and how its messages are read.

use serde::{Deserialize, Serialize};

use super::config::Qos;
use super::payload::Payload;
use super::pick::{NO_PATH, Wanted, is_path};
use super::property::Config as Properties;
use crate::decode::{time, topic::Template, tree};
use crate::flow::Lane;

/// One topic template and how its payload is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subscription {
    /// Topic template: `plant/{line}/{device}/temp`. A `{name}` is one level
    /// and becomes a text field of that name, `{device}` becomes the event's
    /// device; `+` and a last `#` are allowed too. Subscriptions must not
    /// overlap: a broker may deliver a message once for each that it matches.
    pub topic: String,
    /// 0, 1 or 2; by default the source's.
    #[serde(default)]
    pub qos: Option<Qos>,
    /// Stream of its events; by default the source's.
    #[serde(default)]
    pub stream: Option<String>,
    /// Lane of its events; by default the source's.
    #[serde(default)]
    pub lane: Option<Lane>,
    /// The event's device: a fixed name, or one with placeholders of the topic:
    /// `{line}-press`. By default what stands at `{device}`, else the whole
    /// topic.
    #[serde(default)]
    pub device: Option<String>,
    /// Path of the payload's value that names the device (`id`, `meta.id`); it goes before
    /// `device`.
    #[serde(default)]
    pub device_path: Option<String>,
    /// How the payload is read: `json` (default), `cbor`, `nmea`, `scalar` (one number,
    /// true, false or text), `text`, `raw` (bytes), or a table for what needs to be said
    /// more of: `{ as = "columns", … }`.
    #[serde(default)]
    pub payload: Payload,
    /// Name of the field that a `scalar`, `text` or `raw` payload becomes.
    #[serde(default = "default_field")]
    pub field: String,
    /// Path of an array whose elements become one event each, in JSON, CBOR and Protobuf:
    /// `readings`, `data.values`; `.` where the payload itself is the array. Default: a
    /// payload is one event.
    #[serde(default)]
    pub each: Option<String>,
    /// With `each`, what stands beside the array and is carried into each of its events.
    /// Default: all of it; `[]`: nothing.
    #[serde(default)]
    pub carry: Option<Vec<Wanted>>,
    /// Only these values of the payload, or of each element: paths with dots for nested
    /// objects and places in arrays (`a.b`, `axes.0.speed`), or tables that also name the
    /// field and its unit. Empty: all.
    #[serde(default)]
    pub fields: Vec<Wanted>,
    /// Where the payload carries the time of its event; by default the event has the time
    /// of reading.
    #[serde(default)]
    pub time: Option<time::Config>,
    /// Which properties of a message become fields, in version 5. Default: none.
    #[serde(default)]
    pub properties: Option<Properties>,
    /// How an event of a retained message is told from others: by a field `retained`
    /// (`field`, default), by the quality `stale` (`stale`), or not at all (`unmarked`).
    #[serde(default)]
    pub retained: Retained,
}

/// What tells an event of a retained message from others.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Retained {
    #[default]
    Field,
    Stale,
    Unmarked,
}

fn default_field() -> String {
    "value".to_owned()
}

impl Subscription {
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        match (Template::parse(&self.topic), Template::parse(&other.topic)) {
            (Ok(ours), Ok(theirs)) => ours.overlaps(&theirs),
            _ => false,
        }
    }

    /// What is wrong: the key's path, and what would be right.
    pub(super) fn check(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        match Template::parse(&self.topic) {
            Err(what) => wrong.push(("topic".to_owned(), what)),
            Ok(template) => {
                if let Some(device) = &self.device
                    && let Err(what) = super::route::device_parts(device, &template)
                {
                    wrong.push(("device".to_owned(), what));
                }
            }
        }
        if let Some(time) = &self.time
            && let Err(what) = time::Reader::new(time)
        {
            wrong.push(("time".to_owned(), what));
        }
        let below = |under: &'static str| {
            move |(key, what): (String, String)| (format!("{under}.{key}"), what)
        };
        wrong.extend(self.payload.check().into_iter().map(below("payload")));
        let properties = self.properties.iter().flat_map(Properties::check);
        wrong.extend(properties.map(below("properties")));
        self.check_fit(&mut |key, what| wrong.push((key.to_owned(), what.to_owned())));
        wrong
    }

    /// Whether what is said of the payload's parts fits to how it is read.
    fn check_fit(&self, say: &mut impl FnMut(&str, &str)) {
        let payload = self.payload.config(&self.field);
        if !payload.is_named() {
            let what = "needs a payload with names, as json: this one is a single value";
            for (key, is_said) in [
                ("time", self.time.is_some()),
                ("device_path", self.device_path.is_some()),
                ("fields", !self.fields.is_empty()),
            ] {
                if is_said {
                    say(key, what);
                }
            }
        }
        let is_word = matches!(self.payload, Payload::Word(_));
        if is_word && self.field.is_empty() {
            say("field", "is empty: give the value a name");
        } else if !is_word && self.field != default_field() {
            say("field", "is for a payload that is one word: write it into the table `payload`");
        }
        match self.each.as_deref() {
            None if self.carry.is_some() => {
                say("carry", "is for `each`: what stands beside which array?");
            }
            Some(_) if !payload.is_nested() => {
                say("each", "needs a payload with arrays: json, cbor or protobuf");
            }
            Some(path) if path != tree::WHOLE && path.split('.').any(str::is_empty) => {
                say("each", "is no path: as in \"data.readings\", or \".\" for the payload itself");
            }
            _ => {}
        }
        let time = self.time.as_ref().map(|time| &time.path);
        for (key, path) in [("device_path", self.device_path.as_ref()), ("time.path", time)] {
            if path.is_some_and(|path| !is_path(path)) {
                say(key, NO_PATH);
            }
        }
        let lists = [("fields", self.fields.as_slice())];
        let carry = self.carry.as_deref().map(|carry| ("carry", carry));
        for (key, list) in lists.into_iter().chain(carry) {
            for (index, wanted) in list.iter().enumerate() {
                let mut earlier = list.iter().take(index);
                let beside = || earlier.find_map(|earlier| wanted.check_beside(earlier));
                if let Some(what) = wanted.check().or_else(beside) {
                    say(&format!("{key}[{index}]"), what);
                }
            }
        }
    }
}
