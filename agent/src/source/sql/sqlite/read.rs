//! The blocking half: one connection, one page at a time.
//!
//! A page is read in one short read transaction (a long one would pin the
//! writer's WAL). Ties are recognised by the database, because only it knows
//! the collation: a page that ends before the table does ends before the rows
//! that equal its last one, unless it holds nothing else; then the whole run is
//! read, up to a bound.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, Transaction};

use super::super::cursor::{self, Key, Place};
use super::super::{CURSOR_BYTES, PAGE_BYTES, Page, ROW_BYTES, TIE_BYTES, TIE_ROWS};
use super::Config;
use crate::collect::{DEAD_LETTER_BYTES, DeadLetter};
use crate::decode::row::{Layout, Plan};
use crate::event::{Event, Timestamp, Value};
use crate::source::Error;

/// Pages of the file that `SQLite` may cache, in KiB: what is read in order is
/// not read twice, and a gateway has better use for the default of 2 MiB.
const CACHE_KIB: i32 = 256;

/// What is read, and how: made once from the configuration.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) path: PathBuf,
    pub(super) definition: u64,
    busy_timeout: Duration,
    batch: usize,
    /// What a person calls it: `table readings`, `the query`.
    subject: String,
    cursor_columns: usize,
    sql: Sql,
    plan: Plan,
}

/// The parts that the statements are made of.
#[derive(Debug)]
struct Sql {
    /// The cursor columns and everything else: `SELECT` up to its `FROM`.
    rows: String,
    /// The cursor columns alone.
    keys: String,
    from: String,
    /// The cursor columns as one row value.
    tuple: String,
    /// No cursor column is NULL: such rows have no place in the order, and
    /// `(5, NULL)` would even hide `(5, 1)`.
    complete: String,
    incomplete: String,
    order: String,
    backwards: String,
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
        let (from, alias, subject) = match (table, config.query.as_deref()) {
            (Some(table), _) => (quoted(table), quoted(table), format!("the table {table}")),
            (None, query) => {
                let query = query.unwrap_or_default().trim().trim_end_matches(';');
                (format!("({query}\n) AS \"query\""), quoted("query"), "the query".to_owned())
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
            cursor_columns: columns.len(),
            sql,
            plan,
        }
    }

    fn broken(&self, error: rusqlite::Error) -> Trouble {
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
    fn file(&self) -> Result<(u64, u64), Trouble> {
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
        Ok((found.dev(), found.ino()))
    }
}

impl Sql {
    /// The tuple compared with the keys whose first is parameter `first`.
    fn compare(&self, operator: &str, first: usize, count: usize) -> String {
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

/// An open connection.
#[derive(Debug)]
pub(super) struct Reader {
    job: Arc<Job>,
    connection: Connection,
    /// Device and inode: another file may come to stand under the path.
    file: (u64, u64),
    /// The `data_version` up to which everything was read.
    done: Option<i64>,
    /// Rows without a place were looked for: that may read the whole table, so
    /// it is done once a connection.
    looked_for_nulls: bool,
}

impl Reader {
    pub(super) fn open(job: Arc<Job>) -> Result<Self, Trouble> {
        // Before the open: a file that is exchanged in between is then noticed
        // at the next look.
        let file = job.file()?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connect = |path: &Path| {
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(job.busy_timeout)?;
            connection.pragma_update(None, "query_only", true)?;
            connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
            Ok(connection)
        };
        let connection = connect(&job.path).map_err(|error| job.broken(error))?;
        Ok(Self { job, connection, file, done: None, looked_for_nulls: false })
    }

    /// The page behind `place`; empty where nothing was committed since the
    /// last one.
    pub(super) fn read(&mut self, place: &Place, now: Timestamp) -> Result<Page, Trouble> {
        let job = Arc::clone(&self.job);
        if job.file()? != self.file {
            let path = job.path.display();
            return Err(Trouble::Broken(Error::new(format!(
                "another file has taken the place of the database {path}"
            ))));
        }
        // Everything below sees one snapshot; dropping it ends the read lock.
        let snapshot = self.connection.transaction().map_err(|error| job.broken(error))?;
        let version: i64 = snapshot
            .query_row("PRAGMA data_version", [], |row| row.get(0))
            .map_err(|error| job.broken(error))?;
        if self.done == Some(version) {
            return Ok(Page { seen: vec![("lock", None)], ..Page::default() });
        }
        let table = Table { job: &job, snapshot, now };
        let mut page = match place {
            Place::Start => table.page(&[])?,
            Place::End => table.end()?,
            Place::After(keys) => table.page(keys)?,
        };
        page.seen.push(("lock", None));
        if !page.more {
            if page.next.is_none()
                && let Place::After(keys) = place
            {
                page.seen.push(("cursor", table.fallen_behind(keys)?));
            }
            if !self.looked_for_nulls {
                page.seen.push(("null", table.rows_without_place()?));
                self.looked_for_nulls = true;
            }
            // What was just read is handed over before the next look.
            self.done = Some(version);
        }
        Ok(page)
    }
}

/// The table (or query) within one snapshot.
struct Table<'a> {
    job: &'a Job,
    snapshot: Transaction<'a>,
    now: Timestamp,
}

impl Table<'_> {
    /// The rows behind `after` (all, where it is empty).
    fn page(&self, after: &[Key]) -> Result<Page, Trouble> {
        let Sql { rows, from, complete, order, .. } = &self.job.sql;
        let behind = self.above(after);
        let limit = self.job.batch;
        let read = self.rows(
            &format!(
                "SELECT {rows} FROM {from} WHERE {complete}{behind} ORDER BY {order} LIMIT {limit}"
            ),
            after,
            PAGE_BYTES,
            limit,
        )?;
        if !read.cut {
            return Ok(read.into_page(false));
        }
        let last = read.rows.last().map(|row| row.keys.clone()).unwrap_or_default();
        self.whole_ties(read, after, &last)
    }

