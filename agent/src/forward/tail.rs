//! Reads the end of one topic: what a read-committed reader gets of it, up to the
//! end as it stood when the reader was opened.
//!
//! The end is that of all that is written, committed or not: behind an open
//! transaction of others may stand what we have committed, and a read-committed
//! reader gets it only once that transaction is ended.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::config::Config;
use super::context::Context;
use super::line::Tail;
use super::link::CALL;
use super::tails::Wanted;
use super::trouble::{Class, Trouble};

/// It reads for so long at a time.
const SLICE: Duration = Duration::from_millis(250);

/// Kibibytes that the client keeps ahead: a gateway has little memory.
const AHEAD_KBYTES: &str = "2048";

/// Bytes of one answer: 16 s at 64 kbit/s, and the client waits for 60.
const ANSWER: &str = "131072";

/// The same of one partition.
const ANSWER_OF_ONE: &str = "65536";

/// Offsets by partition.
type Places = BTreeMap<i32, Offset>;

pub(super) struct TailReader {
    topic: String,
    consumer: BaseConsumer<Context>,
    /// Of the partitions that are not read to their end: where to begin, and the
    /// end.
    parts: BTreeMap<i32, (i64, i64)>,
    /// No transaction is open any more before the ends.
    stable: bool,
    whole: bool,
}

impl TailReader {
    /// Finds where to begin and to end; nothing is read yet.
    pub(super) fn open(
        config: &Config,
        gateway: &str,
        context: &Context,
        wanted: &Wanted,
    ) -> Result<Self, Trouble> {
        let topic = wanted.topic.clone();
        let writes = client(config, gateway, context, "read_uncommitted")?;
        let partitions = partitions(&writes, &topic)?;
        let ask = |at| places(&writes, &topic, &partitions, at);
        let (begins, ends) = (ask(Offset::Beginning)?, ask(Offset::End)?);
        let times = match wanted.since {
            Some(since) => ask(Offset::Offset(since))?,
            None => begins.clone(),
        };
        let share = (wanted.records / (partitions.len() as u64).max(1)).max(1);
        let share = i64::try_from(share).unwrap_or(i64::MAX);
        let mut reader = Self {
            consumer: client(config, gateway, context, "read_committed")?,
            topic,
            parts: BTreeMap::new(),
            stable: false,
            whole: true,
        };
        for partition in partitions {
            let at = |places: &Places| places.get(&partition).and_then(known);
            let end = at(&ends).ok_or_else(|| unknown(&reader.topic))?;
            let begin = at(&begins).unwrap_or(end);
            // No record is so young: nothing is looked for.
            let from = at(&times).unwrap_or(end);
            let place = from.max(end.saturating_sub(share));
            // What is older than the first that is left was there once, perhaps.
            reader.whole &= place == from && (from > begin || begin == 0);
            if place < end {
                reader.parts.insert(partition, (place, end));
            }
        }
        Ok(reader)
    }

    pub(super) fn is_of(&self, topic: &str) -> bool {
        self.topic == topic
    }

    /// Reads on for a moment.
    pub(super) fn read(
        &mut self,
        each: &mut dyn FnMut(Option<&str>, usize),
    ) -> Result<Tail, Trouble> {
        if !self.stable && !self.begin()? {
            return Ok(Tail::Reading { news: false });
        }
        let since = Instant::now();
        let mut news = false;
        while !self.parts.is_empty() {
            let left = SLICE.saturating_sub(since.elapsed());
            if left.is_zero() {
                return Ok(Tail::Reading { news });
            }
            match self.consumer.poll(left) {
                Some(Ok(message)) => {
                    let (partition, next) = (message.partition(), message.offset() + 1);
                    let Some((_, end)) = self.parts.get(&partition) else { continue };
                    if next <= *end {
                        news = true;
                        each(id(&message), message.payload_len() + message.key_len());
                    }
                    if next >= *end {
                        self.parts.remove(&partition);
                    }
                }
                // The last before the end may be the mark of a transaction, which
                // nobody is given.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.parts.remove(&partition);
                }
                Some(Err(error)) => return Err(self.failed(&error)),
                None => {}
            }
        }
        Ok(Tail::Ended { whole: self.whole })
    }

    /// Begins to read once nothing before the ends is undecided: only then is the
    /// end of what a read-committed reader gets the end that is meant.
    fn begin(&mut self) -> Result<bool, Trouble> {
        let partitions: Vec<i32> = self.parts.keys().copied().collect();
        if !partitions.is_empty() {
            let decided = places(&self.consumer, &self.topic, &partitions, Offset::End)?;
            let decided = |partition| decided.get(partition).and_then(known);
            if !self.parts.iter().all(|(p, (_, end))| decided(p).is_some_and(|to| *end <= to)) {
                drop(self.consumer.poll(SLICE));
                return Ok(false);
            }
            let mut begins = TopicPartitionList::new();
            for (partition, (begin, _)) in &self.parts {
                begins
                    .add_partition_offset(&self.topic, *partition, Offset::Offset(*begin))
                    .map_err(|error| self.failed(&error))?;
            }
            self.consumer.assign(&begins).map_err(|error| self.failed(&error))?;
        }
        self.stable = true;
        Ok(true)
    }

    fn failed(&self, error: &KafkaError) -> Trouble {
        failed(&self.topic, error)
    }
}

