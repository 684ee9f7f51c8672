//! `tidegate drain`: sends what is stored, takes nothing in, and ends. For
//! replacing a gateway.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tidegate::agent::Agent;
use tidegate::buffer::{AtRest, OpenError};
use tidegate::config::Config;
use tidegate::control::words::{Draining, Stats};
use tidegate::control::{self, PutError, Request};
use tidegate::units::Period;
use tokio::signal::unix::{SignalKind, signal};

use super::Common;
use crate::{complain, load, runtime, say, start_log};

/// Between two looks at how much is left: a person watches.
const LOOK: Duration = Duration::from_secs(2);

/// Send what is stored, take nothing in, and end: for replacing a gateway. A
/// running agent ends with it.
#[derive(Debug, clap::Args)]
pub(crate) struct Drain {
    #[command(flatten)]
    common: Common,
    /// How long it may take; what is left then stays in the buffer.
    #[arg(long = "for", value_name = "PERIOD", default_value = "10 min")]
    within: Period,
}

/// What is left in the end.
struct Left {
    events: u64,
    dead_letters: u64,
}

pub(crate) fn run(drain: Drain) -> ExitCode {
    let Drain { common, within } = drain;
    let config = match load(&common.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let left = match AtRest::take(&config.buffer.path) {
        Ok(rest) => match rest.must_be_of(&config.gateway.id) {
            Ok(()) => {
                drop(rest);
                alone(config, within.get())
            }
            Err(other) => Err(other.into()),
        },
        Err(OpenError::Locked(_)) => running(&config, within),
        // Its start salvages it.
        Err(OpenError::Damaged { .. }) => alone(config, within.get()),
        Err(cause) => Err(cause.into()),
    };
    match left {
        Ok(left) => finish(&common, &left),
        Err(cause) => common.failed(&*Box::<dyn std::error::Error>::from(cause)),
    }
}

fn finish(common: &Common, left: &Left) -> ExitCode {
    let Left { events, dead_letters } = left;
    let empty = *events == 0;
    if common.json {
        say(serde_json::json!({ "ok": empty, "events": events, "dead_letters": dead_letters }));
    } else {
        if *dead_letters > 0 {
            complain(format_args!("{dead_letters} dead letters stay: tidegate dlq list"));
        }
        let what = if empty { "the buffer is empty" } else { "the time is over" };
        say(format_args!("{what}, {events} events left"));
    }
    if empty { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// No agent runs: one without sources does it.
fn alone(mut config: Config, within: Duration) -> anyhow::Result<Left> {
    start_log(&config.log);
    config.sources.clear();
    let runtime = runtime()?;
    let left = runtime.block_on(async move {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut agent = Agent::start(config)?;
        let stats = agent.buffer();
        let mut look = tokio::time::interval(LOOK);
        {
            let mut draining = std::pin::pin!(agent.drain(within));
            loop {
                tokio::select! {
                    done = &mut draining => {
                        // Whether it is empty is counted once it is closed.
                        done?;
                        break;
                    }
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                    _ = look.tick() => {
                        let events = stats.borrow().events;
                        complain(format_args!("{events} events to send"));
                    }
                }
            }
        }
        let events = agent.stop().await?;
        let dead_letters = stats.borrow().dead_letters;
        Ok(Left { events, dead_letters })
    });
    runtime.shutdown_background();
    left
}

/// The running agent is asked and watched until it has ended.
fn running(config: &Config, within: Period) -> anyhow::Result<Left> {
    let grace = config.gateway.shutdown_grace.get();
    let latest = Instant::now() + within.get() + grace + LOOK * 2;
    let within_ms = u64::try_from(within.get().as_millis()).unwrap_or(u64::MAX);
    let answer = control::put(config, &Request::Drain { within_ms })?;
    let Draining { events } = serde_json::from_str(answer.get())?;
    complain(format_args!("{events} events to send"));
    loop {
        std::thread::sleep(LOOK);
        match control::put(config, &Request::Stats) {
            Ok(answer) => {
                let stats: Stats = serde_json::from_str(answer.get())?;
                let events = stats.flows.iter().map(|flow| flow.events).sum();
                if stats.pid.is_none() {
                    return Ok(Left { events, dead_letters: stats.dead_letters.letters });
                }
                complain(format_args!("{events} events to send"));
            }
            // It is closing its buffer.
            Err(PutError::Silent { .. }) if Instant::now() < latest => {}
            Err(cause @ PutError::Silent { .. }) => {
                return Err(cause).context("the agent does not end");
            }
            Err(cause) => return Err(cause.into()),
        }
    }
}
