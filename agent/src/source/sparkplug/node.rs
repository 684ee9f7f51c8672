//! One edge node: its session, its sequence, its devices, and what is held of it.
//!
//! - An alias means something only while every message since the birth has come: seq
//!   counts them, over the node and its devices (Sparkplug 3.0, 6.4.20). Behind a gap may
//!   lie another birth, so that nothing is decoded until the next one.
//! - What comes meanwhile is held as it is. The next birth decodes it if it is of the same
//!   session (bdSeq), as far as that is known; else it goes out as stale.
//! - A death ends the session of what it names: its birth's number must be the death's
//!   own, or it is the late will of a session before (6.4.24).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::time::Instant;

use super::context::{Context, InAll, Rules};
use super::counts::Count;
use super::device::{self, Device, Life};
use super::events::{self, Ident};
use super::held::{Held, Of, Raw, SavedMessage};
use super::rebirth::Rebirth;
use super::table::Definitions;
use super::topic;
use crate::decode::sparkplug::{self, flat, proto::Payload};
use crate::event::{Field, Timestamp, Value};

/// Devices of one node.
const MOST_DEVICES: usize = if cfg!(test) { 20 } else { 10_000 };

/// Bytes of all nodes that are held and acknowledged: they stand in each checkpoint until
/// their birth, and cost a write each time.
const MOST_SAVED: usize = 64 * 1024;

/// What a node takes without anything that is known of it.
const EACH: usize = 1_024;

/// Messages among which one that comes again is recognised: what a publisher with QoS 1
/// has on its way.
const RECENT: usize = 32;

/// Whether aliases mean anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// No: a birth is awaited. The session, if one was known and has not ended.
    Doubt { session: Option<u64> },
    /// Yes, while the next message has this number.
    Sound { session: Option<u64>, next: u8 },
}

#[derive(Debug)]
pub(super) struct Node {
    group: Arc<str>,
    name: Arc<str>,
    course: Course,
    own: Device,
    devices: BTreeMap<Arc<str>, Device>,
    definitions: Definitions,
    held: Held,
    recent: VecDeque<u64>,
    pub(super) rebirth: Rebirth,
    pub(super) heard: Instant,
    /// Bytes that are known of it and its devices, as its host counts them.
    pub(super) memory: usize,
}

/// A message that was read.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) device: Option<&'a str>,
    pub(super) bytes: &'a [u8],
    pub(super) payload: Payload,
    /// A hash of topic and payload.
    pub(super) hash: u64,
    /// It is acknowledged with the next commit.
    pub(super) is_acknowledged: bool,
}

impl Node {
    pub(super) fn new(group: &str, name: &str, rules: &Rules, now: Instant) -> Self {
        Self {
            group: group.into(),
            name: name.into(),
            course: Course::Doubt { session: None },
            own: Device::new(ident(rules, group, name, None)),
            devices: BTreeMap::new(),
            definitions: Definitions::default(),
            held: Held::default(),
            recent: VecDeque::new(),
            rebirth: Rebirth::default(),
            heard: now,
            memory: EACH,
        }
    }

    /// Bytes that are known of the node itself and of this device.
    pub(super) fn known_of(&self, device: Option<&str>) -> usize {
        let device = device.and_then(|name| self.devices.get(name)).map_or(0, Device::memory);
        self.own.memory() + self.definitions.memory() + device
    }

    /// Whether it is dead or was never born, with all its devices.
    pub(super) fn is_gone(&self) -> bool {
        let is_gone = |device: &Device| matches!(device.life, Life::Dead | Life::Unborn);
        is_gone(&self.own) && self.devices.values().all(is_gone)
    }

    /// Under which it and its devices go out.
    pub(super) fn names(&self) -> impl Iterator<Item = Arc<str>> {
        let devices = self.devices.values().chain([&self.own]);
        devices.map(|device| Arc::clone(&device.ident.device))
    }

    /// Whether it came before. One without a time of its own may look like another, and
    /// only with QoS 1 a message is sent twice: births have QoS 0 (6.4.19), and a node
    /// without a clock repeats them as they were.
    pub(super) fn is_known(&mut self, message: &Message<'_>) -> bool {
        if message.payload.timestamp.is_none() {
            return false;
        }
        if self.recent.contains(&message.hash) {
            return message.is_acknowledged;
        }
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(message.hash);
        false
    }

