//! A payload for a person who looks at a source (`tap`), as the specification writes it
//! in JSON (6.4.3).

use serde_json::{Map, Value as Json, json};

use super::proto::{Metric, MetricValue};
use super::value::{self, Found};
use crate::event::Value;

/// `None` where the bytes are no payload.
pub fn show(bytes: &[u8]) -> Option<Json> {
    let payload = super::read(bytes).ok()?;
    let mut shown = Map::new();
    let mut put = |key: &str, value: Option<Json>| {
        shown.extend(value.map(|value| (key.to_owned(), value)));
    };
    put("timestamp", payload.timestamp.map(Json::from));
    put("seq", payload.seq.map(Json::from));
    put("metrics", Some(payload.metrics.iter().map(metric).collect()));
    put("uuid", payload.uuid.map(Json::from));
    put("body", payload.body.map(|body| hex(&body)));
    Some(Json::Object(shown))
}

fn metric(metric: &Metric) -> Json {
    let mut shown = Map::new();
    let mut put = |key: &str, value: Option<Json>| {
        shown.extend(value.map(|value| (key.to_owned(), value)));
    };
    let set = |is: Option<bool>| is.filter(|is| *is).map(Json::from);
    put("name", metric.name.as_deref().map(Json::from));
    put("alias", metric.alias.map(Json::from));
    put("timestamp", metric.timestamp.map(Json::from));
    let word = value::datatype(metric.datatype);
    put("dataType", word.map(|it| Json::from(format!("{it:?}"))));
    put("isHistorical", set(metric.is_historical));
    put("isTransient", set(metric.is_transient));
    put("isNull", set(metric.is_null));
    put("value", metric.value.as_ref().map(value_of));
    put("properties", metric.properties.as_ref().map(|set| json!(set.keys)));
    Json::Object(shown)
}

/// As the wire has it: without the birth an integer has no sign.
fn value_of(value: &MetricValue) -> Json {
    match value {
        MetricValue::DataSet(set) => {
            json!({ "columns": set.columns, "rows": set.rows.len() })
        }
        MetricValue::Template(it) => json!({
            "templateRef": it.template_ref,
            "metrics": it.metrics.iter().map(metric).collect::<Vec<_>>(),
        }),
        plain => match Found::metric(plain).map(Found::as_it_came) {
            Some(Value::I64(number)) => number.into(),
            Some(Value::U64(number)) => number.into(),
            Some(Value::F64(number)) => number.into(),
            Some(Value::Bool(is)) => is.into(),
            Some(Value::Text(text)) => text.as_ref().into(),
            Some(Value::Bytes(bytes)) => hex(&bytes),
            _ => Json::Null,
        },
    }
}

fn hex(bytes: &[u8]) -> Json {
    bytes.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02X}")).into()
}
