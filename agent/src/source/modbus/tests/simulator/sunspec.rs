//! A unit that says itself what its registers hold: an inverter that gives its current and
//! its energy, each with a scale factor, another one for each request.

use super::super::super::frame::Query;
use super::*;

pub(super) const UNIT: u8 = 4;

/// Its values, each in one place with its factor, the last register of it.
const CURRENT: Spot = spot(40_072, 5);
const ENERGY: Spot = spot(40_094, 3);

/// Where the inverter's model begins, and what stands behind it.
const MODEL: u16 = 40_070;
const END: u16 = 40_122;

const fn spot(address: u16, width: u16) -> Spot {
    Spot { unit: UNIT, function: 3, address, width }
}

pub(super) fn configuration(interval: &str) -> String {
    format!(
        "[[device]]\nname = \"{UNIT}\"\nunit = {UNIT}\nmax_hole = 0\n[[device.group]]\n\
         interval = \"{interval}\"\nsunspec = {{ models = [103], points = [\"A\", \"WH\"] }}\n"
    )
}

pub(super) fn spots() -> [Spot; 2] {
    [CURRENT, ENERGY]
}

/// That of a field with this name.
pub(super) fn spot_of(name: &str) -> Spot {
    match name {
        "inverter_A" => CURRENT,
        "inverter_WH" => ENERGY,
        other => unreachable!("{other} is none of its points"),
    }
}

/// What a holding register holds where it has any number.
pub(super) fn register(address: u16, any: u16) -> u16 {
    match address {
        40_000 => 0x5375,
        40_001 => 0x6E53,
        40_002 => 1,
        40_003 => 66,
        40_004..MODEL => u16::from_be_bytes(*b"AB"),
        MODEL => 103,
        40_071 => 50,
        // -2 to 2.
        40_076 | 40_096 => (any % 5).wrapping_sub(2),
        END => 0xFFFF,
        40_123 => 0,
        _ => any,
    }
}

/// A part of its map, where nothing may be refused: what is refused there is not there.
pub(super) fn is_of_map(query: Query) -> bool {
    let begins = (40_000..MODEL).contains(&query.address);
    query.unit == UNIT && (begins || (query.count == 2 && [MODEL, END].contains(&query.address)))
}

/// The header behind its last model.
pub(super) fn is_end(query: Query) -> bool {
    (query.unit, query.function, query.address) == (UNIT, 3, END)
}

/// What stands in a place whose registers are these.
pub(super) fn value(spot: Spot, at: impl Fn(u16) -> u16) -> Value {
    let number = match spot.address {
        40_072 => u32::from(at(0)),
        _ => u32::from(at(0)) << 16 | u32::from(at(1)),
    };
    let factor = at(spot.width - 1).cast_signed();
    Value::F64(format!("{number}e{factor}").parse().unwrap())
}