    pub(super) fn born(&mut self, message: &Message<'_>, context: &mut Context<'_>) {
        let payload = &message.payload;
        let session = events::session(payload);
        let was = match self.course {
            Course::Doubt { session } | Course::Sound { session, .. } => session,
        };
        if was.is_some() && was != session {
            self.end_session(context);
        }
        let seq = payload.seq.and_then(|seq| u8::try_from(seq).ok()).unwrap_or(0);
        self.course = Course::Sound { session, next: seq.wrapping_add(1) };
        self.definitions = Definitions::of(&payload.metrics);
        self.rebirth.born();
        context.count(Count::Births);
        self.own.born(payload, &self.definitions, context.time, context);
        let until = context.now + context.rules.hold.time;
        for device in self.devices.values_mut() {
            if device.is_alive() {
                device.life = Life::Awaited(until);
            }
        }
        self.release(None, context);
    }

    pub(super) fn died(&mut self, message: &Message<'_>, context: &mut Context<'_>) {
        let session = events::session(&message.payload);
        let known = match self.course {
            Course::Doubt { session } | Course::Sound { session, .. } => session,
        };
        if known.is_some() && known != session {
            // A later one than we know: its birth was missed.
            let is_later = is_later(session, known);
            if is_later {
                self.rebirth.want();
            }
            if !is_later || matches!(self.course, Course::Sound { .. }) {
                return context.count(Count::Passed);
            }
        }
        context.count(Count::Deaths);
        self.end_session(context);
        self.course = Course::Doubt { session: None };
        self.rebirth.settle();
        // The will was written at the login: its time is not that of the death.
        let time = context.time;
        for device in self.devices.values_mut().chain([&mut self.own]) {
            if device.life != Life::Dead {
                device.end("the edge node died (NDEATH)", time, context);
            }
        }
    }

    /// An error where the node has too many devices: then it is a dead letter.
    pub(super) fn device_born(
        &mut self,
        message: &Message<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), String> {
        let is_sound = self.advance(message.payload.seq, context);
        let Some(name) = message.device else { return Ok(()) };
        if !is_sound {
            // The next birth is compared with this one alone; what waits may be of the
            // one before.
            self.give_up(Of::Only(Some(name)), context);
        }
        self.make(name, context);
        let (time, definitions) = (context.time, &self.definitions);
        let Some(device) = self.devices.get_mut(name) else {
            let (group, node) = (&self.group, &self.name);
            return Err(format!(
                "more than {MOST_DEVICES} devices of the edge node {group}/{node}"
            ));
        };
        context.count(Count::Births);
        device.born(&message.payload, definitions, time, context);
        if is_sound {
            self.release(Some(name), context);
        }
        Ok(())
    }

    pub(super) fn device_died(&mut self, message: &Message<'_>, context: &mut Context<'_>) {
        self.advance(message.payload.seq, context);
        let Some(name) = message.device else { return };
        context.count(Count::Deaths);
        self.give_up(Of::Only(Some(name)), context);
        self.make(name, context);
        let Some(device) = self.devices.get_mut(name) else { return };
        let time = message.payload.timestamp.and_then(flat::time).unwrap_or(context.time);
        device.end("it died (DDEATH)", time, context);
    }

    pub(super) fn data(&mut self, message: &Message<'_>, context: &mut Context<'_>) {
        let is_sound = self.advance(message.payload.seq, context);
        let device = match message.device {
            None => Some(&mut self.own),
            Some(name) => self.devices.get_mut(name),
        };
        let Some(device) = device.filter(|device| is_sound && device.is_alive()) else {
            self.rebirth.want();
            return self.hold(message.device, message.bytes.into(), message, context);
        };
        let time = context.time;
        let unknown = device.read(&message.payload, time, context);
        if !unknown.is_empty() {
            self.rebirth.want_another();
            let left = device::part(&message.payload, unknown);
            self.hold(message.device, left.encode_to_vec().into(), message, context);
        }
    }

