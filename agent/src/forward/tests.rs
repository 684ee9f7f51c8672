//! The forwarder between a real buffer file and librdkafka's mock cluster.
//!
//! The mock keeps no control batches: what an aborted transaction wrote stays
//! visible in it. So ids are compared as a set where something
//! may have been aborted.

use std::collections::BTreeSet;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::*;
use crate::buffer;
use crate::collect::{self, Buffer, Collector, Delivery as Handed, Intake, SourceInfo};
use crate::event::{Event, Field, Quality, Timestamp, Value};
use crate::flow::{Flows, Lane, Stream};
use crate::units::{ByteSize, Period, Room as Free};

pub(super) const NOW: Timestamp = Timestamp(1_767_225_600_000_000_000);

/// Longest that anything here waits before it fails; nothing depends on it.
const PATIENCE: Duration = Duration::from_mins(1);

pub(super) struct Plant {
    pub(super) collector: Collector,
    intake: Intake,
    flows: Flows,
    runtime: tokio::runtime::Runtime,
    forwarder: Option<Forwarder>,
    status: watch::Receiver<Status>,
    pub(super) config: Config,
    next: u64,
}

impl Plant {
    pub(super) fn new(folder: &std::path::Path, brokers: &str, topics: &[&str]) -> Self {
        Self::that_commits(Period::from_millis(10), folder, brokers, topics)
    }

    fn that_commits(
        commit_interval: Period,
        folder: &std::path::Path,
        brokers: &str,
        topics: &[&str],
    ) -> Self {
        let stream = |topic: &&str| Stream {
            name: (*topic).to_owned(),
            topic: (*topic).to_owned(),
            create: None,
        };
        let mut flows = Flows::new(topics.iter().map(stream));
        for topic in topics {
            flows.id(topic, Lane::Live);
        }
        let buffer = buffer::Config {
            path: folder.join("buffer.db"),
            commit_interval,
            max_size: ByteSize::mib(64),
            min_free_disk: Free::Size(ByteSize(0)),
            ..buffer::Config::default()
        };
        let buffer = Buffer::open(&buffer, "gw1", Clock::fixed(NOW)).unwrap();
        let source = SourceInfo { name: "s".into(), labels: Vec::new() };
        let (collector, mut intakes) = collect::start(buffer, vec![source], flows.clone()).unwrap();
        let config = serde_json::from_value(serde_json::json!({
            "brokers": brokers, "transaction_timeout": "10 s",
        }))
        .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self {
            collector,
            intake: intakes.remove(0),
            flows,
            runtime,
            forwarder: None,
            status: watch::Sender::new(Status::begin()).subscribe(),
            config,
            next: 0,
        }
    }

    fn forward(&mut self) {
        let store = self.collector.store();
        let status = watch::Sender::new(Status::begin());
        self.status = status.subscribe();
        let forwarder =
            start(self.config.clone(), "gw1", store, Clock::fixed(NOW), status).unwrap();
        self.forwarder = Some(forwarder);
    }

    /// Stores so many events of two devices, each with its number as `n`.
    pub(super) fn store(&mut self, stream: &str, count: u64) {
        self.store_with(stream, count, Value::U64);
    }

    pub(super) fn store_with(&mut self, stream: &str, count: u64, value: impl Fn(u64) -> Value) {
        let flow = self.flows.id(stream, Lane::Live);
        let events = (self.next..self.next + count)
            .map(|n| Event {
                flow,
                device: format!("d{}", n % 2).into(),
                time: Timestamp(NOW.0 + i64::try_from(n).unwrap() * 1_000_000),
                read_at: None,
                quality: Quality::Good,
                fields: vec![
                    Field { name: "n".into(), unit: None, value: Value::U64(n), quality: None },
                    Field { name: "v".into(), unit: None, value: value(n), quality: None },
                ],
            })
            .collect();
        self.next += count;
        self.runtime.block_on(async {
            let handed = Handed { events, bytes: 1, urgent: true, ..Handed::default() };
            let ticket = self.intake.deliver(handed).await.unwrap();
            self.intake.wait_committed(ticket).await.unwrap();
        });
    }

