//! `tidegate tap`: what one source reads, as it reads it, before and after decoding.
//!
//! It needs no buffer and no Kafka, and keeps nothing: see [`tidegate::tap`]. What is read
//! goes to stdout, how the source is to stderr, or both into one table that is drawn anew
//! in its place.

mod json;
mod lines;
mod sheet;
mod words;

use std::io::{self, ErrorKind, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tidegate::config::Config;
use tidegate::source;
use tidegate::tap::{self, Dead, News, Seen};
use tidegate::units::Period;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::{DEFAULT_CONFIG, complain, load, runtime};
use sheet::Sheet;
use words::Faults;

/// Show live what one source reads, before and after decoding.
///
/// It needs no buffer and no Kafka, keeps nothing, and takes no message and no row from an
/// agent that runs. A serial port, and the only connection of a device, have room for one
/// of both: stop the agent meanwhile. So it is at an MQTT broker that takes the client's name
/// from its login: there it would end the agent's session, with all that waits in it.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct Tap {
    /// The source, by its name in the configuration.
    source: String,
    /// The configuration file.
    #[arg(short, long, default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Print one JSON object an event, with what it was made of.
    #[arg(long)]
    json: bool,
    /// Print a line for each field, also on a terminal.
    #[arg(long, conflicts_with = "json")]
    lines: bool,
    /// Draw a table of the newest values, also of what is not Modbus.
    #[arg(long, conflicts_with_all = ["json", "lines"])]
    table: bool,
    /// End after so many events.
    #[arg(short = 'n', long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time (`30 s`, `5 min`); with 1 if no value was read.
    #[arg(long = "for", value_name = "TIME")]
    within: Option<Period>,
    /// Only devices with this in their name.
    #[arg(long)]
    device: Option<String>,
    /// Only fields with this in their name.
    #[arg(long)]
    field: Option<String>,
    /// Only messages with this in their topic.
    #[arg(long)]
    topic: Option<String>,
    /// Read a table from its first row, and not only what is written from now on.
    #[arg(long)]
    from_start: bool,
}

/// A table is drawn so often at most: an eye sees no more, and it may go over a slow line.
const DRAW: Duration = Duration::from_millis(500);

