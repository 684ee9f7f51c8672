//! A CBOR payload (RFC 8949) → a tree.
//!
//! Maps are objects; a key is text or a whole number, which is its digits. Of the tags
//! (RFC 8949, 3.4; RFC 9562 for UUIDs at IANA's tag 37) those are read that a field has a
//! type for: 0 and 1 (instants), 2 and 3 (large whole numbers), 4 (decimal fractions), 37
//! (UUID). What stands behind another tag, or behind one of these and does not fit, is
//! taken as it is.

use std::borrow::Cow;

use ciborium_ll::{Decoder, Header, simple};

use super::number::of_f32;
use super::time;
use super::tree::{Budget, Node, TooMuch};
use crate::event::{Decimal, Timestamp, Value};

/// Bytes of a number of single precision, with the one that says so.
const SINGLE: usize = 5;

/// Read at once of a text or of bytes.
const CHUNK: usize = 512;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("payload is no CBOR: byte {0} begins nothing that can stand there")]
    Syntax(usize),
    #[error("payload is no CBOR: it ends in the midst of a value")]
    Short,
    #[error("payload is no CBOR: {0} bytes follow its value")]
    Behind(usize),
    #[error("the key of a map is neither text nor a whole number")]
    Key,
    #[error("{0}")]
    TooMuch(#[from] TooMuch),
}

impl<T> From<ciborium_ll::Error<T>> for Error {
    fn from(error: ciborium_ll::Error<T>) -> Self {
        match error {
            ciborium_ll::Error::Io(_) => Self::Short,
            ciborium_ll::Error::Syntax(at) => Self::Syntax(at),
        }
    }
}

/// The one value of a payload.
pub fn tree(payload: &[u8]) -> Result<Node<'static>, Error> {
    let mut walk = Walk { decoder: Decoder::from(payload), budget: Budget::default() };
    let node = walk.next(0)?;
    let behind = payload.len().saturating_sub(walk.decoder.offset());
    if behind > 0 { Err(Error::Behind(behind)) } else { Ok(node) }
}

struct Walk<'p> {
    decoder: Decoder<&'p [u8]>,
    budget: Budget,
}

impl Walk<'_> {
    /// A number of single precision is meant by its digits ([`of_f32`]).
    #[expect(clippy::cast_possible_truncation, reason = "the number was one of 32 bits")]
    fn pull(&mut self) -> Result<Header, Error> {
        let at = self.decoder.offset();
        let header = self.decoder.pull()?;
        Ok(match header {
            Header::Float(number) if self.decoder.offset() - at == SINGLE => {
                Header::Float(of_f32(number as f32))
            }
            header => header,
        })
    }

    fn next(&mut self, depth: usize) -> Result<Node<'static>, Error> {
        let at = self.decoder.offset();
        match self.pull()? {
            Header::Break => Err(Error::Syntax(at)),
            header => self.node(header, depth),
        }
    }

    fn node(&mut self, header: Header, depth: usize) -> Result<Node<'static>, Error> {
        self.budget.spend(depth)?;
        Ok(match header {
            Header::Positive(number) => Node::Plain(positive(number)),
            Header::Negative(number) => Node::Plain(whole(-1 - i128::from(number))),
            Header::Float(number) => Node::Plain(Value::F64(number)),
            Header::Simple(simple::TRUE) => Node::Plain(Value::Bool(true)),
            Header::Simple(simple::FALSE) => Node::Plain(Value::Bool(false)),
            // Null, undefined, and what nobody has given a meaning to.
            Header::Simple(_) => Node::Plain(Value::Null),
            Header::Text(length) => Node::Plain(Value::Text(self.text(length)?.into())),
            Header::Bytes(length) => Node::Plain(Value::Bytes(self.bytes(length)?.into())),
            Header::Array(length) => Node::Array(self.array(length, depth)?),
            Header::Map(length) => Node::Object(self.map(length, depth)?),
            Header::Tag(tag) => {
                let inner = self.next(depth + 1)?;
                match meaning(tag, &inner) {
                    Some(value) => Node::Plain(value),
                    None => inner,
                }
            }
            Header::Break => return Err(Error::Syntax(self.decoder.offset())),
        })
    }

    /// The next element of an array or a map, if it has one more.
    fn more(&mut self, left: &mut Option<usize>) -> Result<Option<Header>, Error> {
        match left {
            Some(0) => return Ok(None),
            Some(left) => *left -= 1,
            None => {}
        }
        let at = self.decoder.offset();
        match (self.pull()?, left) {
            (Header::Break, None) => Ok(None),
            (Header::Break, Some(_)) => Err(Error::Syntax(at)),
            (header, _) => Ok(Some(header)),
        }
    }

    fn array(
        &mut self,
        mut left: Option<usize>,
        depth: usize,
    ) -> Result<Vec<Node<'static>>, Error> {
        let mut items = Vec::new();
        while let Some(header) = self.more(&mut left)? {
            items.push(self.node(header, depth + 1)?);
        }
        Ok(items)
    }

    fn map(
        &mut self,
        mut left: Option<usize>,
        depth: usize,
    ) -> Result<Vec<(Cow<'static, str>, Node<'static>)>, Error> {
        let mut members = Vec::new();
        while let Some(header) = self.more(&mut left)? {
            let key = match header {
                Header::Text(length) => self.text(length)?,
                Header::Positive(number) => number.to_string(),
                Header::Negative(number) => (-1 - i128::from(number)).to_string(),
                _ => return Err(Error::Key),
            };
            members.push((Cow::Owned(key), self.next(depth + 1)?));
        }
        Ok(members)
    }

    /// A length that the payload says is not believed: memory grows with what is there.
    fn text(&mut self, length: Option<usize>) -> Result<String, Error> {
        let (mut text, mut chunk) = (String::new(), [0; CHUNK]);
        let mut segments = self.decoder.text(length);
        while let Some(mut segment) = segments.pull()? {
            while let Some(part) = segment.pull(&mut chunk)? {
                text.push_str(part);
            }
        }
        Ok(text)
    }

    fn bytes(&mut self, length: Option<usize>) -> Result<Vec<u8>, Error> {
        let (mut bytes, mut chunk) = (Vec::new(), [0; CHUNK]);
        let mut segments = self.decoder.bytes(length);
        while let Some(mut segment) = segments.pull()? {
            while let Some(part) = segment.pull(&mut chunk)? {
                bytes.extend_from_slice(part);
            }
        }
        Ok(bytes)
    }
}

