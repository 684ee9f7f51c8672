//! Dead letters that can be sent again, and what was taken in from other files.

use super::{Salvage, Value, rules};

impl Salvage {
    /// The event of a dead letter; whether the row is one.
    pub(super) fn letter(&self, rowid: i64, values: &[Value<'_>]) -> Result<bool, rusqlite::Error> {
        let [
            Value::Null,
            Value::Blob(birth),
            Value::Blob(data),
            Value::Int(place),
            Value::Int(flow),
            Value::Int(seq),
            Value::Int(raw),
            Value::Int(oldest),
        ] = *values
        else {
            return Ok(false);
        };
        if rules::ROWIDS.contains(&rowid) && u32::try_from(flow).is_ok() {
            self.out
                .prepare_cached(
                    "INSERT OR IGNORE INTO dead_event
                     (letter, birth, data, place, flow, seq, raw, oldest)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute((rowid, birth, data, place, flow, seq, raw, oldest))?;
        }
        Ok(true)
    }

    /// A batch that was taken in: it must not come a second time.
    pub(super) fn imported(&self, epoch: &str, number: i64) -> Result<(), rusqlite::Error> {
        self.out
            .prepare_cached("INSERT OR IGNORE INTO imported (epoch, number) VALUES (?1, ?2)")?
            .execute((epoch, number))?;
        Ok(())
    }

    /// Once all rows are there: an event whose letter is lost is not sent from its
    /// batch either, as it was refused there, so it gets a letter again.
    pub(super) fn settle_letters(&mut self) -> Result<(), rusqlite::Error> {
        let lost: bool = self.out.query_row(
            "SELECT EXISTS (SELECT 1 FROM dead_event
                            WHERE letter NOT IN (SELECT id FROM dead_letter))",
            [],
            |row| row.get(0),
        )?;
        // Inserting nothing would leave a mark in the numbers that were given.
        if lost {
            self.totals.dead_letters += self.out.execute(
                "INSERT INTO dead_letter (id, at, reason, origin, length, payload)
                 SELECT letter, 0, 'Kafka refused it (the reason is lost)', 'salvaged', 0, x''
                 FROM dead_event WHERE letter NOT IN (SELECT id FROM dead_letter)",
                [],
            )? as u64;
        }
        let bytes: i64 = self.out.query_row(
            "SELECT coalesce(sum(length(data)), 0) FROM dead_event",
            [],
            |row| row.get(0),
        )?;
        self.totals.dead_bytes += bytes.cast_unsigned();
        Ok(())
    }
}
