//! A message as the broker sent it, for a person who looks at the source alone.

use super::config::Protocol;
use super::connection::Batch;
use super::packet::Publish;
use super::v5;
use crate::raw::{Message, Note, Of, Raw};

/// What of a PUBLISH nobody else wants.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    retained: bool,
    properties: Vec<(String, String)>,
}

impl Seen {
    /// Of a whole packet; what is none gives something, too, and is not used.
    pub(super) fn of(frame: &[u8], protocol: Protocol) -> Self {
        let properties = match protocol {
            Protocol::V4 => Vec::new(),
            Protocol::V5 => v5::properties(frame),
        };
        // RETAIN is the lowest bit of the first byte (MQTT 5, 3.3.1).
        Self { retained: frame.first().is_some_and(|first| first & 1 == 1), properties }
    }
}

impl Batch {
    /// Notes what the event or dead letter that comes next was made of, where somebody
    /// looks.
    pub(super) fn note(&mut self, of: Of, seen: Option<Seen>, publish: &Publish) {
        let Some(Seen { retained, properties }) = seen else { return };
        let message = Message {
            topic: String::from_utf8_lossy(&publish.topic).into_owned(),
            payload: publish.payload.to_vec(),
            qos: publish.qos,
            retained,
            properties,
        };
        self.notes.push(Note { of, raw: Raw::Message(message) });
    }
}
