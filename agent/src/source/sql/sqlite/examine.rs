//! Holds the definition against the table: what would silently leave rows
//! unread, or read the whole table each time, is said beforehand.

use super::job::{Sql, Trouble};
use super::row::lossy;
use super::table::Table;

impl Table<'_> {
    /// Each subject, and what is wrong with it, if anything is.
    pub(super) fn examine(&self) -> Result<Vec<(&'static str, Option<String>)>, Trouble> {
        let broken = |error| self.job.broken(error);
        let subject = &self.job.subject;
        let null = self.has_rows_without_place().map_err(broken)?.then(|| {
            format!(
                "rows of {subject} have NULL in a cursor column: they have no place in the order \
                 and are not read"
            )
        });
        let unique = self.may_repeat().map_err(broken)?.then(|| {
            format!(
                "the cursor columns of {subject} are not unique: a row written later with a value \
                 that was already read is not read; add the key to `cursor`, after the others"
            )
        });
        let index = self.is_sorted_each_time().map_err(broken)?.then(|| {
            format!(
                "{subject} has no index that begins with the cursor columns: each read sorts it"
            )
        });
        Ok(vec![("null", null), ("unique", unique), ("index", index)])
    }

    fn has_rows_without_place(&self) -> rusqlite::Result<bool> {
        let Sql { from, incomplete, .. } = &self.job.sql;
        let text = format!("SELECT EXISTS (SELECT 1 FROM {from} WHERE {incomplete})");
        self.snapshot.query_row(&text, [], |row| row.get(0))
    }

    /// No key of the table stands within the cursor. Of a view or a query that
    /// cannot be known, and is not claimed.
    fn may_repeat(&self) -> rusqlite::Result<bool> {
        let Some(table) = &self.job.table else { return Ok(false) };
        let in_cursor =
            |name: &String| self.job.cursor.iter().any(|column| column.eq_ignore_ascii_case(name));
        if ["rowid", "oid", "_rowid_"].iter().any(|name| in_cursor(&(*name).to_owned())) {
            return Ok(false);
        }
        let names = |text: &str, of: &str| -> rusqlite::Result<Vec<String>> {
            self.snapshot.prepare(text)?.query_map([of], |row| row.get_ref(0).map(lossy))?.collect()
        };
        let tables =
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE";
        if names(tables, table)?.is_empty() {
            return Ok(false);
        }
        let primary = "SELECT name FROM pragma_table_info(?1) WHERE pk > 0";
        let key = names(primary, table)?;
        if !key.is_empty() && key.iter().all(in_cursor) {
            return Ok(false);
        }
        let indexes = "SELECT name FROM pragma_index_list(?1) WHERE \"unique\" = 1 AND partial = 0";
        for index in names(indexes, table)? {
            // An index over an expression has no name for it.
            let columns = names("SELECT coalesce(name, '') FROM pragma_index_info(?1)", &index)?;
            if columns.iter().all(in_cursor) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_sorted_each_time(&self) -> rusqlite::Result<bool> {
        let Sql { keys, from, complete, order, .. } = &self.job.sql;
        let text = format!(
            "EXPLAIN QUERY PLAN SELECT {keys} FROM {from} WHERE {complete} ORDER BY {order}"
        );
        let mut statement = self.snapshot.prepare(&text)?;
        let steps = statement.query_map([], |row| row.get_ref(3).map(lossy))?;
        for step in steps {
            if step?.contains("TEMP B-TREE FOR ORDER BY") {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
