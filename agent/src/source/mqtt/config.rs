//! `[[source]]` with `type = "mqtt"`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use super::subscription::{Retained, Subscription};
use crate::collect::QUEUE_BYTES;
use crate::config::Secret;
use crate::flow::Lane;
use crate::units::{ByteSize, Period};

/// One connection to one broker. The session is kept by the broker while the
/// agent is away, and a message is acknowledged only after the commit that
/// holds its event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the source, unique in the file.
    pub name: String,
    /// The broker as `host:port`; usually port 1883, with TLS 8883.
    pub address: String,
    /// Version of the protocol: `5` (default) or `3.1.1`. Version 5 tells the
    /// broker how long to keep the session, repeats no retained message when a
    /// subscription is made again, and gives reasons where it refuses.
    #[serde(default)]
    pub protocol: Protocol,
    /// Name of the session at the broker, unique there; by default
    /// `tidegate-<gateway>-<source>`. Another name is another session.
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
    /// How long the connection may be silent before the broker is asked for a
    /// sign of life; half of that later it counts as dead. 1 s to 18 h.
    #[serde(default = "default_keep_alive")]
    pub keep_alive: Period,
    /// How long connecting and logging in may take.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Period,
    /// How long the broker keeps the session and its messages while the agent
    /// is away (version 5; with 3.1.1 that is set at the broker).
    #[serde(default = "default_session_expiry")]
    pub session_expiry_interval: Period,
    /// A message that the broker publishes when this connection is lost.
    #[serde(default)]
    pub last_will: Option<LastWill>,
    /// QoS of the subscriptions that name none: 0, 1 (default) or 2. With 0 the
    /// broker keeps nothing: what comes while the agent is away is lost.
    #[serde(default)]
    pub qos: Qos,
    /// Stream of the subscriptions that name none; by default the source's name.
    #[serde(default)]
    pub stream: Option<String>,
    /// Lane of the subscriptions that name none: `alarm`, `live` or `bulk`; by
    /// default the stream's.
    #[serde(default)]
    pub lane: Option<Lane>,
    /// Static fields that every record of this source carries.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// A larger payload is not taken: its first 64 KiB become a dead letter.
    /// 1 KiB to 64 MiB.
    #[serde(default = "default_max_payload")]
    pub max_payload: ByteSize,
    /// Messages that may wait for their commit; then nothing more is read.
    /// 1 to 65,535.
    #[serde(default = "default_max_unacknowledged")]
    pub max_unacknowledged: u16,
    /// The same by size, as events are held in memory: a few hundred bytes on top of
    /// each payload. One message is always taken. 64 KiB to 4 MiB, which is what the queue
    /// before the file holds of all sources together: one of several waits there at its
    /// part of it, 256 KiB at least.
    #[serde(default = "default_max_unacknowledged_bytes")]
    pub max_unacknowledged_bytes: ByteSize,
    /// What is subscribed.
    #[serde(rename = "subscription")]
    pub subscriptions: Vec<Subscription>,
}

/// TLS to the broker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file of the authorities that may sign the broker's certificate; by
    /// default the machine's own.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// PEM file of our certificate and its chain, where the broker asks for one.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// PEM file of the certificate's key.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// Name that the broker's certificate must carry; by default the address's.
    #[serde(default)]
    pub server_name: Option<String>,
}

/// What the broker publishes when this connection is lost without a goodbye.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LastWill {
    /// Topic, without wildcards.
    pub topic: String,
    /// The payload, a text.
    #[serde(default)]
    pub payload: String,
    /// 0, 1 (default) or 2.
    #[serde(default)]
    pub qos: Qos,
    /// Whether the broker keeps it for those who subscribe later.
    #[serde(default)]
    pub retain: bool,
}

#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum Protocol {
    #[serde(rename = "3.1.1")]
    V4,
    #[default]
    #[serde(rename = "5")]
    V5,
}

/// Quality of service: how often a message may arrive.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(try_from = "u8", into = "u8")]
#[schemars(with = "u8")]
pub enum Qos {
    AtMostOnce,
    #[default]
    AtLeastOnce,
    ExactlyOnce,
}

impl TryFrom<u8> for Qos {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        match number {
            0 => Ok(Self::AtMostOnce),
            1 => Ok(Self::AtLeastOnce),
            2 => Ok(Self::ExactlyOnce),
            _ => Err(format!("{number} is no QoS: 0, 1 or 2")),
        }
    }
}

impl From<Qos> for u8 {
    fn from(qos: Qos) -> Self {
        match qos {
            Qos::AtMostOnce => 0,
            Qos::AtLeastOnce => 1,
            Qos::ExactlyOnce => 2,
        }
    }
}

