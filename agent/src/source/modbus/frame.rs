//! Frames of the three framings, as bytes and nothing else: no clock, no
//! socket, no memory of what was asked before (that is `late`'s).
//!
//! | framing | around unit, function and data | tells answers apart by |
//! | --- | --- | --- |
//! | [`Framing::Tcp`] | MBAP header: transaction, protocol, length | the transaction id |
//! | [`Framing::Rtu`] | CRC-16 behind | unit, function and length only |
//! | [`Framing::Ascii`] | `:`, hexadecimal digits, LRC, CR LF | unit, function and length only |
//!
//! Only reading is spoken: functions 1 to 4 and their exceptions. Any other
//! function code means that what came is no answer to us, and that no length
//! can be known; so it is [`Decoded::Broken`].

use std::fmt;

use crc::{CRC_16_MODBUS, Crc, Table};
use serde::{Deserialize, Serialize};

const CRC: Crc<u16, Table<1>> = Crc::<u16, Table<1>>::new(&CRC_16_MODBUS);

/// Transaction id, protocol and length; the unit is counted in the length
/// (Modbus Messaging on TCP/IP 1.0b, 3.1.3).
const MBAP: usize = 6;

/// Unit and the longest PDU of 253 bytes (Modbus Application Protocol 1.1b3, 4.1).
const LONGEST_BODY: usize = 254;

/// Most data bytes of an answer to functions 1 to 4: 125 registers or 2000
/// bits (Modbus Application Protocol 1.1b3, 6.1 to 6.4).
const MOST_DATA: u8 = 250;

/// An exception's function code is the request's with this bit (the same, 7).
const EXCEPTION: u8 = 0x80;

/// No frame is shorter: RTU's unit, function, exception code and CRC.
pub(super) const SHORTEST: usize = 5;

/// What stands around a request and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// Modbus TCP.
    Tcp,
    /// Bytes with a CRC, on a serial line or over TCP.
    Rtu,
    /// Hexadecimal digits in lines, on a serial line or over TCP.
    Ascii,
}

/// One read, as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) unit: u8,
    /// 1 to 4.
    pub(super) function: u8,
    pub(super) address: u16,
    /// Registers or bits.
    pub(super) count: u16,
}

/// A whole frame whose checksum is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// Only [`Framing::Tcp`] has one.
    pub(super) transaction: Option<u16>,
    pub(super) unit: u8,
    /// 1 to 4, without the exception's bit.
    pub(super) function: u8,
    pub(super) body: Body,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    Data(Vec<u8>),
    Exception(u8),
}

/// What the bytes that came so far are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    /// The begin of a frame, or nothing yet.
    Incomplete,
    /// A frame, and how many bytes it took with what stood before it.
    Whole(Frame, usize),
    /// No frame, whatever comes behind: drop all until the line is silent.
    Broken(&'static str),
}

/// What a frame is to a query, judged by the frame alone.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judged {
    Answer,
    Exception(u8),
    /// It belongs to something else, or is wrong; in words.
    Foreign(String),
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "Modbus TCP",
            Self::Rtu => "Modbus RTU",
            Self::Ascii => "Modbus ASCII",
        })
    }
}

impl Query {
    /// Coils and discrete inputs (functions 1 and 2); the others are registers.
    pub(super) const fn is_bits(self) -> bool {
        self.function < 3
    }

    /// Data bytes of the right answer.
    pub(super) fn length(self) -> usize {
        let count = usize::from(self.count);
        if self.is_bits() { count.div_ceil(8) } else { count * 2 }
    }

    /// Whether the request is, as it stands, the frame of an answer to itself: the high byte
    /// of its address, 3, says in an answer that three bytes of data follow, and three do.
    /// None is ever sent. What an adapter hears of its own sending would be its answer, or
    /// the answer, where the bits happen to be those, what an adapter hears.
    pub(super) fn looks_like_answer(self) -> bool {
        self.is_bits() && self.address >> 8 == 3 && self.length() == 3
    }

    /// Unit and PDU of the request.
    fn body(self) -> [u8; 6] {
        let ([a, b], [c, d]) = (self.address.to_be_bytes(), self.count.to_be_bytes());
        [self.unit, self.function, a, b, c, d]
    }

