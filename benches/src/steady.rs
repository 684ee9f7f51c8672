//! MQTT to Kafka at a rate that does not change: what it takes of a core, and what
//! it writes to the disk.

use std::time::{Duration, Instant};

use crate::bench::{Bench, DEADLINE};
use crate::line::{Line, float};
use crate::load;
use crate::meter::Lap;

/// Limits of the project: percent of a core, bytes of an event at a thousand a
/// second, megabytes of a day at twenty.
const PERCENT: f64 = 4.0;
const BYTES: f64 = 100.0;
const MEGABYTES: f64 = 700.0;

/// The same where the file is written only when it is needed, and Kafka is there.
const NEEDED_MEGABYTES: f64 = 20.0;

const MANY: u64 = 1_000;
const MANY_WATCHED: Duration = Duration::from_secs(20);

const FEW: u64 = 20;
/// Runs of a minute differed by just eight blocks, a twentieth: more is written than the
/// commits, and not in each minute as much. What is left out is that the -wal is written
/// into the file each twenty minutes: twenty pages, 2 MB a day.
const FEW_WATCHED: Duration = Duration::from_mins(3);

/// Messages that mosquitto has on their way to a client of MQTT 3.1.1 by default.
const WINDOW: &str = "max_unacknowledged = 20";

/// The file is written only where Kafka does not take it soon.
const NEEDED: &str = "write = \"when_needed\"";

/// Until the agent and the broker are in their stride.
const STRIDE: Duration = Duration::from_secs(3);

const DAY: f64 = 86_400.0;

struct Watched {
    percent: f64,
    /// Bytes that were written in a second.
    written: f64,
}

pub(crate) fn steady(bench: &mut Bench) {
    let name = "steady";
    let wide = watch(bench, name, "", "", MANY, MANY_WATCHED);
    let narrow = watch(bench, "steady-window", "", WINDOW, MANY, MANY_WATCHED);
    let each = |watched: &Watched| watched.written / float(MANY);
    bench.lines.extend([
        Line::told(name, "CPU at 1,000 events/s", wide.percent, "% core").at_most(PERCENT),
        Line::told(name, "written to disk", each(&wide), "B/event").at_most(BYTES),
        Line::told(name, "CPU with a window of 20 messages", narrow.percent, "% core"),
        Line::told(name, "written with it", each(&narrow), "B/event"),
    ]);
}

pub(crate) fn day(bench: &mut Bench) {
    let name = "day";
    let watched = watch(bench, name, "", "", FEW, FEW_WATCHED);
    let megabytes = watched.written * DAY / 1e6;
    let needed = watch(bench, "day-needed", NEEDED, "", FEW, FEW_WATCHED);
    let note =
        format!("by {} s; {:.0} B/event", FEW_WATCHED.as_secs(), watched.written / float(FEW));
    bench.lines.push(
        Line::told(name, "written in a day, 20 events/s", megabytes, "MB")
            .at_most(MEGABYTES)
            .note(note),
    );
    let megabytes = needed.written * DAY / 1e6;
    bench.lines.push(
        Line::told(name, "the same, written when needed", megabytes, "MB")
            .at_most(NEEDED_MEGABYTES),
    );
}

fn watch(
    bench: &Bench,
    name: &str,
    buffer: &str,
    source: &str,
    rate: u64,
    lasts: Duration,
) -> Watched {
    bench.kafka.create_topic(name, &[]);
    let source = bench.mqtt_with(name, &format!("stream = \"{name}\"\n{source}"), "");
    let agent = bench.start_agent(name, &bench.kafka.brokers(), buffer, &source);
    agent.process.wait_line("connected", DEADLINE);
    agent.wait_up(name);
    let events = rate * (lasts + STRIDE + STRIDE).as_secs();
    let load = load::publish(bench.mosquitto.port, name, events, Some(rate));
    tidegate_e2e::outage(STRIDE);
    let (cpu, written, since) = (Lap::start(&agent.meter), agent.meter.written(), Instant::now());
    tidegate_e2e::outage(lasts);
    let percent = cpu.percent(since.elapsed());
    let written = float(agent.meter.written() - written) / since.elapsed().as_secs_f64();
    load.join().expect("the publisher ends well");
    bench.topic(name).wait_for(events);
    Watched { percent, written }
}
