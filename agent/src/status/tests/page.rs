//! A reader of `OpenMetrics` text that takes nothing but what its specification
//! (1.0.0) allows, and of that what `promtool check metrics` asks for.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) unit: Option<String>,
    pub(super) help: String,
    pub(super) samples: Vec<Sample>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

/// The families of a page, or what is wrong with it.
pub(super) fn read(text: &str) -> Result<Vec<Family>, String> {
    let body = text.strip_suffix("# EOF\n").ok_or("it does not end with # EOF")?;
    let mut families: Vec<Family> = Vec::new();
    for line in body.split_terminator('\n') {
        let wrong = |what: &str| format!("{what}: {line}");
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (Some(key), Some(name), Some(value)) = (words.next(), words.next(), words.next())
            else {
                return Err(wrong("a word is missing"));
            };
            if families.last().is_none_or(|last| last.name != name) {
                if families.iter().any(|known| known.name == name) {
                    return Err(wrong("a family comes in two parts"));
                }
                families.push(Family {
                    name: name.to_owned(),
                    kind: String::new(),
                    unit: None,
                    help: String::new(),
                    samples: Vec::new(),
                });
            }
            let family = families.last_mut().expect("it was pushed");
            if !family.samples.is_empty() {
                return Err(wrong("it stands behind the samples"));
            }
            match key {
                "HELP" => family.help = value.to_owned(),
                "TYPE" => family.kind = value.to_owned(),
                "UNIT" => family.unit = Some(value.to_owned()),
                _ => return Err(wrong("an unknown keyword")),
            }
            continue;
        }
        let sample = sample(line).ok_or_else(|| wrong("no sample"))?;
        let family = families.last_mut().ok_or_else(|| wrong("a sample without a family"))?;
        family.samples.push(sample);
    }
    families.iter().try_for_each(Family::check)?;
    Ok(families)
}

fn is_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(|c| c.is_ascii_lowercase())
        && characters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// `name{label="value",…} number`
fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, behind) = rest.split_once("=\"")?;
            let (value, behind) = quoted(behind)?;
            if !is_name(label) || labels.insert(label.to_owned(), value).is_some() {
                return None;
            }
            rest = behind.strip_prefix(',').unwrap_or(behind);
        }
        rest = rest.strip_prefix('}')?;
    }
    let value = match rest.strip_prefix(' ')? {
        "+Inf" => f64::INFINITY,
        number => number.parse().ok().filter(|_| !number.contains(['i', 'n', 'N']))?,
    };
    Some(Sample { name: name.to_owned(), labels, value })
}

/// What stands before the closing quote, and what behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    loop {
        match characters.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => value.push(match characters.next()?.1 {
                'n' => '\n',
                escaped @ ('"' | '\\') => escaped,
                _ => return None,
            }),
            (_, c) => value.push(c),
        }
    }
}

impl Family {
    fn check(&self) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{what}: {self:?}"));
        if !is_name(&self.name) || !self.name.starts_with("tidegate_") {
            return wrong("no name");
        }
        if self.help.is_empty() || self.help.ends_with('.') {
            return wrong("no help, or one with a full stop");
        }
        let unit = self.unit.as_deref();
        if unit.is_some_and(|unit| !self.name.ends_with(&format!("_{unit}"))) {
            return wrong("the unit is not in the name");
        }
        if unit.is_none() && ["_bytes", "_seconds"].iter().any(|unit| self.name.ends_with(unit)) {
            return wrong("the name has a unit that is not said");
        }
        let suffixes: &[&str] = match &*self.kind {
            "gauge" => &[""],
            "counter" => &["_total"],
            "info" => &["_info"],
            "histogram" => &["_sum", "_count", "_bucket"],
            _ => return wrong("no type"),
        };
        if ["_total", "_info", "_count", "_sum", "_bucket"].iter().any(|s| self.name.ends_with(s)) {
            return wrong("a suffix in the family's name");
        }
        let mut seen = BTreeSet::new();
        for sample in &self.samples {
            let suffix = sample.name.strip_prefix(&self.name);
            if !suffix.is_some_and(|suffix| suffixes.contains(&suffix)) {
                return wrong("a sample of another family");
            }
            if !seen.insert((&sample.name, &sample.labels)) {
                return wrong("a sample comes twice");
            }
            if self.kind != "gauge" && !(sample.value >= 0.0 && sample.value.is_finite()) {
                return wrong("a count that is none");
            }
        }
        if self.kind == "histogram" { self.check_histogram() } else { Ok(()) }
    }

    /// One without labels of its own, as all are here.
    fn check_histogram(&self) -> Result<(), String> {
        let buckets = self.samples.iter().filter(|sample| sample.name.ends_with("_bucket"));
        let (mut end, mut count) = (f64::NEG_INFINITY, 0.0);
        for bucket in buckets {
            let le = bucket.labels.get("le").map(String::as_str);
            let le =
                le.and_then(|le| if le == "+Inf" { Some(f64::INFINITY) } else { le.parse().ok() });
            if !le.is_some_and(|le| le > end) || bucket.value < count {
                return Err(format!("buckets out of order: {self:?}"));
            }
            (end, count) = (le.unwrap_or(end), bucket.value);
        }
        let total = self.samples.iter().find(|sample| sample.name.ends_with("_count"));
        if end.is_finite() || total.is_none_or(|total| total.value.to_bits() != f64::to_bits(count))
        {
            return Err(format!("the last bucket is not all: {self:?}"));
        }
        Ok(())
    }
}

#[test]
fn what_is_no_open_metrics_is_refused() {
    let good = "# HELP tidegate_a_bytes Help\n# TYPE tidegate_a_bytes gauge\n\
                # UNIT tidegate_a_bytes bytes\ntidegate_a_bytes{l=\"x\\\"\\n\"} 1\n# EOF\n";
    let read_good = read(good).unwrap();
    assert_eq!(read_good[0].samples[0].labels["l"], "x\"\n");
    for (from, to) in [
        ("# EOF\n", ""),
        ("# HELP tidegate_a_bytes Help\n", ""),
        ("gauge", "counter"),
        ("gauge", "number"),
        ("# UNIT tidegate_a_bytes bytes\n", ""),
        ("bytes bytes\n", "bytes seconds\n"),
        ("} 1", "} one"),
        ("\\\"", "\""),
        ("\\n", "\\t"),
        ("tidegate_a_bytes{l", "tidegate_b_bytes{l"),
        (" 1\n", " 1\ntidegate_a_bytes{l=\"x\\\"\\n\"} 2\n"),
        (" 1\n", " 1\n# HELP tidegate_a_bytes Again\n"),
    ] {
        let broken = good.replacen(from, to, 1);
        assert_ne!(broken, good);
        assert!(read(&broken).is_err(), "{broken}");
    }
}
