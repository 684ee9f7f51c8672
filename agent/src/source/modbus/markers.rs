//! Raw values by which a device says that it has no value: `SunSpec` calls them
//! "not implemented" (0x8000 of an `i16`, 0xFFFF of a `u16`).

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::decode::registers::Type;

/// One raw value or a list of them: the bits of a value after its order, before
/// its scale.
///
/// TOML's integers have 63 bits and a sign: what has its highest bit set may be
/// written with either, and of 64 bits only with the sign (-1 is all bits).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Markers(Vec<i64>);

impl Markers {
    /// Their bits in a value of this type.
    pub(super) fn bits(&self, kind: Type) -> Vec<u64> {
        self.0.iter().map(|marker| kind.masked(marker.cast_unsigned())).collect()
    }

    /// What is wrong with them for this type.
    pub(super) fn check(&self, kind: Type) -> Vec<String> {
        let (name, width) = (kind.as_str(), kind.bits());
        if matches!(kind, Type::Bool | Type::String) {
            return vec![format!("has no meaning for type `{name}`")];
        }
        if self.0.is_empty() {
            return vec!["is empty: name a raw value, as in 0x8000, or leave it out".to_owned()];
        }
        let all = 1_i128.checked_shl(width).unwrap_or(i128::MAX);
        let mistake = |marker: i64| {
            if !(-(all / 2)..all).contains(&i128::from(marker)) {
                return Some(format!("{marker} does not fit the {width} bits of `{name}`"));
            }
            is_meant_as_number(kind, marker).then(|| {
                let bits = bits_of(kind, marker);
                format!("{marker} is taken as bits: write those of the number {marker}{bits}")
            })
        };
        self.0.iter().filter_map(|marker| mistake(*marker)).collect()
    }
}

/// Whether a float's marker is meant as its number. As bits it would be nearer
/// to zero than 2^-14 or, below zero, NaN: no device marks so, but for NaN of
/// nothing but ones.
fn is_meant_as_number(kind: Type, marker: i64) -> bool {
    let (normal, nan) = match kind {
        Type::F16 => (0x0400, 0x0400),
        Type::F32 => (0x3880_0000, 0x0080_0000),
        Type::F64 => (0x3F10_0000_0000_0000, 0x0010_0000_0000_0000),
        _ => return false,
    };
    (1..normal).contains(&marker) || (-nan..-1).contains(&marker)
}

/// How the bits of this number are written; there is no `f16` to ask.
#[expect(clippy::cast_precision_loss, reason = "the float that is nearest is meant")]
fn bits_of(kind: Type, number: i64) -> String {
    match kind {
        Type::F32 => format!(", {:#010X}", (number as f32).to_bits()),
        Type::F64 => format!(", {}", (number as f64).to_bits().cast_signed()),
        _ => String::new(),
    }
}

impl<'de> Deserialize<'de> for Markers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;

        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Markers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number or a list of them")
            }

            fn visit_i64<E>(self, marker: i64) -> Result<Markers, E> {
                Ok(Markers(vec![marker]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Markers, A::Error> {
                let mut markers = Vec::new();
                while let Some(marker) = items.next_element()? {
                    markers.push(marker);
                }
                Ok(Markers(markers))
            }
        }

        deserializer.deserialize_any(OneOrMore)
    }
}

impl schemars::JsonSchema for Markers {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Markers".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "a raw value as a whole number, or a list of them",
            "anyOf": [
                { "type": "integer", "format": "int64" },
                { "type": "array", "items": { "type": "integer", "format": "int64" } },
            ]
        })
    }
}
