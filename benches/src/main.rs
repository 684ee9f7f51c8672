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

mod burst;
mod drain;
mod idle;
mod poll;

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
    /// Events of the burst, the backlog and the bare subscriber.
    #[arg(long, default_value_t = 200_000)]
    events: u64,
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
    Idle,
    /// The backlog, and the raw producer with the same records.
    Drain,
    /// The bare subscriber.
    Subscriber,
    Modbus,
    Sqlite,
}

/// What this program starts of itself, to be measured alone.
#[derive(Debug, Subcommand)]
#[command(hide = true)]
enum Child {
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
        None => measure(&cli),
    }
}

fn measure(cli: &Cli) {
    let mut bench = Bench::start(cli.events);
    for part in Part::value_variants() {
        if !cli.only.is_empty() && !cli.only.contains(part) {
            continue;
        }
        line::progress(&format!("bench: {part:?}"));
        match part {
            Part::Burst => burst::burst(&mut bench),
            Part::Steady => burst::steady(&mut bench),
            Part::Idle => idle::idle(&mut bench),
            Part::Drain => drain::drain(&mut bench),
            Part::Subscriber => subscriber::compare(&mut bench),
            Part::Modbus => poll::modbus(&mut bench),
            Part::Sqlite => poll::sqlite(&mut bench),
        }
    }
    line::print(&bench.lines, cli.json);
}
