//! One connection to the broker, from the login to the goodbye.
//!
//! A turn of the loop: write the answers of what is committed, read what is
//! there, hand it over, then pause. A power cut at any step costs nothing: what
//! is not committed is not answered, so that the broker delivers it again, and
//! what is committed stands in the checkpoint of the same commit.
//!
//! `login` opens it, `take` makes events of what was read; here is the loop.

mod login;
mod take;

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::Mqtt;
use super::frame::Frames;
use super::numbering::Kind;
use super::stream::Stream;
use super::window::Window;
use crate::collect::{DeadLetter, Delivery, Intake, Stopping};
use crate::event::Event;
use crate::raw::Note;
use crate::source::Error;
use crate::supervise::Link;

/// One read: as much as a default socket buffer holds after a pause in a burst.
const READ: usize = 64 * 1024;

/// Read in one turn at most, so that acknowledgements are not held back.
const READ_IN_A_TURN: usize = 256 * 1024;

/// A turn that read as much is part of a burst.
const BURST: usize = 8 * 1024;

/// Pause between reads in a burst: 20,000 messages took 124 reads with it.
const BURST_PAUSE: Duration = Duration::from_millis(2);

/// Pause at low rates: 1,000 messages a second cost 8 µs each with it against
/// 28 with 2 ms, for 10 ms of mean latency.
const LOW_RATE_PAUSE: Duration = Duration::from_millis(20);

/// New messages so soon after acknowledgements came because of them.
const JUST_AFTER: Duration = Duration::from_millis(100);

/// How long a stop may wait for the last commit.
pub(super) const GOODBYE: Duration = Duration::from_secs(2);

/// How long a broker may take to close the connection after our goodbye.
const CLOSES: Duration = Duration::from_secs(1);

/// Why the loop ended.
pub(super) enum End {
    /// `stop`, or the agent goes down.
    Stop,
    Broken(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

impl From<Stopping> for End {
    fn from(_: Stopping) -> Self {
        Self::Stop
    }
}

pub(super) async fn run(
    mqtt: &mut Mqtt,
    intake: &mut Intake,
    link: &mut Link,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let end = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        opened = login::open(mqtt, intake) => opened,
    };
    let mut connection = match end {
        Ok(connection) => connection,
        Err(End::Stop) => return Ok(()),
        Err(End::Broken(error)) => return Err(error),
    };
    // What a stop cuts off here was not answered: the broker delivers it again.
    let mut end = tokio::select! {
        () = stop.cancelled() => Err(End::Stop),
        prepared = connection.prepare(intake) => prepared,
    };
    if end.is_ok() {
        link.up(&connection.mqtt.config.address);
        connection.report_subscriptions(link);
        connection.report_expiry(link);
        connection.greet();
        end = connection.turns(intake, link, stop).await;
    }
    connection.leave_host(&end, intake, link, stop).await;
    match end {
        Ok(()) | Err(End::Stop) => {
            connection.goodbye(intake).await;
            Ok(())
        }
        Err(End::Broken(error)) => Err(error),
    }
}

pub(super) struct Connection<'a> {
    pub(super) mqtt: &'a mut Mqtt,
    stream: Stream,
    frames: Frames,
    buffer: Vec<u8>,
    pub(super) out: Vec<u8>,
    window: Window,
    pub(super) batch: Batch,
    granted: Vec<Result<u8, String>>,
    keep_alive: Duration,
    /// How long the broker keeps the session, in seconds, where it says so.
    session_expiry: Option<u32>,
    heard: Instant,
    spoke: Instant,
    /// When the oldest PINGREQ that is on its way was written.
    asked: Instant,
    answered: Instant,
    /// Whether `max_unacknowledged` and `max_unacknowledged_bytes` hold.
    bounded: bool,
    /// What was told of the broker's packet ids.
    told: Kind,
    /// Whether it was told that something is taken again.
    told_again: bool,
}

/// What a turn has taken.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) events: Vec<Event>,
    pub(super) dead: Vec<DeadLetter>,
    /// What they were made of, where somebody looks.
    pub(super) notes: Vec<Note>,
    pub(super) bytes: usize,
}

