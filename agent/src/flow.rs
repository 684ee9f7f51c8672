//! Streams, lanes and flows: where an event goes and in which order.
//!
//! A stream is a named flow of events with one schema: exactly one Kafka topic
//! and one table. A lane is a class of priority. A flow is the events of one
//! stream in one lane: the unit of order, of batches and of positions.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::units::Percent;

/// A class of priority, drained in this order.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// Committed at once, sent first.
    Alarm,
    #[default]
    Live,
    /// Backfill and whatever can wait.
    Bulk,
}

impl Lane {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alarm => "alarm",
            Self::Live => "live",
            Self::Bulk => "bulk",
        }
    }
}

/// What identifies a flow in the file and in Kafka: a hash (32 bits of
/// xxh3-64, low half) of `<stream>\n<lane>`; stable over restarts and files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub u32);

impl Hash {
    pub fn of(stream: &str, lane: Lane) -> Self {
        let text = format!("{stream}\n{}", lane.as_str());
        #[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
        let low = twox_hash::XxHash3_64::oneshot(text.as_bytes()) as u32;
        Self(low)
    }
}

/// Index of a flow in this process's [`Flows`]; it never reaches the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub u16);

/// One flow of the running configuration.
#[derive(Debug, Clone)]
pub struct Flow {
    pub stream: Arc<Stream>,
    pub lane: Lane,
    pub hash: Hash,
    /// Its stream's share of the file.
    pub share: Percent,
    /// What its stream says about a full file.
    when_full: Option<WhenFull>,
    /// A source that feeds it can wait until there is room.
    can_wait: bool,
    /// A source of the running configuration feeds it.
    is_fed: bool,
}

impl Flow {
    /// What happens when the file is full. Without a word of the stream's:
    /// sources that can wait do, what was polled gives way, and alarms are never
    /// dropped.
    pub fn when_full(&self) -> WhenFull {
        let by_default = if self.can_wait || self.lane == Lane::Alarm {
            WhenFull::Block
        } else {
            WhenFull::DropOldest
        };
        self.when_full.unwrap_or(by_default)
    }
}

/// A stream's definition, as it is also kept in the file until its last batch
/// has left it, so that no reload strands a backlog (SAFETY 14).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    pub name: String,
    pub topic: String,
    /// How to make the topic where it is missing; `None`: never.
    pub create: Option<Create>,
}

/// How the agent makes a missing topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// Number of partitions, at least 1. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub partitions: i32,
    /// Number of replicas; -1 takes the broker's default. Default: -1.
    #[serde(default = "broker_default")]
    #[schemars(range(min = -1, max = 32767))]
    pub replication: i32,
    /// Topic settings, for instance `"retention.ms" = "604800000"`.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
}

impl Default for Create {
    fn default() -> Self {
        Self { partitions: one(), replication: broker_default(), config: BTreeMap::new() }
    }
}

const fn one() -> i32 {
    1
}
const fn broker_default() -> i32 {
    -1
}

/// What happens to the events of a stream when the file, or the stream's share
/// of it, is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// The sources wait.
    Block,
    /// The oldest stored events go, bulk before live.
    DropOldest,
    /// What comes is not stored.
    DropNewest,
}

/// A stream's definition with what the running configuration alone says of it:
/// this part is not kept in the file.
#[derive(Debug, Clone)]
pub struct Rules {
    pub stream: Stream,
    /// Lane of the sources that name none.
    pub lane: Lane,
    /// `None`: as its sources can wait or not.
    pub when_full: Option<WhenFull>,
    /// Part of the file's size that its events may take.
    pub share: Percent,
}

impl From<Stream> for Rules {
    fn from(stream: Stream) -> Self {
        Self { stream, lane: Lane::default(), when_full: None, share: Percent::ALL }
    }
}

/// Flows that a process may have had in all its configurations, 200 at a time.
const MOST_FLOWS: usize = 60_000;

/// All flows of the running configuration. A flow is made when a source asks
/// for it at start, so that the hot path only carries its [`Id`].
#[derive(Debug, Clone, Default)]
pub struct Flows {
    streams: BTreeMap<String, (Arc<Stream>, Rules)>,
    all: Vec<Flow>,
    /// Asked for since [`Flows::take_asked`].
    asked: Vec<Id>,
}

impl Flows {
    /// `streams` are the defined ones; another name becomes a stream whose
    /// topic has the stream's name and is never created by the agent.
    pub fn new<S: Into<Rules>>(streams: impl IntoIterator<Item = S>) -> Self {
        let known = streams.into_iter().map(|rules| {
            let rules: Rules = rules.into();
            (rules.stream.name.clone(), (Arc::new(rules.stream.clone()), rules))
        });
        Self { streams: known.collect(), all: Vec::new(), asked: Vec::new() }
    }

    /// Those of another configuration, in the place of these: a flow of both keeps
    /// its [`Id`], and one that no source asks for any more is there for its id
    /// alone.
    #[must_use]
    pub fn renewed<S: Into<Rules>>(&self, streams: impl IntoIterator<Item = S>) -> Self {
        let unfed = |flow: &Flow| Flow { is_fed: false, can_wait: false, ..flow.clone() };
        Self { all: self.all.iter().map(unfed).collect(), ..Self::new(streams) }
    }

