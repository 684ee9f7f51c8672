//! Tidegate: reads sensors and databases, keeps every event in one `SQLite`
//! file, and hands it to Kafka exactly once.
//!
//! # Layout
//!
//! The modules stand in the order in which an event meets them; each stage
//! knows only the one after it. The rules behind them are in `ARCHITECTURE.md`.

pub mod event;
pub mod units;

pub mod config;

pub mod clock;
pub mod flow;

pub mod source;
pub mod supervise;

pub mod decode;

pub mod collect;

pub mod buffer;

pub mod encode;

pub mod forward;

pub mod agent;
pub mod memory;
pub mod notify;