    /// Whether this frame is exactly the answer. `transaction` is compared
    /// where the framing has one.
    pub(super) fn judge(self, frame: &Frame, transaction: u16) -> Judged {
        if frame.transaction.is_some_and(|id| id != transaction) {
            return Judged::Foreign("answer with another transaction id".to_owned());
        }
        if frame.unit != self.unit {
            return Judged::Foreign(format!("answer of unit {} instead", frame.unit));
        }
        if frame.function != self.function {
            return Judged::Foreign("answer with another function code".to_owned());
        }
        match &frame.body {
            Body::Exception(code) => Judged::Exception(*code),
            Body::Data(data) if data.len() == self.length() => Judged::Answer,
            Body::Data(data) => Judged::Foreign(format!(
                "answer of {} data bytes where {} would be right",
                data.len(),
                self.length()
            )),
        }
    }
}

impl Framing {
    /// Answers carry nothing that says which of several like requests they
    /// belong to.
    pub(super) const fn is_ambiguous(self) -> bool {
        !matches!(self, Self::Tcp)
    }

    /// The bytes of a request.
    pub(super) fn request(self, query: Query, transaction: u16) -> Vec<u8> {
        self.wrap(&query.body(), transaction)
    }

    /// Bytes on the line of the right answer.
    pub(super) fn answer_length(self, query: Query) -> usize {
        // Unit, function, byte count.
        let body = 3 + query.length();
        match self {
            Self::Tcp => MBAP + body,
            Self::Rtu => body + 2,
            Self::Ascii => 1 + (body + 1) * 2 + 2,
        }
    }

    /// A body (unit and PDU) as it goes over the line.
    pub(super) fn wrap(self, body: &[u8], transaction: u16) -> Vec<u8> {
        match self {
            Self::Tcp => {
                let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
                [&transaction.to_be_bytes(), &[0, 0], &length.to_be_bytes()[..], body].concat()
            }
            // Low byte first, unlike everything else (Modbus over Serial Line 1.02, 2.5.1.2).
            Self::Rtu => [body, &CRC.checksum(body).to_le_bytes()].concat(),
            Self::Ascii => {
                let mut line = vec![b':'];
                let digits = body.iter().copied().chain([lrc(body)]);
                line.extend(digits.flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
                line.extend(b"\r\n");
                line
            }
        }
    }

    /// Why `bytes`, behind which nothing comes any more, are no frame.
    pub(super) fn broken(self, bytes: &[u8]) -> &'static str {
        let decoded = match self {
            Self::Rtu => rtu(bytes),
            Self::Tcp | Self::Ascii => self.decode(bytes),
        };
        match decoded {
            Decoded::Broken(what) => what,
            Decoded::Incomplete | Decoded::Whole(..) => "answer that broke off",
        }
    }

    /// What `bytes`, all that came since the last whole frame, begin with.
    pub(super) fn decode(self, bytes: &[u8]) -> Decoded {
        match self {
            Self::Tcp => tcp(bytes),
            Self::Rtu => rtu_behind_noise(bytes),
            Self::Ascii => ascii(bytes),
        }
    }
}

fn tcp(bytes: &[u8]) -> Decoded {
    let Some((header, rest)) = bytes.split_first_chunk::<MBAP>() else {
        return Decoded::Incomplete;
    };
    let [t0, t1, p0, p1, l0, l1] = *header;
    if [p0, p1] != [0, 0] {
        return Decoded::Broken("answer that is no Modbus frame: its protocol is not 0");
    }
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    // Unit, function and at least one byte more, in every answer.
    if !(3..=LONGEST_BODY).contains(&length) {
        return Decoded::Broken("answer that is no Modbus frame: its length is impossible");
    }
    let Some(body) = rest.get(..length) else { return Decoded::Incomplete };
    match parse(body) {
        Parsed::Frame(unit, function, body) => {
            let transaction = Some(u16::from_be_bytes([t0, t1]));
            Decoded::Whole(Frame { transaction, unit, function, body }, MBAP + length)
        }
        Parsed::Short => {
            Decoded::Broken("answer that is no Modbus frame: shorter than its byte count")
        }
        Parsed::Long(_) => {
            Decoded::Broken("answer that is no Modbus frame: longer than its byte count")
        }
        Parsed::Wrong(what) => Decoded::Broken(what),
    }
}

/// Drivers of RS-485 lines make a byte or two of noise when they turn the line
/// round, right before the first byte of a frame. Skipping fewer bytes than
/// any frame has cannot skip a frame; and what stands behind them is taken only
/// by its CRC.
fn rtu_behind_noise(bytes: &[u8]) -> Decoded {
    let first = rtu(bytes);
    if !matches!(first, Decoded::Broken(_)) {
        return first;
    }
    let mut open = false;
    for noise in 1..SHORTEST {
        match rtu(bytes.get(noise..).unwrap_or_default()) {
            Decoded::Whole(frame, length) => return Decoded::Whole(frame, noise + length),
            Decoded::Incomplete => open = true,
            Decoded::Broken(_) => {}
        }
    }
    if open { Decoded::Incomplete } else { first }
}

