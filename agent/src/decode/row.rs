//! A row of typed columns → an event.
//!
//! The same for every database: a source turns its own types into
//! [`Value`]s without rounding, and the rules of the configuration (which
//! column is the device, which the time, which are left out) are applied here.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::event::{Event, Field, Quality, Timestamp, Value};
use crate::flow;

/// How a time column is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimeFormat {
    /// Seconds since 1970, whole or with a fraction (read to the microsecond).
    UnixS,
    /// Milliseconds since 1970.
    UnixMs,
    /// Microseconds since 1970.
    UnixUs,
    /// Nanoseconds since 1970.
    UnixNs,
    /// `2026-01-01T12:00:00.123+01:00`: the zone must be there.
    Rfc3339,
    /// `2026-01-01 12:00:00.123`, as `SQLite`'s own functions write it: UTC
    /// unless a zone follows.
    Text,
}

impl TimeFormat {
    /// The instant that this value means, if it means one.
    pub fn read(self, value: &Value) -> Option<Timestamp> {
        match self {
            Self::UnixS => unix(value, 1_000_000_000),
            Self::UnixMs => unix(value, 1_000_000),
            Self::UnixUs => unix(value, 1_000),
            Self::UnixNs => unix(value, 1),
            Self::Rfc3339 => instant(text(value)?),
            Self::Text => {
                let text = text(value)?;
                instant(text).or_else(|| {
                    let civil: jiff::civil::DateTime = text.parse().ok()?;
                    nanoseconds(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
                })
            }
        }
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text.trim()),
        _ => None,
    }
}

fn instant(text: &str) -> Option<Timestamp> {
    nanoseconds(text.parse().ok()?)
}

fn nanoseconds(time: jiff::Timestamp) -> Option<Timestamp> {
    i64::try_from(time.as_nanosecond()).ok().map(Timestamp)
}

/// A number of units of `unit` nanoseconds.
fn unix(value: &Value, unit: i64) -> Option<Timestamp> {
    match value {
        Value::I64(number) => number.checked_mul(unit).map(Timestamp),
        Value::Text(text) => text.trim().parse::<i64>().ok()?.checked_mul(unit).map(Timestamp),
        Value::F64(number) => {
            // An f64 of today's seconds is exact to 0.24 µs: finer digits
            // would be invented.
            #[expect(clippy::cast_precision_loss, reason = "powers of ten up to 1e9 are exact")]
            let micros = (number * (unit as f64) / 1_000.0).round();
            #[expect(clippy::cast_possible_truncation, reason = "checked to be within i64")]
            let whole = (micros.abs() < 9e15).then_some(micros as i64)?;
            whole.checked_mul(1_000).map(Timestamp)
        }
        _ => None,
    }
}

/// What the configuration says about the rows of one table.
#[derive(Debug, Clone)]
pub struct Plan {
    pub flow: flow::Id,
    /// The device of a row whose device column is absent or NULL.
    pub device: Arc<str>,
    pub device_column: Option<String>,
    pub time: Option<(String, TimeFormat)>,
    pub omit: Vec<String>,
}

/// A column that the configuration names is not in the result.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such column: {column} ({key})")]
pub struct Missing {
    pub column: String,
    /// The key that names it.
    pub key: &'static str,
}

/// The plan, laid over the columns of one result.
#[derive(Debug)]
pub struct Layout<'a> {
    plan: &'a Plan,
    columns: Vec<(Arc<str>, Role)>,
}

#[derive(Debug, Clone, Copy)]
enum Role {
    Field,
    Device,
    Time(TimeFormat),
    Omitted,
}

impl Plan {
    /// Whether this column is left out, so that it need not even be read.
    pub fn omits(&self, name: &str) -> bool {
        let is = |wanted: &String| wanted.eq_ignore_ascii_case(name);
        let time = self.time.as_ref().map(|(column, _)| column);
        !self.device_column.iter().chain(time).any(is) && self.omit.iter().any(is)
    }

    /// Finds the plan's columns among these; names are compared as databases
    /// do it, without regard to the case of ASCII letters.
    pub fn layout<'n>(
        &self,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<Layout<'_>, Missing> {
        let is = |name: &str, wanted: Option<&str>| {
            wanted.is_some_and(|wanted| wanted.eq_ignore_ascii_case(name))
        };
        let device = self.device_column.as_deref();
        let time = self.time.as_ref().map(|(column, format)| (column.as_str(), *format));
        let (mut device_found, mut time_found) = (false, false);
        let columns = names
            .into_iter()
            .map(|name| {
                let role = if is(name, device) {
                    device_found = true;
                    Role::Device
                } else if let Some((_, format)) = time.filter(|(column, _)| is(name, Some(column)))
                {
                    time_found = true;
                    Role::Time(format)
                } else if self.omit.iter().any(|omitted| is(name, Some(omitted))) {
                    Role::Omitted
                } else {
                    Role::Field
                };
                (Arc::from(name), role)
            })
            .collect();
        let missing = |column: &str, key| Err(Missing { column: column.to_owned(), key });
        match (device, time) {
            (Some(column), _) if !device_found => missing(column, "device_column"),
            (_, Some((column, _))) if !time_found => missing(column, "time_column"),
            _ => Ok(Layout { plan: self, columns }),
        }
    }
}

