//! Which flows may be sent, in which order, and which stand aside (SAFETY 7).
//!
//! A flow enters a shared transaction only when its topic was seen in fresh
//! metadata. One whose topic is missing or refused stands aside with a
//! back-off; when it comes back it is tried in a transaction of its own, so
//! that it can spoil no other's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Aside;
use crate::buffer::BatchId;
use crate::flow::{self, Lane, Stream};

/// First time that a flow stands aside; it doubles up to [`LONGEST_ASIDE`].
const FIRST_ASIDE: Duration = Duration::from_secs(2);

/// Somebody who made the topic by hand waits no longer than this.
const LONGEST_ASIDE: Duration = Duration::from_mins(1);

/// A topic that was just made shows itself to most brokers within this.
const APPEARS: Duration = Duration::from_millis(200);

/// How often a topic that was made is looked for before it counts as missing.
const MOST_LOOKS: u32 = 25;

/// Of so many loads, one takes bulk before live: what can wait must not wait for
/// ever behind a stream that fills each load. Alarms go before both.
const BULK_TURN: u64 = 8;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its topic has not been looked for yet.
    Unknown,
    Ready,
    /// Looked for again at this time.
    Aside {
        until: Instant,
    },
    /// Came back: goes alone until a transaction with it was committed.
    Trial,
}

#[derive(Debug)]
pub(super) struct Topic {
    pub(super) standing: Standing,
    times_aside: u32,
    /// Why it stands aside, in words.
    cause: String,
    /// How often it was looked for since it was made.
    looks: u32,
    /// Records in one request at most, learned by sifting.
    pub(super) chunk: Option<usize>,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) hash: flow::Hash,
    lane: Lane,
    pub(super) stream: Arc<Stream>,
    /// Something of it waits in the file or in memory.
    stored: bool,
    /// Last batch that is committed in Kafka.
    sent: BatchId,
    /// Last batch that was put into a load.
    pub(super) loaded: BatchId,
    /// Bytes that each event of the last batch became; 0 before the first.
    pub(super) each: usize,
    /// What comes next of it is a backlog, and was seen to be too much for now.
    pub(super) slowed: bool,
    /// When it last came first, so that flows of one lane take turns.
    turn: u64,
}

#[derive(Debug, Default)]
pub(super) struct Lineup {
    entries: Vec<Entry>,
    topics: BTreeMap<String, Topic>,
    turns: u64,
    /// Loads that were put in order.
    orders: u64,
}

impl Topic {
    const fn new() -> Self {
        Self {
            standing: Standing::Unknown,
            times_aside: 0,
            cause: String::new(),
            looks: 0,
            chunk: None,
        }
    }
}

impl Entry {
    pub(super) fn is_urgent(&self) -> bool {
        self.lane == Lane::Alarm
    }
}

impl Lineup {
    /// Takes over what flows the file has.
    pub(super) fn refresh(&mut self, flows: Vec<(flow::Hash, Lane, Arc<Stream>)>) {
        for entry in &mut self.entries {
            entry.stored = false;
        }
        for (hash, lane, stream) in flows {
            if !self.topics.contains_key(&stream.topic) {
                self.topics.insert(stream.topic.clone(), Topic::new());
            }
            match self.entries.iter_mut().find(|entry| entry.hash == hash) {
                Some(entry) => {
                    (entry.lane, entry.stream, entry.stored) = (lane, stream, true);
                }
                None => self.entries.push(Entry {
                    hash,
                    lane,
                    stream,
                    stored: true,
                    sent: BatchId(0),
                    loaded: BatchId(0),
                    each: 0,
                    slowed: false,
                    turn: 0,
                }),
            }
        }
    }

    /// Nothing of any flow waits in the file or in memory.
    pub(super) fn is_nothing_stored(&self) -> bool {
        self.entries.iter().all(|entry| !entry.stored)
    }

    /// Everything behind the position is read again: a new producer, or the
    /// file deleted what the position covers.
    pub(super) fn restart(&mut self) {
        for entry in &mut self.entries {
            (entry.sent, entry.loaded) = (BatchId(0), BatchId(0));
        }
        for topic in self.topics.values_mut() {
            topic.standing = Standing::Unknown;
        }
    }

    /// What was loaded but not committed is read again.
    pub(super) fn rewind(&mut self) {
        for entry in &mut self.entries {
            entry.loaded = entry.sent;
        }
    }

