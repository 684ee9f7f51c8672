//! Collecting alone, with no Kafka to be reached, and collecting and sending at
//! once. The source is a table: no broker of MQTT gives what the limit asks for.

use std::time::Instant;

use crate::backlog::{self, Backlog};
use crate::bench::{Bench, DEADLINE};
use crate::line::{Line, float};
use crate::load;
use crate::meter::Lap;
use tidegate_e2e::{ports, wait_until};

/// Limits of the project: events a second, and of the raw producer's rate.
const RATE: f64 = 100_000.0;
const BOTH: f64 = 0.5;

/// And of CPU for a message that is read, committed and then acknowledged.
const MICROS: f64 = 5.0;

pub(crate) fn collect(bench: &mut Bench) {
    filled(bench);
}

/// The backlog that the parts share, made where none is yet.
pub(crate) fn filled(bench: &mut Bench) -> Backlog {
    if let Some(backlog) = &bench.backlog {
        return backlog.clone();
    }
    let name = "collect";
    let backlog = Backlog::collect(bench, name, bench.waiting);
    let note = format!("{} rows of a SQLite table", backlog.events);
    bench.lines.extend([
        Line::told(name, "table to file, Kafka away", backlog.rate, "events/s")
            .at_least(RATE)
            .note(note),
        Line::told(name, "CPU of the agent", backlog.micros, "µs/event"),
        Line::told(name, "written to disk", backlog.written, "B/event"),
    ]);
    bench.backlog = Some(backlog.clone());
    backlog
}

/// Rows that are read and sent in one go.
pub(crate) fn both(bench: &mut Bench) {
    let name = "both";
    let events = bench.waiting / 4;
    let table = bench.folder(name).join("machine.db");
    backlog::table(&table, events);
    let agent = bench.agent(name, &backlog::source(&table, name));
    let (cpu, topic) = (Lap::start(&agent.meter), bench.topic(name));
    let (before, since) = topic.wait_begin();
    let end = topic.wait_for(events);
    let rate = float(events.saturating_sub(before)) / (end - since).as_secs_f64();
    let micros = cpu.micros(events);
    let done = || Some(agent.counted()).filter(|left| *left == 0);
    wait_until("the file to be empty", DEADLINE, done);
    drop(agent);
    topic.check_order(events);
    let raw = crate::producer::compare(bench, name);
    bench.lines.extend([
        Line::told(name, "table to file to Kafka", rate, "events/s"),
        Line::told(name, "CPU of the agent", micros, "µs/event"),
        Line::told(name, "the raw producer's rate", raw.rate, "events/s").note(raw.told()),
        Line::told(name, "the agent's rate by this one's", rate / raw.rate, "×").at_least(BOTH),
    ]);
}

/// Messages of MQTT in a burst, each acknowledged after its commit.
pub(crate) fn intake(bench: &mut Bench) {
    let name = "intake";
    let nobody = format!("127.0.0.1:{}", ports::free());
    let agent = bench.start_agent(name, &nobody, "", &bench.mqtt(name));
    agent.wait_up(name);
    let (cpu, since) = (Lap::start(&agent.meter), Instant::now());
    let load = load::publish(bench.mosquitto.port, name, bench.events, None);
    let all = || Some(agent.counted()).filter(|stored| *stored >= bench.events);
    wait_until("all messages in the file", DEADLINE, all);
    let (micros, took) = (cpu.micros(bench.events), since.elapsed());
    load.join().expect("the publisher ends well");
    bench.lines.extend([
        Line::told(name, "MQTT to file", float(bench.events) / took.as_secs_f64(), "events/s"),
        Line::told(name, "CPU of the agent", micros, "µs/event").at_most(MICROS),
    ]);
}
