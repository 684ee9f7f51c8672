//! Text → fields by regular expressions whose named groups are the fields.

use std::collections::BTreeSet;

use regex_lite::Regex;
use serde::{Deserialize, Serialize};

use super::text;
use crate::event::Field;

/// How groups of patterns become fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Regular expressions; each named group `(?<weight>[0-9.]+)` is a field. One of
    /// them must be found; the fields of the others are null.
    pub patterns: Vec<String>,
    /// What the groups are. One that is not listed is a number.
    #[serde(default)]
    pub fields: Vec<text::Config>,
}

impl Config {
    /// What is wrong: the key's path, and what would be right.
    pub fn check(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        if self.patterns.is_empty() {
            wrong.push(("patterns".into(), "is empty: write a regular expression".to_owned()));
        }
        let mut groups = BTreeSet::new();
        for (index, pattern) in self.patterns.iter().enumerate() {
            let at = format!("patterns[{index}]");
            match Regex::new(pattern) {
                Err(error) => wrong.push((at, format!("`{pattern}` is no pattern: {error}"))),
                Ok(regex) => {
                    let names: Vec<&str> = regex.capture_names().flatten().collect();
                    if names.is_empty() {
                        let what = "has no named group: write what is to be a field as \
                                    (?<name>…)";
                        wrong.push((at.clone(), what.to_owned()));
                    }
                    for name in names {
                        if !groups.insert(name.to_owned()) {
                            let what = format!("the group `{name}` stands in an earlier pattern");
                            wrong.push((at.clone(), what));
                        }
                    }
                }
            }
        }
        let mut seen = BTreeSet::new();
        for (index, field) in self.fields.iter().enumerate() {
            let at = format!("fields[{index}]");
            wrong
                .extend(field.check().into_iter().map(|(key, what)| (format!("{at}.{key}"), what)));
            let what = if !seen.insert(&field.name) {
                format!("`{}` is listed already", field.name)
            } else if groups.contains(&field.name) || field.name.is_empty() {
                continue;
            } else {
                format!("no pattern has a group `{}`: write it as (?<{0}>…)", field.name)
            };
            wrong.push((format!("{at}.name"), what));
        }
        wrong
    }
}

/// A checked [`Config`].
#[derive(Debug)]
pub struct Decoder(Vec<(Regex, Vec<text::Piece>)>);

/// No pattern was found.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no pattern matches")]
pub struct Unmatched;

impl Decoder {
    pub fn new(config: &Config) -> Self {
        let piece = |name: &str| {
            let known = config.fields.iter().find(|field| field.name == name);
            text::Piece::new(&known.cloned().unwrap_or_else(|| text::Config::plain(name)))
        };
        // One that is no pattern, `check` refused.
        let regexes = config.patterns.iter().filter_map(|pattern| Regex::new(pattern).ok());
        let with_groups = regexes.map(|regex| {
            let groups = regex.capture_names().flatten().map(piece).collect();
            (regex, groups)
        });
        Self(with_groups.collect())
    }

    /// Appends the fields.
    pub fn decode(&self, frame: &[u8], fields: &mut Vec<Field>) -> Result<(), Unmatched> {
        let text = text::of_bytes(frame);
        let before = fields.len();
        let mut found = false;
        for (regex, groups) in &self.0 {
            let captures = regex.captures(&text);
            found |= captures.is_some();
            let names = regex.capture_names().flatten();
            fields.extend(groups.iter().zip(names).map(|(piece, name)| {
                let group = captures.as_ref().and_then(|captures| captures.name(name));
                group.map_or_else(|| piece.absent(), |group| piece.field(group.as_str()))
            }));
        }
        if found {
            return Ok(());
        }
        fields.truncate(before);
        Err(Unmatched)
    }

    /// The fields without values.
    pub fn absent(&self) -> Vec<Field> {
        self.0.iter().flat_map(|(_, groups)| groups).map(text::Piece::absent).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Value;

    fn config(patterns: &[&str], fields: &[(&str, text::Kind)]) -> Config {
        let field = |(name, kind): &(&str, text::Kind)| text::Config {
            kind: *kind,
            ..text::Config::plain(name)
        };
        Config {
            patterns: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
            fields: fields.iter().map(field).collect(),
        }
    }

    fn read(config: &Config, frame: &[u8]) -> Result<Vec<(String, Value)>, Unmatched> {
        let mut fields = Vec::new();
        Decoder::new(config).decode(frame, &mut fields)?;
        Ok(fields.into_iter().map(|field| (field.name.to_string(), field.value)).collect())
    }

    #[test]
    fn groups_become_fields_of_their_types() {
        // A balance of Mettler Toledo: MT-SICS reference, command S.
        let sics = config(
            &[r"^S (?<state>[SD])\s+(?<weight>-?[0-9.]+) (?<unit>\S+)"],
            &[("state", text::Kind::Text), ("unit", text::Kind::Text)],
        );
        assert_eq!(sics.check(), []);
        let expected = vec![
            ("state".to_owned(), Value::Text("S".into())),
            ("weight".to_owned(), Value::F64(100.25)),
            ("unit".to_owned(), Value::Text("g".into())),
        ];
        assert_eq!(read(&sics, b"S S     100.25 g").unwrap(), expected);
        assert_eq!(read(&sics, b"S I"), Err(Unmatched));
        let degree = config(&["(?<temp>[0-9.]+)"], &[]);
        assert_eq!(read(&degree, b"21.5 \xB0C").unwrap(), [("temp".into(), Value::F64(21.5))]);
    }

    #[test]
    fn a_frame_of_several_lines_is_read_by_several_patterns() {
        let meter =
            config(&[r"1-0:1\.8\.1\((?<energy>[0-9.]+)", r"0-1:24\.2\.1\((?<gas>\d+)"], &[]);
        let values = read(&meter, b"1-0:1.8.1(000123.456*kWh)\r\n").unwrap();
        assert_eq!(values, [("energy".into(), Value::F64(123.456)), ("gas".into(), Value::Null)]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let wrong = config(&["(", "x", "(?<a>.)", "(?<a>.)"], &[("b", text::Kind::Text)]).check();
        let keys: Vec<&str> = wrong.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["patterns[0]", "patterns[1]", "patterns[3]", "fields[0].name"]);
        assert_eq!(config(&[], &[]).check().len(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_give_fields_or_an_error(frame: Vec<u8>) {
            let config = config(&["(?<a>[^,]*),(?<b>.*)", "(?<c>[0-9]+)"], &[]);
            let _either = read(&config, &frame);
        }
    }
}
