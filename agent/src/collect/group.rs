//! What is gathered for the next commit. Events are encoded as they come, so
//! that they take little memory while they wait.

use std::collections::BTreeMap;
use std::time::Instant;

use tracing::warn;

use super::writer::Known;
use super::{Checkpoint, DEAD_LETTER_BYTES, DeadLetter, SourceId, Ticket};
use crate::buffer::{Dropped, Encoder, Handed, Reason};
use crate::event::Event;
use crate::flow::{self, Flows, Lane};

/// Events of one batch: the forwarder holds two of them as JSON, and the client a copy;
/// of events of eight fields two go into one request. More than a quiet commit's worth;
/// more does not compress better.
const BATCH_EVENTS: u32 = 1_400;

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
    /// What the file may have in their place while it is in memory only.
    pub idle: BTreeMap<u16, Checkpoint>,
    /// Something in it must be in the file before it is sent.
    pub must_write: bool,
    /// Of each source the newest ticket, and the room that it gets back.
    pub parts: BTreeMap<u16, Part>,
    /// When the sources had its deliveries in hand.
    pub since: Vec<Instant>,
    /// What came and is not stored, by stream.
    refused: BTreeMap<flow::Id, (u64, u64)>,
    pub events: u32,
    /// It does not wait for the commit interval.
    pub urgent: bool,
}

/// One source's part of a group.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Part {
    pub ticket: Ticket,
    pub deliveries: usize,
    pub permits: usize,
}

impl Group {
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Adds a delivery, without the events of flows that are `refused`.
    pub(super) fn add(
        &mut self,
        known: &Known,
        handed: Handed,
        flows: &Flows,
        refused: impl Fn(flow::Id) -> bool,
    ) {
        let Handed { source, ticket, delivery, permits, since } = handed;
        for event in &delivery.events {
            if refused(event.flow) {
                let (events, bytes) = self.refused.entry(event.flow).or_default();
                *events += 1;
                *bytes += Encoder::size(event) as u64;
                continue;
            }
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
        self.dead.extend(delivery.dead);
        self.must_write |= !self.dead.is_empty();
        if let Some(checkpoint) = delivery.checkpoint {
            let is_session = matches!(checkpoint, Checkpoint::Session(_));
            self.must_write |= !is_session || delivery.idle.is_none();
            self.saved.insert(source.0, checkpoint);
        }
        if let Some(idle) = delivery.idle {
            self.idle.insert(source.0, idle);
        }
        self.since.push(since);
        let part = self.parts.entry(source.0).or_default();
        part.ticket = ticket;
        part.deliveries += 1;
        part.permits += permits as usize;
    }

    pub(super) fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// What came and is not stored, one entry a stream and lane.
    pub(super) fn refused(&self, flows: &Flows) -> Vec<Dropped> {
        let one = |(flow, (events, bytes)): (&flow::Id, &(u64, u64))| Dropped {
            stream: flows.get(*flow).stream.name.clone(),
            reason: Reason::Newest,
            events: *events,
            bytes: *bytes,
        };
        self.refused.iter().map(one).collect()
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
