//! Tidegate: reads sensors and databases, keeps every event in one `SQLite`
//! file, and hands it to Kafka exactly once.
//!
//! # Layout
//!
//! The modules stand in the order in which an event meets them; each stage
//! knows only its neighbours, which `tests/tidy.rs` holds. `docs/safety.md` has
//! the rules that the comments name as SAFETY and a number.

pub mod event;
pub mod raw;
pub mod units;

pub mod config;

pub mod clock;
pub mod delays;
pub mod flow;
pub mod pulse;

pub mod source;
pub mod supervise;

pub mod decode;

pub mod collect;

pub mod buffer;

pub mod encode;

pub mod forward;

pub mod control;
pub mod status;
pub mod system;

pub mod agent;
pub mod memory;
pub mod notify;
pub mod tap;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod simulator;
