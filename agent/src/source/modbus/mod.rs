//! Modbus: polls the devices behind one connection or on one serial port, by TCP,
//! RTU or ASCII. It only reads: no function that writes is ever sent.
//!
//! From the outside in: `connection` keeps the way open, `wire` (and `source::port`) are its
//! bytes, `line` exchanges a request for its answer, `late` knows what else that
//! answer might be to, `frame` is bytes and nothing more.
//!
//! One source is one task and one connection. The requests of a group are
//! planned from its signals (`plan`), and anew around what a device refuses; a
//! group's readings become one event, stamped when its last answer came.
//!
//! What goes wrong, and whom it costs:
//! - A device **refuses** a request (exception): its signals are null with
//!   quality `device_error`; all else goes on. For an address (02, 03) it is
//!   split until that is found (`requests`), by a few requests in each cycle and
//!   in the time that is left between them (`search`): the signal is null with
//!   quality `bad_address` and not read any more, nothing is read over it, and its
//!   neighbours are read as before. It is asked again ever less often, and when the
//!   device or the peer comes back (`refused`); what was found outlives the agent
//!   (`remembered`).
//! - A register holds a **marker** of what the device does not have (`invalid`):
//!   its signal alone is null with quality `bad_address`, as if it were refused.
//! - A request meets **silence** (a time-out, 0A or 0B from a gateway) or
//!   something else than its answer: it rests, for 1 s at first, twice as long
//!   each time, at most 30 s; the device's other requests go on. Where all that
//!   is read at least every 30 s is silent, the device rests as a whole and its
//!   requests take turns, so that a dead unit costs the others one time-out per
//!   rest. A group that gets nothing gives one event with nulls and the reason
//!   as quality, and nothing more until something of it is answered again. How
//!   each device stands after that, `standing` judges.
//! - After a time-out or an unexpected frame a **TCP connection is dropped**, so
//!   that no late answer can be taken for the next one (where answers have no
//!   transaction id, `late` sees to it besides). A serial line is drained. The drop is the
//!   source's own doing, so it connects again by itself, at once: if it left
//!   that to `supervise`, whose pauses grow to half a minute, one dead unit
//!   would silence the healthy ones. It cannot spin: each drop sends a request
//!   to rest. The same holds for a connection that served before and was
//!   closed while idle: the request is repeated once on a new one; one that was
//!   idle for a minute is replaced before it is used.
//! - The **peer** cannot be reached, or closes a fresh connection: `run` ends
//!   with an error and `supervise` opens it again. If only one device's requests make it
//!   close, the others are read in between, and nothing is told of them. What devices are resting
//!   stands in [`Source`] and outlives the connection. Where there is a second way to
//!   the devices (`fallback`) it is taken when the first cannot be opened or nothing
//!   answers there, and given up for the first again (`ways`, `trial`).
//!
//! Cycles that cannot be read in time (a slow device, a full buffer) are
//! skipped and counted, never bunched (`schedule`).
//!
//! Nothing is acknowledged to a device, so a power cut costs the readings that
//! were not yet committed, and no more.

mod config;
mod connection;
mod cost;
mod cycles;
mod frame;
#[cfg(test)]
mod fuzz;
mod group;
mod late;
mod line;
mod markers;
mod outline;
mod plan;
mod raw;
mod refused;
mod remembered;
mod requests;
mod schedule;
mod search;
mod serial;
mod signal;
mod standing;
mod sunspec;
mod table;
#[cfg(test)]
mod tests;
mod trial;
mod ways;
mod wire;

use std::convert::Infallible;
use std::sync::Arc;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use config::{
    Config, Device, Framing, Group, Markers, Order, Parity, Serial, Signal, Table, Type,
};
use connection::Peer;
pub use cycles::{Counts, Cycles};
use group::{Broken, Next, Purpose, Reading};
pub use outline::{Latency, Measured, Outline, Planned, Read, Told, doubts};
use remembered::{Remembered, checksum};
use schedule::{Health, Schedule, Turn};
pub use signal::field_of_bit;
pub use sunspec::Config as SunSpec;
use wire::Place;

