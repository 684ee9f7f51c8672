//! A line of `signals`: what is read, and the fields that come of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::config::{Device, Mistakes};
use super::markers::Markers;
use super::table::Table;
use crate::decode::registers::{Decoder, Linear, Meaning, Order, Type};

/// One measured quantity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    /// Name of the field.
    pub name: String,
    /// `coil`, `discrete`, `input` or `holding`; with `address`.
    #[serde(default)]
    pub table: Option<Table>,
    /// Address as it is sent, from 0: what a manual calls 40001 is `holding` 0.
    #[serde(default)]
    pub address: Option<u16>,
    /// Number that a manual gives it, instead of `table` and `address`: 40001 is
    /// `holding` 0, 30001 `input` 0, 10001 `discrete` 0 and 1 `coil` 0; 400001
    /// is `holding` 0 too.
    #[serde(default)]
    pub register: Option<u32>,
    /// `bool` (coils and discrete inputs), `bit`, `i8`, `u8`, `i16`, `u16`,
    /// `i32`, `u32`, `i64`, `u64`, `bcd16`, `bcd32`, `bcd64`, `f16`, `f32`,
    /// `f64` or `string`. Default: `bool` for coils and discrete inputs, `u16`
    /// for registers.
    #[serde(default, rename = "type")]
    pub kind: Option<Type>,
    /// Which bit of the register, 0 (lowest) to 15; for `bit`, which needs it.
    #[serde(default)]
    pub bit: Option<u8>,
    /// Length in registers, two bytes each; for `string`, which needs it.
    #[serde(default)]
    pub length: Option<u16>,
    /// Order of bytes and words. Default: the device's.
    #[serde(default)]
    pub order: Option<Order>,
    /// Raw value, or a list of them, by which the device says that it has no
    /// such value: bits after the order and before the scale, as in `0x8000`.
    #[serde(default)]
    pub invalid: Option<Markers>,
    /// Names of an integer's values, which make it text: `{ 0 = "off" }`. A
    /// number without a name is its digits.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
    /// Names of an unsigned integer's bits, from 0 (lowest): `{ 3 = "door" }`.
    /// Each is a field `<name>_<bit's name>` instead of the number.
    #[serde(default)]
    pub bits: BTreeMap<String, String>,
    /// Factor that makes the value from the number; integers become floats.
    #[serde(default)]
    pub scale: Option<f64>,
    /// Added after the scale; integers become floats.
    #[serde(default)]
    pub offset: Option<f64>,
    /// Unit of the value, for people and the schema: `"°C"`.
    #[serde(default)]
    pub unit: Option<String>,
}

/// The field of one bit of a signal that names its bits.
pub fn field_of_bit(signal: &str, bit: &str) -> String {
    format!("{signal}_{bit}")
}

/// A key of `values` or `bits`: as decimal or, behind `0x`, hexadecimal digits.
fn number(key: &str) -> Option<i128> {
    let (sign, digits) = key.strip_prefix('-').map_or((1, key), |rest| (-1, rest));
    let (radix, digits) = digits.strip_prefix("0x").map_or((10, digits), |rest| (16, rest));
    let bare = digits.chars().all(|c| c.is_ascii_hexdigit());
    let number = u64::from_str_radix(digits, radix).ok().filter(|_| bare)?;
    Some(i128::from(number) * sign)
}

/// Names by their numbers.
fn numbered(names: &BTreeMap<String, String>) -> BTreeMap<i128, &str> {
    names.iter().filter_map(|(key, name)| Some((number(key)?, name.as_str()))).collect()
}

impl Signal {
    /// Where it lies, if that is said in one of the two ways.
    pub(super) fn place(&self) -> Option<(Table, u16)> {
        match (self.register, self.table, self.address) {
            (Some(number), None, None) => Table::numbered(number),
            (None, Some(table), Some(address)) => Some((table, address)),
            _ => None,
        }
    }

    /// Its table, also where the rest of its place is not right.
    fn table(&self) -> Option<Table> {
        let numbered = || Some(Table::numbered(self.register?)?.0);
        self.table.or_else(numbered)
    }

    pub(super) fn kind(&self) -> Type {
        let is_bits = self.table().is_some_and(Table::is_bits);
        self.kind.unwrap_or(if is_bits { Type::Bool } else { Type::U16 })
    }

    pub(super) fn width(&self) -> u16 {
        self.kind().width(self.length.unwrap_or(0))
    }

    /// The fields that one read of it gives, in the order of their bits, and how.
    pub(super) fn fields(&self, order: Order) -> Vec<(String, Decoder)> {
        let kind = self.kind();
        let decoder = |meaning| Decoder {
            kind,
            order: self.order.unwrap_or(order),
            length: self.length.unwrap_or(0),
            absent: self.invalid.as_ref().map_or_else(Vec::new, |markers| markers.bits(kind)),
            meaning,
        };
        if self.bits.is_empty() {
            return vec![(self.name.clone(), decoder(self.meaning()))];
        }
        let field =
            |(bit, name): (u8, &str)| (field_of_bit(&self.name, name), decoder(Meaning::Bit(bit)));
        self.named_bits().map(field).collect()
    }