    /// Kafka has these. Gives the streams that stood aside before.
    pub(super) fn committed(
        &mut self,
        ends: &[(flow::Hash, BatchId, crate::buffer::Epoch, u64)],
    ) -> Vec<Arc<Stream>> {
        let mut back = Vec::new();
        for (hash, batch, ..) in ends {
            let Some(entry) = self.entries.iter_mut().find(|entry| entry.hash == *hash) else {
                continue;
            };
            entry.sent = *batch;
            if let Some(topic) = self.topics.get_mut(&entry.stream.topic) {
                if std::mem::take(&mut topic.times_aside) > 0 {
                    back.push(Arc::clone(&entry.stream));
                }
                // What was sent may have gone to another topic, which its stream had then.
                if topic.standing != Standing::Unknown {
                    topic.standing = Standing::Ready;
                }
                // A limit that was learned is tested again, gently.
                topic.chunk =
                    topic.chunk.map(|chunk| chunk.saturating_mul(2)).filter(|c| *c < 5_000);
            }
        }
        back
    }

    /// Topics to look for in the metadata now.
    pub(super) fn to_look_for(&self, now: Instant) -> Vec<Arc<Stream>> {
        let mut wanted: Vec<Arc<Stream>> = Vec::new();
        for entry in &self.entries {
            let due = self.topics.get(&entry.stream.topic).is_some_and(|t| match t.standing {
                Standing::Unknown => true,
                Standing::Aside { until } => until <= now,
                Standing::Ready | Standing::Trial => false,
            });
            if due && !wanted.iter().any(|known| known.topic == entry.stream.topic) {
                wanted.push(Arc::clone(&entry.stream));
            }
        }
        wanted
    }

    /// The topic is there.
    pub(super) fn found(&mut self, topic: &str) {
        let Some(topic) = self.topics.get_mut(topic) else { return };
        let back = matches!(topic.standing, Standing::Aside { .. });
        topic.standing = if back { Standing::Trial } else { Standing::Ready };
        topic.looks = 0;
    }

    /// The topic may be to blame for a transaction that was refused as a whole.
    pub(super) fn try_alone(&mut self, topic: &str) {
        if let Some(topic) = self.topics.get_mut(topic) {
            topic.standing = Standing::Trial;
        }
    }

    /// The topic was made just now; it is looked for again at once. False when
    /// that was done often enough.
    pub(super) fn made(&mut self, topic: &str, now: Instant) -> bool {
        let Some(topic) = self.topics.get_mut(topic) else { return false };
        topic.standing = Standing::Aside { until: now + APPEARS };
        topic.looks = topic.looks.saturating_add(1);
        topic.looks <= MOST_LOOKS
    }

    /// The topic is missing or refused, and why. True when that is news.
    pub(super) fn aside(&mut self, topic: &str, cause: &str, now: Instant) -> bool {
        let Some(topic) = self.topics.get_mut(topic) else { return false };
        let pause = FIRST_ASIDE.saturating_mul(1 << topic.times_aside.min(10)).min(LONGEST_ASIDE);
        topic.times_aside = topic.times_aside.saturating_add(1);
        topic.standing = Standing::Aside { until: now + pause };
        cause.clone_into(&mut topic.cause);
        topic.times_aside == 1
    }

