//! The payload of Sparkplug B.

pub mod proto;
