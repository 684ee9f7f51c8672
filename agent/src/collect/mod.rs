//! Gathers the events of all sources, commits them in groups, then
//! acknowledges.
//!
//! Each source holds an [`Intake`]. A [`Delivery`] is atomic: all of its
//! events and its checkpoint stand in one commit or not at all. Deliveries of
//! one source are committed in the order in which they were handed in, and a
//! [`Ticket`] is committed when every earlier one of that source is.
//!
//! Bounds: each source has room for [`QUEUE_DELIVERIES`] and its part of
//! [`QUEUE_BYTES`] before the writer; beyond them `deliver` waits, which is how a
//! full or slow buffer holds it back. The room is its own: one whose stream is
//! full fills only that, and the others go on.

mod bounds;
mod change;
#[cfg(test)]
mod change_tests;
#[cfg(test)]
mod full_tests;
mod group;
#[cfg(test)]
mod held_tests;
mod standby;
#[cfg(test)]
mod stepped;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

pub(crate) use change::{Asked, Change, Joined};

#[cfg(test)]
pub(crate) use stepped::Stepped;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, watch};

use crate::buffer::{self, Epoch, File, Handed, Message, Pins, Shared, Stats, Store, locked};
use crate::clock::{Clock, Steady};
use crate::event::Event;
use crate::flow::Flows;
use crate::pulse::Pulse;
use crate::raw::Note;

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
    /// What may stand in the file in the checkpoint's place while the delivery is in
    /// memory only: a state that recognises nothing of what comes again. Without it
    /// one with a checkpoint is written first (SAFETY 22).
    pub idle: Option<Checkpoint>,
    /// About how much memory this holds, for the queue's bound.
    pub bytes: usize,
    /// Commit as soon as possible: the source stands still until then.
    pub urgent: bool,
    /// What it was made of, where somebody looks at the source alone; the writer takes
    /// no notice.
    pub notes: Vec<Note>,
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

impl DeadLetter {
    /// About what it takes in memory.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.reason.len() + self.origin.len() + self.payload.len()
    }
}

/// Enough to recognise a payload; a 20 MB message must not become 20 MB of
/// flash.
pub const DEAD_LETTER_BYTES: usize = 64 * 1024;

/// Deliveries of one source that may wait for the writer: two commits' worth of
/// the busiest source's socket reads.
pub const QUEUE_DELIVERIES: usize = 256;

/// Bytes that may wait for the writer, divided among the sources: 6,000 events of
/// eight numbers, 700 B each, which is more than one commit takes, so that sources
/// go on while it is made.
pub const QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// What each source has of it at least: a socket read of small messages.
const LEAST_BYTES: usize = 256 * 1024;

/// The agent is going down: nothing more is taken.
#[derive(Debug, thiserror::Error)]
#[error("the agent is stopping")]
pub struct Stopping;

/// A source as the records show it.
#[derive(Debug, Clone)]
pub struct SourceInfo {
    /// Its checkpoint is saved under this name.
    pub name: Arc<str>,
    /// Static labels of gateway and source, merged.
    pub labels: Vec<(Arc<str>, Arc<str>)>,
}

/// A source's way into the buffer.
#[derive(Debug)]
pub struct Intake {
    source: SourceId,
    shared: Arc<Shared>,
    room: Arc<Room>,
    committed: watch::Receiver<Ticket>,
    last: Ticket,
    time: Steady,
    /// Somebody takes the writer's place.
    aside: Option<mpsc::Sender<(Ticket, Delivery)>>,
}

/// What of one source may wait for the writer, taken before a delivery is
/// handed over and given back after its commit.
#[derive(Debug)]
struct Room {
    deliveries: Semaphore,
    bytes: Semaphore,
    /// `bytes` when nothing waits.
    most_bytes: usize,
}

impl Room {
    fn new(deliveries: usize, bytes: usize) -> Self {
        Self {
            deliveries: Semaphore::new(deliveries),
            bytes: Semaphore::new(bytes),
            most_bytes: bytes,
        }
    }

    fn close(&self) {
        self.deliveries.close();
        self.bytes.close();
    }
}

impl Intake {
    /// Which of the writer's sources it is of.
    pub(crate) const fn source(&self) -> SourceId {
        self.source
    }

