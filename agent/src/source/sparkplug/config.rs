//! `[[source]]` with `type = "sparkplug"`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::topic;
use crate::config::Secret;
use crate::flow::Lane;
use crate::source::mqtt;
use crate::source::mqtt::config::{Protocol, Tls};
use crate::units::{ByteSize, Period};

/// A Sparkplug B 3.0 host at one MQTT broker: it reads what edge nodes send, asks them to
/// be born again where something cannot be read, and is their primary host where it has a
/// `host_id`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the source, unique in the file.
    pub name: String,
    /// The broker as `host:port`; usually port 1883, with TLS 8883.
    pub address: String,
    /// Version of the protocol: `5` (default) or `3.1.1`.
    #[serde(default)]
    pub protocol: Protocol,
    /// Name of the client at the broker, unique there; by default
    /// `tidegate-<gateway>-<source>`.
    #[serde(default)]
    pub client_id: Option<String>,
    /// User name, where the broker asks for one.
    #[serde(default)]
    pub username: Option<String>,
    /// Password: `{ env = … }`, `{ file = … }` or `{ credential = … }`.
    #[serde(default)]
    pub password: Option<Secret>,
    /// TLS; `{}` verifies against the machine's own certificates.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// How long the connection may be silent before the broker is asked for a sign of
    /// life; half of that later it counts as dead. 1 s to 18 h.
    #[serde(default = "default_keep_alive")]
    pub keep_alive: Period,
    /// How long connecting and logging in may take.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Period,
    /// The host that this agent is: it then says `online` and `offline` under
    /// `spBv1.0/STATE/<host_id>`, and edge nodes that name it as their primary host send
    /// nothing while it is away. No other host may have this name. By default it says
    /// nothing.
    #[serde(default)]
    pub host_id: Option<String>,
    /// Groups of edge nodes that are read; by default all.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Metrics that are taken: whole names (`Motor/Speed`) or beginnings with `*`
    /// (`Motor/*`). By default all.
    #[serde(default)]
    pub metrics: Vec<String>,
    /// Device of the events of an edge node itself, with `{group}` and `{node}`.
    #[serde(default = "default_node")]
    pub node: String,
    /// Device of the events of a device, with `{group}`, `{node}` and `{device}`.
    #[serde(default = "default_device")]
    pub device: String,
    /// Whether edge nodes are asked to be born again (`Node Control/Rebirth`). Without it
    /// what cannot be read waits for a birth that comes by itself.
    #[serde(default = "default_request_rebirth")]
    pub request_rebirth: bool,
    /// An edge node is asked at most once in this time; up to a quarter of it is added by
    /// chance. 1 s to 1 d.
    #[serde(default = "default_rebirth_interval")]
    pub rebirth_interval: Period,
    /// Bounds of what is kept raw until a birth says what it means.
    #[serde(default)]
    pub hold: Hold,
    /// Stream of the events; by default the source's name.
    #[serde(default)]
    pub stream: Option<String>,
    /// Lane of the events: `alarm`, `live` or `bulk`; by default the stream's.
    #[serde(default)]
    pub lane: Option<Lane>,
    /// Static fields that every record of this source carries.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// A larger payload is not taken: its first 64 KiB become a dead letter. 1 KiB to
    /// 64 MiB.
    #[serde(default = "default_max_payload")]
    pub max_payload: ByteSize,
    /// Messages that may wait for their commit; then nothing more is read. 1 to 65,535.
    #[serde(default = "default_max_unacknowledged")]
    pub max_unacknowledged: u16,
}

/// What is kept of an edge node that cannot be read yet. Where a bound is reached the
/// oldest goes out with the quality `stale`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hold {
    /// Messages of one edge node with its devices. 0: nothing is kept.
    pub messages: u32,
    /// Bytes of one edge node with its devices.
    pub bytes: ByteSize,
    /// Bytes of all edge nodes.
    pub total_bytes: ByteSize,
    /// How long a message waits at most, and a device to be born again with its edge node.
    /// It should be longer than `rebirth_interval`.
    pub time: Period,
}

impl Default for Hold {
    /// What an edge node sends in a minute and a half at ten messages of 250 bytes a
    /// second.
    fn default() -> Self {
        Self {
            messages: 1_000,
            bytes: ByteSize::kib(256),
            total_bytes: ByteSize::mib(4),
            time: Period::from_secs(90),
        }
    }
}

const fn default_keep_alive() -> Period {
    Period::from_secs(30)
}
const fn default_connect_timeout() -> Period {
    Period::from_secs(10)
}
fn default_node() -> String {
    "{node}".to_owned()
}
fn default_device() -> String {
    "{node}/{device}".to_owned()
}
const fn default_request_rebirth() -> bool {
    true
}
const fn default_rebirth_interval() -> Period {
    Period::from_secs(60)
}
const fn default_max_payload() -> ByteSize {
    ByteSize::mib(1)
}
const fn default_max_unacknowledged() -> u16 {
    10_000
}

