//! A local `SQLite` database that another process writes.
//!
//! It is opened read-only and never made. `SQLite` has one writer at a time, so
//! that a row with a smaller key never becomes visible after a larger one that
//! the writer numbered later: reading by key leaves no gaps. `PRAGMA
//! data_version` tells without a query whether anything was committed since.
//!
//! Everything that blocks is in the modules below; here is the loop around it.

mod examine;
mod job;
mod read;
mod row;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::cursor::{Place, Unusable};
use super::{From, Page};
use crate::clock::Clock;
use crate::collect::{Checkpoint, Delivery, Intake};
use crate::decode::row::{Plan, TimeFormat};
use crate::flow::Lane;
use crate::source::{Error, Setup};
use crate::supervise::Link;
use crate::units::Period;
use job::{Job, Trouble};
use read::Reader;

/// A table or query of a local `SQLite` database, read by a cursor.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the source; the saved cursor belongs to it.
    pub name: String,
    /// The database file. It is opened read-only; one in WAL mode also needs
    /// its folder to be writable, or its `-wal` and `-shm` files to be there.
    pub path: PathBuf,
    /// The table or view to read; or else `query`.
    #[serde(default)]
    pub table: Option<String>,
    /// A SELECT without ORDER BY and LIMIT, instead of `table`. Its result must
    /// hold the cursor columns.
    #[serde(default)]
    pub query: Option<String>,
    /// One or more columns that order the rows; a new row must be greater than
    /// all that were there. They should have an index. `rowid` works for a
    /// table, but without AUTOINCREMENT `SQLite` may give the number of a
    /// deleted row to a new one, which is then not read. Together they must be
    /// unique: for a time, add the key behind it (`["ts", "id"]`).
    pub cursor: Vec<String>,
    /// Where to begin the first time: `start` (default) or `end`.
    #[serde(default)]
    pub from: From,
    /// Pause between two looks at the database; 1 s by default.
    #[serde(default = "default_interval")]
    pub interval: Period,
    /// Rows that are read at once, 1 to 10,000; 1,000 by default.
    #[serde(default = "default_batch")]
    pub batch: u32,
    /// How long to wait for a lock that the writer holds before the read is
    /// put off to the next interval, at most 1 min; 500 ms by default.
    #[serde(default = "default_busy_timeout")]
    pub busy_timeout: Period,
    /// The stream that the rows go to.
    pub stream: String,
    /// The class of priority: `alarm`, `live` or `bulk`; by default the stream's.
    #[serde(default)]
    pub lane: Option<Lane>,
    /// Static fields that every record of this source carries.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The device of every row (or of those whose `device_column` is NULL); the
    /// source's name by default.
    #[serde(default)]
    pub device: Option<String>,
    /// The column that names the device; it is then no field.
    #[serde(default)]
    pub device_column: Option<String>,
    /// The column that holds the time of the event; it is then no field.
    /// Without it the time of reading counts.
    #[serde(default)]
    pub time_column: Option<String>,
    /// How `time_column` is written: `unix_s`, `unix_ms`, `unix_us`, `unix_ns`,
    /// `rfc3339`, or `text` (`2026-01-01 12:00:00.123`, UTC without a zone).
    #[serde(default)]
    pub time_format: Option<TimeFormat>,
    /// Columns that are not sent.
    #[serde(default)]
    pub omit: Vec<String>,
}

const fn default_interval() -> Period {
    Period::from_secs(1)
}
const fn default_batch() -> u32 {
    1_000
}
const fn default_busy_timeout() -> Period {
    Period::from_millis(500)
}

/// More rows would not be faster, and all of a page is in memory.
const LARGEST_BATCH: u32 = 10_000;

/// Shorter is busy waiting: a look at an unchanged file costs some 3 µs and two
/// changes of thread.
const SHORTEST_INTERVAL: Period = Period::from_millis(10);

/// A thread waits that long.
const LONGEST_BUSY_TIMEOUT: Period = Period::from_secs(60);

/// A read that is interrupted between two statements goes on with the second:
/// it is interrupted again after this.
const INTERRUPT_AGAIN: Duration = Duration::from_millis(20);

impl Config {
    /// What is wrong, as the key within the source and what would be right.
    pub fn check(&self) -> Vec<(String, String)> {
        let mut wrong =
            super::check_definition(self.table.as_deref(), self.query.as_deref(), &self.cursor);
        let mut say = |key: &str, what: String| wrong.push((key.to_owned(), what));
        if self.path.as_os_str().is_empty() {
            say("path", "must be the path of the database file".to_owned());
        }
        if !(1..=LARGEST_BATCH).contains(&self.batch) {
            say("batch", format!("must be 1 to {LARGEST_BATCH}"));
        }
        if self.interval < SHORTEST_INTERVAL {
            say("interval", format!("must be at least {SHORTEST_INTERVAL}"));
        }
        if self.busy_timeout > LONGEST_BUSY_TIMEOUT {
            say("busy_timeout", format!("must be at most {LONGEST_BUSY_TIMEOUT}"));
        }
        match (&self.time_column, self.time_format) {
            (Some(_), None) => say(
                "time_format",
                "must say how `time_column` is written: unix_s, unix_ms, unix_us, unix_ns, \
                 rfc3339 or text"
                    .to_owned(),
            ),
            (None, Some(_)) => {
                say("time_column", "is needed where `time_format` is given".to_owned());
            }
            _ => {}
        }
        if self.time_column.is_some() && self.time_column == self.device_column {
            say("device_column", "cannot be the same column as `time_column`".to_owned());
        }
        wrong
    }
}

