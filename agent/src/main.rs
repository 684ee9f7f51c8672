//! The program `tidegate`: its commands, its log, its signals, its exit codes.

mod command;
#[cfg(test)]
mod pages;
mod printable;

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use printable::printable;
use tidegate::agent::{Again, Agent, Broken, Refused, Watchdog};
use tidegate::collect::Stopping;
use tidegate::config::{self, Config, LogFormat, LogLevel};
use tidegate::{memory, notify};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

/// Reads sensors and databases, keeps every event in one file, and hands it to
/// Kafka exactly once.
#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent until SIGTERM or SIGINT.
    Run {
        /// The configuration file.
        #[arg(short, long, default_value = DEFAULT_CONFIG)]
        config: PathBuf,
    },
    /// Check a configuration and say everything that is wrong with it.
    Check {
        /// The configuration file.
        #[arg(short, long, default_value = DEFAULT_CONFIG)]
        config: PathBuf,
        /// Print one JSON object instead of sentences.
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
    Plan(command::plan::Plan),
    Tap(command::tap::Tap),
    Buffer(command::buffer::Buffer),
    Dlq(command::dlq::Dlq),
    Drain(command::drain::Drain),
}

const DEFAULT_CONFIG: &str = "/etc/tidegate/gateway.toml";

fn main() -> ExitCode {
    memory::set_up();
    match Cli::parse().command {
        Command::Run { config } => match load(&config) {
            Ok(loaded) => run(&config, loaded),
            Err(code) => code,
        },
        Command::Check { config, json } => check(&config, json),
        Command::Schema => {
            each_line(format_args!("{:#}", config::schema()), |line| say(line));
            ExitCode::SUCCESS
        }
        Command::Plan(plan) => command::plan::run(&plan),
        Command::Tap(tap) => command::tap::run(&tap),
        Command::Buffer(buffer) => command::buffer::run(buffer),
        Command::Dlq(dlq) => command::dlq::run(dlq),
        Command::Drain(drain) => command::drain::run(drain),
    }
}

fn load(path: &Path) -> Result<Config, ExitCode> {
    match config::load(path) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                complain(format_args!("warning: {warning}"));
            }
            Ok(loaded.config)
        }
        Err(problems) => {
            each_line(&problems, |line| complain(line));
            Err(ExitCode::from(problems.exit_code()))
        }
    }
}

fn check(path: &Path, json: bool) -> ExitCode {
    let loaded = config::load(path);
    if json {
        let (problems, warnings) = match &loaded {
            Ok(loaded) => (Vec::new(), loaded.warnings.clone()),
            Err(problems) => (problems.0.clone(), Vec::new()),
        };
        let good = problems.is_empty();
        say(serde_json::json!({ "ok": good, "problems": problems, "warnings": warnings }));
    } else {
        match &loaded {
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    say(format_args!("warning: {warning}"));
                }
                let sources = loaded.config.sources.len();
                say(format_args!("{}: good, {sources} source(s)", path.display()));
            }
            Err(problems) => each_line(problems, |line| complain(line)),
        }
    }
    loaded.map_or_else(|problems| ExitCode::from(problems.exit_code()), |_| ExitCode::SUCCESS)
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Reads of databases and look-ups of host names run there; one that
        // hangs, on a card or for want of a name server, must not hold up all
        // others. The stop does not use them.
        .max_blocking_threads(4)
        .build()
}

fn run(path: &Path, config: Config) -> ExitCode {
    start_log(&config.log);
    let outcome = match runtime() {
        Ok(runtime) => {
            let outcome = runtime.block_on(run_until_signal(path, config));
            // Dropping it would wait for such a call without limit.
            runtime.shutdown_background();
            outcome
        }
        Err(cause) => Err(cause).context("cannot start the runtime"),
    };
    match outcome {
        Ok(End::Asked) => ExitCode::SUCCESS,
        Ok(End::Drained) => ExitCode::from(DRAINED),
        Err(cause) => {
            error!(error = format!("{cause:#}"), "agent failed");
            ExitCode::FAILURE
        }
    }
}

/// What ends the agent where no signal does.
const DRAIN: &str = "drain";

/// The exit code of an agent that `tidegate drain` has ended: the unit starts it again
/// after any other but this and 78. Behind those that sysexits.h has taken.
const DRAINED: u8 = 79;

/// How an agent that did not fail ended.
enum End {
    /// By a signal.
    Asked,
    /// By `tidegate drain`: whoever asked does not want it to start again.
    Drained,
}

