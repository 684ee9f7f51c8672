//! What a device reported at one time: the canonical event and its values.
//!
//! Nothing is rounded here. A value keeps the width and the scale that it had
//! in the device or the database until a format for Kafka is made of it.

use std::sync::Arc;

/// Nanoseconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// What one device reported at one time, with named fields. A row of a
/// database is an event too.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The flow it belongs to: its stream and lane.
    pub flow: crate::flow::Id,
    /// Key of the record in Kafka; the order of one device holds in a flow.
    pub device: Arc<str>,
    /// When it happened: the time of reading, or one that the payload carries.
    pub time: Timestamp,
    /// The time of reading, where `time` came from the payload or the row.
    pub read_at: Option<Timestamp>,
    pub quality: Quality,
    pub fields: Vec<Field>,
}

impl Event {
    /// About what it takes in memory: its fields and what its values hold. Names
    /// and the device are shared by many events.
    pub fn memory(&self) -> usize {
        let values: usize = self.fields.iter().map(|field| field.value.held()).sum();
        size_of::<Self>() + self.fields.capacity() * size_of::<Field>() + values
    }
}

/// One measured quantity of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    pub name: Arc<str>,
    /// The unit belongs to the schema, not to each record.
    pub unit: Option<Arc<str>>,
    pub value: Value,
    /// Only where it differs from the event's.
    pub quality: Option<Quality>,
}

/// How far a value can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Quality {
    #[default]
    Good = 0,
    Stale = 1,
    Timeout = 2,
    BadAddress = 3,
    DeviceError = 4,
    OutOfRange = 5,
    BadPayload = 6,
}

impl Quality {
    /// The word that stands in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Stale => "stale",
            Self::Timeout => "timeout",
            Self::BadAddress => "bad_address",
            Self::DeviceError => "device_error",
            Self::OutOfRange => "out_of_range",
            Self::BadPayload => "bad_payload",
        }
    }

    /// The quality with this number in the buffer, if there is one.
    pub const fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Good,
            1 => Self::Stale,
            2 => Self::Timeout,
            3 => Self::BadAddress,
            4 => Self::DeviceError,
            5 => Self::OutOfRange,
            6 => Self::BadPayload,
            _ => return None,
        })
    }
}

/// An exact decimal number: `unscaled × 10^-scale`.
///
/// Packed, since the alignment of an `i128` would make each field of every event
/// half as large again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(Rust, packed)]
pub struct Decimal {
    pub unscaled: i128,
    pub scale: u8,
}

/// What a field can hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    I64(i64),
    U64(u64),
    /// NaN and infinities are values; each format says how it carries them.
    F64(f64),
    Decimal(Decimal),
    Text(Arc<str>),
    Bytes(Arc<[u8]>),
    /// With `zoned`, an instant; without, a local time that names no zone.
    Timestamp {
        time: Timestamp,
        zoned: bool,
    },
    /// Days since 1970-01-01.
    Date(i32),
    /// Nanoseconds since midnight.
    Time(u64),
    Uuid([u8; 16]),
    /// JSON text, passed on as it came.
    Json(Arc<str>),
    Array(Box<[Value]>),
}

impl Value {
    /// Memory besides its own place.
    pub(crate) fn held(&self) -> usize {
        /// The two counters of an `Arc`.
        const COUNTERS: usize = 2 * size_of::<usize>();
        match self {
            Self::Text(text) | Self::Json(text) => COUNTERS + text.len(),
            Self::Bytes(bytes) => COUNTERS + bytes.len(),
            Self::Array(values) => {
                size_of_val::<[Self]>(values) + values.iter().map(Self::held).sum::<usize>()
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn the_memory_of_an_event_is_that_of_its_fields_and_of_what_their_values_hold() {
        let field = |value| Field { name: "n".into(), unit: None, value, quality: None };
        let event = |fields| Event {
            flow: crate::flow::Id(0),
            device: "d".into(),
            time: Timestamp(0),
            read_at: None,
            quality: Quality::Good,
            fields,
        };
        let bare = event(Vec::new()).memory();
        assert_eq!(bare, size_of::<Event>());
        let numbers = event(vec![field(Value::I64(1)), field(Value::Null)]);
        assert_eq!(numbers.memory(), bare + 2 * 64);
        let text = event(vec![field(Value::Text("0123456789".into()))]);
        assert_eq!(text.memory(), bare + 64 + 16 + 10);
        let array = vec![Value::Bytes([0; 5].as_slice().into()), Value::Bool(true)];
        let array = event(vec![field(Value::Array(array.into()))]);
        assert_eq!(array.memory(), bare + 64 + 2 * 24 + 16 + 5);
        let grown = event(Vec::with_capacity(8));
        assert_eq!(grown.memory(), bare + 8 * 64);
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_field_takes_one_cache_line() {
        assert_eq!(size_of::<Value>(), 24);
        assert_eq!(size_of::<Field>(), 64);
    }
}