    fn wait(&mut self, done: impl Fn(&Status) -> bool) -> Status {
        let status = &mut self.status;
        self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, status.wait_for(|s| done(s)))
                .await
                .expect("the forwarder gets there")
                .unwrap()
                .clone()
        })
    }

    fn stop(&mut self) {
        self.forwarder.take().unwrap().stop(Duration::from_secs(10));
    }
}

pub(crate) fn cluster(topics: &[&str]) -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).unwrap();
    for topic in topics {
        cluster.create_topic(topic, 1, 1).unwrap();
    }
    cluster.create_topic("tidegate.positions", 1, 1).unwrap();
    cluster
}

/// Key, id and `n` of everything in the topic.
pub(crate) fn read(brokers: &str, topic: &str) -> Vec<(String, String, u64)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "reader")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&from).unwrap();
    let mut found = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    loop {
        match consumer.poll(PATIENCE).expect("the mock answers") {
            Ok(message) => {
                let json: serde_json::Value =
                    serde_json::from_slice(message.payload().unwrap()).unwrap();
                let id = message.headers().unwrap().iter().find(|h| h.key == "id").unwrap();
                let id = text(id.value.unwrap());
                let said = format!(
                    "{}/{}/{}",
                    json["gateway"].as_str().unwrap(),
                    json["epoch"].as_str().unwrap(),
                    json["seq"]
                );
                assert_eq!(id, said, "header and value name the same event");
                found.push((text(message.key().unwrap()), id, json["n"].as_u64().unwrap()));
            }
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => return found,
            Err(error) => panic!("{error}"),
        }
    }
}

pub(super) fn numbers(found: &[(String, String, u64)]) -> BTreeSet<u64> {
    found.iter().map(|(_, _, n)| *n).collect()
}

#[test]
fn records_arrive_once_and_in_order_per_device() {
    let cluster = cluster(&["plant"]);
    let folder = tempfile::tempdir().unwrap();
    let mut plant = Plant::new(folder.path(), &cluster.bootstrap_servers(), &["plant"]);
    plant.store("plant", 700);
    plant.forward();
    plant.wait(|s| s.delivered_events == 700);
    plant.store("plant", 800);
    plant.wait(|s| s.delivered_events == 1_500);
    plant.stop();
    let found = read(&cluster.bootstrap_servers(), "plant");
    for device in ["d0", "d1"] {
        let order: Vec<u64> =
            found.iter().filter(|(key, ..)| key == device).map(|(_, _, n)| *n).collect();
        assert_eq!(order.len(), 750);
        assert!(order.is_sorted(), "{device}");
    }
    let ids: BTreeSet<_> = found.iter().map(|(_, id, _)| id).collect();
    assert_eq!((found.len(), ids.len()), (1_500, 1_500));
}

#[test]
fn what_kafka_has_is_not_sent_again_by_the_next_forwarder() {
    let cluster = cluster(&["plant"]);
    let folder = tempfile::tempdir().unwrap();
    let mut plant = Plant::new(folder.path(), &cluster.bootstrap_servers(), &["plant"]);
    plant.forward();
    plant.store("plant", 10);
    plant.wait(|s| s.delivered_events == 10);
    plant.stop();
    plant.store("plant", 5);
    plant.forward();
    plant.wait(|s| s.delivered_events == 5);
    plant.stop();
    let found = read(&cluster.bootstrap_servers(), "plant");
    assert_eq!(found.iter().map(|(_, _, n)| *n).collect::<Vec<_>>(), (0..15).collect::<Vec<_>>());
}

#[test]
fn at_least_once_what_was_delivered_is_not_sent_again_by_the_next_forwarder() {
    let cluster = cluster(&["plant"]);
    let folder = tempfile::tempdir().unwrap();
    let brokers = cluster.bootstrap_servers();
    // It stays in the file, unless somebody asks.
    let mut plant =
        Plant::that_commits(Period::from_secs(3_600), folder.path(), &brokers, &["plant"]);
    plant.config.delivery = Delivery::AtLeastOnce;
    plant.store("plant", 10);
    plant.forward();
    plant.wait(|s| s.delivered_events == 10);
    plant.stop();
    plant.forward();
    plant.wait(Status::is_reached);
    // It sends what it finds before it ends.
    plant.stop();
    assert_eq!(read(&brokers, "plant").len(), 10);
}

