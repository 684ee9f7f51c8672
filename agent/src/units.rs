//! Durations, sizes and shares as words: `"200 ms"`, `"512 MiB"`, `"40 %"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration written as one number and one unit: `ms`, `s`, `min`, `h`, `d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// A number of bytes written as one number and one unit: `B`, `KiB`, `MiB`,
/// `GiB`, or the decimal `kB`, `MB`, `GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A share of a whole in whole percent, from 0 to 100: `40 %`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u8);

/// Room on a disk: a share of it, or a number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    Share(Percent),
    Size(ByteSize),
}

impl Percent {
    pub const ALL: Self = Self(100);

    /// More than a whole is a whole.
    pub const fn new(percent: u8) -> Self {
        Self(if percent < 100 { percent } else { 100 })
    }

    /// So much of `whole`, rounded down.
    pub const fn of(self, whole: u64) -> u64 {
        let percent = self.0 as u64;
        whole / 100 * percent + whole % 100 * percent / 100
    }
}

impl Room {
    /// In bytes, on a disk of this size.
    pub const fn of(self, disk: u64) -> u64 {
        match self {
            Self::Share(share) => share.of(disk),
            Self::Size(size) => size.get(),
        }
    }
}

impl Period {
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    pub const fn get(self) -> Duration {
        self.0
    }
}

impl ByteSize {
    pub const fn kib(kib: u64) -> Self {
        Self(kib * 1_024)
    }

    pub const fn mib(mib: u64) -> Self {
        Self(mib * 1024 * 1024)
    }

    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Factors in milliseconds; the first that divides is used to print.
const PERIODS: &[(&str, u64)] =
    &[("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];
const SIZES: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// `12.5 s` → the number of smallest units, or what would be right.
fn parse(text: &str, units: &[(&str, u64)], example: &str) -> Result<u64, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let wrong = || {
        let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
        format!("`{text}` is not a number and a unit ({}), as in \"{example}\"", names.join(", "))
    };
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(wrong)?;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(*factor).ok_or_else(wrong);
    }
    let fraction = number.parse::<f64>().map_err(|_| wrong())?;
    #[expect(clippy::cast_precision_loss, reason = "factors are exact in f64")]
    let scaled = fraction * (*factor as f64);
    // NaN is not in the range either.
    if !(0.0..=9e15).contains(&scaled) {
        return Err(wrong());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    Ok(scaled.round() as u64)
}

fn print(value: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let fits = units.iter().find(|(_, factor)| value != 0 && value.is_multiple_of(*factor));
    match fits.or(units.last()) {
        Some((name, factor)) => write!(f, "{} {name}", value / factor),
        None => write!(f, "{value}"),
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text, PERIODS, "200 ms").map(Self::from_millis)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text, SIZES, "512 MiB").map(Self)
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.trim().strip_suffix('%').and_then(|number| number.trim().parse().ok());
        let percent = number.filter(|percent| *percent <= 100);
        percent.map(Self).ok_or_else(|| {
            format!("`{text}` is not a whole number from 0 to 100 and %, as in \"40 %\"")
        })
    }
}

impl FromStr for Room {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().ends_with('%') {
            return text.parse().map(Self::Share);
        }
        let wrong =
            |_| format!("`{text}` is neither a share nor a size, as in \"10 %\" or \"512 MiB\"");
        text.parse().map(Self::Size).map_err(wrong)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0)
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => share.fmt(f),
            Self::Size(size) => size.fmt(f),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX), PERIODS, f)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self.0, SIZES, f)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Room {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Room {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl schemars::JsonSchema for Period {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Period".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "format": "period",
            "description": "a duration as a number and a unit: ms, s, min, h, d",
            "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*(ms|s|min|h|d)\s*$"
        })
    }
}

impl schemars::JsonSchema for Percent {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Percent".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "format": "percent",
            "description": "a whole number from 0 to 100 and %",
            "pattern": r"^\s*(100|[0-9]?[0-9])\s*%\s*$"
        })
    }
}

impl schemars::JsonSchema for Room {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Room".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "format": "room",
            "description": "a share in %, or a number of bytes as a number and a unit",
            "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*(%|B|KiB|MiB|GiB|kB|MB|GB)\s*$"
        })
    }
}

impl schemars::JsonSchema for ByteSize {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "format": "bytesize",
            "description": "a number of bytes as a number and a unit: B, KiB, MiB, GiB, kB, MB, GB",
            "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*(B|KiB|MiB|GiB|kB|MB|GB)\s*$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_words() {
        assert_eq!("200 ms".parse(), Ok(Period::from_millis(200)));
        assert_eq!("1.5s".parse(), Ok(Period::from_millis(1_500)));
        assert_eq!("512 MiB".parse(), Ok(ByteSize::mib(512)));
        assert_eq!(Period::from_secs(120).to_string(), "2 min");
        assert_eq!(ByteSize::mib(1024).to_string(), "1 GiB");
    }

    #[test]
    fn shares_are_words_and_take_their_part() {
        assert_eq!(" 40% ".parse(), Ok(Percent::new(40)));
        assert_eq!(Percent::new(40).to_string(), "40 %");
        assert_eq!(Percent::new(40).of(1_005), 402);
        assert_eq!(Percent::ALL.of(u64::MAX), u64::MAX);
        for wrong in ["101 %", "40", "-1 %", "12.5 %", "%"] {
            assert!(wrong.parse::<Percent>().unwrap_err().contains("0 to 100"), "{wrong}");
        }
        assert_eq!("10 %".parse(), Ok(Room::Share(Percent::new(10))));
        assert_eq!("512 MiB".parse(), Ok(Room::Size(ByteSize::mib(512))));
        assert_eq!(Room::Share(Percent::new(10)).of(2_000), 200);
        assert!("10".parse::<Room>().unwrap_err().contains("\"10 %\" or \"512 MiB\""));
    }

    #[test]
    fn a_wrong_word_is_told_with_what_would_be_right() {
        let error = "200 msec".parse::<Period>().unwrap_err();
        assert_eq!(
            error,
            "`200 msec` is not a number and a unit (d, h, min, s, ms), as in \"200 ms\""
        );
        assert!("-1 s".parse::<Period>().is_err());
        assert!("99999999999999 GiB".parse::<ByteSize>().is_err());
        assert!("nan s".parse::<Period>().is_err());
    }
}