const fn default_keep_alive() -> Period {
    Period::from_secs(30)
}
const fn default_connect_timeout() -> Period {
    Period::from_secs(10)
}
const fn default_session_expiry() -> Period {
    Period::from_secs(7 * 24 * 3_600)
}
const fn default_max_payload() -> ByteSize {
    ByteSize::mib(1)
}
const fn default_max_unacknowledged() -> u16 {
    10_000
}
/// A commit's worth of the queue.
pub(in crate::source) const fn default_max_unacknowledged_bytes() -> ByteSize {
    ByteSize::mib(4)
}

impl Config {
    /// The files that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        let tls = self.tls.as_ref();
        let of_tls = tls.map(|tls| [tls.ca.clone(), tls.certificate.clone(), tls.key.clone()]);
        let password = self.password.as_ref().and_then(Secret::file);
        let described = self.subscriptions.iter().map(|s| s.payload.file());
        of_tls.into_iter().flatten().chain([password]).chain(described).flatten().collect()
    }

    /// What is wrong: the key's path inside the source, and a sentence.
    pub fn check(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        let mut say = |key: &str, what: String| wrong.push((key.to_owned(), what));
        if split_address(&self.address).is_none() {
            say("address", format!("`{}` is not host:port, as in \"broker:1883\"", self.address));
        }
        let keep_alive = self.keep_alive.get().as_secs();
        if !(1..=u64::from(u16::MAX)).contains(&keep_alive) {
            say("keep_alive", "must be from 1 s to 18 h".to_owned());
        }
        if self.connect_timeout.get().is_zero() {
            say("connect_timeout", "must be longer than 0".to_owned());
        }
        if !(1_024..=64 * 1_024 * 1_024).contains(&self.max_payload.get()) {
            say("max_payload", "must be from 1 KiB to 64 MiB".to_owned());
        }
        if self.max_unacknowledged == 0 {
            say("max_unacknowledged", "must be from 1 to 65535".to_owned());
        }
        let most = u64::try_from(QUEUE_BYTES).unwrap_or(u64::MAX);
        if !(64 * 1_024..=most).contains(&self.max_unacknowledged_bytes.get()) {
            let what = format!("must be from 64 KiB to {}", ByteSize(most));
            say("max_unacknowledged_bytes", what);
        }
        // The broker would choose another name, and so another session, each time.
        if self.client_id.as_ref().is_some_and(String::is_empty) {
            say("client_id", "must be a name; without the key there is a default".to_owned());
        }
        if self.password.is_some() && self.username.is_none() && self.protocol == Protocol::V4 {
            say("password", "needs a `username` in version 3.1.1".to_owned());
        }
        if let Some(tls) = &self.tls
            && tls.certificate.is_some() != tls.key.is_some()
        {
            say("tls", "`certificate` and `key` belong together".to_owned());
        }
        if let Some(will) = &self.last_will
            && (will.topic.is_empty() || will.topic.contains(['+', '#', '\0']))
        {
            say("last_will.topic", "must be a topic without wildcards".to_owned());
        }
        if self.subscriptions.is_empty() {
            say("subscription", "at least one [[source.subscription]] is needed".to_owned());
        }
        for (index, subscription) in self.subscriptions.iter().enumerate() {
            for (key, what) in subscription.check() {
                say(&format!("subscription.{index}.{key}"), what);
            }
            if subscription.properties.is_some() && self.protocol == Protocol::V4 {
                let what = "needs protocol = \"5\": version 3.1.1 has no properties";
                say(&format!("subscription.{index}.properties"), what.to_owned());
            }
            let mut earlier = self.subscriptions.iter().take(index);
            if let Some(other) = earlier.find(|o| o.overlaps(subscription)) {
                let what = format!(
                    "matches topics that `{}` matches too: a broker may deliver a message once \
                     for each, so that they must not overlap",
                    other.topic
                );
                say(&format!("subscription.{index}.topic"), what);
            }
        }
        wrong
    }

    pub(super) fn keep_alive_secs(&self) -> u16 {
        u16::try_from(self.keep_alive.get().as_secs()).unwrap_or(u16::MAX).max(1)
    }

    pub(super) fn session_expiry_secs(&self) -> u32 {
        u32::try_from(self.session_expiry_interval.get().as_secs()).unwrap_or(u32::MAX)
    }

    pub(super) fn qos_of(&self, subscription: &Subscription) -> Qos {
        subscription.qos.unwrap_or(self.qos)
    }

    /// Told to a version 5 broker, so that it stops by itself where we would
    /// stop reading. Not with QoS 2: mosquitto counts what waits for PUBREL
    /// against it and stalls.
    pub(super) fn receive_maximum(&self) -> Option<u16> {
        let exact = |s: &Subscription| self.qos_of(s) == Qos::ExactlyOnce;
        (!self.subscriptions.iter().any(exact)).then_some(self.max_unacknowledged)
    }
}

/// `host:port`, also `[::1]:1883`.
pub(super) fn split_address(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then_some((host, port))
}