/// As JSON has it: signed where that is wide enough.
fn positive(number: u64) -> Value {
    i64::try_from(number).map_or(Value::U64(number), Value::I64)
}

fn whole(number: i128) -> Value {
    if let Ok(number) = i64::try_from(number) {
        return Value::I64(number);
    }
    match u64::try_from(number) {
        Ok(number) => Value::U64(number),
        Err(_) => Value::Decimal(Decimal { unscaled: number, scale: 0 }),
    }
}

/// What a tag makes of what stands behind it.
fn meaning(tag: u64, node: &Node<'_>) -> Option<Value> {
    match (tag, node) {
        (0, Node::Plain(Value::Text(text))) => {
            let time: jiff::Timestamp = text.parse().ok()?;
            let time = Timestamp(i64::try_from(time.as_nanosecond()).ok()?);
            Some(Value::Timestamp { time, zoned: true })
        }
        (1, Node::Plain(seconds)) => {
            Some(Value::Timestamp { time: time::unix_seconds(seconds)?, zoned: true })
        }
        (2, Node::Plain(Value::Bytes(bytes))) => magnitude(bytes).map(whole),
        (3, Node::Plain(Value::Bytes(bytes))) => magnitude(bytes).map(|n| whole(-1 - n)),
        (4, Node::Array(parts)) => fraction(parts),
        (37, Node::Plain(Value::Bytes(bytes))) => {
            <[u8; 16]>::try_from(&**bytes).ok().map(Value::Uuid)
        }
        _ => None,
    }
}

/// A whole number of up to 15 bytes, the highest first: what a decimal holds.
fn magnitude(bytes: &[u8]) -> Option<i128> {
    let leading = bytes.iter().take_while(|byte| **byte == 0).count();
    let digits = bytes.get(leading..)?;
    let fits = digits.len() < size_of::<i128>();
    fits.then(|| digits.iter().fold(0, |sum, byte| sum << 8 | i128::from(*byte)))
}

/// `[exponent, mantissa]` (RFC 8949, 3.4.4).
fn fraction(parts: &[Node<'_>]) -> Option<Value> {
    let [Node::Plain(Value::I64(exponent)), Node::Plain(mantissa)] = parts else { return None };
    let mantissa = match *mantissa {
        Value::I64(number) => i128::from(number),
        Value::U64(number) => i128::from(number),
        Value::Decimal(number) if number.scale == 0 => number.unscaled,
        _ => return None,
    };
    if let Ok(power) = u32::try_from(*exponent) {
        return Some(whole(mantissa.checked_mul(10_i128.checked_pow(power)?)?));
    }
    // A decimal of the databases behind it has 38 digits.
    let scale = u8::try_from(exponent.checked_neg()?).ok().filter(|scale| *scale <= 38)?;
    Some(Value::Decimal(Decimal { unscaled: mantissa, scale }))
}

#[cfg(test)]
#[path = "cbor_tests.rs"]
mod tests;
