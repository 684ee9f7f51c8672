//! The values that an edge node of Eclipse Tahu's printed, as records should have them, and
//! those that records have. An alias is looked up in the births that the node printed: nothing
//! of the agent's is used.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::judge::Record;
use crate::tahu::EdgeNode;

/// One value, which a data set or a template has several of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// `<node>` or `<node>/<device>`.
    pub device: String,
    pub field: String,
    pub ms: u64,
    pub is_historical: bool,
    /// As JSON.
    pub value: String,
}

/// What one node has printed so far.
#[derive(Debug)]
pub struct Transcript {
    node: &'static str,
    device: String,
    /// Lines of its log.
    read: usize,
    /// By the aliases of the last births, of the node and its device together.
    names: BTreeMap<u64, String>,
    pub values: Vec<Item>,
}

impl Transcript {
    pub fn new(node: &'static str, device: &str) -> Self {
        let device = format!("{node}/{device}");
        Self { node, device, read: 0, names: BTreeMap::new(), values: Vec::new() }
    }

    /// Reads on to the end of what the node has printed.
    pub fn read(&mut self, node: &EdgeNode) {
        let lines = node.log().lines();
        for line in lines.iter().skip(self.read) {
            let Some((kind, payload)) = line.split_once(' ') else { continue };
            if ["NBIRTH", "DBIRTH", "NDATA", "DDATA"].contains(&kind) {
                let payload = serde_json::from_str(payload).expect("Tahu prints JSON");
                self.message(kind, &payload);
            }
        }
        self.read = lines.len();
    }

    fn message(&mut self, kind: &str, payload: &Value) {
        let device = if kind.starts_with('D') { &self.device } else { self.node };
        for metric in payload["metrics"].as_array().expect("it has metrics") {
            let alias = metric["alias"].as_u64();
            if let (Some(name), Some(alias)) = (metric["name"].as_str(), alias) {
                self.names.insert(alias, name.to_owned());
            }
            let by_alias = || alias.and_then(|alias| self.names.get(&alias)).map(String::as_str);
            let name = metric["name"].as_str().or_else(by_alias).expect("it was born");
            let is_definition = metric.pointer("/value/isDefinition") == Some(&json!(true));
            if name == "bdSeq" || name == "Node Control/Rebirth" || is_definition {
                continue;
            }
            for (field, value) in flat(name, metric) {
                self.values.push(Item {
                    device: device.to_owned(),
                    field,
                    ms: metric["timestamp"].as_u64().expect("each has its time"),
                    is_historical: metric["isHistorical"] == true,
                    value: value.to_string(),
                });
            }
        }
    }

    /// The last value of this field.
    pub fn last(&self, field: &str) -> &Item {
        let mut values = self.values.iter().rev();
        values.find(|item| item.field == field).expect("it was said")
    }

    /// What the births named so.
    pub fn alias(&self, field: &str) -> Option<&String> {
        self.names.get(&field.strip_prefix("alias_")?.parse().ok()?)
    }
}

/// The fields of a metric: a data set has one for each column, a template one for each member.
fn flat(name: &str, metric: &Value) -> Vec<(String, Value)> {
    let value = &metric["value"];
    let within = |inner: &Value| format!("{name}/{}", inner.as_str().expect("it has a name"));
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    match metric["dataType"].as_str() {
        Some("DataSet") => {
            let columns = list(&value["columnNames"]).into_iter().enumerate();
            let column =
                |at: usize| list(&value["rows"]).iter().map(|row| plain(&row[at])).collect();
            columns.map(|(at, column_name)| (within(&column_name), column(at))).collect()
        }
        Some("Template") => {
            let mut parts = list(&value["metrics"]);
            parts.extend(list(&value["parameters"]));
            parts.iter().map(|part| (within(&part["name"]), plain(&part["value"]))).collect()
        }
        _ => vec![(name.to_owned(), plain(value))],
    }
}

/// As a record has it: integers beyond an i64 are texts.
fn plain(value: &Value) -> Value {
    match value {
        Value::Array(values) => values.iter().map(plain).collect(),
        Value::Number(number) if number.is_u64() && number.as_i64().is_none() => {
            json!(number.to_string())
        }
        value => value.clone(),
    }
}

/// What the agent gives every record, and what it says of where a value is from.
const BESIDE: [&str; 13] = [
    "gateway",
    "epoch",
    "seq",
    "device",
    "ts",
    "ts_ns",
    "month",
    "quality",
    "read_ts",
    "group_id",
    "edge_node_id",
    "device_id",
    "is_historical",
];

/// The values of a record.
pub fn items(record: &Record) -> Vec<Item> {
    let fields = record.value.as_object().into_iter().flatten();
    let fields = fields.filter(|(name, _)| !BESIDE.contains(&name.as_str()));
    let item = |(field, value): (&String, &Value)| Item {
        device: record.text("device").to_owned(),
        field: field.clone(),
        ms: record.number("ts"),
        is_historical: record.value.get("is_historical") == Some(&json!(true)),
        value: value.to_string(),
    };
    fields.map(item).collect()
}

/// All values of this quality.
pub fn of_quality(records: &[Record], quality: &str) -> Vec<Item> {
    let records = records.iter().filter(|record| record.text("quality") == quality);
    records.flat_map(items).collect()
}

/// What was said and is not there, under its name or its alias, and what is there as good
/// and nobody said; empty when all is well.
pub fn wrong(records: &[Record], transcripts: &[&Transcript]) -> String {
    match left(records, transcripts) {
        Ok(left) if left.is_empty() => String::new(),
        Ok(left) => format!("said, and not there: {left:#?}"),
        Err(wrong) => format!("a good value that nobody said so: {wrong:#?}"),
    }
}

/// Each good value was said so, by this device, under this name, at this time, and is there
/// once; each other one that was said is there as stale, under its name or its alias. Gives
/// how many those are.
pub fn assert_true(records: &[Record], transcripts: &[&Transcript]) -> usize {
    assert_eq!(wrong(records, transcripts), "");
    let said: usize = transcripts.iter().map(|transcript| transcript.values.len()).sum();
    said - of_quality(records, "good").len()
}

/// What was said and is neither there as good nor as stale; an error is what nobody said.
fn left(records: &[Record], transcripts: &[&Transcript]) -> Result<Vec<Item>, Item> {
    let mut said: BTreeMap<Item, usize> = BTreeMap::new();
    for item in transcripts.iter().flat_map(|transcript| &transcript.values) {
        *said.entry(item.clone()).or_default() += 1;
    }
    for item in of_quality(records, "good") {
        let Some(times) = said.get_mut(&item).filter(|times| **times > 0) else { return Err(item) };
        *times -= 1;
    }
    for item in of_quality(records, "stale") {
        let alias = transcripts.iter().find_map(|transcript| transcript.alias(&item.field));
        let item = Item { field: alias.unwrap_or(&item.field).clone(), ..item };
        // The last values of what has died are there once more.
        if let Some(times) = said.get_mut(&item).filter(|times| **times > 0) {
            *times -= 1;
        }
    }
    Ok(said.into_iter().filter(|(_, times)| *times > 0).map(|(item, _)| item).collect())
}
