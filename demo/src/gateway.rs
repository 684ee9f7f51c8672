//! The agent, as the demo sees it: the only file that touches it.

use std::path::Path;

use anyhow::Context as _;
use tidegate::agent::Agent;
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
pub(crate) struct Gateway(Agent);

impl Gateway {
    /// Loads the configuration as `tidegate run` does, and starts; inside the
    /// runtime.
    pub(crate) fn start(config: &Path) -> anyhow::Result<Self> {
        let loaded = tidegate::config::load(config)
            .with_context(|| format!("{} is wrong", config.display()))?;
        Ok(Self(Agent::start(loaded.config).context("cannot start the agent")?))
    }

    pub(crate) fn stats(&self) -> Stats {
        let stats = self.0.stats();
        let forward = match &stats.forward.last_error {
            Some(error) => format!("{}: {error}", stats.forward.state),
            None => stats.forward.state.to_owned(),
        };
        Stats {
            sources: stats.sources.iter().map(|s| (s.source.to_string(), s.up)).collect(),
            events: stats.buffer.events,
            bytes: stats.buffer.bytes,
            oldest: stats.buffer.oldest,
            dead_letters: stats.buffer.dead_letters,
            forward,
        }
    }

    /// Stops the sources, commits and sends what is there.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.0.stop().await?;
        Ok(())
    }
}