use super::port::is_path;
use super::{Error, Setup};
use crate::clock::Clock;
use crate::collect::{Checkpoint, Delivery, Intake};
use crate::event::Event;
use crate::flow::Lane;
use crate::raw::Note;
use crate::supervise::Link;

/// A source that is set up.
#[derive(Debug)]
pub struct Source {
    peer: Box<Peer>,
    clock: Clock,
    devices: Vec<Unit>,
    groups: Vec<group::Poll>,
    schedule: Schedule,
    /// What devices refuse is not what the newest checkpoint says.
    unsaved: bool,
    /// Until then the bus is left alone by searches.
    search_at: Instant,
    /// Something was answered since the peer was last gone.
    heard: bool,
    /// Of the event that is handed over next.
    notes: Vec<Note>,
}

/// A device as it is polled.
#[derive(Debug)]
struct Unit {
    name: Arc<str>,
    id: u8,
    /// Of all its quick groups together, when none of them is answered.
    health: Health,
    /// Of its configuration: what it refuses is remembered by it.
    checksum: u32,
    /// That it is silent has been told.
    faulty: bool,
    /// It is down, and why has been told.
    down: bool,
}

impl Unit {
    /// Tells that a request was not answered, once until all of it is well: which one it
    /// is that fails changes from cycle to cycle. Gives the end, if the peer has gone too.
    fn tell(&mut self, broken: Broken, link: &mut Link) -> Option<End> {
        if broken.end.is_none() && !self.faulty {
            self.faulty = true;
            link.fault(&self.name, &broken.what);
        }
        broken.end
    }
}

impl Source {
    /// Sets the source up from a configuration that [`Config::check`] found
    /// nothing wrong with.
    pub fn new(config: &Config, setup: Setup<'_>) -> Self {
        let mut devices = Vec::with_capacity(config.devices.len());
        let (mut groups, mut slots) = (Vec::new(), Vec::new());
        let remembered = remembered(config, setup.saved.as_deref());
        for (index, device) in config.devices.iter().enumerate() {
            let checksum = checksum(config, device);
            for (number, group) in device.groups.iter().enumerate() {
                let stream = group.stream.as_deref().unwrap_or(&config.stream);
                let flow = setup.flows.polled(stream, group.lane.or(config.lane));
                let urgent = setup.flows.get(flow).lane == Lane::Alarm;
                slots.push((group.interval.get(), urgent));
                let mut poll = group::Poll::new(config, device, index, group, number, flow);
                let map = remembered.map(&device.name, checksum);
                poll.remember(map, remembered.of(&device.name, checksum));
                groups.push(poll);
            }
            devices.push(Unit {
                name: Arc::from(device.name.as_str()),
                id: device.unit,
                health: Health::default(),
                checksum,
                faulty: false,
                down: false,
            });
        }
        Self {
            peer: Box::new(peer(config)),
            clock: setup.clock,
            devices,
            schedule: Schedule::new(slots),
            groups,
            unsaved: false,
            search_at: Instant::now(),
            heard: false,
            notes: Vec::new(),
        }
    }

    /// See [`super::Source::tap`].
    pub fn tap(&mut self) {
        self.groups.iter_mut().for_each(group::Poll::tap);
    }

    /// The counts of each group, which go on while the source runs.
    pub fn cycles(&self) -> Vec<Arc<Cycles>> {
        self.groups.iter().map(|group| Arc::clone(&group.cycles)).collect()
    }

    /// Polls until `stop`, or until the peer cannot be reached.
    pub async fn run(
        &mut self,
        intake: &mut Intake,
        link: &mut Link,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let end = tokio::select! {
            // In this order a finished reading is still handed over if there
            // is room for it; one that waits for room is given up.
            biased;
            end = self.poll(intake, link) => end.map(|never| match never {}),
            () = stop.cancelled() => Ok(()),
        };
        // Not even this source's own next run may find an answer in it.
        self.peer.drop_connection();
        end
    }