    /// The streams that stand aside with something stored, by name; also those whose
    /// topic is back and has taken nothing yet.
    pub(super) fn those_aside(&self) -> Vec<Aside> {
        let mut aside = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.stored) {
            let Some(topic) = self.topics.get(&entry.stream.topic) else { continue };
            if topic.times_aside > 0 {
                aside.push(Aside {
                    stream: entry.stream.name.clone(),
                    topic: entry.stream.topic.clone(),
                    cause: topic.cause.clone(),
                });
            }
        }
        aside.sort_unstable_by(|one, other| one.stream.cmp(&other.stream));
        // Its lanes are one stream.
        aside.dedup_by(|one, other| one.stream == other.stream);
        aside
    }

    /// The flows of the next shared transaction, in order: lane by lane (but see
    /// [`BULK_TURN`]), and within a lane in turns.
    pub(super) fn order(&mut self) -> Vec<Entry> {
        self.orders += 1;
        let bulk_first = self.orders.is_multiple_of(BULK_TURN);
        let mut order: Vec<Entry> = self
            .entries
            .iter()
            .filter(|e| self.standing(e) == Some(&Standing::Ready))
            .cloned()
            .collect();
        let behind = |lane| bulk_first && lane == Lane::Live;
        order.sort_by_key(|entry| {
            let lane = if behind(entry.lane) { Lane::Bulk } else { entry.lane };
            (lane, behind(entry.lane), entry.turn)
        });
        order
    }

    /// The flows that go alone.
    pub(super) fn trials(&self) -> Vec<Entry> {
        self.entries
            .iter()
            .filter(|e| self.standing(e) == Some(&Standing::Trial))
            .cloned()
            .collect()
    }

    /// Whether the topic goes alone.
    pub(super) fn is_trial(&self, topic: &str) -> bool {
        self.topics.get(topic).is_some_and(|topic| topic.standing == Standing::Trial)
    }

    fn standing(&self, entry: &Entry) -> Option<&Standing> {
        self.topics.get(&entry.stream.topic).map(|topic| &topic.standing)
    }

    /// Batches of the flow up to this one are in a load.
    pub(super) fn loaded(&mut self, hash: flow::Hash, batch: BatchId) {
        self.turns += 1;
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.hash == hash) {
            entry.loaded = batch;
            entry.turn = self.turns;
        }
    }

    /// Each event of the flow's last batch became so many bytes.
    pub(super) fn weighed(&mut self, hash: flow::Hash, each: usize) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.hash == hash) {
            entry.each = each;
        }
    }

    /// Whether what comes next of the flow waits for the rate of a backlog.
    pub(super) fn slowed(&mut self, hash: flow::Hash, slowed: bool) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.hash == hash) {
            entry.slowed = slowed;
        }
    }

    pub(super) fn chunk(&self, topic: &str) -> Option<usize> {
        self.topics.get(topic).and_then(|topic| topic.chunk)
    }

    /// The topic is known to take requests of so many records. Where one of no
    /// more was refused all the same, other records met in it, larger ones: half
    /// of it then, or the same load would be refused for ever.
    pub(super) fn set_chunk(&mut self, topic: &str, chunk: usize) {
        if let Some(topic) = self.topics.get_mut(topic) {
            let smaller = topic.chunk.filter(|known| *known <= chunk).map(|known| known / 2);
            topic.chunk = Some(smaller.unwrap_or(chunk).max(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lineup(flows: &[(&str, Lane)]) -> Lineup {
        let mut lineup = Lineup::default();
        lineup.refresh(
            flows
                .iter()
                .map(|(name, lane)| {
                    let stream = Stream {
                        name: (*name).to_owned(),
                        topic: (*name).to_owned(),
                        create: None,
                    };
                    (flow::Hash::of(name, *lane), *lane, Arc::new(stream))
                })
                .collect(),
        );
        lineup
    }

    fn names(entries: &[Entry]) -> Vec<&str> {
        entries.iter().map(|entry| entry.stream.name.as_str()).collect()
    }

    #[test]
    fn a_flow_waits_until_its_topic_was_seen() {
        let mut lineup = lineup(&[("a", Lane::Live), ("b", Lane::Live)]);
        assert!(lineup.order().is_empty());
        lineup.found("b");
        assert_eq!(names(&lineup.order()), ["b"]);
    }

    #[test]
    fn alarms_go_first_and_flows_of_a_lane_take_turns() {
        let mut lineup = lineup(&[("a", Lane::Live), ("b", Lane::Live), ("c", Lane::Alarm)]);
        for topic in ["a", "b", "c"] {
            lineup.found(topic);
        }
        assert_eq!(names(&lineup.order()), ["c", "a", "b"]);
        lineup.loaded(flow::Hash::of("a", Lane::Live), BatchId(1));
        assert_eq!(names(&lineup.order()), ["c", "b", "a"]);
    }

    #[test]
    fn of_eight_loads_one_takes_bulk_before_live_and_alarms_stay_first() {
        let mut lineup = lineup(&[("a", Lane::Live), ("b", Lane::Bulk), ("c", Lane::Alarm)]);
        for topic in ["a", "b", "c"] {
            lineup.found(topic);
        }
        let orders: Vec<_> = (0..16).map(|_| names(&lineup.order()).concat()).collect();
        let expected = [["cab"; 7].as_slice(), &["cba"]].concat().repeat(2);
        assert_eq!(orders, expected);
    }

    #[test]
    fn a_flow_that_comes_back_goes_alone_until_it_is_committed() {
        let now = Instant::now();
        let mut lineup = lineup(&[("a", Lane::Live), ("b", Lane::Live)]);
        lineup.found("a");
        assert!(lineup.aside("b", "it is missing", now));
        assert!(lineup.to_look_for(now).is_empty());
        assert!(!lineup.aside("b", "it is missing", now), "the same again is no news");
        assert_eq!(lineup.to_look_for(now + LONGEST_ASIDE).len(), 1);
        lineup.found("b");
        assert_eq!((names(&lineup.order()), names(&lineup.trials())), (vec!["a"], vec!["b"]));
        let hash = flow::Hash::of("b", Lane::Live);
        let end = [(hash, BatchId(7), crate::buffer::Epoch(1), 7)];
        assert_eq!(lineup.committed(&end).len(), 1, "it is back");
        assert_eq!(lineup.committed(&end).len(), 0);
        assert_eq!(names(&lineup.order()), ["a", "b"]);
        assert!(lineup.aside("b", "it is missing", now), "after a commit it is news again");
    }

    #[test]
    fn what_was_not_committed_is_loaded_again() {
        let mut lineup = lineup(&[("a", Lane::Live)]);
        lineup.found("a");
        let hash = flow::Hash::of("a", Lane::Live);
        lineup.loaded(hash, BatchId(5));
        lineup.committed(&[(hash, BatchId(5), crate::buffer::Epoch(1), 5)]);
        lineup.loaded(hash, BatchId(9));
        lineup.rewind();
        assert_eq!(lineup.order()[0].loaded, BatchId(5));
        lineup.restart();
        lineup.found("a");
        assert_eq!(lineup.order()[0].loaded, BatchId(0));
    }

    #[test]
    fn a_stream_whose_topic_became_another_one_is_not_sent_before_that_was_seen() {
        let mut lineup = lineup(&[("a", Lane::Live)]);
        lineup.found("a");
        let hash = flow::Hash::of("a", Lane::Live);
        let stream = Stream { name: "a".to_owned(), topic: "other".to_owned(), create: None };
        lineup.refresh(vec![(hash, Lane::Live, Arc::new(stream))]);
        // To the topic of before.
        lineup.committed(&[(hash, BatchId(1), crate::buffer::Epoch(1), 1)]);
        assert_eq!(names(&lineup.order()), [""; 0]);
        assert_eq!(lineup.to_look_for(Instant::now()).len(), 1);
        lineup.found("other");
        assert_eq!(names(&lineup.order()), ["a"]);
    }

    #[test]
    fn who_stands_aside_with_something_stored_is_known_by_stream_until_it_delivers() {
        let mut lineup = lineup(&[("b", Lane::Live), ("b", Lane::Alarm), ("a", Lane::Live)]);
        lineup.found("a");
        assert_eq!(lineup.those_aside(), []);
        lineup.aside("b", "it is missing", Instant::now());
        let aside = Aside {
            stream: "b".to_owned(),
            topic: "b".to_owned(),
            cause: "it is missing".to_owned(),
        };
        assert_eq!(lineup.those_aside(), std::slice::from_ref(&aside));
        lineup.found("b");
        assert_eq!(lineup.those_aside(), [aside], "it has delivered nothing yet");
        let hash = flow::Hash::of("b", Lane::Live);
        lineup.committed(&[(hash, BatchId(1), crate::buffer::Epoch(1), 1)]);
        assert_eq!(lineup.those_aside(), []);
        lineup.aside("b", "it is missing", Instant::now());
        lineup.refresh(Vec::new());
        assert_eq!(lineup.those_aside(), [], "nothing of it is stored any more");
    }

    #[test]
    fn a_topic_that_refuses_what_it_was_known_to_take_gets_smaller_requests() {
        let mut lineup = lineup(&[("a", Lane::Live)]);
        let chunks: Vec<_> = [10, 3, 3, 3]
            .into_iter()
            .map(|largest| {
                lineup.set_chunk("a", largest);
                lineup.chunk("a").unwrap()
            })
            .collect();
        assert_eq!(chunks, [10, 3, 1, 1]);
    }
}
