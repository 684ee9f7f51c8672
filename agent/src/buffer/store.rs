//! The forwarder's hand on the writer.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::dead::{Burial, Done, Errand};
use super::failure::{is_damage, is_of_another_type};
use super::{
    Batch, BatchId, Dropped, FileEpoch, Gap, Held, InMemory, Peeked, Pins, Position, ReadError,
    Reader, Refused,
};
use crate::collect::{Change, DeadLetter, Delivery, SourceId, Ticket};
use crate::delays::Delays;
use crate::event::Timestamp;
use crate::flow::Flows;
use crate::{flow, pulse};

/// Between two beats of who waits for the writer.
const BREATH: Duration = Duration::from_secs(1);

/// What wakes the writer.
#[derive(Debug)]
pub(crate) enum Message {
    /// [`Shared`] has something: a delivery, a flush or a position.
    Look,
    Call(Call),
    /// Take no more deliveries and commit what was handed in. No [`Call`]: it
    /// must not wait for one that a broken medium leaves without an answer.
    Settle {
        reply: SyncSender<bool>,
    },
    /// Send what is stored by the definitions of these streams; none waits for room.
    Follow {
        flows: Box<Flows>,
        reply: oneshot::Sender<()>,
    },
    /// Take another configuration over.
    Change(Box<Change>),
    Close,
}

/// A delivery on its way to the writer, with the room that it takes.
#[derive(Debug)]
pub(crate) struct Handed {
    pub source: SourceId,
    pub ticket: Ticket,
    pub delivery: Delivery,
    pub permits: u32,
    /// When its source had it in hand.
    pub since: Instant,
}

/// What waits for its commit; there is one at a time.
#[derive(Debug)]
pub(crate) enum Call {
    Adopt {
        position: Position,
        cluster: String,
        reply: SyncSender<Adopted>,
    },
    Delivered {
        batches: Vec<BatchId>,
        reply: SyncSender<Adopted>,
    },
    Bury {
        dead: Vec<Burial>,
        reply: SyncSender<()>,
    },
    /// Have all in the file that stands in memory.
    Write {
        reply: SyncSender<()>,
    },
    Errand {
        errand: Errand,
        reply: SyncSender<Result<Done, String>>,
    },
}

/// Answers calls in the writer's place, at once and on the caller's thread: a
/// test that is to go the same way each time has no writer.
#[cfg(test)]
pub(crate) struct Serve(pub Box<dyn Fn(Call) + Send + Sync>);

#[cfg(test)]
impl std::fmt::Debug for Serve {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Serve")
    }
}

/// What the writer, the intakes and the forwarder see of each other.
#[derive(Debug)]
pub(crate) struct Shared {
    pub path: PathBuf,
    pub inbox: SyncSender<Message>,
    /// What was handed in, in that order; each source's room bounds its part.
    pub queue: Mutex<VecDeque<Handed>>,
    /// What is in memory and not in the file.
    pub held: Mutex<Held>,
    /// What the forwarder has in hand, and the writer must not drop.
    pub pins: Mutex<Pins>,
    pub flush: AtomicBool,
    /// What is in memory is to be written as well.
    pub write: AtomicBool,
    /// A `Look` is on its way: at most one takes room in the queue.
    pub looking: AtomicBool,
    /// The newest position whose batches may go. It covers those before it.
    pub forget: Mutex<Option<(Position, String)>>,
    pub memory: Mutex<Memory>,
    pub epochs: Vec<FileEpoch>,
    pub stats: watch::Sender<Stats>,
    /// Why the file must be opened anew, once somebody saw that it is damaged.
    pub damage: Mutex<Option<String>>,
    newest: Mutex<Newest>,
    stored: Condvar,
    /// One call at a time, so that calls do not take the deliveries' room.
    calls: Mutex<()>,
    #[cfg(test)]
    serve: Option<Serve>,
}

#[derive(Debug, Default)]
struct Newest {
    id: BatchId,
    stopped: bool,
}

