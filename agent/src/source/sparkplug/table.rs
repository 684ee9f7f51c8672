//! What a birth said of the metrics of a node or device: their names, aliases, types and
//! units, and the last value of each.

use std::collections::HashMap;
use std::sync::Arc;

use prost::Message as _;

use crate::decode::sparkplug::flat::{self, Flat, Room, Types};
use crate::decode::sparkplug::property;
use crate::decode::sparkplug::proto::{Metric, MetricValue, Template};
use crate::event::{Field, Quality, Timestamp, Value};

/// Metrics that one birth may have.
pub(super) const MOST_METRICS: usize = 100_000;

/// What a metric takes besides its name and last value: its own place and that of its name.
const METRIC: usize = 192;

/// What an alias takes.
const ALIAS: usize = 48;

/// Texts and bytes that are kept as a last value.
const MOST_KEPT: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Table {
    metrics: Vec<Known>,
    by_name: HashMap<Arc<str>, usize>,
    /// `None` for an alias that one birth gave twice: nobody knows which one is meant.
    by_alias: HashMap<u64, Option<usize>>,
    types: Types,
    /// Memory of all this.
    bytes: usize,
}

#[derive(Debug)]
struct Known {
    name: Arc<str>,
    unit: Option<Arc<str>>,
    /// Its last value that is not historical, as it went out.
    last: Vec<Field>,
    at: Timestamp,
}

impl Table {
    /// Of the metrics of a birth; its definitions are looked up in it and then in those of
    /// its node.
    pub(super) fn of<'a>(metrics: &'a [Metric], nodes: &'a Definitions) -> Self {
        let own = Definitions::of(metrics);
        let definition = |name: &str| own.get(name).or_else(|| nodes.get(name));
        let (mut table, mut room) = (Self::default(), Room::default());
        for metric in metrics.iter().take(MOST_METRICS) {
            let Some(name) = name(metric).filter(|_| !flat::is_definition(metric)) else {
                continue;
            };
            let at = table.learn(name, metric);
            flat::learn(name, metric, &definition, &mut table.types, &mut room);
            let Some(alias) = metric.alias else { continue };
            let known = table.by_alias.entry(alias);
            known
                .and_modify(|known| *known = known.filter(|known| *known == at))
                .or_insert(Some(at));
        }
        table.bytes += room.taken() + table.by_alias.len() * ALIAS;
        table
    }

    pub(super) const fn memory(&self) -> usize {
        self.bytes
    }

    /// A metric that names itself.
    fn learn(&mut self, name: &str, metric: &Metric) -> usize {
        if let Some(at) = self.by_name.get(name) {
            return *at;
        }
        let name: Arc<str> = name.into();
        let unit = metric.properties.as_ref().and_then(property::unit).map(Into::into);
        self.bytes += METRIC + name.len() + unit.as_ref().map_or(0, |unit: &Arc<str>| unit.len());
        self.by_name.insert(Arc::clone(&name), self.metrics.len());
        self.metrics.push(Known { name, unit, last: Vec::new(), at: Timestamp(i64::MIN) });
        self.metrics.len() - 1
    }

    /// The metric that is meant, if the birth named it. A name goes before an alias.
    pub(super) fn find(&self, metric: &Metric) -> Option<usize> {
        match name(metric) {
            Some(name) => self.by_name.get(name).copied(),
            None => self.by_alias.get(&metric.alias?).copied().flatten(),
        }
    }

    /// A metric that no birth named, and that says all of itself.
    pub(super) fn adopt(&mut self, metric: &Metric) -> Option<usize> {
        let name = name(metric).filter(|_| flat::datatype(metric).is_some())?;
        (self.metrics.len() < MOST_METRICS).then(|| self.learn(name, metric))
    }

    /// Whether an alias may be used that another birth of the same session gave: both
    /// must mean the same metric by it, of one type and unit.
    pub(super) fn agrees(&self, other: &Self, metric: &Metric) -> bool {
        let Some(alias) = metric.alias.filter(|_| name(metric).is_none()) else { return true };
        let meant = |table: &Self| {
            let at = table.by_alias.get(&alias).copied().flatten()?;
            let known = table.metrics.get(at)?;
            let datatype = table.types.get(&*known.name).copied();
            Some((Arc::clone(&known.name), known.unit.clone(), datatype))
        };
        !other.by_alias.contains_key(&alias) || meant(self) == meant(other)
    }

    pub(super) fn name(&self, at: usize) -> Option<Arc<str>> {
        self.metrics.get(at).map(|known| Arc::clone(&known.name))
    }

    /// The fields of a metric, which become its last value where they are the current
    /// ones and none that is newer is known. What takes more memory than the last value
    /// before is kept where it `may_grow`.
    pub(super) fn fields(
        &mut self,
        at: usize,
        metric: &Metric,
        time: Timestamp,
        room: &mut Room,
        may_grow: bool,
    ) -> Vec<Field> {
        let Some(known) = self.metrics.get_mut(at) else { return Vec::new() };
        let mut values = Vec::new();
        flat::flatten(&known.name, metric, &self.types, room, &mut values);
        let own = metric.properties.as_ref();
        if let Some(unit) = own.and_then(property::unit)
            && known.unit.as_deref() != Some(unit)
        {
            known.unit = Some(unit.into());
        }
        let said = own.and_then(property::quality);
        let field = |value: Flat| Field {
            name: if *value.name == *known.name {
                Arc::clone(&known.name)
            } else {
                value.name.into()
            },
            unit: known.unit.clone(),
            value: value.value,
            quality: value.quality.or(said).filter(|quality| *quality != Quality::Good),
        };
        let fields: Vec<Field> = values.into_iter().map(field).collect();
        if metric.is_historical != Some(true) && time >= known.at {
            known.at = time;
            let last: Vec<Field> = fields.iter().map(kept).collect();
            let (was, is) = (memory(&known.last), memory(&last));
            known.last = if may_grow || is <= was { last } else { Vec::new() };
            self.bytes = self.bytes + memory(&known.last) - was;
        }
        fields
    }

    /// The last value of each metric, for an event that says that they are stale.
    pub(super) fn last(&self) -> Vec<Field> {
        self.metrics.iter().flat_map(|known| known.last.iter().cloned()).collect()
    }

    /// Its session is over: what it meant says nothing about what comes.
    pub(super) fn forget_aliases(&mut self) {
        self.by_alias.clear();
    }
}

