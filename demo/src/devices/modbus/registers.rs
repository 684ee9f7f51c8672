//! Values as registers and bits: the other way round than the agent does it, and without
//! its code, so that neither hides a mistake of the other.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use tidegate::source::modbus::{Order, Table, Type};

use super::super::value::{Form, Value};
use super::map::Map;

/// Function, or address, or count, is not one that the device has (Modbus application
/// protocol 1.1b3, 7).
pub(super) const ILLEGAL_FUNCTION: u8 = 1;
const ILLEGAL_ADDRESS: u8 = 2;
const ILLEGAL_VALUE: u8 = 3;

/// Most registers and bits of a request (the same, 6.1 to 6.4).
const MOST_REGISTERS: u16 = 125;
const MOST_BITS: u16 = 2_000;

/// A value of a device, written as a signal of the agent is, with how it goes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signal {
    pub(crate) name: String,
    pub(super) table: Table,
    pub(super) address: u16,
    #[serde(rename = "type", default)]
    pub(super) kind: Option<Type>,
    #[serde(default)]
    pub(super) order: Order,
    /// The register holds the value divided by this.
    #[serde(default)]
    pub(super) scale: Option<f64>,
    pub(super) value: Form,
}

impl Signal {
    pub(super) fn kind(&self) -> Type {
        let usual = if self.table.is_bits() { Type::Bool } else { Type::U16 };
        self.kind.unwrap_or(usual)
    }

    /// What is wrong with it.
    pub(crate) fn check(&self) -> Option<String> {
        let kind = self.kind();
        let what = match kind {
            Type::Bit | Type::F16 | Type::String => {
                format!("`{}` is not simulated: take an integer, bcd or f32", kind.as_str())
            }
            Type::Bool if !self.table.is_bits() => "a register holds no `bool`".to_owned(),
            _ if self.table.is_bits() && kind != Type::Bool => {
                format!("a {} holds a `bool`", self.table.as_str())
            }
            _ if self.scale == Some(0.0) => "scale = 0 makes nothing of a value".to_owned(),
            _ if self.address.checked_add(kind.width(1) - 1).is_none() => {
                "it ends behind address 65535".to_owned()
            }
            _ => return self.value.check(),
        };
        Some(what)
    }
}

/// What a device holds.
#[derive(Debug)]
pub(super) struct Registers {
    signals: Vec<(Signal, Value)>,
    /// Holding registers of a map.
    map: BTreeMap<u16, u16>,
    /// Whether an address that no signal has is refused, or reads as 0.
    refuses: bool,
}

impl Registers {
    pub(super) fn new(signals: &[Signal], refuses: bool) -> Self {
        let started = signals.iter().zip(1..);
        let started = started.map(|(signal, number)| (signal.clone(), signal.value.start(number)));
        Self { signals: started.collect(), map: BTreeMap::new(), refuses }
    }

    pub(super) fn with_map(self, map: Option<&Map>) -> Self {
        Self { map: map.map(Map::words).unwrap_or_default(), ..self }
    }

    /// The data bytes of a read, or the exception's code.
    pub(super) fn read(
        &mut self,
        table: Table,
        address: u16,
        count: u16,
        elapsed: Duration,
    ) -> Result<Vec<u8>, u8> {
        let most = if table.is_bits() { MOST_BITS } else { MOST_REGISTERS };
        if count == 0 || count > most {
            return Err(ILLEGAL_VALUE);
        }
        let end = u32::from(address) + u32::from(count);
        if end > 0x1_0000 {
            return Err(ILLEGAL_ADDRESS);
        }
        let mut words = BTreeMap::new();
        if table == Table::Holding {
            let asked = self.map.range(address..).take_while(|(known, _)| u32::from(**known) < end);
            words.extend(asked.map(|(address, word)| (*address, *word)));
        }
        for (signal, value) in &mut self.signals {
            let kind = signal.kind();
            let begin = u32::from(signal.address);
            let is_asked = begin < end && begin + u32::from(kind.width(1)) > u32::from(address);
            if signal.table == table && is_asked {
                let number = value.at(elapsed) / signal.scale.unwrap_or(1.0);
                words.extend((signal.address..).zip(encode(kind, signal.order, number)));
            }
        }
        let asked = (0..count).map(|offset| address.wrapping_add(offset));
        let known = asked.map(|address| words.get(&address).copied());
        let known: Vec<Option<u16>> = known.collect();
        let is_refused = if self.refuses { known.contains(&None) } else { words.is_empty() };
        if is_refused {
            return Err(ILLEGAL_ADDRESS);
        }
        let known = known.into_iter().map(Option::unwrap_or_default);
        Ok(if table.is_bits() { packed(known) } else { known.flat_map(u16::to_be_bytes).collect() })
    }
}