impl Connection<'_> {
    fn lost(&self, error: std::io::Error) -> Error {
        Error::because(format!("lost the connection to {}", self.mqtt.config.address), error)
    }

    /// Whether more may be taken before a commit.
    fn room(&self) -> bool {
        let Mqtt { session, config, .. } = &*self.mqtt;
        let bytes = session.unanswered_bytes() + self.batch.bytes;
        !self.bounded
            || (session.unanswered() < usize::from(config.max_unacknowledged)
                && u64::try_from(bytes).is_ok_and(|b| b < config.max_unacknowledged_bytes.get()))
    }

    async fn turns(
        &mut self,
        intake: &mut Intake,
        link: &mut Link,
        stop: &CancellationToken,
    ) -> Result<(), End> {
        loop {
            if stop.is_cancelled() {
                return Err(End::Stop);
            }
            self.speak(intake)?;
            let read = if self.room() { self.read(Some(&mut *link)) } else { Ok(0) };
            self.tell_numbering();
            self.tend_host(link);
            let listened = self.room();
            if !listened {
                // We do not read now, so that silence proves nothing.
                self.heard = Instant::now();
            }
            let before = self.mqtt.session.last();
            // Also what came before the connection broke.
            tokio::select! {
                biased;
                done = self.hand_over(intake) => done?,
                // A full buffer may take long; what it did not take is not
                // answered, so that the broker delivers it again.
                () = stop.cancelled() => return Err(End::Stop),
            }
            let read = read?;
            // Not before a look at what came: we may have stood still ourselves.
            if listened && read == 0 {
                self.check_silence()?;
            }
            let unanswered = self.mqtt.session.unanswered();
            if read > 0 && self.mqtt.session.last() > before {
                self.window.arrived(unanswered, self.answered.elapsed() < JUST_AFTER);
            } else if read == 0 {
                self.window.went_quiet(unanswered);
            }
            let room = self.room();
            let stands = !room || self.window.stands_still(unanswered);
            if stands {
                intake.flush();
            }
            let pause =
                (read > 0).then_some(if read >= BURST { BURST_PAUSE } else { LOW_RATE_PAUSE });
            self.wait(intake, stop, room, stands, pause).await?;
        }
    }

    /// Says what the broker has shown of its packet ids, once for each change.
    fn tell_numbering(&mut self) {
        let kind = self.mqtt.session.numbering();
        if std::mem::replace(&mut self.told, kind) == kind {
            return;
        }
        let source = &self.mqtt.config.name;
        match kind {
            Kind::Counts => info!(%source, "broker counts its packet ids up"),
            Kind::Reuses => info!(%source, "broker gives freed packet ids again at once"),
            // It stays unknown until it is shown.
            Kind::Unknown => {}
        }
    }

    /// Writes the answers that are due, and a PINGREQ where one is.
    fn speak(&mut self, intake: &Intake) -> Result<(), End> {
        let now = Instant::now();
        let session = &mut self.mqtt.session;
        if session.answer(intake.committed(), &mut self.out) > 0 {
            self.window.answered();
            self.answered = now;
        }
        let silent = now - self.heard >= self.keep_alive && !session.pinging();
        if silent || now - self.spoke >= self.keep_alive || session.wants_proof() {
            if !session.pinging() {
                self.asked = now;
            }
            session.ping(&mut self.out);
        }
        if !self.out.is_empty() {
            self.spoke = now;
        }
        // Also with nothing to say: TLS may hold back what did not fit before.
        self.stream.write(&mut self.out).map_err(|error| self.lost(error))?;
        Ok(())
    }

    /// When a broker that was asked counts as dead.
    fn patience(&self) -> Instant {
        (self.heard + self.keep_alive * 3 / 2).max(self.asked + self.keep_alive / 2)
    }

    fn check_silence(&self) -> Result<(), Error> {
        if !self.mqtt.session.pinging() || Instant::now() < self.patience() {
            return Ok(());
        }
        Err(Error::new(format!(
            "{} has been silent for {:?}",
            self.mqtt.config.address,
            self.heard.elapsed()
        )))
    }

    /// Reads what is there, up to a bound, and takes all whole packets of it.
    fn read(&mut self, mut link: Option<&mut Link>) -> Result<usize, End> {
        // What came in one segment with the CONNACK, and what there was no room for.
        self.take_packets(link.as_deref_mut())?;
        let mut total = 0;
        while total < READ_IN_A_TURN && self.room() {
            match self.stream.read(&mut self.buffer).map_err(|error| self.lost(error))? {
                None => break,
                Some(0) => {
                    let address = &self.mqtt.config.address;
                    return Err(Error::new(format!("{address} closed the connection")).into());
                }
                Some(count) => {
                    total += count;
                    self.frames.push(self.buffer.get(..count).unwrap_or_default());
                    self.take_packets(link.as_deref_mut())?;
                    // A short read has emptied the socket: asking again is a
                    // system call for nothing.
                    if count < self.buffer.len() && matches!(self.stream, Stream::Plain(_)) {
                        break;
                    }
                }
            }
        }
        if total > 0 {
            self.heard = Instant::now();
        }
        Ok(total)
    }

    /// Hands over what the last turn took, with the session's state after it.
    /// Pings go on while the buffer holds us back.
    pub(super) async fn hand_over(&mut self, intake: &mut Intake) -> Result<(), End> {
        // The checkpoint of this delivery no longer holds it.
        self.take_found();
        let batch = std::mem::take(&mut self.batch);
        let session = &mut self.mqtt.session;
        if batch.events.is_empty() && batch.dead.is_empty() && !session.changed() {
            session.delivered(None, 0);
            return Ok(());
        }
        let held = batch.bytes;
        let (checkpoint, idle) = self.mqtt.checkpoints();
        let session = &mut self.mqtt.session;
        let delivery = Delivery {
            events: batch.events,
            dead: batch.dead,
            checkpoint: Some(checkpoint),
            idle,
            bytes: held,
            urgent: false,
            notes: batch.notes,
        };
        let delivering = intake.deliver(delivery);
        tokio::pin!(delivering);
        loop {
            tokio::select! {
                ticket = &mut delivering => {
                    session.delivered(Some(ticket?), held);
                    return Ok(());
                }
                () = sleep_until(self.spoke + self.keep_alive) => {
                    self.spoke = Instant::now();
                    // We do not read now, so that silence proves nothing.
                    self.heard = self.spoke;
                    session.ping(&mut self.out);
                    // A connection that broke meanwhile is seen by the next
                    // read: the delivery must not be dropped for it.
                    let _broken = self.stream.write(&mut self.out);
                }
            }
        }
    }

    /// Pauses between two reads of a burst, or else waits until something
    /// happens: bytes, a commit, the time for a ping, the stop.
    async fn wait(
        &mut self,
        intake: &mut Intake,
        stop: &CancellationToken,
        room: bool,
        stands: bool,
        pause: Option<Duration>,
    ) -> Result<(), End> {
        let paced = pause.is_some();
        let until = match pause {
            Some(pause) => Instant::now() + pause,
            None if !room => self.spoke + self.keep_alive,
            None if self.mqtt.session.pinging() => {
                self.patience().min(self.spoke + self.keep_alive)
            }
            None => self.heard.min(self.spoke) + self.keep_alive,
        };
        let until = self.host_due().map_or(until, |due| until.min(due));
        // In a pause the next turn looks at the commits anyway, unless it is the
        // commit that the broker waits for.
        let ticket = self.mqtt.session.next_ticket().filter(|_| !paced || stands);
        let committed = async {
            match ticket {
                Some(ticket) => intake.wait_committed(ticket).await,
                None => std::future::pending().await,
            }
        };
        let ready = async {
            if paced {
                return std::future::pending().await;
            }
            self.stream.ready(room, !self.out.is_empty()).await
        };
        tokio::select! {
            () = stop.cancelled() => return Err(End::Stop),
            done = committed => done?,
            ready = ready => ready.map_err(|error| self.lost(error))?,
            () = sleep_until(until) => {}
        }
        Ok(())
    }

    /// Waits for the last commit, answers, and leaves; the session stays.
    async fn goodbye(&mut self, intake: &mut Intake) {
        intake.write();
        let last = self.mqtt.session.last();
        // What is not committed or not written by then comes again, and is
        // recognised.
        let _late = timeout(GOODBYE, async {
            let committed = intake.wait_committed(last).await;
            self.mqtt.session.answer(intake.committed(), &mut self.out);
            if committed.is_ok() {
                self.out.extend_from_slice(&[0xE0, 0]);
            }
            while self.stream.write(&mut self.out).is_ok() && !self.out.is_empty() {
                if self.stream.ready(false, true).await.is_err() {
                    return;
                }
            }
        })
        .await;
        if self.mqtt.config.last_will.is_some() {
            let _late = timeout(CLOSES, self.wait_closed()).await;
        }
    }

    /// Reads on until the broker has closed the connection. Closed by us while something is
    /// on its way to us, the connection is reset, the broker never reads our goodbye, and
    /// publishes the last will.
    async fn wait_closed(&mut self) {
        loop {
            match self.stream.read(&mut self.buffer) {
                Ok(Some(1..)) => {}
                Ok(None) if self.stream.ready(true, false).await.is_ok() => {}
                _ => return,
            }
        }
    }
}
