//! Devices that are not there, from a short TOML file: Modbus over TCP, RTU and ASCII,
//! lines of text on a serial port, MQTT publishers and Sparkplug edge nodes; with the faults
//! of real ones.
//!
//! `demo devices FILE` runs them for people without hardware, and prints what a gateway's
//! configuration needs to read them. docs/devices.md explains the file.
//!
//! Each port is served by a thread of its own: a late device keeps only its own port
//! waiting, as on a real line.

mod fault;
mod file;
mod modbus;
mod mqtt;
mod sparkplug;
mod terminal;
mod text;
mod value;

use std::io;
use std::time::{Duration, Instant};

pub use file::{File, Wrong};

/// The running devices; dropped, they take no more connections, and MQTT ends.
#[derive(Debug)]
pub struct Devices {
    modbus: Vec<modbus::Port>,
    text: Vec<text::Port>,
    mqtt: Vec<mqtt::Place>,
    sparkplug: Vec<sparkplug::Place>,
}

/// When it is, for the devices: since they started.
#[derive(Debug, Clone, Copy)]
struct Now(Instant);

impl Now {
    fn get(self) -> Duration {
        self.0.elapsed()
    }
}

/// A number to begin noise with, for the so many-th of a kind: neighbours have little in
/// common, and all of its bits are used.
const fn seed(number: u64) -> u64 {
    // The golden ratio in 64 bits, as SplitMix64 steps by it (Steele and others, 2014).
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Where a device says what it is asked and what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Talk {
    Nothing,
    /// Each request and each message, on stderr.
    All,
}

impl Talk {
    fn say(self, words: std::fmt::Arguments<'_>) {
        if self == Self::All {
            // Without a terminal there is nobody to tell.
            io::Write::write_fmt(&mut io::stderr(), format_args!("{words}\n")).ok();
        }
    }
}

impl Devices {
    /// Starts all that the file names; inside a runtime.
    ///
    /// # Errors
    ///
    /// One of them cannot have its port, in words that name both.
    pub async fn start(file: &File, talk: Talk) -> Result<Self, Wrong> {
        let now = Now(Instant::now());
        let mut devices =
            Self { modbus: Vec::new(), text: Vec::new(), mqtt: Vec::new(), sparkplug: Vec::new() };
        for config in &file.modbus {
            let port = modbus::Port::start(config, now, talk);
            devices.modbus.push(port.map_err(|error| Wrong::port(&config.name, &error))?);
        }
        for config in &file.text {
            let port = text::Port::start(config, now, talk);
            devices.text.push(port.map_err(|error| Wrong::port(&config.name, &error))?);
        }
        for config in &file.mqtt {
            let place = mqtt::Place::start(config, now, talk).await;
            devices.mqtt.push(place.map_err(|error| Wrong::port(&config.name, &error))?);
        }
        for config in &file.sparkplug {
            let place = sparkplug::Place::start(config, now, talk).await;
            devices.sparkplug.push(place.map_err(|error| Wrong::port(&config.name, &error))?);
        }
        Ok(devices)
    }

    /// What a gateway's configuration needs to read them, and what it cannot read yet.
    pub fn configuration(&self) -> String {
        let modbus = self.modbus.iter().map(modbus::Port::configuration);
        let mqtt = self.mqtt.iter().map(mqtt::Place::configuration);
        let text = self.text.iter().map(text::Port::configuration);
        let sparkplug = self.sparkplug.iter().map(sparkplug::Place::configuration);
        modbus.chain(mqtt).chain(text).chain(sparkplug).collect::<Vec<_>>().join("\n")
    }

    /// The address of the port or broker of this name: host and port, or a path.
    pub fn address(&self, name: &str) -> Option<String> {
        let modbus = self.modbus.iter().map(|port| (port.name(), port.address()));
        let text = self.text.iter().map(|port| (port.name(), port.address()));
        let mqtt = self.mqtt.iter().map(|place| (place.name(), place.address()));
        let sparkplug = self.sparkplug.iter().map(|place| (place.name(), place.address()));
        let mut all = modbus.chain(text).chain(mqtt).chain(sparkplug);
        all.find(|(own, _)| *own == name).map(|(_, address)| address)
    }
}