#[test]
fn a_broker_that_goes_and_comes_back_loses_nothing() {
    let cluster = cluster(&["plant"]);
    let folder = tempfile::tempdir().unwrap();
    let mut plant = Plant::new(folder.path(), &cluster.bootstrap_servers(), &["plant"]);
    plant.forward();
    plant.store("plant", 100);
    plant.wait(|s| s.delivered_events == 100);
    cluster.broker_down(1).unwrap();
    plant.store("plant", 100);
    plant.wait(|s| s.last_error.is_some());
    plant.store("plant", 100);
    cluster.broker_up(1).unwrap();
    let status = plant.wait(|s| s.delivered_events == 300);
    assert_eq!(status.last_error, None);
    plant.stop();
    let found = read(&cluster.bootstrap_servers(), "plant");
    assert_eq!(numbers(&found), (0..300).collect());
    let ids: BTreeSet<_> = found.iter().map(|(_, id, n)| (id, n)).collect();
    assert_eq!(ids.len(), 300, "an event keeps its id");
}

#[test]
fn a_missing_topic_holds_up_only_its_own_stream() {
    let cluster = cluster(&["plant"]);
    let folder = tempfile::tempdir().unwrap();
    let mut plant = Plant::new(folder.path(), &cluster.bootstrap_servers(), &["missing", "plant"]);
    plant.store("missing", 10);
    plant.store("plant", 10);
    plant.forward();
    plant.wait(|s| s.delivered_events == 10);
    assert_eq!(numbers(&read(&cluster.bootstrap_servers(), "plant")), (10..20).collect());
    cluster.create_topic("missing", 1, 1).unwrap();
    plant.wait(|s| s.delivered_events == 20);
    plant.stop();
    assert_eq!(numbers(&read(&cluster.bootstrap_servers(), "missing")), (0..10).collect());
}

#[test]
fn what_an_aborted_transaction_carried_is_sent_though_its_stream_stood_aside_meanwhile() {
    let topics = ["a", "b"];
    let cluster = cluster(&topics);
    let folder = tempfile::tempdir().unwrap();
    let mut plant = Plant::new(folder.path(), &cluster.bootstrap_servers(), &topics);
    plant.store("a", 10);
    plant.store("b", 10);
    // The first transaction is lost at its commit, with the position in it; in
    // the second one a stream is refused, so that the next commit is the
    // other's alone.
    let fine = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
    // The very first one only says who sends.
    let lost = RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING;
    cluster.request_errors(RDKafkaApiKey::EndTxn, &[fine, lost]);
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::Produce, &[fine, fine, refused]);
    plant.forward();
    plant.wait(|s| s.delivered_events == 20);
    plant.stop();
    let brokers = cluster.bootstrap_servers();
    assert_eq!(numbers(&read(&brokers, "a")), (0..10).collect());
    assert_eq!(numbers(&read(&brokers, "b")), (10..20).collect());
}

#[test]
fn a_request_that_was_refused_whole_buries_no_record_that_is_fine_alone() {
    let cluster = cluster(&["plant"]);
    let folder = tempfile::tempdir().unwrap();
    let mut plant = Plant::new(folder.path(), &cluster.bootstrap_servers(), &["plant"]);
    plant.store("plant", 100);
    cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE],
    );
    plant.forward();
    plant.wait(|s| s.delivered_events == 100);
    plant.stop();
    assert_eq!(numbers(&read(&cluster.bootstrap_servers(), "plant")), (0..100).collect());
}

#[test]
fn a_record_that_is_too_large_becomes_a_dead_letter_alone() {
    let cluster = cluster(&["plant"]);
    let folder = tempfile::tempdir().unwrap();
    let mut plant = Plant::new(folder.path(), &cluster.bootstrap_servers(), &["plant"]);
    plant.store_with("plant", 10, |n| {
        Value::Text(if n == 4 { "x".repeat(1_200_000) } else { String::new() }.into())
    });
    plant.forward();
    // The dead letter counts as handled, not as delivered.
    plant.wait(|s| s.delivered_events == 9);
    plant.stop();
    let expected: BTreeSet<u64> = (0..10).filter(|n| *n != 4).collect();
    assert_eq!(numbers(&read(&cluster.bootstrap_servers(), "plant")), expected);
}

