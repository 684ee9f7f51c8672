//! The thread that owns the connection that writes.
//!
//! It sleeps until something comes, gathers, and commits
//! - when [`COMMIT_EVENTS`] are gathered,
//! - the commit interval after the first of them,
//! - at once for an alarm, an urgent delivery, a flush, or a call of the
//!   forwarder; all that was collected before goes into the same commit.
//!
//! When a commit fails (the disk is full, the medium errs) the group is kept
//! and tried again each [`AGAIN`]; nothing is acknowledged, the bounds of the
//! queue hold the sources back. The same bounds hold them back while the file
//! is full; deletes are done then as ever, since they make the room.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use super::group::Group;
use super::{Room, Ticket};
use crate::buffer::{
    self, Call, Changes, File, Labels, Message, Position, Sealed, Shared, Stats, locked,
};
use crate::clock::Clock;
use crate::flow::Flows;

/// Events that are worth a commit of their own.
const COMMIT_EVENTS: u32 = 1_000;

/// Where a commit takes long, more than [`COMMIT_EVENTS`] wait after it: they
/// go into one commit up to this bound.
const MOST_EVENTS: u32 = 5_000;

/// Pause after a commit that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// Twentieth of the size that must be free before a full file takes events
/// again: else it would be full and not full with each delete.
const FREE_SHARE: u64 = 20;

/// A source as the writer knows it.
#[derive(Debug)]
pub(super) struct Known {
    pub name: Arc<str>,
    pub labels: Labels,
    pub committed: watch::Sender<Ticket>,
}

#[derive(Debug)]
pub(super) struct Writer {
    file: File,
    inbox: Receiver<Message>,
    shared: Arc<Shared>,
    room: Arc<Room>,
    sources: Vec<Known>,
    flows: Flows,
    clock: Clock,
    interval: Duration,
    max_size: u64,
    group: Group,
    call: Option<Call>,
    settle: Option<SyncSender<bool>>,
    /// The agent is stopping: who asks for what cannot be written gets no answer.
    settling: bool,
    forget: Option<(Position, String)>,
    /// When the group or the deletes must be committed.
    due: Option<Instant>,
    forget_due: Option<Instant>,
    /// After a failure: not before.
    retry: Option<Instant>,
    failing: Option<String>,
    held_back: bool,
    closing: bool,
}

impl Writer {
    #[expect(clippy::too_many_arguments, reason = "it is put together in one place")]
    pub(super) fn new(
        file: File,
        inbox: Receiver<Message>,
        shared: Arc<Shared>,
        room: Arc<Room>,
        sources: Vec<Known>,
        flows: Flows,
        config: &buffer::Config,
        clock: Clock,
    ) -> Self {
        Self {
            file,
            inbox,
            shared,
            room,
            sources,
            flows,
            clock,
            interval: config.commit_interval.get(),
            max_size: config.max_size.get(),
            group: Group::default(),
            call: None,
            settle: None,
            settling: false,
            forget: None,
            due: None,
            forget_due: None,
            retry: None,
            failing: None,
            held_back: false,
            closing: false,
        }
    }

    pub(super) fn run(mut self) {
        self.measure();
        while !self.closing {
            let message = match self.wake() {
                // Idle: no wake-up at all.
                None => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => self.inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match message {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.closing = true,
            }
            // What came meanwhile goes along: groups grow under load.
            while self.group.events < MOST_EVENTS
                && let Ok(message) = self.inbox.try_recv()
            {
                self.take(message);
            }
            self.look();
            if self.is_due() {
                self.commit();
            }
        }
        self.end();
    }

    /// When to wake without a message.
    fn wake(&self) -> Option<Instant> {
        let due = if self.held_back { None } else { self.due };
        let asked = self.call.is_some() || self.settle.is_some();
        let call = asked.then(Instant::now);
        let next = [due, self.forget_due, call].into_iter().flatten().min()?;
        Some(self.retry.map_or(next, |retry| next.max(retry)))
    }

    fn is_due(&self) -> bool {
        self.wake().is_some_and(|at| at <= Instant::now())
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Delivery { source, ticket, delivery, permits } => {
                let Some(known) = self.sources.get(usize::from(source.0)) else { return };
                self.group.add(source, known, ticket, delivery, &self.flows);
                self.group.permits += permits as usize;
                let now = Instant::now();
                let at_once = self.group.urgent || self.group.events >= COMMIT_EVENTS;
                let latest = if at_once { now } else { now + self.interval };
                self.due = Some(self.due.map_or(latest, |due| due.min(latest)));
            }
            Message::Look => {}
            Message::Call(call) => self.call = Some(call),
            Message::Settle { reply } => {
                self.close_intakes();
                self.settle = Some(reply);
                self.settling = true;
                self.due = Some(Instant::now());
                // Who stops does not wait for the next try.
                self.retry = None;
            }
            Message::Close => self.closing = true,
        }
    }

    /// What stands in the shared state rather than in a message.
    fn look(&mut self) {
        // Before the look: what comes after it sends a message again.
        self.shared.looking.store(false, Ordering::Release);
        if self.shared.flush.swap(false, Ordering::AcqRel) && !self.group.is_empty() {
            self.due = Some(Instant::now());
        }
        if let Some(newer) = locked(&self.shared.forget).take() {
            self.forget = Some(newer);
            self.forget_due = self.forget_due.or_else(|| Some(Instant::now() + self.interval));
        }
    }

