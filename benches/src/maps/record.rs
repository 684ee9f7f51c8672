//! What was measured, as it is kept and as it is shown.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bus::{self, Read};
use super::device::Polled;
use super::map;

/// In the folder of the maps.
const FILE: &str = "measured.json";

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Its version.
    pub(crate) telegraf: String,
    pub(crate) cases: Vec<Case>,
}

/// One map, read by both.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Case {
    pub(crate) title: String,
    pub(crate) values: usize,
    /// Requests that Tidegate plans for Modbus TCP, which no line makes long.
    pub(crate) over_tcp: usize,
    pub(crate) tidegate: Measured,
    pub(crate) telegraf: Vec<Setting>,
}

/// Telegraf with one `optimization`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Setting {
    pub(crate) setting: String,
    pub(crate) read: Measured,
}

/// What the device was asked for one reading of all, and how long that took.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) requests: Vec<Read>,
    /// In tenths of a millisecond, which is finer than a busy machine's sleep.
    pub(crate) took_ms: f64,
}

impl Measured {
    pub(crate) fn new(polled: Polled) -> Self {
        let took_ms = (polled.took.as_secs_f64() * 1e4).round() / 10.0;
        Self { requests: polled.requests, took_ms }
    }

    /// What it would be, reckoned.
    pub(crate) fn reckoned(&self) -> Duration {
        bus::cycle(&self.requests)
    }

    /// Requests, and milliseconds as reckoned and as measured.
    fn cell(&self) -> String {
        let reckoned = self.reckoned().as_secs_f64() * 1e3;
        format!("{}: {reckoned:.0} / {:.0} ms", self.requests.len(), self.took_ms)
    }
}

impl Case {
    /// Telegraf's best where a request is all that counts.
    pub(crate) fn fewest(&self) -> &Setting {
        let all = self.telegraf.iter();
        all.min_by_key(|setting| (setting.read.requests.len(), setting.read.reckoned()))
            .expect("there are settings")
    }

    /// Telegraf's best on this line.
    pub(crate) fn quickest(&self) -> &Setting {
        let all = self.telegraf.iter();
        all.min_by_key(|setting| (setting.read.reckoned(), setting.read.requests.len()))
            .expect("there are settings")
    }

    /// Telegraf's best that reads no register which nobody wants.
    fn without_holes(&self) -> &Setting {
        let all = self.telegraf.iter();
        let plain = all.filter(|setting| !setting.setting.starts_with("max_insert"));
        plain.min_by_key(|setting| setting.read.reckoned()).expect("there are settings")
    }
}

impl Record {
    /// For the documentation.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "| map | values | over TCP | Tidegate | Telegraf {}, least time | fewest requests | no holes |\n\
             | --- | --- | --- | --- | --- | --- | --- |\n",
            self.telegraf
        );
        for case in &self.cases {
            let cell =
                |Setting { setting, read }: &Setting| format!("`{setting}`, {}", read.cell());
            writeln!(
                text,
                "| {} | {} | {} / {} | {} | {} | {} | {} |",
                case.title,
                case.values,
                case.over_tcp,
                case.fewest().read.requests.len(),
                case.tidegate.cell(),
                cell(case.quickest()),
                cell(case.fewest()),
                cell(case.without_holes()),
            )
            .expect("a string takes text");
        }
        text
    }

    /// One line for each case, so that a change shows where it is.
    pub(crate) fn keep(&self) {
        let cases = self.cases.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>();
        let cases = cases.expect("it is numbers and names").join(",\n");
        let text = format!("{{\"telegraf\":\"{}\",\"cases\":[\n{cases}\n]}}\n", self.telegraf);
        std::fs::write(map::folder().join(FILE), text).expect("the folder is writable");
    }

    #[cfg(test)]
    pub(crate) fn kept() -> Self {
        let text = std::fs::read_to_string(map::folder().join(FILE)).expect("it is kept");
        serde_json::from_str(&text).expect("it is what was kept")
    }
}
