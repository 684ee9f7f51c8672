//! How soon an event is in Kafka: an alarm and any other on a line that is at
//! rest, and a live one while a backlog drains.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::{Message as _, Offset, TopicPartitionList};

use crate::bench::{Bench, DEADLINE, reader};
use crate::line::Line;
use crate::load;

/// Limits of the project, in milliseconds.
const ALARM: f64 = 100.0;
const OTHER: f64 = 1_300.0;
const LIVE: f64 = 2_000.0;

const PULSES: u64 = 100;

/// No divisor of the commit interval: the events fall anywhere within it.
const PAUSE: Duration = Duration::from_millis(97);

/// Each in a transaction of its own, with nothing else on its way.
pub(crate) fn alarm(bench: &mut Bench) {
    let [urgent, other] = ["urgent", "other"];
    for name in [urgent, other] {
        bench.kafka.create_topic(name, &[]);
    }
    let stream = |name, lane| {
        let source = format!("stream = \"{name}\"\nlane = \"{lane}\"");
        bench.mqtt_with(name, &source, "")
    };
    let sources = stream(urgent, "alarm") + &stream(other, "live");
    let agent = bench.start_agent("alarm", &bench.kafka.brokers(), "", &sources);
    agent.process.wait_line("connected", DEADLINE);
    for name in [urgent, other] {
        agent.wait_up(name);
    }
    // The first of each finds its topic.
    for name in [urgent, other] {
        delays(bench, name, 1);
    }
    let alarms = delays(bench, urgent, PULSES);
    let others = delays(bench, other, PULSES);
    lines(bench, "alarm", ["an alarm in Kafka, median", "maximum"], &alarms, ALARM);
    lines(bench, "alarm", ["any other, median", "its maximum"], &others, OTHER);
}

/// A live stream while another one's backlog drains.
pub(crate) fn live(bench: &mut Bench) {
    let name = "live";
    let backlog = crate::collect::filled(bench);
    let stream = "live-now";
    bench.kafka.create_topic(stream, &[]);
    let source = bench.mqtt_with(stream, &format!("stream = \"{stream}\""), "");
    let (agent, _) = crate::drain::started(bench, &backlog, name, &source);
    bench.topic(name).wait_begin();
    agent.wait_up(stream);
    delays(bench, stream, 1);
    let delays = delays(bench, stream, PULSES);
    let left = agent.counted();
    assert!(left > 0, "the backlog was gone too soon: give more with --backlog");
    lines(bench, name, ["a live event in Kafka, median", "maximum"], &delays, LIVE);
}

fn lines(
    bench: &mut Bench,
    part: &'static str,
    figures: [&'static str; 2],
    delays: &[f64],
    limit: f64,
) {
    let mut sorted = delays.to_vec();
    sorted.sort_by(f64::total_cmp);
    let [median, most] = [sorted.len() / 2, sorted.len() - 1]
        .map(|index| sorted.get(index).copied().expect("there are some"));
    let over = sorted.iter().filter(|delay| **delay > limit).count();
    let over = format!("{over} of {} above the limit", sorted.len());
    for (figure, value) in figures.into_iter().zip([median, most]) {
        bench.lines.push(Line::told(part, figure, value, "ms").at_most(limit).note(&over));
    }
}

/// Publishes so many events under this root, and gives for each the milliseconds
/// until a read-committed consumer of the topic of that name had it. All come,
/// each once.
fn delays(bench: &Bench, name: &str, count: u64) -> Vec<f64> {
    let mut client = bench.kafka.client();
    // Else the broker keeps the answer to a look that found nothing.
    client.set("fetch.wait.max.ms", "10");
    let consumer = reader(&client);
    let begin = bench.topic(name).end();
    let mut from = TopicPartitionList::new();
    let offset = Offset::Offset(i64::try_from(begin).expect("offsets are small"));
    from.add_partition_offset(name, 0, offset).expect("the offset is valid");
    consumer.assign(&from).expect("a consumer can be assigned");
    // It has fetched once: what follows does not wait for its connection.
    let ended = |answer: Option<Result<_, _>>| {
        matches!(answer, Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))))
    };
    while !ended(consumer.poll(DEADLINE).map(|answer| answer.map(|_| ()))) {}

    let (port, root) = (bench.mosquitto.port, name.to_owned());
    let sender = std::thread::spawn(move || load::pulse(port, &root, count, PAUSE));
    let mut seen: Vec<(u64, Instant)> = Vec::new();
    let all = usize::try_from(count).expect("pulses are few");
    while seen.len() < all {
        match consumer.poll(DEADLINE).expect("all events come") {
            Ok(message) => {
                let now = Instant::now();
                let json: serde_json::Value =
                    serde_json::from_slice(message.payload().unwrap_or_default())
                        .expect("a record is JSON");
                let n = json.get("n").and_then(serde_json::Value::as_u64);
                seen.push((n.expect("it carries its number"), now));
            }
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => {}
            Err(error) => assert!(error.to_string().is_empty(), "cannot read {name}: {error}"),
        }
    }
    let sent = sender.join().expect("the publisher ends well");
    let one = |(number, sent): (u64, &Instant)| {
        let mut found = seen.iter().filter(|(n, _)| *n == load::n(number));
        let (_, came) = found.next().expect("all events come");
        assert!(found.next().is_none(), "event {number} came twice");
        (*came - *sent).as_secs_f64() * 1e3
    };
    (0..).zip(&sent).map(one).collect()
}
