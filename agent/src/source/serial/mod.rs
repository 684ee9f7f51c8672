//! Serial lines: devices that write frames of their own to a serial port, or to the TCP
//! port of a device server, by themselves or when they are asked.
//!
//! Bytes are cut into frames (`split`, with `checksum`), a frame is read (`parse`, by
//! the decoders), and what is an event or is none `take` decides. All three are pure;
//! here is only the loop, and `place` is what it reads.
//!
//! What goes wrong, and whom it costs:
//! - Bytes that are no frame, and frames that cannot be read, are a dead letter each,
//!   or whatever `unmatched` says; the next frame is none the worse.
//! - Right after opening it is not known whether a frame begins: what comes within
//!   [`QUIET`], up to where the next one certainly begins, is no frame. Where frames
//!   have a start, or the device is asked, that is known.
//! - A device that does not answer, or is silent for `idle`, gives one event without
//!   values, and nothing more until it is heard again.
//! - While the buffer takes nothing, a device server is held back: its connection is
//!   not read. A serial port cannot be: it is read on, a bounded part is held, and the
//!   rest is counted and lost. Nothing ever waits for the buffer before it reads what
//!   the kernel has, which would lose it there without a word.
//! - The port is gone, or the connection: `run` ends with an error, and `supervise`
//!   opens it again.
//!
//! Nothing is acknowledged to a device: a power cut costs the frames that were not yet
//! committed, and no more.

mod checksum;
mod config;
mod frames;
#[cfg(test)]
mod fuzz;
mod place;
mod split;
mod take;
#[cfg(test)]
mod tests;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

pub use config::{Config, Keep, Line, Unmatched};
pub use frames::Frames;

use super::{Error, Setup};
use crate::clock::Clock;
use crate::collect::{Delivery, Intake, Stopping};
use crate::event::Timestamp;
use crate::supervise::Link;
use place::Place;
use split::{Piece, Splitter, Why};
use take::{Batch, Take};

/// A frame begins with what comes after so much silence since the line was opened: three
/// characters of 300 baud, the slowest that is still met.
const QUIET: Duration = Duration::from_millis(100);

/// So many requests in a row without an answer, and the connection to a device server is
/// made anew: it may lead nowhere, and what waits in it would all be sent at once later.
const MISSED: u32 = 3;

/// Bytes of one read: what the kernel's line discipline holds of a port.
const CHUNK: usize = 4 * 1_024;

/// A source that is set up.
#[derive(Debug)]
pub struct Source {
    place: Place,
    splitter: Splitter,
    take: Take,
    ask: Option<Ask>,
    timeout: Duration,
    idle: Option<Duration>,
    clock: Clock,
}

/// What is asked, and how often.
#[derive(Debug)]
struct Ask {
    request: Vec<u8>,
    interval: Duration,
}

/// An open line; in tests one without a socket, on which time can be let pass.
trait Wire: AsyncRead + AsyncWrite + Unpin {}

impl<W: AsyncRead + AsyncWrite + Unpin> Wire for W {}

/// One connection as it runs.
struct Run<W> {
    wire: W,
    batch: Batch,
    opened: Instant,
    /// The last byte that came; at first when it was opened.
    heard: Instant,
    /// The same by the clock that stamps events.
    heard_at: Timestamp,
    /// Something came.
    spoke: bool,
    /// When to ask next.
    next: Option<Instant>,
    /// Until when the answer is waited for.
    answer: Option<Instant>,
    /// Answers in a row that did not come.
    missed: u32,
    /// It is not read, since what was read has no room.
    is_held: bool,
    /// It was, and nothing came since.
    was_held: bool,
}

impl Source {
    /// Sets the source up from a configuration that [`Config::check`] found nothing
    /// wrong with.
    pub fn new(config: &Config, setup: Setup<'_>) -> Self {
        let ask = config.request.as_ref().zip(config.interval);
        Self {
            place: Place::new(config),
            splitter: Splitter::new(config.split.clone(), config.checksum.clone()),
            take: Take::new(config, setup.flows),
            ask: ask.map(|(request, interval)| Ask {
                request: request.get().to_vec(),
                interval: interval.get(),
            }),
            timeout: config.timeout.get(),
            idle: config.idle.map(crate::units::Period::get),
            clock: setup.clock,
        }
    }

    /// See [`crate::source::Source::tap`].
    pub const fn tap(&mut self) {
        self.take.tap();
    }