    /// The flows that were asked for since the last call.
    pub fn take_asked(&mut self) -> Vec<Id> {
        std::mem::take(&mut self.asked)
    }

    /// The flow of this stream and lane, made on first use, of a source that
    /// can wait while the file is full. Without a lane it is the stream's.
    pub fn id(&mut self, stream: &str, lane: impl Into<Option<Lane>>) -> Id {
        self.make(stream, lane.into(), true)
    }

    /// The same of a source that reads what is there only now: while it waits,
    /// the newest is lost.
    pub fn polled(&mut self, stream: &str, lane: impl Into<Option<Lane>>) -> Id {
        self.make(stream, lane.into(), false)
    }

    fn make(&mut self, stream: &str, lane: Option<Lane>, can_wait: bool) -> Id {
        let (definition, rules) = self.streams.entry(stream.to_owned()).or_insert_with(|| {
            let name = stream.to_owned();
            let definition = Stream { name: name.clone(), topic: name, create: None };
            (Arc::new(definition.clone()), definition.into())
        });
        let lane = lane.unwrap_or(rules.lane);
        let known = self.all.iter().position(|f| f.stream.name == stream && f.lane == lane);
        let index = known.unwrap_or(self.all.len());
        let can_wait = can_wait || self.all.get(index).is_some_and(|flow| flow.can_wait);
        let flow = Flow {
            stream: Arc::clone(definition),
            lane,
            hash: Hash::of(stream, lane),
            share: rules.share,
            when_full: rules.when_full,
            can_wait,
            is_fed: true,
        };
        match self.all.get_mut(index) {
            Some(known) => *known = flow,
            None => self.all.push(flow),
        }
        let id = Self::id_of(index);
        self.asked.push(id);
        id
    }

    /// `check` refuses more than 200 flows; a reload adds those of its new names.
    fn id_of(index: usize) -> Id {
        Id(u16::try_from(index).expect("reloads are refused long before"))
    }

    /// Whether another configuration may be taken over: names that came and went
    /// are kept for their ids.
    pub const fn is_worn(&self) -> bool {
        self.all.len() > MOST_FLOWS
    }

    /// What the configuration says of each stream that it defines or uses.
    pub fn rules(&self) -> impl Iterator<Item = &Rules> {
        self.streams.values().map(|(_, rules)| rules)
    }

    /// The definition of a stream that the configuration defines or uses.
    pub fn stream(&self, name: &str) -> Option<&Arc<Stream>> {
        self.streams.get(name).map(|(definition, _)| definition)
    }

    pub fn get(&self, id: Id) -> &Flow {
        self.all.get(usize::from(id.0)).expect("ids are only made by `id`")
    }

    /// The flows that the running configuration feeds.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &Flow)> {
        let known = self.all.iter().enumerate().filter(|(_, flow)| flow.is_fed);
        known.map(|(index, flow)| (Self::id_of(index), flow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_wait_waits_what_is_polled_gives_way_and_alarms_stay() {
        let mut flows = Flows::default();
        let live = flows.polled("plant", None);
        assert_eq!(flows.get(live).when_full(), WhenFull::DropOldest);
        let alarm = flows.polled("plant", Lane::Alarm);
        assert_eq!(flows.get(alarm).when_full(), WhenFull::Block);
        assert_eq!(flows.id("plant", Lane::Live), live);
        assert_eq!(flows.get(live).when_full(), WhenFull::Block, "one of its sources can wait");
    }

    #[test]
    fn a_flow_of_both_configurations_keeps_its_id_and_follows_its_stream() {
        let stream =
            |topic: &str| Stream { name: "plant".into(), topic: topic.into(), create: None };
        let mut old = Flows::new([stream("before")]);
        let (gone, plant) = (old.id("gone", None), old.id("plant", None));
        let mut renewed = old.renewed([stream("after")]);
        assert!(renewed.iter().next().is_none(), "nobody asked for one yet");
        assert_eq!(renewed.polled("plant", None), plant);
        let new = renewed.id("new", None);
        assert_eq!(renewed.take_asked(), [plant, new]);
        assert!(new > plant && plant > gone);
        let fed: Vec<&str> = renewed.iter().map(|(_, flow)| &*flow.stream.name).collect();
        assert_eq!(fed, ["plant", "new"]);
        assert_eq!(renewed.get(plant).stream.topic, "after");
        assert_eq!(renewed.get(plant).when_full(), WhenFull::DropOldest, "it is only polled now");
        assert_eq!(renewed.get(gone).stream.name, "gone", "what was handed over still finds it");
    }

    #[test]
    fn what_a_stream_says_goes_before_its_sources_and_their_lane_before_its_own() {
        let stream = Stream { name: "plant".into(), topic: "plant".into(), create: None };
        let rules = Rules {
            lane: Lane::Bulk,
            when_full: Some(WhenFull::DropNewest),
            share: Percent::new(40),
            ..stream.into()
        };
        let mut flows = Flows::new([rules]);
        let (bulk, live) = (flows.id("plant", None), flows.id("plant", Lane::Live));
        let lanes = [bulk, live].map(|id| flows.get(id).lane);
        assert_eq!(lanes, [Lane::Bulk, Lane::Live]);
        assert_eq!(flows.get(live).when_full(), WhenFull::DropNewest);
        assert_eq!(flows.get(live).share, Percent::new(40));
    }
}
