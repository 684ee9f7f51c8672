//! Rows of a result → keys and events, by storage class.

use std::sync::Arc;

use rusqlite::Row;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};

use super::super::cursor::{self, Key, Place};
use super::super::{CURSOR_BYTES, Page, ROW_BYTES};
use super::job::Trouble;
use super::table::Table;
use crate::collect::{DEAD_LETTER_BYTES, DeadLetter};
use crate::decode::row::Layout;
use crate::event::{Event, Value};
use crate::raw::{Note, Of, Raw};
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
            if self.job.tapped {
                rows.note(self.raw(row, columns)?);
            }
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
        let cursor = self.job.cursor.len();
        let statement = row.as_ref();
        let rest = self.described()?;
        if statement.column_count() != cursor.saturating_add(rest.len()) {
            return Err(Trouble::Broken(Error::new(format!(
                "the columns of {} have changed while they were read",
                self.job.subject
            ))));
        }
        let is = |name: &str, index| statement.column_index(name).is_ok_and(|at| at == index);
        let own = self.job.cursor.iter().enumerate().filter(|(index, name)| {
            !rest.iter().any(|c| c.name.eq_ignore_ascii_case(name) || is(&c.name, *index))
        });
        // SQLite knows it by three names.
        let own = own.map(|(index, name)| {
            let name = if is("rowid", index) { "rowid" } else { name.as_str() };
            (index, name, false)
        });
        let rest = (cursor..).zip(&rest).map(|(index, c)| (index, c.name.as_str(), c.boolean));
        let taken: Vec<(usize, &str, bool)> =
            own.chain(rest).filter(|(_, name, _)| !self.job.plan.omits(name)).collect();
        let layout =
            self.job.plan.layout(taken.iter().map(|(_, name, _)| *name)).map_err(|missing| {
                let (subject, path) = (&self.job.subject, self.job.path.display());
                Trouble::Broken(Error::new(format!("cannot read {subject} of {path}: {missing}")))
            })?;
        let taken = taken.iter().map(|(index, _, boolean)| (*index, *boolean)).collect();
        Ok(Columns { taken, layout })
    }

    /// What stands behind the cursor columns. Asked of the schema and not of
    /// the statement: names are what the machine's programmer made of them,
    /// and rusqlite panics where a statement's are not UTF-8.
    fn described(&self) -> Result<Vec<Described>, Trouble> {
        let broken = |error| self.job.broken(error);
        let text = "SELECT name, type FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid";
        let mut statement = self.snapshot.prepare(text).map_err(broken)?;
        let mut found = statement.query([self.job.described()]).map_err(broken)?;
        let mut columns = Vec::new();
        while let Some(row) = found.next().map_err(broken)? {
            let declared = lossy(row.get_ref(1).map_err(broken)?);
            columns.push(Described {
                name: lossy(row.get_ref(0).map_err(broken)?),
                boolean: ["boolean", "bool"].iter().any(|b| declared.eq_ignore_ascii_case(b)),
            });
        }
        Ok(columns)
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
            return Ok(Read { keys, bytes: dead.memory(), outcome: Outcome::Dead(dead) });
        }
        let mut values = Vec::with_capacity(columns.taken.len());
        for (index, boolean) in &columns.taken {
            values.push(value(row.get_ref(*index).map_err(broken)?, *boolean));
        }
        let event = columns.layout.event(values, self.now);
        Ok(Read { keys, bytes: event.memory(), outcome: Outcome::Event(event) })
    }

    fn raw(&self, row: &Row<'_>, columns: &Columns<'_>) -> Result<Raw, Trouble> {
        let mut named = Vec::with_capacity(columns.taken.len());
        for (name, (index, _)) in columns.layout.names().zip(&columns.taken) {
            let stored = row.get_ref(*index).map_err(|error| self.job.broken(error))?;
            named.push((Arc::clone(name), value(stored, false)));
        }
        Ok(Raw::Row(named))
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

/// A text of the schema, which need not be UTF-8.
pub(super) fn lossy(stored: ValueRef<'_>) -> String {
    match stored {
        ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    }
}

/// A column as it is declared.
struct Described {
    name: String,
    /// Declared as a truth value.
    boolean: bool,
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
    /// Of each event, where somebody looks.
    raw: Vec<Raw>,
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

    /// Of the row that was read last; a dead letter holds what it was made of.
    fn note(&mut self, raw: Raw) {
        if self.read.last().is_some_and(|row| matches!(row.outcome, Outcome::Event(_))) {
            self.raw.push(raw);
        }
    }

    pub(super) fn into_page(self, more: bool) -> Page {
        // Where a query gives nothing the second time, the next look is made
        // after the interval, or it would spin.
        let mut page = Page { more: more && !self.read.is_empty(), ..Page::default() };
        if !self.read.is_empty() {
            page.seen.push(("ties", None));
        }
        let raw = self.raw.into_iter().enumerate();
        page.notes = raw.map(|(index, raw)| Note { of: Of::Event(index), raw }).collect();
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
