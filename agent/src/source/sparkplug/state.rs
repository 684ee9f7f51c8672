//! What a host says of itself (Sparkplug 3.0, 4.2.3 and 5.13): `online` after each login,
//! retained, with the time of the will that says `offline` when the connection is lost.
//! Edge nodes that name this host as their primary one send nothing while it is away.

use super::Outgoing;
use super::topic;
use crate::event::Timestamp;
use crate::source::mqtt::config::Qos;

/// Nothing is said where no host is configured.
#[derive(Debug)]
pub(super) struct State {
    topic: Option<String>,
    /// That of the will, in ms since 1970.
    since: i64,
    /// Whether `online` was said on this connection.
    is_online: bool,
}

impl State {
    pub(super) fn new(host: Option<&str>) -> Self {
        Self { topic: host.map(topic::state), since: 0, is_online: false }
    }

    pub(super) fn is_own(&self, topic: &str) -> bool {
        self.topic.as_deref() == Some(topic)
    }

    /// The will of the login that begins now.
    pub(super) fn log_in(&mut self, time: Timestamp) -> Option<Outgoing> {
        self.is_online = false;
        self.since = time.0 / 1_000_000;
        self.say(false, self.since)
    }

    pub(super) fn online(&mut self) -> Option<Outgoing> {
        self.is_online = true;
        self.say(true, self.since)
    }

    /// It leaves by itself, now.
    pub(super) fn offline(&mut self, time: Timestamp) -> Option<Outgoing> {
        let was_online = std::mem::take(&mut self.is_online);
        self.say(false, time.0 / 1_000_000).filter(|_| was_online)
    }

    /// Somebody said something under our name: `offline` while we are there is answered
    /// (the late will of an earlier connection). What the broker had retained is from
    /// before this login, and `online` stands behind it already.
    pub(super) fn heard(&self, payload: &[u8], retained: bool) -> Option<Outgoing> {
        let said: serde_json::Value = serde_json::from_slice(payload).unwrap_or_default();
        let is_offline = said.get("online").and_then(serde_json::Value::as_bool) == Some(false);
        self.say(true, self.since).filter(|_| is_offline && !retained && self.is_online)
    }

    fn say(&self, online: bool, millis: i64) -> Option<Outgoing> {
        let payload = format!(r#"{{"online":{online},"timestamp":{millis}}}"#).into_bytes();
        Some(Outgoing { topic: self.topic.clone()?, payload, qos: Qos::AtLeastOnce, retain: true })
    }
}
