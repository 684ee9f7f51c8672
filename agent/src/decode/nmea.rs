//! A sentence of NMEA 0183 → fields.
//!
//! `$` or `!`, an address (two letters of the talker, three of the sentence), fields
//! between commas, `*` and the checksum: the XOR of all bytes between `$` and `*`, as
//! two hex digits (NMEA 0183 version 4.10, 5.3; the same in IEC 61162-1, 7.2). The
//! fields of the usual sentences have their names here; all others are `c1`, `c2` … .
//! A field that is empty has no value: the device does not know it.

use serde::{Deserialize, Serialize};

use super::names::Names;
use super::{number, text};
use crate::event::{Field, Quality, Value};

/// Which sentences are taken.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Only these sentences: `["GGA", "RMC"]`; the others are passed over. Empty: all.
    #[serde(default)]
    pub sentences: Vec<String>,
    /// Only those of these talkers: `["GP", "GN"]`. Empty: all.
    #[serde(default)]
    pub talkers: Vec<String>,
    /// Sentences without a checksum are taken, too. Default: false.
    #[serde(default)]
    pub unchecked: bool,
}

impl Config {
    /// What is wrong: the key's path, and what would be right.
    pub fn check(&self) -> Vec<(String, String)> {
        let upper = |text: &str| text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        let mut wrong = Vec::new();
        for (index, sentence) in self.sentences.iter().enumerate() {
            if sentence.is_empty() || !upper(sentence) {
                let what =
                    format!("`{sentence}` is no sentence: as in \"GGA\", without its talker");
                wrong.push((format!("sentences[{index}]"), what));
            }
        }
        for (index, talker) in self.talkers.iter().enumerate() {
            if !upper(talker) || !(1..=2).contains(&talker.len()) {
                let what = format!("`{talker}` is no talker: two letters, as in \"GP\", or \"P\"");
                wrong.push((format!("talkers[{index}]"), what));
            }
        }
        wrong
    }
}

/// What a sentence is to whom the configuration is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sentence {
    /// It is right, and its fields are good or not.
    Taken(Quality),
    /// It is right, and nobody wants it.
    Passed,
}

/// Why it is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("no sentence of NMEA 0183 ($, an address, fields between commas)")]
    Shape,
    #[error("no checksum at its end (`unchecked = true` takes it)")]
    Unchecked,
    #[error("its checksum is {given:02X}, and that of its bytes {right:02X}")]
    Checksum { given: u8, right: u8 },
}

