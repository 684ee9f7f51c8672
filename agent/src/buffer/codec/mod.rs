//! The canonical form of a batch: CBOR with a dictionary.
//!
//! ```text
//! [2,                                          version of this form
//!  [[device, [[label, text] …]] …],            origins
//!  [[name, unit or null] …],                   names
//!  [event …]]
//! event = [origin, time, read, quality, [field …]]   without a head of its own:
//!   origin, time, read, quality, n, field × n
//! ```
//! An origin is a device with the labels of its source. `time` is the
//! difference to the event before (to 0 for the first), wrapping; `read` is
//! null or the difference to `time`. `n` counts fields. A field is the index
//! of its name and the value; where it has a quality of its own, the index
//! stands as a negative integer and the quality follows the value.
//!
//! Values: null, bool, float, text and bytes are CBOR's own; an integer is an
//! `I64`. A decimal is tag 4, a date tag 100, a UUID tag 37, JSON tag 262. The
//! tags of this form alone are [`U64`], [`TIME`], [`ZONED`] and [`LOCAL`],
//! from the range that IANA leaves to be asked for, and those of [`SHORT`]; they
//! never leave the file.
//!
//! What a sensor calls 20.34 has eight bytes as a float, six of which look random and
//! cannot be compressed. Since version 2 such a float is the integer 2034 behind a tag
//! that says how many of its digits are decimals. It stands only for a float that it
//! gives again bit by bit.
//!
//! Heads are written by `ciborium-ll`; the walk is done here, so that text is
//! borrowed and nothing is allocated per event. All reading is of foreign
//! bytes: any bytes give `Ok` or [`Damaged`].
//!
//! [`Damaged`]: super::Damaged

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub(super) use decode::{element, extract, walk};
pub(crate) use encode::{Encoder, Labels};

const VERSION: u64 = 2;
/// Forms that are read: what stands in the first one also stands in the second.
const FORMS: std::ops::RangeInclusive<u64> = 1..=VERSION;

/// Standard tags.
const BIG_POSITIVE: u64 = 2;
const BIG_NEGATIVE: u64 = 3;
const DECIMAL: u64 = 4;
const UUID: u64 = 37;
const DATE: u64 = 100;
const JSON: u64 = 262;
/// A `U64`: without it an integer is an `I64`.
const U64: u64 = 60_100;
/// Nanoseconds since midnight.
const TIME: u64 = 60_101;
/// Nanoseconds since 1970 of an instant.
const ZONED: u64 = 60_102;
/// Nanoseconds since 1970 of a local time without a zone.
const LOCAL: u64 = 60_103;

/// A float of so many decimals: this tag for none, the next one for one, up to the
/// length of [`POWERS`]. Its head is a byte.
const SHORT: u64 = 6;
/// Divided by one of these, an integer gives the float that is nearest to the decimal:
/// both are exact, and IEEE 754 rounds a division once.
const POWERS: [f64; 7] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];

/// Arrays in arrays: no database nests deeper, and a walk by recursion must
/// not be led to the end of its stack by damaged bytes.
const MAX_DEPTH: usize = 16;
