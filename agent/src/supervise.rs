//! Runs the sources: starts them, restarts them with a back-off when their
//! connection breaks, and says each change of state once.
//!
//! This and `forward` are the only places that retry.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
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

/// What fails every other time is one fault and not many: it is over when
/// nothing failed for this long.
const SETTLED: Duration = Duration::from_mins(1);

/// How a source stands, for whoever looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub source: Arc<str>,
    /// Its connection stands and data can flow.
    pub up: bool,
    /// Subject (a device, a topic, a table) → what is wrong with it; the
    /// connection itself stands under the empty subject.
    pub faults: BTreeMap<String, String>,
    /// How the devices behind it stand, by name, as far as that is known. Empty
    /// where a source cannot tell.
    pub devices: BTreeMap<String, Device>,
    /// Of a source with two ways to its devices, the one in use, once it is known.
    pub way: Option<Way>,
}

/// Which of two ways to its devices a source takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    pub address: String,
    /// Why it is the fallback; `None` while it is the first.
    pub fallback: Option<String>,
}

/// The subject of the fault that the fallback is in use. No device of a source with two
/// ways may be called so.
pub(crate) const ADDRESS: &str = "address";

/// Whether a device answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// All that is asked of it is answered.
    Up,
    /// Something of it is silent or refused, and the rest is answered.
    Degraded,
    /// Nothing of it is answered.
    Down,
}

impl Standing {
    pub const ALL: [Self; 3] = [Self::Up, Self::Degraded, Self::Down];

    /// The word for it, wherever it is told.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

/// How a device stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub standing: Standing,
    /// Why it is not up; empty while it is.
    pub reason: String,
    /// When it came to stand so, for this reason.
    pub since: Instant,
    /// How often its standing has changed since its source began; the first one
    /// that is known counts.
    pub changes: u64,
}

/// What a source tells about its state. Each change is one line in the log;
/// saying the same again is silent. Beside the state stands since when a fault
/// has not been seen again.
#[derive(Debug)]
pub struct Link(watch::Sender<State>, BTreeMap<String, Instant>);

impl Link {
    pub fn new(source: Arc<str>) -> Self {
        let (faults, devices) = (BTreeMap::new(), BTreeMap::new());
        let state = State { source, up: false, faults, devices, way: None };
        Self(watch::Sender::new(state), BTreeMap::new())
    }