/// What stands at one place of a sentence.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// A number by this name.
    Number(&'static str),
    Text(&'static str),
    /// `hhmmss.ss` in UTC.
    Utc,
    /// `ddmmyy`.
    Date,
    /// Day, month and year at three places.
    DayMonthYear,
    /// Degrees and minutes, and the letter behind them: `ddmm.mmm,N`.
    Latitude,
    Longitude,
    /// A number and the letter of its direction: west is below zero.
    EastWest(&'static str),
    /// `A` is valid, `V` is not.
    Status,
    /// The letter of the unit that the name before it says. Another one makes that value
    /// bad: before version 2.3 some sentences had no letters, and a number stands here.
    Unit(&'static str),
    /// How the position was found; 0 is not at all.
    Fix,
    /// The same as a letter, from version 2.3 on; `N` is not at all.
    Mode,
}

/// The fields of a sentence (NMEA 0183 version 4.10, 8.3); none for one that has no
/// names here.
fn parts(sentence: &str) -> &'static [Part] {
    use Part::{
        Date, DayMonthYear, EastWest, Fix, Latitude, Longitude, Mode, Number, Status, Text, Unit,
        Utc,
    };
    match sentence {
        "GGA" => &[
            Utc,
            Latitude,
            Longitude,
            Fix,
            Number("satellites"),
            Number("hdop"),
            Number("altitude_m"),
            Unit("M"),
            Number("geoid_m"),
            Unit("M"),
            Number("dgps_age_s"),
            Text("dgps_station"),
        ],
        "RMC" => &[
            Utc,
            Status,
            Latitude,
            Longitude,
            Number("speed_kn"),
            Number("course"),
            Date,
            EastWest("variation"),
            Mode,
            Text("nav_status"),
        ],
        "GLL" => &[Latitude, Longitude, Utc, Status, Mode],
        "VTG" => &[
            Number("course"),
            Unit("T"),
            Number("course_magnetic"),
            Unit("M"),
            Number("speed_kn"),
            Unit("N"),
            Number("speed_kmh"),
            Unit("K"),
            Mode,
        ],
        "ZDA" => &[Utc, DayMonthYear, Number("zone_h"), Number("zone_min")],
        "HDT" => &[Number("heading"), Unit("T")],
        "HDG" => &[Number("heading_magnetic"), EastWest("deviation"), EastWest("variation")],
        "MWV" => {
            &[Number("wind_angle"), Text("reference"), Number("wind_speed"), Text("unit"), Status]
        }
        "DPT" => &[Number("depth_m"), Number("transducer_m"), Number("range_m")],
        "DBT" => &[
            Number("depth_ft"),
            Unit("f"),
            Number("depth_m"),
            Unit("M"),
            Number("depth_fathoms"),
            Unit("F"),
        ],
        "MTW" => &[Number("water_temp"), Unit("C")],
        "VHW" => &[
            Number("heading"),
            Unit("T"),
            Number("heading_magnetic"),
            Unit("M"),
            Number("speed_kn"),
            Unit("N"),
            Number("speed_kmh"),
            Unit("K"),
        ],
        _ => &[],
    }
}

/// Appends the fields of a sentence, the first of which say which it is.
pub fn decode(
    frame: &[u8],
    config: &Config,
    names: &mut Names,
    fields: &mut Vec<Field>,
) -> Result<Sentence, Error> {
    let frame = frame.trim_ascii();
    let frame = frame.strip_prefix(b"$").or_else(|| frame.strip_prefix(b"!")).unwrap_or(frame);
    let body = checked(frame, config.unchecked)?;
    let text = text::of_bytes(body);
    let (address, values) = text.split_once(',').ok_or(Error::Shape)?;
    if address.is_empty() || !address.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Error::Shape);
    }
    // A maker's own sentence is `P`, three letters of the maker and what he likes.
    let talker = if address.starts_with('P') { 1 } else { 2 };
    let (talker, sentence) = address.split_at_checked(talker).ok_or(Error::Shape)?;
    let wanted = |list: &[String], word: &str| list.is_empty() || list.iter().any(|w| w == word);
    if !wanted(&config.sentences, sentence) || !wanted(&config.talkers, talker) {
        return Ok(Sentence::Passed);
    }
    let mut reading = Reading { names, fields, quality: Quality::Good };
    reading.names.rewind();
    reading.push("talker", Some(Value::Text(talker.into())));
    reading.push("sentence", Some(Value::Text(sentence.into())));
    let mut values = values.split(',');
    for part in parts(sentence) {
        reading.part(*part, &mut values);
    }
    if parts(sentence).is_empty() {
        for (index, value) in values.enumerate() {
            let value = number::parse(value).unwrap_or_else(|| text_or_null(value));
            reading.push(&format!("c{}", index + 1), Some(value));
        }
    }
    Ok(Sentence::Taken(reading.quality))
}

/// What stands before the checksum, once that is right.
fn checked(frame: &[u8], unchecked: bool) -> Result<&[u8], Error> {
    let Some(at) = frame.iter().rposition(|byte| *byte == b'*') else {
        return if unchecked { Ok(frame) } else { Err(Error::Unchecked) };
    };
    let (body, sum) = frame.split_at(at);
    let digits = sum.get(1..).and_then(|sum| std::str::from_utf8(sum).ok());
    let digits = digits.filter(|digits| digits.len() == 2 && !digits.starts_with('+'));
    let given = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
    let given = given.ok_or(Error::Shape)?;
    let right = body.iter().fold(0, |sum, byte| sum ^ byte);
    if given == right { Ok(body) } else { Err(Error::Checksum { given, right }) }
}