/// Eight to a byte, the lowest bit first (Modbus application protocol 1.1b3, 6.1).
fn packed(bits: impl Iterator<Item = u16>) -> Vec<u8> {
    let bits: Vec<bool> = bits.map(|bit| bit != 0).collect();
    let byte = |bits: &[bool]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
    bits.chunks(8).map(byte).collect()
}

/// The registers of a value, or the one bit.
fn encode(kind: Type, order: Order, value: f64) -> Vec<u16> {
    let bits = match kind {
        Type::Bool => return vec![u16::from(value >= 0.5)],
        #[expect(clippy::cast_possible_truncation, reason = "an f32 holds what it can")]
        Type::F32 => u64::from((value as f32).to_bits()),
        Type::F64 => value.to_bits(),
        Type::Bcd16 | Type::Bcd32 | Type::Bcd64 => bcd(whole(kind, value)),
        _ => kind.masked(whole(kind, value)),
    };
    let bytes = bits.to_be_bytes();
    let words: Vec<u16> = bytes.as_chunks().0.iter().copied().map(u16::from_be_bytes).collect();
    let width = usize::from(kind.width(1));
    let mut words = words.get(4 - width.min(4)..).unwrap_or_default().to_vec();
    if matches!(order, Order::Cdab | Order::Dcba) {
        words.reverse();
    }
    if matches!(order, Order::Badc | Order::Dcba) {
        for word in &mut words {
            *word = word.swap_bytes();
        }
    }
    words
}

/// The nearest whole number that the type can hold, as the bits of 64.
fn whole(kind: Type, value: f64) -> u64 {
    let (lowest, highest) = kind.integers().unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, reason = "it is held within the type's range")]
    let number = (value.round() as i128).clamp(lowest, highest);
    let bytes = number.to_be_bytes();
    bytes.iter().rev().take(8).rev().fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}

/// Four bits for each decimal digit.
fn bcd(mut number: u64) -> u64 {
    let mut bits = 0;
    for place in 0..16 {
        bits |= (number % 10) << (4 * place);
        number /= 10;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_in_its_registers_as_its_type_and_order_say() {
        let cases = [
            (Type::I16, Order::Abcd, -2.0, vec![0xFFFE]),
            (Type::U8, Order::Badc, 7.0, vec![0x0700]),
            (Type::U16, Order::Abcd, 70_000.0, vec![0xFFFF]),
            (Type::I32, Order::Abcd, -123_456_789.0, vec![0xF8A4, 0x32EB]),
            (Type::U32, Order::Cdab, 305_419_896.0, vec![0x5678, 0x1234]),
            (Type::U32, Order::Badc, 305_419_896.0, vec![0x3412, 0x7856]),
            (Type::U32, Order::Dcba, 305_419_896.0, vec![0x7856, 0x3412]),
            (Type::F32, Order::Abcd, -118.625, vec![0xC2ED, 0x4000]),
            (Type::F64, Order::Cdab, 1.0, vec![0, 0, 0, 0x3FF0]),
            (Type::Bcd32, Order::Abcd, 12_345_678.0, vec![0x1234, 0x5678]),
        ];
        for (kind, order, value, expected) in cases {
            assert_eq!(encode(kind, order, value), expected, "{kind:?} {order:?} {value}");
        }
    }

    fn signal(table: Table, address: u16, kind: Type, value: f64) -> Signal {
        let (name, value) = (format!("{address}"), Form::Constant(value));
        Signal { name, table, address, kind: Some(kind), order: Order::Abcd, scale: None, value }
    }

    #[test]
    fn a_hole_reads_as_0_or_is_refused_and_nothing_at_all_is_always_refused() {
        let signals =
            [signal(Table::Input, 4, Type::U32, 65_537.0), signal(Table::Input, 8, Type::U16, 9.0)];
        let read = |refuses, address, count| {
            Registers::new(&signals, refuses).read(Table::Input, address, count, Duration::ZERO)
        };
        assert_eq!(read(false, 5, 4), Ok(vec![0, 1, 0, 0, 0, 0, 0, 9]));
        assert_eq!(read(true, 4, 2), Ok(vec![0, 1, 0, 1]));
        assert_eq!(read(true, 5, 4), Err(ILLEGAL_ADDRESS));
        assert_eq!(read(false, 100, 1), Err(ILLEGAL_ADDRESS));
        assert_eq!(read(false, 4, 126), Err(ILLEGAL_VALUE));
        assert_eq!(read(false, 0xFFFF, 2), Err(ILLEGAL_ADDRESS));
    }

    #[test]
    fn bits_are_packed_eight_to_a_byte() {
        let on = [0, 3, 8].map(|address| signal(Table::Coil, address, Type::Bool, 1.0));
        let read = Registers::new(&on, false).read(Table::Coil, 0, 9, Duration::ZERO);
        assert_eq!(read, Ok(vec![0b1001, 1]));
    }
}
