//! What the file says of edge nodes.

use std::collections::BTreeSet;

use serde::Deserialize;
use tidegate::units::Period;

use crate::devices::fault::Fault;
use crate::devices::value::Form;

/// `[[sparkplug]]`: a broker, and a group of edge nodes that publish on it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::devices) struct EdgeNodes {
    pub(in crate::devices) name: String,
    /// Host and port. Default: a free port of this machine.
    #[serde(default)]
    pub(in crate::devices) address: Option<String>,
    /// Default: the name.
    #[serde(default)]
    group: Option<String>,
    #[serde(rename = "node")]
    pub(super) nodes: Vec<Node>,
}

/// `[[sparkplug.node]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    pub(super) name: String,
    /// How often it and its devices look for what has changed.
    pub(super) interval: Period,
    #[serde(default)]
    pub(super) values: Vec<Metric>,
    #[serde(default)]
    pub(super) faults: Vec<Fault<What>>,
    #[serde(default, rename = "device")]
    pub(super) devices: Vec<Device>,
}

/// `[[sparkplug.node.device]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) values: Vec<Metric>,
    #[serde(default)]
    pub(super) faults: Vec<Fault<What>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metric {
    pub(super) name: String,
    #[serde(default, rename = "type")]
    pub(super) kind: Kind,
    pub(super) value: Form,
}

/// Types of metrics, those that a number can be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    #[default]
    Double,
    Float,
    Int32,
    Int64,
    /// True from 0.5 on.
    Boolean,
}

/// What goes wrong with a node or with one of its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum What {
    /// So much later, and with it all that the node has to say.
    Late(Period),
    /// No message; what has changed comes with the next.
    Silence,
    /// A message that is counted and never comes: a gap in seq.
    Lost,
    /// A value more, under an alias that no birth has given.
    UnknownAlias,
    /// Its death; the birth comes with the next turn.
    Death,
    /// Its death; then data, and a birth only when a host asks for one.
    Unborn,
    /// A new session, whose birth comes before the last will of the old one.
    LateWill,
    /// All connections to the broker end.
    Disconnect,
}

impl EdgeNodes {
    pub(super) fn group(&self) -> &str {
        self.group.as_deref().unwrap_or(&self.name)
    }

    /// Each thing that is wrong, with where it stands.
    pub(in crate::devices) fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut names = BTreeSet::new();
        for node in &self.nodes {
            let place = format!("{}.{}", self.name, node.name);
            if !names.insert(&node.name) {
                wrong.push(format!("{place}: there are two of this name"));
            }
            if node.interval.get().is_zero() {
                wrong.push(format!("{place}: interval = 0"));
            }
            wrong.extend(part(&place, &node.values, &node.faults));
            let mut devices = BTreeSet::new();
            for device in &node.devices {
                let place = format!("{place}.{}", device.name);
                if !devices.insert(&device.name) {
                    wrong.push(format!("{place}: there are two of this name"));
                }
                wrong.extend(part(&place, &device.values, &device.faults));
                if device.faults.iter().any(|fault| fault.what == What::LateWill) {
                    wrong.push(format!("{place}: a device has no last will, its node has"));
                }
            }
        }
        let parts = self.nodes.iter().flat_map(|node| {
            [&node.name].into_iter().chain(node.devices.iter().map(|device| &device.name))
        });
        let parts = parts.map(String::as_str).chain([self.group()]);
        let is_no_level = |name: &&str| name.is_empty() || name.contains(['/', '+', '#']);
        wrong.extend(parts.filter(is_no_level).map(|name| {
            format!("{}: `{name}` is no level of a topic, which has no /, + and #", self.name)
        }));
        wrong
    }
}

/// What is wrong with the values and faults of a node or a device.
fn part(place: &str, values: &[Metric], faults: &[Fault<What>]) -> Vec<String> {
    let of_values = values.iter().filter_map(|metric| {
        let what = metric.value.check()?;
        Some(format!("{place}.{}: {what}", metric.name))
    });
    let of_faults = faults.iter().filter_map(|fault| Some(format!("{place}: {}", fault.check()?)));
    of_values.chain(of_faults).collect()
}