/// How the buffer stands, for the status and for tests; new after each commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// In the file now.
    pub events: u64,
    pub batches: u64,
    /// In memory, to be written only where Kafka does not take it soon.
    pub in_memory: InMemory,
    /// Bytes of the file in use, without the WAL.
    pub bytes: u64,
    /// Bytes of the file, empty pages included.
    pub length: u64,
    /// Time of the oldest event of the oldest batch.
    pub oldest: Option<Timestamp>,
    /// Events ever committed to this file, or by Kafka without it.
    pub committed: u64,
    /// Commits of this opening; each is a sync of the medium.
    pub commits: u64,
    /// How long those took that hold what sources handed over.
    pub took: Delays,
    /// From a source that had a delivery in hand to the commit that holds it.
    pub waited: Delays,
    pub dead_letters: u64,
    /// Dead letters that made room for newer ones.
    pub dead_dropped: u64,
    /// What rules of the user's have dropped since the file was made.
    pub dropped: Vec<Dropped>,
    /// Sources wait: the file is full, or a stream's share of it.
    pub held_back: bool,
    /// Something that was handed in is not committed yet; once nothing more is
    /// taken in, what the file still lacks.
    pub unsettled: bool,
    /// Why the last commit failed, while it has not succeeded again.
    pub failing: Option<String>,
}

/// What the file remembers of its positions.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Cluster in which a position of this file was last committed.
    pub cluster: Option<String>,
    /// The last position that this file saw committed there.
    pub position: Option<Position>,
}

/// What adopting a position did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adopted {
    pub deleted_batches: u64,
    pub deleted_events: u64,
    /// Ranges that are sent though the position may cover them, in words, one
    /// each: what may be double, for the log.
    pub in_doubt: Vec<String>,
}

/// The writer has ended, or cannot write and is about to: the agent is going
/// down.
#[derive(Debug, thiserror::Error)]
#[error("the buffer is closed")]
pub struct Gone;

/// What an operator asked for was not done.
#[derive(Debug, thiserror::Error)]
pub enum ErrandError {
    /// The agent is stopping: ask again without it.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// Nothing was changed; ask again when there is room or the medium is well.
    #[error("the buffer cannot be written: {0}")]
    File(String),
}

/// A lock is held for a few assignments; a panic between them cannot leave
/// them half done.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(
        path: PathBuf,
        inbox: SyncSender<Message>,
        epochs: Vec<FileEpoch>,
        memory: Memory,
        newest: BatchId,
    ) -> Self {
        Self {
            path,
            inbox,
            queue: Mutex::default(),
            held: Mutex::default(),
            pins: Mutex::default(),
            flush: AtomicBool::new(false),
            write: AtomicBool::new(false),
            looking: AtomicBool::new(false),
            forget: Mutex::new(None),
            memory: Mutex::new(memory),
            epochs,
            stats: watch::Sender::new(Stats::default()),
            damage: Mutex::new(None),
            newest: Mutex::new(Newest { id: newest, stopped: false }),
            stored: Condvar::new(),
            calls: Mutex::new(()),
            #[cfg(test)]
            serve: None,
        }
    }

    #[cfg(test)]
    pub(crate) fn served(self, serve: Serve) -> Self {
        Self { serve: Some(serve), ..self }
    }

    #[cfg(test)]
    pub(crate) fn serve_by(&mut self, serve: Serve) {
        self.serve = Some(serve);
    }

    /// Wakes the writer to look at what changed here.
    pub(crate) fn look(&self) -> Result<(), Gone> {
        if self.looking.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        match self.inbox.try_send(Message::Look) {
            // A full queue wakes it too, and it looks at each turn.
            Ok(()) | Err(TrySendError::Full(_)) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(Gone),
        }
    }

    /// Notes an error that says that the file is damaged, and wakes the writer,
    /// which takes itself down.
    pub(super) fn alarm(&self, cause: &rusqlite::Error) {
        if is_damage(cause) || is_of_another_type(cause) {
            locked(&self.damage).get_or_insert_with(|| cause.to_string());
            // Without a writer the agent is going down already.
            drop(self.look());
        }
    }

    pub(crate) fn stored(&self, id: BatchId) {
        locked(&self.newest).id = id;
        self.stored.notify_all();
    }

    pub(crate) fn stop(&self) {
        locked(&self.newest).stopped = true;
        self.stored.notify_all();
    }

    fn call<T>(&self, make: impl FnOnce(SyncSender<T>) -> Call) -> Result<T, Gone> {
        let _one = locked(&self.calls);
        let (reply, answer) = sync_channel(1);
        let call = make(reply);
        #[cfg(test)]
        if let Some(Serve(serve)) = &self.serve {
            serve(call);
            return answer.recv().map_err(|_| Gone);
        }
        self.inbox.send(Message::Call(call)).map_err(|_| Gone)?;
        // The writer may wait long for a medium that is full or broken; who waits
        // for it does not hang.
        loop {
            match answer.recv_timeout(BREATH) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Timeout) => pulse::beat(),
                Err(RecvTimeoutError::Disconnected) => return Err(Gone),
            }
        }
    }

    /// True when everything that was handed in is on disk.
    pub(crate) fn settle(&self) -> Result<bool, Gone> {
        let (reply, answer) = sync_channel(1);
        self.inbox.send(Message::Settle { reply }).map_err(|_| Gone)?;
        answer.recv().map_err(|_| Gone)
    }
}

