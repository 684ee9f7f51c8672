//! What is polled: registers, and rows of a local database.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use tidegate_e2e::modbus::Modbus;
use tidegate_e2e::table::Table;

use crate::bench::Bench;
use crate::line::{Line, float};
use crate::meter::{Lap, Meter};

pub(crate) const REGISTERS: u16 = 1_000;
const WATCHED: Duration = Duration::from_secs(20);
const STRIDE: Duration = Duration::from_secs(3);

const ROWS: u64 = 100_000;

/// What polling costs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Polled {
    /// Of one core.
    pub(crate) percent: f64,
    /// Of CPU, for each register that was read.
    pub(crate) micros: f64,
    /// Requests a second.
    pub(crate) rate: f64,
}

/// Requests of one round: 125 registers each (Modbus application protocol 6.3).
const ROUND: f64 = 8.0;

/// 1,000 holding registers, ten times a second.
pub(crate) fn modbus(bench: &mut Bench) -> Polled {
    let name = "modbus";
    let plant = Modbus::start();
    let source = format!(
        "[[source]]\ntype = \"modbus\"\nname = \"{name}\"\naddress = \"{}\"\nstream = \"{name}\"\n\
         [[source.device]]\nname = \"plant\"\n[[source.device.group]]\ninterval = \"100 ms\"\n{}",
        plant.address(),
        signals(REGISTERS)
    );
    let agent = bench.agent(name, &source);
    bench.topic(name).wait_begin();
    let polled = watch(&agent.meter, &plant);
    bench.lines.extend([
        Line::told(name, "1,000 registers, 10 times a second", polled.percent, "% core")
            .note(format!("{:.0} requests/s", polled.rate)),
        Line::told(name, "CPU", polled.micros, "µs/register"),
    ]);
    polled
}

/// So many holding registers, the first ones of a device, each a signal.
pub(crate) fn signals(count: u16) -> String {
    let mut text = String::from("signals = [\n");
    for register in 0..count {
        writeln!(
            text,
            "  {{ name = \"r{register}\", table = \"holding\", address = {register} }},"
        )
        .expect("a string takes text");
    }
    text + "]\n"
}

/// Looks for a while at a process that polls this plant.
pub(crate) fn watch(meter: &Meter, plant: &Modbus) -> Polled {
    tidegate_e2e::outage(STRIDE);
    let requests = || float(plant.requests(1).into());
    let (cpu, before, since) = (Lap::start(meter), requests(), Instant::now());
    tidegate_e2e::outage(WATCHED);
    let (used, took, answered) = (cpu.cpu(), since.elapsed(), requests() - before);
    Polled {
        percent: used.as_secs_f64() * 100.0 / took.as_secs_f64(),
        micros: used.as_secs_f64() * 1e6 / (answered / ROUND * f64::from(REGISTERS)),
        rate: answered / took.as_secs_f64(),
    }
}

/// Rows that were there before the agent started.
pub(crate) fn sqlite(bench: &mut Bench) {
    let name = "sqlite";
    let mut table = Table::make(&bench.folder(name).join("machine.db"));
    table.write(ROWS);
    let source = format!(
        "[[source]]\ntype = \"sqlite\"\nname = \"{name}\"\npath = \"{}\"\ntable = \"log\"\n\
         cursor = [\"id\"]\nstream = \"{name}\"\n",
        table.path.display()
    );
    let agent = bench.agent(name, &source);
    let topic = bench.topic(name);
    let (_, since) = topic.wait_begin();
    let end = topic.wait_for(ROWS);
    let cpu = agent.meter.cpu().as_secs_f64() * 1e6 / float(ROWS);
    bench.lines.extend([
        Line::told(name, "table to Kafka", float(ROWS) / (end - since).as_secs_f64(), "rows/s"),
        Line::told(name, "CPU of the agent, start included", cpu, "µs/row"),
    ]);
}
