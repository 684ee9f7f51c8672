//! The few packets that we take, whatever the version of the protocol.

use bytes::{Bytes, BytesMut};

use super::config::{Config, Protocol, Qos};
use super::frame::Parts;
use super::{v4, v5};
use crate::source::sparkplug::Outgoing;

#[derive(Debug)]
pub(super) enum Packet {
    Connected(Connected),
    Publish(Publish),
    /// PUBREL.
    Release(u16),
    /// SUBACK: for each filter the QoS, or why it was refused.
    Subscribed(Vec<Result<u8, String>>),
    /// PINGRESP.
    Pong,
    /// The broker ends the connection, and says why.
    Closed(String),
    /// Nothing that concerns a subscriber.
    Other,
}

#[derive(Debug)]
pub(super) struct Connected {
    /// Why it was refused, if it was.
    pub(super) refused: Option<String>,
    pub(super) session_present: bool,
    /// The broker's own keep-alive, in seconds.
    pub(super) keep_alive: Option<u16>,
    /// How long it keeps the session, in seconds, where that is not what was asked for.
    pub(super) session_expiry: Option<u32>,
}

#[derive(Debug, Clone)]
pub(super) struct Publish {
    pub(super) qos: u8,
    pub(super) id: u16,
    pub(super) dup: bool,
    /// The broker had kept it for who subscribes later (MQTT 5, 3.3.1.3).
    pub(super) retain: bool,
    pub(super) topic: Bytes,
    /// Of version 5, as they came.
    pub(super) properties: Bytes,
    pub(super) payload: Bytes,
}

/// What a CONNECT is made of besides the configuration.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) client_id: String,
    /// The broker begins a session that ends with the connection.
    pub(super) clean: bool,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
}

pub(super) fn connect(config: &Config, login: Login) -> Result<BytesMut, String> {
    match config.protocol {
        Protocol::V4 => v4::connect(config, login),
        Protocol::V5 => v5::connect(config, login),
    }
}

/// SUBSCRIBE with the one packet id that we use of our own.
pub(super) fn subscribe(protocol: Protocol, filters: &[(String, Qos)]) -> Result<BytesMut, String> {
    match protocol {
        Protocol::V4 => v4::subscribe(filters),
        Protocol::V5 => v5::subscribe(filters),
    }
}

/// A PUBLISH of our own; `id` counts with QoS 1 and 2.
pub(super) fn outgoing(protocol: Protocol, message: Outgoing, id: u16) -> Result<BytesMut, String> {
    match protocol {
        Protocol::V4 => v4::publish(message, id),
        Protocol::V5 => v5::publish(message, id),
    }
}

/// A PUBLISH is not given to the codec: that refuses the whole packet for a
/// topic or a property that is not UTF-8, and what is not acknowledged comes
/// again for ever.
pub(super) fn read(protocol: Protocol, frame: BytesMut) -> Result<Packet, String> {
    if frame.first().is_some_and(|first| first >> 4 == 3) {
        let publish = publish(&frame.freeze(), protocol == Protocol::V5);
        let publish = publish.ok_or("a malformed PUBLISH")?;
        // Whatever it was about would be lost with its acknowledgement.
        if publish.topic.is_empty() {
            return Err("a PUBLISH without a topic, as with a topic alias, which it was not \
                        told to use"
                .to_owned());
        }
        return Ok(Packet::Publish(publish));
    }
    match protocol {
        Protocol::V4 => v4::read(frame),
        Protocol::V5 => v5::read(frame),
    }
}

fn publish(frame: &Bytes, properties: bool) -> Option<Publish> {
    let (first, rest) = frame.split_first()?;
    let header = rest.iter().position(|byte| byte & 0x80 == 0)?;
    let parts = Parts::of(*first, rest.get(header + 1..)?, properties)?;
    Some(Publish {
        qos: parts.qos,
        id: parts.id,
        dup: parts.dup,
        retain: parts.retain,
        topic: frame.slice_ref(parts.topic),
        properties: frame.slice_ref(parts.properties),
        payload: frame.slice_ref(parts.payload),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_publish(first: u8, body: &[u8]) -> Publish {
        let length = u8::try_from(body.len()).unwrap();
        let frame = [&[first, length], body].concat();
        match read(Protocol::V5, frame[..].into()) {
            Ok(Packet::Publish(publish)) => publish,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_publish_is_taken_with_its_flags_and_its_properties_as_they_came() {
        let publish = read_publish(0x3B, b"\0\x01t\0\x07\x05\x02\0\0\0\x09{}");
        assert_eq!((publish.qos, publish.id, publish.dup, publish.retain), (1, 7, true, true));
        assert_eq!((&*publish.topic, &*publish.payload), (&b"t"[..], &b"{}"[..]));
        assert_eq!(&*publish.properties, b"\x02\0\0\0\x09");
        let publish = read_publish(0x32, b"\0\x01t\0\x07\0{}");
        assert_eq!((publish.retain, publish.properties.is_empty()), (false, true));
    }

    #[test]
    fn malformed_properties_cost_no_message() {
        let publish = read_publish(0x30, b"\0\x01t\x03\xFF\xFF\xFF{}");
        assert_eq!((&*publish.properties, &*publish.payload), (&b"\xFF\xFF\xFF"[..], &b"{}"[..]));
        // Longer than all that is there: nothing is left of the payload.
        let publish = read_publish(0x30, b"\0\x01t\x7F{}");
        assert_eq!((&*publish.properties, &*publish.payload), (&b"{}"[..], &b""[..]));
    }
}
