//! MQTT to Kafka, all at once.

use std::time::{Duration, Instant};

use crate::bench::Bench;
use crate::line::{Line, float};
use crate::load;
use crate::meter::{Lap, Meter};

/// Limits of the project, from what a prototype reached.
const MICROS: f64 = 9.0;
const RESIDENT: f64 = 20.0;

/// The agent gives back what it has free each minute in which something came.
const REST: Duration = Duration::from_secs(65);

/// What reading a burst costs, for each event of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Burst {
    /// Events a second.
    pub(crate) rate: f64,
    /// Of CPU.
    pub(crate) micros: f64,
    /// Bytes.
    pub(crate) written: f64,
    /// MB, at most and for all of it.
    pub(crate) peak: f64,
}

pub(crate) fn burst(bench: &mut Bench) -> Burst {
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
    let burst = Burst {
        rate: events / seconds,
        micros: cpu.micros(bench.events),
        written: float(agent.meter.written() - written) / events,
        peak: float(agent.meter.peak()) / 1e6,
    };
    tidegate_e2e::outage(REST);
    let own = float(agent.meter.anonymous()) / 1e6;
    bench.lines.extend([
        Line::told(name, "MQTT to Kafka", burst.rate, "events/s").note(limited),
        Line::told(name, "CPU of the agent", burst.micros, "µs/event").at_most(MICROS),
        Line::told(name, "written to disk", burst.written, "B/event"),
        Line::told(name, "peak resident", burst.peak, "MB").at_most(RESIDENT),
        Line::told(name, "its own memory a minute afterwards", own, "MB"),
    ]);
    burst
}