    /// Makes the page `read` end where no tie is split.
    fn whole_ties(&self, mut read: Rows, after: &[Key], last: &[Key]) -> Result<Page, Trouble> {
        let Sql { rows, from, complete, .. } = &self.job.sql;
        let equal = format!("{complete} AND {}", self.job.sql.compare("=", 1, last.len()));
        let ties = self.count(&equal, last)?;
        if ties == 1 {
            return Ok(read.into_page(true));
        }
        let below = self.job.sql.compare("<", 1 + after.len(), last.len());
        let both: Vec<Key> = after.iter().chain(last).cloned().collect();
        let lower = self.count(&format!("{complete}{} AND {below}", self.above(after)), &both)?;
        if read.rows.len() == lower + ties {
            return Ok(read.into_page(true));
        }
        if lower > 0 {
            // The run of ties is left to the next page.
            read.rows.truncate(lower);
            return Ok(read.into_page(true));
        }
        if ties > TIE_ROWS {
            return Ok(self.too_many_ties(last, "rows", TIE_ROWS));
        }
        let text = format!("SELECT {rows} FROM {from} WHERE {equal}");
        let run = self.rows(&text, last, TIE_BYTES, usize::MAX)?;
        if run.cut {
            return Ok(self.too_many_ties(last, "bytes", TIE_BYTES));
        }
        Ok(run.into_page(true))
    }

    /// The condition ` AND tuple > after`, which begins at parameter 1.
    fn above(&self, after: &[Key]) -> String {
        if after.is_empty() {
            return String::new();
        }
        format!(" AND {}", self.job.sql.compare(">", 1, after.len()))
    }

