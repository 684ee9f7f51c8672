//! Databases as sources: a table or a query is read by a cursor of one or more
//! columns, and each row becomes an event.
//!
//! What every database shares stands here and in [`cursor`]; each database has
//! a module of its own. The rules:
//!
//! * The cursor is a tuple of typed values that the database compares, never
//!   we: its collations and orders are its own.
//! * Rows that share a cursor value stand in one delivery (ties are never
//!   split), because the next page asks for what is *greater*.
//! * The cursor is saved in the commit that holds the rows it covers, so that
//!   each row becomes exactly one event.
//! * One page at a time is in memory; the next is read after it was handed over.

mod cursor;
#[cfg(test)]
mod fuzz;
pub mod sqlite;

use serde::{Deserialize, Serialize};

use cursor::Place;

use crate::collect::DeadLetter;
use crate::event::Event;
use crate::raw::Note;

/// Where a source begins that has never read a row.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// At the first row: all that stands in the table is sent.
    #[default]
    Start,
    /// Behind the last row: only what is written from now on is sent.
    End,
}

impl From {
    fn place(self) -> Place {
        match self {
            Self::Start => Place::Start,
            Self::End => Place::End,
        }
    }
}

/// Bytes of values after which a page ends: a quarter of what may wait for the
/// writer, so that one wide table does not hold the other sources back.
const PAGE_BYTES: usize = 1024 * 1024;

/// Rows with one cursor value that can be read at once. More means that the
/// column was never meant to order rows.
const TIE_ROWS: usize = 100_000;

/// The same in bytes of values: what a gateway of 512 MB can hold for a moment.
const TIE_BYTES: usize = 16 * 1024 * 1024;

/// A row above this is a dead letter: Kafka's brokers refuse records above
/// 1 MB by default, and a row must never be larger than a page.
const ROW_BYTES: usize = PAGE_BYTES;

/// A cursor above this is refused: it is saved with every batch.
const CURSOR_BYTES: usize = 4 * 1024;

/// Rows between two places, in order, with whole ties.
#[derive(Debug, Default)]
struct Page {
    events: Vec<Event>,
    dead: Vec<DeadLetter>,
    /// What they were made of, where somebody looks.
    notes: Vec<Note>,
    bytes: usize,
    /// Where the next page begins; `None`: where this one did.
    next: Option<Place>,
    /// There may be more to read at once.
    more: bool,
    /// What was looked at: a subject and what is wrong with it, if anything is.
    seen: Vec<(&'static str, Option<String>)>,
}

/// What is wrong with the keys that say what is read, as `(key, what)`.
fn check_definition(
    table: Option<&str>,
    query: Option<&str>,
    cursor: &[String],
) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    let mut say = |key: &str, what: &str| wrong.push((key.to_owned(), what.to_owned()));
    match (table, query) {
        (None, None) => say("table", "either `table` or `query` must say what is read"),
        (Some(_), Some(_)) => say("query", "`table` and `query` exclude each other: keep one"),
        (Some(""), None) => say("table", "must be the name of a table"),
        (None, Some(query)) if !is_select(query) => {
            say("query", "must be one SELECT (or WITH … SELECT) without ORDER BY and LIMIT");
        }
        _ => {}
    }
    if cursor.is_empty() || cursor.iter().any(String::is_empty) {
        say("cursor", "must name one or more columns that only grow, for instance [\"id\"]");
    }
    let doubled = |(at, column): (usize, &String)| {
        cursor.iter().take(at).any(|earlier| earlier.eq_ignore_ascii_case(column))
    };
    if cursor.iter().enumerate().any(doubled) {
        say("cursor", "names a column twice");
    }
    wrong
}

fn is_select(query: &str) -> bool {
    let first: String = query.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
    ["select", "with", "values"].iter().any(|word| first.eq_ignore_ascii_case(word))
}
