//! One value by its data type (Sparkplug 3.0, 6.4.16).

use super::array;
use super::proto::{Argument, Cell, DataType, MetricValue};
use crate::decode::number::of_f32;
use crate::event::{Timestamp, Value};

/// What the one-of fields of metrics, cells and parameters have in common.
#[derive(Debug, Clone, Copy)]
pub(super) enum Found<'a> {
    Int(u32),
    Long(u64),
    Float(f32),
    Double(f64),
    Boolean(bool),
    String(&'a str),
    Bytes(&'a [u8]),
}

/// The type with this number; 0 and what nobody has defined are none.
pub(super) fn datatype(number: Option<u32>) -> Option<DataType> {
    let number = i32::try_from(number?).ok()?;
    DataType::try_from(number).ok().filter(|datatype| *datatype != DataType::Unknown)
}

impl<'a> Found<'a> {
    /// `None` for a data set and a template, which are no single value.
    pub(super) fn metric(value: &'a MetricValue) -> Option<Self> {
        Some(match value {
            MetricValue::Int(n) => Self::Int(*n),
            MetricValue::Long(n) => Self::Long(*n),
            MetricValue::Float(n) => Self::Float(*n),
            MetricValue::Double(n) => Self::Double(*n),
            MetricValue::Boolean(b) => Self::Boolean(*b),
            MetricValue::String(text) => Self::String(text),
            MetricValue::Bytes(bytes) => Self::Bytes(bytes),
            MetricValue::DataSet(_) | MetricValue::Template(_) => return None,
        })
    }

    pub(super) fn cell(value: &'a Cell) -> Self {
        match value {
            Cell::Int(n) => Self::Int(*n),
            Cell::Long(n) => Self::Long(*n),
            Cell::Float(n) => Self::Float(*n),
            Cell::Double(n) => Self::Double(*n),
            Cell::Boolean(b) => Self::Boolean(*b),
            Cell::String(text) => Self::String(text),
        }
    }

    pub(super) fn argument(value: &'a Argument) -> Self {
        match value {
            Argument::Int(n) => Self::Int(*n),
            Argument::Long(n) => Self::Long(*n),
            Argument::Float(n) => Self::Float(*n),
            Argument::Double(n) => Self::Double(*n),
            Argument::Boolean(b) => Self::Boolean(*b),
            Argument::String(text) => Self::String(text),
        }
    }

    /// As a value of this type; `None` where it is none.
    pub(super) fn value(self, datatype: DataType) -> Option<Value> {
        match datatype {
            DataType::Int8 => self.signed(8),
            DataType::Int16 => self.signed(16),
            DataType::Int32 => self.signed(32),
            DataType::Int64 => self.bits().map(|bits| Value::I64(bits.cast_signed())),
            DataType::UInt8 => self.unsigned(8),
            DataType::UInt16 => self.unsigned(16),
            DataType::UInt32 => self.unsigned(32),
            DataType::UInt64 => self.bits().map(Value::U64),
            DataType::Float | DataType::Double => match self {
                Self::Float(number) => Some(Value::F64(of_f32(number))),
                Self::Double(number) => Some(Value::F64(number)),
                _ => None,
            },
            DataType::Boolean => match self {
                Self::Boolean(is) => Some(Value::Bool(is)),
                _ => None,
            },
            DataType::String | DataType::Text => self.text().map(|text| Value::Text(text.into())),
            DataType::Uuid => self.text().and_then(uuid),
            DataType::DateTime => self.bits().and_then(instant),
            DataType::Bytes | DataType::File => {
                self.bytes().map(|bytes| Value::Bytes(bytes.into()))
            }
            _ => self.bytes().and_then(|bytes| array::decode(datatype, bytes)),
        }
    }

    /// Values that an array of this type has at most; 0 for what is none.
    pub(super) fn values(self, datatype: DataType) -> usize {
        self.bytes().map_or(0, |bytes| array::most(datatype, bytes))
    }

    /// As the wire has it, where no type says what it means: an integer has no sign then.
    pub(super) fn as_it_came(self) -> Value {
        match self {
            Self::Int(number) => Value::I64(number.into()),
            Self::Long(number) => Value::U64(number),
            Self::Float(number) => Value::F64(of_f32(number)),
            Self::Double(number) => Value::F64(number),
            Self::Boolean(is) => Value::Bool(is),
            Self::String(text) => Value::Text(text.into()),
            Self::Bytes(bytes) => Value::Bytes(bytes.into()),
        }
    }

    /// An integer; implementations put those of 32 bits into either field.
    fn bits(self) -> Option<u64> {
        match self {
            Self::Int(bits) => Some(bits.into()),
            Self::Long(bits) => Some(bits),
            _ => None,
        }
    }

    /// Two's complement of `width` bits, also where it was extended to 32 or 64 of them.
    fn signed(self, width: u32) -> Option<Value> {
        let bits = self.bits()?;
        let number = match u32::try_from(bits) {
            Ok(bits) => i64::from(bits.cast_signed()),
            Err(_) => bits.cast_signed(),
        };
        let half = 1_i64 << (width - 1);
        match number {
            _ if (-half..half).contains(&number) => Some(Value::I64(number)),
            _ if (half..2 * half).contains(&number) => Some(Value::I64(number - 2 * half)),
            _ => None,
        }
    }

    fn unsigned(self, width: u32) -> Option<Value> {
        let number = i64::try_from(self.bits()?).ok()?;
        (number < 1 << width).then_some(Value::I64(number))
    }

    const fn text(self) -> Option<&'a str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    const fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// Milliseconds since 1970.
pub(super) fn instant(millis: u64) -> Option<Value> {
    let time = time(millis)?;
    Some(Value::Timestamp { time, zoned: true })
}

/// The same as a time; `None` for one that nanoseconds cannot say (after 2262).
pub(super) fn time(millis: u64) -> Option<Timestamp> {
    i64::try_from(millis).ok()?.checked_mul(1_000_000).map(Timestamp)
}

/// Eight, four, four, four and twelve hexadecimal digits; the hyphens may be missing.
fn uuid(text: &str) -> Option<Value> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| *c != '-')
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let pairs: Vec<u8> =
        digits.chunks(2).map(|pair| pair.iter().fold(0, |n, digit| n << 4 | digit)).collect();
    let whole = digits.len() == 32;
    whole.then(|| pairs.try_into().ok()).flatten().map(Value::Uuid)
}
