//! An event as one line of JSON: where it goes, its fields as the record has them, and
//! what they were made of.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};
use tidegate::decode::escaped;
use tidegate::event::Value;
use tidegate::flow::{Flow, Lane};
use tidegate::raw::Raw;
use tidegate::tap::{Dead, Seen, Shown};

use super::words;

#[derive(Serialize)]
struct Line<'a> {
    source: &'a str,
    stream: &'a str,
    lane: Lane,
    device: &'a str,
    /// RFC 3339, in UTC.
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_time: Option<String>,
    quality: &'static str,
    fields: Vec<Field<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<Json>,
}

#[derive(Serialize)]
struct Field<'a> {
    name: &'a str,
    /// As it stands in the record, digit by digit.
    value: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    quality: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<Json>,
}

impl<'a> From<&'a Shown> for Field<'a> {
    fn from(shown: &'a Shown) -> Self {
        let Shown { name, unit, value, quality, raw } = shown;
        Field {
            name,
            value: RawValue::from_string(one_line(value)).ok(),
            unit: unit.as_deref(),
            quality,
            raw: raw.as_ref().map(self::raw),
        }
    }
}

pub(super) fn event(source: &str, flow: &Flow, seen: &Seen) -> String {
    let line = Line {
        source,
        stream: &flow.stream.name,
        lane: flow.lane,
        device: &seen.event.device,
        time: words::instant(seen.event.time).to_string(),
        read_time: seen.event.read_at.map(|at| words::instant(at).to_string()),
        quality: seen.event.quality.as_str(),
        fields: seen.fields.iter().map(Field::from).collect(),
        raw: seen.raw.as_ref().map(raw),
    };
    serde_json::to_string(&line).unwrap_or_default()
}

/// A text of JSON holds no line break but between its words.
fn one_line(json: &str) -> String {
    json.replace(['\n', '\r', '\t'], " ")
}

pub(super) fn dead(source: &str, dead: &Dead) -> String {
    let letter = &dead.letter;
    let kept = || {
        let (key, payload) = payload(&letter.payload);
        json!({ key: payload })
    };
    let raw = dead.raw.as_ref().map_or_else(kept, raw);
    json!({
        "source": source,
        "dead_letter": letter.reason,
        "origin": letter.origin,
        "length": letter.length,
        "raw": raw,
    })
    .to_string()
}

fn raw(raw: &Raw) -> Json {
    match raw {
        Raw::Registers { table, address, words } => {
            let words: Vec<String> = words.iter().map(|word| format!("{word:04X}")).collect();
            json!({ "table": table, "address": address, "words": words })
        }
        Raw::Bit { table, address, set } => {
            json!({ "table": table, "address": address, "bit": set })
        }
        Raw::Nothing { table, address, why } => {
            json!({ "table": table, "address": address, "nothing": why })
        }
        Raw::Message(message) => {
            let (key, payload) = if let Some(shown) = words::sparkplug(message) {
                ("sparkplug", shown)
            } else {
                let (key, text) = payload(&message.payload);
                (key, text.into())
            };
            json!({
                "topic": message.topic,
                key: payload,
                "qos": message.qos,
                "retained": message.retained,
                "properties": message.properties,
            })
        }
        Raw::Frame(bytes) => json!({ "frame": escaped::print(bytes) }),
        Raw::Row(columns) => {
            let column =
                |(name, value): &(std::sync::Arc<str>, Value)| (name.to_string(), stored(value));
            json!({ "row": columns.iter().map(column).collect::<serde_json::Map<_, _>>() })
        }
    }
}

/// Text where it is one, else hexadecimal digits.
fn payload(bytes: &[u8]) -> (&'static str, String) {
    let text = words::payload(bytes);
    match text.strip_prefix("0x") {
        Some(digits) if std::str::from_utf8(bytes).is_err() => ("payload_hex", digits.to_owned()),
        _ => ("payload", text),
    }
}

/// A value of a database; what JSON does not have is told as its language does.
fn stored(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::I64(number) => (*number).into(),
        Value::F64(number) if number.is_finite() => (*number).into(),
        Value::Text(text) => Json::from(&**text),
        other => words::stored(other).into(),
    }
}
