//! One poll group: reads its requests, makes its event.

mod field;
mod survey;
mod telling;

use std::iter;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::config::{self, Config, Device, Group};
use super::connection::{Failure, Peer};
use super::cycles::Cycles;
use super::plan::{Limits, Request, Span, plan};
use super::raw;
use super::refused::{Fact, Refused};
use super::requests::Requests;
use super::schedule::{LONGEST_REST, Pace};
use super::sunspec::{Header, Map, Sunspec};
use super::{End, Error};
use crate::event::{Event, Field, Quality, Timestamp, Value};
use crate::flow;
use crate::raw::Note;
use crate::supervise::in_full;
use crate::units::Period;
use telling::Refusals;

pub(super) use field::{Factor, Signal};

/// A group as it is polled.
#[derive(Debug)]
pub(super) struct Poll {
    /// Index of its device.
    pub(super) device: usize,
    /// That there are no values has been told by an event.
    pub(super) told: bool,
    pub(super) cycles: Arc<Cycles>,
    /// Device and group, for the log.
    subject: String,
    /// The same for what the device refuses for its address.
    addresses: String,
    refusals: Refusals,
    /// What was last said about requests that are cut.
    cut: String,
    interval: Period,
    flow: flow::Id,
    requests: Requests,
    /// In the order of the configuration, one for each field, and then what is read
    /// besides.
    signals: Vec<Signal>,
    /// Of a device that says itself what its registers hold.
    sunspec: Option<Sunspec>,
    /// How many of the signals are fields, and the fields that are not read.
    read: usize,
    texts: Vec<Field>,
    /// Where each model begins, which is read with its fields.
    headers: Vec<Header>,
    limits: Limits,
    pace: Pace,
    /// Somebody looks at the source alone.
    tapped: bool,
}

/// What one cycle gave.
#[derive(Debug)]
pub(super) struct Reading {
    /// All signals; null with a quality where there is no value.
    pub(super) fields: Vec<Field>,
    /// At least one request was sent: they did not all rest.
    pub(super) asked: bool,
    /// At least one request was answered, if only by a refusal.
    pub(super) heard: bool,
    /// At least one request was answered with values.
    pub(super) answered: bool,
    /// Requests that were refused, and in words the first of them that was not
    /// refused for its addresses.
    pub(super) refusals: u64,
    pub(super) refused: Option<String>,
    /// Why the cycle went no further.
    pub(super) broken: Option<Broken>,
    pub(super) purpose: Purpose,
    pub(super) next: Next,
    /// What the fields were made of, where somebody looks.
    pub(super) notes: Vec<Note>,
}

/// What a cycle was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Values,
    /// It asked for the device's models: there is no event.
    Models,
}

/// When the group has its next turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    InTime,
    /// There is another question, or there are values to be read at last.
    AtOnce,
}

/// The device is silent or not to be understood.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) what: String,
    /// The peer has gone too: this run is over.
    pub(super) end: Option<End>,
    quality: Quality,
}

/// Where each field of a group lies, in the order of the fields.
pub(super) fn spans(group: &Group) -> Vec<Span> {
    let of_signal = |signal: &config::Signal| {
        // `check` refuses one that says no place.
        let place = signal.place();
        let span = place.map(|(table, address)| Span { table, address, width: signal.width() });
        let fields = signal.count();
        span.into_iter().flat_map(move |span| iter::repeat_n(span, fields))
    };
    group.signals.iter().flat_map(of_signal).collect()
}

/// The requests of a group, as they are planned from its signals.
pub(super) fn requests(config: &Config, device: &Device, group: &Group) -> Vec<Request> {
    plan(&spans(group), Limits::new(config, device), &Refused::default())
}

impl Poll {
    pub(super) fn new(
        config: &Config,
        device: &Device,
        index: usize,
        group: &Group,
        number: usize,
        flow: flow::Id,
    ) -> Self {
        let mut signals = Vec::new();
        for signal in group.signals.iter().filter(|signal| signal.place().is_some()) {
            let unit: Option<Arc<str>> = signal.unit.as_deref().map(Arc::from);
            for (name, decoder) in signal.fields(device.order) {
                signals.push(Signal::new(name, unit.clone(), decoder));
            }
        }
        let limits = Limits::new(config, device);
        let sunspec = group.sunspec.as_ref().map(|sunspec| Sunspec::new(sunspec, &limits));
        let spans = match &sunspec {
            Some(sunspec) => sunspec.question().into_iter().collect(),
            None => spans(group),
        };
        let name = group.name.clone().unwrap_or_else(|| number.to_string());
        let subject = format!("{} group {name}", device.name);
        Self {
            device: index,
            told: false,
            cycles: Arc::new(Cycles::new(device.name.as_str().into(), name)),
            addresses: format!("{subject} addresses"),
            refusals: Refusals::new(group.interval.get()),
            cut: String::new(),
            subject,
            interval: group.interval,
            flow,
            requests: Requests::new(spans, limits),
            read: signals.len(),
            signals,
            sunspec,
            texts: Vec::new(),
            headers: Vec::new(),
            limits,
            pace: Pace::default(),
            tapped: false,
        }
    }

