//! The thread that owns the connection that writes.
//!
//! It sleeps until something comes, gathers, and commits
//! - when [`COMMIT_EVENTS`] are gathered,
//! - the commit interval after the first of them,
//! - at once for an alarm, an urgent delivery, a flush, or a call of the
//!   forwarder; all that was collected before goes into the same commit.
//!
//! When a commit fails (the disk is full, the medium errs) the group is kept
//! and tried again after a pause that grows from [`AGAIN`] to [`LONGEST_AGAIN`];
//! nothing is acknowledged, the bounds of the queue hold the sources back. On a
//! full disk deletes are tried alone, at last with the buffer's reserve, and events
//! where the -wal begins anew. After any other failure nobody knows whether the group
//! is on the medium: it is committed again as it was, before anything else gets a
//! number. Else a power cut could bring back others under ids that Kafka has.
//!
//! What is for a stream that is full and waits stays in its source's place in
//! `waiting`, in order, until there is room: the other sources go on. Deletes are
//! done as ever, since they make the room.
//!
//! When the file turns out to be damaged, the thread ends without a commit. The
//! agent is started anew then, and the opening salvages the file.

mod commit;
mod hold;
mod tend;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::error;

use self::tend::Told;
use super::bounds::{Bounds, Verdict};
use super::change::Change;
use super::group::Group;
use super::standby::Standby;
use super::{Room, SourceId, Ticket};
use crate::buffer::{self, Call, File, Handed, Labels, Message, Position, Shared, Write, locked};
use crate::clock::{Clock, Steady};
use crate::delays::Delays;
use crate::event::Event;
use crate::flow::Flows;
use crate::pulse;
use crate::units::Period;

/// Events that are worth a commit of their own.
const COMMIT_EVENTS: u32 = 1_000;

/// Where a commit takes long, more than [`COMMIT_EVENTS`] wait after it: they
/// go into one commit up to this bound.
const MOST_EVENTS: u32 = 5_000;

/// How long the file may lag behind the position in Kafka where it has nothing to
/// delete by it: some kilobytes of the flash each. It tells a Kafka that has lost
/// what it confirmed.
const REMEMBER: Duration = Duration::from_hours(1);

/// Pause after a commit that failed; it doubles up to [`LONGEST_AGAIN`].
pub(super) const AGAIN: Duration = Duration::from_secs(1);

/// A disk that has room again is used within half a minute.
const LONGEST_AGAIN: Duration = Duration::from_secs(30);

/// A source as the writer knows it.
#[derive(Debug)]
pub(super) struct Known {
    pub name: Arc<str>,
    pub labels: Labels,
    pub room: Arc<Room>,
    pub committed: watch::Sender<Ticket>,
}

#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a note of its own, no state of a machine"
)]
pub(super) struct Writer {
    pub(super) file: File,
    inbox: Receiver<Message>,
    pub(super) shared: Arc<Shared>,
    pub(super) sources: Vec<Known>,
    flows: Flows,
    clock: Clock,
    pub(super) time: Steady,
    interval: Duration,
    max_age: Option<Duration>,
    bounds: Bounds,
    pub(super) group: Group,
    write: Write,
    /// What is in memory, and not in the file.
    pub(super) standby: Standby,
    /// What is in memory is written now: somebody waits for it.
    write_now: bool,
    /// Of each source what is held back, oldest first.
    pub(super) waiting: BTreeMap<u16, VecDeque<Handed>>,
    /// More came than goes into one commit.
    pub(super) more: bool,
    /// Somebody stands still: what was handed over is committed at once.
    flush: bool,
    call: Option<Call>,
    settle: Option<SyncSender<bool>>,
    /// Another configuration, to be taken over once nothing is gathered.
    pub(super) change: Option<Change>,
    /// Places of sources that are no more.
    pub(super) free: Vec<SourceId>,
    /// The agent is stopping: who asks for what cannot be written gets no answer.
    settling: bool,
    forget: Option<(Position, String)>,
    /// What the file does not know of the position in Kafka, and need not soon.
    remember: Option<(Position, String)>,
    remember_due: Option<Instant>,
    /// When the group or the deletes must be committed.
    pub(super) due: Option<Instant>,
    forget_due: Option<Instant>,
    /// After a failure: not before.
    retry: Option<Instant>,
    /// How long after the next failure.
    pause: Duration,
    failing: Option<String>,
    /// Commits that failed since the last one that did not.
    tries: u32,
    /// Numbers went into a commit that failed and may be on the medium all the same: they
    /// are nobody else's until a later one has taken its place there.
    in_doubt: bool,
    /// The disk was full at the last try: deletes go alone.
    disk_full: bool,
    /// The -wal was made to begin anew for what waits: that is done once.
    made_way: bool,
    /// When to look again how the disk stands, and for what is too old.
    look_at_disk: Option<Instant>,
    expire_due: Option<Instant>,
    /// The file is being made shorter.
    shrinking: bool,
    held_back: bool,
    /// How long commits took, and what is in them had waited by then.
    took: Delays,
    waited: Delays,
    /// What was said of drops, and when.
    told: Told,
    /// The file is damaged: nothing is written to it any more.
    pub(super) damaged: bool,
    closing: bool,
}

