//! The look at the ends of our topics after the position was lost (SAFETY 3):
//! what is looked for, how far, and what was seen. No clock, no broker.
//!
//! # Why every event of a batch must be seen
//!
//! A batch goes whole into one transaction, so that one event of it should stand
//! for all. But not where it was sent at least once, without a transaction; nor
//! where an event of it became a dead letter of a file that is no longer this one
//! (an older image was put back): then the batch still has to bring it. So a batch
//! is deleted only where each of its events was seen in the very topic in which it
//! would be sent, or is a dead letter of this file. A look that ends early or sees
//! too little makes doubles, and never a loss.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::line::Presence;
use crate::buffer::{BatchId, Waiting};
use crate::event::Timestamp;
use crate::flow::{self, Stream};

/// Records that are looked at, over all topics: what a gateway of a hundred events
/// a second sends in a quarter of an hour, and some 30 MB.
const MOST_RECORDS: u64 = 100_000;

/// Bytes of them, where they are large.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// Reading takes so long at most; at 64 kbit/s that is 5 MB.
const LONGEST: Duration = Duration::from_mins(10);

/// How long a topic may give nothing while Kafka answers: open transactions of
/// others hold readers back, for a minute where nobody has changed it.
const PATIENCE: Duration = Duration::from_mins(2);

/// A record's time may be a day before its sending (SAFETY 10); another day is for
/// events of clocks that were ahead when the first of what waits was stored.
const EARLIER: i64 = 2 * 86_400 * 1_000_000_000;

/// How often a long look says how far it is.
const SAID_EACH: Duration = Duration::from_secs(10);

/// What is asked of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) topic: String,
    /// Only what is not older, in milliseconds.
    pub(super) since: Option<i64>,
    /// So many records before its end, in all partitions together.
    pub(super) records: u64,
}

/// Ids that were seen in a topic, as ranges.
#[derive(Debug, Default)]
pub(super) struct Seen(HashMap<Box<str>, BTreeMap<u64, u64>>);

/// How far a topic was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// From before the first that could be ours up to its end.
    Whole,
    /// What was not seen may be there all the same, for this reason.
    Partly(&'static str),
}

/// A topic with what waits for it.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) topic: String,
    pub(super) flows: VecDeque<(flow::Hash, Arc<Stream>)>,
    pub(super) seen: Seen,
    pub(super) verdict: Option<Verdict>,
    /// Batches of its first flow up to this one are judged.
    pub(super) after: BatchId,
    pub(super) doubt: Doubt,
}

/// What of one flow is sent though it may be in Kafka.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Doubt {
    pub(super) events: u64,
    /// The first and the last id.
    pub(super) range: Option<(String, String)>,
}

/// One look: topic after topic is read, and what waits for it is judged.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) targets: VecDeque<Target>,
    /// What was stored later was not sent before the look.
    pub(super) until: BatchId,
    since: Option<i64>,
    /// Records of each topic.
    share: u64,
    reading: Duration,
    idle: Duration,
    said: Duration,
    pub(super) topics: Vec<String>,
    pub(super) records: u64,
    bytes: u64,
    pub(super) batches: u64,
    pub(super) events: u64,
    /// Events that are sent though they may be there.
    pub(super) doubtful: u64,
}