    pub(super) fn tap(&mut self) {
        self.tapped = true;
    }

    pub(super) fn interval(&self) -> Duration {
        self.interval.get()
    }

    /// Read at least as often as a silent device is asked again: only such
    /// groups tell whether all of a device is silent.
    pub(super) fn is_quick(&self) -> bool {
        self.interval() <= LONGEST_REST
    }

    pub(super) fn requests(&self) -> u32 {
        u32::try_from(self.requests.count()).unwrap_or(u32::MAX)
    }

    /// No request was answered when it was last sent.
    pub(super) fn is_silent(&self) -> bool {
        self.requests.are_silent()
    }

    /// Every request was answered when it was last sent.
    pub(super) fn is_heard(&self) -> bool {
        !self.requests.is_one_silent()
    }

    /// A request that was not answered is about to be asked again.
    pub(super) fn is_woken(&self) -> bool {
        self.requests.is_one_woken()
    }

    /// The device refuses all of it.
    pub(super) fn reads_nothing(&self) -> bool {
        self.requests.reads_nothing()
    }

    /// Whether there is anything to give an event of.
    pub(super) const fn has_fields(&self) -> bool {
        self.read > 0
    }

    /// The device has answered again: what was silent or refused is tried again.
    pub(super) fn wake(&mut self) {
        self.requests.wake(Instant::now());
        // What was itself silent looks again by itself.
        if !self.is_quick() {
            self.suspect();
        }
    }

    /// The device may be another one when it is back: what was refused is tried again.
    pub(super) fn doubt(&mut self) {
        self.requests.doubt(Instant::now());
        self.suspect();
    }

    /// What was found in an earlier run: the device's models, and what it refuses.
    pub(super) fn remember(&mut self, map: Option<&Map>, facts: impl Iterator<Item = Fact>) {
        self.remember_map(map);
        self.requests.remember(facts, Instant::now());
    }

    pub(super) fn facts(&self) -> impl Iterator<Item = Fact> {
        let kept = self.sunspec.iter().flat_map(|sunspec| sunspec.facts.iter().copied());
        self.requests.facts().chain(kept)
    }

    /// Whether what is known of the device has changed since this was last asked.
    pub(super) fn take_unsaved(&mut self) -> bool {
        let map = self.sunspec.as_mut().is_some_and(|s| std::mem::take(&mut s.unsaved));
        self.requests.take_unsaved() || map
    }

    /// Sends the requests that do not rest, one after the other. A refused one
    /// costs its own signals, and where it is for an address, which one is searched
    /// for; silence, a wrong frame or a lost connection ends the cycle, and that
    /// request rests, as one of `sharers`.
    pub(super) async fn read(&mut self, peer: &mut Peer, unit: u8, sharers: u32) -> Reading {
        self.look_again();
        self.requests.begin();
        self.ask(peer, unit, sharers).await
    }

    /// Whether there is something to find out between two cycles.
    pub(super) fn is_searching(&self, now: Instant) -> bool {
        self.requests.is_searching(now)
    }

    /// Whether a search has ended, and the group is to be read anew.
    pub(super) fn has_found(&self) -> bool {
        self.requests.has_found(Instant::now())
    }

    /// One request of a search between two cycles. Its values are of no use alone.
    pub(super) async fn step(&mut self, peer: &mut Peer, unit: u8) -> Reading {
        self.requests.step();
        self.ask(peer, unit, 1).await
    }

    async fn ask(&mut self, peer: &mut Peer, unit: u8, sharers: u32) -> Reading {
        let mut reading = Reading {
            fields: self.blank(),
            asked: false,
            heard: false,
            answered: false,
            refusals: 0,
            refused: None,
            broken: None,
            purpose: Purpose::Values,
            next: Next::InTime,
            notes: Vec::new(),
        };
        loop {
            let now = Instant::now();
            if self.rests(now) {
                break;
            }
            let Some(request) = self.requests.next(now) else { break };
            reading.asked = true;
            let answer = peer.exchange(unit, request).await;
            if self.surveyed(&answer, &mut reading) {
                break;
            }
            let is_doubt = self.requests.is_doubt();
            let Some(request) = self.requests.current() else { break };
            if self.tapped {
                let fields = self.signals.get(..self.read).unwrap_or_default();
                let own = |index: usize| Some(fields.get(index)?.own());
                reading.notes.extend(raw::notes(request, &answer, own));
            }
            match answer {
                Ok(reply) => {
                    (reading.heard, reading.answered) = (true, true);
                    field::fill(&self.signals, request, &reply, &mut reading.fields);
                    self.requests.answered(now);
                }
                Err(Failure::Exception(code)) if !is_silence(code) => {
                    reading.heard = true;
                    reading.refusals += 1;
                    // What is doubted is read besides: nothing of it is missing.
                    if is_for_address(code) || is_doubt {
                        self.requests.refused(now);
                        continue;
                    }
                    reading.refused.get_or_insert_with(|| {
                        format!("{} on reading {}", exception(code), request.range())
                    });
                    mark(request, Quality::DeviceError, &mut reading.fields);
                    self.requests.unable(now);
                }
                Err(failure) => {
                    let broken = Broken::new(failure, peer, unit, request);
                    if broken.end.as_ref().is_none_or(|end| !end.unreachable) {
                        self.requests.failed(Instant::now(), sharers);
                    }
                    for left in self.requests.left() {
                        mark(left, broken.quality, &mut reading.fields);
                    }
                    reading.broken = Some(broken);
                    break;
                }
            }
        }
        if reading.broken.is_none() {
            for request in self.requests.undecided() {
                mark(request, Quality::DeviceError, &mut reading.fields);
            }
        }
        self.mark_bad(&mut reading.fields);
        self.settle(&mut reading);
        reading
    }