impl Writer {
    pub(super) fn new(
        file: File,
        inbox: Receiver<Message>,
        shared: Arc<Shared>,
        sources: Vec<Known>,
        flows: Flows,
        config: &buffer::Config,
        (clock, time): (Clock, Steady),
    ) -> Self {
        let told = Told::new(file.dropped());
        Self {
            file,
            inbox,
            shared,
            sources,
            bounds: Bounds::new(config, &flows),
            flows,
            clock,
            interval: config.commit_interval.get(),
            write: config.write,
            standby: Standby::default(),
            write_now: false,
            max_age: config.max_age.map(Period::get),
            expire_due: config.max_age.map(|_| time.now()),
            time,
            group: Group::default(),
            waiting: BTreeMap::new(),
            more: false,
            flush: false,
            call: None,
            settle: None,
            change: None,
            free: Vec::new(),
            settling: false,
            forget: None,
            remember: None,
            remember_due: None,
            due: None,
            forget_due: None,
            retry: None,
            pause: AGAIN,
            failing: None,
            tries: 0,
            in_doubt: false,
            disk_full: false,
            made_way: false,
            look_at_disk: None,
            shrinking: false,
            held_back: false,
            took: Delays::default(),
            waited: Delays::default(),
            told,
            damaged: false,
            closing: false,
        }
    }

    pub(super) fn run(mut self) {
        self.begin();
        while !self.closing {
            pulse::beat();
            let message = match self.wake() {
                // Idle: no wake-up at all.
                None => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => self.inbox.recv_timeout(at.saturating_duration_since(self.time.now())),
            };
            match message {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.closing = true,
            }
            self.turn();
        }
        self.end();
    }

    /// Before the first turn: the file may be full as it is.
    pub(super) fn begin(&mut self) {
        self.measure();
    }

    /// What there is to do now, without waiting for anything.
    pub(super) fn turn(&mut self) {
        // What came meanwhile goes along: groups grow under load.
        while let Ok(message) = self.inbox.try_recv() {
            self.take(message);
        }
        self.look();
        if self.damaged {
            return;
        }
        if !self.held_back && !self.waiting.is_empty() {
            // The first that waits is news.
            self.measure();
        }
        self.hold();
        if self.is_due() {
            self.commit();
        } else {
            self.tend();
        }
        if !self.damaged {
            self.end_change();
        }
    }

    /// From now on by these rules.
    pub(super) fn obey(&mut self, flows: Flows, config: &buffer::Config) {
        self.bounds = Bounds::new(config, &flows);
        self.flows = flows;
        self.interval = config.commit_interval.get();
        self.write = config.write;
        self.max_age = config.max_age.map(Period::get);
        self.expire_due = config.max_age.map(|_| self.time.now());
        if let Err(cause) = self.file.limit(config.max_size.get()) {
            self.notice(&cause);
        }
        self.measure();
    }

    /// When to wake without a message.
    pub(super) fn wake(&self) -> Option<Instant> {
        [self.commit_due(), self.tend_due()].into_iter().flatten().min()
    }

    fn commit_due(&self) -> Option<Instant> {
        let asked = self.call.is_some() || self.settle.is_some() || self.more || self.write_now;
        let now = asked.then(|| self.time.now());
        let all = [self.due, self.forget_due, self.held_due(), self.remember_due, now];
        let next = all.into_iter().flatten().min()?;
        Some(self.retry.map_or(next, |retry| next.max(retry)))
    }