/// The name that a metric gives itself.
pub(super) fn name(metric: &Metric) -> Option<&str> {
    metric.name.as_deref().filter(|name| !name.is_empty())
}

/// What last values take. Their names are the metric's or their own.
fn memory(fields: &[Field]) -> usize {
    let field = |field: &Field| {
        let value = match &field.value {
            Value::Text(text) | Value::Json(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::Array(values) => size_of_val::<[Value]>(values),
            _ => 0,
        };
        size_of::<Field>() + value
    };
    let names: usize = fields.iter().skip(1).map(|field| field.name.len()).sum();
    names + fields.iter().map(field).sum::<usize>()
}

/// What is large is not kept: that it is stale can be said without it.
fn kept(field: &Field) -> Field {
    let value = match &field.value {
        Value::Text(text) | Value::Json(text) if text.len() > MOST_KEPT => Value::Null,
        Value::Bytes(bytes) if bytes.len() > MOST_KEPT => Value::Null,
        Value::Array(values) if values.len() > MOST_KEPT => Value::Null,
        value => value.clone(),
    };
    Field { value, quality: None, ..field.clone() }
}

/// Definitions of templates, which only the node's birth gives.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    by_name: HashMap<String, Template>,
    bytes: usize,
}

impl Definitions {
    pub(super) fn of(metrics: &[Metric]) -> Self {
        let definition = |metric: &Metric| match (&metric.name, &metric.value) {
            (Some(name), Some(MetricValue::Template(it))) if flat::is_definition(metric) => {
                Some((name.clone(), it.clone()))
            }
            _ => None,
        };
        let by_name: HashMap<String, Template> = metrics.iter().filter_map(definition).collect();
        let bytes = by_name.iter().map(|(name, it)| name.len() + of_template(it)).sum();
        Self { by_name, bytes }
    }

    fn get(&self, name: &str) -> Option<&Template> {
        self.by_name.get(name)
    }

    pub(super) const fn memory(&self) -> usize {
        self.bytes
    }
}

/// About what a template takes: its metrics, and a few times what the wire has of them.
fn of_template(it: &Template) -> usize {
    fn metrics(it: &Template) -> usize {
        let nested = it.metrics.iter().map(|metric| match &metric.value {
            Some(MetricValue::Template(it)) => metrics(it),
            _ => 0,
        });
        it.metrics.len() * size_of::<Metric>() + nested.sum::<usize>()
    }
    metrics(it) + 4 * it.encoded_len()
}
