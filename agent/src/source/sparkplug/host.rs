//! A Sparkplug host: all edge nodes that it hears, and what it says itself. No socket; the
//! time is given.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message as _;
use tokio::time::Instant;
use twox_hash::XxHash3_64;

use super::config::Config;
use super::context::{Context, Found, Hold, InAll, Rules};
use super::counts::{Count, Counts};
use super::held::{Of, Saved};
use super::node::{Message, Node};
use super::state::State;
use super::topic::{self, Kind, Topic};
use super::{Outgoing, rebirth};
use crate::decode::sparkplug::{self, proto::Payload};
use crate::event::{Event, Timestamp};
use crate::flow::Flows;
use crate::source::mqtt::config::Qos;
use crate::supervise::Link;

/// Edge nodes that are known at once: whoever may publish can name as many as he likes.
const MOST_NODES: usize = 10_000;

/// Bytes that are known of all of them: what their births said, and last values.
const MOST_KNOWN: usize = 64 * 1_024 * 1_024;

#[derive(Debug)]
pub(crate) struct Host {
    rules: Rules,
    asks: bool,
    state: State,
    nodes: BTreeMap<String, Node>,
    held: InAll,
    found: Found,
    out: Vec<Outgoing>,
    counts: Arc<Counts>,
    /// When [`Host::tick`] has something to do.
    next: Option<Instant>,
}

/// A message as it was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrived<'a> {
    pub(crate) topic: &'a [u8],
    pub(crate) payload: &'a [u8],
    pub(crate) retained: bool,
    pub(crate) qos: u8,
    pub(crate) now: Instant,
    pub(crate) time: Timestamp,
}

impl Host {
    pub(crate) fn new(config: &Config, flows: &mut Flows) -> Self {
        let stream = config.stream.as_ref().unwrap_or(&config.name);
        let size =
            |bytes: crate::units::ByteSize| usize::try_from(bytes.get()).unwrap_or(usize::MAX);
        let hold = Hold {
            messages: usize::try_from(config.hold.messages).unwrap_or(usize::MAX),
            bytes: size(config.hold.bytes),
            total: size(config.hold.total_bytes),
            time: config.hold.time.get(),
        };
        Self {
            rules: Rules {
                flow: flows.polled(stream, config.lane),
                node: config.node.clone(),
                device: config.device.clone(),
                metrics: config.metrics.clone(),
                interval: config.rebirth_interval.get(),
                hold,
            },
            asks: config.request_rebirth,
            state: State::new(config.host_id.as_deref()),
            nodes: BTreeMap::new(),
            held: InAll::of(MOST_KNOWN),
            found: Found::default(),
            out: Vec::new(),
            counts: Arc::default(),
            next: None,
        }
    }

    /// Gives out what a crash left in the checkpoint. What cannot be read of it is nothing
    /// that anybody wrote.
    pub(crate) fn restore(&mut self, saved: &[u8], now: Instant, time: Timestamp) {
        let Ok(saved) = Saved::decode(saved) else { return };
        let Self { rules, found, counts, held, .. } = self;
        let mut context = Context { rules, now, time, found, counts, held };
        for message in &saved.messages {
            let node = Node::new(&message.group, &message.node, context.rules, now);
            node.restore(message, &mut context);
        }
    }

    /// What a crash must not lose: what is held and acknowledged. Empty for nothing.
    pub(crate) fn checkpoint(&self) -> Vec<u8> {
        if self.held.saved == 0 {
            return Vec::new();
        }
        let messages = self.nodes.values().flat_map(Node::saved).collect();
        Saved { messages }.encode_to_vec()
    }

    pub(crate) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Somebody looks at it alone: another one is the primary host.
    pub(crate) fn tap(&mut self) {
        self.state = State::new(None);
    }

    /// Takes a message; what becomes of it is there for [`Host::take_events`]. An error is
    /// why it is a dead letter.
    pub(crate) fn take(&mut self, message: Arrived<'_>) -> Result<(), String> {
        let text = std::str::from_utf8(message.topic).map_err(|_| "topic is no text".to_owned())?;
        if self.state.is_own(text) {
            let answer = self.state.heard(message.payload, message.retained);
            self.out.extend(answer);
            return Ok(());
        }
        let Some(topic) = topic::parse(text) else {
            return Err("topic is not one of an edge node of Sparkplug".to_owned());
        };
        let name = format!("{}/{}", topic.group, topic.node);
        let now = message.now;
        let result = if message.retained {
            // What a broker keeps may be of a session that is long over.
            self.counts.add(Count::Passed);
            self.ask_new(&name, topic, message);
            Ok(())
        } else {
            self.hear(&name, topic, message)
        };
        self.look_at(&name, now);
        result
    }