impl Config {
    /// The files that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        self.connection().files()
    }

    /// What is wrong: the key's path inside the source, and a sentence.
    pub fn check(&self) -> Vec<(String, String)> {
        let of_mqtt = self.connection().check().into_iter();
        // It has no subscriptions of its own.
        let mut wrong: Vec<_> = of_mqtt.filter(|(key, _)| key != "subscription").collect();
        let mut say = |key: &str, what: String| wrong.push((key.to_owned(), what));
        if let Some(host) = &self.host_id
            && let Some(what) = wrong_level(host)
        {
            say("host_id", what);
        }
        for (index, group) in self.groups.iter().enumerate() {
            if let Some(what) = wrong_level(group) {
                say(&format!("groups.{index}"), what);
            } else if self.groups.iter().take(index).any(|earlier| earlier == group) {
                say(&format!("groups.{index}"), format!("`{group}` stands there twice"));
            }
        }
        for (index, metric) in self.metrics.iter().enumerate() {
            if metric.is_empty() || metric.trim_end_matches('*').len() + 1 < metric.len() {
                let what = "must be a metric's name, or its beginning and one `*`".to_owned();
                say(&format!("metrics.{index}"), what);
            }
        }
        for (key, template, needed, known) in [
            ("node", &self.node, "{node}", &["{group}", "{node}"][..]),
            ("device", &self.device, "{device}", &["{group}", "{node}", "{device}"][..]),
        ] {
            if let Some(what) = wrong_template(template, needed, known) {
                say(key, what);
            }
        }
        let interval = self.rebirth_interval.get().as_secs();
        if !(1..=86_400).contains(&interval) {
            say("rebirth_interval", "must be from 1 s to 1 d".to_owned());
        }
        if self.hold.time.get().is_zero() {
            say("hold.time", "must be longer than 0; `messages = 0` holds nothing".to_owned());
        }
        if self.hold.total_bytes.get() < self.hold.bytes.get() {
            say("hold.total_bytes", "must not be less than `bytes`, of one node".to_owned());
        }
        wrong
    }

    /// What works, and yet not as it was meant.
    pub fn doubts(&self) -> Vec<(String, String)> {
        let late = self.hold.messages > 0 && self.hold.time < self.rebirth_interval;
        let what = "is shorter than `rebirth_interval`: where an edge node was asked for a birth \
                    just before, what is kept goes out as stale before it may be asked again";
        late.then(|| ("hold.time".to_owned(), what.to_owned())).into_iter().collect()
    }

    /// The filters that are subscribed.
    pub(in crate::source) fn filters(&self) -> Vec<String> {
        let all = ["+".to_owned()];
        let groups = if self.groups.is_empty() { &all[..] } else { &self.groups };
        let state = self.host_id.as_deref().map(topic::state);
        let of_groups = groups.iter().flat_map(|group| topic::filters(group));
        state.into_iter().chain(of_groups).collect()
    }

    /// The connection as the MQTT source has it. A host begins each time anew (5.3): what a
    /// broker had kept for it would be of births that it does not know.
    pub(in crate::source) fn connection(&self) -> mqtt::Config {
        mqtt::Config {
            name: self.name.clone(),
            address: self.address.clone(),
            protocol: self.protocol,
            client_id: self.client_id.clone(),
            username: self.username.clone(),
            password: self.password.clone(),
            tls: self.tls.clone(),
            keep_alive: self.keep_alive,
            connect_timeout: self.connect_timeout,
            session_expiry_interval: Period::from_secs(0),
            last_will: None,
            qos: mqtt::config::Qos::AtLeastOnce,
            stream: self.stream.clone(),
            lane: self.lane,
            labels: self.labels.clone(),
            max_payload: self.max_payload,
            max_unacknowledged: self.max_unacknowledged,
            max_unacknowledged_bytes: mqtt::config::default_max_unacknowledged_bytes(),
            subscriptions: Vec::new(),
        }
    }
}

fn wrong_level(text: &str) -> Option<String> {
    let is_level = !text.is_empty() && !text.contains(['/', '+', '#', '\0']);
    (!is_level).then(|| format!("`{text}` is not one level of a topic: no `/`, `+` and `#`"))
}

fn wrong_template(template: &str, needed: &str, known: &[&str]) -> Option<String> {
    let mut rest = template.to_owned();
    for place in known {
        rest = rest.replace(place, "");
    }
    if rest.contains(['{', '}']) {
        return Some(format!("`{template}` may have {} and no other place", known.join(", ")));
    }
    let missing = !template.contains(needed);
    missing.then(|| format!("`{template}` must have {needed}: else all would be one device"))
}
