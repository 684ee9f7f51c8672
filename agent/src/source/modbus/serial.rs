//! `serial = { … }`: how a serial port is set, and what a byte takes on it.
//!
//! The defaults are the specification's: 19,200 baud, even parity, one stop bit,
//! and two where there is no parity, so that a byte of RTU always has 11 bits
//! (Modbus over Serial Line 1.02, 2.5.1); ASCII has 7 data bits (2.5.2).

use serde::{Deserialize, Serialize};

use super::frame::Framing;
pub use crate::source::port::Parity;
use crate::source::port::Setting;

/// How a serial port is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Serial {
    /// Bits in a second. Default: 19200.
    #[serde(default = "default_baud")]
    pub baud: u32,
    /// `even`, `odd` or `none`. Default: `even`.
    #[serde(default)]
    pub parity: Parity,
    /// 7 or 8. Default: 8 for framing `rtu`, 7 for `ascii`.
    #[serde(default)]
    pub data_bits: Option<u8>,
    /// 1 or 2. Default: 1, and 2 without parity.
    #[serde(default)]
    pub stop_bits: Option<u8>,
    /// The adapter hears what it sends itself, as many for two wires do.
    /// Default: false.
    #[serde(default)]
    pub echo: bool,
    /// The kernel's driver turns the direction of an RS-485 line; adapters that
    /// do it themselves need nothing. Default: false.
    #[serde(default)]
    pub rs485: bool,
}

const fn default_baud() -> u32 {
    19_200
}

impl Default for Serial {
    fn default() -> Self {
        Self {
            baud: default_baud(),
            parity: Parity::Even,
            data_bits: None,
            stop_bits: None,
            echo: false,
            rs485: false,
        }
    }
}

impl Serial {
    fn data_bits(self, framing: Framing) -> u8 {
        self.data_bits.unwrap_or(if framing == Framing::Ascii { 7 } else { 8 })
    }

    fn stop_bits(self) -> u8 {
        self.stop_bits.unwrap_or(if self.parity == Parity::None { 2 } else { 1 })
    }

    /// All of it, for what is spoken there.
    pub(super) fn setting(self, framing: Framing) -> Setting {
        Setting {
            baud: self.baud,
            parity: self.parity,
            data_bits: self.data_bits(framing),
            stop_bits: self.stop_bits(),
            rs485: self.rs485,
        }
    }

    /// Key and what is wrong with it.
    pub(super) fn check(self, framing: Framing) -> Vec<(&'static str, String)> {
        let mut wrong = self.setting(framing).check();
        if framing == Framing::Rtu && self.data_bits(framing) == 7 {
            let what = "7 does not fit framing `rtu`, whose bytes have 8 bits: 8, or `ascii`";
            wrong.push(("data_bits", what.to_owned()));
        }
        wrong
    }
}
