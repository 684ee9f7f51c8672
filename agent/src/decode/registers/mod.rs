//! Modbus registers → values.
//!
//! A register holds 16 bits, sent high byte first; how a wider value lies in
//! several registers is each device's own choice, hence [`Order`]. What its bits
//! are says [`Type`], what becomes of the number [`Meaning`]. Integers stay
//! integers unless a scale is given. With one they become the `f64` nearest to
//! the decimal result: 215 × 0.1 is 21.5, not 21.500000000000004.

mod bcd;
mod linear;
mod order;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use linear::Linear;
pub use order::Order;

use crate::decode::number;
use crate::event::Value;

/// What a signal's registers or bit hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// A coil or a discrete input.
    Bool,
    /// One bit of a register.
    Bit,
    /// The low byte of a register (the high one where bytes are swapped).
    I8,
    /// The low byte of a register (the high one where bytes are swapped).
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    /// Four decimal digits, four bits each: 0 to 9999.
    Bcd16,
    /// Eight decimal digits in two registers.
    Bcd32,
    /// Sixteen decimal digits in four registers.
    Bcd64,
    F16,
    F32,
    F64,
    /// UTF-8 text, two bytes a register, up to the first NUL.
    String,
}

impl Type {
    /// The word that stands in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Bit => "bit",
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::I16 => "i16",
            Self::U16 => "u16",
            Self::I32 => "i32",
            Self::U32 => "u32",
            Self::I64 => "i64",
            Self::U64 => "u64",
            Self::Bcd16 => "bcd16",
            Self::Bcd32 => "bcd32",
            Self::Bcd64 => "bcd64",
            Self::F16 => "f16",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::String => "string",
        }
    }

    pub const fn is_number(self) -> bool {
        !matches!(self, Self::Bool | Self::Bit | Self::String)
    }

    pub const fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::F32 | Self::F64)
    }

    /// The whole numbers that it can hold, from the lowest to the highest; `None`
    /// for what is no whole number.
    pub const fn integers(self) -> Option<(i128, i128)> {
        Some(match self {
            Self::I8 => (-0x80, 0x7F),
            Self::U8 => (0, 0xFF),
            Self::I16 => (-0x8000, 0x7FFF),
            Self::U16 => (0, 0xFFFF),
            Self::I32 => (-0x8000_0000, 0x7FFF_FFFF),
            Self::U32 => (0, 0xFFFF_FFFF),
            Self::I64 => (-0x8000_0000_0000_0000, 0x7FFF_FFFF_FFFF_FFFF),
            Self::U64 => (0, 0xFFFF_FFFF_FFFF_FFFF),
            Self::Bcd16 => (0, 9_999),
            Self::Bcd32 => (0, 99_999_999),
            Self::Bcd64 => (0, 9_999_999_999_999_999),
            Self::Bool | Self::Bit | Self::F16 | Self::F32 | Self::F64 | Self::String => {
                return None;
            }
        })
    }

    /// Registers (or bits of a bit table) that a value takes; a string takes
    /// its own length.
    pub const fn width(self, length: u16) -> u16 {
        match self {
            Self::Bool
            | Self::Bit
            | Self::I8
            | Self::U8
            | Self::I16
            | Self::U16
            | Self::Bcd16
            | Self::F16 => 1,
            Self::I32 | Self::U32 | Self::Bcd32 | Self::F32 => 2,
            Self::I64 | Self::U64 | Self::Bcd64 | Self::F64 => 4,
            Self::String => length,
        }
    }

    /// Bits that a value is made of: those of its registers, or of one byte. A
    /// string has none.
    pub const fn bits(self) -> u32 {
        match self {
            Self::I8 | Self::U8 => 8,
            Self::Bool | Self::Bit | Self::I16 | Self::U16 | Self::Bcd16 | Self::F16 => 16,
            Self::I32 | Self::U32 | Self::Bcd32 | Self::F32 => 32,
            Self::I64 | Self::U64 | Self::Bcd64 | Self::F64 => 64,
            Self::String => 0,
        }
    }

    const fn is_highest_set(self, bits: u64) -> bool {
        let ones = self.masked(u64::MAX);
        bits & (ones ^ (ones >> 1)) != 0
    }

    /// The lowest [`Type::bits`] of `bits`.
    pub const fn masked(self, bits: u64) -> u64 {
        match u64::MAX.checked_shr(u64::BITS - self.bits()) {
            Some(mask) => bits & mask,
            None => 0,
        }
    }
}

/// Why there is no value; its neighbours have theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{got} registers where the value takes {expected}")]
    Length { expected: u16, got: usize },
    #[error("text is not UTF-8")]
    Text,
    #[error("a digit is above 9")]
    Digit,
    /// The device answers and says that it has no such value: nothing is wrong
    /// with the registers.
    #[error("the device marks the value as not there")]
    Absent,
}

/// What becomes of a signal's number.
#[derive(Debug, Clone, PartialEq)]
pub enum Meaning {
    /// Nothing: it is the value.
    Number,
    /// A value of this scale and offset, as `f64`.
    Scaled(Linear),
    /// Text: an integer's name, or its digits where it has none, so that a
    /// column of text stays one and a state that nobody has named can be seen.
    Named(BTreeMap<i128, Arc<str>>),
    /// One bit of an integer, 0 is the lowest.
    Bit(u8),
    /// Text: the names of the bits that are set, from the lowest, with a comma between
    /// them; a bit without a name is its number. With the highest one set the others have
    /// no meaning, and there is no value.
    Flags(BTreeMap<i128, Arc<str>>),
}

