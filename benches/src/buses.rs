//! Many devices on many buses, as a plant has them.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use tidegate_e2e::modbus::Modbus;
use tidegate_e2e::ports;

use crate::bench::Bench;
use crate::line::{Line, float};
use crate::meter::Lap;
use crate::poll::signals;
use crate::status::figure;

/// Limits of the project.
const PERCENT: f64 = 2.0;
const RESIDENT: f64 = 25.0;
const RATE: f64 = 99.0;
const AMISS: f64 = 0.0;

const BUSES: usize = 10;
const DEVICES: u8 = 10;
/// Of each device, read each second in one request.
const SIGNALS: u16 = 100;

/// The agent gives back what it has free each minute.
const WATCHED: Duration = Duration::from_secs(70);
const STRIDE: Duration = Duration::from_secs(5);

/// 100 devices on 10 buses: 10,000 registers each second, on their way to Kafka.
pub(crate) fn buses(bench: &mut Bench) {
    let name = "buses";
    let plants: Vec<Modbus> = (0..BUSES).map(|_| Modbus::start()).collect();
    let status = ports::free();
    let mut text = format!("[status]\nlisten = \"127.0.0.1:{status}\"\n");
    for (bus, plant) in plants.iter().enumerate() {
        source(&mut text, name, bus, &plant.address()).expect("a string takes text");
    }
    let agent = bench.agent(name, &text);
    bench.topic(name).wait_begin();
    tidegate_e2e::outage(STRIDE);
    let read = || figure(status, "tidegate_modbus_read_cycles_total");
    let (cpu, before, since) = (Lap::start(&agent.meter), read(), Instant::now());
    tidegate_e2e::outage(WATCHED);
    let (percent, cycles) = (cpu.percent(since.elapsed()), read() - before);
    let amiss: f64 = ["missed", "failed", "rested"]
        .map(|what| figure(status, &format!("tidegate_modbus_{what}_cycles_total")))
        .into_iter()
        .sum();
    let rate = cycles / since.elapsed().as_secs_f64();
    let peak = float(agent.meter.peak()) / 1e6;
    let resident = float(agent.meter.resident()) / 1e6;
    bench.lines.extend([
        Line::told(name, "10,000 signals a second", percent, "% core")
            .at_most(PERCENT)
            .note("100 devices on 10 buses"),
        Line::told(name, "devices that were read", rate, "/s").at_least(RATE),
        Line::told(name, "resident", resident, "MB").at_most(RESIDENT),
        Line::told(name, "its peak", peak, "MB").note("while the configuration is read"),
        Line::told(name, "cycles missed or failed", amiss, "").at_most(AMISS),
    ]);
}

fn source(text: &mut String, stream: &str, bus: usize, address: &str) -> std::fmt::Result {
    writeln!(
        text,
        "[[source]]\ntype = \"modbus\"\nname = \"bus{bus}\"\naddress = \"{address}\"\nstream = \"{stream}\""
    )?;
    for unit in 1..=DEVICES {
        writeln!(
            text,
            "[[source.device]]\nname = \"bus{bus}-{unit}\"\nunit = {unit}\n\
             [[source.device.group]]\ninterval = \"1 s\"\n{}",
            signals(SIGNALS)
        )?;
    }
    Ok(())
}
