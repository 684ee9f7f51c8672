//! The Sparkplug host: edge nodes over the connection of the MQTT source.
//!
//! What it promises: a value that goes out as good carries the name that the edge node
//! meant when it sent it, and nothing that came is lost. Aliases mean something only from
//! a birth on and while every message since has come (`node`); what comes otherwise waits
//! for the next birth, bounded (`held`), which is asked for (`rebirth`), or goes out as
//! stale.
//!
//! The parts: [`config`]; `topic`; `host` (all nodes), `node` (session, sequence), `device`
//! (births, deaths, values), `table` (what a birth said), `events` (metrics → events),
//! `held`, `rebirth`, `state` (what the host says of itself). All of them are pure: socket
//! and session are [`super::mqtt`]'s, which asks the host what to make of a message.

pub mod config;
mod context;
mod counts;
mod device;
mod events;
mod held;
mod host;
mod node;
mod rebirth;
mod state;
mod table;
mod topic;

pub use config::Config;
pub use counts::{Count, Counts};
pub(crate) use host::{Arrived, Host};

use super::mqtt::config::Qos;

/// A message that the host sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
}

#[cfg(test)]
mod tests;
