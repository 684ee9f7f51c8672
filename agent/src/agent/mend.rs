//! An agent whose file turned out to be damaged is stopped and started anew in
//! the same process: that is all that a restart does, so that nothing comes twice.

use std::time::Duration;

use tracing::warn;

use super::Agent;
use crate::config::Config;

/// Starts an agent anew after its file was damaged, not too often.
#[derive(Debug, Default)]
pub struct Again {
    /// Pause before the next start, and since when that agent ran.
    pause: Duration,
    started: Option<tokio::time::Instant>,
}

/// First pause before an agent is started anew; it doubles up to
/// [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// A medium that damages every new file wears it out with each salvage.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// An agent that ran this long was well.
const STEADY: Duration = Duration::from_mins(10);

impl Again {
    /// Stops the agent and starts a new one, as often as it takes: the disk may
    /// be full or away for a while.
    pub async fn mend(&mut self, broken: Agent, config: &Config) -> Agent {
        if self.started.is_none_or(|started| started.elapsed() >= STEADY) {
            self.pause = FIRST_PAUSE;
        }
        if let Err(error) = broken.stop().await {
            // Its threads may hold the file yet; then the start fails and is
            // tried again.
            warn!(error = format!("{error:#}"), "the agent did not stop in time");
        }
        loop {
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            match Agent::start(config.clone()) {
                Ok(agent) => {
                    self.started = Some(tokio::time::Instant::now());
                    return agent;
                }
                Err(error) => {
                    let retry_in = self.pause;
                    warn!(error = format!("{error:#}"), ?retry_in, "cannot start anew");
                }
            }
        }
    }
}
