//! Event → Kafka record (key, headers, value). No I/O.
//!
//! The formats read the buffer's canonical form without an allocation per
//! event and append bytes to a vector that is used again; a new format is one
//! more file here and touches nothing that is stored.

pub mod json;
pub mod names;
pub mod record;
mod time;
