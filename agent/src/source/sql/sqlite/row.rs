//! Rows of a result → keys and events, by storage class.

use rusqlite::Row;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};

use super::super::cursor::{self, Key, Place};
use super::super::{CURSOR_BYTES, Page, ROW_BYTES};
use super::job::Trouble;
use super::table::Table;
use crate::collect::{DEAD_LETTER_BYTES, DeadLetter};
use crate::decode::row::Layout;
use crate::event::{Event, Value};
use crate::source::Error;

impl Table<'_> {
    /// Reads rows until a bound is met.
    pub(super) fn rows(
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
        let mut rows = Rows::default();
        while let Some(row) = found.next().map_err(broken)? {
            // Not before the first row: until then SQLite may prepare the
            // statement again, for a table that has got a column meanwhile.
            let columns = match &mut columns {
                Some(columns) => columns,
                none => none.insert(self.columns(row)?),
            };
            rows.push(self.row(row, columns)?);
            if rows.bytes >= most_bytes || rows.read.len() >= most_rows {
                rows.cut = true;
                break;
            }
        }
        Ok(rows)
    }

    /// Which columns become what. Those of the cursor come first and count
    /// only where the rest does not hold them (`rowid`).
    fn columns(&self, row: &Row<'_>) -> Result<Columns<'_>, Trouble> {
        let all: Vec<rusqlite::Column<'_>> = row.as_ref().columns().collect();
        let (cursor, rest) = all.split_at(self.job.cursor.len().min(all.len()));
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

    pub(super) fn keys(&self, row: &Row<'_>) -> Result<Vec<Key>, Trouble> {
        let mut bytes = 0_usize;
        let mut keys = Vec::with_capacity(self.job.cursor.len());
        for index in 0..self.job.cursor.len() {
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
        if bytes > CURSOR_BYTES || keys.len() != self.job.cursor.len() {
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
pub(super) struct Rows {
    pub(super) read: Vec<Read>,
    bytes: usize,
    /// A bound was met: there may be more.
    pub(super) cut: bool,
}

pub(super) struct Read {
    pub(super) keys: Vec<Key>,
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
        self.read.push(row);
    }

    pub(super) fn into_page(self, more: bool) -> Page {
        let mut page = Page { more, ..Page::default() };
        if !self.read.is_empty() {
            page.seen.extend([("ties", None), ("cursor", None)]);
        }
        for row in self.read {
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
