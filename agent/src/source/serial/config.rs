//! `[[source]]` with `type = "serial"`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::checksum;
use super::split;
use crate::decode::escaped::Escaped;
use crate::decode::payload;
use crate::flow::Lane;
use crate::source::port::{self, Parity, Setting};
use crate::units::Period;

/// One line: a serial port, or the TCP port of a device server, that a device writes
/// frames to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the source, unique in the file.
    pub name: String,
    /// The path of a serial port: `"/dev/serial/by-id/usb-…"`. Or host and port of a
    /// device server: `"10.0.0.7:4001"`.
    pub address: String,
    /// How the serial port is set.
    #[serde(default)]
    pub serial: Option<Line>,
    /// Stream that the events belong to.
    pub stream: String,
    /// Class of priority: `alarm`, `live` or `bulk`. Default: the stream's.
    #[serde(default)]
    pub lane: Option<Lane>,
    /// Static fields that every record of this source carries.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Name of the device: the key of its records. Default: the source's name.
    #[serde(default)]
    pub device: Option<String>,
    /// Where a frame ends. Default: with each line.
    #[serde(default)]
    pub split: split::Config,
    /// The checksum at the end of each frame. Default: there is none.
    #[serde(default)]
    pub checksum: Option<checksum::Config>,
    /// How a frame is read. Default: as text, the field `value`.
    #[serde(default)]
    pub parse: payload::Config,
    /// What becomes of bytes that are no frame, and frames that cannot be read.
    #[serde(default)]
    pub unmatched: Unmatched,
    /// Bytes that ask the device for a frame: `'S\r\n'`. Default: none, it speaks of
    /// itself.
    #[serde(default)]
    pub request: Option<Escaped>,
    /// Time from one request to the next.
    #[serde(default)]
    pub interval: Option<Period>,
    /// Longest wait for a connection, and for the answer to a request. Default: `1 s`.
    #[serde(default = "default_timeout")]
    pub timeout: Period,
    /// A line on which nothing came for so long is told to be silent, and a connection
    /// is made anew. Default: it may be silent for ever.
    #[serde(default)]
    pub idle: Option<Period>,
}

const fn default_timeout() -> Period {
    Period::from_secs(1)
}

/// How a serial port is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Bits in a second. Default: 9600.
    #[serde(default = "default_baud")]
    pub baud: u32,
    /// `even`, `odd` or `none`. Default: `none`.
    #[serde(default = "default_parity")]
    pub parity: Parity,
    /// 7 or 8. Default: 8.
    #[serde(default = "default_data_bits")]
    pub data_bits: u8,
    /// 1 or 2. Default: 1.
    #[serde(default = "default_stop_bits")]
    pub stop_bits: u8,
    /// The kernel's driver turns the direction of an RS-485 line; adapters that
    /// do it themselves need nothing. Default: false.
    #[serde(default)]
    pub rs485: bool,
}

const fn default_baud() -> u32 {
    9_600
}
const fn default_parity() -> Parity {
    Parity::None
}
const fn default_data_bits() -> u8 {
    8
}
const fn default_stop_bits() -> u8 {
    1
}

impl Default for Line {
    fn default() -> Self {
        Self {
            baud: default_baud(),
            parity: default_parity(),
            data_bits: default_data_bits(),
            stop_bits: default_stop_bits(),
            rs485: false,
        }
    }
}

impl Line {
    pub(super) const fn setting(self) -> Setting {
        Setting {
            baud: self.baud,
            parity: self.parity,
            data_bits: self.data_bits,
            stop_bits: self.stop_bits,
            rs485: self.rs485,
        }
    }
}

/// What becomes of bytes that are no frame, and frames that cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unmatched {
    /// `dead_letter` (for `tidegate dlq`), `raw` (an event of `stream` with the fields
    /// `raw` and `reason`) or `drop` (only counted). Default: `dead_letter`.
    #[serde(default)]
    pub keep: Keep,
    /// Stream of those events, with `keep = "raw"`.
    #[serde(default)]
    pub stream: Option<String>,
    /// Their class of priority: `alarm`, `live` or `bulk`. Default: the stream's.
    #[serde(default)]
    pub lane: Option<Lane>,
}

#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    #[default]
    DeadLetter,
    Raw,
    Drop,
}

