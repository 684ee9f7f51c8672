//! One connection to the broker, from the login to the goodbye.
//!
//! A turn of the loop: write the answers of what is committed, read what is
//! there, hand it over, then pause. A power cut at any step costs nothing: what
//! is not committed is not answered, so that the broker delivers it again, and
//! what is committed stands in the checkpoint of the same commit.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use twox_hash::XxHash3_64;

use super::Mqtt;
use super::config::{Config, Protocol};
use super::frame::{Cut, Frame, Frames};
use super::packet::{self, Connected, Login, Packet, Publish};
use super::route::Refused;
use super::session::Verdict;
use super::stream::Stream;
use super::window::Window;
use crate::collect::{Checkpoint, DEAD_LETTER_BYTES, DeadLetter, Delivery, Intake, Stopping};
use crate::event::{Event, Timestamp};
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

/// Bytes that may wait for their commit: a commit's worth of the queue.
const UNACKNOWLEDGED_BYTES: usize = 4 * 1024 * 1024;

/// New messages so soon after acknowledgements came because of them.
const JUST_AFTER: Duration = Duration::from_millis(100);

/// How long a stop may wait for the last commit.
const GOODBYE: Duration = Duration::from_secs(2);

/// About what an event takes in memory besides its payload.
const EVENT_BYTES: usize = 256;

/// Messages without a fault after which a subscription is well again: one that
/// brings good and bad ones in turn must not fill the log.
const WELL_AFTER: u32 = 100;

/// Why the loop ended.
enum End {
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
        opened = open(mqtt, intake) => opened,
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
        end = connection.turns(intake, link, stop).await;
    }
    match end {
        Ok(()) | Err(End::Stop) => {
            connection.goodbye(intake).await;
            Ok(())
        }
        Err(End::Broken(error)) => Err(error),
    }
}

struct Connection<'a> {
    mqtt: &'a mut Mqtt,
    stream: Stream,
    frames: Frames,
    buffer: Vec<u8>,
    out: Vec<u8>,
    window: Window,
    batch: Batch,
    refused: Vec<Option<String>>,
    keep_alive: Duration,
    heard: Instant,
    spoke: Instant,
    answered: Instant,
    /// For each subscription the good messages since its last bad one.
    good: Vec<Option<u32>>,
    /// Whether `max_unacknowledged` holds.
    bounded: bool,
}

/// What a turn has taken.
#[derive(Default)]
struct Batch {
    events: Vec<Event>,
    dead: Vec<DeadLetter>,
    bytes: usize,
}

/// Connects and logs in.
async fn open<'a>(mqtt: &'a mut Mqtt, intake: &mut Intake) -> Result<Connection<'a>, End> {
    // SAFETY 18: else a redelivery could not be told from a new message.
    intake.flush();
    intake.wait_committed(mqtt.session.last()).await?;

    let limit = mqtt.config.connect_timeout.get();
    let late = || {
        Error::new(format!(
            "{} does not answer within {}",
            mqtt.config.address, mqtt.config.connect_timeout
        ))
    };
    let (stream, frames, connected) =
        timeout(limit, login(&mqtt.config, &mqtt.client_id)).await.map_err(|_| late())??;
    let keep_alive = connected
        .keep_alive
        .filter(|seconds| *seconds > 0)
        .map_or(Duration::from_secs(mqtt.config.keep_alive_secs().into()), |seconds| {
            Duration::from_secs(seconds.into())
        });
    if connected.session_present {
        mqtt.session.resume();
    } else {
        mqtt.session.start_anew();
    }
    if mqtt.config.protocol == Protocol::V5 {
        mqtt.session.promise(mqtt.config.receive_maximum());
    }
    let now = Instant::now();
    let good = vec![None; mqtt.filters.len()];
    Ok(Connection {
        mqtt,
        stream,
        frames,
        buffer: vec![0; READ],
        out: Vec::new(),
        window: Window::default(),
        batch: Batch::default(),
        refused: Vec::new(),
        keep_alive,
        heard: now,
        spoke: now,
        answered: now,
        good,
        // Until it is subscribed: the SUBACK may stand behind more than the bound.
        bounded: false,
    })
}

