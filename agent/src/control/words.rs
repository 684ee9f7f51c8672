//! The answers, as they stand on the socket and as `--json` prints them.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// A line that is answered: one of the two is there.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Answer {
    #[serde(default, deserialize_with = "there", skip_serializing_if = "Option::is_none")]
    pub ok: Option<Box<RawValue>>,
    /// Why not, and what to do, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What is there is an answer, `null` too: that of a request that has nothing to tell.
fn there<'de, D: Deserializer<'de>>(answer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Deserialize::deserialize(answer).map(Some)
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Letters {
    /// Newest first.
    pub letters: Vec<Letter>,
    /// All that the file has.
    pub total: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    pub id: i64,
    /// RFC 3339, UTC.
    pub at: String,
    /// Where it came from: an event's id and topic, or a source's own words.
    pub origin: String,
    pub reason: String,
    /// Bytes of the whole payload.
    pub length: u64,
    /// The stream of the event in it; null where it holds none and so cannot
    /// be sent again.
    pub stream: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct WholeLetter {
    pub letter: Letter,
    /// What is kept of the payload, where it is text.
    pub text: Option<String>,
    /// The same as base64, where it is not.
    pub base64: Option<String>,
    /// The event that is sent again, as its record.
    pub event: Option<Box<RawValue>>,
}

/// What became of dead letters that were to be sent again or taken away.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Moved {
    pub done: u64,
    pub skipped: Vec<Skipped>,
    /// Dead letters that the file has now.
    pub left: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Skipped {
    pub id: i64,
    pub why: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Stats {
    /// Pid of the agent that answers; null where none runs.
    pub pid: Option<u32>,
    pub file: File,
    /// One for each stream and lane.
    pub flows: Vec<Flow>,
    /// Oldest first.
    pub epochs: Vec<Run>,
    /// What was last known to be committed in Kafka.
    pub position: Option<Position>,
    pub dead_letters: DeadLetters,
    /// What rules of the configuration have dropped since the file was made.
    pub dropped: Vec<Dropped>,
    /// What was counted, by its name. More names may come.
    pub counters: std::collections::BTreeMap<String, u64>,
    pub sources: Vec<Source>,
    pub forward: Option<Forward>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct File {
    pub bytes: u64,
    pub wal_bytes: u64,
    /// Events that are in memory and not in the file, and their bytes.
    #[serde(default)]
    pub in_memory_events: u64,
    #[serde(default)]
    pub in_memory_bytes: u64,
    /// The sources wait: it is full.
    pub held_back: bool,
    /// Why it cannot be written.
    pub failing: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Flow {
    pub stream: Option<String>,
    pub topic: Option<String>,
    pub lane: String,
    pub batches: u64,
    pub events: u64,
    /// What they take of the file, as the stream's `share` counts it.
    pub bytes: u64,
    pub oldest: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    pub epoch: String,
    pub gateway: String,
    pub batches: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Position {
    pub cluster: String,
    pub flows: Vec<Sent>,
}

/// How far a flow is sent.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sent {
    /// Null where nothing of it waits and its name is forgotten.
    pub stream: Option<String>,
    pub flow: String,
    pub epoch: String,
    pub number: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct DeadLetters {
    pub letters: u64,
    pub bytes: u64,
    /// Those that made room for newer ones.
    pub dropped: u64,
}

/// What was dropped of one stream for one reason.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    pub stream: String,
    /// `size`, `share`, `disk`, `age` or `newest`.
    pub reason: String,
    pub events: u64,
    pub bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Source {
    pub name: String,
    pub up: bool,
    /// Subject → what is wrong; the connection's own has the empty subject.
    pub faults: std::collections::BTreeMap<String, String>,
    /// The devices behind it, by name, as far as it is known how they stand.
    #[serde(default)]
    pub devices: std::collections::BTreeMap<String, Device>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// `up`, `degraded` or `down`.
    pub state: String,
    /// Why it is not up.
    pub reason: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Forward {
    pub state: String,
    pub delivered_events: u64,
    pub last_error: Option<String>,
    /// Streams whose topics do not take their events: those are kept.
    #[serde(default)]
    pub aside: Vec<Aside>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Aside {
    pub stream: String,
    pub topic: String,
    /// Why, and what would help.
    pub cause: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Peek {
    pub events: Vec<Peeked>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Peeked {
    pub stream: String,
    pub lane: String,
    /// As its record in Kafka will be.
    pub event: Box<RawValue>,
}

/// What an import did.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Imported {
    /// Batches that were taken in.
    pub batches: u64,
    /// Those that this buffer took in before, or wrote itself.
    pub skipped: u64,
    /// Why the first of them was skipped.
    pub why: Option<String>,
    /// Dead letters of that file: they stay there.
    pub dead_letters: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Draining {
    /// What is to be sent.
    pub events: u64,
}