    /// Rows that meet the condition, counted up to one more than can be read.
    fn count(&self, condition: &str, keys: &[Key]) -> Result<usize, Trouble> {
        let from = &self.job.sql.from;
        let text = format!(
            "SELECT count(*) FROM (SELECT 1 FROM {from} WHERE {condition} LIMIT {})",
            TIE_ROWS + 1
        );
        let count: i64 = self
            .snapshot
            .query_row(&text, rusqlite::params_from_iter(keys), |row| row.get(0))
            .map_err(|error| self.job.broken(error))?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    fn too_many_ties(&self, keys: &[Key], unit: &str, bound: usize) -> Page {
        let what = format!(
            "more than {bound} {unit} of {} share the cursor value {}: add a column to `cursor` \
             that tells them apart; nothing behind them is read until then",
            self.job.subject,
            cursor::tuple(keys)
        );
        Page { seen: vec![("ties", Some(what))], ..Page::default() }
    }

    /// The place behind the last row, for a source that begins at the end.
    fn end(&self) -> Result<Page, Trouble> {
        let Sql { keys, from, complete, backwards, .. } = &self.job.sql;
        let text =
            format!("SELECT {keys} FROM {from} WHERE {complete} ORDER BY {backwards} LIMIT 1");
        let broken = |error| self.job.broken(error);
        let mut statement = self.snapshot.prepare(&text).map_err(broken)?;
        let mut rows = statement.query([]).map_err(broken)?;
        let next = match rows.next().map_err(broken)? {
            Some(row) => Place::After(self.keys(row)?),
            // Whatever comes into the empty table is new.
            None => Place::Start,
        };
        Ok(Page { next: Some(next), more: true, ..Page::default() })
    }

    /// Rows stand below the cursor and none at or above it: the newest were
    /// deleted, or the table was made anew and its numbers start again.
    fn fallen_behind(&self, after: &[Key]) -> Result<Option<String>, Trouble> {
        let Sql { from, complete, .. } = &self.job.sql;
        let [reached, below] = [">=", "<"].map(|operator| {
            let compare = self.job.sql.compare(operator, 1, after.len());
            format!("EXISTS (SELECT 1 FROM {from} WHERE {complete} AND {compare})")
        });
        let behind: bool = self
            .snapshot
            .query_row(
                &format!("SELECT NOT {reached} AND {below}"),
                rusqlite::params_from_iter(after),
                |row| row.get(0),
            )
            .map_err(|error| self.job.broken(error))?;
        Ok(behind.then(|| {
            format!(
                "all rows of {} stand below the last one read, {}: its newest rows were deleted or \
                 it was made anew. Rows below are not read; to read the table again give the \
                 source a new name",
                self.job.subject,
                cursor::tuple(after)
            )
        }))
    }

    fn rows_without_place(&self) -> Result<Option<String>, Trouble> {
        let Sql { from, incomplete, .. } = &self.job.sql;
        let text = format!("SELECT EXISTS (SELECT 1 FROM {from} WHERE {incomplete})");
        let found: bool = self
            .snapshot
            .query_row(&text, [], |row| row.get(0))
            .map_err(|error| self.job.broken(error))?;
        Ok(found.then(|| {
            format!(
                "rows of {} have NULL in a cursor column: they have no place in the order and are \
                 not read",
                self.job.subject
            )
        }))
    }

    /// Reads rows until a bound is met.
    fn rows(
        &self,
        text: &str,
        keys: &[Key],
        most_bytes: usize,
        most_rows: usize,
    ) -> Result<Rows, Trouble> {
        let broken = |error| self.job.broken(error);
        let mut statement = self.snapshot.prepare(text).map_err(broken)?;
        let mut found = statement.query(rusqlite::params_from_iter(keys)).map_err(broken)?;
        let mut columns = None;
        let mut read = Rows::default();
        while let Some(row) = found.next().map_err(broken)? {
            // Not before the first row: until then SQLite may prepare the
            // statement again, for a table that has got a column meanwhile.
            let columns = match &mut columns {
                Some(columns) => columns,
                none => none.insert(self.columns(row)?),
            };
            read.push(self.row(row, columns)?);
            if read.bytes >= most_bytes || read.rows.len() >= most_rows {
                read.cut = true;
                break;
            }
        }
        Ok(read)
    }

    /// Which columns become what. Those of the cursor come first and count
    /// only where the rest does not hold them (`rowid`).
    fn columns(&self, row: &Row<'_>) -> Result<Columns<'_>, Trouble> {
        let all: Vec<rusqlite::Column<'_>> = row.as_ref().columns().collect();
        let (cursor, rest) = all.split_at(self.job.cursor_columns.min(all.len()));
        let known = |name: &str| rest.iter().any(|c| c.name().eq_ignore_ascii_case(name));
        let own = cursor.iter().enumerate().filter(|(_, column)| !known(column.name()));
        let taken: Vec<(usize, &rusqlite::Column<'_>)> =
            own.chain((cursor.len()..).zip(rest)).collect();
        let layout = self.job.plan.layout(taken.iter().map(|(_, column)| column.name())).map_err(
            |missing| {
                let (subject, path) = (&self.job.subject, self.job.path.display());
                Trouble::Broken(Error::new(format!("cannot read {subject} of {path}: {missing}")))
            },
        )?;
        let taken = taken
            .into_iter()
            .map(|(index, column)| {
                let declared = column.decl_type().unwrap_or_default();
                (
                    index,
                    declared.eq_ignore_ascii_case("boolean")
                        || declared.eq_ignore_ascii_case("bool"),
                )
            })
            .collect();
        Ok(Columns { taken, layout })
    }

    fn keys(&self, row: &Row<'_>) -> Result<Vec<Key>, Trouble> {
        let mut bytes = 0_usize;
        let mut keys = Vec::with_capacity(self.job.cursor_columns);
        for index in 0..self.job.cursor_columns {
            let key = match row.get_ref(index).map_err(|error| self.job.broken(error))? {
                ValueRef::Integer(number) => Key::I64(number),
                ValueRef::Real(number) => Key::F64(number),
                ValueRef::Text(text) => {
                    bytes = bytes.saturating_add(text.len());
                    Key::Text(text.to_vec())
                }
                ValueRef::Blob(blob) => {
                    bytes = bytes.saturating_add(blob.len());
                    Key::Bytes(blob.to_vec())
                }
                ValueRef::Null => continue,
            };
            keys.push(key);
        }
        if bytes > CURSOR_BYTES || keys.len() != self.job.cursor_columns {
            return Err(Trouble::Broken(Error::new(format!(
                "a cursor value of {} holds {bytes} bytes, at most {CURSOR_BYTES} are possible",
                self.job.subject
            ))));
        }
        Ok(keys)
    }

    fn row(&self, row: &Row<'_>, columns: &Columns<'_>) -> Result<Read, Trouble> {
        let keys = self.keys(row)?;
        let broken = |error| self.job.broken(error);
        let mut bytes = 0_usize;
        let mut longest: &[u8] = &[];
        for (index, _) in &columns.taken {
            let content: &[u8] = match row.get_ref(*index).map_err(broken)? {
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes,
                _ => &[],
            };
            bytes = bytes.saturating_add(FIELD_BYTES).saturating_add(content.len());
            if content.len() > longest.len() {
                longest = content;
            }
        }
        if bytes > ROW_BYTES {
            let dead = DeadLetter {
                reason: format!(
                    "row {} holds {bytes} bytes, more than {ROW_BYTES}; this is the beginning of \
                     its longest value",
                    cursor::tuple(&keys)
                ),
                origin: format!("{} of {}", self.job.subject, self.job.path.display()),
                payload: longest.get(..DEAD_LETTER_BYTES).unwrap_or(longest).to_vec(),
                length: u64::try_from(longest.len()).unwrap_or(u64::MAX),
            };
            return Ok(Read { keys, bytes: dead.payload.len(), outcome: Outcome::Dead(dead) });
        }
        let mut values = Vec::with_capacity(columns.taken.len());
        for (index, boolean) in &columns.taken {
            values.push(value(row.get_ref(*index).map_err(broken)?, *boolean));
        }
        let outcome = Outcome::Event(columns.layout.event(values, self.now));
        Ok(Read { keys, bytes, outcome })
    }
}

/// Name, value and quality of a field, without the content of texts.
const FIELD_BYTES: usize = size_of::<crate::event::Field>();

/// By storage class, which says what is really there; the declared type only
/// tells a truth value from a number, where it can be one.
fn value(stored: ValueRef<'_>, boolean: bool) -> Value {
    match stored {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number @ (0 | 1)) if boolean => Value::Bool(number == 1),
        ValueRef::Integer(number) => Value::I64(number),
        ValueRef::Real(number) => Value::F64(number),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::Text(text.into()),
            Err(_) => Value::Bytes(bytes.into()),
        },
        ValueRef::Blob(bytes) => Value::Bytes(bytes.into()),
    }
}

struct Columns<'a> {
    /// Index in the result, and whether it is declared as a truth value.
    taken: Vec<(usize, bool)>,
    layout: Layout<'a>,
}

/// Rows as they were read.
#[derive(Default)]
struct Rows {
    rows: Vec<Read>,
    bytes: usize,
    /// A bound was met: there may be more.
    cut: bool,
}

struct Read {
    keys: Vec<Key>,
    bytes: usize,
    outcome: Outcome,
}

enum Outcome {
    Event(Event),
    Dead(DeadLetter),
}

impl Rows {
    fn push(&mut self, row: Read) {
        self.bytes = self.bytes.saturating_add(row.bytes);
        self.rows.push(row);
    }

    fn into_page(self, more: bool) -> Page {
        let mut page = Page { more, ..Page::default() };
        if !self.rows.is_empty() {
            page.seen.extend([("ties", None), ("cursor", None)]);
        }
        for row in self.rows {
            page.bytes = page.bytes.saturating_add(row.bytes);
            page.next = Some(Place::After(row.keys));
            match row.outcome {
                Outcome::Event(event) => page.events.push(event),
                Outcome::Dead(dead) => page.dead.push(dead),
            }
        }
        page
    }
}

impl ToSql for Key {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::I64(number) => ValueRef::Integer(*number),
            Self::F64(number) => ValueRef::Real(*number),
            Self::Text(bytes) => ValueRef::Text(bytes),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}