fn rtu(bytes: &[u8]) -> Decoded {
    let length = match parse(bytes) {
        // The second of them without a CRC yet.
        Parsed::Short | Parsed::Frame(..) => return Decoded::Incomplete,
        Parsed::Wrong(what) => return Decoded::Broken(what),
        Parsed::Long(length) => length,
    };
    let Some((body, rest)) = bytes.split_at_checked(length) else { return Decoded::Incomplete };
    let Some(sum) = rest.first_chunk::<2>() else { return Decoded::Incomplete };
    if CRC.checksum(body) != u16::from_le_bytes(*sum) {
        return Decoded::Broken("answer whose CRC is wrong");
    }
    match parse(body) {
        Parsed::Frame(unit, function, body) => {
            Decoded::Whole(Frame { transaction: None, unit, function, body }, length + 2)
        }
        // It was parsed to the same length before.
        _ => Decoded::Broken("answer that is no Modbus frame"),
    }
}

/// A colon begins a frame wherever it stands, also in the midst of another
/// that broke off; what stands before is noise (Modbus over Serial Line 1.02,
/// 2.5.2.1). Only capital digits count, as the specification has it: who takes
/// both kinds doubles what a flipped bit can make of a frame.
fn ascii(bytes: &[u8]) -> Decoded {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return if bytes.len() > LONGEST_LINE {
            Decoded::Broken("answer that does not end")
        } else {
            Decoded::Incomplete
        };
    };
    let line = bytes.get(..end).unwrap_or_default();
    let Some(line) = line.strip_suffix(b"\r") else {
        return Decoded::Broken("answer that does not end with CR LF");
    };
    let Some(start) = line.iter().rposition(|byte| *byte == b':') else {
        return Decoded::Broken("answer without a colon before it");
    };
    let digits = line.get(start + 1..).unwrap_or_default();
    let Some(body) = from_digits(digits) else {
        return Decoded::Broken("answer of something else than pairs of hexadecimal digits");
    };
    let Some((sum, body)) = body.split_last() else {
        return Decoded::Broken("answer without a byte");
    };
    if lrc(body) != *sum {
        return Decoded::Broken("answer whose LRC is wrong");
    }
    match parse(body) {
        Parsed::Frame(unit, function, body) => {
            Decoded::Whole(Frame { transaction: None, unit, function, body }, end + 1)
        }
        Parsed::Short => Decoded::Broken("answer shorter than its byte count"),
        Parsed::Long(_) => Decoded::Broken("answer longer than its byte count"),
        Parsed::Wrong(what) => Decoded::Broken(what),
    }
}

/// A frame of ASCII has at most 513 characters (2.5.2.1); noise may stand before it.
const LONGEST_LINE: usize = 1024;

/// Unit and PDU of an answer, parsed.
enum Parsed {
    Frame(u8, u8, Body),
    /// It goes on.
    Short,
    /// More bytes than it has; it has so many.
    Long(usize),
    Wrong(&'static str),
}

fn parse(bytes: &[u8]) -> Parsed {
    let [unit, function, rest @ ..] = bytes else { return Parsed::Short };
    let (unit, function) = (*unit, *function);
    if !matches!(function & !EXCEPTION, 1..=4) {
        return Parsed::Wrong("answer with a function code that was never asked for");
    }
    let Some((count, data)) = rest.split_first() else { return Parsed::Short };
    let (wanted, body) = if function & EXCEPTION == 0 {
        if *count > MOST_DATA {
            return Parsed::Wrong("answer with an impossible byte count");
        }
        let wanted = usize::from(*count);
        (wanted, data.get(..wanted).map(|data| Body::Data(data.to_vec())))
    } else {
        (0, Some(Body::Exception(*count)))
    };
    match body {
        None => Parsed::Short,
        Some(_) if data.len() > wanted => Parsed::Long(3 + wanted),
        Some(body) => Parsed::Frame(unit, function & !EXCEPTION, body),
    }
}

/// The two's complement of the sum of all bytes (Modbus over Serial Line 1.02, 2.5.2.2).
fn lrc(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

const fn digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 }
}

fn from_digits(digits: &[u8]) -> Option<Vec<u8>> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    };
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(value(*high)? << 4 | value(*low)?)).collect()
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
