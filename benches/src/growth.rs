//! How cost grows: with the devices of a source, and with the gateways of a broker.

use std::time::{Duration, Instant};

use crate::bench::{Agent, Bench, DEADLINE};
use crate::line::{Line, float};
use crate::load;
use crate::meter::{Lap, Meter};

const DEVICES: [u64; 4] = [1, 10, 100, 1_000];

/// Gateways, and the events a second of all of them: as many as a machine of two
/// cores carries beside Kafka.
const GATEWAYS: [(u64, u64); 4] = [(1, 1), (10, 10), (100, 100), (1_000, 50)];

/// Until all gateways and the broker are in their stride, and then.
const STRIDE: Duration = Duration::from_secs(10);
const WATCHED: Duration = Duration::from_secs(30);

/// The same number of messages of ever more devices, as fast as they come.
pub(crate) fn devices(bench: &mut Bench) {
    let name = "devices";
    for devices in DEVICES {
        let of = format!("devices-{devices}");
        let agent = bench.agent(&of, &bench.mqtt(&of));
        agent.process.wait_line("connected", DEADLINE);
        agent.wait_up(&of);
        let (cpu, written) = (Lap::start(&agent.meter), agent.meter.written());
        let load = load::publish_of(devices, bench.mosquitto.port, &of, bench.events, None);
        bench.topic(&of).wait_for(bench.events);
        load.join().expect("the publisher ends well");
        let each = float(agent.meter.written() - written) / float(bench.events);
        let count = format!("{devices} devices");
        bench.lines.extend([
            Line::told(name, "CPU of the agent", cpu.micros(bench.events), "µs/event").note(&count),
            Line::told(name, "written to disk", each, "B/event").note(&count),
            Line::told(name, "peak resident", float(agent.meter.peak()) / 1e6, "MB").note(&count),
        ]);
    }
}

/// Ever more agents on one broker, each with its own transactions: one for each
/// event.
pub(crate) fn gateways(bench: &mut Bench) {
    let name = "gateways";
    for (gateways, rate) in GATEWAYS {
        let topic = format!("gateways-{gateways}");
        bench.kafka.create_topic(&topic, &[]);
        let agents: Vec<Agent> =
            (0..gateways).map(|number| gateway(bench, &topic, number)).collect();
        for agent in &agents {
            agent.process.wait_line("connected", DEADLINE);
            agent.process.wait_line("source is up", DEADLINE);
        }
        let events = rate * (STRIDE + WATCHED + STRIDE).as_secs();
        let port = bench.mosquitto.port;
        let load = load::publish_of(gateways, port, &topic, events, Some(rate));
        tidegate_e2e::outage(STRIDE);
        let since = Instant::now();
        let broker = Lap::start(&Meter::of(bench.kafka.process()));
        let laps: Vec<Lap> = agents.iter().map(|agent| Lap::start(&agent.meter)).collect();
        tidegate_e2e::outage(WATCHED);
        let broker = broker.percent(since.elapsed());
        let own: f64 = laps.iter().map(|lap| lap.percent(since.elapsed())).sum();
        load.join().expect("the publisher ends well");
        bench.topic(&topic).wait_for(events);
        let resident: u64 = agents.iter().map(|agent| agent.meter.resident()).sum();
        let count = format!("{gateways} gateways, {rate} events a second");
        bench.lines.extend([
            Line::told(name, "CPU of Kafka", broker, "% core").note(&count),
            Line::told(name, "CPU of each agent", own / float(gateways), "% core").note(&count),
            Line::told(name, "resident, each", float(resident / gateways) / 1e6, "MB").note(&count),
        ]);
    }
}

/// The agent that reads one device of the load.
fn gateway(bench: &Bench, topic: &str, number: u64) -> Agent {
    let source = format!(
        "[[source]]\ntype = \"mqtt\"\nname = \"device\"\naddress = \"127.0.0.1:{}\"\nstream = \"{topic}\"\n\
         [[source.subscription]]\ntopic = \"{}\"\n",
        bench.mosquitto.port,
        load::topic(topic, number),
    );
    bench.start_agent(&format!("{topic}-{number}"), &bench.kafka.brokers(), "", &source)
}
