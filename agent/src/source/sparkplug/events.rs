//! The metrics of one message as events: one for each time that they name, the
//! historical ones apart from the current ones.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::decode::json::MOST_FIELDS;
use crate::decode::sparkplug::flat;
use crate::decode::sparkplug::proto::{Metric, MetricValue, Payload};
use crate::decode::tree::Node;
use crate::event::{Event, Field, Quality, Timestamp, Value};
use crate::flow;

/// Field of an event whose values are old ones and not the current.
const HISTORICAL: &str = "is_historical";

/// Fields of one event, besides those that say whose it is and that it is historical.
pub(super) const MOST: usize = MOST_FIELDS - 4;

/// Aliases below it have a field of their own where nobody can say their names.
const OWN_FIELD: u64 = 1_000;

/// Field with the values of all others: a table has a column for each field.
const OTHERS: &str = "alias_others";

/// What all events of a node or device have.
#[derive(Debug, Clone)]
pub(super) struct Ident {
    pub(super) flow: flow::Id,
    pub(super) device: Arc<str>,
    /// Group, node and device as fields.
    pub(super) place: Vec<Field>,
}

impl Ident {
    pub(super) fn event(&self, time: Timestamp, quality: Quality, fields: Vec<Field>) -> Event {
        let mut all = Vec::with_capacity(self.place.len() + fields.len());
        all.extend_from_slice(&self.place);
        all.extend(fields);
        Event {
            flow: self.flow,
            device: Arc::clone(&self.device),
            time,
            read_at: None,
            quality,
            fields: all,
        }
    }
}

/// When a metric was measured: as it says itself, else as its message says, else when
/// that was read.
pub(super) fn time_of(metric: &Metric, payload: &Payload, read: Timestamp) -> Timestamp {
    let own = metric.timestamp.and_then(flat::time);
    own.or_else(|| payload.timestamp.and_then(flat::time)).unwrap_or(read)
}

/// Fields by quality, age and time. A name comes once in an event: with another value at
/// the same time begins another.
#[derive(Debug, Default)]
pub(super) struct Groups {
    by_key: BTreeMap<Key, Vec<Group>>,
    /// Values of aliases that have no field of their own, each with its name.
    others: BTreeMap<Key, Vec<Node<'static>>>,
    /// What is left for the message's arrays.
    pub(super) room: flat::Room,
}

/// Values that could not be resolved last, historical ones before the current.
type Key = (bool, bool, Timestamp);

#[derive(Debug, Default)]
struct Group {
    names: HashSet<Arc<str>>,
    fields: Vec<Field>,
}

impl Groups {
    pub(super) fn add(&mut self, metric: &Metric, time: Timestamp, fields: Vec<Field>) {
        self.put((false, metric.is_historical != Some(true), time), fields);
    }

    /// What nobody can say the name of, with what is known.
    pub(super) fn add_unresolved(&mut self, metric: &Metric, time: Timestamp) {
        let name = match (super::table::name(metric), metric.alias) {
            (Some(name), _) => name.to_owned(),
            (None, Some(alias)) => format!("alias_{alias}"),
            (None, None) => "unnamed".to_owned(),
        };
        let mut values = Vec::new();
        flat::flatten(&name, metric, &flat::Types::new(), &mut self.room, &mut values);
        let field = |flat: flat::Flat| Field {
            name: flat.name.into(),
            unit: None,
            value: flat.value,
            quality: None,
        };
        let key = (true, metric.is_historical != Some(true), time);
        if super::table::name(metric).is_none() && metric.alias.is_some_and(|it| it >= OWN_FIELD) {
            self.others.entry(key).or_default().extend(values.into_iter().map(other));
        } else {
            self.put(key, values.into_iter().map(field).collect());
        }
    }

    fn put(&mut self, key: Key, fields: Vec<Field>) {
        let groups = self.by_key.entry(key).or_default();
        let has_room = |group: &Group| {
            group.fields.len() + fields.len() <= MOST
                && fields.iter().all(|field| !group.names.contains(&field.name))
        };
        if !groups.last().is_some_and(has_room) {
            groups.push(Group::default());
        }
        for field in fields {
            if groups.last().is_some_and(|group| group.fields.len() >= MOST) {
                groups.push(Group::default());
            }
            let Some(group) = groups.last_mut() else { return };
            group.names.insert(Arc::clone(&field.name));
            group.fields.push(field);
        }
    }

    pub(super) fn events(mut self, of: &Ident, read: Timestamp) -> impl Iterator<Item = Event> {
        for (key, values) in std::mem::take(&mut self.others) {
            let value = Value::Json(Node::Array(values).to_json().into());
            let field = Field { name: OTHERS.into(), unit: None, value, quality: None };
            self.put(key, vec![field]);
        }
        self.by_key.into_iter().flat_map(move |((unresolved, is_current, time), groups)| {
            let quality = if unresolved { Quality::Stale } else { Quality::Good };
            groups.into_iter().map(move |group| {
                let mut fields = group.fields;
                if !is_current {
                    fields.insert(0, mark());
                }
                let mut event = of.event(time, quality, fields);
                event.read_at = (time != read).then_some(read);
                event
            })
        })
    }
}

/// `{"name":"alias_4294967296","value":0.5}`
fn other(flat: flat::Flat) -> Node<'static> {
    let value = match flat.value {
        Value::Array(values) => Node::Array(values.into_iter().map(Node::Plain).collect()),
        plain => Node::Plain(plain),
    };
    let name = Node::Plain(Value::Text(flat.name.into()));
    Node::Object(vec![("name".into(), name), ("value".into(), value)])
}

fn mark() -> Field {
    Field { name: HISTORICAL.into(), unit: None, value: Value::Bool(true), quality: None }
}

/// The number that stands for a session of an edge node, in its birth and its will (3.0,
/// 6.4.19 and 6.4.24), whatever of the integer types it has.
pub(super) fn session(payload: &Payload) -> Option<u64> {
    let metric = payload.metrics.iter().find(|metric| is_session(metric))?;
    match &metric.value {
        Some(MetricValue::Int(number)) => Some((*number).into()),
        Some(MetricValue::Long(number)) => Some(*number),
        _ => None,
    }
}

/// The metric with that number, which measures nothing.
pub(super) fn is_session(metric: &Metric) -> bool {
    metric.name.as_deref() == Some("bdSeq")
}
