//! Arrays, packed into bytes (Sparkplug 3.0, 6.4.17; types 22 to 34).
//!
//! The text of the specification says little-endian for all of them, and so do the
//! implementations; its examples for floats are written the other way round.

use super::proto::DataType;
use super::value;
use crate::decode::number::of_f32;
use crate::event::Value;

/// `None` where the bytes are no such array.
pub(super) fn decode(datatype: DataType, bytes: &[u8]) -> Option<Value> {
    let values = match datatype {
        DataType::Int8Array => {
            bytes.iter().map(|byte| Some(Value::I64(byte.cast_signed().into()))).collect()
        }
        DataType::UInt8Array => bytes.iter().map(|byte| Some(Value::I64((*byte).into()))).collect(),
        DataType::Int16Array => packed(bytes, |b| Some(Value::I64(i16::from_le_bytes(b).into()))),
        DataType::Int32Array => packed(bytes, |b| Some(Value::I64(i32::from_le_bytes(b).into()))),
        DataType::Int64Array => packed(bytes, |b| Some(Value::I64(i64::from_le_bytes(b)))),
        DataType::UInt16Array => packed(bytes, |b| Some(Value::I64(u16::from_le_bytes(b).into()))),
        DataType::UInt32Array => packed(bytes, |b| Some(Value::I64(u32::from_le_bytes(b).into()))),
        DataType::UInt64Array => packed(bytes, |b| Some(Value::U64(u64::from_le_bytes(b)))),
        DataType::FloatArray => packed(bytes, |b| Some(Value::F64(of_f32(f32::from_le_bytes(b))))),
        DataType::DoubleArray => packed(bytes, |b| Some(Value::F64(f64::from_le_bytes(b)))),
        DataType::DateTimeArray => packed(bytes, |b| value::instant(u64::from_le_bytes(b))),
        DataType::BooleanArray => booleans(bytes),
        DataType::StringArray => strings(bytes),
        _ => None,
    }?;
    Some(Value::Array(values.into()))
}

/// Values that are in there at most.
pub(super) fn most(datatype: DataType, bytes: &[u8]) -> usize {
    match datatype {
        DataType::BooleanArray => bytes.len().saturating_mul(8),
        DataType::StringArray => bytes.split(|byte| *byte == 0).count(),
        DataType::Int16Array | DataType::UInt16Array => bytes.len() / 2,
        DataType::Int32Array | DataType::UInt32Array | DataType::FloatArray => bytes.len() / 4,
        DataType::Int64Array
        | DataType::UInt64Array
        | DataType::DoubleArray
        | DataType::DateTimeArray => bytes.len() / 8,
        DataType::Int8Array | DataType::UInt8Array => bytes.len(),
        _ => 0,
    }
}

fn packed<const N: usize>(
    bytes: &[u8],
    value: impl Fn([u8; N]) -> Option<Value>,
) -> Option<Vec<Value>> {
    let (values, rest) = bytes.as_chunks::<N>();
    rest.is_empty().then(|| values.iter().map(|bytes| value(*bytes)).collect()).flatten()
}

/// Their number in four bytes, then a bit for each, the highest of a byte first.
fn booleans(bytes: &[u8]) -> Option<Vec<Value>> {
    let (count, bits) = bytes.split_first_chunk::<4>()?;
    let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
    if bits.len() != count.div_ceil(8) {
        return None;
    }
    let bit = |at: usize| bits.get(at / 8).map(|byte| Value::Bool(byte << (at % 8) & 0x80 != 0));
    (0..count).map(bit).collect()
}

/// Each ends with a zero byte.
fn strings(bytes: &[u8]) -> Option<Vec<Value>> {
    let Some(texts) = bytes.strip_suffix(&[0]) else {
        return bytes.is_empty().then(Vec::new);
    };
    let text = |text: &[u8]| std::str::from_utf8(text).ok().map(|text| Value::Text(text.into()));
    texts.split(|byte| *byte == 0).map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(datatype: DataType, bytes: &[u8]) -> Option<Vec<Value>> {
        match decode(datatype, bytes)? {
            Value::Array(values) => Some(values.into_vec()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_examples_of_the_specification_are_read() {
        let integers = |numbers: &[i64]| Some(numbers.iter().map(|n| Value::I64(*n)).collect());
        assert_eq!(array(DataType::Int8Array, &[0xEF, 0x7B]), integers(&[-17, 123]));
        assert_eq!(array(DataType::UInt8Array, &[0x17, 0xFA]), integers(&[23, 250]));
        let bytes = [0xD0, 0x8A, 0x30, 0x75];
        assert_eq!(array(DataType::Int16Array, &bytes), integers(&[-30_000, 30_000]));
        let bytes = [0x0C, 0, 0, 0, 0x34, 0xD0];
        let bits = "001101001101".chars().map(|c| Value::Bool(c == '1')).collect();
        assert_eq!(array(DataType::BooleanArray, &bytes), Some(bits));
        let texts = vec![Value::Text("ABC".into()), Value::Text("hello".into())];
        assert_eq!(array(DataType::StringArray, b"ABC\0hello\0"), Some(texts));
    }

    #[test]
    fn what_is_no_whole_array_is_none() {
        assert_eq!(array(DataType::Int16Array, &[1, 2, 3]), None);
        assert_eq!(array(DataType::BooleanArray, &[9, 0, 0, 0, 1]), None);
        assert_eq!(array(DataType::StringArray, b"ABC"), None);
        assert_eq!(array(DataType::StringArray, b""), Some(Vec::new()));
        assert_eq!(array(DataType::StringArray, b"\0"), Some(vec![Value::Text("".into())]));
    }
}