/// A client that reads and belongs to no group's work: it commits nothing.
fn client(
    config: &Config,
    gateway: &str,
    context: &Context,
    isolation: &str,
) -> Result<BaseConsumer<Context>, Trouble> {
    let mut settings: ClientConfig =
        config.client(gateway).map_err(|error| Trouble::new(Class::Repeat, error.to_string()))?;
    // A follower near by may stand behind the end that the leader has told.
    settings.remove("client.rack");
    settings
        .set("group.id", format!("tidegate-{gateway}"))
        .set("isolation.level", isolation)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        // What retention deletes meanwhile is passed over.
        .set("auto.offset.reset", "earliest")
        .set("queued.max.messages.kbytes", AHEAD_KBYTES)
        // An answer is as long as this in any case.
        .set("message.max.bytes", ANSWER)
        .set("fetch.max.bytes", ANSWER)
        .set("fetch.message.max.bytes", ANSWER_OF_ONE);
    settings
        .create_with_context(context.clone())
        .map_err(|error| Trouble::of_call("cannot look at what is in Kafka", &error))
}

fn partitions(client: &BaseConsumer<Context>, topic: &str) -> Result<Vec<i32>, Trouble> {
    // Serves the token of a login.
    drop(client.poll(Duration::ZERO));
    let metadata = client.fetch_metadata(Some(topic), CALL);
    let metadata = metadata.map_err(|error| failed(topic, &error))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let missing = || Trouble { code: Some(Code::UnknownTopicOrPartition), ..unknown(topic) };
    let found = found.ok_or_else(missing)?;
    if let Some(code) = found.error().map(Code::from) {
        return Err(Trouble { code: Some(code), ..unknown(topic) });
    }
    let partitions: Vec<i32> =
        found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect();
    if partitions.is_empty() { Err(unknown(topic)) } else { Ok(partitions) }
}

/// What offset each partition has `at` its beginning, its end or a time.
fn places(
    client: &BaseConsumer<Context>,
    topic: &str,
    partitions: &[i32],
    at: Offset,
) -> Result<Places, Trouble> {
    let mut asked = TopicPartitionList::new();
    for partition in partitions {
        asked.add_partition_offset(topic, *partition, at).map_err(|e| failed(topic, &e))?;
    }
    let found = client.offsets_for_times(asked, CALL);
    drop(client.poll(Duration::ZERO));
    let found = found.map_err(|error| failed(topic, &error))?;
    let mut places = Places::new();
    for element in found.elements() {
        element.error().map_err(|error| failed(topic, &error))?;
        places.insert(element.partition(), element.offset());
    }
    Ok(places)
}

const fn known(place: &Offset) -> Option<i64> {
    match place {
        Offset::Offset(offset) => Some(*offset),
        _ => None,
    }
}

/// The event's id that a record carries. One without a value says that something
/// is deleted, whoever wrote it.
fn id<'a>(message: &'a BorrowedMessage<'_>) -> Option<&'a str> {
    message.payload()?;
    let id = message.headers()?.iter().find(|header| header.key == "id")?;
    std::str::from_utf8(id.value?).ok()
}

fn failed(topic: &str, error: &KafkaError) -> Trouble {
    Trouble::of_call(&format!("cannot look at what is in {topic}"), error)
}

fn unknown(topic: &str) -> Trouble {
    Trouble::new(Class::Repeat, format!("cannot look at what is in {topic}: no broker shows it"))
}