    /// Where it listens for commands.
    pub(super) fn command_topic(&self) -> String {
        topic::command(&self.group, &self.name)
    }

    /// The payload cannot be read; its number in the sequence is not known.
    pub(super) fn unreadable(&mut self, is_birth: bool) {
        if is_birth {
            self.doubt();
            self.rebirth.born();
            self.rebirth.want_another();
        }
    }

    /// The connection to the broker is lost: who knows what happens meanwhile.
    pub(super) fn lost(&mut self, context: &mut Context<'_>) {
        let was_there = self.own.is_alive() || self.devices.values().any(Device::is_alive);
        self.doubt();
        // Nobody gives it out while the connection is away, also where the agent stops.
        self.give_up(Of::All, context);
        let why = "the connection to the broker is lost";
        let time = context.time;
        for device in self.devices.values_mut().chain([&mut self.own]) {
            if device.life != Life::Dead {
                device.end(why, time, context);
            }
        }
        if was_there || self.rebirth.is_wanted() {
            self.rebirth.want();
        }
    }

    /// What has waited too long goes.
    pub(super) fn tick(&mut self, context: &mut Context<'_>) {
        let (now, patience) = (context.now, context.rules.hold.time);
        while self.held.oldest().is_some_and(|since| since + patience <= now) {
            self.give_up_oldest(context);
        }
        let time = context.time;
        for device in self.devices.values_mut() {
            if matches!(device.life, Life::Awaited(until) if until <= now) {
                device.end("it was not born again with its edge node", time, context);
            }
        }
    }

    /// When [`Node::tick`] has something to do.
    pub(super) fn due(&self, now: Instant, patience: Duration) -> Option<Instant> {
        let awaited = self.devices.values().filter_map(|device| match device.life {
            Life::Awaited(until) => Some(until),
            _ => None,
        });
        let held = self.held.oldest().map(|since| since + patience);
        awaited.chain(held).chain(self.rebirth.due(now)).min()
    }

    /// Whether the message is the next of the session.
    fn advance(&mut self, seq: Option<u64>, context: &Context<'_>) -> bool {
        let Course::Sound { session, next } = self.course else { return false };
        if seq == Some(next.into()) {
            self.course = Course::Sound { session, next: next.wrapping_add(1) };
            return true;
        }
        context.count(Count::Gaps);
        self.doubt();
        self.rebirth.want();
        false
    }

    fn doubt(&mut self) {
        if let Course::Sound { session, .. } = self.course {
            self.course = Course::Doubt { session };
        }
    }

    fn end_session(&mut self, context: &mut Context<'_>) {
        self.give_up(Of::All, context);
        self.own.forget_aliases();
        self.devices.values_mut().for_each(Device::forget_aliases);
    }

    /// Keeps a message until it can be read, or gives it up where there is no room.
    fn hold(
        &mut self,
        device: Option<&str>,
        payload: Box<[u8]>,
        message: &Message<'_>,
        context: &mut Context<'_>,
    ) {
        let device = device.map(device::shared);
        let is_saved = message.is_acknowledged;
        let raw = Raw { device, payload, read: context.time, since: context.now, is_saved };
        let (hold, bytes) = (context.rules.hold, raw.bytes());
        let is_full = |held: &Held, all: &InAll| {
            held.len() + 1 > hold.messages
                || held.bytes() + bytes > hold.bytes
                || all.bytes + bytes > hold.total
                || (is_saved && all.saved + bytes > MOST_SAVED)
        };
        // Nothing makes room for what is too large by itself.
        let is_too_large = bytes > hold.bytes.min(hold.total) || (is_saved && bytes > MOST_SAVED);
        while is_full(&self.held, context.held) {
            if is_too_large || self.held.len() == 0 {
                return self.give_up_one(&raw, context);
            }
            self.give_up_oldest(context);
        }
        context.count(Count::Held);
        context.held.add(&raw);
        self.held.push(raw);
    }

