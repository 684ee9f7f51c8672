//! The file: which devices there are, what they measure, and what goes wrong with them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use serde::Deserialize;
use tidegate::source::modbus::Framing;
use tidegate::units::Period;

use super::fault::{Fault, What};
use super::modbus::{Map, Signal};
use super::sparkplug;
use super::value::Form;

/// A file that cannot be used, and why.
#[derive(Debug)]
pub struct Wrong(String);

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Wrong {}

impl Wrong {
    pub(super) fn port(name: &str, error: &std::io::Error) -> Self {
        Self(format!("{name} cannot have its address: {error}"))
    }
}

/// All devices.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    #[serde(default)]
    pub(super) modbus: Vec<ModbusPort>,
    #[serde(default)]
    pub(super) text: Vec<TextPort>,
    #[serde(default)]
    pub(super) mqtt: Vec<Publishers>,
    #[serde(default)]
    pub(super) sparkplug: Vec<sparkplug::EdgeNodes>,
}

/// `[[modbus]]`: an address with devices behind it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModbusPort {
    pub(super) name: String,
    /// Host and port, or the path of a link to the pseudo-terminal. Without one: a free port
    /// for `tcp`, a pseudo-terminal for `rtu` and `ascii`.
    #[serde(default)]
    pub(super) address: Option<String>,
    /// Default: `tcp` for a host, `rtu` for a path.
    #[serde(default)]
    framing: Option<Framing>,
    /// As slow as a line of so many bits a second; as fast as it can be without.
    #[serde(default)]
    pub(super) baud: Option<u32>,
    #[serde(rename = "device")]
    pub(super) devices: Vec<Device>,
}

/// `[[modbus.device]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Device {
    pub(super) name: String,
    #[serde(default = "first")]
    pub(super) unit: u8,
    /// From the end of a request to the begin of its answer.
    #[serde(default)]
    pub(super) latency: Option<Period>,
    /// An address between two signals is refused (02), and does not read as 0.
    #[serde(default)]
    pub(super) refuses_holes: bool,
    pub(super) signals: Vec<Signal>,
    /// Models that it has, as `SunSpec` lays them out.
    #[serde(default)]
    pub(super) sunspec: Option<Map>,
    #[serde(default)]
    pub(super) faults: Vec<Fault>,
}

const fn first() -> u8 {
    1
}

/// `[[text]]`: a pseudo-terminal on which a line of text comes now and then.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TextPort {
    pub(super) name: String,
    /// Path of a link to the pseudo-terminal.
    #[serde(default)]
    pub(super) address: Option<String>,
    pub(super) interval: Period,
    /// With `{name}` where a value stands; CR and LF follow.
    pub(super) line: String,
    pub(super) values: Vec<Named>,
    #[serde(default)]
    pub(super) faults: Vec<Fault>,
}

/// `[[mqtt]]`: a broker, and who publishes on it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Publishers {
    pub(super) name: String,
    /// Host and port. Default: a free port of this machine.
    #[serde(default)]
    pub(super) address: Option<String>,
    #[serde(rename = "device")]
    pub(super) devices: Vec<Publisher>,
}

/// `[[mqtt.device]]`: publishes its values as one JSON object.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Publisher {
    pub(super) topic: String,
    pub(super) interval: Period,
    pub(super) values: Vec<Named>,
    #[serde(default)]
    pub(super) faults: Vec<Fault>,
}

/// A value with a name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) value: Form,
}

impl ModbusPort {
    pub(super) fn framing(&self) -> Framing {
        let is_path = self.address.as_ref().is_some_and(|address| address.contains('/'));
        self.framing.unwrap_or(if is_path { Framing::Rtu } else { Framing::Tcp })
    }

    /// As the agent's configuration has it.
    pub(super) fn framing_word(&self) -> &'static str {
        match self.framing() {
            Framing::Tcp => "tcp",
            Framing::Rtu => "rtu",
            Framing::Ascii => "ascii",
        }
    }

    /// Where to listen; `None` for a pseudo-terminal.
    pub(super) fn host(&self) -> Option<&str> {
        match &self.address {
            Some(address) if address.contains('/') => None,
            Some(address) => Some(address),
            None if self.framing() == Framing::Tcp => Some("127.0.0.1:0"),
            None => None,
        }
    }
}

