//! What a metric's properties say of its value (Sparkplug 3.0, 6.4.10 to 6.4.12).

use super::proto::{Property, PropertySet};
use crate::event::Quality;

/// Name of the property with the unit, as the examples of the specification have it.
const UNIT: &str = "engUnit";

/// Name of the property with the quality.
const QUALITY: &str = "Quality";

/// The unit, where one is given.
pub fn unit(properties: &PropertySet) -> Option<&str> {
    match present(properties, UNIT)? {
        Property::String(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

/// The quality: 0 is bad, 192 good, 500 stale; another number, and what is none, says
/// nothing that we know, and so is not called good. `None` where no quality is given.
pub fn quality(properties: &PropertySet) -> Option<Quality> {
    let number = match present(properties, QUALITY)? {
        Property::Int(number) => u64::from(*number),
        Property::Long(number) => *number,
        _ => return Some(Quality::DeviceError),
    };
    Some(match number {
        192 => Quality::Good,
        500 => Quality::Stale,
        _ => Quality::DeviceError,
    })
}

fn present<'a>(properties: &'a PropertySet, key: &str) -> Option<&'a Property> {
    let at = properties.keys.iter().position(|known| known == key)?;
    let property = properties.values.get(at)?;
    property.value.as_ref().filter(|_| property.is_null != Some(true))
}
