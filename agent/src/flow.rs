//! Streams, lanes and flows: where an event goes and in which order.
//!
//! A stream is a named flow of events with one schema: exactly one Kafka topic
//! and one table. A lane is a class of priority. A flow is the events of one
//! stream in one lane: the unit of order, of batches and of positions.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

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

const fn one() -> i32 {
    1
}
const fn broker_default() -> i32 {
    -1
}

/// All flows of the running configuration. A flow is made when a source asks
/// for it at start, so that the hot path only carries its [`Id`].
#[derive(Debug, Clone, Default)]
pub struct Flows {
    streams: BTreeMap<String, Arc<Stream>>,
    flows: Vec<Flow>,
}

impl Flows {
    /// `streams` are the defined ones; another name becomes a stream whose
    /// topic has the stream's name and is never created by the agent.
    pub fn new(streams: impl IntoIterator<Item = Stream>) -> Self {
        Self {
            streams: streams.into_iter().map(|s| (s.name.clone(), Arc::new(s))).collect(),
            flows: Vec::new(),
        }
    }

    /// The flow of this stream and lane, made on first use.
    pub fn id(&mut self, stream: &str, lane: Lane) -> Id {
        let known = self.flows.iter().position(|f| f.stream.name == stream && f.lane == lane);
        let index = known.unwrap_or_else(|| {
            let definition = self.streams.entry(stream.to_owned()).or_insert_with(|| {
                Arc::new(Stream { name: stream.to_owned(), topic: stream.to_owned(), create: None })
            });
            let hash = Hash::of(stream, lane);
            self.flows.push(Flow { stream: Arc::clone(definition), lane, hash });
            self.flows.len() - 1
        });
        Id(u16::try_from(index).expect("check refuses more than 200 flows"))
    }

    /// The definition of a stream that the configuration defines or uses.
    pub fn stream(&self, name: &str) -> Option<&Arc<Stream>> {
        self.streams.get(name)
    }

    pub fn get(&self, id: Id) -> &Flow {
        self.flows.get(usize::from(id.0)).expect("ids are only made by `id`")
    }

    pub fn iter(&self) -> impl Iterator<Item = (Id, &Flow)> {
        self.flows.iter().enumerate().map(|(index, flow)| {
            (Id(u16::try_from(index).expect("check refuses more than 200 flows")), flow)
        })
    }
}
