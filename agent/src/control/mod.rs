//! What an operator asks the agent for: dead letters, depth, single events.
//!
//! A command puts a [`Request`] and gets an answer in the words of [`words`].
//! A running agent, which holds the file's lock, takes it on a Unix socket: one
//! JSON object a line, one back a line. Where none runs, the command does the
//! same itself, under the same lock. Either way [`Desk`] is where it is
//! answered, and whatever is changed goes through the one writer.
//!
//! The socket is a help and no part of the pipeline: where it cannot be opened
//! the agent says so once and runs without it.

mod answer;
mod ask;
#[cfg(test)]
mod fuzz;
mod serve;
#[cfg(test)]
mod tests;
pub mod words;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use answer::Desk;
pub use ask::{PutError, put};
pub use serve::{Listening, listen};

use crate::buffer::{self, Which};
use crate::{forward, supervise};

/// `[control]`: how commands reach the running agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The Unix socket on which the agent takes commands (dlq, buffer, drain),
    /// for its user and group. Default: `tidegate.sock` in the directory that
    /// systemd made for the service ($`RUNTIME_DIRECTORY`), else `.sock` behind
    /// the buffer's name.
    #[serde(default)]
    pub socket: Option<PathBuf>,
}

impl Config {
    /// The socket of an agent with this buffer.
    pub fn socket(&self, buffer: &Path) -> PathBuf {
        let runtime = std::env::var_os("RUNTIME_DIRECTORY").filter(|path| !path.is_empty());
        self.socket_in(buffer, runtime.as_deref().map(Path::new))
    }

    fn socket_in(&self, buffer: &Path, runtime: Option<&Path>) -> PathBuf {
        if let Some(socket) = &self.socket {
            return socket.clone();
        }
        if let Some(runtime) = runtime {
            return runtime.join("tidegate.sock");
        }
        let mut name = buffer.as_os_str().to_owned();
        name.push(".sock");
        PathBuf::from(name)
    }
}

/// What can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Dead letters before this one, newest first: [`words::Letters`].
    Letters { before: Option<i64>, limit: u32 },
    /// One dead letter: [`words::WholeLetter`].
    Letter { id: i64 },
    /// Sends their events again: [`words::Moved`].
    Requeue { which: Which },
    /// Takes them away: [`words::Moved`].
    Drop { which: Which },
    /// How the buffer stands: [`words::Stats`].
    Stats,
    /// The oldest or newest events: [`words::Peek`].
    Peek { stream: Option<String>, events: u32, newest: bool },
    /// Writes to the file what is in memory only: `null`.
    Write,
    /// Takes the events of another buffer file in: [`words::Imported`]. The
    /// path as whoever answers sees it.
    Import { file: PathBuf },
    /// Ends the agent once its buffer is empty: [`words::Draining`].
    Drain { within_ms: u64 },
}

impl Request {
    /// Whether it needs the writer.
    const fn writes(&self) -> bool {
        matches!(self, Self::Requeue { .. } | Self::Drop { .. } | Self::Import { .. })
    }
}

/// What only a running agent can tell, or be told.
#[derive(Debug)]
pub struct Live {
    pub sources: watch::Receiver<Vec<watch::Receiver<supervise::State>>>,
    pub buffer: watch::Receiver<buffer::Stats>,
    pub forward: watch::Receiver<forward::Status>,
    /// Somebody asked to end the agent once its buffer is empty, within this
    /// time.
    pub drain: watch::Sender<Option<Duration>>,
}
