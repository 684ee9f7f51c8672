//! MQTT to Kafka, all at once.

use std::time::Instant;

use crate::bench::Bench;
use crate::line::{Line, float};
use crate::load;
use crate::meter::{Lap, Meter};

/// Limits of the project, from what a prototype reached.
const MICROS: f64 = 9.0;
const RESIDENT: f64 = 20.0;

pub(crate) fn burst(bench: &mut Bench) {
    let name = "burst";
    let agent = bench.agent(name, &bench.mqtt(name));
    agent.process.wait_line("connected", crate::bench::DEADLINE);
    agent.process.wait_line("source is up", crate::bench::DEADLINE);
    let topic = bench.topic(name);
    let broker = Lap::start(&Meter::of(&bench.mosquitto.process));
    let (cpu, written) = (Lap::start(&agent.meter), agent.meter.written());
    let since = Instant::now();
    let load = load::publish(bench.mosquitto.port, name, bench.events, None);
    let end = topic.wait_for(bench.events);
    load.join().expect("the publisher ends well");
    let events = float(bench.events);
    let seconds = (end - since).as_secs_f64();
    let limited = format!("mosquitto {:.1} µs/message", broker.micros(bench.events));
    let written = float(agent.meter.written() - written) / events;
    let peak = float(agent.meter.peak()) / 1e6;
    let own = float(agent.meter.anonymous()) / 1e6;
    bench.lines.extend([
        Line::told(name, "MQTT to Kafka", events / seconds, "events/s").note(limited),
        Line::told(name, "CPU of the agent", cpu.micros(bench.events), "µs/event").at_most(MICROS),
        Line::told(name, "written to disk", written, "B/event"),
        Line::told(name, "peak resident", peak, "MB").at_most(RESIDENT),
        Line::told(name, "its own memory afterwards", own, "MB"),
    ]);
}
