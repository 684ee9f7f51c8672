//! What a position lets go, and what is in doubt then; and what was seen in Kafka
//! where no position is left.

use rusqlite::{Connection, OptionalExtension as _};

use super::file::Totals;
use super::usage::Usage;
use super::{Adopted, BatchId, Epoch, FileEpoch, Position};
use crate::flow;

/// Deletes what the position covers, in one range a flow where its epoch is
/// known. A power cut after it costs nothing: Kafka has it.
pub(super) fn forget(
    transaction: &Connection,
    epochs: &[FileEpoch],
    position: &Position,
    cluster: &str,
    (totals, usage): (&mut Totals, &mut Usage),
) -> Result<Adopted, rusqlite::Error> {
    let mut adopted = Adopted::default();
    if !position.is_of(epochs, cluster) {
        adopted.in_doubt.push(format!(
            "all that is stored: the position is of gateway {} in cluster {}, this is cluster {cluster}",
            position.gateway, position.cluster
        ));
        return Ok(adopted);
    }
    for (flow, (epoch, number)) in &position.flows {
        for (first, last) in position.covered(*flow, epochs) {
            let (batches, events, data): (i64, i64, i64) = transaction
                .prepare_cached(
                    "SELECT count(*), coalesce(sum(count), 0), coalesce(sum(length(data)), 0)
                     FROM batch
                     WHERE flow = ?1 AND id BETWEEN ?2 AND ?3",
                )?
                .query_row((flow.0, first.0, last.0), |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })?;
            if batches == 0 {
                continue;
            }
            transaction
                .prepare_cached("DELETE FROM batch WHERE flow = ?1 AND id BETWEEN ?2 AND ?3")?
                .execute((flow.0, first.0, last.0))?;
            usage.remove(*flow, batches.cast_unsigned(), data.cast_unsigned());
            adopted.deleted_batches += batches.cast_unsigned();
            adopted.deleted_events += events.cast_unsigned();
        }
        if !epochs.iter().any(|known| known.epoch == *epoch) {
            doubt(transaction, epochs, *flow, (*epoch, *number), &mut adopted)?;
        }
    }
    totals.batches = totals.batches.saturating_sub(adopted.deleted_batches);
    totals.events = totals.events.saturating_sub(adopted.deleted_events);
    Ok(adopted)
}

/// Deletes these batches. One that has gone meanwhile, by a rule of the user's, is
/// not counted.
pub(super) fn delivered(
    transaction: &Connection,
    batches: &[BatchId],
    (totals, usage): (&mut Totals, &mut Usage),
) -> Result<Adopted, rusqlite::Error> {
    let mut adopted = Adopted::default();
    let mut delete = transaction
        .prepare_cached("DELETE FROM batch WHERE id = ?1 RETURNING flow, count, length(data)")?;
    for batch in batches {
        let gone: Option<(u32, i64, i64)> = delete
            .query_row([batch.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((flow, events, data)) = gone else { continue };
        usage.remove(flow::Hash(flow), 1, data.cast_unsigned());
        adopted.deleted_batches += 1;
        adopted.deleted_events += events.cast_unsigned();
    }
    totals.batches = totals.batches.saturating_sub(adopted.deleted_batches);
    totals.events = totals.events.saturating_sub(adopted.deleted_events);
    Ok(adopted)
}

/// What of a flow is sent though Kafka stands in an epoch that this file does
/// not know: the epochs before the running one, which another copy may have
/// sent.
fn doubt(
    transaction: &Connection,
    epochs: &[FileEpoch],
    flow: flow::Hash,
    stands: (Epoch, u64),
    adopted: &mut Adopted,
) -> Result<(), rusqlite::Error> {
    for known in epochs.iter().filter(|known| known.last.is_some()) {
        let (first, last) = (BatchId::new(known.ordinal, 0), BatchId::new(known.ordinal, u64::MAX));
        let (from, to): (Option<i64>, Option<i64>) = transaction
            .prepare_cached(
                "SELECT min(first_seq), max(first_seq + count - 1) FROM batch
                 WHERE flow = ?1 AND id BETWEEN ?2 AND ?3 AND birth IS NULL",
            )?
            .query_row((flow.0, first.0, last.0), |row| Ok((row.get(0)?, row.get(1)?)))?;
        let again: i64 = transaction
            .prepare_cached(
                "SELECT coalesce(sum(count), 0) FROM batch
                 WHERE flow = ?1 AND id BETWEEN ?2 AND ?3 AND birth IS NOT NULL",
            )?
            .query_row((flow.0, first.0, last.0), |row| row.get(0))?;
        if again > 0 {
            adopted.in_doubt.push(format!(
                "{again} events of flow {:08x} that were put in again under their old ids: Kafka stands at batch {} of epoch {}, which this file does not know",
                flow.0, stands.1, stands.0
            ));
        }
        if let (Some(from), Some(to)) = (from, to) {
            adopted.in_doubt.push(format!(
                "{}/{}/{from} to {to} of flow {:08x}: Kafka stands at batch {} of epoch {}, which this file does not know",
                known.gateway, known.epoch, flow.0, stands.1, stands.0
            ));
        }
    }
    Ok(())
}
