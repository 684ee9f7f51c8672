//! A serial line of 19,200 baud: how near the agent comes to what the wire can carry,
//! and what dead devices cost those who live.

use std::time::{Duration, Instant};

use crate::bench::Bench;
use crate::line::Line;
use crate::poll::signals;
use crate::slaves::{BAUD, Slaves, needed};

/// Limits of the project: the cycle by what the wire needs, the mean cycle with three
/// dead devices by that without (also by what the wire needs for those who live, which is
/// less), and the longest beyond the mean by a time-out.
const CYCLE: f64 = 1.05;
const WITH_DEAD: f64 = 1.10;
const LONGEST: f64 = 1.0;

const DEVICES: u8 = 20;
const DEAD: u8 = 3;
const REGISTERS: u16 = 20;
const TIMEOUT: Duration = Duration::from_millis(300);

const STRIDE: Duration = Duration::from_secs(5);
const WATCHED: Duration = Duration::from_secs(30);
/// Until each dead device was found to be dead.
const FOUND: Duration = Duration::from_secs(3);
/// Rests of 1 to 30 s are in it.
const DEAD_WATCHED: Duration = Duration::from_mins(1);

pub(crate) fn wire(bench: &mut Bench) {
    let name = "wire";
    let slaves = Slaves::start(&bench.folder(name));
    // More often than the line can carry: it is never idle.
    let head = format!(
        "[[source]]\ntype = \"modbus\"\nname = \"{name}\"\naddress = \"{}\"\nstream = \"{name}\"\n\
         timeout = \"{} ms\"\nserial = {{ baud = {BAUD} }}\n",
        slaves.line.master,
        TIMEOUT.as_millis()
    );
    let devices: String = (1..=DEVICES).map(device).collect();
    let agent = bench.agent(name, &(head + &devices));
    agent.wait_up(name);
    tidegate_e2e::outage(STRIDE);
    slaves.kill(0);
    tidegate_e2e::outage(WATCHED);
    let alive = Cycles::of(&slaves);
    slaves.kill(DEAD);
    tidegate_e2e::outage(FOUND);
    let found = Instant::now();
    tidegate_e2e::outage(DEAD_WATCHED);
    let with_dead = Cycles::since(&slaves, Some(found));
    let wire = needed(REGISTERS.into());
    let of_alive = |cycle: Duration, devices: u8| cycle.div_duration_f64(wire * devices.into());
    let of_17 = of_alive(with_dead.mean, DEVICES - DEAD);
    let longest = with_dead.longest.saturating_sub(with_dead.mean).div_duration_f64(TIMEOUT);
    bench.lines.extend([
        Line::told(name, "a cycle of 20 devices", alive.mean.as_secs_f64() * 1e3, "ms")
            .note(format!("{BAUD} baud, 20 registers each; {:.1} ms a read", ms(wire))),
        Line::told(name, "by what the wire needs", of_alive(alive.mean, DEVICES), "×")
            .at_most(CYCLE),
        Line::told(name, "of 17 while 3 others are dead", ms(with_dead.mean), "ms"),
        Line::told(name, "by what the wire needs for 17", of_17, "×").at_most(WITH_DEAD),
        Line::told(name, "by that of all 20", with_dead.mean.div_duration_f64(alive.mean), "×")
            .at_most(WITH_DEAD),
        Line::told(name, "the longest beyond the mean", longest, "time-outs")
            .at_most(LONGEST)
            .note(format!("of {} ms", TIMEOUT.as_millis())),
    ]);
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn device(unit: u8) -> String {
    format!(
        "[[source.device]]\nname = \"d{unit}\"\nunit = {unit}\n\
         [[source.device.group]]\ninterval = \"100 ms\"\n{}",
        signals(REGISTERS)
    )
}

/// From one request of a living device to its next.
struct Cycles {
    mean: Duration,
    longest: Duration,
}

impl Cycles {
    fn of(slaves: &Slaves) -> Self {
        Self::since(slaves, None)
    }

    /// Of those that began after `since`.
    fn since(slaves: &Slaves, since: Option<Instant>) -> Self {
        let mut all = Vec::new();
        for unit in DEAD + 1..=DEVICES {
            let asked = slaves.asked(unit);
            let asked = asked.into_iter().filter(|at| since.is_none_or(|since| *at >= since));
            let asked: Vec<Instant> = asked.collect();
            all.extend(asked.windows(2).filter_map(|pair| match pair {
                [one, next] => Some(*next - *one),
                _ => None,
            }));
        }
        let count = u32::try_from(all.len()).expect("cycles are few").max(1);
        let mean = all.iter().sum::<Duration>() / count;
        Self { mean, longest: all.into_iter().max().unwrap_or_default() }
    }
}
