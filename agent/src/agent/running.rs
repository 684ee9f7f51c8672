//! The sources that run, each with what tells whether another configuration
//! leaves it as it is.

use std::hash::Hasher as _;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use twox_hash::XxHash64;

use crate::collect::SourceId;
use crate::source::modbus::Cycles;
use crate::source::serial::Frames;
use crate::source::sparkplug::Counts;
use crate::{flow, supervise};

/// What a source was made of. The same again needs no other source.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Made {
    /// A hash of its part of the configuration, which would be two kilobytes a signal.
    config: u64,
    labels: Vec<(Arc<str>, Arc<str>)>,
    /// Files that the configuration names (certificates, keys, secrets), and what
    /// stands in them.
    files: Vec<(PathBuf, Option<u64>)>,
    /// By its own words and its streams'.
    flows: Vec<flow::Id>,
}

impl Made {
    pub(super) fn new(
        config: &impl serde::Serialize,
        files: Vec<PathBuf>,
        labels: Vec<(Arc<str>, Arc<str>)>,
        flows: Vec<flow::Id>,
    ) -> Self {
        let mut hash = Hash(XxHash64::with_seed(0));
        serde_json::to_writer(&mut hash, config).expect("a configuration can be written");
        Self { config: hash.0.finish(), labels, files: contents(files), flows }
    }
}

/// Takes what is written to it.
struct Hash(XxHash64);

impl io::Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Of each file a hash of what stands in it; none where it cannot be read.
fn contents(files: Vec<PathBuf>) -> Vec<(PathBuf, Option<u64>)> {
    let hash = |path: &PathBuf| {
        let mut hash = XxHash64::with_seed(0);
        hash.write(&std::fs::read(path).ok()?);
        Some(hash.finish())
    };
    files.into_iter().map(|path| (path.clone(), hash(&path))).collect()
}

/// A source's task.
#[derive(Debug)]
pub(super) struct Running {
    pub name: Arc<str>,
    pub id: SourceId,
    pub made: Made,
    /// How it stands; none for the agent's own.
    pub link: Option<watch::Receiver<supervise::State>>,
    /// What it counts of each group that it polls.
    pub cycles: Vec<Arc<Cycles>>,
    /// What it counts of the frames of its line.
    pub frames: Option<Arc<Frames>>,
    /// What it counts of edge nodes.
    pub sparkplug: Option<Arc<Counts>>,
    pub stop: CancellationToken,
    pub task: AbortHandle,
    /// Closed when the task has ended.
    pub ended: oneshot::Receiver<()>,
}

impl Running {
    /// Stops it, and waits until it has handed over what it read, or until then.
    pub(super) async fn end(self, latest: tokio::time::Instant) {
        self.stop.cancel();
        if tokio::time::timeout_at(latest, self.ended).await.is_err() {
            tracing::info!(source = %self.name, "source did not stop in time and is left behind");
            self.task.abort();
        }
    }
}
