//! `tidegate dlq`: the dead letters, to look at, to send again, to take away.

use std::process::ExitCode;

use clap::Subcommand;
use tidegate::buffer::Which;
use tidegate::clock::Clock;
use tidegate::control::Request;
use tidegate::control::words::{Letters, Moved, WholeLetter};
use tidegate::units::Period;

use super::{Common, table};
use crate::{complain, say};

/// Dead letters: what Kafka refused or no event could be made of.
#[derive(Debug, clap::Args)]
pub(crate) struct Dlq {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List them, newest first.
    List {
        /// Only those older than this one.
        #[arg(long, value_name = "ID")]
        before: Option<i64>,
        /// How many at most, up to 1,000.
        #[arg(short = 'n', long, default_value_t = 100)]
        limit: u32,
    },
    /// Show one with its payload and its event.
    Show { id: i64 },
    /// Send the events of these again, under their own ids.
    Requeue {
        #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
        ids: Vec<i64>,
        /// All that hold an event.
        #[arg(long)]
        all: bool,
    },
    /// Take these away for good.
    Drop {
        #[arg(
            value_name = "ID",
            required_unless_present_any = ["all", "older_than"],
            conflicts_with_all = ["all", "older_than"]
        )]
        ids: Vec<i64>,
        /// All there are.
        #[arg(long, conflicts_with = "older_than")]
        all: bool,
        /// Those that are older than this: "7 d".
        #[arg(long, value_name = "PERIOD")]
        older_than: Option<Period>,
    },
}

pub(crate) fn run(dlq: Dlq) -> ExitCode {
    let Dlq { common, action } = dlq;
    let outcome = match action {
        Action::List { before, limit } => list(&common, before, limit),
        Action::Show { id } => show(&common, id),
        Action::Requeue { ids, all } => {
            let which = if all { Which::All } else { Which::Ids(ids) };
            moved(&common, &Request::Requeue { which }, "sent again")
        }
        Action::Drop { ids, all, older_than } => {
            let which = match older_than {
                Some(period) => Which::Before(before(period)),
                None if all => Which::All,
                None => Which::Ids(ids),
            };
            moved(&common, &Request::Drop { which }, "dropped")
        }
    };
    outcome.unwrap_or_else(|code| code)
}

fn before(period: Period) -> i64 {
    let nanos = i64::try_from(period.get().as_nanos()).unwrap_or(i64::MAX);
    Clock::system().now().0.saturating_sub(nanos)
}

fn list(common: &Common, before: Option<i64>, limit: u32) -> Result<ExitCode, ExitCode> {
    let Letters { letters, total } = common.put(&Request::Letters { before, limit })?;
    if common.json {
        return Ok(ExitCode::SUCCESS);
    }
    let shown = letters.len();
    let rows: Vec<Vec<String>> = letters
        .into_iter()
        .map(|letter| {
            let again = letter.stream.unwrap_or_else(|| "-".to_owned());
            vec![letter.id.to_string(), letter.at, again, letter.origin, letter.reason]
        })
        .collect();
    table::print(&["ID", "TIME", "STREAM", "ORIGIN", "REASON"], &rows);
    say(format_args!("{shown} of {total}; those with a stream can be sent again"));
    Ok(ExitCode::SUCCESS)
}

fn show(common: &Common, id: i64) -> Result<ExitCode, ExitCode> {
    let WholeLetter { letter, text, base64, event } = common.put(&Request::Letter { id })?;
    if common.json {
        return Ok(ExitCode::SUCCESS);
    }
    say(format_args!("id      {}", letter.id));
    say(format_args!("time    {}", letter.at));
    say(format_args!("origin  {}", letter.origin));
    say(format_args!("reason  {}", letter.reason));
    say(format_args!("length  {} bytes", letter.length));
    if let (Some(stream), Some(event)) = (letter.stream, event) {
        say(format_args!("stream  {stream}"));
        say(format_args!("event   {event}"));
    } else if let Some(text) = text {
        say(format_args!("payload {text}"));
    } else if let Some(base64) = base64 {
        say(format_args!("base64  {base64}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Fails when something was left as it is: a script must see it.
fn moved(common: &Common, request: &Request, what: &str) -> Result<ExitCode, ExitCode> {
    let Moved { done, skipped, left } = common.put(request)?;
    if !common.json {
        for letter in &skipped {
            complain(format_args!("dead letter {}: {}", letter.id, letter.why));
        }
        say(format_args!("{done} {what}, {left} left"));
    }
    Ok(if skipped.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
