//! Modbus registers → values.
//!
//! A register holds 16 bits, sent high byte first; how a wider value lies in
//! several registers is each device's own choice, hence [`Order`]. Integers
//! stay integers unless a scale is given. With one they become the `f64`
//! nearest to the decimal result: 215 × 0.1 is 21.5, not 21.500000000000004.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

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
            Self::F16 => "f16",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::String => "string",
        }
    }

    pub const fn is_number(self) -> bool {
        !matches!(self, Self::Bool | Self::Bit | Self::String)
    }

    /// Registers (or bits of a bit table) that a value takes; a string takes
    /// its own length.
    pub const fn width(self, length: u16) -> u16 {
        match self {
            Self::Bool | Self::Bit | Self::I8 | Self::U8 | Self::I16 | Self::U16 | Self::F16 => 1,
            Self::I32 | Self::U32 | Self::F32 => 2,
            Self::I64 | Self::U64 | Self::F64 => 4,
            Self::String => length,
        }
    }
}

/// Where the bytes A (highest) to D (lowest) of a value lie. Values of four
/// registers follow the same rule: words, bytes within words, or both are
/// reversed.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Big-endian, as Modbus itself has it.
    #[default]
    Abcd,
    /// Words reversed.
    Cdab,
    /// Bytes swapped within each word.
    Badc,
    /// Both: little-endian.
    Dcba,
}

impl Order {
    const fn reverses_words(self) -> bool {
        matches!(self, Self::Cdab | Self::Dcba)
    }

    const fn swaps_bytes(self) -> bool {
        matches!(self, Self::Badc | Self::Dcba)
    }

    const fn word(self, word: u16) -> u16 {
        if self.swaps_bytes() { word.swap_bytes() } else { word }
    }

    /// At most four words as one number, the highest byte first.
    fn join(self, words: &[u16]) -> u64 {
        let push = |bits: u64, word: &u16| (bits << 16) | u64::from(self.word(*word));
        if self.reverses_words() {
            words.iter().rev().fold(0, push)
        } else {
            words.iter().fold(0, push)
        }
    }
}

/// Registers that are not the value they should be; the signal has no value
/// this time, its neighbours have theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{got} registers where the value takes {expected}")]
    Length { expected: u16, got: usize },
    #[error("text is not UTF-8")]
    Text,
}

/// How one signal's registers become its value; made once.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoder {
    pub kind: Type,
    pub order: Order,
    /// Index of a [`Type::Bit`], 0 is the lowest.
    pub bit: u8,
    /// Registers of a [`Type::String`].
    pub length: u16,
    pub linear: Option<Linear>,
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
            return text(words, self.order).map(Value::Text);
        }
        let bits = self.order.join(words);
        Ok(match self.kind {
            Type::Bool => Value::Bool(bits != 0),
            Type::Bit => Value::Bool(bits.checked_shr(u32::from(self.bit)).unwrap_or(0) & 1 == 1),
            Type::I8 => self.signed(bits, 8),
            Type::I16 => self.signed(bits, 16),
            Type::I32 => self.signed(bits, 32),
            Type::I64 => self.signed(bits, 64),
            Type::U8 => self.unsigned(bits & 0xFF),
            Type::U16 | Type::U32 | Type::U64 => self.unsigned(bits),
            Type::F16 => self.float(half(bits)),
            Type::F32 => self.float(f64::from(f32::from_bits(low_32(bits)))),
            Type::F64 => self.float(f64::from_bits(bits)),
            Type::String => Value::Null,
        })
    }

    fn signed(&self, bits: u64, width: u32) -> Value {
        let unused = u64::BITS - width;
        let number = (bits << unused).cast_signed() >> unused;
        match &self.linear {
            None => Value::I64(number),
            Some(linear) => Value::F64(linear.of_integer(i128::from(number))),
        }
    }

    fn unsigned(&self, number: u64) -> Value {
        match &self.linear {
            None => Value::U64(number),
            Some(linear) => Value::F64(linear.of_integer(i128::from(number))),
        }
    }

    fn float(&self, number: f64) -> Value {
        Value::F64(self.linear.as_ref().map_or(number, |linear| linear.of_float(number)))
    }
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

/// `value × scale + offset`, computed in decimal as the operator wrote it.
///
/// 0.1 has no exact `f64`, so `215.0 * 0.1` may miss the nearest `f64` to 21.5.
/// But every `f64` prints as its shortest decimal, which is what was written:
/// `scale = m / 10^k`. So for integers `(value × m + offset) / 10^k` has an
/// exact numerator and, while that is below 2^53 and k at most 22, exact
/// operands of one IEEE division: the result is correctly rounded. Beyond 2^53
/// it is off by at most one rounding more.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    scale: f64,
    offset: f64,
    decimal: Option<Decimal>,
}