/// The forwarder's hand on the writer. Cheap to clone; every call is blocking
/// and belongs on a thread of its own.
#[derive(Debug, Clone)]
pub struct Store(pub(crate) Arc<Shared>);

impl Store {
    pub fn reader(&self) -> Result<Reader, ReadError> {
        Reader::open(&self.0.path)
            .map(|reader| reader.watched(Arc::clone(&self.0)))
            .inspect_err(|error| self.alarm(error))
    }

    /// [`Shared::alarm`] for an error of a reader of this store.
    pub(super) fn alarm(&self, ReadError(cause): &ReadError) {
        self.0.alarm(cause);
    }

    /// Batches to send: [`Reader::batches`], which from now on are pinned: no rule
    /// drops them (SAFETY 12). They are until the flow is read for sending again.
    pub fn load(
        &self,
        reader: &mut Reader,
        flow: flow::Hash,
        after: BatchId,
        max_events: u32,
        max_bytes: usize,
    ) -> Result<Vec<Batch>, ReadError> {
        let mut pins = locked(&self.0.pins);
        let batches = self.batches(reader, flow, after, max_events, max_bytes)?;
        pins.loaded.insert(flow, batches.last().map_or(after, |last| last.id));
        Ok(batches)
    }

    /// [`Reader::batches`], then what stands in memory. What is written between the
    /// two looks is found by the next call: none is passed over.
    pub fn batches(
        &self,
        reader: &mut Reader,
        flow: flow::Hash,
        after: BatchId,
        max_events: u32,
        max_bytes: usize,
    ) -> Result<Vec<Batch>, ReadError> {
        let stored = reader.batches(flow, after, max_events, max_bytes)?;
        if !stored.is_empty() {
            return Ok(stored);
        }
        Ok(locked(&self.0.held).batches(flow, after, max_events, max_bytes))
    }

    /// [`Reader::flows`], and those that have batches in memory.
    pub fn flows(
        &self,
        reader: &mut Reader,
    ) -> Result<Vec<(flow::Hash, flow::Lane, Arc<flow::Stream>)>, ReadError> {
        // Memory first: what is written meanwhile then stands in the file.
        let held = locked(&self.0.held).flows();
        let mut flows = reader.flows()?;
        for held in held {
            if !flows.iter().any(|(flow, ..)| *flow == held.0) {
                flows.push(held);
            }
        }
        Ok(flows)
    }

    /// What stands in memory of one stream or of all, oldest first.
    pub(crate) fn peek_held(&self, stream: Option<&str>) -> Vec<Peeked> {
        let held = locked(&self.0.held);
        let of = held.rows().filter(|row| stream.is_none_or(|wanted| row.stream.name == wanted));
        let peeked = of.map(|row| Peeked {
            stream: row.stream.name.clone(),
            lane: row.lane.as_str().to_owned(),
            batch: row.batch.clone(),
        });
        peeked.collect()
    }

    /// Has all in the file that stands in memory; waits. For who looks at the file
    /// alone.
    pub fn write_held(&self) -> Result<(), Gone> {
        if locked(&self.0.held).is_empty() {
            return Ok(());
        }
        self.0.call(|reply| Call::Write { reply })
    }

    /// The gaps behind `after`, which from now on do not change any more. The
    /// caller tells all of them.
    pub fn gaps(&self, after: i64) -> Result<Vec<Gap>, ReadError> {
        let mut pins = locked(&self.0.pins);
        let gaps = self.reader()?.gaps(after)?;
        if let Some(last) = gaps.last() {
            pins.told = pins.told.max(last.id);
        }
        Ok(gaps)
    }

    /// What the file remembers about positions in Kafka.
    pub fn memory(&self) -> Memory {
        locked(&self.0.memory).clone()
    }

