//! From a message to its event: which subscription it belongs to, and how its
//! topic and payload become device, time and fields.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::config::{Config, Payload, Qos, Subscription};
use crate::decode::names::Names;
use crate::decode::topic::Template;
use crate::decode::{json, scalar, time};
use crate::event::{Event, Field, Quality, Timestamp, Value};
use crate::flow::{self, Flows};

/// Topics whose route is remembered; a broker with more is slower, not larger.
const MOST_TOPICS: usize = 4_096;

/// All subscriptions, ready to decode.
#[derive(Debug)]
pub(super) struct Routes {
    subscriptions: Vec<Compiled>,
    known: HashMap<Bytes, Arc<Route>>,
}

#[derive(Debug)]
struct Compiled {
    template: Template,
    /// Names of the placeholders, `None` for `{device}`.
    places: Vec<Option<Arc<str>>>,
    device: Vec<Part>,
    device_path: Option<String>,
    flow: flow::Id,
    payload: Payload,
    field: Arc<str>,
    fields: Vec<String>,
    time: Option<(String, time::Reader)>,
    names: Names,
    /// Fields that its last event was made of: the next one has as many, and is
    /// made without room for more.
    usual: usize,
}

/// What one topic gives to each of its events.
#[derive(Debug)]
struct Route {
    subscription: usize,
    device: Arc<str>,
    fields: Vec<Field>,
}

/// A piece of a device's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    /// Index of a placeholder.
    Place(usize),
    WholeTopic,
}

/// Why a message is no event.
#[derive(Debug)]
pub(super) enum Refused {
    /// No subscription of this configuration wants it: it was subscribed by an
    /// earlier one, and nothing is lost that anybody asked for.
    Unwanted,
    /// It is a dead letter; index of the subscription, and why.
    Dead(Option<usize>, String),
}

impl Routes {
    pub(super) fn new(config: &Config, flows: &mut Flows) -> Self {
        let subscriptions = config
            .subscriptions
            .iter()
            .filter_map(|subscription| compile(config, subscription, flows))
            .collect();
        Self { subscriptions, known: HashMap::new() }
    }

    /// The topic template of a subscription, for people.
    pub(super) fn filter(&self, subscription: usize) -> &str {
        self.subscriptions.get(subscription).map_or("", |s| s.template.filter())
    }

    pub(super) fn decode(
        &mut self,
        topic: &Bytes,
        payload: &[u8],
        now: Timestamp,
    ) -> Result<(usize, Event), Refused> {
        let route = self.route(topic)?;
        let index = route.subscription;
        let Some(subscription) = self.subscriptions.get_mut(index) else {
            return Err(Refused::Unwanted);
        };
        subscription
            .event(&route, payload, now)
            .map(|event| (index, event))
            .map_err(|why| Refused::Dead(Some(index), why))
    }

    /// The subscription that a topic belongs to.
    pub(super) fn subscription(&mut self, topic: &[u8]) -> Option<usize> {
        self.route(&Bytes::copy_from_slice(topic)).ok().map(|route| route.subscription)
    }

    fn route(&mut self, topic: &Bytes) -> Result<Arc<Route>, Refused> {
        if let Some(route) = self.known.get(topic) {
            return Ok(Arc::clone(route));
        }
        let text = std::str::from_utf8(topic)
            .ok()
            .filter(|text| !text.is_empty() && !text.contains('\0'))
            .ok_or_else(|| Refused::Dead(None, "topic is no text".to_owned()))?;
        let (subscription, compiled, values) = self
            .subscriptions
            .iter()
            .enumerate()
            .find_map(|(index, s)| s.template.matches(text).map(|values| (index, s, values)))
            .ok_or(Refused::Unwanted)?;
        let device: String = compiled
            .device
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.as_str(),
                Part::Place(index) => values.get(*index).copied().unwrap_or_default(),
                Part::WholeTopic => text,
            })
            .collect();
        let fields = compiled
            .places
            .iter()
            .zip(&values)
            .filter_map(|(name, value)| {
                let name = Arc::clone(name.as_ref()?);
                Some(Field { name, unit: None, value: Value::Text((*value).into()), quality: None })
            })
            .collect();
        let route = Arc::new(Route { subscription, device: device.into(), fields });
        if self.known.len() >= MOST_TOPICS {
            self.known.clear();
        }
        // A copy: the slice would keep the whole read buffer alive.
        self.known.insert(Bytes::copy_from_slice(topic), Arc::clone(&route));
        Ok(route)
    }
}

