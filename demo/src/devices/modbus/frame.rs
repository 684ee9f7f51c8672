//! Requests and answers as bytes, from the device's side.

use crc::{CRC_16_MODBUS, Crc};
use tidegate::source::modbus::Framing;

const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_MODBUS);

/// Transaction, protocol and length of Modbus TCP, and unit and PDU of a read behind it
/// (Modbus Messaging on TCP/IP 1.0b, 3.1.3; Modbus application protocol 1.1b3, 6.1 to 6.4).
const HEADER: usize = 6;
const BODY: usize = 6;

/// More that makes no request is noise. No request is longer than 260 bytes.
const LONGEST: usize = 600;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Query {
    /// Of Modbus TCP; 0 elsewhere.
    transaction: u16,
    pub(super) unit: u8,
    pub(super) function: u8,
    pub(super) address: u16,
    pub(super) count: u16,
}

/// Takes the next request off these bytes, and what stands before it. `None`: more are needed.
pub(super) fn take(framing: Framing, bytes: &mut Vec<u8>) -> Option<Query> {
    loop {
        let (query, used) = match framing {
            Framing::Tcp => tcp(bytes)?,
            Framing::Rtu => rtu(bytes)?,
            Framing::Ascii => ascii(bytes)?,
        };
        bytes.drain(..used.min(bytes.len()));
        if query.is_some() {
            return query;
        }
    }
}

/// Around unit and PDU of the answer.
pub(super) fn wrap(framing: Framing, query: Query, body: &[u8]) -> Vec<u8> {
    match framing {
        Framing::Tcp => {
            let length = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
            [&query.transaction.to_be_bytes(), &[0, 0], &length, body].concat()
        }
        Framing::Rtu => [body, &CRC.checksum(body).to_le_bytes()].concat(),
        Framing::Ascii => {
            let bytes = body.iter().copied().chain([lrc(body)]);
            let digits: Vec<String> = bytes.map(|byte| format!("{byte:02X}")).collect();
            format!(":{}\r\n", digits.concat()).into_bytes()
        }
    }
}

/// Bytes of a request, for the time that they take on a line.
pub(super) const fn request(framing: Framing) -> usize {
    match framing {
        Framing::Tcp => HEADER + BODY,
        Framing::Rtu => BODY + 2,
        // Colon, two digits a byte with the LRC, CR and LF.
        Framing::Ascii => 1 + 2 * (BODY + 1) + 2,
    }
}

type Taken = (Option<Query>, usize);

/// By the header's length; what is no read of six bytes is passed over.
fn tcp(bytes: &[u8]) -> Option<Taken> {
    let [t0, t1, _, _, l0, l1, body @ ..] = bytes else { return None };
    let length = usize::from(u16::from_be_bytes([*l0, *l1]));
    let body = body.get(..length)?;
    let query = query(u16::from_be_bytes([*t0, *t1]), body);
    Some((query, HEADER + length))
}

/// The first eight bytes whose checksum is right, wherever they begin.
fn rtu(bytes: &[u8]) -> Option<Taken> {
    let size = request(Framing::Rtu);
    let found = bytes.windows(size).enumerate().find_map(|(at, window)| {
        let (body, sum) = window.split_at_checked(BODY)?;
        let is_right = CRC.checksum(body).to_le_bytes() == *sum;
        is_right.then(|| (query(0, body), at + size))
    });
    found.or_else(|| too_long(bytes))
}

/// The first line; what stands before its colon is noise.
fn ascii(bytes: &[u8]) -> Option<Taken> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return too_long(bytes) };
    let line = bytes.get(..end)?;
    let digits = line.iter().rposition(|byte| *byte == b':').and_then(|at| line.get(at + 1..));
    let body = digits.and_then(|digits| {
        let pairs = digits.trim_ascii_end().chunks(2);
        let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Vec<u8> = pairs.map(byte).collect::<Option<_>>()?;
        let (sum, body) = bytes.split_last()?;
        (lrc(body) == *sum).then(|| body.to_vec())
    });
    Some((body.and_then(|body| query(0, &body)), end + 1))
}

/// Noise without an end is forgotten.
fn too_long(bytes: &[u8]) -> Option<Taken> {
    (bytes.len() > LONGEST).then(|| (None, bytes.len() - request(Framing::Ascii)))
}

fn query(transaction: u16, body: &[u8]) -> Option<Query> {
    let [unit, function, a0, a1, c0, c1] = *body else { return None };
    let (address, count) = (u16::from_be_bytes([a0, a1]), u16::from_be_bytes([c0, c1]));
    Some(Query { transaction, unit, function, address, count })
}

/// The sum of all is a multiple of 256 (Modbus over Serial Line 1.02, 2.5.2.2).
fn lrc(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Framing; 3] = [Framing::Tcp, Framing::Rtu, Framing::Ascii];

    /// The example of the specification (Modbus application protocol 1.1b3, 6.3): registers
    /// 107 to 109 of unit 1; sum and header by the two others.
    fn asked(framing: Framing) -> &'static [u8] {
        match framing {
            Framing::Tcp => &[0, 7, 0, 0, 0, 6, 1, 3, 0, 0x6B, 0, 3],
            Framing::Rtu => &[1, 3, 0, 0x6B, 0, 3, 0x74, 0x17],
            Framing::Ascii => b":0103006B00038E\r\n",
        }
    }

    #[test]
    fn a_request_is_found_behind_noise_and_before_the_next() {
        for framing in ALL {
            // Over TCP and in ASCII frames of something else, too.
            let noise: &[u8] = match framing {
                Framing::Tcp => &[0, 9, 0, 0, 0, 2, 1, 7],
                Framing::Rtu => &[0xFF, b':', 0],
                Framing::Ascii => b":0107F8\r\n\xFF:0",
            };
            let mut bytes = [noise, asked(framing), asked(framing)].concat();
            for _ in 0..2 {
                let query = take(framing, &mut bytes).unwrap();
                assert_eq!((query.unit, query.function), (1, 3), "{framing:?}");
                assert_eq!((query.address, query.count), (107, 3), "{framing:?}");
            }
            assert_eq!((take(framing, &mut bytes), bytes.len()), (None, 0), "{framing:?}");
        }
    }

    #[test]
    fn an_answer_stands_in_its_frame() {
        let body = [1, 3, 2, 0, 7];
        let query = |framing| take(framing, &mut asked(framing).to_vec()).unwrap();
        let tcp = wrap(Framing::Tcp, query(Framing::Tcp), &body);
        assert_eq!(tcp, [0, 7, 0, 0, 0, 5, 1, 3, 2, 0, 7]);
        assert_eq!(wrap(Framing::Ascii, query(Framing::Ascii), &body), b":0103020007F3\r\n");
        let rtu = wrap(Framing::Rtu, query(Framing::Rtu), &body);
        assert_eq!(CRC.checksum(&rtu), 0, "the checksum of a frame with its own is 0");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_none_and_never_pile_up(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..40),
        ) {
            for framing in [Framing::Rtu, Framing::Ascii] {
                let mut bytes = Vec::new();
                for part in &parts {
                    bytes.extend(part);
                    while take(framing, &mut bytes).is_some() {}
                    prop_assert!(bytes.len() <= LONGEST + 80);
                }
            }
            let mut bytes = parts.concat();
            while take(Framing::Tcp, &mut bytes).is_some() {}
        }
    }
}
