//! An agent that has nothing to do, and how soon it is ready.

use std::time::{Duration, Instant};

use crate::bench::{Bench, DEADLINE};
use crate::line::{Line, float};
use crate::meter::Lap;

const PERCENT: f64 = 0.1;
const RESIDENT: f64 = 10.0;
const READY: f64 = 0.3;

const WATCHED: Duration = Duration::from_secs(20);

/// After the start everything is connected and made.
const SETTLED: Duration = Duration::from_secs(5);

pub(crate) fn idle(bench: &mut Bench) {
    let name = "idle";
    let agent = bench.agent(name, &bench.mqtt(name));
    agent.process.wait_line("connected", DEADLINE);
    agent.process.wait_line("source is up", DEADLINE);
    tidegate_e2e::outage(SETTLED);
    let (cpu, since) = (Lap::start(&agent.meter), Instant::now());
    tidegate_e2e::outage(WATCHED);
    let percent = cpu.percent(since.elapsed());
    let resident = float(agent.meter.resident()) / 1e6;
    let own = float(agent.meter.anonymous()) / 1e6;
    bench.lines.extend([
        Line::told(name, "from start to READY", agent.ready.as_secs_f64(), "s").at_most(READY),
        Line::told(name, "CPU", percent, "% core").at_most(PERCENT),
        Line::told(name, "resident", resident, "MB").at_most(RESIDENT),
        Line::told(name, "of that its own, not its program's", own, "MB"),
        Line::told(name, "threads", float(agent.meter.threads()), ""),
    ]);
}
