//! The time of an event as its payload writes it → nanoseconds since 1970.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::event::{Decimal, Timestamp, Value};

/// Where a payload carries the time of its event, and how it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the field: `ts`; within nested objects with dots: `meta.ts`.
    /// The field itself does not become a field of the event.
    pub path: String,
    /// `unix_s`, `unix_ms`, `unix_us`, `unix_ns` (numbers, also with a fraction
    /// or as text), `rfc3339`, or a pattern as of strptime:
    /// `%Y-%m-%d %H:%M:%S%.f`.
    #[serde(default = "default_format")]
    pub format: String,
    /// Time zone (`Europe/Berlin`) of a pattern that names none; `UTC` by
    /// default. An hour that the clocks pass twice is taken as the first.
    #[serde(default)]
    pub zone: Option<String>,
}

fn default_format() -> String {
    "rfc3339".to_owned()
}

/// A checked [`Config`].
#[derive(Debug, Clone)]
pub struct Reader {
    format: Format,
}

#[derive(Debug, Clone)]
enum Format {
    /// Nanoseconds in the number's unit.
    Unix(i128),
    Rfc3339,
    Pattern(String, TimeZone),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("time {text:?} is not {wanted}")]
pub struct Error {
    text: String,
    wanted: String,
}

impl Reader {
    /// What is wrong in the configuration, as a sentence, or the reader.
    pub fn new(config: &Config) -> Result<Self, String> {
        let format = match config.format.as_str() {
            "unix_s" => Format::Unix(1_000_000_000),
            "unix_ms" => Format::Unix(1_000_000),
            "unix_us" => Format::Unix(1_000),
            "unix_ns" => Format::Unix(1),
            "rfc3339" => Format::Rfc3339,
            pattern if pattern.contains('%') => {
                let zone = match config.zone.as_deref() {
                    None | Some("UTC") => TimeZone::UTC,
                    Some(name) => TimeZone::get(name)
                        .map_err(|_| format!("this machine knows no time zone `{name}`"))?,
                };
                Format::Pattern(pattern.to_owned(), zone)
            }
            other => {
                return Err(format!(
                    "`{other}` is not a format of time: unix_s, unix_ms, unix_us, unix_ns, \
                     rfc3339, or a pattern such as \"%Y-%m-%d %H:%M:%S\""
                ));
            }
        };
        Ok(Self { format })
    }

    pub fn read(&self, value: &Value) -> Result<Timestamp, Error> {
        let nanos = match (&self.format, value) {
            (Format::Unix(unit), Value::I64(n)) => Some(i128::from(*n) * unit),
            (Format::Unix(unit), Value::U64(n)) => Some(i128::from(*n) * unit),
            // A double is read as the digits that it prints: 1767225600.123 is
            // 123 ms, not 123000064 ns.
            (Format::Unix(unit), Value::F64(n)) => {
                super::number::decimal(&n.to_string()).and_then(|n| scaled(n, *unit))
            }
            (Format::Unix(unit), Value::Decimal(n)) => scaled(*n, *unit),
            (Format::Unix(unit), Value::Text(text)) => {
                super::number::decimal(text.trim()).and_then(|n| scaled(n, *unit))
            }
            (Format::Rfc3339, Value::Text(text)) => {
                text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_nanosecond)
            }
            (Format::Pattern(pattern, zone), Value::Text(text)) => {
                pattern_time(pattern, zone, text)
            }
            // CBOR and Protobuf have times of their own.
            (_, Value::Timestamp { time, zoned: true }) => return Ok(*time),
            _ => None,
        };
        nanos.and_then(|n| i64::try_from(n).ok()).map(Timestamp).ok_or_else(|| self.error(value))
    }

    fn error(&self, value: &Value) -> Error {
        let text = match value {
            Value::Text(text) => text.chars().take(64).collect(),
            Value::I64(n) => n.to_string(),
            Value::U64(n) => n.to_string(),
            Value::F64(n) => n.to_string(),
            Value::Null => "null".to_owned(),
            _ => "(another type)".to_owned(),
        };
        let wanted = match &self.format {
            Format::Unix(_) => "a number since 1970 within the years 1678 to 2262".to_owned(),
            Format::Rfc3339 => "RFC 3339 with an offset".to_owned(),
            Format::Pattern(pattern, _) => format!("written as {pattern:?}"),
        };
        Error { text, wanted }
    }
}

/// Seconds since 1970, whole or not.
pub fn unix_seconds(value: &Value) -> Option<Timestamp> {
    Reader { format: Format::Unix(1_000_000_000) }.read(value).ok()
}

/// `number × unit`, what is finer than a nanosecond cut off.
fn scaled(number: Decimal, unit: i128) -> Option<i128> {
    let product = number.unscaled.checked_mul(unit)?;
    Some(10_i128.checked_pow(u32::from(number.scale)).map_or(0, |power| product.div_euclid(power)))
}

fn pattern_time(pattern: &str, zone: &TimeZone, text: &str) -> Option<i128> {
    let parsed = jiff::fmt::strtime::parse(pattern, text.trim()).ok()?;
    if parsed.offset().is_some() {
        return parsed.to_timestamp().ok().map(jiff::Timestamp::as_nanosecond);
    }
    let local = parsed.to_datetime().ok()?;
    let instant = zone.to_ambiguous_zoned(local).compatible().ok()?;
    Some(instant.timestamp().as_nanosecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: &str, zone: Option<&str>, value: &Value) -> Result<i64, Error> {
        let config = Config {
            path: "ts".to_owned(),
            format: format.to_owned(),
            zone: zone.map(str::to_owned),
        };
        Reader::new(&config).unwrap().read(value).map(|time| time.0)
    }

    #[test]
    fn each_way_of_writing_a_time_gives_the_same_instant() {
        let wanted = Ok(1_767_225_600_123_000_000);
        assert_eq!(read("unix_s", None, &Value::F64(1_767_225_600.123)), wanted);
        assert_eq!(read("unix_ms", None, &Value::I64(1_767_225_600_123)), wanted);
        assert_eq!(read("unix_us", None, &Value::U64(1_767_225_600_123_000)), wanted);
        assert_eq!(read("unix_s", None, &Value::Text("1767225600.123".into())), wanted);
        assert_eq!(
            read("rfc3339", None, &Value::Text("2026-01-01T01:00:00.123+01:00".into())),
            wanted
        );
        let pattern = "%d.%m.%Y %H:%M:%S%.f";
        assert_eq!(read(pattern, None, &Value::Text("01.01.2026 00:00:00.123".into())), wanted);
    }

    #[test]
    fn an_unreadable_time_is_told_with_what_was_wanted() {
        assert_eq!(
            read("rfc3339", None, &Value::Text("yesterday".into())).unwrap_err().to_string(),
            "time \"yesterday\" is not RFC 3339 with an offset"
        );
        assert!(read("unix_s", None, &Value::I64(i64::MAX)).is_err());
        assert!(read("unix_s", None, &Value::F64(f64::NAN)).is_err());
        assert!(read("unix_s", None, &Value::F64(1e300)).is_err());
    }

    #[test]
    fn an_unknown_format_is_told_at_start() {
        let config = Config { path: "ts".into(), format: "unix".into(), zone: None };
        assert!(Reader::new(&config).unwrap_err().contains("unix_ms"));
    }
}
