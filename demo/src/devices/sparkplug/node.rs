//! An edge node with its devices: what it publishes when. No broker, no clock.
//!
//! As Sparkplug 3.0 has it (chapters 5 and 6): an NBIRTH has seq 0 and the session's `bdSeq`,
//! DBIRTHs follow; seq goes from 0 to 255 and around over the node and all its devices; data
//! come when they have changed, under an alias and without name and type.

use std::time::Duration;

use prost::Message as _;
use rumqttc_v4::mqttbytes::QoS;
use rumqttc_v4::mqttbytes::v4::Publish;
use tidegate::decode::sparkplug::proto::{DataType, Metric, MetricValue, Payload};

use super::config::{self, Kind, What};
use crate::devices::value::Value;
use crate::noise::rounded;

/// Asked for by a host, true in its command (6.4.19).
const REBIRTH: &str = "Node Control/Rebirth";

/// The count of sessions, in a birth and in the death that belongs to it.
const SESSION: &str = "bdSeq";

/// Given by no birth: they count from 1.
const UNKNOWN_ALIAS: u64 = 1 << 32;

/// When it is: since the devices started, and in ms since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub(super) elapsed: Duration,
    pub(super) millis: u64,
}

#[derive(Debug)]
pub(super) struct Node {
    group: String,
    name: String,
    /// Counts sessions from 0, as seq around after 255.
    session: u8,
    seq: u8,
    /// The last alias of this session's births. A device that is born again has others: Tahu's
    /// host refuses an alias that was given before.
    alias: u64,
    /// The node itself, then its devices.
    parts: Vec<Part>,
}

/// The node itself, or a device.
#[derive(Debug)]
struct Part {
    device: Option<String>,
    life: Life,
    metrics: Vec<Known>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Dead,
    /// It sends data that no birth explains.
    Unborn,
    Born,
}

#[derive(Debug)]
struct Known {
    name: String,
    /// That of its last birth.
    alias: u64,
    kind: Kind,
    value: Value,
    /// What was last published.
    told: Option<f64>,
}

impl Node {
    /// Not yet born.
    pub(super) fn new(group: &str, config: &config::Node) -> Self {
        let devices = config.devices.iter().map(|device| (Some(&device.name), &device.values));
        let mut number = 0;
        let parts = [(None, &config.values)].into_iter().chain(devices).map(|(device, values)| {
            let metrics = values.iter().map(|metric| {
                number += 1;
                Known {
                    name: metric.name.clone(),
                    alias: 0,
                    kind: metric.kind,
                    value: metric.value.start(number),
                    told: None,
                }
            });
            Part { device: device.cloned(), life: Life::Dead, metrics: metrics.collect() }
        });
        // The first birth begins session 0.
        let (session, parts) = (u8::MAX, parts.collect());
        let (group, name) = (group.to_owned(), config.name.clone());
        Self { group, name, session, seq: 0, alias: 0, parts }
    }

    /// What the node (0) or a device (from 1) publishes in its turn.
    pub(super) fn turn(&mut self, number: usize, fault: Option<What>, at: At) -> Vec<Publish> {
        let is_node = number == 0;
        let node = self.parts.first().map_or(Life::Dead, |node| node.life);
        let Some(life) = self.parts.get(number).map(|part| part.life) else { return Vec::new() };
        match fault {
            _ if is_node && life == Life::Dead => self.new_session(at),
            _ if node == Life::Dead => Vec::new(),
            _ if life == Life::Dead => vec![self.birth(number, at)],
            Some(What::Silence | What::Disconnect) => Vec::new(),
            Some(What::Lost) => {
                self.data(number, false, at);
                Vec::new()
            }
            Some(What::UnknownAlias) => self.data(number, true, at).into_iter().collect(),
            Some(What::Death) => vec![self.death(number, Life::Dead, at)],
            Some(What::Unborn) => {
                let mut messages = vec![self.death(number, Life::Unborn, at)];
                messages.extend(self.data(number, false, at));
                messages
            }
            Some(What::LateWill) => {
                let late = self.will(at);
                let mut messages = self.new_session(at);
                messages.push(late);
                messages
            }
            None | Some(What::Late(_)) => self.data(number, false, at).into_iter().collect(),
        }
    }

    /// What it answers to a command of a host.
    pub(super) fn command(&mut self, payload: &[u8], at: At) -> Vec<Publish> {
        let is_asked = Payload::decode(payload).is_ok_and(|payload| {
            payload.metrics.iter().any(|metric| {
                metric.name() == REBIRTH && metric.value == Some(MetricValue::Boolean(true))
            })
        });
        let is_there = self.parts.first().is_some_and(|node| node.life != Life::Dead);
        if is_asked && is_there { self.births(at) } else { Vec::new() }
    }

    /// Births of a session that the broker does not know yet; all devices are back.
    fn new_session(&mut self, at: At) -> Vec<Publish> {
        self.session = self.session.wrapping_add(1);
        self.births(at)
    }

    fn births(&mut self, at: At) -> Vec<Publish> {
        (self.seq, self.alias) = (0, 0);
        (0..self.parts.len()).map(|number| self.birth(number, at)).collect()
    }

