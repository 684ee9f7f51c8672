//! What a broker says, and a saved session, under any bytes (`crate::fuzz`).

use bytes::BytesMut;

use super::config::Protocol;
use super::frame::{Frame, Frames};
use super::session::Session;
use super::{packet, property, v5};
use crate::fuzz::check;

#[test]
fn packets() {
    check("mqtt-packets", |bytes| {
        for protocol in [Protocol::V4, Protocol::V5] {
            // Payloads above this are read past.
            for max_payload in [8, 1 << 20] {
                read(protocol, Frames::new(max_payload), bytes);
            }
        }
    });
}

fn read(protocol: Protocol, mut frames: Frames, bytes: &[u8]) {
    for piece in bytes.chunks(7) {
        frames.push(piece);
        loop {
            match frames.next() {
                Ok(Some(Frame::Whole(frame))) => {
                    drop(packet::read(protocol, BytesMut::from(&frame[..])));
                    drop(v5::properties(&frame));
                }
                Ok(Some(Frame::Cut(cut))) => drop(cut.parse(protocol == Protocol::V5)),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

#[test]
fn session() {
    check("mqtt-session", |bytes| {
        let again = Session::restore(Some(bytes)).checkpoint();
        assert_eq!(Session::restore(Some(&again)).checkpoint(), again);
    });
}

#[test]
fn properties() {
    let keys = serde_json::json!({
        "user": ["*"], "prefix": "u_", "content_type": "a", "response_topic": "b",
        "correlation_data": "c", "message_expiry_interval": "d",
    });
    let mut reader = property::Reader::new(&serde_json::from_value(keys).unwrap());
    check("mqtt-properties", |bytes| {
        reader.read(bytes, &mut Vec::new());
        reader.read(bytes, &mut Vec::new());
    });
}