impl Config {
    /// The files that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        self.parse.file().into_iter().collect()
    }

    /// The serial port that is opened, if it is one.
    pub fn port(&self) -> Option<&str> {
        port::is_path(&self.address).then_some(self.address.as_str())
    }

    /// Whether its bytes come with a bit of parity that the kernel looks at.
    pub(super) fn has_parity(&self) -> bool {
        let line = self.serial.unwrap_or_default();
        self.port().is_some() && line.parity != Parity::None
    }

    /// Every mistake that the types alone do not catch, as (key path inside
    /// the source, what is wrong and what would be right).
    pub fn check(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        let mut say = |key: &str, what: &str| wrong.push((key.to_owned(), what.to_owned()));
        if self.name.is_empty() {
            say("name", "is empty: give the source a name");
        }
        if self.stream.is_empty() {
            say("stream", "is empty: name the stream of the events");
        }
        if self.device.as_ref().is_some_and(String::is_empty) {
            say("device", "is empty: give the device a name, or leave the key out");
        }
        if self.timeout.get().is_zero() {
            say("timeout", "is zero: at least 1 ms");
        }
        if self.idle.is_some_and(|idle| idle.get().is_zero()) {
            say("idle", "is zero: at least 1 ms, or leave it out");
        }
        if let (Some(idle), Some(interval)) = (self.idle, self.interval)
            && idle < interval
        {
            say(
                "idle",
                "is shorter than `interval`: the line is silent from one request to the next",
            );
        }
        self.check_request(&mut say);
        self.check_unmatched(&mut say);
        self.check_way(&mut say);
        let split = self.split.check();
        if split.is_empty() {
            self.check_room(&mut say);
        }
        for (key, what) in split {
            say(&format!("split.{key}"), &what);
        }
        for (key, what) in self.parse.check() {
            say(&format!("parse.{key}"), &what);
        }
        if let Some(key) = self.parse.rows() {
            say(&format!("parse.{key}"), "is for payloads of MQTT: a frame is one row");
        }
        wrong
    }

    fn check_request(&self, say: &mut impl FnMut(&str, &str)) {
        match (&self.request, self.interval) {
            (Some(request), _) if request.get().is_empty() => {
                say("request", "is empty: the bytes to send, or leave it out");
            }
            (Some(_), None) => say("interval", "is missing: how often `request` is sent"),
            (None, Some(_)) => say("interval", "is for `request`: what is sent so often?"),
            (Some(_), Some(interval)) if interval.get().is_zero() => {
                say("interval", "is zero: at least 1 ms");
            }
            _ => {}
        }
    }

    fn check_unmatched(&self, say: &mut impl FnMut(&str, &str)) {
        let Unmatched { keep, stream, .. } = &self.unmatched;
        match (keep, stream.as_deref()) {
            (Keep::Raw, None | Some("")) => {
                say("unmatched.stream", "is missing: the stream that takes what cannot be read");
            }
            (Keep::Raw, Some(stream)) if stream == self.stream => {
                say("unmatched.stream", "is that of the readings: it has other fields");
            }
            (Keep::DeadLetter | Keep::Drop, Some(_)) => {
                say("unmatched.stream", "is for `keep = \"raw\"`: leave it out");
            }
            _ => {}
        }
    }

    /// Whether what is looked for in a frame can stand in one.
    fn check_room(&self, say: &mut impl FnMut(&str, &str)) {
        let room = self.split.room();
        if let Some(checksum) = &self.checksum {
            let (width, tail) = (checksum.width(), self.split.tail());
            if tail > 0 && width > tail {
                let what =
                    format!("is {tail}, and the checksum that stands there has {width} bytes");
                say("split.tail", &what);
            }
            if usize::from(checksum.from) + usize::from(checksum.gap) + width > room {
                let what = format!(
                    "`from`, `gap` and its own {width} bytes are more than a frame has: {room}"
                );
                say("checksum", &what);
            }
        }
        if let payload::Config::Binary(layout) = &self.parse
            && let Some(index) = layout.beyond(room)
        {
            let what = format!("stands beyond the end: a frame has at most {room} bytes");
            say(&format!("parse.fields[{index}].at"), &what);
        }
    }

    /// Where it leads.
    fn check_way(&self, say: &mut impl FnMut(&str, &str)) {
        if port::is_path(&self.address) {
            if let Err(what) = port::check_path(&self.address) {
                say("address", &what);
            }
            for (key, what) in self.serial.unwrap_or_default().setting().check() {
                say(&format!("serial.{key}"), &what);
            }
            return;
        }
        match port::endpoint(&self.address) {
            Err(what) => say("address", &what),
            Ok((_, None)) => {
                let what =
                    format!("`{}` names no port: add it, as in \"10.0.0.7:4001\"", self.address);
                say("address", &what);
            }
            Ok(_) => {}
        }
        if self.serial.is_some() {
            let what = format!(
                "is for a serial port, and `{}` is a host: leave it out, or give the port's path \
                 as `address`",
                self.address
            );
            say("serial", &what);
        }
    }
}
