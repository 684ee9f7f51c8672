//! `[[source]]` with `type = "modbus"`: the device map and what can be wrong
//! with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use super::frame::Framing;
pub use super::markers::Markers;
pub use super::serial::{Parity, Serial};
pub use super::signal::Signal;
use super::sunspec;
pub use super::table::Table;
pub use crate::decode::registers::{Order, Type};
use crate::flow::Lane;
use crate::source::port::{self, is_path};
use crate::supervise::ADDRESS;
use crate::units::Period;

/// One connection or serial port: a device, or a gateway or a bus with several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the source, unique in the file.
    pub name: String,
    /// Host and port: `"10.0.0.5:502"`; without a port 502. Or the path of a
    /// serial port: `"/dev/serial/by-id/usb-…"`.
    pub address: String,
    /// A second way to the same devices, which is taken while `address` cannot be
    /// reached or no device answers there: of the same kind, and never open beside it.
    /// Default: none.
    #[serde(default)]
    pub fallback: Option<String>,
    /// What stands around requests and answers: `tcp`, `rtu` or `ascii`.
    /// Default: `tcp` for a host, `rtu` for a serial port.
    #[serde(default)]
    pub framing: Option<Framing>,
    /// How the serial port is set.
    #[serde(default)]
    pub serial: Option<Serial>,
    /// Stream that the events belong to.
    pub stream: String,
    /// Class of priority: `alarm`, `live` or `bulk`. Default: the stream's.
    #[serde(default)]
    pub lane: Option<Lane>,
    /// Static fields that every record of this source carries.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Longest wait for a connection and for each answer. Default: `1 s`.
    #[serde(default = "default_timeout")]
    pub timeout: Period,
    /// What answers on this connection.
    #[serde(rename = "device")]
    pub devices: Vec<Device>,
}

const fn default_timeout() -> Period {
    Period::from_secs(1)
}

/// `[[source.device]]`: one unit behind the connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Name of the device: the key of its records.
    pub name: String,
    /// Modbus unit id, 0 to 255. Default: 1.
    #[serde(default = "default_unit")]
    pub unit: u8,
    /// Order of bytes and words of its values, unless a signal has its own:
    /// `abcd` (big-endian), `cdab`, `badc` or `dcba`. Default: `abcd`.
    #[serde(default)]
    pub order: Order,
    /// Most registers that the device takes in one request, 1 to 125.
    /// Default: 125.
    #[serde(default = "default_max_registers")]
    pub max_registers: u16,
    /// Most coils or discrete inputs in one request, 1 to 2000. Default: 2000.
    #[serde(default = "default_max_bits")]
    pub max_bits: u16,
    /// Most unused registers between two signals that are read along to save
    /// a request; 0 for a device that refuses addresses it does not have.
    /// Default: as many as take less time than the request.
    #[serde(default)]
    pub max_hole: Option<u16>,
    /// Each request reads one value only, for a device that takes no more.
    /// Default: false.
    #[serde(default)]
    pub one_value_per_request: bool,
    /// How long it takes before it begins to answer, which decides on a serial
    /// line how wide a hole is cheaper than a request; `tidegate plan --measure`
    /// shows it. Default: `2 ms` for a device that is alone at its address,
    /// `10 ms` on a line, also behind a gateway.
    #[serde(default)]
    pub latency: Option<Period>,
    /// What is read, and how often.
    #[serde(rename = "group")]
    pub groups: Vec<Group>,
}

const fn default_unit() -> u8 {
    1
}
const fn default_max_registers() -> u16 {
    MAX_REGISTERS
}
const fn default_max_bits() -> u16 {
    MAX_BITS
}

/// An answer of 253 bytes holds no more (Modbus application protocol 1.1b3, 6.3).
const MAX_REGISTERS: u16 = 125;
/// The same for coils and discrete inputs (6.1).
const MAX_BITS: u16 = 2000;

/// `[[source.device.group]]`: signals that are read together and become one
/// event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Name for the log. Default: the group's number, from 0.
    #[serde(default)]
    pub name: Option<String>,
    /// Time from one reading to the next.
    pub interval: Period,
    /// Stream of this group's events. Default: the source's.
    #[serde(default)]
    pub stream: Option<String>,
    /// Class of priority of this group's events. Default: the source's.
    #[serde(default)]
    pub lane: Option<Lane>,
    /// What is read.
    #[serde(default)]
    pub signals: Vec<Signal>,
    /// Instead of `signals`, for a device that says itself what it has: which of its
    /// models are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sunspec: Option<sunspec::Config>,
}