pub(crate) fn run(args: &Tap) -> ExitCode {
    let config = match load(&args.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let Some(source) = config.sources.iter().find(|source| source.name() == args.source) else {
        complain(unknown(&args.source, &config));
        return ExitCode::FAILURE;
    };
    let outcome = runtime().and_then(|runtime| {
        let outcome = runtime.block_on(look(args, &config, source));
        // Dropping it would wait for a read that hangs.
        runtime.shutdown_background();
        outcome
    });
    match outcome {
        Ok(Outcome::Asked) => ExitCode::SUCCESS,
        Ok(Outcome::Nothing) => {
            complain(format_args!("{}: no value was read", args.source));
            ExitCode::FAILURE
        }
        // Who read has seen enough.
        Err(cause) if cause.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(cause) => {
            complain(format_args!("cannot show what `{}` reads: {cause}", args.source));
            ExitCode::FAILURE
        }
    }
}

fn unknown(name: &str, config: &Config) -> String {
    let all: Vec<&str> = config.sources.iter().map(source::Config::name).collect();
    match all.as_slice() {
        [] => format!("there is no source `{name}`: the configuration has no [[source]]"),
        all => format!("there is no source `{name}`, only {}", all.join(", ")),
    }
}

/// How it ended, if nothing broke.
enum Outcome {
    /// As it was asked to.
    Asked,
    /// Its time is over, and there was no value.
    Nothing,
}

async fn look(args: &Tap, config: &Config, source: &source::Config) -> io::Result<Outcome> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut tap = tap::Tap::start(config, source, args.from_start);
    let mut view = View::new(args, config, source);
    let begun = Instant::now();
    let mut draw = interval(DRAW);
    draw.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let over = async {
        match args.within {
            Some(within) => sleep(within.get()).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(over);
    let outcome = loop {
        tokio::select! {
            biased;
            _ = interrupt.recv() => break Ok(Outcome::Asked),
            _ = terminate.recv() => break Ok(Outcome::Asked),
            () = &mut over => {
                break Ok(if view.values == 0 { Outcome::Nothing } else { Outcome::Asked });
            }
            _ = draw.tick(), if view.is_drawn() => {
                if let Err(cause) = view.draw(begun.elapsed()) {
                    break Err(cause);
                }
            }
            news = tap.next() => {
                let Some(news) = news else {
                    break Err(io::Error::other("the source ended by itself"));
                };
                match view.show(&tap, news) {
                    Ok(()) if args.count.is_some_and(|count| view.events >= count) => {
                        break Ok(Outcome::Asked);
                    }
                    Ok(()) => {}
                    Err(cause) => break Err(cause),
                }
            }
        }
    };
    let drawn = view.draw(begun.elapsed());
    tap.stop().await;
    outcome.and_then(|outcome| drawn.map(|()| outcome))
}

/// What is shown, and how.
struct View<'a> {
    args: &'a Tap,
    form: Form,
    faults: Faults,
    /// Events that were shown.
    events: u64,
    /// Those of them that had a value.
    values: u64,
}

enum Form {
    Json,
    Lines(lines::Lines),
    Table(Sheet),
}

impl<'a> View<'a> {
    fn new(args: &'a Tap, config: &Config, source: &source::Config) -> Self {
        let is_bus = matches!(source, source::Config::Modbus(_));
        let drawn = args.table || (is_bus && !args.lines && io::stdout().is_terminal());
        let form = match () {
            () if args.json => Form::Json,
            () if drawn => Form::Table(Sheet::new(&args.source)),
            () => Form::Lines(lines::Lines::default()),
        };
        let faults = Faults::new(hint(config, source));
        Self { args, form, faults, events: 0, values: 0 }
    }

    const fn is_drawn(&self) -> bool {
        matches!(self.form, Form::Table(_))
    }

    fn show(&mut self, tap: &tap::Tap, news: News) -> io::Result<()> {
        match news {
            News::Read(seen, dead) => {
                for seen in seen {
                    self.event(tap, seen)?;
                }
                dead.iter().try_for_each(|dead| self.dead(dead))
            }
            News::State(state) => {
                let told = self.faults.changed(&state);
                if !self.is_drawn() {
                    for line in told {
                        complain(line);
                    }
                }
                Ok(())
            }
        }
    }

    fn event(&mut self, tap: &tap::Tap, mut seen: Seen) -> io::Result<()> {
        // A delivery may hold more events than were asked for.
        let is_over = self.args.count.is_some_and(|count| self.events >= count);
        if is_over || !wants(self.args, &mut seen) {
            return Ok(());
        }
        self.events += 1;
        self.values += u64::from(seen.fields.iter().any(|field| field.value != "null"));
        match &mut self.form {
            Form::Json => words::line(&json::event(&self.args.source, tap.flow(&seen), &seen)),
            Form::Lines(lines) => lines.event(&seen),
            Form::Table(sheet) => {
                sheet.event(seen);
                Ok(())
            }
        }
    }

    fn dead(&mut self, dead: &Dead) -> io::Result<()> {
        if !words::has(self.args.topic.as_deref(), words::topic(dead.raw.as_ref())) {
            return Ok(());
        }
        match &mut self.form {
            Form::Json => words::line(&json::dead(&self.args.source, dead)),
            Form::Lines(_) => lines::dead(dead),
            Form::Table(sheet) => {
                sheet.dead(dead);
                Ok(())
            }
        }
    }

    fn draw(&mut self, after: Duration) -> io::Result<()> {
        match &mut self.form {
            Form::Table(sheet) => sheet.draw(after, self.events, &self.faults),
            Form::Json | Form::Lines(_) => Ok(()),
        }
    }
}

/// Whether something of an event is asked for; what is not goes.
fn wants(args: &Tap, seen: &mut Seen) -> bool {
    if let Some(field) = &args.field {
        seen.fields.retain(|shown| shown.name.contains(field.as_str()));
    }
    words::has(args.device.as_deref(), Some(&seen.event.device))
        && words::has(args.topic.as_deref(), words::topic(seen.raw.as_ref()))
        && (args.field.is_none() || !seen.fields.is_empty())
}

/// What may help where there is no connection: a port, and a device with room for one
/// connection, are the agent's while it runs.
fn hint(config: &Config, source: &source::Config) -> Option<String> {
    let address = match source {
        source::Config::Modbus(modbus) => &modbus.address,
        source::Config::Serial(serial) => &serial.address,
        source::Config::Mqtt(_) | source::Config::Sparkplug(_) | source::Config::Sqlite(_) => {
            return None;
        }
    };
    let what = if source.ports().is_empty() {
        format!("{address} may take one connection only")
    } else {
        "a serial port has one reader".to_owned()
    };
    let who = match tap::beside(&config.buffer.path) {
        Some(pid) => format!("an agent runs (pid {pid}): stop it"),
        None => "if an agent runs that reads it, stop it".to_owned(),
    };
    Some(format!("{what}, and {who} meanwhile (systemctl stop tidegate)"))
}