    /// A message was too large to be taken: a birth that is not known.
    pub(crate) fn cut(&mut self, topic: &[u8], retained: bool, now: Instant) {
        let Some(topic) = std::str::from_utf8(topic).ok().and_then(topic::parse) else { return };
        let name = format!("{}/{}", topic.group, topic.node);
        let Some(node) = self.nodes.get_mut(&name).filter(|_| !retained) else { return };
        node.unreadable(matches!(topic.kind, Kind::NodeBirth | Kind::DeviceBirth));
        self.look_at(&name, now);
    }

    fn hear(&mut self, name: &str, topic: Topic<'_>, message: Arrived<'_>) -> Result<(), String> {
        let payload = match sparkplug::read(message.payload) {
            Ok(payload) => payload,
            Err(error) => {
                let is_birth = matches!(topic.kind, Kind::NodeBirth | Kind::DeviceBirth);
                self.nodes.get_mut(name).into_iter().for_each(|node| node.unreadable(is_birth));
                return Err(error.to_string());
            }
        };
        let is_new = !self.nodes.contains_key(name);
        let is_birth = matches!(topic.kind, Kind::NodeBirth | Kind::DeviceBirth);
        if (is_new || is_birth) && !self.make_room(name, is_new, message) {
            self.nodes.get_mut(name).into_iter().for_each(|node| node.unreadable(true));
            return Err(format!(
                "more than {MOST_NODES} edge nodes, or {} MiB of what they are: name `groups`",
                MOST_KNOWN / 1_024 / 1_024
            ));
        }
        if is_new {
            self.insert(name, topic, message.now);
        }
        let Self { rules, nodes, held, found, counts, .. } = self;
        let (now, time) = (message.now, message.time);
        let mut context = Context { rules, now, time, found, counts, held };
        let Some(node) = nodes.get_mut(name) else { return Ok(()) };
        let before = node.known_of(topic.device);
        node.heard = now;
        let result = to_node(node, topic, payload, message, &mut context);
        let memory = node.memory + node.known_of(topic.device) - before;
        held.known = held.known + memory - node.memory;
        node.memory = memory;
        result
    }

    /// Of a node that nobody has heard a birth is asked for, if there is room for it.
    fn ask_new(&mut self, name: &str, topic: Topic<'_>, message: Arrived<'_>) {
        let is_full = self.nodes.len() >= MOST_NODES || !self.held.has_room();
        if is_full || self.nodes.contains_key(name) || sparkplug::read(message.payload).is_err() {
            return;
        }
        self.insert(name, topic, message.now).rebirth.want();
    }

    fn insert(&mut self, name: &str, topic: Topic<'_>, now: Instant) -> &mut Node {
        let node = Node::new(topic.group, topic.node, &self.rules, now);
        self.held.known += node.memory;
        self.nodes.entry(name.to_owned()).or_insert(node)
    }

    /// Whether there is room for what a message says of a node. Of the others, the dead and
    /// those without a birth go for it, who was silent the longest first.
    fn make_room(&mut self, name: &str, is_new: bool, message: Arrived<'_>) -> bool {
        while (is_new && self.nodes.len() >= MOST_NODES) || !self.held.has_room() {
            let others = self.nodes.iter().filter(|(other, node)| *other != name && node.is_gone());
            let Some((silent, _)) = others.min_by_key(|(_, node)| node.heard) else { return false };
            let silent = silent.clone();
            self.forget(&silent, message);
        }
        true
    }

    fn forget(&mut self, name: &str, message: Arrived<'_>) {
        let Some(mut node) = self.nodes.remove(name) else { return };
        let Self { rules, held, found, counts, .. } = self;
        let (now, time) = (message.now, message.time);
        let mut context = Context { rules, now, time, found, counts, held };
        node.give_up(Of::All, &mut context);
        held.known = held.known.saturating_sub(node.memory);
        found.gone.extend(node.names());
    }