    /// Where the state can be looked at.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.0.subscribe()
    }

    /// The connection stands and data can flow.
    pub fn up(&mut self, peer: &str) {
        self.0.send_if_modified(|state| {
            if state.up {
                return false;
            }
            info!(source = %state.source, peer, "source is up");
            state.up = true;
            state.faults.remove("");
            true
        });
    }

    /// One part of the source is not well; the others go on. Logged once until
    /// it changes or [`Link::well`] ends it.
    pub fn fault(&mut self, subject: &str, what: &str) {
        self.1.remove(subject);
        self.0.send_if_modified(|state| {
            if state.faults.get(subject).is_some_and(|known| known == what) {
                return false;
            }
            warn!(source = %state.source, subject, error = what, "source has a fault");
            state.faults.insert(subject.to_owned(), what.to_owned());
            true
        });
    }

    /// The subject is well again.
    pub fn well(&mut self, subject: &str) {
        self.0.send_if_modified(|state| {
            let had_fault = state.faults.remove(subject).is_some();
            if had_fault {
                info!(source = %state.source, subject, "fault is over");
            }
            had_fault
        });
    }

    /// The subject is well for now; to be called each time it is. Its fault is
    /// over when it has been well for a minute.
    pub fn settled(&mut self, subject: &str) {
        if !self.is_faulty(subject) {
            return;
        }
        let since = *self.1.entry(subject.to_owned()).or_insert_with(Instant::now);
        if since.elapsed() >= SETTLED {
            self.1.remove(subject);
            self.well(subject);
        }
    }

    /// How a device stands, and why where it is not up.
    pub fn device(&mut self, name: &str, standing: Standing, reason: &str) {
        self.0.send_if_modified(|state| {
            let known = state.devices.get(name);
            if known.is_some_and(|known| known.standing == standing && known.reason == reason) {
                return false;
            }
            let (source, word) = (&state.source, standing.as_str());
            if standing == Standing::Up {
                info!(%source, device = name, "device is up");
            } else {
                warn!(%source, device = name, state = word, error = reason, "device is not up");
            }
            let changes = known.map_or(0, |known| known.changes);
            let is_other = known.is_none_or(|known| known.standing != standing);
            let device = Device {
                standing,
                reason: reason.to_owned(),
                since: Instant::now(),
                changes: changes + u64::from(is_other),
            };
            state.devices.insert(name.to_owned(), device);
            true
        });
    }

    /// A device is none of the source's any more.
    pub fn forget(&mut self, name: &str) {
        self.0.send_if_modified(|state| state.devices.remove(name).is_some());
    }

    /// Something that is worth knowing and no fault.
    pub fn note(&self, subject: &str, what: &str) {
        info!(source = %self.0.borrow().source, subject, note = what, "source has something to say");
    }

    /// Which of two ways to its devices is in use; `fallback` is why it is not the first.
    pub fn way(&mut self, address: &str, fallback: Option<&str>) {
        self.0.send_if_modified(|state| {
            let known = state.way.as_ref().is_some_and(|known| {
                known.address == address && known.fallback.as_deref() == fallback
            });
            if known && state.faults.contains_key(ADDRESS) == fallback.is_some() {
                return false;
            }
            if let Some(why) = fallback {
                warn!(source = %state.source, address, error = why, "the fallback is in use");
                let what = format!("{why}: the fallback {address} is in use");
                state.faults.insert(ADDRESS.to_owned(), what);
            } else if state.way.as_ref().is_some_and(|known| known.fallback.is_some()) {
                state.faults.remove(ADDRESS);
                info!(source = %state.source, address, "the first address is in use again");
            }
            if !known {
                let (address, fallback) = (address.to_owned(), fallback.map(str::to_owned));
                state.way = Some(Way { address, fallback });
            }
            true
        });
    }

    /// Nothing is wrong with any part of it.
    pub fn is_well(&self) -> bool {
        self.0.borrow().faults.is_empty()
    }

    /// What is wrong with this subject, if anything is.
    pub fn fault_of(&self, subject: &str) -> Option<String> {
        self.0.borrow().faults.get(subject).cloned()
    }

    /// Whether something is wrong with this subject, as far as was told.
    pub fn is_faulty(&self, subject: &str) -> bool {
        self.0.borrow().faults.contains_key(subject)
    }

    /// What is wrong now, by subject.
    #[cfg(test)]
    pub(crate) fn faults(&self) -> BTreeMap<String, String> {
        self.0.borrow().faults.clone()
    }

    fn down(&mut self, error: &Error, pause: Duration) {
        let text = in_full(error);
        self.0.send_if_modified(|state| {
            // While it stays down for the same reason, one line is enough.
            let known = state.faults.get("").is_some_and(|known| *known == text);
            if known && !state.up {
                return false;
            }
            warn!(source = %state.source, error = %text, retry_in = ?pause, "source is down, will connect again");
            state.up = false;
            // By neither way, if it has two.
            state.faults.remove(ADDRESS);
            state.faults.insert(String::new(), text);
            true
        });
    }
}

/// The error and its causes in one line.
pub(crate) fn in_full(error: &Error) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_fails_every_other_time_is_one_fault_until_a_minute_without() {
        let mut link = Link::new("bus".into());
        let mut changes = link.watch();
        for _ in 0..10 {
            link.fault("boiler", "busy");
            link.settled("boiler");
            tokio::time::advance(SETTLED / 2).await;
        }
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        link.fault("boiler", "busy");
        link.settled("boiler");
        assert!(!changes.has_changed().unwrap(), "nothing is said meanwhile");
        tokio::time::advance(SETTLED).await;
        link.settled("boiler");
        assert!(link.faults().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_is_told_where_its_state_changes_and_each_change_is_counted() {
        let mut link = Link::new("bus".into());
        let mut seen = link.watch();
        let mut told = |link: &mut Link, standing, reason: &str| {
            link.device("boiler", standing, reason);
            let is_told = seen.has_changed().unwrap();
            let device = seen.borrow_and_update().devices["boiler"].clone();
            (is_told, device.changes, device.since.elapsed().as_secs())
        };
        assert_eq!(told(&mut link, Standing::Up, ""), (true, 1, 0));
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(told(&mut link, Standing::Up, ""), (false, 1, 7), "the same again is silent");
        assert_eq!(told(&mut link, Standing::Down, "no answer"), (true, 2, 0));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(told(&mut link, Standing::Down, "no way to it"), (true, 2, 0));
    }

    #[test]
    fn while_a_source_is_down_no_fallback_is_in_use_and_the_same_one_is_no_other_way() {
        let mut link = Link::new("bus".into());
        link.way("b", Some("cannot connect to a"));
        let way = link.watch().borrow().way.clone();
        assert!(link.faults().contains_key(ADDRESS));
        link.down(&Error::new("cannot connect to a; fallback: cannot connect to b"), FIRST_PAUSE);
        assert_eq!(link.faults().keys().collect::<Vec<_>>(), [""]);
        link.up("b");
        link.way("b", Some("cannot connect to a"));
        assert_eq!(link.faults().keys().collect::<Vec<_>>(), [ADDRESS]);
        assert_eq!(link.watch().borrow().way, way);
    }
}