/// Host and port of an address; 502 is the port that Modbus TCP is given.
pub(super) fn endpoint(address: &str) -> Result<(String, u16), String> {
    let (host, port) = port::endpoint(address)?;
    Ok((host, port.unwrap_or(502)))
}

/// Mistakes as they are found: key path inside the source, and what is wrong
/// and what would be right.
#[derive(Default)]
pub(super) struct Mistakes(Vec<(String, String)>);

impl Mistakes {
    pub(super) fn add(&mut self, key: String, what: impl Into<String>) {
        self.0.push((key, what.into()));
    }

    #[cfg(test)]
    pub(super) fn told(&self) -> &[(String, String)] {
        &self.0
    }
}

impl Config {
    /// Every mistake that the types alone do not catch, as (key path inside
    /// the source, what is wrong and what would be right).
    pub fn check(&self) -> Vec<(String, String)> {
        let mut wrong = Mistakes::default();
        if self.name.is_empty() {
            wrong.add("name".into(), "is empty: give the source a name");
        }
        if self.stream.is_empty() {
            wrong.add("stream".into(), "is empty: name the stream of the events");
        }
        self.check_way(&mut wrong);
        if self.timeout.get().is_zero() {
            wrong.add("timeout".into(), "is zero: at least 1 ms");
        }
        if self.devices.is_empty() {
            wrong.add("device".into(), "is empty: add a [[source.device]]");
        }
        let mut names = BTreeSet::new();
        for (index, device) in self.devices.iter().enumerate() {
            let at = format!("device[{index}]");
            if device.name.is_empty() {
                wrong.add(format!("{at}.name"), "is empty: give the device a name");
            } else if !names.insert(&device.name) {
                let what = format!("`{}` is already a device of this source", device.name);
                wrong.add(format!("{at}.name"), what);
            }
            if self.fallback.is_some() && device.name == ADDRESS {
                let what = format!(
                    "`{ADDRESS}` is what the fault of the fallback is called: give the device \
                     another name"
                );
                wrong.add(format!("{at}.name"), what);
            }
            if device.latency.is_some_and(|latency| latency >= self.timeout) {
                let what = "is not below `timeout`, after which no answer is waited for";
                wrong.add(format!("{at}.latency"), what);
            }
            if device.unit == 0 && self.framing().is_ambiguous() {
                let what = "0 is for all units at once, none of which answers: 1 to 247";
                wrong.add(format!("{at}.unit"), what);
            }
            device.check(&at, &mut wrong);
        }
        wrong.0
    }

    /// Where it leads and what is spoken there.
    fn check_way(&self, wrong: &mut Mistakes) {
        self.check_place("address", &self.address, wrong);
        if self.is_serial() {
            self.check_serial(wrong);
        } else if self.serial.is_some() {
            let what = format!(
                "is for a serial port, and `{}` is a host: leave it out, or give the port's path \
                 as `address`",
                self.address
            );
            wrong.add("serial".into(), what);
        }
        if let Some(fallback) = &self.fallback {
            self.check_fallback(fallback, wrong);
        }
    }

    fn check_place(&self, key: &str, address: &str, wrong: &mut Mistakes) {
        if is_path(address) {
            if let Err(what) = port::check_path(address) {
                wrong.add(key.into(), what);
            }
            return;
        }
        match port::endpoint(address) {
            Err(what) => wrong.add(key.into(), what),
            Ok((_, None)) if self.framing().is_ambiguous() => {
                let what = format!(
                    "`{address}` names no port, and only Modbus TCP has one of its own: add it, as \
                     in \"10.0.0.5:4001\""
                );
                wrong.add(key.into(), what);
            }
            Ok(_) => {}
        }
    }

    fn check_fallback(&self, fallback: &str, wrong: &mut Mistakes) {
        if is_path(fallback) != self.is_serial() {
            let what = format!(
                "`{fallback}` is another kind of way than `{}`: a second host for a host, a second \
                 serial port for a serial port",
                self.address
            );
            return wrong.add("fallback".into(), what);
        }
        self.check_place("fallback", fallback, wrong);
        let same = match (endpoint(&self.address), endpoint(fallback)) {
            (Ok(first), Ok(second)) if !self.is_serial() => first == second,
            _ => self.address == fallback,
        };
        if same {
            let what = "is `address` itself: give the other way to the devices, or leave it out";
            wrong.add("fallback".into(), what);
        }
    }

