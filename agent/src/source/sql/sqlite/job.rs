//! What is read and how, made once from the configuration: the parts of the
//! statements, and the words for what can go wrong.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use rusqlite::ErrorCode;

use super::super::cursor;
use super::Config;
use crate::decode::row::Plan;
use crate::source::Error;

/// What is read, and how: made once from the configuration.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) path: PathBuf,
    pub(super) definition: u64,
    pub(super) busy_timeout: Duration,
    pub(super) batch: usize,
    /// What a person calls it: `table readings`, `the query`.
    pub(super) subject: String,
    /// `None` for a query.
    pub(super) table: Option<String>,
    /// What makes [`VIEW`], for a query.
    pub(super) view: Option<String>,
    pub(super) cursor: Vec<String>,
    pub(super) sql: Sql,
    pub(super) plan: Plan,
    /// Somebody looks at the source alone.
    pub(super) tapped: bool,
}

/// Name of the view in the connection's own, temporary schema that stands for
/// a query where its columns are asked for.
const VIEW: &str = "tidegate query";

/// The parts that the statements are made of.
#[derive(Debug)]
pub(super) struct Sql {
    /// The cursor columns and everything else: `SELECT` up to its `FROM`.
    pub(super) rows: String,
    /// The cursor columns alone.
    pub(super) keys: String,
    pub(super) from: String,
    /// The cursor columns as one row value.
    pub(super) tuple: String,
    /// No cursor column is NULL: such rows have no place in the order, and
    /// `(5, NULL)` would even hide `(5, 1)`.
    pub(super) complete: String,
    pub(super) incomplete: String,
    pub(super) order: String,
    pub(super) backwards: String,
}

/// What tells one file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct File {
    device: u64,
    inode: u64,
    /// The same over restarts of the machine, which number devices anew: it is
    /// saved with the cursor.
    pub(super) mark: u64,
}

/// Why there is no page.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The writer holds its lock: try again at the next interval.
    Busy,
    /// The connection is of no more use.
    Broken(Error),
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Job {
    pub(super) fn new(config: &Config, plan: Plan) -> Self {
        let table = config.table.as_deref();
        // A line break ends a comment at the query's end.
        let (from, alias, subject, view) = match (table, config.query.as_deref()) {
            (Some(table), _) => (quoted(table), quoted(table), format!("the table {table}"), None),
            (None, query) => {
                let query = query.unwrap_or_default().trim().trim_end_matches(';');
                let from = format!("({query}\n) AS \"query\"");
                let view = format!("CREATE TEMP VIEW {} AS SELECT * FROM {from}", quoted(VIEW));
                (from, quoted("query"), "the query".to_owned(), Some(view))
            }
        };
        // Qualified, because SQLite takes an unknown "name" for a text.
        let columns: Vec<String> =
            config.cursor.iter().map(|column| format!("{alias}.{}", quoted(column))).collect();
        let each = |suffix: &str, between: &str| {
            let parts: Vec<String> = columns.iter().map(|c| format!("{c} {suffix}")).collect();
            parts.join(between)
        };
        let sql = Sql {
            rows: format!("{}, {alias}.*", columns.join(", ")),
            keys: columns.join(", "),
            from,
            tuple: row_value(&columns),
            complete: each("IS NOT NULL", " AND "),
            incomplete: each("IS NULL", " OR "),
            order: each("ASC", ", "),
            backwards: each("DESC", ", "),
        };
        let parts = [
            if table.is_some() { "table" } else { "query" },
            table.or(config.query.as_deref()).unwrap_or_default(),
        ];
        Self {
            path: config.path.clone(),
            definition: cursor::definition(
                parts.into_iter().chain(config.cursor.iter().map(String::as_str)),
            ),
            busy_timeout: config.busy_timeout.get(),
            batch: usize::try_from(config.batch).unwrap_or(usize::MAX),
            subject,
            table: config.table.clone(),
            view,
            cursor: config.cursor.clone(),
            sql,
            plan,
            tapped: false,
        }
    }

    /// The table or view whose columns are those that are read.
    pub(super) fn described(&self) -> &str {
        self.table.as_deref().unwrap_or(VIEW)
    }

    pub(super) fn broken(&self, error: rusqlite::Error) -> Trouble {
        let path = self.path.display();
        let subject = &self.subject;
        Trouble::Broken(match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => return Trouble::Busy,
            Some(ErrorCode::NotADatabase) => {
                Error::new(format!("the file {path} is not an SQLite database"))
            }
            Some(ErrorCode::DatabaseCorrupt) => Error::because(
                format!("the database {path} is damaged: look with `PRAGMA integrity_check`"),
                error,
            ),
            Some(ErrorCode::ReadOnly) => Error::because(
                format!("the database {path} must first be recovered by its writer after a crash"),
                error,
            ),
            Some(ErrorCode::CannotOpen) => {
                Error::because(format!("cannot open the database {path}"), error)
            }
            _ => match error {
                rusqlite::Error::SqlInputError { msg, .. } => {
                    Error::new(format!("cannot read {subject} of {path}: {msg}"))
                }
                other => Error::because(format!("cannot read {subject} of {path}"), other),
            },
        })
    }

    /// Which file stands under the path now.
    pub(super) fn file(&self) -> Result<File, Trouble> {
        let path = self.path.display();
        let found = std::fs::metadata(&self.path).map_err(|cause| {
            Trouble::Broken(if cause.kind() == std::io::ErrorKind::NotFound {
                Error::new(format!("the database {path} is not there"))
            } else {
                Error::because(format!("cannot open the database {path}"), cause)
            })
        })?;
        if found.is_dir() {
            return Err(Trouble::Broken(Error::new(format!("{path} is a folder, not a database"))));
        }
        // A new file may get the number of a deleted one, but not its age.
        let made = found.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let mut known = found.ino().to_le_bytes().to_vec();
        known.extend(made.unwrap_or_default().as_nanos().to_le_bytes());
        Ok(File {
            device: found.dev(),
            inode: found.ino(),
            mark: twox_hash::XxHash3_64::oneshot(&known),
        })
    }
}

impl Sql {
    /// The tuple compared with the keys whose first is parameter `first`.
    pub(super) fn compare(&self, operator: &str, first: usize, count: usize) -> String {
        let marks: Vec<String> = (first..first + count).map(|n| format!("?{n}")).collect();
        format!("{} {operator} {}", self.tuple, row_value(&marks))
    }
}

fn row_value(parts: &[String]) -> String {
    match parts {
        [one] => one.clone(),
        many => format!("({})", many.join(", ")),
    }
}
