//! A model of Kafka as far as transactions go: transactional ids with their
//! epochs, a transaction's time-out, committed offsets, topics that refuse.
//!
//! What a read-committed reader sees are the records of committed
//! transactions, in the order in which they were appended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode as Code;

use super::Mutant;
use super::chance::Chance;
use crate::forward::line::{Kept, Presence};
use crate::forward::pace::Pace;

/// A broker forgets an offset that nobody commits anew for so long.
const FORGOTTEN: Duration = Duration::from_hours(7 * 24);

/// How a call comes out, besides what the broker answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Fine,
    /// It never reached the broker.
    Unasked,
    /// The broker did it, and nobody was told.
    Unheard,
}

/// A transaction that stands open has the group's offset in it.
#[derive(Debug)]
pub(super) struct HeldBack;

/// What stands in a topic.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) id: String,
    pub(crate) stamp: i64,
    transaction: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Topic {
    pub(crate) there: bool,
    pub(crate) forbidden: bool,
    /// A larger request is refused whole.
    pub(crate) largest: usize,
    /// A request with a record further ahead (ms) is refused whole.
    pub(crate) ahead: i64,
    pub(crate) log: Vec<Written>,
}

/// A record on its way.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) index: usize,
    pub(super) topic: String,
    pub(super) id: String,
    pub(super) bytes: usize,
    pub(super) stamp: i64,
}

#[derive(Debug)]
struct Open {
    transaction: u64,
    since: Instant,
    offset: Option<(String, Kept)>,
}

/// What the coordinator knows of one transactional id.
#[derive(Debug, Default)]
struct Producer {
    epoch: u32,
    open: Option<Open>,
}

#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) chance: Chance,
    pub(super) pace: Pace,
    pub(crate) mutant: Option<Mutant>,
    pub(super) cluster: String,
    pub(crate) up: bool,
    /// So many of a thousand calls go wrong.
    pub(crate) faults: u64,
    pub(crate) topics: BTreeMap<String, Topic>,
    /// What is kept for each group, and since when.
    pub(super) offsets: BTreeMap<String, (Kept, Instant)>,
    /// Committed records by id, over all clusters that ever were.
    pub(crate) arrived: BTreeMap<String, u32>,
    /// Topics of which some look could not see all.
    pub(super) blind: BTreeSet<String>,
    /// A topic whose end gives only errors: a partition of it has no leader.
    pub(super) sick: Option<String>,
    /// Origins of the dead letters that are on a medium.
    pub(super) buried: BTreeSet<String>,
    /// For each `init_transactions` who did it.
    pub(super) inits: Vec<usize>,
    /// Every answer gets lost.
    pub(super) mute: bool,
    /// Agents whose client answers nothing any more, until it is made anew.
    pub(super) stuck: BTreeSet<usize>,
    /// Calls until the running agent dies in the midst of one.
    pub(crate) dies_in: Option<u64>,
    /// The first promise that was seen broken.
    pub(crate) wrong: Option<String>,
    timeout: Duration,
    producers: BTreeMap<String, Producer>,
    committed: BTreeMap<u64, bool>,
    transactions: u64,
    /// Transactions of the clusters before this one.
    former: u64,
    /// Over all ids: one that was forgotten and comes back is another one.
    epochs: u32,
}

impl Broker {
    pub(crate) fn new(chance: Chance, pace: Pace, timeout: Duration) -> Self {
        Self {
            chance,
            pace,
            mutant: None,
            cluster: "kafka".to_owned(),
            up: true,
            faults: 0,
            topics: BTreeMap::new(),
            offsets: BTreeMap::new(),
            arrived: BTreeMap::new(),
            blind: BTreeSet::new(),
            sick: None,
            buried: BTreeSet::new(),
            inits: Vec::new(),
            mute: false,
            stuck: BTreeSet::new(),
            dies_in: None,
            wrong: None,
            timeout,
            producers: BTreeMap::new(),
            committed: BTreeMap::new(),
            transactions: 0,
            former: 0,
            epochs: 0,
        }
    }

    pub(super) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// The agent that makes this call is dead already.
    pub(crate) fn is_dead(&self) -> bool {
        self.dies_in == Some(0)
    }

    /// One request: time passes, and it may get lost.
    pub(super) fn call(&mut self) -> Fate {
        if let Some(left) = &mut self.dies_in {
            *left = left.saturating_sub(1);
        }
        let took = self.chance.millis(20);
        self.pace.park(took);
        self.expire();
        if !self.up || self.is_dead() {
            return Fate::Unasked;
        }
        if self.mute {
            return Fate::Unheard;
        }
        if self.chance.hits(self.faults) {
            return if self.chance.hits(500) { Fate::Unasked } else { Fate::Unheard };
        }
        Fate::Fine
    }

    /// Ends what stood open too long, and fences its producer; forgets offsets.
    pub(crate) fn expire(&mut self) {
        let now = self.pace.now();
        self.offsets.retain(|_, (_, since)| now.saturating_duration_since(*since) < FORGOTTEN);
        let late = |open: &Open| now.saturating_duration_since(open.since) >= self.timeout;
        for producer in self.producers.values_mut() {
            if let Some(open) = producer.open.take_if(|open| late(open)) {
                self.committed.insert(open.transaction, false);
                self.epochs += 1;
                producer.epoch = self.epochs;
            }
        }
    }

    /// Gives the id a new epoch, and ends what the one before left open.
    pub(super) fn init(&mut self, id: &str, who: usize) -> u32 {
        self.inits.push(who);
        if self.is(Mutant::NoInit) {
            return self.producers.entry(id.to_owned()).or_default().epoch;
        }
        let producer = self.producers.entry(id.to_owned()).or_default();
        self.epochs += 1;
        producer.epoch = self.epochs;
        if let Some(open) = producer.open.take() {
            self.committed.insert(open.transaction, false);
        }
        producer.epoch
    }

