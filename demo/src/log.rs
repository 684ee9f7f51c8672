//! The agent's log: whole in a file, its newest lines on the screen.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// As many lines as the screen has room for.
const LINES: usize = 4;

/// librdkafka says by itself that a broker is gone, again and again; the agent
/// says it once.
const FILTER: &str = "info,librdkafka=off,rdkafka=off";

/// The newest lines; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lock().iter().cloned().collect()
    }
}

/// A line at a time: the formatter hands over each event whole.
impl io::Write for Tail {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lines = self.lock();
        let text = String::from_utf8_lossy(bytes);
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            // What a peer sent may stand in a line; it must not steer the terminal.
            lines.push_back(line.trim().chars().filter(|c| !c.is_control()).collect());
            if lines.len() > LINES {
                lines.pop_front();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// From now on everything is logged to `path` and into the tail.
pub(crate) fn start(path: &Path) -> anyhow::Result<Tail> {
    let file =
        File::create(path).with_context(|| format!("cannot write the log {}", path.display()))?;
    let tail = Tail::default();
    let shown = tail.clone();
    let whole = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Mutex::new(file));
    let newest = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_writer(move || shown.clone());
    tracing_subscriber::registry()
        .with(EnvFilter::new(FILTER))
        .with(whole)
        .with(newest)
        .try_init()
        .context("cannot start the log")?;
    Ok(tail)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_tail_keeps_the_newest_lines_and_nothing_that_steers_a_terminal() {
        let mut tail = Tail::default();
        for number in 0..6 {
            tail.write_all(format!(" line {number}\x1b[2J\n").as_bytes()).unwrap();
        }
        assert_eq!(tail.lines(), ["line 2[2J", "line 3[2J", "line 4[2J", "line 5[2J"]);
    }
}
