//! A machine that writes one row per cycle into a `SQLite` database, as a
//! controller's own program would: WAL, each row its own commit.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::{Connection, params};
use tidegate::clock::Clock;

use crate::ledger::{Ledger, Source};
use crate::noise::{Wander, rounded};

/// The device's name in the records.
pub const DEVICE: &str = "press-1";

/// The table; `n` is the number that the ledger knows.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS cycles (
    n INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    machine TEXT NOT NULL,
    part TEXT NOT NULL,
    force REAL NOT NULL
)";

/// A running machine; stops when it is dropped.
#[derive(Debug)]
pub struct Machine {
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Machine {
    /// Makes the database and fills it, a row each `cycle`.
    pub fn start(path: &Path, cycle: Duration, ledger: Ledger) -> rusqlite::Result<Self> {
        let table = Table::open(path)?;
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        let thread = thread::spawn(move || {
            let mut table = table;
            while !stop.load(Ordering::Relaxed) {
                if let Err(error) = table.cycle(&ledger) {
                    tracing::warn!(%error, path = %table.path.display(), "machine cannot write");
                }
                thread::park_timeout(cycle);
            }
        });
        Ok(Self { stopped, thread: Some(thread) })
    }

    /// Stops and waits until the last row is written.
    pub fn stop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::warn!("machine had broken down");
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Debug)]
struct Table {
    connection: Connection,
    path: PathBuf,
    force: Wander,
    clock: Clock,
}

impl Table {
    fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.execute(TABLE, [])?;
        let force = Wander::new(210.0, 15.0, 23);
        Ok(Self { connection, path: path.to_owned(), force, clock: Clock::system() })
    }

    /// One cycle, one row.
    fn cycle(&mut self, ledger: &Ledger) -> rusqlite::Result<()> {
        // Numbered before the commit, so that no reader is faster than the ledger.
        let number = ledger.produce(Source::Machine, DEVICE);
        let part = format!("P-{:04}", number % 37);
        let force = rounded(self.force.step());
        let written = self.connection.execute(
            "INSERT INTO cycles (n, at, machine, part, force)
             VALUES (?1, strftime('%Y-%m-%dT%H:%M:%fZ', ?2, 'unixepoch', 'subsec'), ?3, ?4, ?5)",
            params![number.cast_signed(), seconds(&self.clock), DEVICE, part, force],
        );
        if written.is_err() {
            ledger.take_back(Source::Machine, DEVICE, number);
        }
        written.map(|_| ())
    }
}

fn seconds(clock: &Clock) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "microseconds are enough for a row's time")]
    let nanos = clock.now().0 as f64;
    nanos / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cycle_is_one_row_with_the_ledger_s_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("machine.db");
        let ledger = Ledger::new(true);
        let mut table = Table::open(&path).unwrap();
        for _ in 0..3 {
            table.cycle(&ledger).unwrap();
        }
        let reader = Connection::open(&path).unwrap();
        let (count, highest, at): (i64, i64, String) = reader
            .query_row("SELECT count(*), max(n), max(at) FROM cycles", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .unwrap();
        assert_eq!((count, highest), (3, 3));
        assert!(at.starts_with("20") && at.ends_with('Z') && at.len() == 24, "{at}");
        assert_eq!(ledger.at_end(Some(Source::Machine)).produced, 3);
    }
}
