//! Bytes of the connection → whole packets, without ever holding a payload
//! that is too large.
//!
//! The fixed header is looked at before the codec sees anything. A PUBLISH
//! whose payload is above the limit is read past: its bytes are hashed as they
//! arrive, and only its beginning is kept.

use std::hash::Hasher as _;

use bytes::BytesMut;
use twox_hash::XxHash64;

use crate::collect::DEAD_LETTER_BYTES;

/// No other packet that a broker sends us comes near: a CONNACK or SUBACK with
/// all of its properties.
const LARGEST_OTHER: usize = 256 * 1024;

/// Kept of a payload that is too large, besides topic, id and properties.
const HEAD: usize = DEAD_LETTER_BYTES + 4_096;

#[derive(Debug)]
pub(super) enum Frame {
    Whole(BytesMut),
    /// A PUBLISH that was read past.
    Cut(Cut),
}

#[derive(Debug)]
pub(super) struct Cut {
    /// The fixed header's first byte: type and flags.
    pub(super) first: u8,
    /// The beginning of what follows the fixed header.
    pub(super) head: Vec<u8>,
    /// Length of what follows the fixed header.
    pub(super) length: usize,
    /// Hash of all that follows the fixed header.
    pub(super) hash: u64,
}

/// The bytes are not MQTT.
#[derive(Debug, thiserror::Error)]
#[error("broker sent a malformed packet: {0}")]
pub(super) struct Malformed(pub(super) String);

#[derive(Debug)]
pub(super) struct Frames {
    inbox: BytesMut,
    past: Option<Past>,
    max_payload: usize,
}

#[derive(Debug)]
struct Past {
    first: u8,
    head: Vec<u8>,
    keep: usize,
    length: usize,
    left: usize,
    hash: XxHash64,
}

impl Past {
    /// Takes what belongs to it from the front of `bytes`; gives how much.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.left);
        let (mine, _) = bytes.split_at(count);
        self.hash.write(mine);
        let (kept, _) = mine.split_at(count.min(self.keep - self.head.len()));
        self.head.extend_from_slice(kept);
        self.left -= count;
        count
    }
}

impl Frames {
    pub(super) fn new(max_payload: usize) -> Self {
        Self { inbox: BytesMut::new(), past: None, max_payload }
    }

    /// Bytes came in.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let taken = self.past.as_mut().map_or(0, |past| past.take(bytes));
        let (_, rest) = bytes.split_at(taken);
        self.inbox.extend_from_slice(rest);
    }

    /// The next packet, if it is whole.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, Malformed> {
        if self.past.is_none() {
            let Some((header, length)) = self.header()? else { return Ok(None) };
            let first = self.inbox.first().copied().unwrap_or_default();
            let publish = first >> 4 == 3;
            if !publish && length > LARGEST_OTHER {
                return Err(Malformed(format!("type {} with {length} bytes", first >> 4)));
            }
            if publish && length > self.max_payload {
                let Some(topic) = self.inbox.get(header..header + 2) else { return Ok(None) };
                let topic = topic.iter().fold(0, |n, byte| n << 8 | usize::from(*byte));
                let variable = 2 + topic + if first & 0b110 == 0 { 0 } else { 2 };
                if length > self.max_payload + variable {
                    drop(self.inbox.split_to(header));
                    let mut past = Past {
                        first,
                        head: Vec::new(),
                        keep: variable + HEAD,
                        length,
                        left: length,
                        hash: XxHash64::with_seed(0),
                    };
                    let taken = past.take(&self.inbox);
                    drop(self.inbox.split_to(taken));
                    self.past = Some(past);
                }
            }
            if self.past.is_none() {
                if self.inbox.len() < header + length {
                    self.inbox.reserve(header + length - self.inbox.len());
                    return Ok(None);
                }
                return Ok(Some(Frame::Whole(self.inbox.split_to(header + length))));
            }
        }
        Ok(self.past.take_if(|past| past.left == 0).map(|past| {
            Frame::Cut(Cut {
                first: past.first,
                head: past.head,
                length: past.length,
                hash: past.hash.finish(),
            })
        }))
    }

    /// Length of the fixed header, and of what follows it.
    fn header(&self) -> Result<Option<(usize, usize)>, Malformed> {
        let mut length = 0;
        for (index, byte) in self.inbox.iter().skip(1).enumerate() {
            if index == 4 {
                break;
            }
            length |= usize::from(byte & 0x7F) << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(Some((index + 2, length)));
            }
        }
        if self.inbox.len() > 4 {
            return Err(Malformed("the length takes more than four bytes".to_owned()));
        }
        Ok(None)
    }
}

