//! Kafka comes back to a full buffer; beside it the same records by a bare
//! producer.

use crate::bench::{Bench, DEADLINE};
use crate::line::{Line, float};
use crate::load;
use crate::meter::Lap;
use tidegate_e2e::wait_until;

pub(crate) fn drain(bench: &mut Bench) {
    let name = "drain";
    let events = bench.events;
    let agent = bench.agent(name, &bench.mqtt(name));
    agent.process.wait_line("connected", DEADLINE);
    agent.process.wait_line("source is up", DEADLINE);
    bench.kafka.stop();
    let load = load::publish(bench.mosquitto.port, name, events, None);
    load.join().expect("the publisher ends well");
    wait_until("the backlog", DEADLINE, || Some(agent.stored()).filter(|stored| *stored == events));
    let cpu = Lap::start(&agent.meter);
    bench.kafka.start();
    let topic = bench.topic(name);
    // What came before the first look is not counted into the rate.
    let (before, since) = topic.wait_begin();
    let end = topic.wait_for(events);
    let rate = float(events.saturating_sub(before)) / (end - since).as_secs_f64();
    let micros = cpu.micros(events);
    drop(agent);

    bench.kafka.create_topic("raw", &[]);
    let brokers = bench.kafka.brokers();
    let raw = crate::bench::child("producer", &[&brokers, name, "raw"]);
    let raw = raw.wait_line("{", DEADLINE);
    let raw: crate::producer::Result = serde_json::from_str(&raw).expect("it says what it was");
    bench.lines.extend([
        Line::told(name, "backlog to Kafka", rate, "events/s"),
        Line::told(name, "CPU of the agent", micros, "µs/event"),
        Line::told("raw producer", "the same records", raw.rate, "events/s"),
        Line::told("raw producer", "CPU", raw.micros, "µs/event"),
        Line::told("raw producer", "the agent's rate by this one's", rate / raw.rate, "×"),
    ]);
}
