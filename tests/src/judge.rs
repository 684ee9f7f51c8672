//! The judge: a read-committed consumer that reads every topic to its end and
//! knows nothing of the agent but the records' own numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use serde_json::Value;

use crate::panic_with;

/// How long one look at all topics may take.
const LOOK: Duration = Duration::from_mins(1);

/// A record as Kafka has it.
#[derive(Debug, Clone)]
pub struct Record {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub key: String,
    pub headers: BTreeMap<String, String>,
    pub value: Value,
}

impl Record {
    pub fn text(&self, field: &str) -> &str {
        let value = self.value.get(field).and_then(Value::as_str);
        value.unwrap_or_else(|| panic_with(&format!("no text `{field}` in {self:?}")))
    }

    pub fn number(&self, field: &str) -> u64 {
        let value = self.value.get(field).and_then(Value::as_u64);
        value.unwrap_or_else(|| panic_with(&format!("no number `{field}` in {self:?}")))
    }

    /// Of a field: the record's, where it has none of its own.
    pub fn quality(&self, field: &str) -> &str {
        let own = self.value.get(format!("{field}_q")).and_then(Value::as_str);
        own.unwrap_or_else(|| self.text("quality"))
    }

    /// `<gateway>/<epoch>/<seq>`
    pub fn id(&self) -> String {
        format!("{}/{}/{}", self.text("gateway"), self.text("epoch"), self.number("seq"))
    }

    fn of(message: &BorrowedMessage<'_>) -> Self {
        let payload = message.payload().unwrap_or_default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            key: text(message.key().unwrap_or_default()),
            headers: headers
                .map(|header| (header.key.to_owned(), text(header.value.unwrap_or_default())))
                .collect(),
            value: serde_json::from_slice(payload).unwrap_or_else(|error| {
                panic_with(&format!("not JSON ({error}): {}", text(payload)))
            }),
        }
    }
}

/// Reads on from where it was at each look.
#[derive(Debug)]
pub struct Judge {
    client: ClientConfig,
    /// Next offset of each topic and partition.
    next: BTreeMap<(String, i32), i64>,
    /// Only this topic; `None`: all but Kafka's own.
    only: Option<String>,
    pub records: Vec<Record>,
}

impl Judge {
    pub fn new(kafka: &crate::kafka::Kafka) -> Self {
        let mut client = kafka.client();
        client
            .set("group.id", "judge")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "50");
        Self { client, next: BTreeMap::new(), only: None, records: Vec::new() }
    }

    /// For a broker that others use too: looks at this topic alone.
    pub fn of_topic(kafka: &crate::kafka::Kafka, topic: &str) -> Self {
        Self { only: Some(topic.to_owned()), ..Self::new(kafka) }
    }

    /// Reads everything that is committed now.
    pub fn look(&mut self) -> &[Record] {
        let consumer: BaseConsumer = self.client.create().expect("the settings are valid");
        let metadata = consumer.fetch_metadata(None, LOOK).expect("Kafka answers the judge");
        let wanted =
            |name: &str| self.only.as_ref().map_or(!name.starts_with("__"), |only| only == name);
        let topics = metadata.topics().iter().filter(|topic| wanted(topic.name()));
        for topic in topics.collect::<Vec<_>>() {
            let partitions =
                topic.partitions().iter().map(rdkafka::metadata::MetadataPartition::id);
            self.read(topic.name(), partitions.collect());
        }
        &self.records
    }

    /// Looks until `enough` says so; fails the test after `within`.
    pub fn look_until(
        &mut self,
        what: &str,
        within: Duration,
        mut enough: impl FnMut(&[Record]) -> bool,
    ) {
        let since = Instant::now();
        while !enough(self.look()) {
            let count = self.records.len();
            assert!(since.elapsed() < within, "{count} records after {within:?}, but not {what}");
        }
    }

    /// A new consumer for each look and topic: librdkafka says the end of a partition
    /// once, and without naming the topic.
    fn read(&mut self, topic: &str, mut unread: BTreeSet<i32>) {
        let consumer: BaseConsumer = self.client.create().expect("the settings are valid");
        let mut places = TopicPartitionList::new();
        for &partition in &unread {
            let next = self.next.get(&(topic.to_owned(), partition));
            let place = next.map_or(Offset::Beginning, |next| Offset::Offset(*next));
            places.add_partition_offset(topic, partition, place).expect("an offset is a place");
        }
        consumer.assign(&places).expect("partitions can be assigned");
        let since = Instant::now();
        while !unread.is_empty() {
            assert!(since.elapsed() < LOOK, "topic {topic} was not read to its end in {LOOK:?}");
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    let place = (topic.to_owned(), message.partition());
                    self.next.insert(place, message.offset() + 1);
                    self.records.push(Record::of(&message));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    unread.remove(&partition);
                }
                // A broker that has just come back; the deadline tells it from a dead one.
                None | Some(Err(_)) => {}
            }
        }
    }
}