impl Cut {
    /// QoS, packet id, topic and the beginning of the payload.
    pub(super) fn parse(&self, properties: bool) -> Option<Parts<'_>> {
        let mut parts = Parts::of(self.first, &self.head, properties)?;
        (parts.payload, _) = parts.payload.split_at(parts.payload.len().min(DEAD_LETTER_BYTES));
        Some(parts)
    }
}

/// What a PUBLISH is made of.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) qos: u8,
    pub(super) id: u16,
    pub(super) dup: bool,
    pub(super) retain: bool,
    pub(super) topic: &'a [u8],
    /// As far as they are there.
    pub(super) properties: &'a [u8],
    pub(super) payload: &'a [u8],
}

impl<'a> Parts<'a> {
    /// `first`: the fixed header's first byte; `body`: what follows that header.
    pub(super) fn of(first: u8, body: &'a [u8], properties: bool) -> Option<Self> {
        let qos = first >> 1 & 0b11;
        if qos == 3 {
            return None;
        }
        let (length, rest) = body.split_first_chunk::<2>()?;
        let (topic, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let (id, mut rest) = if qos == 0 {
            (0, rest)
        } else {
            let (id, rest) = rest.split_first_chunk::<2>()?;
            (u16::from_be_bytes(*id), rest)
        };
        let mut said: &[u8] = &[];
        if properties {
            let mut length = 0;
            for index in 0..4 {
                let (byte, after) = rest.split_first()?;
                rest = after;
                length |= usize::from(byte & 0x7F) << (7 * index);
                if byte & 0x80 == 0 {
                    break;
                }
            }
            // Properties longer than what is there leave nothing of the payload.
            (said, rest) = rest.split_at(length.min(rest.len()));
        }
        let (dup, retain) = (first & 0b1000 != 0, first & 1 != 0);
        Some(Self { qos, id, dup, retain, topic, properties: said, payload: rest })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A QoS 1 PUBLISH to `a/b` with id 7.
    fn publish(payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x32];
        let mut length = payload.len() + 7;
        loop {
            let more = length >= 128;
            bytes.push(u8::try_from(length % 128).unwrap() | if more { 0x80 } else { 0 });
            length /= 128;
            if !more {
                break;
            }
        }
        bytes.extend_from_slice(&[0, 3, b'a', b'/', b'b', 0, 7]);
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn packets_come_out_whole_wherever_the_reads_were_cut() {
        let stream = [publish(b"one"), vec![0xD0, 0], publish(b"two")].concat();
        for size in 1..stream.len() {
            let mut frames = Frames::new(1_000);
            let mut lengths = Vec::new();
            for chunk in stream.chunks(size) {
                frames.push(chunk);
                while let Some(Frame::Whole(frame)) = frames.next().unwrap() {
                    lengths.push(frame.len());
                }
            }
            assert_eq!(lengths, [12, 2, 12]);
        }
    }

    #[test]
    fn a_payload_above_the_limit_is_read_past_and_never_held() {
        let payload = vec![b'x'; 3_000_000];
        let mut frames = Frames::new(1_000_000);
        let mut found = Vec::new();
        for chunk in [publish(&payload), publish(b"after")].concat().chunks(10_000) {
            frames.push(chunk);
            assert!(frames.inbox.capacity() < 100_000);
            while let Some(frame) = frames.next().unwrap() {
                found.push(frame);
            }
        }
        let [Frame::Cut(cut), Frame::Whole(after)] = found.as_slice() else {
            panic!("{found:?}");
        };
        assert_eq!(cut.length, 3_000_007);
        assert!(cut.head.len() < 100_000);
        let publish = cut.parse(false).unwrap();
        assert_eq!((publish.qos, publish.id, publish.topic), (1, 7, b"a/b".as_slice()));
        assert_eq!(publish.payload.len(), DEAD_LETTER_BYTES);
        assert_eq!(after.len(), 14);
    }

    #[test]
    fn a_payload_at_the_limit_is_whole() {
        let mut frames = Frames::new(1_000);
        frames.push(&publish(&[0; 1_000]));
        assert!(matches!(frames.next(), Ok(Some(Frame::Whole(_)))));
        frames.push(&publish(&[0; 1_001]));
        assert!(matches!(frames.next(), Ok(Some(Frame::Cut(_)))));
    }

    proptest! {
        #[test]
        fn any_bytes_give_packets_or_an_error(chunks: Vec<Vec<u8>>) {
            let mut frames = Frames::new(100);
            'all: for chunk in &chunks {
                frames.push(chunk);
                loop {
                    match frames.next() {
                        Ok(Some(Frame::Cut(cut))) => drop(cut.parse(true)),
                        Ok(Some(Frame::Whole(_))) => {}
                        Ok(None) => break,
                        Err(_) => break 'all,
                    }
                }
            }
        }
    }
}