    /// Hands a delivery over; waits while the queue is full. When this future
    /// is dropped before it is done, nothing was handed over.
    pub async fn deliver(&mut self, delivery: Delivery) -> Result<Ticket, Stopping> {
        if let Some(aside) = &self.aside {
            let room = aside.reserve().await.map_err(|_| Stopping)?;
            self.last.0 += 1;
            room.send((self.last, delivery));
            return Ok(self.last);
        }
        let since = self.time.now();
        // A delivery larger than the bound takes all of it.
        let most = self.room.most_bytes.max(1);
        let bytes = u32::try_from(delivery.bytes.clamp(1, most)).unwrap_or(u32::MAX);
        let one = self.take(&self.room.deliveries, 1).await?;
        let size = self.take(&self.room.bytes, bytes).await?;
        // Nothing waits from here on, so that it is handed over whole.
        let ticket = Ticket(self.last.0 + 1);
        let handed = Handed { source: self.source, ticket, delivery, permits: bytes, since };
        locked(&self.shared.queue).push_back(handed);
        one.forget();
        size.forget();
        self.last = ticket;
        self.shared.look().map_err(|_| Stopping)?;
        Ok(ticket)
    }

    async fn take<'a>(
        &self,
        room: &'a Semaphore,
        permits: u32,
    ) -> Result<SemaphorePermit<'a>, Stopping> {
        if let Ok(permit) = room.try_acquire_many(permits) {
            return Ok(permit);
        }
        // The source stands still: what waits is worth a commit.
        self.flush();
        room.acquire_many(permits).await.map_err(|_| Stopping)
    }

    /// Asks for a commit now: the source stands still for want of
    /// acknowledgements.
    pub fn flush(&self) {
        self.shared.flush.store(true, Ordering::Release);
        // Without a writer there is nothing to commit; `deliver` tells it.
        drop(self.shared.look());
    }

    /// Asks for all of it to be in the file soon, also what Kafka may take first: who
    /// leaves wants to have it settled.
    pub fn write(&self) {
        self.shared.write.store(true, Ordering::Release);
        drop(self.shared.look());
    }

    /// The newest ticket that is on disk, or with Kafka.
    pub fn committed(&self) -> Ticket {
        *self.committed.borrow()
    }

    /// Waits until `ticket` is on disk, or with Kafka. May be dropped and called again.
    pub async fn wait_committed(&mut self, ticket: Ticket) -> Result<(), Stopping> {
        self.committed.wait_for(|done| *done >= ticket).await.map_err(|_| Stopping)?;
        Ok(())
    }
}

/// The other end of [`Intake::aside`]: what a source handed over, and the commits that
/// answer it, in the hands of who takes the writer's place.
#[derive(Debug)]
pub(crate) struct Aside {
    pub(crate) deliveries: mpsc::Receiver<(Ticket, Delivery)>,
    committed: watch::Sender<Ticket>,
}

#[cfg(test)]
pub(crate) type TestCommits = Aside;

impl Aside {
    /// Everything up to `ticket` is dealt with.
    pub(crate) fn commit(&self, ticket: Ticket) {
        self.committed.send_replace(ticket);
    }
}

impl Intake {
    #[cfg(test)]
    pub(crate) fn for_test(capacity: usize) -> (Self, TestCommits) {
        Self::aside(capacity)
    }

    /// An intake without a writer and a file behind it: `capacity` deliveries fit, then
    /// `deliver` waits until one is taken.
    pub(crate) fn aside(capacity: usize) -> (Self, Aside) {
        let (committed, receiver) = watch::channel(Ticket::default());
        let (handed, deliveries) = mpsc::channel(capacity);
        // Nothing is ever sent here: `deliver` takes the other way.
        let (inbox, _) = sync_channel(HEADROOM);
        let nowhere = std::path::PathBuf::new();
        let shared = Shared::new(
            nowhere,
            inbox,
            Vec::new(),
            buffer::Memory::default(),
            buffer::BatchId::default(),
        );
        let intake = Self {
            source: SourceId(0),
            shared: Arc::new(shared),
            room: Arc::new(Room::new(0, 0)),
            committed: receiver,
            last: Ticket::default(),
            time: Steady::default(),
            aside: Some(handed),
        };
        (intake, Aside { deliveries, committed })
    }
}

/// The buffer, opened and locked, before the sources are set up.
#[derive(Debug)]
pub struct Buffer {
    file: File,
    inbox: Receiver<Message>,
    shared: Arc<Shared>,
    config: buffer::Config,
    clock: Clock,
}