    async fn poll(&mut self, intake: &mut Intake, link: &mut Link) -> Result<Infallible, Error> {
        self.connect(self.peer.is_second(), intake, link).await?;
        self.schedule.begin(Instant::now());
        loop {
            if let Err(end) = self.turn(intake, link).await {
                // One device whose requests the peer closes the connection on is no end of the
                // others: they are down where nothing was answered since it last did so.
                let heard = end.gone && std::mem::take(&mut self.heard);
                if end.unreachable || (end.gone && !heard) {
                    self.tell_unreachable(&end.error, intake, link).await?;
                }
                return Err(end.error);
            }
        }
    }

    /// Waits for the next group that is due, and reads it.
    async fn turn(&mut self, intake: &mut Intake, link: &mut Link) -> Result<(), End> {
        self.search(link).await?;
        let Some(due) = self.schedule.due() else {
            // Nothing to read: `check` refuses that.
            return std::future::pending().await;
        };
        sleep_until(due).await;
        self.change(intake, link).await?;
        let now = Instant::now();
        let Some(turn) = self.next_turn(now) else { return Ok(()) };
        if let Some(group) = self.groups.get_mut(turn.group) {
            group.cycles.add(Counts { missed: turn.missed, ..Counts::default() });
            group.tell_pace(turn.missed, now, link);
        }
        self.cycle(turn.group, intake, link).await
    }

    /// Opens a connection, by whichever way can be; whether that `was_second` until now.
    async fn connect(
        &mut self,
        was_second: bool,
        intake: &mut Intake,
        link: &mut Link,
    ) -> Result<(), Error> {
        if let Err(error) = self.peer.connect().await {
            self.tell_unreachable(&error, intake, link).await?;
            return Err(error);
        }
        link.up(&self.peer.to_string());
        if self.peer.is_second() != was_second {
            self.wake();
        }
        self.tell_way(link);
        Ok(())
    }

    fn next_turn(&mut self, now: Instant) -> Option<Turn> {
        let (groups, devices) = (&self.groups, &self.devices);
        self.schedule.take(now, |group| {
            let Some(group) = groups.get(group) else { return false };
            let device = devices.get(group.device);
            !group.is_heard() || device.is_some_and(|device| device.health.is_silent())
        })
    }

    /// Reads one group and hands its event over.
    async fn cycle(
        &mut self,
        index: usize,
        intake: &mut Intake,
        link: &mut Link,
    ) -> Result<(), End> {
        let sharers = self.sharers(index);
        let Some(group) = self.groups.get_mut(index) else { return Ok(()) };
        let Some(device) = self.devices.get(group.device) else { return Ok(()) };
        let rests = group.is_quick() && device.health.rests(Instant::now());
        let mut reading = None;
        if !rests {
            reading = Some(group.read(&mut self.peer, device.id, sharers).await);
        }
        let Some(reading) = reading.filter(|reading| reading.asked) else {
            group.cycles.add(Counts { rested: 1, ..Counts::default() });
            if group.told {
                return Ok(());
            }
            group.told = true;
            group.tell_bad(link);
            let event = group.silence(&device.name, self.clock.now());
            if event.fields.is_empty() {
                return Ok(());
            }
            return self.deliver(intake, vec![event]).await.map_err(End::from);
        };
        self.finish(index, reading, intake, link).await
    }

