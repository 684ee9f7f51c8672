//! `checksum = { … }`: the bytes by which a frame says that it is whole.

use crc::{CRC_16_ARC, CRC_16_IBM_3740, CRC_16_MODBUS, CRC_16_XMODEM, Crc};
use serde::{Deserialize, Serialize};

// With tables: a line of starts that are none has a checksum looked at for each byte.
static MODBUS: Crc<u16> = Crc::<u16>::new(&CRC_16_MODBUS);
static ARC: Crc<u16> = Crc::<u16>::new(&CRC_16_ARC);
static XMODEM: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);
static CCITT_FALSE: Crc<u16> = Crc::<u16>::new(&CRC_16_IBM_3740);

/// The checksum at the end of each frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `sum8` (the sum's low byte), `xor8`, `crc16_modbus`, `crc16_arc`,
    /// `crc16_xmodem` or `crc16_ccitt_false`.
    pub kind: Kind,
    /// How it is written: `binary` or `hex` (digits). Default: `binary`.
    #[serde(default)]
    pub written: Written,
    /// Which of two binary bytes comes first: `big` (the high one) or `little`.
    /// Default: `little` for `crc16_modbus`, `big` for the others.
    #[serde(default)]
    pub order: Option<Endian>,
    /// The first byte that it covers, counted from 0 at the frame's first. Default: 0.
    #[serde(default)]
    pub from: u16,
    /// Bytes before it that it does not cover, as the `*` of NMEA 0183. Default: 0.
    #[serde(default)]
    pub gap: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Sum8,
    Xor8,
    // By hand: `Crc16Modbus` would be `crc16modbus`.
    #[serde(rename = "crc16_modbus")]
    Modbus,
    #[serde(rename = "crc16_arc")]
    Arc,
    #[serde(rename = "crc16_xmodem")]
    Xmodem,
    #[serde(rename = "crc16_ccitt_false")]
    CcittFalse,
}

#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Written {
    #[default]
    Binary,
    Hex,
}

/// Which of several bytes comes first.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Endian {
    /// The highest.
    #[default]
    Big,
    /// The lowest.
    Little,
}

impl Kind {
    const fn is_one_byte(self) -> bool {
        matches!(self, Self::Sum8 | Self::Xor8)
    }

    fn of(self, bytes: &[u8]) -> u16 {
        match self {
            Self::Sum8 => bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).into(),
            Self::Xor8 => bytes.iter().fold(0_u8, |sum, byte| sum ^ byte).into(),
            Self::Modbus => MODBUS.checksum(bytes),
            Self::Arc => ARC.checksum(bytes),
            Self::Xmodem => XMODEM.checksum(bytes),
            Self::CcittFalse => CCITT_FALSE.checksum(bytes),
        }
    }
}

impl Config {
    /// Bytes that it takes in a frame.
    pub(super) fn width(&self) -> usize {
        let bytes = if self.kind.is_one_byte() { 1 } else { 2 };
        if self.written == Written::Hex { 2 * bytes } else { bytes }
    }

    /// Whether these bytes, of which the last are the checksum, are whole.
    pub(super) fn is_right(&self, bytes: &[u8]) -> bool {
        let split = bytes.len().checked_sub(self.width());
        let Some((covered, given)) = split.and_then(|at| bytes.split_at_checked(at)) else {
            return false;
        };
        let end = covered.len().checked_sub(usize::from(self.gap));
        let covered = end.and_then(|end| covered.get(usize::from(self.from)..end));
        let Some(covered) = covered else { return false };
        self.read(given) == Some(self.kind.of(covered))
    }

    fn read(&self, given: &[u8]) -> Option<u16> {
        if self.written == Written::Hex {
            let digits = std::str::from_utf8(given).ok()?;
            let hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            return hex.then(|| u16::from_str_radix(digits, 16).ok()).flatten();
        }
        let little = if self.kind == Kind::Modbus { Endian::Little } else { Endian::Big };
        Some(match (given, self.order.unwrap_or(little)) {
            ([one], _) => u16::from(*one),
            ([first, second], Endian::Big) => u16::from_be_bytes([*first, *second]),
            ([first, second], Endian::Little) => u16::from_le_bytes([*first, *second]),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config(kind: Kind, written: Written) -> Config {
        Config { kind, written, order: None, from: 0, gap: 0 }
    }

    #[test]
    fn each_kind_is_right_for_a_frame_of_its_kind() {
        let binary = |kind| config(kind, Written::Binary);
        // The check values of the CRC catalogue (reveng), for "123456789".
        for (kind, sum) in [
            (Kind::Modbus, vec![0x37, 0x4B]),
            (Kind::Arc, vec![0xBB, 0x3D]),
            (Kind::Xmodem, vec![0x31, 0xC3]),
            (Kind::CcittFalse, vec![0x29, 0xB1]),
            (Kind::Sum8, vec![0xDD]),
            (Kind::Xor8, vec![0x31]),
        ] {
            let mut frame = b"123456789".to_vec();
            frame.extend(sum);
            assert!(binary(kind).is_right(&frame), "{kind:?}");
            frame[3] ^= 1;
            assert!(!binary(kind).is_right(&frame), "{kind:?}");
        }
        let nmea = Config { from: 1, gap: 1, ..config(Kind::Xor8, Written::Hex) };
        assert!(nmea.is_right(b"$GPHDT,274.07,T*03"));
        assert!(!nmea.is_right(b"$GPHDT,274.07,T*+3"));
        assert!(!nmea.is_right(b"*"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_right_or_not(bytes: Vec<u8>, from in 0_u16..9, gap in 0_u16..9) {
            for kind in [Kind::Sum8, Kind::Xor8, Kind::Arc] {
                for written in [Written::Binary, Written::Hex] {
                    let _either = Config { from, gap, ..config(kind, written) }.is_right(&bytes);
                }
            }
        }
    }
}
