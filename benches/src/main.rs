//! `make bench`: what the whole way of an event costs, printed beside its limit.
//!
//! A real Kafka and a real mosquitto run beside the release binary of the agent,
//! which is measured from outside, by what the kernel says of its process. What
//! it is compared with (the raw producer, the bare subscriber) runs in a process
//! of its own too, so that each one's CPU is told apart from that of the load.
//!
//! No figure makes the run fail: other work on the machine would. It fails only
//! where something does not run, or where an event does not arrive.

mod bench;
mod line;
mod load;
mod meter;
mod mosquitto;
mod slaves;
mod status;

mod backlog;

mod burst;
mod buses;
mod collect;
mod drain;
mod growth;
mod idle;
mod latency;
mod maps;
mod open;
mod poll;
mod steady;
mod telegraf;
mod wire;

mod producer;
mod subscriber;

use clap::{Parser, Subcommand, ValueEnum};

use crate::bench::Bench;

/// Measures the agent between a real Kafka and a real mosquitto.
#[derive(Debug, Parser)]
struct Cli {
    /// Only this part; may be given more than once.
    #[arg(long)]
    only: Vec<Part>,
    /// Events of the burst and the bare subscriber.
    #[arg(long, default_value_t = 200_000)]
    events: u64,
    /// Events of the backlog.
    #[arg(long, default_value_t = 2_000_000)]
    backlog: u64,
    /// GB of the backlog that is opened; less where the disk has no room for it.
    #[arg(long, default_value_t = 10)]
    gigabytes: u64,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    child: Option<Child>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Burst,
    Steady,
    /// What is written in a day of few events.
    Day,
    Idle,
    /// How soon an alarm is in Kafka, and any other event.
    Alarm,
    /// A table to the file, with no Kafka to be reached.
    Collect,
    /// The backlog, and the raw producer with the same records.
    Drain,
    /// How soon a live event is in Kafka while the backlog drains.
    Live,
    /// A backlog of gigabytes.
    Open,
    /// Backlogs of 1 MB to 1 GB.
    Sizes,
    /// Collecting and sending at once.
    Both,
    /// The bare subscriber.
    Subscriber,
    Modbus,
    Sqlite,
    /// Messages of 1 to 1,000 devices.
    Devices,
    /// 1 to 1,000 agents on the one broker.
    Gateways,
    /// 100 devices on 10 buses.
    Buses,
    /// A serial line of 19,200 baud, and dead devices on it.
    Wire,
    /// Messages to the file, acknowledged, with no Kafka to be reached.
    Intake,
    /// The same messages and registers through Telegraf.
    Telegraf,
}

/// What this program starts of itself, to be measured alone; and what needs no server.
#[derive(Debug, Subcommand)]
enum Child {
    /// Telegraf's requests for published register maps beside Tidegate's, on a line.
    Maps(maps::Work),
    #[command(hide = true)]
    Producer(producer::Work),
    #[command(hide = true)]
    Subscriber(subscriber::Work),
}

fn main() {
    let cli = Cli::parse();
    match cli.child {
        Some(Child::Producer(work)) => producer::run(&work),
        Some(Child::Subscriber(work)) => subscriber::run(&work),
        Some(Child::Maps(work)) => maps::run(&work),
        None => measure(&cli),
    }
}

fn measure(cli: &Cli) {
    let mut bench = Bench::start(cli.events, cli.backlog);
    for part in Part::value_variants() {
        if !cli.only.is_empty() && !cli.only.contains(part) {
            continue;
        }
        line::progress(&format!("bench: {part:?}"));
        let before = bench.lines.len();
        match part {
            Part::Burst => _ = bench.burst(),
            Part::Steady => steady::steady(&mut bench),
            Part::Day => steady::day(&mut bench),
            Part::Idle => idle::idle(&mut bench),
            Part::Alarm => latency::alarm(&mut bench),
            Part::Collect => collect::collect(&mut bench),
            Part::Drain => drain::drain(&mut bench),
            Part::Live => latency::live(&mut bench),
            Part::Open => open::open(&mut bench, cli.gigabytes * 1_000_000_000),
            Part::Sizes => open::sizes(&mut bench),
            Part::Both => collect::both(&mut bench),
            Part::Subscriber => subscriber::compare(&mut bench),
            Part::Modbus => _ = bench.polled(),
            Part::Sqlite => poll::sqlite(&mut bench),
            Part::Devices => growth::devices(&mut bench),
            Part::Gateways => growth::gateways(&mut bench),
            Part::Buses => buses::buses(&mut bench),
            Part::Wire => wire::wire(&mut bench),
            Part::Intake => collect::intake(&mut bench),
            Part::Telegraf => telegraf::telegraf(&mut bench),
        }
        // A later part that does not end takes no figure with it.
        bench.lines.iter().skip(before).for_each(|line| line::progress(&line::row(line)));
    }
    line::print(&bench.lines, cli.json);
}