async fn login(config: &Config, client_id: &str) -> Result<(Stream, Frames, Connected), Error> {
    let password = match &config.password {
        Some(secret) => {
            Some(secret.read().map_err(|error| Error::because("cannot log in", error))?)
        }
        None => None,
    };
    let login =
        Login { client_id: client_id.to_owned(), username: config.username.clone(), password };
    let mut out = packet::connect(config, login)
        .map_err(|error| Error::new(format!("cannot make a CONNECT: {error}")))?
        .to_vec();
    let address = &config.address;
    let lost = |error| lost_at_login(address, error);
    let mut stream = Stream::connect(config).await?;
    let max_payload = usize::try_from(config.max_payload.get()).unwrap_or(usize::MAX);
    let mut frames = Frames::new(max_payload);
    let mut buffer = vec![0; 4_096];
    loop {
        stream.write(&mut out).map_err(lost)?;
        match stream.read(&mut buffer).map_err(lost)? {
            Some(0) => {
                return Err(Error::new(format!(
                    "{address} closed the connection at login: is this an MQTT port, with TLS \
                     where the broker has it?"
                )));
            }
            Some(count) => frames.push(buffer.get(..count).unwrap_or_default()),
            None => stream.ready(true, !out.is_empty()).await.map_err(lost)?,
        }
        let frame =
            frames.next().map_err(|e| Error::because(format!("{address} is no broker"), e))?;
        let Some(Frame::Whole(frame)) = frame else { continue };
        let packet = packet::read(config.protocol, frame)
            .map_err(|error| Error::new(format!("{address} is no broker: {error}")))?;
        let Packet::Connected(connected) = packet else {
            return Err(Error::new(format!("{address} did not answer the login with a CONNACK")));
        };
        if let Some(reason) = connected.refused {
            return Err(Error::new(format!("{address} refused the login: {reason}")));
        }
        return Ok((stream, frames, connected));
    }
}

/// In TLS 1.3 a server looks at the client's certificate only after the client
/// has done its handshake, so that its alert is an answer to the login.
fn lost_at_login(address: &str, error: std::io::Error) -> Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let what = if matches!(tls, Some(rustls::Error::AlertReceived(_))) {
        format!("{address} refused the TLS login: does it trust the client's certificate?")
    } else {
        format!("lost the connection to {address} at login")
    };
    Error::because(what, error)
}

