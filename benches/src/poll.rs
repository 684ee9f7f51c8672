//! What is polled: registers, and rows of a local database.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use tidegate_e2e::modbus::Modbus;
use tidegate_e2e::table::Table;

use crate::bench::Bench;
use crate::line::{Line, float};
use crate::meter::Lap;

const REGISTERS: u16 = 1_000;
const WATCHED: Duration = Duration::from_secs(20);
const STRIDE: Duration = Duration::from_secs(3);

const ROWS: u64 = 100_000;

/// 1,000 holding registers, ten times a second.
pub(crate) fn modbus(bench: &mut Bench) {
    let name = "modbus";
    let plant = Modbus::start();
    let mut source = format!(
        "[[source]]\ntype = \"modbus\"\nname = \"{name}\"\naddress = \"{}\"\nstream = \"{name}\"\n\
         [[source.device]]\nname = \"plant\"\n[[source.device.group]]\ninterval = \"100 ms\"\n\
         signals = [\n",
        plant.address()
    );
    for register in 0..REGISTERS {
        writeln!(
            source,
            "  {{ name = \"r{register}\", table = \"holding\", address = {register} }},"
        )
        .expect("a string takes text");
    }
    source.push_str("]\n");
    let agent = bench.agent(name, &source);
    bench.topic(name).wait_begin();
    tidegate_e2e::outage(STRIDE);
    let requests = || float(plant.requests(1).into());
    let (cpu, before, since) = (Lap::start(&agent.meter), requests(), Instant::now());
    tidegate_e2e::outage(WATCHED);
    let percent = cpu.percent(since.elapsed());
    let rate = (requests() - before) / since.elapsed().as_secs_f64();
    bench.lines.push(
        Line::told(name, "1,000 registers, 10 times a second", percent, "% core").note(format!(
            "{rate:.0} requests/s; Telegraf 1.39.1 took 7-8 % (not measured in this run)"
        )),
    );
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