impl Buffer {
    /// Takes the lock, opens the file, and begins its new epoch.
    pub fn open(
        config: &buffer::Config,
        gateway: &str,
        clock: Clock,
    ) -> Result<Self, buffer::OpenError> {
        // What an earlier process noted is told by this one as it stands.
        let (file, told) = match bounded(config, gateway)? {
            Ok(bounded) => bounded,
            // The next opening salvages it.
            Err(_) => bounded(config, gateway)?
                .map_err(|cause| buffer::OpenError::File { path: config.path.clone(), cause })?,
        };
        let (sender, inbox) = sync_channel(HEADROOM);
        let shared = Arc::new(Shared::new(
            file.path().to_owned(),
            sender,
            file.epochs().to_vec(),
            file.memory().clone(),
            file.newest(),
        ));
        *locked(&shared.pins) = Pins { told, ..Pins::default() };
        shared.stats.send_replace(counted(&file));
        Ok(Self { file, inbox, shared, config: config.clone(), clock })
    }

    /// The last committed checkpoint of the source with this name.
    pub fn saved(&self, source: &str) -> Option<Checkpoint> {
        self.file.saved(source).cloned()
    }

    /// Whether the source has no checkpoint because a damaged file lost it: it
    /// may have had one (SAFETY 13).
    pub fn is_lost(&self, source: &str) -> bool {
        self.file.is_lost(source)
    }

    /// What the salvage of a damaged file cost, where this opening follows one.
    pub fn loss(&self) -> Option<&buffer::Loss> {
        self.file.loss()
    }

    /// What the last salvage cost, whenever that was: for who tells it in a way
    /// that may be cut off, and knows what was told.
    pub fn last_loss(&self) -> Option<&buffer::Loss> {
        self.file.last_loss()
    }

    /// The epoch of this run.
    pub fn epoch(&self) -> Epoch {
        self.file.epochs().last().expect("opening begins an epoch").epoch
    }

    pub fn store(&self) -> Store {
        Store(Arc::clone(&self.shared))
    }

    pub fn stats(&self) -> watch::Receiver<Stats> {
        self.shared.stats.subscribe()
    }
}

/// Opens the file and brings it to its bounds; gives its newest gap too. Within:
/// the file turned out to be damaged where no opening looks, and is marked so.
fn bounded(
    config: &buffer::Config,
    gateway: &str,
) -> Result<Result<(File, i64), rusqlite::Error>, buffer::OpenError> {
    let mut file = File::open(&config.path, gateway)?;
    match file.limit(config.max_size.get()).and_then(|()| file.newest_gap()) {
        Ok(told) => Ok(Ok((file, told))),
        Err(cause) if buffer::is_damage(&cause) => {
            file.ask_for_salvage(&cause.to_string());
            Ok(Err(cause))
        }
        Err(cause) => Err(buffer::OpenError::File { path: config.path.clone(), cause }),
    }
}

/// What the file has counted.
fn counted(file: &File) -> Stats {
    let totals = file.totals();
    Stats {
        events: totals.events,
        batches: totals.batches,
        committed: totals.committed,
        commits: file.commits(),
        dead_letters: totals.dead_letters,
        dead_dropped: totals.dead_dropped,
        dropped: file.dropped().to_vec(),
        ..Stats::default()
    }
}

/// A `Look`, a call, a `Settle` and a `Close`; a queue that is full wakes too.
const HEADROOM: usize = 8;

/// The thread that writes.
#[derive(Debug)]
pub struct Collector {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Closed when the thread has ended, whatever ended it.
    ended: watch::Receiver<()>,
    pulse: Pulse,
}

