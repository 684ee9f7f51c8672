//! What is gathered for the next commit. Events are encoded as they come, so
//! that they take little memory while they wait.

use std::collections::BTreeMap;

use super::{Checkpoint, DeadLetter, Delivery, SourceId, Ticket};
use crate::buffer::{Encoder, Labels};
use crate::flow::{self, Flows, Lane};

/// Events of one batch: the forwarder holds two of them as JSON, and the client
/// a copy. Twice a quiet commit's worth; more does not compress better.
const BATCH_EVENTS: u32 = 2_000;

/// Bytes of one batch: a delivery of large payloads must not become one row
/// that the forwarder can only send whole.
const BATCH_BYTES: usize = 1024 * 1024;

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
        ticket: Ticket,
        delivery: Delivery,
        labels: &Labels,
        flows: &Flows,
    ) {
        for event in &delivery.events {
            let batches = self.flows.entry(event.flow).or_default();
            let fits = batches
                .last()
                .is_some_and(|batch| batch.count() < BATCH_EVENTS && batch.len() < BATCH_BYTES);
            if !fits {
                batches.push(Encoder::default());
            }
            if let Some(batch) = batches.last_mut() {
                batch.add(source.0, labels, event);
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
