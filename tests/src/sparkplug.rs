//! The judge of a Sparkplug host: what edge nodes said against what stands in Kafka. Who
//! the edge node was does not matter: one that is another program writes a line for each
//! value, `SAID <device> <metric> <ms> <value>`.

use std::collections::BTreeMap;

use crate::judge::Record;

/// One value that an edge node sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Said {
    /// As the records have it: `<node>` or `<node>/<device>`.
    pub device: String,
    pub metric: String,
    /// The metric's time.
    pub ms: u64,
    /// Each is said once.
    pub value: i64,
}

impl Said {
    /// Of a line of another program; `None`: it is about something else.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_once("SAID ")?.1.split(' ');
        let mut next = || words.next().map(str::to_owned);
        let (device, metric) = (next()?, next()?);
        Some(Self { device, metric, ms: next()?.parse().ok()?, value: next()?.parse().ok()? })
    }
}

/// Every value that these records hold, by what it is in them; `quality` is theirs.
fn values(records: &[Record], quality: &str) -> Vec<Said> {
    let mut found = Vec::new();
    for record in records.iter().filter(|record| record.text("quality") == quality) {
        let fields = record.value.as_object().into_iter().flatten();
        for (name, value) in fields {
            let known = ["ts", "ts_ns", "month", "seq", "read_ts"].contains(&name.as_str());
            let Some(value) = value.as_i64().filter(|_| !known) else { continue };
            found.push(Said {
                device: record.text("device").to_owned(),
                metric: name.clone(),
                ms: record.number("ts"),
                value,
            });
        }
    }
    found
}

/// How many values have arrived as good.
pub fn good(records: &[Record]) -> usize {
    values(records, "good").len()
}

/// Whether each of these values has arrived, good or stale.
pub fn has_all(records: &[Record], said: &[Said]) -> bool {
    let mut found = values(records, "good");
    found.extend(values(records, "stale"));
    said.iter().all(|said| found.iter().any(|found| found.value == said.value))
}

/// Each good value was said so: by this device, under this name, at this time, and comes
/// once; and of what was said each value has arrived as good.
pub fn assert_true(records: &[Record], said: &[Said]) {
    let truth: BTreeMap<i64, &Said> = said.iter().map(|said| (said.value, said)).collect();
    let mut missing = truth.clone();
    for found in values(records, "good") {
        let expected = truth.get(&found.value);
        assert_eq!(Some(&&found), expected, "a good value that nobody said so");
        assert!(missing.remove(&found.value).is_some(), "twice: {found:?}");
    }
    assert!(missing.is_empty(), "said, and not there as good: {missing:#?}");
}

/// The last value of each device and metric, as the newest stale records have it.
pub fn stale(records: &[Record]) -> BTreeMap<(String, String), i64> {
    let values = values(records, "stale").into_iter();
    values.map(|found| ((found.device, found.metric), found.value)).collect()
}
