//! A metric as fields: one for a plain value, one for each column of a data set and each
//! member and parameter of a template, named `metric/column`.

use std::collections::HashMap;

use super::payload::MOST_BYTES;
use super::proto::{DataSet, DataType, Metric, MetricValue, Template};
use super::value::{self, Found};
use crate::event::{Quality, Timestamp, Value};

/// Templates within templates. The wire's own bound is 100 messages within messages.
const DEEPEST: usize = 16;

/// What a type takes besides its name.
const TYPE: usize = 64;

/// A value with its name and, unless it is good, its quality.
#[derive(Debug, Clone, PartialEq)]
pub struct Flat {
    pub name: String,
    pub value: Value,
    pub quality: Option<Quality>,
}

/// Types by the names that [`flatten`] gives. DATA need not repeat those of a birth.
pub type Types = HashMap<String, u32>;

/// Bytes of memory that are left for what one payload holds many times, or packed: the
/// values of its arrays, the types of its instances.
#[derive(Debug)]
pub struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Self(MOST_BYTES)
    }
}

impl Room {
    /// What was taken of it.
    pub const fn taken(&self) -> usize {
        MOST_BYTES - self.0
    }

    /// Takes so many of them, if they are there.
    const fn take(&mut self, bytes: usize) -> bool {
        match self.0.checked_sub(bytes) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => false,
        }
    }
}

/// A time of the payload; `None` for one that is no time of ours (after 2262).
pub fn time(millis: u64) -> Option<Timestamp> {
    value::time(millis)
}

/// Whether it says what a template is made of and is no value itself.
pub fn is_definition(metric: &Metric) -> bool {
    matches!(&metric.value, Some(MetricValue::Template(it)) if it.is_definition == Some(true))
}

/// Appends what a metric holds, under this name. The type is the metric's own, else that
/// of the birth in `types`; a value that is none of its type has the quality
/// `bad_payload` and stands there as it came, and so does an array that is too large for
/// the `room` that its payload has.
pub fn flatten(name: &str, metric: &Metric, types: &Types, room: &mut Room, out: &mut Vec<Flat>) {
    deepen(name, metric, (types, room), out, 0);
}

fn deepen(
    name: &str,
    metric: &Metric,
    (types, room): (&Types, &mut Room),
    out: &mut Vec<Flat>,
    depth: usize,
) {
    let own = metric.datatype.filter(|number| *number != 0);
    let number = own.or_else(|| types.get(name).copied());
    let value = metric.value.as_ref().filter(|_| metric.is_null != Some(true));
    match value {
        None => out.push(Flat { name: name.to_owned(), value: Value::Null, quality: None }),
        Some(MetricValue::DataSet(set)) => data_set(name, set, room, out),
        Some(MetricValue::Template(template)) if depth < DEEPEST => {
            of_template(name, template, (types, room), out, depth);
        }
        Some(value) => {
            let found = Found::metric(value);
            let flat =
                found.map_or_else(|| bad(name, Value::Null), |it| typed(name, it, number, room));
            out.push(flat);
        }
    }
}

fn typed(name: &str, found: Found<'_>, number: Option<u32>, room: &mut Room) -> Flat {
    let has_room = |datatype: &DataType| room.take(found.values(*datatype) * size_of::<Value>());
    let datatype = value::datatype(number).filter(has_room);
    match datatype.and_then(|datatype| found.value(datatype)) {
        Some(value) => Flat { name: name.to_owned(), value, quality: None },
        None => bad(name, found.as_it_came()),
    }
}

fn bad(name: &str, value: Value) -> Flat {
    Flat { name: name.to_owned(), value, quality: Some(Quality::BadPayload) }
}

/// Column by column: each is an array with a value for each row.
fn data_set(name: &str, set: &DataSet, room: &mut Room, out: &mut Vec<Flat>) {
    for (at, column) in set.columns.iter().enumerate() {
        let number = set.types.get(at).copied();
        let mut quality = None;
        let values: Vec<Value> = set
            .rows
            .iter()
            .map(|row| {
                let Some(cell) = row.elements.get(at) else {
                    quality = Some(Quality::BadPayload);
                    return Value::Null;
                };
                let Some(cell) = &cell.value else { return Value::Null };
                let flat = typed("", Found::cell(cell), number, room);
                quality = quality.or(flat.quality);
                flat.value
            })
            .collect();
        let name = format!("{name}/{column}");
        out.push(Flat { name, value: Value::Array(values.into()), quality });
    }
}

fn of_template(
    name: &str,
    it: &Template,
    (types, room): (&Types, &mut Room),
    out: &mut Vec<Flat>,
    depth: usize,
) {
    for metric in &it.metrics {
        let member = metric.name.as_deref().unwrap_or_default();
        deepen(&format!("{name}/{member}"), metric, (types, room), out, depth + 1);
    }
    for parameter in &it.parameters {
        let Some(argument) = &parameter.value else { continue };
        let name = format!("{name}/{}", parameter.name.as_deref().unwrap_or_default());
        let number = parameter.r#type.or_else(|| types.get(&name).copied());
        out.push(typed(&name, Found::argument(argument), number, room));
    }
}

/// Notes the types of a birth's metric and of all that is within it. Members that an
/// instance leaves out have those of its definition, which is found by its name.
/// Definitions may name each other, and a few bytes name a large one: `room` is that of
/// the whole birth, and what is beyond it has no type.
pub fn learn<'a>(
    name: &str,
    metric: &'a Metric,
    definitions: &impl Fn(&str) -> Option<&'a Template>,
    types: &mut Types,
    room: &mut Room,
) {
    learn_deep(name, metric, definitions, types, (0, room));
}

fn learn_deep<'a>(
    name: &str,
    metric: &'a Metric,
    definitions: &impl Fn(&str) -> Option<&'a Template>,
    types: &mut Types,
    (depth, room): (usize, &mut Room),
) {
    if !room.take(TYPE + name.len()) {
        return;
    }
    if let Some(number) = metric.datatype.filter(|number| *number != 0) {
        types.insert(name.to_owned(), number);
    }
    let Some(MetricValue::Template(template)) = &metric.value else { return };
    if depth >= DEEPEST {
        return;
    }
    let definition = template.template_ref.as_deref().and_then(definitions);
    // The instance's own word goes before its definition's.
    for template in definition.into_iter().chain([template]) {
        for member in &template.metrics {
            let name = format!("{name}/{}", member.name.as_deref().unwrap_or_default());
            learn_deep(&name, member, definitions, types, (depth + 1, room));
        }
        for parameter in &template.parameters {
            let name = format!("{name}/{}", parameter.name.as_deref().unwrap_or_default());
            if room.take(TYPE + name.len()) {
                types.extend(parameter.r#type.map(|number| (name, number)));
            }
        }
    }
}

/// The type of a metric that names one.
pub fn datatype(metric: &Metric) -> Option<DataType> {
    value::datatype(metric.datatype)
}

#[cfg(test)]
#[path = "flat_tests.rs"]
mod tests;
