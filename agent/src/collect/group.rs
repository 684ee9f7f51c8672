//! What is gathered for the next commit. Events are encoded as they come, so
//! that they take little memory while they wait.

use std::collections::BTreeMap;

use tracing::warn;

use super::writer::Known;
use super::{Checkpoint, DEAD_LETTER_BYTES, DeadLetter, Delivery, SourceId, Ticket};
use crate::buffer::Encoder;
use crate::event::Event;
use crate::flow::{self, Flows, Lane};

/// Events of one batch: the forwarder holds two of them as JSON, and the client
/// a copy. Twice a quiet commit's worth; more does not compress better.
const BATCH_EVENTS: u32 = 2_000;

/// Bytes of one batch: the forwarder sends a row whole, and a line of 64 kbit/s
/// takes 16 s for this if nothing of it compresses, a third of the time that a
/// transaction may stand open. A full batch of small events stays below it.
const BATCH_BYTES: usize = 128 * 1024;

/// A larger event becomes a dead letter: no topic takes it, and its copies as
/// an event, as a row and as a record would stand in memory together.
const EVENT_BYTES: usize = 8 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Group {
    /// Of each flow the batches, the last one growing.
    flows: BTreeMap<flow::Id, Vec<Encoder>>,
    pub dead: Vec<DeadLetter>,
    pub saved: BTreeMap<u16, Checkpoint>,
    /// The newest ticket of each source.
    pub tickets: BTreeMap<u16, Ticket>,
    pub events: u32,
    pub deliveries: usize,
    pub permits: usize,
    /// It does not wait for the commit interval.
    pub urgent: bool,
}

impl Group {
    pub(super) fn is_empty(&self) -> bool {
        self.deliveries == 0
    }

    pub(super) fn add(
        &mut self,
        source: SourceId,
        known: &Known,
        ticket: Ticket,
        delivery: Delivery,
        flows: &Flows,
    ) {
        for event in &delivery.events {
            let size = Encoder::size(event);
            if size > EVENT_BYTES {
                self.dead.push(too_large(source, known, event, flows));
                continue;
            }
            let batches = self.flows.entry(event.flow).or_default();
            let fits = batches.last().is_some_and(|batch| {
                batch.count() < BATCH_EVENTS && batch.len().saturating_add(size) <= BATCH_BYTES
            });
            if !fits {
                // A larger event stands alone.
                batches.push(Encoder::default());
            }
            if let Some(batch) = batches.last_mut() {
                batch.add(source.0, &known.labels, event);
            }
            self.urgent |= flows.get(event.flow).lane == Lane::Alarm;
        }
        self.urgent |= delivery.urgent;
        self.events =
            self.events.saturating_add(u32::try_from(delivery.events.len()).unwrap_or(u32::MAX));
        self.deliveries += 1;
        self.dead.extend(delivery.dead);
        if let Some(checkpoint) = delivery.checkpoint {
            self.saved.insert(source.0, checkpoint);
        }
        self.tickets.insert(source.0, ticket);
    }

    /// Its batches, alarms first, in the order in which the numbers are given.
    pub(super) fn batches(&self) -> impl Iterator<Item = (flow::Id, &Encoder)> {
        self.flows.iter().flat_map(|(flow, batches)| batches.iter().map(|batch| (*flow, batch)))
    }
}

fn too_large(source: SourceId, known: &Known, event: &Event, flows: &Flows) -> DeadLetter {
    let mut encoder = Encoder::default();
    encoder.add(source.0, &known.labels, event);
    let mut payload = Vec::new();
    encoder.finish(&mut payload);
    let length = payload.len() as u64;
    payload.truncate(DEAD_LETTER_BYTES);
    payload.shrink_to_fit();
    let origin =
        format!("{}/{} for {}", known.name, event.device, flows.get(event.flow).stream.name);
    warn!(%origin, length, "event is too large and becomes a dead letter");
    let reason = format!("an event of {length} bytes is more than {EVENT_BYTES}");
    DeadLetter { reason, origin, payload, length }
}
