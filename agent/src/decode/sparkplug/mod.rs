//! The payload of Sparkplug B 3.0: [`proto`] as the wire has it, [`read`] (bounded), `value`
//! and `array` (one value by its type), [`flat`] (a metric as fields), [`property`] (its unit
//! and quality), [`show`] (all of it, for a person).
//!
//! Pure; any bytes give Ok or Err.

mod array;
pub mod flat;
mod payload;
pub mod property;
pub mod proto;
mod show;
mod value;

pub use payload::{Error, read};
pub use show::show;