    /// Tells what a cycle gave, and hands its event over.
    async fn finish(
        &mut self,
        index: usize,
        reading: Reading,
        intake: &mut Intake,
        link: &mut Link,
    ) -> Result<(), End> {
        let Some(group) = self.groups.get_mut(index) else { return Ok(()) };
        let Some(device) = self.devices.get_mut(group.device) else { return Ok(()) };
        // The last answer has just come.
        let time = self.clock.now();
        group.tell_refusal(reading.refused.as_deref(), group.is_heard(), link);
        group.tell_bad(link);
        group.tell_models(link);
        self.unsaved |= group.take_unsaved();
        if reading.next == Next::AtOnce {
            self.schedule.hasten(index, Instant::now());
        }
        // Silence that was told is not told again, nor that all is refused; a part
        // that was read is.
        let has_part = reading.broken.is_none() && !group.reads_nothing();
        let worth_telling = has_part || reading.answered || !group.told;
        let worth_telling =
            worth_telling && reading.purpose == Purpose::Values && group.has_fields();
        group.told = !reading.heard || group.reads_nothing();
        let silence = reading.broken.as_ref().map(Broken::reason);
        if silence.is_some() {
            self.schedule.silent(Instant::now());
        }
        group.cycles.add(Counts {
            read: reading.answered.into(),
            failed: silence.is_some().into(),
            refused: reading.refusals,
            ..Counts::default()
        });
        let end = reading.broken.and_then(|broken| device.tell(broken, link));
        let event = group.event(&device.name, time, reading.fields);
        self.notes = reading.notes;
        let of = group.device;
        if end.as_ref().is_none_or(|end| !end.unreachable) {
            self.judge(of, reading.heard, silence.as_deref(), link);
        }
        if worth_telling {
            self.deliver(intake, vec![event]).await?;
        }
        end.map_or(Ok(()), Err)
    }

    /// Requests that take turns with those of this group: while its device is silent
    /// as a whole all of them that are quick, and otherwise each stands for itself.
    fn sharers(&self, index: usize) -> u32 {
        let Some(group) = self.groups.get(index) else { return 1 };
        let device = self.devices.get(group.device);
        if !group.is_quick() || !device.is_some_and(|device| device.health.is_silent()) {
            return 1;
        }
        let quick = self.groups.iter().filter(|one| one.device == group.device && one.is_quick());
        quick.map(group::Poll::requests).fold(0, u32::saturating_add).max(1)
    }

    /// Waits while the buffer is full; the cycles that go by meanwhile are missed.
    /// A power cut before the commit loses what was learnt with the events: it is
    /// found again.
    async fn deliver(&mut self, intake: &mut Intake, events: Vec<Event>) -> Result<(), Error> {
        let bytes = events.iter().map(Event::memory).sum();
        let checkpoint = if self.unsaved { self.checkpoint() } else { None };
        let notes = std::mem::take(&mut self.notes);
        let delivery = Delivery { events, checkpoint, bytes, notes, ..Delivery::default() };
        match intake.deliver(delivery).await {
            Ok(_) => {
                self.unsaved = false;
                Ok(())
            }
            Err(stopping) => Err(Error::because("cannot hand over what was read", stopping)),
        }
    }

    fn checkpoint(&self) -> Option<Checkpoint> {
        let mut remembered = Remembered::default();
        for group in &self.groups {
            if let Some(device) = self.devices.get(group.device) {
                remembered.add(&device.name, device.checksum, group.facts());
                remembered.add_map(&device.name, device.checksum, group.map());
            }
        }
        remembered.save().map(|bytes| Checkpoint::Session(bytes.into()))
    }
}

/// What devices were found to refuse in an earlier run.
fn remembered(config: &Config, saved: Option<&[u8]>) -> Remembered {
    let Some(saved) = saved else { return Remembered::default() };
    Remembered::load(saved).unwrap_or_else(|cause| {
        warn!(source = %config.name, error = %cause, "cannot read what is known of devices, will search for it again");
        Remembered::default()
    })
}

/// The way to its devices, or both.
fn peer(config: &Config) -> Peer {
    let fallback = config.fallback.as_deref().map(|address| place(config, address));
    let first = place(config, &config.address);
    Peer::new(first, config.framing(), config.timeout.get()).with_fallback(fallback)
}

fn place(config: &Config, address: &str) -> Place {
    if is_path(address) {
        return Place::Port(address.into(), config.serial.unwrap_or_default());
    }
    let host = config::endpoint(address);
    let (host, port) = host.unwrap_or_else(|_| (address.to_owned(), 502));
    Place::host(host, port)
}

/// The end of a run.
#[derive(Debug)]
struct End {
    error: Error,
    /// There is no way to any device.
    unreachable: bool,
    /// The peer has gone, at the latest now: no device is heard until it is back.
    gone: bool,
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self { error, unreachable: false, gone: false }
    }
}