/// `None` where the configuration is wrong, which `check` refused before.
fn compile(config: &Config, subscription: &Subscription, flows: &mut Flows) -> Option<Compiled> {
    let template = Template::parse(&subscription.topic).ok()?;
    let device = match &subscription.device {
        Some(device) => device_parts(device, &template).ok()?,
        None => match template.names().position(|name| name == "device") {
            Some(index) => vec![Part::Place(index)],
            None => vec![Part::WholeTopic],
        },
    };
    let stream = subscription.stream.as_ref().or(config.stream.as_ref()).unwrap_or(&config.name);
    let time = match &subscription.time {
        Some(time) => Some((flat(&time.path), time::Reader::new(time).ok()?)),
        None => None,
    };
    let lane = subscription.lane.or(config.lane);
    // What a broker keeps until it is acknowledged can wait; with QoS 0 it keeps
    // nothing.
    let flow = match config.qos_of(subscription) {
        Qos::AtMostOnce => flows.polled(stream, lane),
        Qos::AtLeastOnce | Qos::ExactlyOnce => flows.id(stream, lane),
    };
    Some(Compiled {
        places: template.names().map(|name| (name != "device").then(|| name.into())).collect(),
        template,
        device,
        device_path: subscription.device_path.as_deref().map(flat),
        flow,
        payload: subscription.payload,
        field: subscription.field.as_str().into(),
        fields: subscription.fields.iter().map(|path| flat(path)).collect(),
        time,
        names: Names::default(),
        usual: 0,
    })
}

/// A path with dots as the decoder names what it flattens.
fn flat(path: &str) -> String {
    path.replace('.', "_")
}

/// `{line}-press` → its pieces, or what is wrong with it.
pub(super) fn device_parts(device: &str, template: &Template) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = device;
    while let Some((text, after)) = rest.split_once('{') {
        let (name, after) = after
            .split_once('}')
            .ok_or_else(|| format!("`{device}` opens a placeholder and does not close it"))?;
        let index = template
            .names()
            .position(|known| known == name)
            .ok_or_else(|| format!("the topic has no placeholder `{{{name}}}`"))?;
        if !text.is_empty() {
            parts.push(Part::Text(text.to_owned()));
        }
        parts.push(Part::Place(index));
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    if parts.is_empty() {
        return Err("must not be empty".to_owned());
    }
    Ok(parts)
}

impl Compiled {
    fn event(&mut self, route: &Route, payload: &[u8], now: Timestamp) -> Result<Event, String> {
        let mut event = Event {
            flow: self.flow,
            device: Arc::clone(&route.device),
            time: now,
            read_at: None,
            quality: Quality::Good,
            fields: Vec::with_capacity(self.usual.max(route.fields.len())),
        };
        event.fields.extend_from_slice(&route.fields);
        let value = match self.payload {
            Payload::Json => {
                self.json(&mut event, route.fields.len(), payload, now)?;
                return Ok(event);
            }
            Payload::Scalar => scalar::decode(payload).map_err(|error| error.to_string())?,
            Payload::Text => Value::Text(
                std::str::from_utf8(payload).map_err(|_| scalar::NotText.to_string())?.into(),
            ),
            Payload::Raw => Value::Bytes(payload.into()),
        };
        let name = Arc::clone(&self.field);
        event.fields.push(Field { name, unit: None, value, quality: None });
        self.usual = event.fields.len();
        Ok(event)
    }

    fn json(
        &mut self,
        event: &mut Event,
        topic_fields: usize,
        payload: &[u8],
        now: Timestamp,
    ) -> Result<(), String> {
        self.names.rewind();
        json::decode(payload, &mut self.names, &mut event.fields)
            .map_err(|error| error.to_string())?;
        self.usual = event.fields.len();
        let place = |event: &Event, path: &str| {
            event.fields.iter().skip(topic_fields).position(|f| *f.name == *path)
        };
        if let Some((path, reader)) = &self.time {
            let index =
                place(event, path).ok_or_else(|| format!("there is no time at `{path}`"))?;
            let field = event.fields.remove(topic_fields + index);
            event.time = reader.read(&field.value).map_err(|error| error.to_string())?;
            event.read_at = Some(now);
        }
        if let Some(path) = &self.device_path {
            let named = place(event, path).and_then(|i| event.fields.get(topic_fields + i));
            event.device = match named.map(|field| &field.value) {
                Some(Value::Text(text)) => Arc::clone(text),
                Some(Value::I64(number)) => number.to_string().into(),
                Some(Value::U64(number)) => number.to_string().into(),
                _ => return Err(format!("there is no device at `{path}`")),
            };
        }
        if !self.fields.is_empty() {
            let mut index = 0;
            event.fields.retain(|field| {
                index += 1;
                index <= topic_fields || self.fields.iter().any(|name| **name == *field.name)
            });
        }
        Ok(())
    }
}
