//! The payload of Sparkplug B 3.0: [`proto`] as the wire has it, `value` and `array` (one
//! value by its type), [`flat`] (a metric as fields), [`property`] (its unit and quality), [`show`]
//! (all of it, for a person).
//!
//! Pure; any bytes give Ok or Err.

mod array;
pub mod flat;
pub mod property;
pub mod proto;
mod show;
mod value;

pub use show::show;
