//! Pages of the table (or query) within one snapshot.
//!
//! A page is read in one short read transaction (a long one would pin the
//! writer's WAL). Ties are recognised by the database, because only it knows
//! the collation: a page that ends before the table does ends before the rows
//! that equal its last one, unless it holds nothing else; then the whole run is
//! read, up to a bound.

use rusqlite::Transaction;

use super::super::cursor::{self, Key, Place};
use super::super::{PAGE_BYTES, Page, TIE_BYTES, TIE_ROWS};
use super::job::{Job, Sql, Trouble};
use super::row::Rows;
use crate::event::Timestamp;

/// The table (or query) within one snapshot.
pub(super) struct Table<'a> {
    pub(super) job: &'a Job,
    pub(super) snapshot: Transaction<'a>,
    pub(super) now: Timestamp,
}

impl Table<'_> {
    /// The rows behind `after` (all, where it is empty).
    pub(super) fn page(&self, after: &[Key]) -> Result<Page, Trouble> {
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
        let last = read.read.last().map(|row| row.keys.clone()).unwrap_or_default();
        self.whole_ties(read, after, &last)
    }

    /// Makes the page `read` end where no tie is split.
    fn whole_ties(&self, mut read: Rows, after: &[Key], last: &[Key]) -> Result<Page, Trouble> {
        let Sql { rows, from, complete, .. } = &self.job.sql;
        let equal = format!("{complete} AND {}", self.job.sql.compare("=", 1, last.len()));
        let ties = self.count(&equal, last)?;
        // None at all: a query that is not the same twice (`random()`). Its
        // pages can only be taken as they come.
        if ties <= 1 {
            return Ok(read.into_page(true));
        }
        let below = self.job.sql.compare("<", 1 + after.len(), last.len());
        let both: Vec<Key> = after.iter().chain(last).cloned().collect();
        let lower = self.count(&format!("{complete}{} AND {below}", self.above(after)), &both)?;
        if read.read.len() == lower + ties {
            return Ok(read.into_page(true));
        }
        if lower > 0 {
            // The run of ties is left to the next page.
            read.read.truncate(lower);
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
    pub(super) fn end(&self) -> Result<Page, Trouble> {
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

    /// The database is another file than the one whose cursor this is, and its
    /// rows at or below the cursor may never have been read. It may as well be
    /// the same one, moved or restored: so reading goes on behind the cursor.
    pub(super) fn exchanged(&self, after: &[Key]) -> Result<Option<String>, Trouble> {
        let Sql { from, complete, .. } = &self.job.sql;
        let reached = self.job.sql.compare("<=", 1, after.len());
        let unread: bool = self
            .snapshot
            .query_row(
                &format!("SELECT EXISTS (SELECT 1 FROM {from} WHERE {complete} AND {reached})"),
                rusqlite::params_from_iter(after),
                |row| row.get(0),
            )
            .map_err(|error| self.job.broken(error))?;
        Ok(unread.then(|| {
            format!(
                "{} is now another file than the one that was read up to {}: rows of {} up to \
                 there are not read; if it was made anew, give the source a new name",
                self.job.path.display(),
                cursor::tuple(after),
                self.job.subject
            )
        }))
    }

    /// Rows stand below the cursor and none at or above it: the newest were
    /// deleted, or the table was made anew and its numbers start again.
    pub(super) fn fallen_behind(&self, after: &[Key]) -> Result<Option<String>, Trouble> {
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
}