async fn run_until_signal(path: &Path, config: Config) -> anyhow::Result<End> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let gateway = config.gateway.id.clone();
    let mut agent = Agent::start(config)?;
    let mut again = Again::default();
    info!(%gateway, version = env!("CARGO_PKG_VERSION"), epoch = %agent.epoch(), "READY");
    tell(notify::State::Ready);
    memory::give_back();
    memory::let_go_of_the_start();
    let (vitals, watched) = watch::channel(Some(agent.vitals()));
    let mut watchdog = JoinSet::new();
    watchdog.spawn(Watchdog::default().run(watched));
    let mut drain = agent.drain_requests();
    let mut connected = std::pin::pin!(agent.connected());
    let mut started = false;
    let mut signal = loop {
        let broken = tokio::select! {
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
            Ok(_) = drain.wait_for(Option::is_some) => break DRAIN,
            broken = agent.broken() => broken,
            _ = hangup.recv() => {
                tokio::select! {
                    _ = terminate.recv() => break "SIGTERM",
                    _ = interrupt.recv() => break "SIGINT",
                    reloaded = reload(&mut agent, path) => reloaded?,
                }
                vitals.send_replace(Some(agent.vitals()));
                continue;
            }
            () = &mut connected, if !started => {
                started = true;
                memory::let_go_of_the_start();
                continue;
            }
        };
        if let Broken::Part(cause) = broken {
            tell(notify::State::Stopping);
            return Err(cause);
        }
        // The process stays: all that a restart does is done here.
        vitals.send_replace(None);
        let config = agent.config();
        tokio::select! {
            _ = terminate.recv() => {
                stopped_early("SIGTERM");
                return Ok(End::Asked);
            }
            _ = interrupt.recv() => {
                stopped_early("SIGINT");
                return Ok(End::Asked);
            }
            mended = again.mend(agent, &config) => agent = mended,
        }
        info!(epoch = %agent.epoch(), "started anew with a salvaged buffer");
        vitals.send_replace(Some(agent.vitals()));
        drain = agent.drain_requests();
        connected.set(agent.connected());
        started = false;
    };
    let within = *drain.borrow();
    if let (DRAIN, Some(within)) = (signal, within) {
        info!(?within, "draining: nothing more is taken in");
        signal = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            drained = agent.drain(within) => drained.map(|_| DRAIN)?,
        };
    }
    tell(notify::State::Stopping);
    vitals.send_replace(None);
    info!(signal, "stopping");
    let left = agent.stop().await?;
    info!(events_left = left, "stopped");
    Ok(if signal == DRAIN { End::Drained } else { End::Asked })
}

/// Looks at the file again, which may be wrong: then the agent goes on as it is.
/// An error means that it is going down.
async fn reload(agent: &mut Agent, path: &Path) -> anyhow::Result<()> {
    tell(notify::State::Reloading);
    let file = path.to_owned();
    // It reads a file, maybe of a slow card.
    let loaded = tokio::task::spawn_blocking(move || load(&file)).await?;
    let outcome = if let Ok(config) = loaded {
        agent.reload(config).await.map(|_| ())
    } else {
        error!(file = %path.display(), "configuration is refused, the running one goes on");
        Ok(())
    };
    // The unit is as ready as it was, whatever became of it.
    tell(notify::State::Ready);
    match outcome {
        Err(cause) if cause.is::<Refused>() => {
            error!(file = %path.display(), error = %cause, "configuration is refused, the running one goes on");
            Ok(())
        }
        // Why the writer has gone is seen by who waits for that.
        Err(cause) if cause.is::<Stopping>() => {
            error!(file = %path.display(), "configuration is not taken over: the buffer went away; reload again once it is there");
            Ok(())
        }
        outcome => outcome,
    }
}

/// A signal while no agent runs: all that is left is in the file.
fn stopped_early(signal: &str) {
    tell(notify::State::Stopping);
    info!(signal, "stopped while the buffer was being mended");
}

fn tell(state: notify::State) {
    if let Err(cause) = notify::notify(state) {
        warn!(error = %cause, ?state, "cannot tell the service manager");
    }
}

fn start_log(log: &config::Log) {
    let level = match log.level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
    };
    let lines = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match log.format {
        LogFormat::Text => lines.with_target(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
}

/// One line for the person or program that called, whatever stands in the names and
/// payloads in it. A closed pipe is no error worth a word.
fn say(line: impl Display) {
    drop(writeln!(std::io::stdout(), "{}", printable(&line.to_string())));
}

fn complain(line: impl Display) {
    drop(writeln!(std::io::stderr(), "{}", printable(&line.to_string())));
}

/// Of a text that has several.
fn each_line(text: impl Display, print: impl Fn(&str)) {
    text.to_string().lines().for_each(print);
}
