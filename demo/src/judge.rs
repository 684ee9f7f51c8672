//! The judge: a consumer of its own that reads the plant's topics, committed
//! records only, and enters into the ledger what arrived.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::metadata::{MetadataPartition, MetadataTopic};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde::Deserialize;

use crate::ledger::{Ledger, Source};

/// How long a stop may take.
const POLL: Duration = Duration::from_millis(100);

/// For the questions before the start.
const PATIENCE: Duration = Duration::from_secs(15);

/// A running judge; it ends when it is dropped.
#[derive(Debug)]
pub struct Judge {
    stop: Arc<AtomicBool>,
    records: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

/// What the judge needs of a record.
#[derive(Debug, PartialEq, Deserialize)]
struct Record {
    gateway: String,
    epoch: String,
    seq: u64,
    device: String,
    /// Absent or null where the device gave no good answer.
    #[serde(default)]
    n: Option<u64>,
}

impl Judge {
    /// Reads from now on, whatever this gateway writes.
    pub fn start(brokers: &str, gateway: &str, ledger: Ledger) -> anyhow::Result<Self> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", format!("{gateway}-judge"))
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("reconnect.backoff.max.ms", "500")
            .create()
            .context("cannot make the judge's consumer")?;
        let places = ends(&consumer)?;
        consumer.assign(&places).context("cannot read the plant's topics")?;
        let stop = Arc::new(AtomicBool::new(false));
        let records = Arc::new(AtomicU64::new(0));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&records));
        let gateway = gateway.to_owned();
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // An error is the outage: the consumer connects again by itself.
                if let Some(Ok(message)) = consumer.poll(POLL) {
                    count.fetch_add(1, Ordering::Relaxed);
                    enter(&message, &gateway, &ledger);
                }
            }
        });
        Ok(Self { stop, records, thread: Some(thread) })
    }

    /// Records read so far, whatever they held.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("judge had broken down");
        }
    }
}

/// The present end of every partition of the plant's topics.
fn ends(consumer: &BaseConsumer) -> anyhow::Result<TopicPartitionList> {
    let mut places = TopicPartitionList::new();
    for source in Source::ALL {
        let topic = source.topic();
        let metadata = consumer
            .fetch_metadata(Some(topic), PATIENCE)
            .with_context(|| format!("cannot ask for the topic {topic}"))?;
        let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
        for partition in partitions.map(MetadataPartition::id) {
            let (_, end) = consumer
                .fetch_watermarks(topic, partition, PATIENCE)
                .with_context(|| format!("cannot ask for the end of {topic}/{partition}"))?;
            places
                .add_partition_offset(topic, partition, Offset::Offset(end))
                .with_context(|| format!("cannot read {topic}/{partition}"))?;
        }
    }
    Ok(places)
}

fn enter(message: &BorrowedMessage<'_>, gateway: &str, ledger: &Ledger) {
    let Some(source) = Source::of_topic(message.topic()) else { return };
    let payload = message.payload().unwrap_or_default();
    match serde_json::from_slice::<Record>(payload) {
        Ok(record) if record.gateway == gateway => {
            if let Some(number) = record.n {
                let id = format!("{}/{}/{}", record.gateway, record.epoch, record.seq);
                ledger.arrived(source, &record.device, number, &id);
            }
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, topic = message.topic(), "judge cannot read a record"),
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

    use super::*;
    use crate::kafka::Kafka;
    use crate::uplink::Uplink;

    fn record(gateway: &str, seq: u64, n: &str) -> String {
        format!(
            r#"{{"gateway":"{gateway}","epoch":"e","seq":{seq},"device":"a","ts":1,"n":{n},"v":1.5}}"#
        )
    }

    #[test]
    fn the_judge_enters_the_numbers_of_its_gateway_and_reads_on_after_an_outage() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let kafka = Kafka::simulated().unwrap();
        let uplink = runtime.block_on(Uplink::start(kafka.brokers())).unwrap();
        let ledger = Ledger::new(true);
        for _ in 0..3 {
            ledger.produce(Source::Sensors, "a");
        }
        let judge = Judge::start(uplink.brokers(), "gw", ledger.clone()).unwrap();
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", kafka.brokers())
            .set("enable.idempotence", "true")
            .set("reconnect.backoff.max.ms", "100")
            .create()
            .unwrap();
        let send = |seq, gateway, n| {
            let payload = record(gateway, seq, n);
            let record = BaseRecord::to(Source::Sensors.topic()).key("a").payload(&payload);
            producer.send(record).unwrap();
            producer.flush(PATIENCE).unwrap();
        };
        let until = |records| {
            while judge.records() < records {
                thread::yield_now();
            }
        };
        send(1, "gw", "1");
        send(1, "another", "2");
        send(2, "gw", "null");
        until(3);
        uplink.plug(false);
        send(3, "gw", "3");
        uplink.plug(true);
        send(3, "gw", "3");
        until(5);
        // Entered right after it was counted; dropping the judge waits for that.
        drop(judge);
        let end = ledger.at_end(None);
        assert_eq!((end.produced, end.delivered, end.lost, end.duplicated), (3, 2, 1, 1));
        assert_eq!(ledger.unexpected(), 0);
    }
}