    fn birth(&mut self, number: usize, at: At) -> Publish {
        let mut metrics = Vec::new();
        if number == 0 {
            metrics.push(session(self.session, at));
            metrics.push(Metric {
                name: Some(REBIRTH.to_owned()),
                timestamp: Some(at.millis),
                datatype: Some(DataType::Boolean as u32),
                value: Some(MetricValue::Boolean(false)),
                ..Metric::default()
            });
        }
        if let Some(part) = self.parts.get_mut(number) {
            part.life = Life::Born;
            for known in &mut part.metrics {
                self.alias += 1;
                metrics.push(known.born(self.alias, at));
            }
        }
        self.message("BIRTH", number, metrics, at)
    }

    /// What has changed since it was last published, and with it what no birth explains.
    fn data(&mut self, number: usize, with_unknown: bool, at: At) -> Option<Publish> {
        let part = self.parts.get_mut(number)?;
        let mut metrics: Vec<Metric> =
            part.metrics.iter_mut().filter_map(|known| known.changed(at)).collect();
        if with_unknown {
            metrics.push(Metric {
                alias: Some(UNKNOWN_ALIAS),
                timestamp: Some(at.millis),
                value: Some(MetricValue::Double(0.0)),
                ..Metric::default()
            });
        }
        (!metrics.is_empty()).then(|| self.message("DATA", number, metrics, at))
    }

    /// A node's death is its last will: its devices are gone with it, and what it says then is
    /// of another session.
    fn death(&mut self, number: usize, then: Life, at: At) -> Publish {
        let is_node = number == 0;
        for (_, part) in self.parts.iter_mut().enumerate().filter(|(n, _)| is_node || *n == number)
        {
            part.life = then;
        }
        if !is_node {
            return self.message("DEATH", number, Vec::new(), at);
        }
        let will = self.will(at);
        if then == Life::Unborn {
            self.session = self.session.wrapping_add(1);
            self.seq = 0;
        }
        will
    }

    /// Without seq, and of `QoS` 1 (6.4.22): the broker says it, not the node.
    fn will(&self, at: At) -> Publish {
        let payload = Payload {
            timestamp: Some(at.millis),
            metrics: vec![session(self.session, at)],
            ..Payload::default()
        };
        Publish::new(self.topic("NDEATH", None), QoS::AtLeastOnce, payload.encode_to_vec())
    }

    fn message(&mut self, kind: &str, number: usize, metrics: Vec<Metric>, at: At) -> Publish {
        let device = self.parts.get(number).and_then(|part| part.device.as_deref());
        let level = if device.is_some() { 'D' } else { 'N' };
        let topic = self.topic(&format!("{level}{kind}"), device);
        let (timestamp, seq) = (Some(at.millis), Some(self.seq.into()));
        let payload = Payload { timestamp, seq, metrics, ..Payload::default() };
        self.seq = self.seq.wrapping_add(1);
        Publish::new(topic, QoS::AtMostOnce, payload.encode_to_vec())
    }

    fn topic(&self, kind: &str, device: Option<&str>) -> String {
        let Self { group, name, .. } = self;
        let device = device.map(|device| format!("/{device}")).unwrap_or_default();
        format!("spBv1.0/{group}/{kind}/{name}{device}")
    }
}

fn session(number: u8, at: At) -> Metric {
    Metric {
        name: Some(SESSION.to_owned()),
        timestamp: Some(at.millis),
        datatype: Some(DataType::Int64 as u32),
        value: Some(MetricValue::Long(number.into())),
        ..Metric::default()
    }
}

impl Known {
    fn born(&mut self, alias: u64, at: At) -> Metric {
        (self.alias, self.told) = (alias, None);
        Metric {
            name: Some(self.name.clone()),
            datatype: Some(self.kind.number()),
            ..self.changed(at).unwrap_or_default()
        }
    }

    fn changed(&mut self, at: At) -> Option<Metric> {
        let now = rounded(self.value.at(at.elapsed));
        let is_new = self.told.is_none_or(|told| told.to_bits() != now.to_bits());
        self.told = Some(now);
        is_new.then(|| Metric {
            alias: Some(self.alias),
            timestamp: Some(at.millis),
            value: Some(self.kind.value(now)),
            ..Metric::default()
        })
    }
}

impl Kind {
    const fn number(self) -> u32 {
        match self {
            Self::Double => DataType::Double as u32,
            Self::Float => DataType::Float as u32,
            Self::Int32 => DataType::Int32 as u32,
            Self::Int64 => DataType::Int64 as u32,
            Self::Boolean => DataType::Boolean as u32,
        }
    }

    /// Signed numbers are two's complement in the unsigned fields.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a number that is too large is the largest"
    )]
    const fn value(self, number: f64) -> MetricValue {
        match self {
            Self::Double => MetricValue::Double(number),
            Self::Float => MetricValue::Float(number as f32),
            Self::Int32 => MetricValue::Int((number as i32).cast_unsigned()),
            Self::Int64 => MetricValue::Long((number as i64).cast_unsigned()),
            Self::Boolean => MetricValue::Boolean(number >= 0.5),
        }
    }
}