    /// A node may have something to do at another time now, or at once.
    fn look_at(&mut self, name: &str, now: Instant) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        if !self.asks {
            // Else it would be due at once, with a look at all nodes for each message.
            node.rebirth.settle();
        }
        let due = node.due(now, self.rules.hold.time);
        self.next = [self.next, due].into_iter().flatten().min();
    }

    /// When it has something to do by itself.
    pub(crate) const fn due(&self) -> Option<Instant> {
        self.next
    }

    /// Time has passed: what has waited too long goes out, nodes are asked.
    pub(crate) fn tick(&mut self, now: Instant, time: Timestamp) {
        if self.next.is_none_or(|due| due > now) {
            return;
        }
        let Self { rules, nodes, held, found, counts, out, .. } = self;
        let mut context = Context { rules, now, time, found, counts, held };
        let mut next = None;
        for (name, node) in nodes {
            node.tick(&mut context);
            if !self.asks {
                node.rebirth.settle();
            } else if node.rebirth.take(now, rules.interval, name) {
                context.count(Count::Rebirths);
                let topic = node.command_topic();
                out.push(Outgoing {
                    topic,
                    payload: rebirth::command(time),
                    qos: Qos::AtMostOnce,
                    retain: false,
                });
            }
            next = [next, node.due(now, rules.hold.time)].into_iter().flatten().min();
        }
        self.next = next;
    }

    /// The login begins: the will that the broker is to publish when we are gone.
    pub(crate) fn log_in(&mut self, time: Timestamp) -> Option<Outgoing> {
        self.state.log_in(time)
    }

    /// The connection stands and all is subscribed.
    pub(crate) fn connected(&mut self, now: Instant) {
        self.out.extend(self.state.online());
        let wanted = self.nodes.values_mut().filter(|node| node.rebirth.is_wanted());
        for (node, nth) in wanted.zip(0..) {
            node.rebirth.not_before(now + rebirth::APART * nth);
        }
        self.next = Some(now);
    }

    /// The connection is lost.
    pub(crate) fn lost(&mut self, now: Instant, time: Timestamp) {
        self.out.clear();
        self.each(now, time, Node::lost);
        self.next = Some(now);
    }

    /// The agent leaves: nothing stays in memory.
    pub(crate) fn leave(&mut self, now: Instant, time: Timestamp) {
        self.each(now, time, |node, context| node.give_up(Of::All, context));
        self.out.clear();
        self.out.extend(self.state.offline(time));
    }

    fn each(
        &mut self,
        now: Instant,
        time: Timestamp,
        mut turn: impl FnMut(&mut Node, &mut Context<'_>),
    ) {
        let Self { rules, nodes, held, found, counts, .. } = self;
        let mut context = Context { rules, now, time, found, counts, held };
        for node in nodes.values_mut() {
            turn(node, &mut context);
        }
    }

    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.found.events)
    }

    pub(crate) fn take_packets(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.out)
    }

    /// Tells how devices stand.
    pub(crate) fn tell(&mut self, link: &mut Link) {
        for (device, standing, why) in self.found.standings.drain(..) {
            link.device(&device, standing, &why);
        }
        for device in self.found.gone.drain(..) {
            link.forget(&device);
        }
    }
}

fn to_node(
    node: &mut Node,
    topic: Topic<'_>,
    payload: Payload,
    arrived: Arrived<'_>,
    context: &mut Context<'_>,
) -> Result<(), String> {
    let message = Message {
        device: topic.device,
        bytes: arrived.payload,
        payload,
        hash: XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(arrived.topic), arrived.payload),
        is_acknowledged: arrived.qos > 0,
    };
    if topic.kind != Kind::NodeDeath && node.is_known(&message) {
        context.count(Count::Passed);
        return Ok(());
    }
    match topic.kind {
        Kind::NodeBirth => node.born(&message, context),
        Kind::NodeDeath => node.died(&message, context),
        Kind::NodeData | Kind::DeviceData => node.data(&message, context),
        Kind::DeviceBirth => return node.device_born(&message, context),
        Kind::DeviceDeath => node.device_died(&message, context),
    }
    Ok(())
}