    /// Nothing more is taken; what was handed in is gathered.
    fn close_intakes(&mut self) {
        self.room.deliveries.close();
        self.room.bytes.close();
    }

    fn commit(&mut self) -> bool {
        // Full: the events wait, whatever makes room does not.
        let events = !self.held_back;
        let mut changes = Changes::default();
        if events {
            changes.batches = self
                .group
                .batches()
                .map(|(flow, events)| Sealed { flow: self.flows.get(flow), events })
                .collect();
            changes.dead = self.group.dead.iter().collect();
            changes.saved = self
                .group
                .saved
                .iter()
                .filter_map(|(source, checkpoint)| {
                    Some((&*self.sources.get(usize::from(*source))?.name, checkpoint))
                })
                .collect();
        }
        if let Some((position, cluster)) = &self.forget {
            changes.positions.push((position, cluster));
        }
        match &self.call {
            Some(Call::Adopt { position, cluster, .. }) => {
                changes.positions.push((position, cluster));
            }
            Some(Call::Bury { dead, .. }) => changes.buried.extend(dead),
            // In a commit of its own, behind this one.
            Some(Call::Errand { .. }) | None => {}
        }
        let result = if changes.is_empty() {
            Ok(Vec::new())
        } else {
            self.file.commit(&changes, self.clock.now())
        };
        match result {
            Ok(adopted) => self.committed(events, adopted),
            Err(cause) => {
                self.failed(&cause);
                return false;
            }
        }
        true
    }

    /// All of it is on the medium: acknowledge.
    fn committed(&mut self, events: bool, mut adopted: Vec<buffer::Adopted>) {
        if self.failing.take().is_some() {
            info!("the buffer can be written again");
        }
        self.retry = None;
        // Before the acknowledgement: who gets one sees whether it is full now.
        self.measure();
        if events {
            let group = std::mem::take(&mut self.group);
            self.due = None;
            for (source, ticket) in &group.tickets {
                if let Some(known) = self.sources.get(usize::from(*source)) {
                    known.committed.send_replace(*ticket);
                }
            }
            self.room.deliveries.add_permits(group.deliveries);
            self.room.bytes.add_permits(group.permits);
        }
        self.forget = None;
        self.forget_due = None;
        *locked(&self.shared.memory) = self.file.memory().clone();
        match self.call.take() {
            Some(Call::Adopt { reply, .. }) => {
                answer(&reply, adopted.pop().unwrap_or_default());
            }
            Some(Call::Bury { reply, .. }) => answer(&reply, ()),
            Some(Call::Errand { errand, reply }) => {
                // What failed is not tried again: whoever asked is told.
                let done = self.file.errand(&errand, &self.flows);
                self.measure();
                answer(&reply, done.map_err(|cause| cause.to_string()));
            }
            None => {}
        }
        self.settled();
        self.shared.stored(self.file.newest());
    }

    fn failed(&mut self, cause: &rusqlite::Error) {
        let text = cause.to_string();
        if self.failing.as_ref() != Some(&text) {
            warn!(error = %text, retry_in = ?AGAIN, "cannot write the buffer, sources are held back");
        }
        self.failing = Some(text);
        self.retry = Some(Instant::now() + AGAIN);
        if self.settling {
            // The forwarder would wait for it until its grace is over.
            self.call = None;
        }
        self.settled();
        self.measure();
    }

    fn settled(&mut self) {
        if let Some(reply) = self.settle.take() {
            answer(&reply, self.group.is_empty());
        }
    }

    /// Looks at the file's size and tells how the buffer stands.
    fn measure(&mut self) {
        let totals = self.file.totals();
        let before = self.shared.stats.borrow().clone();
        let (bytes, oldest) = match self.file.state() {
            Ok(state) => (state.used, state.oldest),
            Err(_) => (before.bytes, before.oldest),
        };
        if !self.held_back && bytes >= self.max_size {
            self.held_back = true;
            warn!(bytes, max_size = self.max_size, "the buffer is full, sources are held back");
        } else if self.held_back && bytes <= self.max_size - self.max_size / FREE_SHARE {
            self.held_back = false;
            info!(bytes, max_size = self.max_size, "the buffer has room again");
        }
        self.shared.stats.send_replace(Stats {
            events: totals.events,
            batches: totals.batches,
            bytes,
            oldest,
            committed: totals.committed,
            dead_letters: totals.dead_letters,
            dead_dropped: totals.dead_dropped,
            held_back: self.held_back,
            failing: self.failing.clone(),
        });
    }

    /// Takes what is still queued and commits it.
    fn end(mut self) {
        self.close_intakes();
        while let Ok(message) = self.inbox.try_recv() {
            self.take(message);
        }
        self.look();
        let complete = self.commit();
        if !complete || !self.group.is_empty() {
            // Their sources send them again, where they can.
            error!(events = self.group.events, "stopped with events that are not committed");
        }
        self.shared.stop();
    }
}

fn answer<T>(reply: &SyncSender<T>, what: T) {
    if reply.send(what).is_err() {
        debug!("who asked the buffer has gone away");
    }
}
