//! `make demo`: a simulated plant, the real agent with a real buffer file, and
//! a Kafka, in one process; a key pulls the uplink's plug.

mod config;
mod gateway;
mod log;
mod lonely;
mod report;
mod screen;
mod show;
mod view;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tidegate::units::Period;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use report::Report;
use screen::{Key, Screen};
use show::{Show, Timeline};

/// Watch a simulated plant's events on their way through the real Tidegate
/// agent into Kafka, pull the uplink's plug, and see that nothing is lost.
///
/// Without options it runs until you press q. Press p or the space bar to pull
/// the plug and to put it back.
#[derive(Debug, Parser)]
#[command(name = "demo", version)]
struct Args {
    /// Run unattended for this long, with an outage of 8 s in the middle (less
    /// in a run shorter than 20 s), then wait for what is under way, and say
    /// what became of every event: "20s", "1min".
    #[arg(long = "for", value_name = "TIME")]
    period: Option<Period>,

    /// Print the result as one JSON object on the last line.
    #[arg(long)]
    json: bool,

    /// Use this Kafka instead of the one in this process; it proves more, since
    /// only committed records are read. Plain text only; makes the topics
    /// plant.* and tidegate.positions where they are missing.
    #[arg(long, value_name = "HOST:PORT")]
    brokers: Option<String>,

    /// Events a second that the sensors publish together. The broker lets 20 be
    /// in flight, as mosquitto does, so that some hundreds a second are all that
    /// a disk's commits let through; the rest waits in the broker.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    rate: u32,

    /// Keep the folder with the configuration, the buffer and the log.
    #[arg(long)]
    keep: bool,

    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Run simulated devices from a file, without an agent (docs/devices.md).
    Devices(lonely::Work),
}

/// How often keys are looked at, and the buffer's depth for its peak.
const LOOK: Duration = Duration::from_millis(100);

/// Twice a second is calm and still live.
const REDRAW: Duration = Duration::from_millis(500);

/// A line a second where there is no terminal.
const LINE: Duration = Duration::from_secs(1);

/// At the end, this long without a further event means that none will come:
/// longer than any pause between two attempts to reach Kafka.
const SETTLE: Duration = Duration::from_secs(15);

/// Copies come right behind the events that they copy.
const QUIET: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Where stderr is gone, too, nobody is left to be told.
            drop(writeln!(std::io::stderr(), "demo: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let stop = Arc::new(AtomicBool::new(false));
    let _signals = watch_signals(&runtime, &stop)?;
    if let Some(Part::Devices(work)) = &args.part {
        lonely::run(work, &runtime, &stop)?;
        return Ok(ExitCode::SUCCESS);
    }

    let mut show = runtime.block_on(Show::start(args.brokers.as_deref(), args.rate))?;
    let full = std::io::stdout().is_terminal() && !args.json;
    let mut display = if full { Display::Screen(Screen::open()?) } else { Display::Lines };

    let timeline = args.period.map(|period| Timeline::new(period.get()));
    play(&mut show, &mut display, timeline.as_ref(), &stop)?;
    if !show.plugged() {
        show.plug(true);
    }
    runtime.block_on(show.stop_plant());
    let complete = settle(&mut show, &mut display, &stop)?;
    drop(display);
    let buffered_peak = show.peak();
    let (ledger, note, dead_letters, judge) = runtime.block_on(show.stop_agent())?;
    let mut records = judge.records();
    loop {
        thread::sleep(QUIET);
        let now = judge.records();
        if now == records {
            break;
        }
        records = now;
    }
    drop(judge);

    let report = Report::new(&ledger, complete, buffered_peak, dead_letters, note);
    let mut out = std::io::stdout().lock();
    if args.json {
        let line = serde_json::to_string(&report).context("cannot print the result")?;
        writeln!(out, "{line}")?;
    } else {
        writeln!(out, "{report}")?;
    }
    let kept = show.close(args.keep || !report.is_clean());
    if let Some(folder) = kept {
        // Not on stdout: the result is its last line.
        writeln!(std::io::stderr(), "configuration, buffer and log: {}", folder.display())?;
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// ^C and SIGTERM end the show in an orderly way.
fn watch_signals(runtime: &Runtime, stop: &Arc<AtomicBool>) -> anyhow::Result<JoinSet<()>> {
    let _inside = runtime.enter();
    let mut tasks = JoinSet::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut signals = signal(kind).context("cannot watch for signals")?;
        let stop = Arc::clone(stop);
        tasks.spawn(async move {
            while signals.recv().await.is_some() {
                stop.store(true, Ordering::Relaxed);
            }
        });
    }
    Ok(tasks)
}

enum Display {
    Screen(Screen),
    Lines,
}

impl Display {
    /// Waits for a key, at most as long as [`LOOK`].
    fn key(&mut self) -> anyhow::Result<Option<Key>> {
        match self {
            Self::Screen(_) => Screen::key(LOOK),
            Self::Lines => {
                thread::sleep(LOOK);
                Ok(None)
            }
        }
    }

    /// Shows the state, if it is time to.
    fn show(&mut self, show: &mut Show, last: &mut Option<Instant>) -> anyhow::Result<()> {
        let pause = if matches!(self, Self::Screen(_)) { REDRAW } else { LINE };
        if last.is_some_and(|at| at.elapsed() < pause) {
            return Ok(());
        }
        *last = Some(Instant::now());
        let snapshot = show.snapshot();
        match self {
            Self::Screen(screen) => screen.draw(|width, height| {
                view::lines(&snapshot, usize::from(width), usize::from(height))
            }),
            Self::Lines => {
                writeln!(std::io::stdout(), "{}", view::status(&snapshot)).context("cannot print")
            }
        }
    }
}

/// The show itself, until its time is over or somebody ends it.
fn play(
    show: &mut Show,
    display: &mut Display,
    timeline: Option<&Timeline>,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut drawn = None;
    let mut before = true;
    loop {
        show.look();
        display.show(show, &mut drawn)?;
        match display.key()? {
            Some(Key::Plug) => show.plug(!show.plugged()),
            Some(Key::Quit) => return Ok(()),
            None => {}
        }
        if stop.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        if let Some(timeline) = timeline {
            let elapsed = started.elapsed();
            if timeline.is_over(elapsed) {
                return Ok(());
            }
            let plugged = timeline.plugged(elapsed);
            if plugged != before {
                show.plug(plugged);
                before = plugged;
            }
        }
    }
}

/// The plant is silent; waits until all that it made has arrived, nothing more
/// comes, or somebody does not want to wait, which gives `false`.
fn settle(show: &mut Show, display: &mut Display, stop: &AtomicBool) -> anyhow::Result<bool> {
    let mut drawn = None;
    let mut newest = (show.delivered(), Instant::now());
    while show.under_way() > 0 && newest.1.elapsed() < SETTLE {
        show.look();
        display.show(show, &mut drawn)?;
        if display.key()? == Some(Key::Quit) || stop.swap(false, Ordering::Relaxed) {
            return Ok(false);
        }
        if show.delivered() != newest.0 {
            newest = (show.delivered(), Instant::now());
        }
    }
    Ok(true)
}