struct Reading<'a> {
    names: &'a mut Names,
    fields: &'a mut Vec<Field>,
    quality: Quality,
}

impl Reading<'_> {
    /// `None` is a value that is not what it should be.
    fn push(&mut self, name: &str, value: Option<Value>) {
        let quality = value.is_none().then_some(Quality::BadPayload);
        let value = value.unwrap_or(Value::Null);
        self.fields.push(Field { name: self.names.get(name), unit: None, value, quality });
    }

    fn part<'t>(&mut self, part: Part, values: &mut impl Iterator<Item = &'t str>) {
        // Older versions of the standard have fewer fields at the end.
        let Some(value) = values.next() else { return };
        match part {
            Part::Unit(letter) => {
                if !value.is_empty()
                    && value != letter
                    && let Some(before) = self.fields.last_mut()
                {
                    (before.value, before.quality) = (Value::Null, Some(Quality::BadPayload));
                }
            }
            Part::Fix => {
                self.void_if(value == "0");
                self.push("fix", or_null(value, number::parse));
            }
            Part::Mode => {
                self.void_if(value == "N");
                self.push("mode", Some(text_or_null(value)));
            }
            Part::Number(name) => self.push(name, or_null(value, number::parse)),
            Part::Text(name) => self.push(name, Some(text_or_null(value))),
            Part::Utc => self.push("utc", or_null(value, |text| utc(text).map(Value::Time))),
            Part::Date => self.push("date", or_null(value, |text| date(text).map(Value::Date))),
            Part::DayMonthYear => {
                let (month, year) = (values.next(), values.next());
                let days = || days(year?.parse().ok()?, month?.parse().ok()?, value.parse().ok()?);
                self.push("date", or_null(value, |_| days().map(Value::Date)));
            }
            Part::Latitude => self.angle("lat", value, values.next(), 2),
            Part::Longitude => self.angle("lon", value, values.next(), 3),
            Part::EastWest(name) => {
                let sign = match values.next() {
                    Some("E") => Some(1.0),
                    Some("W") => Some(-1.0),
                    _ => None,
                };
                let signed = |text: &str| Some(Value::F64(finite(text)? * sign?));
                self.push(name, or_null(value, signed));
            }
            Part::Status => {
                self.void_if(value == "V");
                self.push("status", Some(text_or_null(value)));
            }
        }
    }

    /// The sentence says so of itself.
    fn void_if(&mut self, is_void: bool) {
        if is_void {
            self.quality = Quality::DeviceError;
        }
    }

    fn angle(&mut self, name: &str, value: &str, side: Option<&str>, digits: usize) {
        self.push(name, or_null(value, |text| degrees(text, side?, digits).map(Value::F64)));
    }
}

fn or_null(text: &str, read: impl Fn(&str) -> Option<Value>) -> Option<Value> {
    if text.is_empty() { Some(Value::Null) } else { read(text) }
}

fn text_or_null(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { Value::Text(text.into()) }
}

