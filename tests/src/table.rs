//! A table of a local database that a machine fills while the agent reads it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

/// How long the writer waits for the reader's lock.
const BUSY: Duration = Duration::from_secs(30);

/// The writer's connection; the agent has its own.
#[derive(Debug)]
pub struct Table {
    pub path: PathBuf,
    connection: Connection,
    /// Rows written so far, which is also the last `id`.
    pub rows: u64,
}

impl Table {
    /// An empty table `log (id, device, value, note)` in a new database.
    pub fn make(path: &Path) -> Self {
        let connection = Connection::open(path).expect("a database can be made");
        connection.busy_timeout(BUSY).expect("it takes a time-out");
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
                 CREATE TABLE log (id INTEGER PRIMARY KEY, device TEXT NOT NULL, value REAL, note TEXT);",
            )
            .expect("a table can be made");
        Self { path: path.to_owned(), connection, rows: 0 }
    }

    /// Writes one row more, with a text.
    pub fn write_note(&mut self, note: &str) {
        self.rows += 1;
        let row = (i64::try_from(self.rows).expect("rows are few"), note);
        self.connection
            .execute("INSERT INTO log (id, device, note) VALUES (?1, 'press', ?2)", row)
            .expect("a row can be written");
    }

    /// Writes so many rows more, in one transaction.
    pub fn write(&mut self, rows: u64) {
        let transaction = self.connection.transaction().expect("the database is writable");
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO log (id, device, value) VALUES (?1, 'press', ?2)")
                .expect("the table is there");
            for id in self.rows + 1..=self.rows + rows {
                let number = i64::try_from(id).expect("rows are few");
                insert.execute((number, number % 100)).expect("a row can be written");
            }
        }
        transaction.commit().expect("rows can be committed");
        self.rows += rows;
    }
}