/// Seqs of all epochs, from 1, that these records lack and that they repeat.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    pub missing: usize,
    pub repeated: usize,
    /// The first of them, in words.
    pub first: Option<String>,
}

/// Every seq of every epoch should be there once, from 1, without gaps.
pub fn gaps(records: &[Record]) -> Gaps {
    let mut epochs: BTreeMap<(&str, &str), Vec<u64>> = BTreeMap::new();
    for record in records {
        let epoch = (record.text("gateway"), record.text("epoch"));
        epochs.entry(epoch).or_default().push(record.number("seq"));
    }
    let mut gaps = Gaps::default();
    for (epoch, mut seqs) in epochs {
        seqs.sort_unstable();
        let wrong = (1..).zip(&seqs).find(|(want, seq)| want != *seq);
        if let Some(wrong) = wrong {
            let text = format!("{epoch:?}: want and have {wrong:?} of {} events", seqs.len());
            gaps.first.get_or_insert(text);
        }
        let all = seqs.len();
        let highest = usize::try_from(seqs.last().copied().unwrap_or_default());
        seqs.dedup();
        gaps.repeated += all - seqs.len();
        gaps.missing += highest.expect("a seq is below 2^63").saturating_sub(seqs.len());
    }
    gaps
}

/// Every seq of every epoch once, from 1, without gaps; all of these records.
pub fn assert_gap_free(records: &[Record]) {
    let gaps = gaps(records);
    assert_eq!(gaps, Gaps::default());
}

/// What is not in order per device and topic, in words: an epoch never comes
/// back, its seqs rise.
pub fn disorder(records: &[Record]) -> Vec<String> {
    let mut last: BTreeMap<(&str, &str), (&str, u64)> = BTreeMap::new();
    let mut left: BTreeSet<(&str, &str, &str)> = BTreeSet::new();
    let mut wrong = Vec::new();
    for record in records {
        let (topic, device) = (record.topic.as_str(), record.text("device"));
        let (epoch, seq) = (record.text("epoch"), record.number("seq"));
        if record.key != device {
            wrong.push(format!("the key is the device: {record:?}"));
        }
        if let Some((was, highest)) = last.insert((topic, device), (epoch, seq)) {
            if was == epoch {
                if seq <= highest {
                    wrong.push(format!("{topic}/{device}: {seq} comes after {highest}"));
                }
            } else {
                left.insert((topic, device, was));
                if left.contains(&(topic, device, epoch)) {
                    wrong.push(format!("{topic}/{device}: epoch {epoch} comes back"));
                }
            }
        }
    }
    wrong
}

/// In order per device and topic: an epoch never comes back, its seqs rise.
pub fn assert_in_order(records: &[Record]) {
    assert_eq!(disorder(records), Vec::<String>::new());
}

/// What became of things that are numbered from 1.
#[derive(Debug, Default)]
pub struct Fate {
    pub lost: Vec<u64>,
    /// With how often each was seen.
    pub repeated: Vec<(u64, u32)>,
    /// Never sent.
    pub foreign: Vec<u64>,
}

/// The fate of 1 to `count` by the numbers that arrived, in whatever order.
pub fn fate(count: u64, numbers: impl IntoIterator<Item = u64>) -> Fate {
    let mut times: BTreeMap<u64, u32> = (1..=count).map(|number| (number, 0)).collect();
    for number in numbers {
        *times.entry(number).or_default() += 1;
    }
    let mut fate = Fate::default();
    for (number, times) in times {
        match times {
            _ if !(1..=count).contains(&number) => fate.foreign.push(number),
            0 => fate.lost.push(number),
            1 => {}
            _ => fate.repeated.push((number, times)),
        }
    }
    fate
}

/// `numbers` are 1 to `count`, each once, in whatever order.
pub fn assert_each_once(what: &str, count: u64, numbers: impl IntoIterator<Item = u64>) {
    let Fate { lost, repeated, foreign } = fate(count, numbers);
    assert!(
        lost.is_empty() && repeated.is_empty() && foreign.is_empty(),
        "{what}: {} lost ({:?} …), {} more than once ({:?} …), {} never sent",
        lost.len(),
        lost.iter().take(10).collect::<Vec<_>>(),
        repeated.len(),
        repeated.iter().take(10).collect::<Vec<_>>(),
        foreign.len(),
    );
}

/// The id in the header is that of the value, and no id stands for two events.
pub fn assert_ids(records: &[Record]) {
    let mut events: BTreeMap<String, &Value> = BTreeMap::new();
    for record in records {
        let id = record.id();
        assert_eq!(record.headers.get("id"), Some(&id), "the header's id: {record:?}");
        if let Some(other) = events.insert(id, &record.value) {
            assert_eq!(other, &record.value, "one id, two events");
        }
    }
}
