//! Where brokers' addresses stand in Kafka's answers, and how to put others
//! there. Pure; what it cannot read is `None`.
//!
//! Layouts: <https://kafka.apache.org/protocol>, Metadata and `FindCoordinator`.

use std::ops::Range;

/// The answers that carry addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Metadata { version: i16 },
    Coordinator { version: i16 },
}

impl Answer {
    /// What will come for this request, where it carries addresses, and the
    /// number that both have.
    pub(super) fn to(request: &[u8]) -> Option<(i32, Self)> {
        let mut at = Cursor { bytes: request, place: 0 };
        let (key, version, correlation) = (at.i16()?, at.i16()?, at.i32()?);
        match key {
            3 => Some((correlation, Self::Metadata { version })),
            10 => Some((correlation, Self::Coordinator { version })),
            _ => None,
        }
    }

    /// From these versions on, strings and arrays are compact, and structures
    /// end with tagged fields.
    const fn is_flexible(self) -> bool {
        match self {
            Self::Metadata { version } => version >= 9,
            Self::Coordinator { version } => version >= 3,
        }
    }

    /// The addresses in an answer of this kind.
    pub(super) fn addresses(self, answer: &[u8]) -> Option<Vec<Address>> {
        let flexible = self.is_flexible();
        let mut at = Cursor { bytes: answer, place: 0 };
        at.i32()?;
        if flexible {
            at.tags()?;
        }
        let mut found = Vec::new();
        match self {
            Self::Metadata { version } => {
                if version >= 3 {
                    at.i32()?;
                }
                let count = if flexible { at.varint()?.checked_sub(1)? } else { at.length()? };
                for _ in 0..count {
                    found.push(at.address(flexible)?);
                    if version >= 1 {
                        at.text(flexible)?;
                    }
                    if flexible {
                        at.tags()?;
                    }
                }
            }
            Self::Coordinator { version: version @ 0..=3 } => {
                if version >= 1 {
                    at.i32()?;
                }
                at.i16()?;
                if version >= 1 {
                    at.text(flexible)?;
                }
                found.push(at.address(flexible)?);
            }
            // Several at once; librdkafka does not ask for them.
            Self::Coordinator { .. } => return None,
        }
        Some(found)
    }
}

/// One address in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    place: Range<usize>,
    flexible: bool,
}

/// The answer with `127.0.0.1` and these ports in place of the addresses.
pub(super) fn with_ports(answer: &[u8], addresses: &[Address], ports: &[u16]) -> Option<Vec<u8>> {
    const HOST: &[u8] = b"127.0.0.1";
    let mut changed = Vec::with_capacity(answer.len() + addresses.len() * HOST.len());
    let mut done = 0;
    for (address, port) in addresses.iter().zip(ports) {
        changed.extend_from_slice(answer.get(done..address.place.start)?);
        if address.flexible {
            changed.push(10);
        } else {
            changed.extend_from_slice(&9_i16.to_be_bytes());
        }
        changed.extend_from_slice(HOST);
        changed.extend_from_slice(&i32::from(*port).to_be_bytes());
        done = address.place.end;
    }
    changed.extend_from_slice(answer.get(done..)?);
    Some(changed)
}

struct Cursor<'a> {
    bytes: &'a [u8],
    place: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.place.checked_add(count)?;
        let taken = self.bytes.get(self.place..end)?;
        self.place = end;
        Some(taken)
    }

    fn i16(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn i32(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.i32()?).ok()
    }

    fn varint(&mut self) -> Option<usize> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let [byte] = *self.take(1)? else { return None };
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn tags(&mut self) -> Option<()> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let length = self.varint()?;
            self.take(length)?;
        }
        Some(())
    }

    /// A text; the null one is empty.
    fn text(&mut self, flexible: bool) -> Option<&'a [u8]> {
        let length = if flexible {
            self.varint()?.saturating_sub(1)
        } else {
            usize::try_from(self.i16()?.max(0)).ok()?
        };
        self.take(length)
    }

    /// The number of a node, its host and its port.
    fn address(&mut self, flexible: bool) -> Option<Address> {
        self.i32()?;
        let start = self.place;
        let host = String::from_utf8(self.text(flexible)?.to_vec()).ok()?;
        let port = self.i32()?;
        // A coordinator that is not there has port -1: port 0 is nowhere, too.
        let port = u16::try_from(port).unwrap_or(0);
        Some(Address { host, port, place: start..self.place, flexible })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(flexible: bool) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 7];
        if flexible {
            bytes.push(0);
        }
        bytes.extend([0, 0, 0, 0]);
        bytes.extend(if flexible { vec![2] } else { vec![0, 0, 0, 1] });
        bytes.extend([0, 0, 0, 1]);
        bytes.extend(if flexible { vec![6] } else { vec![0, 5] });
        bytes.extend(b"kafka");
        bytes.extend(9092_i32.to_be_bytes());
        bytes.extend(if flexible { vec![0, 0] } else { vec![0xff, 0xff] });
        bytes.extend(b"the rest");
        bytes
    }

    #[test]
    fn the_address_is_exchanged_and_nothing_else() {
        for (version, flexible) in [(4, false), (12, true)] {
            let answer = Answer::Metadata { version };
            let before = metadata(flexible);
            let addresses = answer.addresses(&before).unwrap();
            assert_eq!((addresses[0].host.as_str(), addresses[0].port), ("kafka", 9092));
            let after = with_ports(&before, &addresses, &[4711]).unwrap();
            assert_eq!(after.len(), before.len() + "127.0.0.1".len() - "kafka".len());
            assert!(after.ends_with(b"the rest"));
            let again = answer.addresses(&after).unwrap();
            assert_eq!((again[0].host.as_str(), again[0].port), ("127.0.0.1", 4711));
        }
    }

    #[test]
    fn an_answer_that_is_cut_off_anywhere_is_refused() {
        for (version, flexible) in [(4, false), (12, true)] {
            let whole = metadata(flexible);
            let needed = whole.len() - "the rest".len();
            for length in 0..needed {
                assert_eq!(Answer::Metadata { version }.addresses(&whole[..length]), None);
            }
        }
    }
}
