//! A small edge node, for tests: it counts seq and bdSeq and gives aliases as the
//! specification says.

use std::collections::HashSet;
use std::time::Duration;

use prost::Message as _;
use tokio::time::Instant;

use crate::decode::sparkplug::proto::{DataType, Metric, MetricValue, Payload};
use crate::event::{Event, Timestamp};
use crate::flow::Flows;
use crate::source::sparkplug::{Arrived, Config, Host, Outgoing};

pub(super) const SECOND: i64 = 1_000_000_000;

/// A metric of an Int32 with a name, an alias or both.
pub(super) fn metric(name: Option<&str>, alias: Option<u64>, value: i32) -> Metric {
    Metric {
        name: name.map(str::to_owned),
        alias,
        datatype: name.map(|_| DataType::Int32 as u32),
        value: Some(MetricValue::Int(value.cast_unsigned())),
        ..Metric::default()
    }
}

#[derive(Debug, Clone)]
pub(super) struct Edge {
    pub(super) session: u64,
    pub(super) seq: u64,
    /// Milliseconds of its clock, which no two messages share.
    pub(super) clock: u64,
}

/// A message: topic and payload.
pub(super) type Sent = (String, Vec<u8>);

impl Edge {
    pub(super) fn new() -> Self {
        Self { session: 0, seq: 0, clock: 1_000 }
    }

    fn next(&mut self) -> (Option<u64>, Option<u64>) {
        self.clock += 1;
        let seq = self.seq;
        self.seq = (seq + 1) % 256;
        (Some(self.clock), Some(seq))
    }

    fn session(&self) -> Metric {
        Metric {
            name: Some("bdSeq".to_owned()),
            datatype: Some(DataType::Int64 as u32),
            value: Some(MetricValue::Long(self.session)),
            ..Metric::default()
        }
    }

    pub(super) fn birth(&mut self, mut metrics: Vec<Metric>) -> Sent {
        self.seq = 0;
        metrics.push(self.session());
        self.send("NBIRTH/n", metrics)
    }

    pub(super) fn death(&mut self) -> Sent {
        let payload = Payload {
            timestamp: Some(self.clock),
            metrics: vec![self.session()],
            ..Payload::default()
        };
        self.session = (self.session + 1) % 256;
        ("spBv1.0/g/NDEATH/n".to_owned(), payload.encode_to_vec())
    }

    /// `NDATA/n`, `DBIRTH/n/d`, `DDATA/n/d`, `DDEATH/n/d`.
    pub(super) fn send(&mut self, kind: &str, metrics: Vec<Metric>) -> Sent {
        let (timestamp, seq) = self.next();
        let payload = Payload { timestamp, metrics, seq, ..Payload::default() };
        (format!("spBv1.0/g/{kind}"), payload.encode_to_vec())
    }
}

/// A host in virtual time.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) host: Host,
    pub(super) now: Instant,
    pub(super) time: Timestamp,
    heard: HashSet<Vec<u8>>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(&serde_json::json!({}))
    }

    pub(super) fn with(keys: &serde_json::Value) -> Self {
        let mut config = serde_json::json!({ "name": "s", "address": "b:1883" });
        config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let config: Config = serde_json::from_value(config).unwrap();
        assert_eq!(config.check(), []);
        let mut host = Host::new(&config, &mut Flows::default());
        let (now, time) = (Instant::now(), Timestamp(1_000 * SECOND));
        host.log_in(time);
        host.connected(now);
        Self { host, now, time, heard: HashSet::new() }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.time.0 += i64::try_from(time.as_nanos()).unwrap();
    }

    pub(super) fn hear(&mut self, message: &Sent) -> Vec<Event> {
        self.hear_with(message, false, 0)
    }

    pub(super) fn hear_with(&mut self, message: &Sent, retained: bool, qos: u8) -> Vec<Event> {
        let (topic, payload) = message;
        let arrived = Arrived {
            topic: topic.as_bytes(),
            payload,
            retained,
            qos,
            now: self.now,
            time: self.time,
        };
        self.host.take(arrived).unwrap();
        self.heard.insert(payload.clone());
        self.host.take_events()
    }

    pub(super) fn has_heard(&self, message: &Sent) -> bool {
        self.heard.contains(&message.1)
    }

    pub(super) fn tick(&mut self) -> Vec<Event> {
        self.host.tick(self.now, self.time);
        self.host.take_events()
    }

    /// What it says now.
    pub(super) fn said(&mut self) -> Vec<Outgoing> {
        self.host.tick(self.now, self.time);
        self.host.take_packets()
    }

    /// How often it has asked for a birth since this was called last.
    pub(super) fn asked(&mut self) -> usize {
        self.said().iter().filter(|out| out.topic == "spBv1.0/g/NCMD/n").count()
    }
}

/// `quality device a=1 b=2`, without the fields of the place.
pub(super) fn told(events: &[Event]) -> Vec<String> {
    use crate::event::Value;
    let field = |field: &crate::event::Field| {
        let value = match &field.value {
            Value::I64(number) => number.to_string(),
            other => format!("{other:?}"),
        };
        let quality = field.quality.map(|quality| format!("({})", quality.as_str()));
        format!("{}={value}{}", field.name, quality.unwrap_or_default())
    };
    let event = |event: &Event| {
        let fields = event.fields.iter().filter(|field| !field.name.ends_with("_id"));
        let fields: Vec<String> = fields.map(field).collect();
        format!("{} {} {}", event.quality.as_str(), event.device, fields.join(" "))
    };
    events.iter().map(event).collect()
}
