//! Kafka is there again and a full buffer drains; beside it the same records by a
//! bare producer.

use crate::backlog::Backlog;
use crate::bench::{Agent, Bench, DEADLINE};
use crate::line::{Line, float};
use crate::meter::Lap;
use tidegate_e2e::wait_until;

/// Limits of the project.
const RATIO: f64 = 0.8;
const RESIDENT: f64 = 40.0;

pub(crate) fn drain(bench: &mut Bench) {
    let name = "drain";
    let backlog = crate::collect::filled(bench);
    let (agent, cpu) = started(bench, &backlog, name, "");
    let topic = bench.topic(name);
    // What came before the first look is not counted into the rate.
    let (before, since) = topic.wait_begin();
    let end = topic.wait_for(backlog.events);
    let rate = float(backlog.events.saturating_sub(before)) / (end - since).as_secs_f64();
    let micros = cpu.micros(backlog.events);
    let peak = float(agent.meter.peak()) / 1e6;
    let done = || Some(agent.counted()).filter(|left| *left == 0);
    wait_until("the file to be empty", DEADLINE, done);
    drop(agent);
    topic.check_order(backlog.events);

    let raw = crate::producer::compare(bench, name);
    // Each transaction leaves a mark behind its records.
    let transactions = topic.end() - backlog.events;
    let note = format!("{} events in {transactions} transactions", backlog.events);
    bench.lines.extend([
        Line::told(name, "backlog to Kafka", rate, "events/s").note(note),
        Line::told(name, "CPU of the agent", micros, "µs/event"),
        Line::told(name, "peak resident", peak, "MB").at_most(RESIDENT),
        Line::told("raw producer", "the same records", raw.rate, "events/s").note(raw.told()),
        Line::told("raw producer", "CPU", raw.micros, "µs/event"),
        Line::told("raw producer", "the agent's rate by this one's", rate / raw.rate, "×")
            .at_least(RATIO),
        Line::told("raw producer", "the agent's CPU by this one's", micros / raw.micros, "×"),
    ]);
}

/// An agent on a copy of the backlog.
pub(crate) fn started(bench: &Bench, backlog: &Backlog, name: &str, more: &str) -> (Agent, Lap) {
    let sources = backlog.copy(bench, name) + more;
    let agent = bench.start_agent(name, &bench.kafka.brokers(), "", &sources);
    let cpu = Lap::start(&agent.meter);
    (agent, cpu)
}
