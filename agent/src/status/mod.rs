//! How the agent is, for machines that look: `/metrics` for Prometheus, `/healthz`
//! and `/readyz` for whoever starts, restarts or relies on it.
//!
//! Nothing here is part of the pipeline, and nothing slows it. The stages count
//! for themselves (`buffer::Stats`, `forward::Status`, `supervise::State`,
//! `modbus::Cycles`); here it is only read, when somebody asks, and made text on
//! a thread that lives as long as that takes. How many ask, how much they say,
//! how long they take and how often a text is made is bounded ([`serve`],
//! [`answer`]).
//!
//! A port that is taken is said once and tried again; data goes on without it.

mod answer;
mod health;
mod metrics;
mod process;
mod serve;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;

use serve::Server;

use crate::buffer::Store;
use crate::clock::Clock;
use crate::pulse::Pulse;
use crate::source::modbus::Cycles;
use crate::source::serial::Frames;
use crate::source::sparkplug::Counts;
use crate::{forward, supervise};

/// `[status]`: figures and health for machines, over HTTP.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address and port on which `/metrics`, `/healthz` and `/readyz` are
    /// answered, to whoever asks, without a login: `127.0.0.1:9464` for
    /// programs of this machine. Default: nothing is answered.
    #[serde(default)]
    pub listen: Option<String>,
}

impl Config {
    /// Where to listen, if anywhere. A configuration that was checked has an
    /// address there.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listen.as_ref()?.parse().ok()
    }
}

/// Answers on the port that the configuration names, as one of these tasks; gives
/// the address where it could be opened.
pub fn start(config: &Config, board: Board, tasks: &mut JoinSet<()>) -> Option<SocketAddr> {
    let server = Server::open(config.address()?);
    let address = server.address();
    tasks.spawn(server.serve(Arc::new(board)));
    address
}

/// What is looked at.
#[derive(Debug)]
pub struct Board {
    pub gateway: String,
    pub clock: Clock,
    /// Another with each change of the configuration.
    pub seen: watch::Receiver<Seen>,
    pub store: Store,
    pub forward: watch::Receiver<forward::Status>,
    /// Another with each look at their files.
    pub certificates: watch::Receiver<Vec<Certificate>>,
}

/// A file of certificates that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The section that names it.
    pub by: String,
    pub file: String,
    /// When its use ends, in seconds since 1970.
    pub ends: i64,
}

/// What runs now.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub sources: Vec<watch::Receiver<supervise::State>>,
    /// The groups of each source that polls in groups, with its name.
    pub cycles: Vec<(Arc<str>, Vec<Arc<Cycles>>)>,
    /// The frames of each source that reads a line, with its name.
    pub frames: Vec<(Arc<str>, Arc<Frames>)>,
    /// What each Sparkplug host saw, with the source's name.
    pub sparkplug: Vec<(Arc<str>, Arc<Counts>)>,
    /// Names of the streams that the configuration defines or uses.
    pub streams: Vec<String>,
    /// How the threads get on.
    pub pulses: Vec<Pulse>,
}