    /// The coordinator forgets ids that were idle for a week.
    pub(crate) fn forget_ids(&mut self) {
        self.producers.retain(|_, producer| producer.open.is_some());
    }

    /// The id's open transaction, begun if there is none.
    fn open(&mut self, id: &str, epoch: u32) -> Result<&mut Open, Code> {
        let now = self.pace.now();
        let producer = self.producers.get_mut(id).ok_or(Code::InvalidProducerIdMapping)?;
        if producer.epoch != epoch {
            return Err(Code::InvalidProducerEpoch);
        }
        if producer.open.is_none() {
            self.transactions += 1;
        }
        let transaction = self.transactions;
        Ok(producer.open.get_or_insert(Open { transaction, since: now, offset: None }))
    }

    /// Appends one request to a topic: whole or not at all.
    pub(super) fn append(
        &mut self,
        id: &str,
        epoch: u32,
        topic: &str,
        now_ms: i64,
        records: &[Sent],
    ) -> Result<(), Code> {
        match self.topics.get(topic) {
            Some(topic) if topic.forbidden => return Err(Code::TopicAuthorizationFailed),
            Some(topic) if topic.there => {}
            _ => return Err(Code::UnknownTopicOrPartition),
        }
        let transaction = self.open(id, epoch)?.transaction;
        let topic = self.topics.get_mut(topic).ok_or(Code::UnknownTopicOrPartition)?;
        if records.iter().map(|record| record.bytes).sum::<usize>() > topic.largest {
            return Err(Code::MessageSizeTooLarge);
        }
        if records.iter().any(|record| record.stamp > now_ms + topic.ahead) {
            return Err(Code::InvalidTimestamp);
        }
        for record in records {
            topic.log.push(Written { id: record.id.clone(), stamp: record.stamp, transaction });
        }
        Ok(())
    }

    pub(super) fn add_offset(
        &mut self,
        id: &str,
        epoch: u32,
        group: &str,
        kept: &Kept,
    ) -> Result<(), Code> {
        self.open(id, epoch)?.offset = Some((group.to_owned(), kept.clone()));
        Ok(())
    }

    pub(super) fn end(&mut self, id: &str, epoch: u32, commit: bool) -> Result<(), Code> {
        let producer = self.producers.get_mut(id).ok_or(Code::InvalidProducerIdMapping)?;
        if producer.epoch != epoch {
            return Err(Code::InvalidProducerEpoch);
        }
        let Some(open) = producer.open.take() else { return Ok(()) };
        self.committed.insert(open.transaction, commit);
        if commit {
            if let Some((group, kept)) = open.offset {
                self.offsets.insert(group, (kept, self.pace.now()));
            }
            for topic in self.topics.values() {
                for written in topic.log.iter().rev() {
                    if written.transaction == open.transaction {
                        *self.arrived.entry(written.id.clone()).or_default() += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// What is kept for the group, if anything.
    pub(super) fn offset(&self, group: &str) -> Result<Option<Kept>, HeldBack> {
        let pending = self.producers.values().find_map(|producer| {
            producer.open.as_ref()?.offset.as_ref().filter(|(known, _)| known == group)
        });
        match pending {
            Some((_, kept)) if self.is(Mutant::ReadUncommitted) => Ok(Some(kept.clone())),
            Some(_) => Err(HeldBack),
            None => Ok(self.offsets.get(group).map(|(kept, _)| kept.clone())),
        }
    }

    /// What a read-committed reader of the topic gets.
    pub(crate) fn read(&self, topic: &str) -> Vec<&str> {
        let log = self.topics.get(topic).map(|topic| topic.log.as_slice()).unwrap_or_default();
        log.iter()
            .filter(|written| self.committed.get(&written.transaction) == Some(&true))
            .map(|written| written.id.as_str())
            .collect()
    }

    /// What a look at the end of the topic finds, and whether that is all.
    pub(super) fn tail(&mut self, topic: &str) -> Result<(Vec<String>, bool), Presence> {
        // What an error would cost, the look makes up for: that mutant takes both away.
        if self.is(Mutant::NoLook) || self.is(Mutant::ErrorIsNoPosition) {
            return Ok((Vec::new(), true));
        }
        let short = self.chance.hits(200);
        let closed = match self.topics.get(topic) {
            Some(topic) if topic.forbidden => Some(Presence::Forbidden),
            Some(topic) if topic.there => None,
            _ => Some(Presence::Missing),
        };
        if short || closed.is_some() {
            self.blind.insert(topic.to_owned());
        }
        if let Some(closed) = closed {
            return Err(closed);
        }
        let careless = self.is(Mutant::AbortedIsSeen);
        let is_seen = |written: &&Written| {
            let committed = self.committed.get(&written.transaction);
            written.transaction > self.former
                && (committed == Some(&true) || careless && committed.is_some())
        };
        let log = self.topics.get(topic).map(|topic| topic.log.as_slice()).unwrap_or_default();
        let mut ids: Vec<String> =
            log.iter().filter(is_seen).map(|written| written.id.clone()).collect();
        if short {
            ids.drain(..ids.len() / 2);
        }
        Ok((ids, !short))
    }

    /// Another cluster answers under the same address; what the one before has
    /// stays read.
    pub(super) fn replace(&mut self, cluster: String) {
        self.cluster = cluster;
        self.offsets.clear();
        self.producers.clear();
        self.former = self.transactions;
    }
}