    /// How many fields that are.
    pub(super) fn count(&self) -> usize {
        if self.bits.is_empty() { 1 } else { self.named_bits().count() }
    }

    fn named_bits(&self) -> impl Iterator<Item = (u8, &str)> {
        let names = numbered(&self.bits).into_iter();
        names.filter_map(|(bit, name)| Some((u8::try_from(bit).ok()?, name)))
    }

    fn meaning(&self) -> Meaning {
        if let Some(bit) = self.bit {
            return Meaning::Bit(bit);
        }
        if !self.values.is_empty() {
            let names = numbered(&self.values).into_iter();
            return Meaning::Named(names.map(|(n, name)| (n, Arc::from(name))).collect());
        }
        Linear::new(self.scale, self.offset).map_or(Meaning::Number, Meaning::Scaled)
    }

    pub(super) fn check(&self, device: &Device, at: &str, wrong: &mut Mistakes) {
        self.check_place(at, wrong);
        self.check_type(at, wrong);
        for what in self.invalid.iter().flat_map(|markers| markers.check(self.kind())) {
            wrong.add(format!("{at}.invalid"), what);
        }
        self.check_values(at, wrong);
        self.check_bits(at, wrong);
        self.check_scale(at, wrong);
        self.check_extent(device, at, wrong);
    }

    /// One of the two ways to say where it lies, and not both.
    fn check_place(&self, at: &str, wrong: &mut Mistakes) {
        let example = |table: Table, address: u16| match table.number(address) {
            Some(number) => format!("`register = {number}`"),
            None => "`register`".to_owned(),
        };
        match (self.register, self.table, self.address) {
            (None, Some(_), Some(_)) => {}
            (None, None, None) => {
                let what = "is missing: `table` and `address`, from 0, or instead of both \
                            `register` as in a manual (40001 is holding 0)";
                wrong.add(format!("{at}.address"), what);
            }
            (None, Some(table), None) => {
                let (name, number) = (table.as_str(), example(table, 0));
                let what = format!(
                    "is missing: from 0; or instead of both keys `register` as in a manual \
                     ({number} is {name} 0)"
                );
                wrong.add(format!("{at}.address"), what);
            }
            (None, None, Some(address)) => {
                let number = example(Table::Holding, address);
                let what = format!(
                    "is missing: `coil`, `discrete`, `input` or `holding`; or instead of both \
                     keys `register` as in a manual ({number} is holding {address})"
                );
                wrong.add(format!("{at}.table"), what);
            }
            (Some(number), table, address) => {
                let what = match Table::numbered(number) {
                    None => not_numbered(number),
                    Some(_) if table.is_none() && address.is_none() => return,
                    Some((table, address)) => format!(
                        "{number} says `table = \"{}\"` and `address = {address}` already: leave \
                         these two out, or this",
                        table.as_str()
                    ),
                };
                wrong.add(format!("{at}.register"), what);
            }
        }
    }

    /// A type that its table can hold, with the keys that belong to it.
    fn check_type(&self, at: &str, wrong: &mut Mistakes) {
        let kind = self.kind();
        if let Some(table) = self.table() {
            let name = table.as_str();
            if table.is_bits() && kind != Type::Bool {
                let what = format!("`{}` does not fit table `{name}`: use `bool`", kind.as_str());
                wrong.add(format!("{at}.type"), what);
            } else if !table.is_bits() && kind == Type::Bool {
                let what = format!("`bool` does not fit table `{name}`: use `bit` with `bit = 0`");
                wrong.add(format!("{at}.type"), what);
            }
            if table.is_bits() && self.order.is_some() {
                wrong.add(format!("{at}.order"), format!("has no meaning in table `{name}`"));
            }
        }
        match (kind, self.bit) {
            (Type::Bit, None) => wrong.add(format!("{at}.bit"), "is missing: 0 (lowest) to 15"),
            (Type::Bit, Some(bit)) if bit > 15 => {
                wrong.add(format!("{at}.bit"), format!("{bit} is not within 0 to 15"));
            }
            (Type::Bit, _) | (_, None) => {}
            _ => wrong.add(format!("{at}.bit"), "is only for `type = \"bit\"`"),
        }
        match (kind, self.length) {
            (Type::String, None) => {
                wrong.add(format!("{at}.length"), "is missing: the length in registers");
            }
            (Type::String, Some(0)) => wrong.add(format!("{at}.length"), "is zero: at least 1"),
            (Type::String, _) | (_, None) => {}
            _ => wrong.add(format!("{at}.length"), "is only for `type = \"string\"`"),
        }
    }