impl File {
    /// Reads and checks a file.
    ///
    /// # Errors
    ///
    /// It cannot be read, or something in it is wrong.
    pub fn load(path: &Path) -> Result<Self, Wrong> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Wrong(format!("cannot read {}: {error}", path.display())))?;
        Self::parse(&text).map_err(|Wrong(what)| Wrong(format!("{}: {what}", path.display())))
    }

    /// From the text of a file.
    ///
    /// # Errors
    ///
    /// It is no TOML, has an unknown or a missing key, or a value that cannot be.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let source = config::File::from_str(text, config::FileFormat::Toml);
        let built = config::Config::builder().add_source(source).build();
        let file = built.and_then(config::Config::try_deserialize::<Self>);
        let file = file.map_err(|error| Wrong(error.to_string()))?;
        let wrong = file.check();
        if wrong.is_empty() { Ok(file) } else { Err(Wrong(wrong.join("\n"))) }
    }

    /// Each thing that is wrong, with where it stands.
    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for port in &self.modbus {
            wrong.extend(port.check());
        }
        for port in &self.text {
            wrong.extend(all(&port.name, &port.values, &port.faults));
            wrong.extend(
                port.interval.get().is_zero().then(|| format!("{}: interval = 0", port.name)),
            );
        }
        for place in &self.mqtt {
            wrong.extend(no_address(&place.name, place.address.as_deref()));
            for device in &place.devices {
                wrong.extend(all(&device.topic, &device.values, &device.faults));
                let is_never = device.interval.get().is_zero();
                wrong.extend(is_never.then(|| format!("{}: interval = 0", device.topic)));
            }
        }
        for group in &self.sparkplug {
            wrong.extend(no_address(&group.name, group.address.as_deref()));
            wrong.extend(group.check());
        }
        let mut names = BTreeSet::new();
        let modbus = self.modbus.iter().map(|port| &port.name);
        let text = self.text.iter().map(|port| &port.name);
        let mqtt = self.mqtt.iter().map(|place| &place.name);
        let sparkplug = self.sparkplug.iter().map(|group| &group.name);
        let all = modbus.chain(text).chain(mqtt).chain(sparkplug);
        let twice = all.filter(|name| !names.insert(*name));
        wrong.extend(twice.map(|name| format!("{name}: there are two of this name")));
        wrong
    }
}

impl ModbusPort {
    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let name = &self.name;
        let is_path = self.address.as_ref().is_some_and(|address| address.contains('/'));
        if is_path && self.framing() == Framing::Tcp {
            wrong.push(format!("{name}: a path takes the framing `rtu` or `ascii`"));
        }
        if self.baud == Some(0) {
            wrong.push(format!("{name}: baud = 0 lets no byte pass"));
        }
        let mut units = BTreeSet::new();
        for device in &self.devices {
            let place = format!("{name}.{}", device.name);
            if !units.insert(device.unit) {
                wrong.push(format!("{place}: there are two of unit {}", device.unit));
            }
            for signal in &device.signals {
                let what = signal.check().map(|what| format!("{place}.{}: {what}", signal.name));
                wrong.extend(what);
            }
            let map = device.sunspec.as_ref().and_then(Map::check);
            wrong.extend(map.map(|what| format!("{place}: {what}")));
            for fault in &device.faults {
                wrong.extend(fault.check().map(|what| format!("{place}: {what}")));
            }
        }
        wrong
    }
}

/// What is wrong with the address of a broker, if there is one.
fn no_address(name: &str, address: Option<&str>) -> Option<String> {
    let address = address.filter(|address| address.parse::<SocketAddr>().is_err())?;
    Some(format!("{name}: `{address}` is no address and port, as 127.0.0.1:1883"))
}

/// What is wrong with values and faults of what is no Modbus.
fn all(place: &str, values: &[Named], faults: &[Fault]) -> Vec<String> {
    let of_values = values.iter().filter_map(|value| {
        let what = value.value.check()?;
        Some(format!("{place}.{}: {what}", value.name))
    });
    let of_faults = faults.iter().filter_map(|fault| {
        let exception = || "an exception is Modbus's alone".to_owned();
        let what = fault.check();
        let what = what.or_else(|| matches!(fault.what, What::Exception(_)).then(exception))?;
        Some(format!("{place}: {what}"))
    });
    of_values.chain(of_faults).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        File::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let modbus = |rest: &str| format!("[[modbus]]\nname = \"bus\"\n{rest}");
        let told = wrong(&modbus("[[modbus.device]]\nname = \"a\"\nsignals = []\nspeed = 1"));
        assert!(told.contains("speed"), "{told}");
        let two = "[[modbus.device]]\nname = \"a\"\nsignals = []\n";
        assert_eq!(wrong(&modbus(&two.repeat(2))), "bus.a: there are two of unit 1");
        let signal = "[[modbus.device]]\nname = \"a\"\nsignals = [{ name = \"s\", table = \"input\", \
                      address = 0, type = \"string\", value = { constant = 1 } }]\n";
        let told = wrong(&modbus(signal));
        assert!(told.starts_with("bus.a.s: `string` is not simulated"), "{told}");
        let path = "address = \"/tmp/bus\"\nframing = \"tcp\"\ndevice = []\n";
        assert_eq!(wrong(&modbus(path)), "bus: a path takes the framing `rtu` or `ascii`");
        let text = "[[text]]\nname = \"scale\"\ninterval = \"1 s\"\nline = \"\"\nvalues = []\n\
                    faults = [{ what = { exception = 2 }, when = { every = 1 } }]\n";
        assert_eq!(wrong(text), "scale: an exception is Modbus's alone");
    }
}
