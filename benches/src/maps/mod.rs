//! `make bench ARGS=maps`: the requests for three published register maps, of Tidegate and
//! of Telegraf, and how long they keep a line of 9,600 baud busy.
//!
//! Both read the same values of the same device on a pseudo-terminal, which takes for each
//! byte what the line would. What comes of it is kept in `benches/maps/measured.json`, with
//! `--record`; the tests hold the plan as it is now against it, where no Telegraf is.

mod agent;
mod bus;
mod device;
mod map;
mod record;
mod telegraf;
#[cfg(test)]
mod tests;

use tidegate_e2e::folder;

use self::device::Polled;
use self::map::Case;
use self::record::{Measured, Record, Setting};
use crate::line;

/// Of as many readings the median is taken.
const ROUNDS: usize = 3;

/// What is said to `maps`.
#[derive(Debug, clap::Args)]
pub(crate) struct Work {
    /// Keep the figures in benches/maps/measured.json, which the tests stand on.
    #[arg(long)]
    record: bool,
}

pub(crate) fn run(work: &Work) {
    let cases = Case::all().into_iter().map(|case| {
        line::progress(&format!("maps: {}", case.title()));
        measure(&case)
    });
    let record = Record { telegraf: telegraf::version(), cases: cases.collect() };
    line::say(&record.table());
    if work.record {
        record.keep();
    }
}

fn measure(case: &Case) -> record::Case {
    let folder = folder("bench-maps");
    let settings = telegraf::settings(case).into_iter().map(|setting| {
        let rounds = (0..ROUNDS).map(|_| telegraf::read(case, setting, &folder)).collect();
        Setting { setting: setting.to_string(), read: median(rounds) }
    });
    record::Case {
        title: case.title(),
        values: case.registers.len(),
        over_tcp: bus::requests(&case.outline(&map::Way::Tcp)).len(),
        telegraf: settings.collect(),
        tidegate: median(agent::read(case, &folder)),
    }
}

/// The reading that took neither longest nor shortest; all asked the same.
fn median(mut rounds: Vec<Polled>) -> Measured {
    rounds.sort_by_key(|polled| polled.took);
    let at = rounds.len() / 2;
    let polled = rounds.swap_remove(at);
    assert!(rounds.iter().all(|other| other.requests == polled.requests), "each reads the same");
    Measured::new(polled)
}