fn finite(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// `dddmm.mmm` and its side → degrees; south and west are below zero.
fn degrees(text: &str, side: &str, digits: usize) -> Option<f64> {
    let sign = match side {
        "N" | "E" => 1.0,
        "S" | "W" => -1.0,
        _ => return None,
    };
    let (whole, minutes) = text.split_at_checked(digits)?;
    let whole: u8 = whole.parse().ok()?;
    let minutes = finite(minutes).filter(|minutes| (0.0..60.0).contains(minutes))?;
    Some(sign * (f64::from(whole) + minutes / 60.0))
}

/// `hhmmss.sss` → nanoseconds since midnight. A leap second is the second 60.
fn utc(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (clock, fraction_digits) = (digits(whole, 6)?, fraction.len());
    if fraction_digits > 9 {
        return None;
    }
    let fraction = if fraction.is_empty() { 0 } else { digits(fraction, fraction_digits)? };
    let (hours, minutes, seconds) = (clock / 10_000, clock / 100 % 100, clock % 100);
    if hours > 23 || minutes > 59 || seconds > 60 {
        return None;
    }
    let missing = u32::try_from(9 - fraction_digits).ok()?;
    let seconds = u64::from(hours * 3_600 + minutes * 60 + seconds);
    Some(seconds * 1_000_000_000 + u64::from(fraction) * 10_u64.pow(missing))
}

/// `ddmmyy` → days since 1970; years of two digits are 1980 to 2079, GPS began in 1980.
fn date(text: &str) -> Option<i32> {
    let number = digits(text, 6)?;
    let year = number % 100;
    let century = if year < 80 { 2_000 } else { 1_900 };
    let small = |number: u32| i8::try_from(number).ok();
    days(i16::try_from(century + year).ok()?, small(number / 100 % 100)?, small(number / 10_000)?)
}

fn days(year: i16, month: i8, day: i8) -> Option<i32> {
    let date = jiff::civil::Date::new(year, month, day).ok()?;
    let since = date.duration_since(jiff::civil::date(1970, 1, 1));
    i32::try_from(since.as_hours() / 24).ok()
}

/// Exactly so many digits, at most nine.
fn digits(text: &str, count: usize) -> Option<u32> {
    let right = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    right.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(frame: &str, config: &Config) -> Result<(Sentence, Vec<(String, Value)>), Error> {
        let mut fields = Vec::new();
        let sentence = decode(frame.as_bytes(), config, &mut Names::default(), &mut fields)?;
        let fields = fields.into_iter().map(|f| (f.name.to_string(), f.value)).collect();
        Ok((sentence, fields))
    }

    fn value(frame: &str, name: &str) -> Value {
        let (_, fields) = read(frame, &Config::default()).unwrap();
        fields.into_iter().find(|(known, _)| known == name).map(|(_, value)| value).unwrap()
    }

    const GGA: &str = "$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47";
    const RMC: &str = "$GPRMC,123519.25,A,4807.038,S,01131.000,W,022.4,084.4,230394,003.1,W*4C";

    #[test]
    fn a_position_is_signed_degrees_and_a_unit_stands_in_the_name() {
        assert_eq!(value(GGA, "sentence"), Value::Text("GGA".into()));
        assert_eq!(value(GGA, "lat"), Value::F64(48.0 + 7.038 / 60.0));
        assert_eq!(value(GGA, "lon"), Value::F64(11.0 + 31.0 / 60.0));
        assert_eq!(value(GGA, "satellites"), Value::I64(8));
        assert_eq!(value(GGA, "altitude_m"), Value::F64(545.4));
        assert_eq!(value(GGA, "dgps_age_s"), Value::Null);
        assert_eq!(value(RMC, "lat"), Value::F64(-(48.0 + 7.038 / 60.0)));
        assert_eq!(value(RMC, "variation"), Value::F64(-3.1));
    }

    #[test]
    fn time_and_date_are_those_of_utc() {
        let noon = (12 * 3_600 + 35 * 60 + 19) * 1_000_000_000;
        assert_eq!(value(GGA, "utc"), Value::Time(noon));
        assert_eq!(value(RMC, "utc"), Value::Time(noon + 250_000_000));
        // 24 years and 6 leap days after 1970, and 31 + 28 + 22 days.
        assert_eq!(value(RMC, "date"), Value::Date(24 * 365 + 6 + 81));
        assert_eq!(value("GPZDA,201530.00,04,07,2002,00,00*60", "date"), Value::Date(11_872));
    }

    #[test]
    fn a_wrong_or_missing_checksum_is_no_sentence() {
        let wrong = GGA.replace("08", "09");
        let error = read(&wrong, &Config::default()).unwrap_err();
        assert_eq!(error, Error::Checksum { given: 0x47, right: 0x46 });
        let bare = "$GPHDT,274.07,T";
        assert_eq!(read(bare, &Config::default()), Err(Error::Unchecked));
        assert!(read(bare, &Config { unchecked: true, ..Config::default() }).is_ok());
    }

    #[test]
    fn only_what_is_wanted_is_taken_and_what_is_not_valid_says_so() {
        let only = |sentence: &str, talker: &str| Config {
            sentences: vec![sentence.to_owned()],
            talkers: vec![talker.to_owned()],
            ..Config::default()
        };
        assert_eq!(only("GGA", "GP").check(), []);
        assert_eq!(only("gga", "GPS").check().len(), 2);
        assert_eq!(read(GGA, &only("GGA", "GP")).unwrap().0, Sentence::Taken(Quality::Good));
        assert_eq!(read(GGA, &only("RMC", "GP")).unwrap(), (Sentence::Passed, Vec::new()));
        assert_eq!(read(GGA, &only("GGA", "GN")).unwrap().0, Sentence::Passed);
        let void = read("$GPGLL,,,,,123519,V*0B", &Config { unchecked: true, ..Config::default() });
        assert_eq!(void.unwrap().0, Sentence::Taken(Quality::DeviceError));
        let unchecked = Config { unchecked: true, ..Config::default() };
        for nowhere in [
            "$GPGGA,123519,,,,,0,00,,,M,,M,,",
            "$GPVTG,,T,,M,,N,,K,N",
            "$GPRMC,123519,A,,,,,,,230394,,,N",
        ] {
            let read = read(nowhere, &unchecked).unwrap();
            assert_eq!(read.0, Sentence::Taken(Quality::DeviceError), "{nowhere}");
        }
    }

    #[test]
    fn a_number_whose_letter_is_another_or_none_has_no_value() {
        let unchecked = Config { unchecked: true, ..Config::default() };
        let numbers = |frame: &str| {
            let mut fields = Vec::new();
            decode(frame.as_bytes(), &unchecked, &mut Names::default(), &mut fields).unwrap();
            fields.into_iter().skip(2).map(|field| field.value).collect::<Vec<_>>()
        };
        // Before NMEA 0183 version 2.3: four numbers, and no letters.
        assert_eq!(numbers("$GPVTG,054.7,034.4,005.5,010.2"), [Value::Null, Value::Null]);
        let since = numbers("$GPVTG,054.7,T,034.4,M,005.5,N,010.2,K");
        assert_eq!(since, [54.7, 34.4, 5.5, 10.2].map(Value::F64));
        assert_eq!(numbers("$YXMTW,71.5,F"), [Value::Null]);
        let sides = numbers("$HCHDG,101.1,7.1,,7.1,W");
        assert_eq!(sides, [Value::F64(101.1), Value::Null, Value::F64(-7.1)]);
    }

    #[test]
    fn a_sentence_without_names_is_taken_by_its_columns() {
        let unchecked = Config { unchecked: true, ..Config::default() };
        let (_, fields) = read("$PGRME,15.0,M,,x", &unchecked).unwrap();
        let expected = [
            ("talker", Value::Text("P".into())),
            ("sentence", Value::Text("GRME".into())),
            ("c1", Value::F64(15.0)),
            ("c2", Value::Text("M".into())),
            ("c3", Value::Null),
            ("c4", Value::Text("x".into())),
        ];
        assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value)));
    }

    proptest! {
        #[test]
        fn any_bytes_give_fields_or_an_error(frame: Vec<u8>) {
            let unchecked = Config { unchecked: true, ..Config::default() };
            let _either = decode(&frame, &unchecked, &mut Names::default(), &mut Vec::new());
        }

        #[test]
        fn any_fields_of_a_known_sentence_give_fields_or_an_error(
            sentence in "(GGA|RMC|GLL|VTG|ZDA|HDT|HDG|MWV|DPT|DBT|MTW|VHW)",
            values in r"[0-9.,NSEWAV\-é]{0,60}",
        ) {
            let unchecked = Config { unchecked: true, ..Config::default() };
            let _either = read(&format!("$GP{sentence},{values}"), &unchecked);
        }
    }
}
