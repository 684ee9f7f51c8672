//! From a message to its events: which subscription it belongs to, and how its topic,
//! properties and payload become device, time and fields.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::config::{Config, Qos, Retained, Subscription};
use super::packet::Publish;
use super::pick::{Begin, Picks, keep_last};
use super::property;
use crate::decode::payload::{Parser, Reading, Record, Records};
use crate::decode::topic::Template;
use crate::event::{Event, Field, Quality, Timestamp, Value};
use crate::flow::{self, Flows};

/// Topics whose route is remembered; a broker with more is slower, not larger.
const MOST_TOPICS: usize = 4_096;

/// Memory of the events of one message, since what stands beside an array is carried into each.
const MOST_MEMORY: usize = 16 * 1_024 * 1_024;

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
    flow: flow::Id,
    parser: Parser,
    /// A message may be several events.
    is_many: bool,
    each: Option<String>,
    picks: Picks,
    properties: Option<property::Reader>,
    retained: Retained,
    /// Name of the field that marks events of retained messages.
    mark: Arc<str>,
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

/// What a message gave besides its events.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) subscription: usize,
    /// Pieces of it that are no events.
    pub(super) odd: Option<Odd>,
}

/// Pieces of a message that cannot be read, beside others that are events.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Odd {
    pub(super) reason: String,
    /// One on a line each; elements as JSON.
    pub(super) lines: String,
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

    /// Appends the events of a message: all that can be read of it, or none.
    pub(super) fn decode(
        &mut self,
        message: &Publish,
        now: Timestamp,
        events: &mut Vec<Event>,
    ) -> Result<Taken, Refused> {
        let route = self.route(&message.topic)?;
        let index = route.subscription;
        let Some(subscription) = self.subscriptions.get_mut(index) else {
            return Err(Refused::Unwanted);
        };
        let before = events.len();
        let odd = if subscription.is_many {
            subscription.several(&route, message, now, events)
        } else {
            subscription.one(&route, message, now).map(|event| {
                events.extend(event);
                None
            })
        };
        odd.map(|odd| Taken { subscription: index, odd }).map_err(|why| {
            events.truncate(before);
            Refused::Dead(Some(index), why)
        })
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
    let payload = subscription.payload.config(&subscription.field);
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
        flow,
        is_many: subscription.each.is_some() || payload.rows().is_some(),
        parser: Parser::opening(&payload, Picks::opened(subscription)),
        each: subscription.each.clone(),
        picks: Picks::new(subscription)?,
        properties: subscription.properties.as_ref().map(property::Reader::new),
        retained: subscription.retained,
        mark: "retained".into(),
        usual: 0,
    })
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
    /// The event of a message that is one, if it is wanted.
    fn one(
        &mut self,
        route: &Route,
        message: &Publish,
        now: Timestamp,
    ) -> Result<Option<Event>, String> {
        let mut event = self.begin(route, now);
        event.fields.extend_from_slice(&route.fields);
        self.around(message, &mut event.fields);
        let own = event.fields.len();
        match self.parser.parse(&message.payload, &mut event.fields)? {
            Reading::Unwanted => return Ok(None),
            Reading::Event(quality) => event.quality = quality,
        }
        self.usual = event.fields.len();
        self.finish(&mut event, Begin { beside: own, own }, message, now)?;
        Ok(Some(event))
    }

    /// The events of a message that is several, and what of it is none.
    fn several(
        &mut self,
        route: &Route,
        message: &Publish,
        now: Timestamp,
        events: &mut Vec<Event>,
    ) -> Result<Option<Odd>, String> {
        let Records { beside, list } = self.parser.split(&message.payload, self.each.as_deref())?;
        let mut around = route.fields.clone();
        self.around(message, &mut around);
        let first = around.len();
        // Before it is copied into each event.
        around.extend(beside.into_iter().filter(|field| self.picks.carries(&field.name)));
        let begin = Begin { beside: first, own: around.len() };
        let carried = memory_of(&around);
        let (mut memory, mut bad) = (0, Bad::default());
        for (index, record) in list.iter().enumerate() {
            // Also for what turns out to be bad: it is copied all the same.
            memory += carried;
            if memory > MOST_MEMORY {
                return Err(too_large());
            }
            let mut event = self.begin(route, now);
            event.fields.extend_from_slice(&around);
            let read = self
                .parser
                .record(record, &mut event.fields)
                .and_then(|()| self.finish(&mut event, begin, message, now));
            match read {
                Ok(()) => {
                    self.usual = event.fields.len();
                    memory += event.memory().saturating_sub(carried);
                    events.push(event);
                }
                Err(why) => bad.add(index, why, record),
            }
            if memory > MOST_MEMORY {
                return Err(too_large());
            }
        }
        bad.told(list.len())
    }

    fn begin(&self, route: &Route, now: Timestamp) -> Event {
        Event {
            flow: self.flow,
            device: Arc::clone(&route.device),
            time: now,
            read_at: None,
            quality: Quality::Good,
            fields: Vec::with_capacity(self.usual.max(route.fields.len())),
        }
    }

    /// What a message says besides its topic and its payload. It goes before what the topic
    /// says under the same name.
    fn around(&mut self, message: &Publish, fields: &mut Vec<Field>) {
        let before = fields.len();
        if let Some(properties) = &mut self.properties {
            properties.read(&message.properties, fields);
        }
        if message.retain && self.retained == Retained::Field {
            let (name, value) = (Arc::clone(&self.mark), Value::Bool(true));
            fields.push(Field { name, unit: None, value, quality: None });
        }
        if fields.len() > before {
            keep_last(fields);
        }
    }

    fn finish(
        &self,
        event: &mut Event,
        begin: Begin,
        message: &Publish,
        now: Timestamp,
    ) -> Result<(), String> {
        self.picks.apply(event, begin, now)?;
        if message.retain && self.retained == Retained::Stale && event.quality == Quality::Good {
            event.quality = Quality::Stale;
        }
        Ok(())
    }
}

/// About what these take in each event.
fn memory_of(fields: &[Field]) -> usize {
    size_of_val(fields) + fields.iter().map(|field| field.value.held()).sum::<usize>()
}

fn too_large() -> String {
    format!("its events take more than {} MiB", MOST_MEMORY >> 20)
}

/// What of a message is no event, while it is read.
#[derive(Debug, Default)]
struct Bad {
    count: usize,
    /// Place of the first, and why.
    first: Option<(usize, String)>,
    lines: String,
}

impl Bad {
    fn add(&mut self, index: usize, why: String, record: &Record<'_>) {
        self.count += 1;
        self.first.get_or_insert((index, why));
        self.lines.push_str(&record.to_line());
        self.lines.push('\n');
    }

    /// An error where nothing is left of `all`: then the message itself says more than its
    /// pieces.
    fn told(self, all: usize) -> Result<Option<Odd>, String> {
        let Self { count, first: Some((index, why)), lines } = self else { return Ok(None) };
        if count == all {
            return Err(format!("none of {all} can be read, the first: {why}"));
        }
        let number = index + 1;
        let reason =
            format!("{count} of {all} cannot be read, the first is number {number}: {why}");
        Ok(Some(Odd { reason, lines }))
    }
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
