//! The agent, as the demo sees it: the only file that touches it.

use std::path::Path;

use tidegate::event::Timestamp;

/// The agent's figures that the demo shows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stats {
    /// Name of each source, and whether its connection stands.
    pub(crate) sources: Vec<(String, bool)>,
    /// Events in the buffer, their bytes, and the time of the oldest.
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) oldest: Option<Timestamp>,
    pub(crate) dead_letters: u64,
    /// How the uplink stands, in words.
    pub(crate) forward: String,
}

/// The running agent.
#[derive(Debug)]
pub(crate) struct Gateway;

impl Gateway {
    /// PLACEHOLDER: there is no agent to start on this branch yet.
    pub(crate) fn start(_config: &Path) -> anyhow::Result<Self> {
        anyhow::bail!("this build holds no agent")
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats::default()
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        Ok(())
    }
}