impl Layout<'_> {
    /// The names of the columns, in order.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.columns.iter().map(|(name, _)| name)
    }

    /// The event of one row, read at `now`. A time that cannot be read does not
    /// lose the row: the event has the time of reading, and the column stays a
    /// field of quality `bad_payload`.
    pub fn event(&self, values: impl IntoIterator<Item = Value>, now: Timestamp) -> Event {
        let mut event = Event {
            flow: self.plan.flow,
            device: Arc::clone(&self.plan.device),
            time: now,
            read_at: None,
            quality: Quality::Good,
            fields: Vec::with_capacity(self.columns.len()),
        };
        for ((name, role), value) in self.columns.iter().zip(values) {
            let mut quality = None;
            match role {
                Role::Field => {}
                Role::Omitted => continue,
                Role::Device => {
                    if let Some(device) = device(&value) {
                        event.device = device;
                        continue;
                    }
                    if value == Value::Null {
                        continue;
                    }
                    quality = Some(Quality::BadPayload);
                }
                Role::Time(format) => {
                    if let Some(time) = format.read(&value) {
                        event.time = time;
                        event.read_at = Some(now);
                        continue;
                    }
                    quality = Some(Quality::BadPayload);
                }
            }
            event.fields.push(Field { name: Arc::clone(name), unit: None, value, quality });
        }
        event
    }
}

/// A value that can name a device.
fn device(value: &Value) -> Option<Arc<str>> {
    match value {
        Value::Text(text) if !text.is_empty() => Some(Arc::clone(text)),
        Value::I64(number) => Some(number.to_string().into()),
        Value::U64(number) => Some(number.to_string().into()),
        Value::F64(number) => Some(number.to_string().into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(7_000);

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[test]
    fn each_time_format_reads_the_same_instant() {
        let at = Some(Timestamp(1_767_225_600_123_000_000));
        let read = |format: TimeFormat, value: Value| format.read(&value);
        assert_eq!(read(TimeFormat::UnixS, Value::F64(1_767_225_600.123)), at);
        assert_eq!(read(TimeFormat::UnixMs, Value::I64(1_767_225_600_123)), at);
        assert_eq!(read(TimeFormat::UnixUs, Value::I64(1_767_225_600_123_000)), at);
        assert_eq!(read(TimeFormat::UnixNs, text("1767225600123000000")), at);
        assert_eq!(read(TimeFormat::Rfc3339, text("2026-01-01T01:00:00.123+01:00")), at);
        assert_eq!(read(TimeFormat::Text, text("2026-01-01 00:00:00.123")), at);
        assert_eq!(read(TimeFormat::Text, text("2026-01-01 01:00:00.123+01:00")), at);
        assert_eq!(read(TimeFormat::Text, text("2026-01-01T00:00:00.123Z")), at);
    }

    #[test]
    fn what_is_no_time_is_none() {
        for value in [
            Value::Null,
            text("soon"),
            text("2026-13-01 00:00:00"),
            Value::I64(i64::MAX),
            Value::F64(f64::NAN),
            Value::F64(1e300),
            Value::Bool(true),
        ] {
            assert_eq!(TimeFormat::UnixS.read(&value), None, "{value:?}");
            assert_eq!(TimeFormat::Text.read(&value), None, "{value:?}");
        }
        assert_eq!(TimeFormat::Rfc3339.read(&text("2026-01-01T00:00:00")), None);
    }

    fn plan() -> Plan {
        Plan {
            flow: flow::Id(0),
            device: "press".into(),
            device_column: Some("machine".into()),
            time: Some(("at".into(), TimeFormat::UnixMs)),
            omit: vec!["secret".into()],
        }
    }

    #[test]
    fn the_plans_columns_become_device_and_time_and_the_rest_fields() {
        let plan = plan();
        let layout = plan.layout(["Machine", "at", "temp", "secret"]).unwrap();
        let row = [text("m7"), Value::I64(5), Value::F64(1.5), text("x")];
        let event = layout.event(row, NOW);
        assert_eq!(
            (&*event.device, event.time, event.read_at),
            ("m7", Timestamp(5_000_000), Some(NOW))
        );
        let fields: Vec<_> = event.fields.iter().map(|f| (&*f.name, &f.value)).collect();
        assert_eq!(fields, [("temp", &Value::F64(1.5))]);
    }

    #[test]
    fn a_row_with_a_wrong_time_and_no_device_is_kept() {
        let plan = plan();
        let layout = plan.layout(["machine", "at"]).unwrap();
        let event = layout.event([Value::Null, text("soon")], NOW);
        assert_eq!((&*event.device, event.time, event.read_at), ("press", NOW, None));
        assert_eq!(event.fields.len(), 1);
        assert_eq!(event.fields[0].value, text("soon"));
        assert_eq!(event.fields[0].quality, Some(Quality::BadPayload));
    }

    #[test]
    fn a_missing_column_is_named_with_its_key() {
        let error = plan().layout(["machine"]).unwrap_err();
        assert_eq!(error.to_string(), "no such column: at (time_column)");
    }
}