#[derive(Debug, Clone, PartialEq)]
struct Decimal {
    factor: i128,
    offset: i128,
    /// 10^k, exact.
    divisor: f64,
}

/// The largest power of ten that an `f64` holds exactly.
const MAX_PLACES: u32 = 22;
/// With |factor| ≤ 10^18, |value| < 2^64 and |offset| ≤ 10^36 the numerator
/// stays below 2 × 10^37, far inside an i128.
const MAX_FACTOR: i128 = 10_i128.pow(18);
const MAX_OFFSET: i128 = 10_i128.pow(36);

impl Linear {
    /// `None` if neither is given: then integers stay integers.
    pub fn new(scale: Option<f64>, offset: Option<f64>) -> Option<Self> {
        if scale.is_none() && offset.is_none() {
            return None;
        }
        let (scale, offset) = (scale.unwrap_or(1.0), offset.unwrap_or(0.0));
        Some(Self { scale, offset, decimal: Decimal::new(scale, offset) })
    }

    #[expect(clippy::cast_precision_loss, reason = "this is the one rounding beyond 2^53")]
    fn of_integer(&self, number: i128) -> f64 {
        match &self.decimal {
            Some(d) => (number * d.factor + d.offset) as f64 / d.divisor,
            None => (number as f64).mul_add(self.scale, self.offset),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a float is not exact anyhow")]
    fn of_float(&self, number: f64) -> f64 {
        if let Some(d) = &self.decimal {
            let result = (number * d.factor as f64 + d.offset as f64) / d.divisor;
            if result.is_finite() {
                return result;
            }
        }
        number * self.scale + self.offset
    }
}

impl Decimal {
    fn new(scale: f64, offset: f64) -> Option<Self> {
        let (factor, factor_places) = shortest(scale)?;
        let (offset, offset_places) = shortest(offset)?;
        let places = factor_places.max(offset_places);
        let raise = |m: i128, by: u32| m.checked_mul(10_i128.checked_pow(by)?);
        let factor = raise(factor, places - factor_places)?;
        let offset = raise(offset, places - offset_places)?;
        if factor.abs() > MAX_FACTOR || offset.abs() > MAX_OFFSET {
            return None;
        }
        let divisor = 10f64.powi(i32::try_from(places).ok()?);
        Some(Self { factor, offset, divisor })
    }
}

/// The number as `mantissa / 10^places`, by its shortest decimal.
fn shortest(number: f64) -> Option<(i128, u32)> {
    let printed = format!("{number:e}");
    let (digits, exponent) = printed.split_once('e')?;
    let fraction = digits.split_once('.').map_or(0, |(_, f)| f.len());
    let mantissa: i128 = digits.replace('.', "").parse().ok()?;
    let places = i32::try_from(fraction).ok()?.checked_sub(exponent.parse().ok()?)?;
    if places < 0 {
        let zeros = places.unsigned_abs();
        return Some((mantissa.checked_mul(10_i128.checked_pow(zeros)?)?, 0));
    }
    u32::try_from(places).ok().filter(|p| *p <= MAX_PLACES).map(|p| (mantissa, p))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ORDERS: [Order; 4] = [Order::Abcd, Order::Cdab, Order::Badc, Order::Dcba];
    const TYPES: [Type; 14] = [
        Type::Bool,
        Type::Bit,
        Type::I8,
        Type::U8,
        Type::I16,
        Type::U16,
        Type::I32,
        Type::U32,
        Type::I64,
        Type::U64,
        Type::F16,
        Type::F32,
        Type::F64,
        Type::String,
    ];

    fn decoder(kind: Type, order: Order) -> Decoder {
        Decoder { kind, order, bit: 0, length: 3, linear: None }
    }

    #[track_caller]
    fn check(kind: Type, order: Order, words: &[u16], expected: Value) {
        assert_eq!(decoder(kind, order).decode(words), Ok(expected), "{kind:?} {order:?}");
    }

    /// The registers in which a device of this order sends the number.
    fn encode(bits: u64, width: u16, order: Order) -> Vec<u16> {
        let bytes = bits.to_be_bytes();
        let mut words: Vec<u16> = bytes[8 - 2 * usize::from(width)..]
            .chunks_exact(2)
            .map(|pair| order.word(u16::from_be_bytes([pair[0], pair[1]])))
            .collect();
        if order.reverses_words() {
            words.reverse();
        }
        words
    }

    #[test]
    fn the_four_orders_of_a_32_bit_value() {
        let expected = Value::U64(0x0A0B_0C0D);
        check(Type::U32, Order::Abcd, &[0x0A0B, 0x0C0D], expected.clone());
        check(Type::U32, Order::Cdab, &[0x0C0D, 0x0A0B], expected.clone());
        check(Type::U32, Order::Badc, &[0x0B0A, 0x0D0C], expected.clone());
        check(Type::U32, Order::Dcba, &[0x0D0C, 0x0B0A], expected);
    }

    #[test]
    fn the_four_orders_of_a_64_bit_value() {
        let expected = Value::U64(0x0102_0304_0506_0708);
        check(Type::U64, Order::Abcd, &[0x0102, 0x0304, 0x0506, 0x0708], expected.clone());
        check(Type::U64, Order::Cdab, &[0x0708, 0x0506, 0x0304, 0x0102], expected.clone());
        check(Type::U64, Order::Badc, &[0x0201, 0x0403, 0x0605, 0x0807], expected.clone());
        check(Type::U64, Order::Dcba, &[0x0807, 0x0605, 0x0403, 0x0201], expected);
    }

    #[test]
    fn the_orders_of_one_register_swap_its_bytes_or_not() {
        check(Type::I16, Order::Cdab, &[0xFF29], Value::I64(-215));
        check(Type::I16, Order::Dcba, &[0x29FF], Value::I64(-215));
        check(Type::U8, Order::Abcd, &[0x12FE], Value::U64(0xFE));
        check(Type::U8, Order::Badc, &[0x12FE], Value::U64(0x12));
        check(Type::I8, Order::Abcd, &[0x12FE], Value::I64(-2));
    }

    #[test]
    fn integers_keep_sign_and_width() {
        check(Type::I16, Order::Abcd, &[0x8000], Value::I64(-32_768));
        check(Type::U16, Order::Abcd, &[0xFFFF], Value::U64(65_535));
        check(Type::I32, Order::Abcd, &[0xFFFF, 0xFFFE], Value::I64(-2));
        check(Type::U32, Order::Abcd, &[0xFFFF, 0xFFFF], Value::U64(4_294_967_295));
        check(Type::I64, Order::Abcd, &[0x8000, 0, 0, 0], Value::I64(i64::MIN));
        check(Type::U64, Order::Abcd, &[0xFFFF; 4], Value::U64(u64::MAX));
    }

    #[test]
    fn floats_of_all_widths_are_exact() {
        check(Type::F16, Order::Abcd, &[0x4D60], Value::F64(21.5));
        check(Type::F16, Order::Abcd, &[0x0001], Value::F64(2f64.powi(-24)));
        check(Type::F16, Order::Abcd, &[0xFBFF], Value::F64(-65_504.0));
        check(Type::F16, Order::Abcd, &[0xFC00], Value::F64(f64::NEG_INFINITY));
        check(Type::F32, Order::Abcd, &[0x41AC, 0x0000], Value::F64(21.5));
        check(Type::F32, Order::Cdab, &[0x0000, 0x41AC], Value::F64(21.5));
        check(Type::F64, Order::Abcd, &[0x3FB9, 0x9999, 0x9999, 0x999A], Value::F64(0.1));
        let nan = decoder(Type::F32, Order::Abcd).decode(&[0x7FC0, 0]);
        assert!(matches!(nan, Ok(Value::F64(f)) if f.is_nan()));
    }

    #[test]
    fn bits_are_counted_from_the_lowest() {
        let bit = |bit, order| Decoder { bit, ..decoder(Type::Bit, order) }.decode(&[0x8001]);
        assert_eq!(bit(0, Order::Abcd), Ok(Value::Bool(true)));
        assert_eq!(bit(15, Order::Abcd), Ok(Value::Bool(true)));
        assert_eq!(bit(7, Order::Abcd), Ok(Value::Bool(false)));
        assert_eq!(bit(7, Order::Badc), Ok(Value::Bool(true)));
    }

    #[test]
    fn text_ends_at_a_nul_and_loses_its_padding() {
        let text = |s: &str| Value::Text(Arc::from(s));
        check(Type::String, Order::Abcd, &[0x4142, 0x4300, 0x5858], text("ABC"));
        check(Type::String, Order::Badc, &[0x4241, 0x2043, 0x2020], text("ABC"));
        check(Type::String, Order::Cdab, &[0x4142, 0x4344, 0x4546], text("ABCDEF"));
        check(Type::String, Order::Abcd, &[0, 0, 0], text(""));
        let error = decoder(Type::String, Order::Abcd).decode(&[0xFF41, 0, 0]);
        assert_eq!(error, Err(Error::Text));
    }

    #[test]
    fn the_wrong_number_of_registers_is_an_error() {
        let error = decoder(Type::U32, Order::Abcd).decode(&[1]).unwrap_err();
        assert_eq!(error.to_string(), "1 registers where the value takes 2");
    }

    #[test]
    fn a_scaled_integer_is_the_f64_nearest_to_the_decimal_result() {
        for (scale, exponent) in [(0.1, -1), (0.01, -2), (0.001, -3), (10.0, 1)] {
            let linear = Linear::new(Some(scale), None).unwrap();
            for number in i16::MIN..=i16::MAX {
                let expected: f64 = format!("{number}e{exponent}").parse().unwrap();
                let got = linear.of_integer(i128::from(number));
                assert_eq!(got.to_bits(), expected.to_bits(), "{number} at {scale}");
            }
        }
    }

    #[test]
    fn scale_and_offset_make_the_value_that_was_meant() {
        let scaled = |scale, offset, words: &[u16]| {
            let linear = Linear::new(scale, offset);
            Decoder { linear, ..decoder(Type::I16, Order::Abcd) }.decode(words)
        };
        assert_eq!(scaled(Some(0.1), None, &[215]), Ok(Value::F64(21.5)));
        assert_eq!(scaled(Some(0.1), None, &[3]), Ok(Value::F64(0.3)));
        assert_eq!(scaled(Some(0.3), Some(-0.1), &[1]), Ok(Value::F64(0.2)));
        assert_eq!(scaled(Some(0.05), Some(-40.0), &[1_230]), Ok(Value::F64(21.5)));
        assert_eq!(scaled(None, Some(0.7), &[1]), Ok(Value::F64(1.7)));
        assert_eq!(scaled(Some(1e-300), None, &[2]), Ok(Value::F64(2e-300)));
        assert_eq!(scaled(Some(1e300), None, &[2]), Ok(Value::F64(2e300)));
        assert_eq!(scaled(None, None, &[2]), Ok(Value::I64(2)));
    }

    #[test]
    fn a_scaled_counter_of_64_bits_does_not_overflow() {
        let linear = Linear::new(Some(0.001), Some(1e15));
        let wide = Decoder { linear, ..decoder(Type::U64, Order::Abcd) };
        assert_eq!(wide.decode(&[0xFFFF; 4]), Ok(Value::F64(1.944_674_407_370_955e16)));
    }

    proptest! {
        #[test]
        fn any_registers_give_a_value_or_an_error(
            words in prop::collection::vec(any::<u16>(), 0..130),
            kind in prop::sample::select(&TYPES[..]),
            order in prop::sample::select(&ORDERS[..]),
            bit in any::<u8>(),
            length in any::<u16>(),
            scale in any::<Option<f64>>(),
            offset in any::<Option<f64>>(),
        ) {
            let linear = Linear::new(scale, offset);
            let decoder = Decoder { kind, order, bit, length, linear };
            let fits = words.len() == usize::from(decoder.width());
            match decoder.decode(&words) {
                Ok(_) => prop_assert!(fits),
                Err(Error::Text) => prop_assert!(fits && kind == Type::String),
                Err(Error::Length { .. }) => prop_assert!(!fits),
            }
        }

        #[test]
        fn what_a_device_encodes_is_what_is_decoded(
            number in any::<i64>(),
            order in prop::sample::select(&ORDERS[..]),
        ) {
            let bits = number.cast_unsigned();
            let expected = Ok(Value::I64(number));
            prop_assert_eq!(decoder(Type::I64, order).decode(&encode(bits, 4, order)), expected);
            let narrow = Ok(Value::I64(i64::from(low_32(bits).cast_signed())));
            prop_assert_eq!(decoder(Type::I32, order).decode(&encode(bits, 2, order)), narrow);
            let narrow = Ok(Value::U64(bits & 0xFFFF));
            prop_assert_eq!(decoder(Type::U16, order).decode(&encode(bits, 1, order)), narrow);
            let float = decoder(Type::F64, order).decode(&encode(bits, 4, order));
            prop_assert!(matches!(float, Ok(Value::F64(f)) if f.to_bits() == bits || f.is_nan()));
        }
    }
}
