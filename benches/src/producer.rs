//! What Kafka costs without an agent: a loop around librdkafka that sends the
//! records of a topic to another one, in transactions.

use std::io::Write as _;
use std::time::{Duration, Instant};

use clap::Args;
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, Message as _, bindings};
use serde::{Deserialize, Serialize};

use crate::bench::{Bench, DEADLINE};
use crate::line::float;
use crate::meter::{Lap, Meter};

/// Records of a transaction: the good size for a backlog.
const TRANSACTION: usize = 10_000;

const ANSWER: Duration = Duration::from_mins(1);

#[derive(Debug, Args)]
pub(crate) struct Work {
    brokers: String,
    from: String,
    to: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Result {
    pub(crate) rate: f64,
    pub(crate) micros: f64,
    /// Of a record, without key and headers.
    bytes: f64,
}

impl Result {
    pub(crate) fn told(&self) -> String {
        format!("records of {:.0} B, {TRANSACTION} in a transaction", self.bytes)
    }
}

struct Record {
    key: Vec<u8>,
    headers: OwnedHeaders,
    payload: Vec<u8>,
}

/// Sends what is in the topic `from` to a topic of its own, in a process of its own.
pub(crate) fn compare(bench: &Bench, from: &str) -> Result {
    let to = format!("{from}-raw");
    bench.kafka.create_topic(&to, &[]);
    let raw = crate::bench::child("producer", &[&bench.kafka.brokers(), from, &to]);
    let raw = raw.wait_line("{", DEADLINE);
    serde_json::from_str(&raw).expect("it says what it was")
}

pub(crate) fn run(work: &Work) {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &work.brokers);
    let mut records = Vec::new();
    crate::bench::read_all(&crate::bench::reader(&client), &work.from, |message| {
        records.push(Record {
            key: message.key().unwrap_or_default().to_vec(),
            headers: message
                .headers()
                .map_or_else(OwnedHeaders::new, rdkafka::message::BorrowedHeaders::detach),
            payload: message.payload().unwrap_or_default().to_vec(),
        });
    });
    // As the agent has it, but for the size of a transaction.
    client
        .set("transactional.id", "bench-raw")
        .set("compression.codec", "zstd")
        .set("partitioner", "murmur2_random")
        .set("delivery.report.only.error", "true")
        .set("compression.level", "1")
        .set("linger.ms", "20")
        .set("queue.buffering.max.kbytes", "8192")
        .set("queue.buffering.max.messages", "20000");
    let producer: BaseProducer = client.create().expect("the settings are valid");
    producer.init_transactions(ANSWER).expect("Kafka answers");
    let count = u64::try_from(records.len()).expect("a length fits");
    let (cpu, since) = (Lap::start(&Meter::own()), Instant::now());
    for records in records.chunks(TRANSACTION) {
        producer.begin_transaction().expect("a transaction can begin");
        for record in records {
            let sent = BaseRecord::to(&work.to)
                .key(&record.key)
                .payload(&record.payload)
                .headers(record.headers.clone());
            producer.send(sent).map_err(|(error, _)| error).expect("the queue has room");
        }
        flush(&producer);
        producer.commit_transaction(ANSWER).expect("Kafka commits");
    }
    let (seconds, micros) = (since.elapsed().as_secs_f64(), cpu.micros(count));
    let bytes: u64 = records.iter().map(|record| record.payload.len() as u64).sum();
    let result =
        Result { rate: float(count) / seconds, micros, bytes: float(bytes) / float(count) };
    let result = serde_json::to_string(&result).expect("numbers can be written");
    writeln!(std::io::stdout(), "{result}").expect("the parent reads");
}

/// The crate's own flush polls in steps of 100 ms.
fn flush(producer: &BaseProducer) {
    #[expect(unsafe_code, reason = "librdkafka's flush has no other way in")]
    // SAFETY: the pointer belongs to `producer`, which outlives the call, and
    // librdkafka's functions may be called from any thread.
    let result = unsafe { bindings::rd_kafka_flush(producer.client().native_ptr(), 60_000) };
    assert_eq!(result, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR, "Kafka takes all");
}