    /// The file's epochs, oldest first; the last is the running one.
    pub fn epochs(&self) -> &[FileEpoch] {
        &self.0.epochs
    }

    /// The position to go on with in this cluster after `kafka`, what was read
    /// there and adopted: [`Position::continued`].
    pub fn next_position(&self, kafka: Option<&Position>, cluster: &str) -> Position {
        let gateway = self.0.epochs.last().map(|running| &*running.gateway).unwrap_or_default();
        Position::continued(kafka, gateway, cluster, &self.0.epochs)
    }

    /// Deletes what `position` covers (by SAFETY.md, "Two counters and an
    /// epoch") and remembers that a position exists in this cluster. Waits for
    /// its commit. At start, before anything is sent. A position of another
    /// gateway or cluster deletes nothing.
    pub fn adopt(&self, position: &Position, cluster: &str) -> Result<Adopted, Gone> {
        let (position, cluster) = (position.clone(), cluster.to_owned());
        self.0.call(|reply| Call::Adopt { position, cluster, reply })
    }

    /// Deletes these batches, all events of which were seen in Kafka or are dead
    /// letters; waits for its commit. It is for who has no position to adopt.
    pub fn delivered(&self, batches: Vec<BatchId>) -> Result<Adopted, Gone> {
        self.0.call(|reply| Call::Delivered { batches, reply })
    }

    /// The same as [`Store::adopt`] for a position that this process has just
    /// committed: it does not wait, the writer gathers such calls into few large
    /// deletes. Each position must cover what the one before it did.
    ///
    /// A power cut before the delete costs nothing: the next start reads the
    /// position from Kafka and deletes by it.
    pub fn forget(&self, position: Position, cluster: &str) -> Result<(), Gone> {
        *locked(&self.0.forget) = Some((position, cluster.to_owned()));
        self.0.look()
    }

    /// Has deleted what [`Store::forget`] was told; waits. For who goes on after another
    /// whose deliveries nothing else remembers.
    pub fn forgotten(&self) -> Result<(), Gone> {
        self.0.call(|reply| Call::Write { reply })
    }

    /// Commits dead letters; waits. Before any transaction whose position
    /// passes them (SAFETY 9).
    pub fn bury(&self, dead: Vec<DeadLetter>) -> Result<(), Gone> {
        self.bury_refused(dead.into_iter().map(|letter| (letter, None)).collect())
    }

    /// The same for records that Kafka refused, with the events of them that
    /// can be sent again. An event that is buried already is not buried twice.
    pub fn bury_refused(&self, dead: Vec<(DeadLetter, Option<Refused>)>) -> Result<(), Gone> {
        let dead = dead.into_iter().map(|(letter, event)| Burial { letter, event }).collect();
        self.0.call(|reply| Call::Bury { dead, reply })
    }

    /// Takes no more deliveries; true when those that were handed in are
    /// committed. What waits for room is later, once there is some: see
    /// [`Stats::unsettled`]. Blocking.
    pub fn settle(&self) -> Result<bool, Gone> {
        self.0.settle()
    }

    /// Does what an operator asks for, in a commit of its own; waits.
    pub(crate) fn errand(&self, errand: Errand) -> Result<Done, ErrandError> {
        self.0.call(|reply| Call::Errand { errand, reply })?.map_err(ErrandError::File)
    }

    /// Whether somebody saw that the file is damaged: it is about to be opened anew.
    pub fn is_damaged(&self) -> bool {
        locked(&self.0.damage).is_some()
    }

    /// The newest batch that is stored, or was.
    pub fn newest(&self) -> BatchId {
        locked(&self.0.newest).id
    }

    /// Waits until something is stored behind `seen`, `stop` was called or the
    /// time is over; gives what was newest then.
    pub fn wait_newer(&self, seen: BatchId, at_most: Duration) -> BatchId {
        let until = Instant::now() + at_most;
        let mut newest = locked(&self.0.newest);
        while newest.id <= seen && !newest.stopped {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            newest =
                self.0.stored.wait_timeout(newest, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        newest.id
    }

    /// Wakes the writer, which leaves a beat then.
    pub fn nudge(&self) {
        // One that has ended leaves none.
        drop(self.0.look());
    }

    /// Ends every [`Store::wait_newer`], now and from now on.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// How the buffer stands.
    pub fn stats(&self) -> watch::Receiver<Stats> {
        self.0.stats.subscribe()
    }
}
