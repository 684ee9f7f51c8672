//! MQTT to Kafka: all at once, and a thousand a second.

use std::time::{Duration, Instant};

use crate::bench::Bench;
use crate::line::{Line, float};
use crate::load;
use crate::meter::{Lap, Meter};

/// Limits of the project, from what a prototype reached.
const MICROS: f64 = 9.0;
const RESIDENT: f64 = 20.0;
const PERCENT: f64 = 4.0;

const STEADY_RATE: u64 = 1_000;
const STEADY: Duration = Duration::from_secs(20);

/// Until the agent and the broker are in their stride.
const STRIDE: Duration = Duration::from_secs(3);

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

pub(crate) fn steady(bench: &mut Bench) {
    let name = "steady";
    let agent = bench.agent(name, &bench.mqtt(name));
    agent.process.wait_line("connected", crate::bench::DEADLINE);
    agent.process.wait_line("source is up", crate::bench::DEADLINE);
    let events = STEADY_RATE * (STEADY + STRIDE + STRIDE).as_secs();
    let load = load::publish(bench.mosquitto.port, name, events, Some(STEADY_RATE));
    tidegate_e2e::outage(STRIDE);
    let (cpu, written, since) = (Lap::start(&agent.meter), agent.meter.written(), Instant::now());
    tidegate_e2e::outage(STEADY);
    let percent = cpu.percent(since.elapsed());
    let written = float(agent.meter.written() - written) / since.elapsed().as_secs_f64();
    load.join().expect("the publisher ends well");
    bench.topic(name).wait_for(events);
    bench.lines.extend([
        Line::told(name, "CPU at 1,000 events/s", percent, "% core").at_most(PERCENT),
        Line::told(name, "written to disk", written / float(STEADY_RATE), "B/event"),
    ]);
}
