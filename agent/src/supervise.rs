//! Runs the sources: starts them, restarts them with a back-off when their
//! connection breaks, and says each change of state once.
//!
//! This and `forward` are the only places that retry.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::collect::Intake;
use crate::source::{Error, Source};

/// First pause after a broken connection; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// A machine that nobody drives to must find its broker again within a minute.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A connection that held this long starts the back-off anew.
const STEADY: Duration = Duration::from_secs(30);

/// What a source tells about its state. Each change is one line in the log;
/// saying the same again is silent.
#[derive(Debug)]
pub struct Link {
    source: Arc<str>,
    up: bool,
    /// Subject → what is wrong with it.
    faults: BTreeMap<String, String>,
}

impl Link {
    pub fn new(source: Arc<str>) -> Self {
        Self { source, up: false, faults: BTreeMap::new() }
    }

    /// The connection stands and data can flow.
    pub fn up(&mut self, peer: &str) {
        if !self.up {
            self.up = true;
            info!(source = %self.source, peer, "source is up");
        }
    }

    /// One part of the source (a device, a topic, a table) is not well; the
    /// others go on. Logged once until it changes or [`Link::well`] ends it.
    pub fn fault(&mut self, subject: &str, what: &str) {
        if self.faults.get(subject).is_none_or(|known| known != what) {
            warn!(source = %self.source, subject, error = what, "source has a fault");
            self.faults.insert(subject.to_owned(), what.to_owned());
        }
    }

    /// The subject is well again.
    pub fn well(&mut self, subject: &str) {
        if self.faults.remove(subject).is_some() {
            info!(source = %self.source, subject, "fault is over");
        }
    }

    /// What is wrong now, by subject.
    #[cfg(test)]
    pub(crate) fn faults(&self) -> &BTreeMap<String, String> {
        &self.faults
    }

    fn down(&mut self, error: &Error, pause: Duration) {
        let text = in_full(error);
        // A connection that never came up says the same reason only once.
        if self.up || self.faults.get("").is_none_or(|known| *known != text) {
            warn!(source = %self.source, error = %text, retry_in = ?pause, "source is down, will connect again");
        }
        self.up = false;
        self.faults.insert(String::new(), text);
    }
}

/// The error and its causes in one line.
fn in_full(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            write!(text, ": {said}").expect("writing to a string does not fail");
        }
        cause = inner.source();
    }
    text
}

/// Runs one source until `stop`; never returns before.
pub async fn supervise(
    mut source: Source,
    mut intake: Intake,
    mut link: Link,
    stop: CancellationToken,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let started = Instant::now();
        let Err(error) = source.run(&mut intake, &mut link, &stop).await else { return };
        if stop.is_cancelled() {
            return;
        }
        if started.elapsed() >= STEADY {
            pause = FIRST_PAUSE;
        }
        link.down(&error, pause);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