/// The source, set up.
#[derive(Debug)]
pub struct Source {
    job: Arc<Job>,
    clock: Clock,
    interval: Period,
    /// How far rows were handed over; it outlives a connection.
    place: Result<Place, Unusable>,
    /// The database that `place` was reached in.
    database: Option<u64>,
}

impl Source {
    pub fn new(config: &Config, setup: Setup<'_>) -> Self {
        let Setup { flows, clock, saved, lost, .. } = setup;
        let plan = Plan {
            flow: flows.id(&config.stream, config.lane),
            device: config.device.as_deref().unwrap_or(&config.name).into(),
            device_column: config.device_column.clone(),
            time: config.time_column.clone().zip(config.time_format),
            omit: config.omit.clone(),
        };
        let job = Job::new(config, plan);
        let (place, database) = match saved.map(|bytes| Place::load(&bytes, job.definition)) {
            None if lost => (Err(Unusable::Lost), None),
            None => (Ok(config.from.place()), None),
            Some(Ok((place, database))) => (Ok(place), database),
            Some(Err(unusable)) => (Err(unusable), None),
        };
        Self { job: Arc::new(job), clock, interval: config.interval, place, database }
    }

    /// See [`crate::source::Source::tap`].
    pub fn tap(&mut self) {
        Arc::get_mut(&mut self.job).expect("nothing reads before the source runs").tapped = true;
    }

    /// Reads until `stop`, or until the file cannot be read.
    pub async fn run(
        &mut self,
        intake: &mut Intake,
        link: &mut Link,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let mut place = match &self.place {
            Ok(place) => place.clone(),
            Err(unusable) => {
                link.fault("cursor", &unusable.to_string());
                stop.cancelled().await;
                return Ok(());
            }
        };
        let mut reader: Option<Reader> = None;
        while !stop.is_cancelled() {
            let page = match self.look(&mut reader, place.clone(), stop).await? {
                Ok(page) => {
                    link.up(&self.job.path.display().to_string());
                    page
                }
                Err(Trouble::Busy) => {
                    link.fault("lock", "the database is locked by its writer, will read again");
                    Page::default()
                }
                // It may be the interruption itself.
                Err(Trouble::Broken(_)) if stop.is_cancelled() => return Ok(()),
                Err(Trouble::Broken(error)) => return Err(error),
            };
            for (subject, wrong) in &page.seen {
                match wrong {
                    Some(what) => link.fault(subject, what),
                    // A writer may lock at every other look.
                    None if *subject == "lock" => link.settled(subject),
                    None => link.well(subject),
                }
            }
            if let Some(next) = page.next {
                let database = reader.as_ref().map(Reader::mark);
                let cursor = next.save(self.job.definition, database);
                let delivery = Delivery {
                    events: page.events,
                    dead: page.dead,
                    checkpoint: Some(Checkpoint::Cursor(cursor.into())),
                    idle: None,
                    bytes: page.bytes,
                    urgent: false,
                    notes: page.notes,
                };
                // A power cut before the commit: the saved cursor is the old
                // one, and the same rows are read again. Stopped while it
                // waits: the same.
                tokio::select! {
                    handed = intake.deliver(delivery) => {
                        if let Err(stopping) = handed {
                            stop.cancelled().await;
                            tracing::debug!(error = %stopping, "rows are read again at the next start");
                            return Ok(());
                        }
                    }
                    () = stop.cancelled() => return Ok(()),
                }
                place.clone_from(&next);
                (self.place, self.database) = (Ok(next), database);
            }
            if page.more {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(self.interval.get()) => {}
            }
        }
        Ok(())
    }

    /// One look at the database, off the async threads; cut short by `stop`.
    /// The reader comes back unless it cannot be opened.
    async fn look(
        &self,
        reader: &mut Option<Reader>,
        place: Place,
        stop: &CancellationToken,
    ) -> Result<Result<Page, Trouble>, Error> {
        let ended = |cause| Error::because("the reading thread ended", cause);
        let job = Arc::clone(&self.job);
        let mut held = match reader.take() {
            Some(held) => held,
            None => match spawn_blocking(move || Reader::open(job)).await.map_err(ended)? {
                Ok(opened) => opened,
                Err(trouble) => return Ok(Err(trouble)),
            },
        };
        let (interrupt, patience) = (held.interrupt(), self.job.busy_timeout);
        let (clock, database, stopped) = (self.clock.clone(), self.database, stop.clone());
        let mut look = spawn_blocking(move || {
            let begun = Instant::now();
            loop {
                let page = held.read(&place, database, clock.now());
                let locked = matches!(page, Err(Trouble::Busy));
                if !locked || stopped.is_cancelled() || begun.elapsed() >= patience {
                    return (held, page);
                }
            }
        });
        let done = loop {
            tokio::select! {
                biased;
                done = &mut look => break done,
                () = stop.cancelled() => {}
            }
            interrupt.interrupt();
            tokio::select! {
                biased;
                done = &mut look => break done,
                () = tokio::time::sleep(INTERRUPT_AGAIN) => {}
            }
        };
        let (back, page) = done.map_err(ended)?;
        *reader = Some(back);
        Ok(page)
    }
}