    /// The counts of its frames.
    pub fn frames(&self) -> Arc<Frames> {
        self.take.frames()
    }

    /// Runs one connection, see [`super::Source::run`].
    pub async fn run(
        &mut self,
        intake: &mut Intake,
        link: &mut Link,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let opened = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            opened = self.place.open(self.timeout) => opened,
        };
        let wire = match opened {
            Ok(wire) => wire,
            Err(cause) => {
                let mut batch = Batch::default();
                self.add_silence(&mut batch);
                if !batch.is_empty() {
                    let delivery = self.take.hand_over(&mut batch, link);
                    intake.deliver(delivery).await.map_err(unheard)?;
                }
                return Err(Error::because(self.place.unreachable(), cause));
            }
        };
        link.up(&self.place.to_string());
        // One waits here, one is gathered: the line is read meanwhile.
        let (queue, mut handed) = mpsc::channel::<Delivery>(1);
        let feed = async move {
            while let Some(delivery) = handed.recv().await {
                intake.deliver(delivery).await?;
            }
            Ok::<(), Stopping>(())
        };
        let (end, taken) = tokio::join!(self.connection(wire, link, stop, queue), feed);
        taken.map_err(unheard)?;
        end
    }

    /// Reads one connection to its end, and hands over all of it.
    async fn connection(
        &mut self,
        wire: impl Wire,
        link: &mut Link,
        stop: &CancellationToken,
        queue: mpsc::Sender<Delivery>,
    ) -> Result<(), Error> {
        let now = Instant::now();
        let mut run = Run {
            wire,
            batch: Batch::default(),
            opened: now,
            heard: now,
            heard_at: self.clock.now(),
            spoke: false,
            next: self.ask.as_ref().map(|_| now),
            answer: None,
            missed: 0,
            is_held: false,
            was_held: false,
        };
        let end = self.read(&mut run, link, stop, &queue).await;
        if end.is_err() {
            if let Some(piece) = self.splitter.broke_off() {
                self.take.piece(piece, run.heard_at, &mut run.batch, link);
            }
            self.add_silence(&mut run.batch);
        }
        if !run.batch.is_empty() {
            let rest = self.take.hand_over(&mut run.batch, link);
            queue.send(rest).await.map_err(|_| unheard(Stopping))?;
        }
        end
    }

    async fn read(
        &mut self,
        run: &mut Run<impl Wire>,
        link: &mut Link,
        stop: &CancellationToken,
        queue: &mpsc::Sender<Delivery>,
    ) -> Result<(), Error> {
        let mut chunk = vec![0; CHUNK];
        loop {
            self.hold_back(run);
            let wake = self.wake(run);
            let mut rests = false;
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                room = queue.reserve(), if !run.batch.is_empty() => {
                    let room = room.map_err(|_| unheard(Stopping))?;
                    room.send(self.take.hand_over(&mut run.batch, link));
                }
                read = run.wire.read(&mut chunk), if !run.is_held => match read {
                    Ok(0) => return Err(Error::new(self.place.gone())),
                    Ok(count) => self.hear(run, chunk.get(..count).unwrap_or_default(), link),
                    Err(cause) => return Err(Error::because(self.place.gone(), cause)),
                },
                () = until(wake) => {
                    // Reading comes first: what the kernel has is no silence.
                    rests = true;
                    self.pause(run, link);
                }
            }
            if rests {
                self.mind_silence(run, link)?;
            }
            // Also where the line never rests.
            if !run.is_held && run.answer.is_none() && is_due(run.next) {
                self.ask(run, link, stop).await?;
            }
        }
    }

    /// Stops reading a device server while there is no room. Its silence is ours then, so
    /// that no time counts until it is read again.
    fn hold_back(&self, run: &mut Run<impl Wire>) {
        let hold = self.place.can_be_held_back() && run.batch.is_full();
        if std::mem::replace(&mut run.is_held, hold) && !hold {
            let now = Instant::now();
            run.heard = now;
            run.answer = run.answer.map(|_| now + self.timeout);
            run.was_held = true;
        }
    }

    /// When something is to be done if nothing comes.
    fn wake(&self, run: &Run<impl Wire>) -> Option<Instant> {
        if run.is_held {
            return None;
        }
        let pause = self.splitter.pause().map(|pause| run.heard + pause);
        let idle = self.idle_end(run);
        let next = run.next.filter(|_| run.answer.is_none());
        [pause, idle, run.answer, next].into_iter().flatten().min()
    }

    /// Until when the line may be silent; it is told once.
    fn idle_end(&self, run: &Run<impl Wire>) -> Option<Instant> {
        let told = self.take.is_silent() && !self.place.can_be_held_back();
        self.idle.filter(|_| !told).map(|idle| run.heard + idle)
    }

    fn hear(&mut self, run: &mut Run<impl Wire>, bytes: &[u8], link: &mut Link) {
        if std::mem::take(&mut run.was_held) && run.heard.elapsed() < QUIET {
            self.splitter.held_back();
        }
        (run.heard, run.heard_at) = (Instant::now(), self.clock.now());
        let first = !std::mem::replace(&mut run.spoke, true);
        if first && self.ask.is_none() && run.heard.duration_since(run.opened) < QUIET {
            self.splitter.doubt(Why::Opening);
        }
        run.batch.close_if_full();
        self.splitter.push(bytes);
        while let Some(piece) = self.splitter.next() {
            self.add(run, piece, link);
        }
        run.batch.tell(link);
    }

    fn add(&mut self, run: &mut Run<impl Wire>, piece: Piece, link: &mut Link) {
        if self.take.piece(piece, run.heard_at, &mut run.batch, link) {
            (run.answer, run.missed) = (None, 0);
        }
    }

    /// Nothing came for as long as was waited.
    fn pause(&mut self, run: &mut Run<impl Wire>, link: &mut Link) {
        let pause = self.splitter.pause();
        if pause.is_some_and(|pause| run.heard.elapsed() >= pause)
            && let Some(piece) = self.splitter.paused()
        {
            self.add(run, piece, link);
        }
    }

    /// Says what did not come in time.
    fn mind_silence(&mut self, run: &mut Run<impl Wire>, link: &mut Link) -> Result<(), Error> {
        if is_due(self.idle_end(run)) {
            self.add_silence(&mut run.batch);
            let what = format!("nothing came from {} for so long as `idle` says", self.place);
            if self.place.can_be_held_back() {
                return Err(Error::new(what));
            }
            self.take.tell_silence(&what, link);
        }
        if is_due(run.answer) {
            run.answer = None;
            run.missed += 1;
            self.add_silence(&mut run.batch);
            self.take.tell_silence("no answer in time", link);
            if self.place.can_be_held_back() && run.missed >= MISSED {
                let what = format!("{} gave no answer to {MISSED} requests", self.place);
                return Err(Error::new(what));
            }
        }
        Ok(())
    }

    async fn ask(
        &mut self,
        run: &mut Run<impl Wire>,
        link: &mut Link,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        self.give_up_half(run, link);
        let Some(ask) = &self.ask else { return Ok(()) };
        let request = tokio::time::timeout(self.timeout, run.wire.write_all(&ask.request));
        let sent = tokio::select! {
            biased;
            // Whoever stops looks himself.
            () = stop.cancelled() => return Ok(()),
            sent = request => sent,
        };
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(cause)) => return Err(Error::because(self.place.gone(), cause)),
            Err(_) => return Err(Error::new(format!("{} takes no request", self.place))),
        }
        let now = Instant::now();
        run.answer = Some(now + self.timeout);
        // From one to the next, and none is made up for.
        let due = run.next.unwrap_or(now) + ask.interval;
        run.next = Some(if due > now { due } else { now + ask.interval });
        Ok(())
    }

    /// What stands of a frame before a request is not the beginning of its answer: half
    /// a number before a whole one would be another number.
    fn give_up_half(&mut self, run: &mut Run<impl Wire>, link: &mut Link) {
        let was_lost = self.splitter.is_lost();
        let half = self.splitter.broke_off();
        // Its other half may still come.
        if (was_lost || half.is_some()) && run.heard.elapsed() < QUIET {
            self.splitter.doubt(Why::BrokeOff);
        }
        if let Some(half) = half {
            self.add(run, half, link);
        }
    }

    /// Where frames are waited for, the event that says that there are none.
    fn add_silence(&mut self, batch: &mut Batch) {
        if self.ask.is_none() && self.idle.is_none() {
            return;
        }
        if let Some(event) = self.take.silence(self.clock.now()) {
            batch.silence(event);
        }
    }
}

fn is_due(at: Option<Instant>) -> bool {
    at.is_some_and(|at| at <= Instant::now())
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

fn unheard(stopping: Stopping) -> Error {
    Error::because("cannot hand over what was read", stopping)
}
