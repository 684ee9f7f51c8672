//! What a metric's properties say of its value (Sparkplug 3.0, 6.4.10 to 6.4.12).

use super::proto::PropertySet;
use super::value::Found;
use crate::event::{Quality, Value};

/// Name of the property with the unit, as the examples of the specification have it.
const UNIT: &str = "engUnit";

/// Name of the property with the quality.
const QUALITY: &str = "Quality";

/// The unit, where one is given.
pub fn unit(properties: &PropertySet) -> Option<&str> {
    match find(properties, UNIT)? {
        Found::String(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

/// The quality: 0 is bad, 192 good, 500 stale; another number says nothing that we know,
/// and so is not called good.
pub fn quality(properties: &PropertySet) -> Option<Quality> {
    let number = match find(properties, QUALITY)?.as_it_came() {
        Value::I64(number) => number,
        Value::U64(number) => i64::try_from(number).unwrap_or(-1),
        _ => return None,
    };
    Some(match number {
        192 => Quality::Good,
        500 => Quality::Stale,
        _ => Quality::DeviceError,
    })
}

fn find<'a>(properties: &'a PropertySet, key: &str) -> Option<Found<'a>> {
    let at = properties.keys.iter().position(|known| known == key)?;
    let property = properties.values.get(at)?;
    property.value.as_ref().filter(|_| property.is_null != Some(true)).and_then(Found::property)
}