    fn is_due(&self) -> bool {
        self.commit_due().is_some_and(|at| at <= self.time.now())
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Look => {}
            Message::Call(call) => self.call = Some(call),
            Message::Settle { reply } => {
                self.close_intakes();
                self.settle = Some(reply);
                self.settling = true;
                self.due = Some(self.time.now());
                // Who stops does not wait for the next try.
                self.retry = None;
            }
            Message::Follow { flows, reply } => self.follow(&flows, reply),
            Message::Change(change) => self.begin_change(*change),
            Message::Close => self.closing = true,
        }
    }

    /// What stands in the shared state rather than in a message.
    fn look(&mut self) {
        // Before the look: what comes after it sends a message again.
        self.shared.looking.store(false, Ordering::Release);
        // Before the queue: what was handed in before a flush goes with it.
        self.flush |= self.shared.flush.swap(false, Ordering::AcqRel);
        self.write_now |= self.shared.write.swap(false, Ordering::AcqRel);
        self.gather();
        if self.flush && !self.group.is_empty() {
            self.due = Some(self.time.now());
        }
        // At the bound there is more in the queue, and it is meant too.
        self.flush &= self.more;
        let damage = locked(&self.shared.damage).clone();
        if let Some(cause) = damage {
            self.broken(&cause);
        }
        let newer = locked(&self.shared.forget).take();
        if let Some((position, cluster)) = newer {
            if self.pass(&position, &cluster) {
                (self.remember, self.remember_due) = (None, None);
                self.forget = Some((position, cluster));
                self.forget_due = self.forget_due.or_else(|| Some(self.time.now() + self.interval));
            } else {
                // It covers what the one before did.
                (self.forget, self.forget_due) = (None, None);
                self.remember = Some((position, cluster));
                self.remember_due = self.remember_due.or(Some(self.time.now() + REMEMBER));
            }
        }
    }

    /// Takes what was handed in, a commit's worth; all of it at the end.
    fn gather(&mut self) {
        let last = self.settling || self.closing;
        loop {
            self.more = !last && self.is_closed();
            if self.more {
                return;
            }
            let Some(handed) = locked(&self.shared.queue).pop_front() else { return };
            self.arrive(handed);
        }
    }

    /// Nothing more goes into the group: it is a commit's worth, or has to be committed
    /// again as it was, so that its events get the same numbers.
    fn is_closed(&self) -> bool {
        self.group.events >= MOST_EVENTS || self.in_doubt && !self.group.is_empty()
    }

    fn arrive(&mut self, handed: Handed) {
        let behind = self.waiting.contains_key(&handed.source.0);
        let goes = self.is_retired(handed.source);
        if !goes && (behind || self.must_wait(&handed)) {
            self.waiting.entry(handed.source.0).or_default().push_back(handed);
        } else {
            self.admit(handed);
        }
    }

    /// A delivery is atomic: it waits as a whole.
    fn must_wait(&self, handed: &Handed) -> bool {
        let waits =
            |event: &Event| self.bounds.verdict(self.flows.get(event.flow)) == Verdict::Wait;
        !self.bounds.is_open() && handed.delivery.events.iter().any(waits)
    }

    pub(super) fn admit(&mut self, handed: Handed) {
        let Some(known) = self.sources.get(usize::from(handed.source.0)) else { return };
        let (bounds, flows, open) = (&self.bounds, &self.flows, self.bounds.is_open());
        let refused = |flow| !open && bounds.verdict(flows.get(flow)) == Verdict::Refuse;
        self.group.add(known, handed, flows, refused);
        let now = self.time.now();
        let at_once = self.group.urgent || self.group.events >= COMMIT_EVENTS;
        let latest = if at_once { now } else { now + self.interval };
        self.due = Some(self.due.map_or(latest, |due| due.min(latest)));
    }

    /// What there is room for now, in each source's order.
    fn readmit(&mut self) {
        for (source, mut queue) in std::mem::take(&mut self.waiting) {
            while !self.is_closed()
                && queue.front().is_some_and(|handed| !self.must_wait(handed))
                && let Some(handed) = queue.pop_front()
            {
                self.admit(handed);
            }
            if !queue.is_empty() {
                self.waiting.insert(source, queue);
            }
        }
    }

    /// Nothing more is taken; what was handed in is gathered.
    fn close_intakes(&mut self) {
        for source in &self.sources {
            source.room.close();
        }
    }

    /// Takes what is still queued and commits it.
    fn end(mut self) {
        self.close_intakes();
        while let Ok(message) = self.inbox.try_recv() {
            self.take(message);
        }
        self.closing = true;
        self.look();
        self.write_now = true;
        let mut complete = !self.damaged && self.commit();
        // What waited may have got room by this commit.
        while complete && !self.damaged && !self.group.is_empty() {
            complete = self.commit();
        }
        if !complete || self.is_unsettled() {
            // Their sources send them again, where they can.
            let waiting =
                self.waiting.values().flatten().map(|handed| handed.delivery.events.len() as u64);
            let held = locked(&self.shared.held).count().events;
            let events = u64::from(self.group.events) + held + waiting.sum::<u64>();
            error!(events, "stopped with events that are not committed");
        }
        self.shared.stop();
    }
}

#[cfg(test)]
impl Writer {
    /// What the forwarder asks for, to be done with the next turns.
    pub(super) fn ask(&mut self, call: Call) {
        self.call = Some(call);
    }

    pub(super) const fn is_asked(&self) -> bool {
        self.call.is_some()
    }

    /// Nobody waits for the answer any more.
    pub(super) fn hang_up(&mut self) {
        self.call = None;
    }

    pub(super) fn most_pages(&self, pages: u32) {
        self.file.most_pages(pages);
    }
}