/// How one signal's registers become a value; made once.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoder {
    pub kind: Type,
    pub order: Order,
    /// Registers of a [`Type::String`].
    pub length: u16,
    /// Bits, [masked](Type::masked) and in [`Order::Abcd`], that say that there is no value;
    /// of a [`Type::String`] any say that the empty text is none.
    pub absent: Vec<u64>,
    /// A [`Type::Bit`] has [`Meaning::Bit`].
    pub meaning: Meaning,
}

impl Decoder {
    pub const fn width(&self) -> u16 {
        self.kind.width(self.length)
    }

    /// The value in exactly [`Decoder::width`] registers.
    pub fn decode(&self, words: &[u16]) -> Result<Value, Error> {
        if words.len() != usize::from(self.width()) {
            return Err(Error::Length { expected: self.width(), got: words.len() });
        }
        if self.kind == Type::String {
            let text = text(words, self.order)?;
            let absent = text.is_empty() && !self.absent.is_empty();
            return if absent { Err(Error::Absent) } else { Ok(Value::Text(text)) };
        }
        let bits = self.kind.masked(self.order.join(words));
        if self.absent.contains(&bits) {
            return Err(Error::Absent);
        }
        if matches!(self.meaning, Meaning::Flags(_)) && self.kind.is_highest_set(bits) {
            return Err(Error::Absent);
        }
        Ok(match self.kind {
            Type::Bool => Value::Bool(bits != 0),
            Type::I8 | Type::I16 | Type::I32 | Type::I64 => self.signed(bits),
            Type::Bit | Type::U8 | Type::U16 | Type::U32 | Type::U64 => self.unsigned(bits),
            Type::Bcd16 | Type::Bcd32 | Type::Bcd64 => {
                self.unsigned(bcd::number(bits).ok_or(Error::Digit)?)
            }
            Type::F16 => self.float(half(bits)),
            Type::F32 => self.float(number::of_f32(f32::from_bits(low_32(bits)))),
            Type::F64 => self.float(f64::from_bits(bits)),
            Type::String => Value::Null,
        })
    }

    fn signed(&self, bits: u64) -> Value {
        let unused = u64::BITS.saturating_sub(self.kind.bits());
        let number = (bits << unused).cast_signed() >> unused;
        self.integer(number.into(), Value::I64(number))
    }

    fn unsigned(&self, number: u64) -> Value {
        self.integer(number.into(), Value::U64(number))
    }

    fn integer(&self, number: i128, plain: Value) -> Value {
        match &self.meaning {
            Meaning::Number => plain,
            Meaning::Scaled(linear) => Value::F64(linear.of_integer(number)),
            Meaning::Named(names) => Value::Text(match names.get(&number) {
                Some(name) => Arc::clone(name),
                None => number.to_string().into(),
            }),
            Meaning::Bit(bit) => {
                Value::Bool(number.checked_shr(u32::from(*bit)).unwrap_or(0) & 1 == 1)
            }
            Meaning::Flags(names) => Value::Text(flags(number, names)),
        }
    }

    fn float(&self, number: f64) -> Value {
        Value::F64(match &self.meaning {
            Meaning::Scaled(linear) => linear.of_float(number),
            _ => number,
        })
    }
}

/// The bits of a number that are set, by their names.
fn flags(number: i128, names: &BTreeMap<i128, Arc<str>>) -> Arc<str> {
    let set = (0..u64::BITS).filter(|bit| number >> bit & 1 == 1);
    let name =
        |bit: u32| names.get(&bit.into()).map_or_else(|| bit.to_string(), ToString::to_string);
    set.map(name).collect::<Vec<_>>().join(",").into()
}

#[expect(clippy::cast_possible_truncation, reason = "two registers are 32 bits")]
const fn low_32(bits: u64) -> u32 {
    bits as u32
}

/// IEEE 754 binary16, exact in `f64`.
fn half(bits: u64) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    // Ten bits of mantissa and five of exponent: both fit into an i32.
    let mantissa = i32::try_from(bits & 0x3FF).unwrap_or(0);
    let exponent = i32::try_from((bits >> 10) & 0x1F).unwrap_or(0);
    sign * match (exponent, mantissa) {
        (0x1F, 0) => f64::INFINITY,
        (0x1F, _) => f64::NAN,
        (0, _) => f64::from(mantissa) * 2f64.powi(-24),
        _ => f64::from(mantissa + 0x400) * 2f64.powi(exponent - 25),
    }
}

/// Text keeps the order of its registers: where words are reversed for
/// numbers, text still is not in any device that we know of.
fn text(words: &[u16], order: Order) -> Result<Arc<str>, Error> {
    let mut bytes = Vec::with_capacity(words.len().saturating_mul(2));
    for word in words {
        bytes.extend_from_slice(&order.word(*word).to_be_bytes());
    }
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    let text = String::from_utf8(bytes).map_err(|_| Error::Text)?;
    Ok(Arc::from(text.trim_end_matches(' ')))
}
