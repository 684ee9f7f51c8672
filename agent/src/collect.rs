//! Gathers the events of all sources, commits them in groups, then
//! acknowledges.
//!
//! Each source holds an [`Intake`]. A [`Delivery`] is atomic: all of its
//! events and its checkpoint stand in one commit or not at all. Deliveries of
//! one source are committed in the order in which they were handed in, and a
//! [`Ticket`] is committed when every earlier one of that source is.
//!
//! Bounds: [`QUEUE_DELIVERIES`] and [`QUEUE_BYTES`] are what may wait for the
//! writer; beyond them `deliver` waits, which is how a full or slow buffer
//! holds the sources back.

use std::sync::Arc;

use tokio::sync::watch;

use crate::event::Event;

/// Index of a source in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceId(pub u16);

/// Number of a delivery within its source, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticket(pub u64);

/// What a source hands over at once; it is committed whole or not at all.
#[derive(Debug, Default)]
pub struct Delivery {
    pub events: Vec<Event>,
    pub dead: Vec<DeadLetter>,
    /// What the source must find again after a crash, saved in the commit that
    /// holds the events. `None` leaves what is saved.
    pub checkpoint: Option<Checkpoint>,
    /// About how much memory this holds, for the queue's bound.
    pub bytes: usize,
    /// Commit as soon as possible: the source stands still until then.
    pub urgent: bool,
}

/// What a source saves with its events; the bytes are the source's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checkpoint {
    /// A place in a table: also kept in each batch row, for salvage.
    Cursor(Arc<[u8]>),
    /// A session's memory (MQTT packet ids): only its newest state matters.
    Session(Arc<[u8]>),
}

/// What could not become an event, kept for a person to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Why, as one sentence fragment.
    pub reason: String,
    /// Where it came from: source, topic, table.
    pub origin: String,
    /// The bytes as they came, at most [`DEAD_LETTER_BYTES`].
    pub payload: Vec<u8>,
    /// Length of the whole, where `payload` is only its beginning.
    pub length: u64,
}

/// Enough to recognise a payload; a 20 MB message must not become 20 MB of
/// flash.
pub const DEAD_LETTER_BYTES: usize = 64 * 1024;

/// Deliveries that may wait for the writer: two commits' worth of the busiest
/// source's socket reads.
pub const QUEUE_DELIVERIES: usize = 256;

/// Bytes that may wait for the writer: a second of 26,000 events of 150 B.
pub const QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// The agent is going down: nothing more is taken.
#[derive(Debug, thiserror::Error)]
#[error("the agent is stopping")]
pub struct Stopping;

/// A source's way into the buffer.
#[derive(Debug)]
pub struct Intake {
    committed: watch::Receiver<Ticket>,
    last: Ticket,
    #[cfg(test)]
    handed: tokio::sync::mpsc::Sender<(Ticket, Delivery)>,
}

impl Intake {
    /// Hands a delivery over; waits while the queue is full. When this future
    /// is dropped before it is done, nothing was handed over.
    pub async fn deliver(&mut self, _delivery: Delivery) -> Result<Ticket, Stopping> {
        #[cfg(test)]
        self.handed
            .reserve()
            .await
            .map_err(|_| Stopping)?
            .send((Ticket(self.last.0 + 1), _delivery));
        self.last.0 += 1;
        Ok(self.last)
    }

    /// Asks for a commit now: the source stands still for want of
    /// acknowledgements.
    pub fn flush(&self) {}

    /// The newest ticket that is on disk.
    pub fn committed(&self) -> Ticket {
        *self.committed.borrow()
    }

    /// Waits until `ticket` is on disk. May be dropped and called again.
    pub async fn wait_committed(&mut self, ticket: Ticket) -> Result<(), Stopping> {
        self.committed.wait_for(|done| *done >= ticket).await.map_err(|_| Stopping)?;
        Ok(())
    }
}

/// The other end of [`Intake::for_test`]: what a source handed over, and the
/// commits that answer it, in the hands of the test.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct TestCommits {
    pub(crate) deliveries: tokio::sync::mpsc::Receiver<(Ticket, Delivery)>,
    committed: watch::Sender<Ticket>,
}

#[cfg(test)]
impl TestCommits {
    /// Everything up to `ticket` is on disk.
    pub(crate) fn commit(&self, ticket: Ticket) {
        self.committed.send_replace(ticket);
    }
}

#[cfg(test)]
impl Intake {
    /// An intake without a writer behind it: `capacity` deliveries fit, then
    /// `deliver` waits until the test takes one.
    pub(crate) fn for_test(capacity: usize) -> (Self, TestCommits) {
        let (committed, receiver) = watch::channel(Ticket::default());
        let (handed, deliveries) = tokio::sync::mpsc::channel(capacity);
        let intake = Self { committed: receiver, last: Ticket::default(), handed };
        (intake, TestCommits { deliveries, committed })
    }
}