impl Seen {
    /// A record with this id is there. What is no id of ours is passed over.
    pub(super) fn note(&mut self, id: &str) {
        let Some((birth, seq)) = id.rsplit_once('/') else { return };
        let Ok(seq) = seq.parse::<u64>() else { return };
        if !self.0.contains_key(birth) {
            self.0.insert(birth.into(), BTreeMap::new());
        }
        if let Some(ranges) = self.0.get_mut(birth) {
            insert(ranges, seq);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether each event of the batch is there or a dead letter, and at least one
    /// is there.
    pub(super) fn holds(&self, batch: &Waiting) -> bool {
        let Some(birth) = &batch.birth else { return false };
        let Some(ranges) = self.0.get(birth.to_string().as_str()) else { return false };
        let all = batch.first_seq..=batch.last_seq();
        let sent = |seq: &u64| !batch.buried.contains(seq);
        all.clone().any(|seq| sent(&seq)) && all.filter(sent).all(|seq| contains(ranges, seq))
    }
}

fn contains(ranges: &BTreeMap<u64, u64>, seq: u64) -> bool {
    ranges.range(..=seq).next_back().is_some_and(|(_, last)| seq <= *last)
}

fn insert(ranges: &mut BTreeMap<u64, u64>, seq: u64) {
    let before = ranges.range(..=seq).next_back().map(|(first, last)| (*first, *last));
    let (mut first, mut last) = (seq, seq);
    match before {
        Some((_, end)) if seq <= end => return,
        Some((begin, end)) if end + 1 == seq => first = begin,
        _ => {}
    }
    if let Some(end) = seq.checked_add(1).and_then(|next| ranges.remove(&next)) {
        last = end;
    }
    ranges.insert(first, last);
}

impl Doubt {
    /// This batch is sent though it may be there.
    fn note(&mut self, batch: &Waiting) {
        self.events += u64::from(batch.count);
        let Some(birth) = &batch.birth else { return };
        let (first, last) =
            (format!("{birth}/{}", batch.first_seq), format!("{birth}/{}", batch.last_seq()));
        let begin = self.range.take().map_or(first, |(begin, _)| begin);
        self.range = Some((begin, last));
    }
}

impl Target {
    /// Which of these batches are in Kafka; the others are sent.
    pub(super) fn judge(&mut self, waiting: &[Waiting]) -> Vec<BatchId> {
        let mut there = Vec::new();
        for batch in waiting {
            if self.seen.holds(batch) {
                there.push(batch.id);
            } else if self.verdict != Some(Verdict::Whole) {
                self.doubt.note(batch);
            }
            self.after = batch.id;
        }
        there
    }

    /// Nothing of what waits is there for sure.
    pub(super) fn is_clear(&self) -> bool {
        self.seen.is_empty() && self.verdict == Some(Verdict::Whole)
    }

    /// Goes on with the next flow; gives the one that is done, with its doubt.
    pub(super) fn next_flow(&mut self) -> Option<(Arc<Stream>, Doubt)> {
        self.after = BatchId(0);
        let (_, stream) = self.flows.pop_front()?;
        Some((stream, std::mem::take(&mut self.doubt)))
    }
}

impl Look {
    /// For these flows, the oldest events of which have these times.
    pub(super) fn new(
        flows: Vec<(flow::Hash, Arc<Stream>, Timestamp)>,
        until: BatchId,
        now: Timestamp,
    ) -> Self {
        let mut targets: VecDeque<Target> = VecDeque::new();
        let oldest = flows.iter().map(|(.., oldest)| *oldest).min();
        for (hash, stream, _) in flows {
            let known = targets.iter_mut().find(|target| target.topic == stream.topic);
            match known {
                Some(target) => target.flows.push_back((hash, stream)),
                None => targets.push_back(Target {
                    topic: stream.topic.clone(),
                    flows: VecDeque::from([(hash, stream)]),
                    seen: Seen::default(),
                    verdict: None,
                    after: BatchId(0),
                    doubt: Doubt::default(),
                }),
            }
        }
        Self {
            share: MOST_RECORDS / (targets.len() as u64).max(1),
            targets,
            until,
            since: oldest.and_then(|oldest| since(oldest, now)),
            reading: Duration::ZERO,
            idle: Duration::ZERO,
            said: Duration::ZERO,
            topics: Vec::new(),
            records: 0,
            bytes: 0,
            batches: 0,
            events: 0,
            doubtful: 0,
        }
    }

    pub(super) fn wanted(&self, topic: &str) -> Wanted {
        Wanted { topic: topic.to_owned(), since: self.since, records: self.share.max(1) }
    }

    /// A record of so many bytes was read, with this id if it has one.
    pub(super) fn note(&mut self, id: Option<&str>, bytes: usize) {
        self.records += 1;
        self.bytes += bytes as u64;
        if let (Some(id), Some(target)) = (id, self.targets.front_mut()) {
            target.seen.note(id);
        }
    }

    /// So much time went by; whether something was read in it. Why the topic is
    /// read no further, if that is so.
    pub(super) fn passed(&mut self, took: Duration, news: bool) -> Option<&'static str> {
        if news {
            self.idle = Duration::ZERO;
            self.reading += took;
        } else {
            self.idle += took;
        }
        self.spent().or_else(|| (self.idle >= PATIENCE).then_some("it cannot be read to its end"))
    }

    /// Why nothing more is read in any topic, if that is so.
    pub(super) fn spent(&self) -> Option<&'static str> {
        if self.bytes >= MOST_BYTES {
            return Some("more bytes stand there than are read");
        }
        (self.reading >= LONGEST).then_some("reading takes too long")
    }

    /// The line is broken: time that passes says nothing about the topic.
    pub(super) fn cut(&mut self) {
        self.idle = Duration::ZERO;
    }

    /// Whether it has read for so long since it last said so.
    pub(super) fn is_due_to_tell(&mut self) -> bool {
        let due = self.reading.saturating_sub(self.said) >= SAID_EACH;
        if due {
            self.said = self.reading;
        }
        due
    }

    /// The topic in hand is read no further.
    pub(super) fn ended(&mut self, verdict: Verdict) {
        self.idle = Duration::ZERO;
        if let Some(target) = self.targets.front_mut() {
            self.topics.push(target.topic.clone());
            target.verdict = Some(verdict);
        }
    }
}

/// Why a topic that is not there, or not for us, cannot be looked at.
pub(super) const fn closed(presence: Presence) -> &'static str {
    match presence {
        Presence::Forbidden => {
            "the broker does not let this gateway read it (kafka-acls.sh --add … --operation Read)"
        }
        Presence::There | Presence::Missing => "it is missing",
    }
}

/// No record of what waits has an earlier time, in milliseconds. None where the
/// clock that gave the time cannot be believed.
fn since(oldest: Timestamp, now: Timestamp) -> Option<i64> {
    let since = oldest.0.checked_sub(EARLIER)?;
    (oldest <= now && since > 0).then_some(since / 1_000_000)
}

#[cfg(test)]
#[path = "tails_tests.rs"]
mod tests;