#[test]
fn a_record_that_the_clients_queue_never_takes_becomes_a_dead_letter() {
    let cluster = cluster(&["plant"]);
    let folder = tempfile::tempdir().unwrap();
    let mut plant = Plant::new(folder.path(), &cluster.bootstrap_servers(), &["plant"]);
    plant.config.options.insert("queue.buffering.max.kbytes".into(), "100".into());
    plant.store_with("plant", 10, |n| {
        Value::Text(if n == 4 { "x".repeat(200_000) } else { String::new() }.into())
    });
    plant.forward();
    plant.wait(|s| s.delivered_events == 9);
    plant.stop();
    let expected: BTreeSet<u64> = (0..10).filter(|n| *n != 4).collect();
    assert_eq!(numbers(&read(&cluster.bootstrap_servers(), "plant")), expected);
}

#[test]
fn at_least_once_needs_no_topic_of_positions() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("plant", 1, 1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut plant = Plant::new(folder.path(), &cluster.bootstrap_servers(), &["plant"]);
    plant.config.delivery = Delivery::AtLeastOnce;
    plant.store("plant", 10);
    plant.forward();
    plant.wait(|s| s.delivered_events == 10);
    plant.store("plant", 10);
    plant.wait(|s| s.delivered_events == 20);
    plant.stop();
    assert_eq!(numbers(&read(&cluster.bootstrap_servers(), "plant")), (0..20).collect());
}

#[test]
fn at_least_once_a_refused_record_stops_and_doubles_nobody() {
    let cluster = cluster(&["plant"]);
    let folder = tempfile::tempdir().unwrap();
    let mut plant = Plant::new(folder.path(), &cluster.bootstrap_servers(), &["plant"]);
    plant.config.delivery = Delivery::AtLeastOnce;
    plant.store_with("plant", 10, |n| {
        Value::Text(if n == 4 { "x".repeat(1_200_000) } else { String::new() }.into())
    });
    // One is too large for the client, and the broker refuses a request whole.
    cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE],
    );
    plant.forward();
    plant.wait(|s| s.delivered_events == 9);
    plant.stop();
    let found = read(&cluster.bootstrap_servers(), "plant");
    let expected: BTreeSet<u64> = (0..10).filter(|n| *n != 4).collect();
    assert_eq!((found.len(), numbers(&found)), (9, expected));
}

#[test]
fn a_topic_that_cannot_be_written_holds_up_nobody_else() {
    let cluster = cluster(&["a", "b"]);
    let folder = tempfile::tempdir().unwrap();
    let brokers = cluster.bootstrap_servers();
    let mut plant = Plant::new(folder.path(), &brokers, &["a", "b"]);
    plant.config = serde_json::from_value(serde_json::json!({
        "brokers": brokers, "transaction_timeout": "4 s",
    }))
    .unwrap();
    // It stands in the metadata, but nobody leads its partition.
    cluster.partition_leader("b", 0, None).unwrap();
    plant.store("a", 10);
    plant.store("b", 10);
    plant.forward();
    plant.wait(|s| s.delivered_events == 10);
    assert_eq!(numbers(&read(&brokers, "a")), (0..10).collect());
    cluster.partition_leader("b", 0, Some(1)).unwrap();
    plant.wait(|s| s.delivered_events == 20);
    plant.stop();
    assert_eq!(numbers(&read(&brokers, "b")), (10..20).collect());
}

#[test]
fn a_stop_without_a_broker_ends_within_its_grace() {
    let folder = tempfile::tempdir().unwrap();
    // Port 1 answers nobody.
    let mut plant = Plant::new(folder.path(), "127.0.0.1:1", &["plant"]);
    plant.store("plant", 1);
    plant.forward();
    plant.wait(|s| s.last_error.is_some());
    plant.forwarder.take().unwrap().stop(Duration::ZERO);
}