    /// All fields without a value.
    fn blank(&self) -> Vec<Field> {
        let field = |signal: &Signal| Field {
            name: Arc::clone(&signal.name),
            unit: signal.unit.clone(),
            value: Value::Null,
            quality: Some(Quality::Timeout),
        };
        self.signals.iter().map(field).collect()
    }

    fn mark_bad(&self, fields: &mut [Field]) {
        for index in self.requests.bad_signals() {
            if let Some(field) = fields.get_mut(index) {
                field.quality = Some(Quality::BadAddress);
            }
        }
    }

    /// The event of these fields: a quality that all share is the event's own.
    pub(super) fn event(
        &self,
        device: &Arc<str>,
        time: Timestamp,
        mut fields: Vec<Field>,
    ) -> Event {
        fields.truncate(self.read);
        let mut quality = Quality::Good;
        if let Some(shared) = fields.first().and_then(|f| f.quality)
            && fields.iter().all(|f| f.quality == Some(shared))
        {
            quality = shared;
            for field in &mut fields {
                field.quality = None;
            }
        } else {
            fields.extend_from_slice(&self.texts);
        }
        Event { flow: self.flow, device: Arc::clone(device), time, read_at: None, quality, fields }
    }

    /// The event of a device that cannot be read.
    pub(super) fn silence(&self, device: &Arc<str>, time: Timestamp) -> Event {
        let mut fields = self.blank();
        if self.rests(Instant::now()) {
            // It answers, but not with what was read of it.
            field::clear(&mut fields, Quality::DeviceError);
        } else if self.reads_nothing() {
            self.mark_bad(&mut fields);
        }
        self.event(device, time, fields)
    }
}

impl Broken {
    /// In words, also where the connection is what broke.
    pub(super) fn reason(&self) -> String {
        self.end.as_ref().map_or_else(|| self.what.clone(), |end| in_full(&end.error))
    }

    fn new(failure: Failure, peer: &Peer, unit: u8, request: &Request) -> Self {
        let range = request.range();
        let (quality, what, end) = match failure {
            Failure::Exception(code) => {
                (Quality::Timeout, format!("{} for unit {unit}", exception(code)), None)
            }
            Failure::Late => {
                let what = format!("no answer from unit {unit} in time, reading {range}");
                (Quality::Timeout, what, None)
            }
            Failure::Unexpected(what) => {
                (Quality::BadPayload, format!("{what} from unit {unit}, reading {range}"), None)
            }
            Failure::Closed(cause) => {
                let error = Error::because(peer.gone(), cause);
                let end = End { error, unreachable: false, gone: true };
                (Quality::Timeout, String::new(), Some(end))
            }
            Failure::Unreachable(error) => (
                Quality::Timeout,
                String::new(),
                Some(End { error, unreachable: true, gone: true }),
            ),
        };
        Self { what, end, quality }
    }
}

/// No values for what this request would have read.
fn mark(request: &Request, quality: Quality, fields: &mut [Field]) {
    for (index, _) in &request.signals {
        if let Some(field) = fields.get_mut(*index) {
            field.quality = Some(quality);
        }
    }
}

/// A gateway that says so for a unit that is silent.
pub(super) const fn is_silence(code: u8) -> bool {
    matches!(code, 0x0A | 0x0B)
}

/// Some say 03 where the address is wrong, and where more is asked for than they
/// give at once. 01 is for the whole table: there is no address to find.
const fn is_for_address(code: u8) -> bool {
    matches!(code, 0x02 | 0x03)
}

/// Modbus application protocol 1.1b3, chapter 7.
pub(super) fn exception(code: u8) -> String {
    let meaning = match code {
        0x01 => "illegal function",
        0x02 => "illegal data address",
        0x03 => "illegal data value",
        0x04 => "device failure",
        0x05 => "acknowledge",
        0x06 => "device busy",
        0x08 => "memory parity error",
        0x0A => "gateway path unavailable",
        0x0B => "gateway target failed to respond",
        _ => "not defined",
    };
    format!("exception {code:02X} ({meaning})")
}