/// The writer's thread could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the thread that writes the buffer")]
pub struct StartError(#[from] std::io::Error);

/// Starts the writer. The intakes stand in the order of `sources`, and
/// [`SourceId`] is the place in it.
pub fn start(
    buffer: Buffer,
    sources: Vec<SourceInfo>,
    flows: Flows,
) -> Result<(Collector, Vec<Intake>), StartError> {
    let shared = Arc::clone(&buffer.shared);
    let (writer, intakes) = assemble(buffer, sources, flows, Steady::default());
    let (end, ended) = watch::channel(());
    let pulse = Pulse::new("buffer");
    let beats = pulse.clone();
    let thread = std::thread::Builder::new().name("buffer".to_owned()).spawn(move || {
        beats.is_of_this_thread();
        writer.run();
        // Gone too when the writer panics.
        drop(end);
    })?;
    Ok((Collector { shared, thread: Some(thread), ended, pulse }, intakes))
}

/// The writer, which no thread runs yet, and the ways into it.
fn assemble(
    buffer: Buffer,
    sources: Vec<SourceInfo>,
    flows: Flows,
    time: Steady,
) -> (writer::Writer, Vec<Intake>) {
    let Buffer { mut file, inbox, shared, config, clock } = buffer;
    let names: Vec<&str> = sources.iter().map(|source| &*source.name).collect();
    if let Err(error) = file.settle(&names, &flows) {
        tracing::warn!(%error, "cannot note what the salvage left open, the next start does");
    }
    if let Err(error) = file.follow(&flows) {
        tracing::warn!(%error, "cannot note where streams go now, the next commit does");
    }
    let bytes = room_of_each(sources.len());
    let (known, intakes) = (0..=u16::MAX)
        .zip(sources)
        .map(|(index, source)| join(&shared, SourceId(index), bytes, source, &time))
        .unzip();
    let writer = writer::Writer::new(file, inbox, shared, known, flows, &config, (clock, time));
    (writer, intakes)
}

/// Bytes of each source's room where there are so many.
fn room_of_each(sources: usize) -> usize {
    (QUEUE_BYTES / sources.max(1)).max(LEAST_BYTES)
}

/// A source as the writer knows it, and its way in.
fn join(
    shared: &Arc<Shared>,
    source: SourceId,
    bytes: usize,
    info: SourceInfo,
    time: &Steady,
) -> (writer::Known, Intake) {
    let committed = watch::Sender::new(Ticket::default());
    let room = Arc::new(Room::new(QUEUE_DELIVERIES, bytes));
    let intake = Intake {
        source,
        shared: Arc::clone(shared),
        room: Arc::clone(&room),
        committed: committed.subscribe(),
        last: Ticket::default(),
        time: time.clone(),
        aside: None,
    };
    (writer::Known { name: info.name, labels: info.labels.into(), room, committed }, intake)
}

impl Collector {
    /// What is stored is sent by the definitions of these streams from now on, those of
    /// a configuration that is about to be taken over. Waits for no room.
    pub(crate) async fn follow(&self, flows: Flows) -> Result<(), Stopping> {
        let (reply, done) = tokio::sync::oneshot::channel();
        let message = Message::Follow { flows: Box::new(flows), reply };
        // Never waits: the queue holds more than there are senders at a time.
        self.shared.inbox.try_send(message).map_err(|_| Stopping)?;
        done.await.map_err(|_| Stopping)
    }

    /// Takes another configuration over: the sources that ended are forgotten once
    /// all that they handed over is on disk, however full it is, and the new ones
    /// join. Their intakes, in the order of [`Change::added`].
    pub(crate) async fn change(&self, change: Asked) -> Result<Vec<Joined>, Stopping> {
        let (reply, joined) = tokio::sync::oneshot::channel();
        let change = Message::Change(Box::new(Change { asked: change, reply }));
        // Never waits: the queue holds more than there are senders at a time.
        self.shared.inbox.try_send(change).map_err(|_| Stopping)?;
        joined.await.map_err(|_| Stopping)
    }

    /// Takes no more deliveries and commits those that were handed in; the
    /// forwarder goes on. False when they could not be committed: nothing of
    /// them was acknowledged. Blocking.
    pub fn settle(&self) -> bool {
        self.shared.settle().unwrap_or(false)
    }

    /// Waits until the thread has ended, which only [`Collector::close`] should
    /// make it do. May be dropped and called again.
    pub async fn ended(&mut self) {
        // Nothing is ever sent: it only closes.
        while self.ended.changed().await.is_ok() {}
    }

    /// Whether the thread has ended because the file is damaged: the next
    /// opening salvages it.
    pub fn is_damaged(&self) -> bool {
        locked(&self.shared.damage).is_some()
    }

    pub fn store(&self) -> Store {
        Store(Arc::clone(&self.shared))
    }

    /// The thread's beat. One that rests leaves one when it is [nudged](Store::nudge).
    pub const fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Commits what is queued, deletes included, and ends the thread. Blocking.
    pub fn close(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            // When the thread is gone already there is nobody to tell.
            drop(self.shared.inbox.send(Message::Close));
            if thread.join().is_err() {
                tracing::error!("the thread that writes the buffer has failed");
            }
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.end();
    }
}