    fn check_values(&self, at: &str, wrong: &mut Mistakes) {
        if self.values.is_empty() {
            return;
        }
        let at = format!("{at}.values");
        let kind = self.kind();
        let Some(range) = kind.integers() else {
            let what = format!("names whole numbers, which type `{}` is not", kind.as_str());
            return wrong.add(at, what);
        };
        let example = "values = { 0 = \"off\", 1 = \"heating\" }";
        check_names(&self.values, range, example, &at, wrong);
        for (key, name) in &self.values {
            // What the record shows must say which number it was.
            let other = name.parse::<i128>().ok();
            if other.is_some() && number(key).is_some_and(|number| other != Some(number)) {
                let what = format!("`{name}` is what {name} without a name is: give {key} a word");
                wrong.add(at.clone(), what);
            }
        }
    }

    fn check_bits(&self, at: &str, wrong: &mut Mistakes) {
        if self.bits.is_empty() {
            return;
        }
        let kind = self.kind();
        let key = format!("{at}.bits");
        if !matches!(kind, Type::U8 | Type::U16 | Type::U32 | Type::U64) {
            let what = format!(
                "names bits of a register, of type `u8`, `u16`, `u32` or `u64`: `{}` is none",
                kind.as_str()
            );
            return wrong.add(key, what);
        }
        if !self.values.is_empty() {
            wrong.add(key.clone(), "cannot stand beside `values`: read it as two signals");
        }
        let highest = i128::from(kind.bits()).saturating_sub(1);
        let example = "bits = { 0 = \"overtemperature\", 3 = \"door_open\" }";
        check_names(&self.bits, (0, highest), example, &key, wrong);
    }

    fn check_scale(&self, at: &str, wrong: &mut Mistakes) {
        let kind = self.kind();
        let naming = match (self.values.is_empty(), self.bits.is_empty()) {
            (false, _) => Some("has no meaning beside `values`, which makes text of the number"),
            (_, false) => Some("has no meaning beside `bits`, which takes the number apart"),
            _ => None,
        };
        for (key, value) in [("scale", self.scale), ("offset", self.offset)] {
            let Some(value) = value else { continue };
            if !kind.is_number() {
                let what = format!("has no meaning for type `{}`", kind.as_str());
                wrong.add(format!("{at}.{key}"), what);
            } else if let Some(naming) = naming {
                wrong.add(format!("{at}.{key}"), naming);
            } else if !value.is_finite() {
                wrong.add(format!("{at}.{key}"), format!("{value} is not a finite number"));
            }
        }
        if self.scale == Some(0.0) {
            wrong.add(format!("{at}.scale"), "is zero: every value would be the offset");
        }
        if let (Some(naming), Some(_)) = (naming, &self.unit) {
            wrong.add(format!("{at}.unit"), naming);
        }
    }

    /// No longer than the device gives and the table is.
    fn check_extent(&self, device: &Device, at: &str, wrong: &mut Mistakes) {
        let width = self.width();
        if !self.table().is_some_and(Table::is_bits) && width > device.max_registers {
            let most = device.max_registers;
            let what = format!("takes {width} registers, the device gives at most {most} at once");
            wrong.add(
                format!("{at}.{}", if self.length.is_some() { "length" } else { "type" }),
                what,
            );
        }
        let Some((_, address)) = self.place() else { return };
        // The last address is 65535.
        if u32::from(address) + u32::from(width) > 65_536 {
            let key = if self.register.is_some() { "register" } else { "address" };
            let what = format!("{address} and {width} registers go beyond 65535");
            wrong.add(format!("{at}.{key}"), what);
        }
    }
}

fn not_numbered(number: u32) -> String {
    format!(
        "{number} is no manual's number: 1 to 9999 are coils, 10001 to 19999 discrete inputs, \
         30001 to 39999 input and 40001 to 49999 holding registers, and with six digits 100001 \
         to 165536, 300001 to 365536 and 400001 to 465536; or give `table` and `address`, from 0"
    )
}

/// Numbers in `range`, each with one name.
fn check_names(
    names: &BTreeMap<String, String>,
    range: (i128, i128),
    example: &str,
    at: &str,
    wrong: &mut Mistakes,
) {
    let (low, high) = range;
    let mut seen = BTreeSet::new();
    for (key, name) in names {
        let what = match number(key) {
            None => format!("`{key}` is no whole number: write it as `{example}`"),
            Some(number) if !(low..=high).contains(&number) => {
                format!("{key} is not within {low} to {high}")
            }
            Some(number) if !seen.insert(number) => format!("{key} has a name already"),
            Some(_) if name.is_empty() => format!("the name of {key} is empty"),
            Some(_) => continue,
        };
        wrong.add(at.to_owned(), what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_as_many_fields_as_it_counts() {
        let place = r#""name": "s", "table": "holding", "address": 0"#;
        for (more, expected) in [
            ("", 1),
            (r#", "values": { "0": "off", "1": "on" }"#, 1),
            (
                r#", "bits": { "0": "hot", "0x3": "door", "-1": "no", "word": "no", "300": "no" }"#,
                2,
            ),
        ] {
            let signal: Signal = serde_json::from_str(&format!("{{ {place}{more} }}")).unwrap();
            assert_eq!(signal.count(), expected);
            assert_eq!(signal.fields(Order::Abcd).len(), expected);
        }
    }
}