    /// What is held of the node itself or of a device can be read now.
    fn release(&mut self, name: Option<&str>, context: &mut Context<'_>) {
        for raw in self.taken(Of::Only(name), context) {
            let device = match name {
                None => Some(&mut self.own),
                Some(name) => self.devices.get_mut(name),
            };
            let payload = sparkplug::read(&raw.payload);
            if let (Some(device), Ok(payload)) = (device, payload) {
                device.read_held(&raw, &payload, context);
            }
        }
    }

    /// What is held goes out as stale.
    pub(super) fn give_up(&mut self, of: Of<'_>, context: &mut Context<'_>) {
        for raw in self.taken(of, context) {
            self.give_up_one(&raw, context);
        }
    }

    /// What was held when the agent ended: nobody knows what came in between.
    pub(super) fn restore(&self, saved: &SavedMessage, context: &mut Context<'_>) {
        let raw = Raw {
            device: saved.device.as_deref().map(device::shared),
            payload: saved.payload.as_slice().into(),
            read: Timestamp(saved.read),
            since: context.now,
            is_saved: true,
        };
        self.give_up_one(&raw, context);
    }

    /// What of the held must not be lost by a crash.
    pub(super) fn saved(&self) -> impl Iterator<Item = SavedMessage> {
        self.held.saved().map(|raw| SavedMessage {
            group: self.group.to_string(),
            node: self.name.to_string(),
            device: raw.device.as_deref().map(str::to_owned),
            payload: raw.payload.to_vec(),
            read: raw.read.0,
        })
    }

    fn give_up_oldest(&mut self, context: &mut Context<'_>) {
        let Some(raw) = self.held.pop() else { return };
        context.held.remove(&raw);
        self.give_up_one(&raw, context);
    }

    fn give_up_one(&self, raw: &Raw, context: &mut Context<'_>) {
        let made;
        let ident = match raw.device.as_deref().map(|name| (name, self.devices.get(name))) {
            None => &self.own.ident,
            Some((_, Some(device))) => &device.ident,
            Some((name, None)) => {
                made = ident(context.rules, &self.group, &self.name, Some(name));
                &made
            }
        };
        match sparkplug::read(&raw.payload) {
            Ok(payload) => device::unresolved(ident, raw.read, &payload, context),
            Err(_) => device::unread(ident, raw, context),
        }
    }

    fn taken(&mut self, of: Of<'_>, context: &mut Context<'_>) -> Vec<Raw> {
        let taken = self.held.take(of);
        for raw in &taken {
            context.held.remove(raw);
        }
        taken
    }

    fn make(&mut self, name: &str, context: &Context<'_>) {
        let has_room = self.devices.len() < MOST_DEVICES && context.held.has_room();
        if has_room && !self.devices.contains_key(name) {
            let ident = ident(context.rules, &self.group, &self.name, Some(name));
            self.devices.insert(name.into(), Device::new(ident));
        }
    }
}

/// A template with its placeholders filled in, of which `check` found only these three.
fn name_of(template: &str, group: &str, node: &str, device: &str) -> String {
    let mut name = String::new();
    for part in template.split_inclusive('}') {
        let (text, place) = part.rsplit_once('{').unwrap_or((part, ""));
        name.push_str(text);
        name.push_str(match place {
            "group}" => group,
            "node}" => node,
            "device}" => device,
            other => other,
        });
    }
    name
}

/// Whether a session's number is one of the 127 after another's; they go from 0 to 255.
fn is_later(session: Option<u64>, than: Option<u64>) -> bool {
    let (Some(session), Some(than)) = (session, than) else { return false };
    (1..128).contains(&(session.wrapping_sub(than) % 256))
}

/// What the events of a node or of one of its devices have in common.
fn ident(rules: &Rules, group: &str, node: &str, device: Option<&str>) -> Ident {
    let template = if device.is_some() { &rules.device } else { &rules.node };
    let name = name_of(template, group, node, device.unwrap_or_default());
    let field = |name: &str, value: &str| Field {
        name: name.into(),
        unit: None,
        value: Value::Text(value.into()),
        quality: None,
    };
    let mut place = vec![field("group_id", group), field("edge_node_id", node)];
    place.extend(device.map(|device| field("device_id", device)));
    Ident { flow: rules.flow, device: name.into(), place }
}
