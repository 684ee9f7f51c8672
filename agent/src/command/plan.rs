//! `tidegate plan`: what a Modbus bus is asked, how long that takes, how often it fits.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tidegate::source::modbus::{self, Latency, Measured, Outline, Planned, Read};
use tidegate::source::{Config, Error};
use tidegate::units::Period;

use super::table;
use crate::{DEFAULT_CONFIG, complain, load, runtime, say};

/// Show the requests of Modbus sources, how long they take and how often that fits.
#[derive(Debug, clap::Args)]
pub(crate) struct Plan {
    /// Only this source.
    source: Option<String>,
    /// The configuration file.
    #[arg(short, long, default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Ask the devices, each request three times. An agent that runs has the serial
    /// ports, and of some devices the only connection: stop it before.
    #[arg(long)]
    measure: bool,
    /// Print one JSON object a source instead of tables.
    #[arg(long)]
    json: bool,
}

/// Fails where a source could not be reached, or has more to read than its time allows.
pub(crate) fn run(plan: &Plan) -> ExitCode {
    let config = match load(&plan.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let chosen: Vec<&modbus::Config> = match chosen(&config.sources, plan.source.as_deref()) {
        Ok(chosen) => chosen,
        Err(what) => {
            complain(what);
            return ExitCode::FAILURE;
        }
    };
    let mut good = true;
    for config in chosen {
        let mut outline = Outline::new(config);
        if plan.measure
            && let Err(cause) = measure(&mut outline, config)
        {
            complain(format_args!("{}: {cause}", config.name));
            good = false;
        }
        good &= outline.load() <= 1.0 || outline.is_guess();
        let latencies = outline.latencies(config);
        if plan.json {
            tell_json(&outline, &latencies);
        } else {
            tell(&outline, &latencies);
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn chosen<'c>(
    sources: &'c [Config],
    name: Option<&str>,
) -> Result<Vec<&'c modbus::Config>, String> {
    let named = sources.iter().filter(|source| name.is_none_or(|name| source.name() == name));
    let planned = named.clone().filter_map(|source| match source {
        Config::Modbus(config) => Some(config),
        Config::Mqtt(_) | Config::Serial(_) | Config::Sparkplug(_) | Config::Sqlite(_) => None,
    });
    let planned: Vec<&modbus::Config> = planned.collect();
    match name {
        _ if !planned.is_empty() => Ok(planned),
        None => Err("there is no source of the type \"modbus\" to plan".to_owned()),
        Some(name) if named.count() > 0 => {
            Err(format!("source `{name}` is not of the type \"modbus\": nothing is planned for it"))
        }
        Some(name) => {
            let all: Vec<&str> = sources.iter().map(Config::name).collect();
            Err(format!("there is no source `{name}`, only {}", all.join(", ")))
        }
    }
}

fn measure(outline: &mut Outline, config: &modbus::Config) -> Result<(), String> {
    let runtime = runtime().map_err(|cause| format!("cannot start the runtime: {cause}"))?;
    // For a person who waits; it is no part of what a program reads.
    let tell = |line: std::fmt::Arguments<'_>| {
        if std::io::stderr().is_terminal() {
            drop(write!(std::io::stderr(), "{line}"));
        }
    };
    let progress = |done: usize, all: usize| {
        tell(format_args!("\r{}: measuring request {} of {all} ", config.name, done + 1));
    };
    let measured = runtime.block_on(outline.measure(config, progress));
    tell(format_args!("\n"));
    runtime.shutdown_background();
    measured.map_err(|Error { what, cause }| match cause {
        Some(cause) => format!("{what}: {cause}"),
        None => what,
    })
}

fn tell_json(outline: &Outline, latencies: &[Latency]) {
    say(serde_json::json!({
        "source": outline.source,
        "address": outline.address,
        "fallback": outline.fallback,
        "framing": outline.framing,
        "baud": outline.baud,
        "load": outline.load(),
        "groups": outline.told(),
        "latencies": latencies,
    }));
}

fn tell(outline: &Outline, latencies: &[Latency]) {
    let baud = outline.baud.map(|baud| format!(", {baud} baud")).unwrap_or_default();
    let fallback = outline.fallback.as_ref().map(|address| format!(" (fallback {address})"));
    let way = outline.address.clone() + &fallback.unwrap_or_default();
    say(format_args!("{}: {way}{baud}, {}", outline.source, outline.framing));
    let all = outline.groups.iter().flat_map(|group| {
        let of_group = |read| row(group, read);
        group.requests.iter().map(of_group)
    });
    let head =
        ["DEVICE", "UNIT", "GROUP", "READS", "COUNT", "FIELDS", "HOLES", "ESTIMATED", "MEASURED"];
    table::print(&head, &all.collect::<Vec<_>>());
    say("");
    let groups = outline.groups.iter().map(|group| {
        let shortest = outline.shortest(group).map_or_else(|| "none".to_owned(), time);
        vec![
            group.device.clone(),
            group.group.clone(),
            group.requests.len().to_string(),
            time(group.time()),
            Period(group.interval).to_string(),
            percent(group.load()),
            shortest,
        ]
    });
    let head =
        ["DEVICE", "GROUP", "REQUESTS", "TIME", "INTERVAL", "OF THE BUS", "SHORTEST INTERVAL"];
    table::print(&head, &groups.collect::<Vec<_>>());
    say("");
    let fits = match outline.load() {
        ..=1.0 => "",
        _ if outline.is_guess() => " by this guess: --measure knows",
        _ => ": that does not fit, cycles are skipped",
    };
    say(format_args!("the bus is busy {} of its time{fits}", percent(outline.load())));
    for group in outline.groups.iter().filter(|group| group.sunspec) {
        say(format_args!(
            "{} group {}: what it reads the device says (SunSpec), which is not asked here; `tidegate tap {}` shows it",
            group.device, group.group, outline.source
        ));
    }
    for Latency { device, assumed, measured, requests, requests_then } in latencies {
        say(format_args!(
            "{device} answers after {}, the plan assumes {}: with `latency = \"{} ms\"` it has {requests_then} requests instead of {requests}",
            time(*measured),
            time(*assumed),
            measured.as_millis()
        ));
    }
}

fn row(group: &Planned, read: &Read) -> Vec<String> {
    vec![
        group.device.clone(),
        group.unit.to_string(),
        group.group.clone(),
        read.range(),
        read.count.to_string(),
        read.fields.to_string(),
        read.holes.to_string(),
        time(read.estimated),
        match &read.measured {
            Some(Measured::Took(took)) => time(*took),
            Some(Measured::Failed(what)) => what.clone(),
            None => "-".to_owned(),
        },
    ]
}

/// In milliseconds below a second, and with three digits that say something.
fn time(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1e3;
    match millis {
        10_000.0.. => format!("{:.1} s", millis / 1e3),
        1_000.0.. => format!("{:.2} s", millis / 1e3),
        100.0.. => format!("{millis:.0} ms"),
        10.0.. => format!("{millis:.1} ms"),
        _ => format!("{millis:.2} ms"),
    }
}

fn percent(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}
