//! The harness of the end-to-end tests: real servers, a line between them that
//! can be cut, the agent's own binary, and a judge that shares no code with it.
//!
//! # Rules
//!
//! - Every wait is for a condition, with a deadline after which the test fails
//!   with the last lines that the server said. The only pauses are
//!   [`outage`]s: there the time is the fault itself.
//! - Nothing survives a test run: each process is started with a parent-death
//!   signal, and is killed when its value is dropped.
//! - Folders stand under `target/tmp/e2e/<name>`: emptied when a test starts, kept
//!   when it ends, to be looked at after a failure.
#![expect(clippy::missing_panics_doc, reason = "a harness fails its test by a panic")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub mod process;
pub mod thread;

pub mod certificates;
pub mod disk;
pub mod ports;

pub mod hivemq;
pub mod kafka;
pub mod mosquitto;
pub mod proxy;
pub mod token;

pub mod edge;
pub mod line;
pub mod modbus;
pub mod peer;
pub mod publisher;
pub mod sparkplug;
pub mod table;
pub mod tahu;
pub mod tahu_values;

pub mod agent;
pub mod settings;

pub mod chance;
pub mod plant;

pub mod judge;

pub mod faulty;

pub mod soak;

pub mod campaign;

/// A fault that lasts: the time is part of the scenario, nothing is waited for.
pub fn outage(lasts: Duration) {
    std::thread::sleep(lasts);
}

/// Looks again and again until `look` gives something; fails the test after
/// `within`, saying what was waited for.
pub fn wait_until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    /// Short beside anything that is waited for, long beside what a look costs.
    const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
    let since = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(since.elapsed() < within, "waited {within:?} for {what}");
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

/// An empty folder of this name.
pub fn folder(name: &str) -> PathBuf {
    let path = target().join("tmp/e2e").join(name);
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            panic_with(&format!("cannot empty {}: {error}", path.display()))
        }
        _ => {}
    }
    std::fs::create_dir_all(&path).expect("a folder under target/ can be made");
    path
}

/// Where cargo builds to.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from)
}

/// Where scripts/setup.sh keeps what it has fetched.
pub fn cache() -> PathBuf {
    let folder = |name| std::env::var_os(name).map(PathBuf::from);
    folder("E2E_CACHE")
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("tidegate")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/tidegate")))
        .expect("HOME is set")
}

#[expect(clippy::panic, reason = "how a harness fails a test")]
#[track_caller]
pub(crate) fn panic_with(message: &str) -> ! {
    panic!("{message}")
}