impl Connection<'_> {
    fn lost(&self, error: std::io::Error) -> Error {
        Error::because(format!("lost the connection to {}", self.mqtt.config.address), error)
    }

    /// Makes sure that the broker's session is ours and holds our subscriptions.
    async fn prepare(&mut self, intake: &mut Intake) -> Result<(), End> {
        if self.mqtt.session.changed() {
            self.hand_over(intake).await?;
            intake.flush();
            intake.wait_committed(self.mqtt.session.last()).await?;
        }
        if self.mqtt.session.subscribed() != self.mqtt.subscriptions {
            let limit = self.mqtt.config.connect_timeout.get();
            let late = Error::new(format!(
                "{} does not answer the subscription within {limit:?}",
                self.mqtt.config.address
            ));
            timeout(limit, self.subscribe(intake)).await.map_err(|_| late)??;
        }
        self.bounded = true;
        Ok(())
    }

    /// Whether more may be taken before a commit.
    fn room(&self) -> bool {
        let session = &self.mqtt.session;
        !self.bounded
            || (session.unanswered() < usize::from(self.mqtt.config.max_unacknowledged)
                && session.unanswered_bytes() + self.batch.bytes < UNACKNOWLEDGED_BYTES)
    }

    /// Subscribes and waits for the SUBACK; messages that come before it are
    /// taken as any other.
    async fn subscribe(&mut self, intake: &mut Intake) -> Result<(), End> {
        let packet = packet::subscribe(self.mqtt.config.protocol, &self.mqtt.filters)
            .map_err(|error| Error::new(format!("cannot make a SUBSCRIBE: {error}")))?;
        self.out.extend_from_slice(&packet);
        loop {
            self.stream.write(&mut self.out).map_err(|error| self.lost(error))?;
            let read = self.read(None);
            if self.refused.is_empty() {
                self.hand_over(intake).await?;
            } else {
                // Only if all were taken the session is as configured; else the
                // next connection tries again.
                if self.refused.iter().all(Option::is_none) {
                    self.mqtt.session.set_subscribed(self.mqtt.subscriptions);
                }
                self.hand_over(intake).await?;
                return Ok(());
            }
            if read? == 0 {
                let wait = self.stream.ready(true, !self.out.is_empty());
                wait.await.map_err(|error| self.lost(error))?;
            }
        }
    }

    fn report_subscriptions(&self, link: &mut Link) {
        for ((filter, _), refused) in self.mqtt.filters.iter().zip(&self.refused) {
            match refused {
                Some(why) => link.fault(filter, &format!("the broker refused to subscribe: {why}")),
                None => link.well(filter),
            }
        }
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
            let before = self.mqtt.session.last();
            // Also what came before the connection broke.
            self.hand_over(intake).await?;
            let read = read?;
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

    /// Writes the answers that are due, and a PINGREQ where one is.
    fn speak(&mut self, intake: &Intake) -> Result<(), End> {
        let now = Instant::now();
        let session = &mut self.mqtt.session;
        if session.answer(intake.committed(), &mut self.out) > 0 {
            self.window.answered();
            self.answered = now;
        }
        let silent = now - self.heard >= self.keep_alive || now - self.spoke >= self.keep_alive;
        if session.pinging() {
            if now - self.heard >= self.keep_alive * 3 / 2 {
                return Err(Error::new(format!(
                    "{} has been silent for {:?}",
                    self.mqtt.config.address,
                    self.keep_alive * 3 / 2
                ))
                .into());
            }
        } else if silent || session.wants_proof() {
            session.ping(&mut self.out);
        }
        if !self.out.is_empty() {
            self.spoke = now;
            self.stream.write(&mut self.out).map_err(|error| self.lost(error))?;
        }
        Ok(())
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

    fn take_packets(&mut self, mut link: Option<&mut Link>) -> Result<(), End> {
        let now = self.mqtt.clock.now();
        let broken = |address: &str, what: String| {
            Error::new(format!("{address} broke the protocol: {what}"))
        };
        while self.room() {
            let frame = self
                .frames
                .next()
                .map_err(|error| broken(&self.mqtt.config.address, error.to_string()))?;
            let packet = match frame {
                None => return Ok(()),
                Some(Frame::Cut(cut)) => {
                    self.take_cut(&cut, link.as_deref_mut())?;
                    continue;
                }
                Some(Frame::Whole(frame)) => packet::read(self.mqtt.config.protocol, frame)
                    .map_err(|error| broken(&self.mqtt.config.address, error))?,
            };
            match packet {
                Packet::Publish(publish) => self.take(&publish, now, link.as_deref_mut()),
                Packet::Release(id) => self.mqtt.session.release(id),
                Packet::Subscribed(refused) => self.refused = refused,
                Packet::Pong => self.mqtt.session.pong(),
                Packet::Closed(why) => {
                    let address = &self.mqtt.config.address;
                    let what = format!("{address} ended the connection: {why}");
                    return Err(Error::new(what).into());
                }
                Packet::Connected(_) => {
                    return Err(broken(&self.mqtt.config.address, "a second CONNACK".into()).into());
                }
                Packet::Other => {}
            }
        }
        Ok(())
    }

    fn take(&mut self, publish: &Publish, now: Timestamp, link: Option<&mut Link>) {
        let Publish { qos, id, dup, topic, payload } = publish;
        let hash = XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(topic), payload);
        if self.mqtt.session.publish(*qos, *id, *dup, low(hash)) == Verdict::Known {
            return;
        }
        match self.mqtt.routes.decode(topic, payload, now) {
            Ok((index, event)) => {
                self.batch.bytes += payload.len() + EVENT_BYTES;
                self.batch.events.push(event);
                self.went_well(index, link);
            }
            Err(Refused::Unwanted) => {
                debug!(source = %self.mqtt.config.name, topic = %String::from_utf8_lossy(topic), "message of no subscription");
            }
            Err(Refused::Dead(index, reason)) => {
                self.batch.bytes += payload.len() + EVENT_BYTES;
                self.bury(index, reason, topic, payload, payload.len(), link);
            }
        }
    }

    /// A message whose payload was too large to take.
    fn take_cut(&mut self, cut: &Cut, link: Option<&mut Link>) -> Result<(), End> {
        let properties = self.mqtt.config.protocol == Protocol::V5;
        let Some(publish) = cut.parse(properties) else {
            let what = format!("{} broke the protocol: a PUBLISH", self.mqtt.config.address);
            return Err(Error::new(what).into());
        };
        let verdict =
            self.mqtt.session.publish(publish.qos, publish.id, publish.dup, low(cut.hash));
        if verdict == Verdict::Take {
            let reason = format!(
                "payload is larger than max_payload ({}); hash of the whole: {:016x}",
                self.mqtt.config.max_payload, cut.hash
            );
            self.batch.bytes += publish.payload.len() + EVENT_BYTES;
            self.bury(None, reason, publish.topic, publish.payload, cut.length, link);
        }
        Ok(())
    }

    fn bury(
        &mut self,
        subscription: Option<usize>,
        reason: String,
        topic: &[u8],
        payload: &[u8],
        length: usize,
        link: Option<&mut Link>,
    ) {
        let topic = String::from_utf8_lossy(topic);
        let said = subscription.and_then(|index| self.good.get_mut(index));
        let first = said.as_ref().is_none_or(|said| said.is_none());
        if let Some(said) = said {
            *said = Some(0);
        }
        if first && let Some(link) = link {
            let subject = subscription.map_or(&*topic, |index| self.mqtt.routes.filter(index));
            link.fault(subject, &format!("message on {topic} became a dead letter: {reason}"));
        }
        let (kept, _) = payload.split_at(payload.len().min(DEAD_LETTER_BYTES));
        self.batch.dead.push(DeadLetter {
            reason,
            origin: format!("{} {topic}", self.mqtt.config.name),
            payload: kept.to_vec(),
            length: u64::try_from(length).unwrap_or(u64::MAX),
        });
    }

    fn went_well(&mut self, subscription: usize, link: Option<&mut Link>) {
        let Some(state) = self.good.get_mut(subscription) else { return };
        let Some(count) = state else { return };
        *count += 1;
        if *count >= WELL_AFTER
            && let Some(link) = link
        {
            *state = None;
            link.well(self.mqtt.routes.filter(subscription));
        }
    }

    /// Hands over what the last turn took, with the session's state after it.
    /// Pings go on while the buffer holds us back.
    async fn hand_over(&mut self, intake: &mut Intake) -> Result<(), End> {
        let batch = std::mem::take(&mut self.batch);
        let session = &mut self.mqtt.session;
        if batch.events.is_empty() && batch.dead.is_empty() && !session.changed() {
            session.delivered(None, 0);
            return Ok(());
        }
        let held = batch.bytes;
        let delivery = Delivery {
            events: batch.events,
            dead: batch.dead,
            checkpoint: Some(Checkpoint::Session(session.checkpoint().into())),
            bytes: held,
            urgent: false,
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
            None if self.mqtt.session.pinging() => self.heard + self.keep_alive * 3 / 2,
            None => self.heard.min(self.spoke) + self.keep_alive,
        };
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
        intake.flush();
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
    }
}

/// The half of a hash that the session keeps.
#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
const fn low(hash: u64) -> u32 {
    hash as u32
}
