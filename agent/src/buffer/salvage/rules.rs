//! What the rules of a full file have left in it: counts of drops, gaps, and the
//! marks by which the age of batches is known.
//!
//! In doubt a count is the higher one, a gap is told again, and a batch counts as
//! younger than it is: none is dropped by a mark that may be damaged.

use rusqlite::params;

use super::{BatchId, Salvage, Value};
use crate::buffer::evict::EARLIEST;

/// Numbers of rows that the file counts up itself. It never comes so far; behind
/// a damaged number near the last one it would have none left to give.
pub(super) const ROWIDS: std::ops::Range<i64> = 1..1 << 40;

impl Salvage {
    /// What was dropped of a stream for one reason. It only grows: a page that is
    /// left over from before says less.
    pub(super) fn count(
        &self,
        stream: &str,
        reason: &str,
        events: i64,
        bytes: i64,
    ) -> Result<(), rusqlite::Error> {
        self.out
            .prepare_cached(
                "INSERT INTO dropped (stream, reason, events, bytes) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET
                     events = max(events, excluded.events), bytes = max(bytes, excluded.bytes)",
            )?
            .execute((stream, reason, events, bytes))?;
        Ok(())
    }

    /// A row of a gap, a mark, or of the last numbers that were given.
    pub(super) fn rule(&mut self, rowid: i64, values: &[Value<'_>]) -> Result<(), rusqlite::Error> {
        let int = |value| if let Value::Int(number) = value { Some(number) } else { None };
        match *values {
            [
                Value::Null,
                Value::Text(stream),
                Value::Text(reason),
                Value::Int(events),
                Value::Int(bytes),
                gateway @ (Value::Null | Value::Text(_)),
                epoch @ (Value::Null | Value::Int(_)),
                first @ (Value::Null | Value::Int(_)),
                last @ (Value::Null | Value::Int(_)),
                Value::Int(perhaps_sent),
            ] if ROWIDS.contains(&rowid) => {
                let gateway = if let Value::Text(name) = gateway { Some(name) } else { None };
                self.out
                    .prepare_cached(
                        "INSERT OR IGNORE INTO gap (id, stream, reason, events, bytes, gateway,
                             epoch, first_seq, last_seq, perhaps_sent)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                    )?
                    .execute(params![
                        rowid,
                        stream,
                        reason,
                        events,
                        bytes,
                        gateway,
                        int(epoch),
                        int(first),
                        int(last),
                        perhaps_sent
                    ])?;
            }
            [Value::Null, Value::Int(at)] if BatchId(rowid).ordinal() > 0 => {
                self.out
                    .prepare_cached("INSERT OR IGNORE INTO mark (id, at) VALUES (?1, ?2)")?
                    .execute((rowid, at))?;
            }
            [Value::Text("gap"), Value::Int(last)] if ROWIDS.contains(&last) => {
                self.last_gap = self.last_gap.max(last);
            }
            _ => {}
        }
        Ok(())
    }

    /// Once all rows are there: `newest` is the last batch that the file had.
    pub(super) fn settle_rules(&self, newest: BatchId) -> Result<(), rusqlite::Error> {
        // A mark that claims an older time than one before it claims too much.
        self.out.execute(
            "DELETE FROM mark WHERE at < ?1 OR id > ?2
             OR EXISTS (SELECT 1 FROM mark AS before WHERE before.id < mark.id
                        AND before.at > mark.at)",
            (EARLIEST.0, newest.0),
        )?;
        // A number that comes again would be taken for one that was told.
        if self.last_gap > 0 {
            let sets = [
                "INSERT INTO sqlite_sequence (name, seq) SELECT 'gap', 0
                 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'gap') AND ?1 > 0",
                "UPDATE sqlite_sequence SET seq = max(seq, ?1) WHERE name = 'gap'",
            ];
            for set in sets {
                self.out.execute(set, [self.last_gap])?;
            }
        }
        Ok(())
    }
}