    fn check_serial(&self, wrong: &mut Mistakes) {
        if self.framing() == Framing::Tcp {
            wrong.add("framing".into(), "`tcp` is not spoken on a serial port: `rtu` or `ascii`");
        }
        for (key, what) in self.serial.unwrap_or_default().check(self.framing()) {
            wrong.add(format!("serial.{key}"), what);
        }
    }

    /// What is spoken there.
    pub(super) fn framing(&self) -> Framing {
        let default = if self.is_serial() { Framing::Rtu } else { Framing::Tcp };
        self.framing.unwrap_or(default)
    }

    pub(super) fn is_serial(&self) -> bool {
        is_path(&self.address)
    }

    /// The files that define models.
    pub(in crate::source) fn files(&self) -> Vec<PathBuf> {
        let groups = self.devices.iter().flat_map(|device| &device.groups);
        let sunspec = groups.filter_map(|group| group.sunspec.as_ref());
        sunspec.flat_map(|sunspec| sunspec.definitions.iter().cloned()).collect()
    }

    /// The serial ports that it opens, one at a time, by the keys that name them.
    pub fn ports(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let fallback = self.fallback.as_deref().filter(|fallback| *fallback != self.address);
        let both = [("address", Some(self.address.as_str())), ("fallback", fallback)];
        let named = both.into_iter().filter_map(|(key, address)| Some((key, address?)));
        named.filter(|(_, address)| is_path(address))
    }
}

impl Device {
    fn check(&self, at: &str, wrong: &mut Mistakes) {
        if !(1..=MAX_REGISTERS).contains(&self.max_registers) {
            let what = format!("{} is not within 1 to {MAX_REGISTERS}", self.max_registers);
            wrong.add(format!("{at}.max_registers"), what);
        }
        if !(1..=MAX_BITS).contains(&self.max_bits) {
            let what = format!("{} is not within 1 to {MAX_BITS}", self.max_bits);
            wrong.add(format!("{at}.max_bits"), what);
        }
        if self.groups.is_empty() {
            wrong.add(format!("{at}.group"), "is empty: add a [[source.device.group]]");
        }
        let mut names = BTreeSet::new();
        for (index, group) in self.groups.iter().enumerate() {
            let at = format!("{at}.group[{index}]");
            // Without a name it is told by its place, in the log and elsewhere.
            let name = group.name.clone().unwrap_or_else(|| index.to_string());
            if names.contains(&name) {
                let what = format!("`{name}` is already a group of this device");
                wrong.add(format!("{at}.name"), what);
            }
            names.insert(name);
            group.check(self, &at, wrong);
        }
        let bases = self.groups.iter().filter_map(|group| Some(group.sunspec.as_ref()?.base));
        if bases.collect::<BTreeSet<_>>().len() > 1 {
            let what = "one device has one SunSpec map: give all groups the same `base`, or none";
            wrong.add(format!("{at}.group"), what);
        }
    }
}

impl Group {
    fn check(&self, device: &Device, at: &str, wrong: &mut Mistakes) {
        if self.interval.get().is_zero() {
            wrong.add(format!("{at}.interval"), "is zero: at least 1 ms");
        }
        if self.stream.as_ref().is_some_and(String::is_empty) {
            wrong.add(format!("{at}.stream"), "is empty: name a stream or leave the key out");
        }
        match &self.sunspec {
            None if self.signals.is_empty() => {
                wrong.add(format!("{at}.signals"), "is empty: name what is to be read");
            }
            Some(_) if !self.signals.is_empty() => {
                let what = "stands beside `signals`: make two groups of them";
                wrong.add(format!("{at}.sunspec"), what);
            }
            Some(sunspec) => sunspec.check(&format!("{at}.sunspec"), wrong),
            None => {}
        }
        let mut names = BTreeSet::new();
        for (index, signal) in self.signals.iter().enumerate() {
            let at = format!("{at}.signals[{index}]");
            if signal.name.is_empty() {
                wrong.add(format!("{at}.name"), "is empty: give the signal a name");
            } else {
                let key = if signal.bits.is_empty() { "name" } else { "bits" };
                for (name, _) in signal.fields(device.order) {
                    let what = format!("`{name}` is already a field of this group");
                    if !names.insert(name) {
                        wrong.add(format!("{at}.{key}"), what);
                    }
                }
            }
            signal.check(device, &at, wrong);
        }
    }
}
