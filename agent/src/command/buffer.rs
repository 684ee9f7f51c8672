//! `tidegate buffer`: how the file stands, what is in it, and carrying it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Subcommand;
use tidegate::buffer::{self, AtRest, OpenError};
use tidegate::control::Request;
use tidegate::control::words::{Imported, Peek, Stats};

use super::{Common, table};
use crate::{complain, load, say};

/// Between two lines about how far a long work is.
const PROGRESS: Duration = Duration::from_secs(5);

/// The buffer: how it stands, what is in it, a copy of it.
#[derive(Debug, clap::Args)]
pub(crate) struct Buffer {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say how the file stands: depth of each stream, position, dead letters,
    /// drops.
    Stats,
    /// Print the oldest events as JSON lines, as their records will be.
    Peek {
        /// Only of this stream.
        #[arg(long)]
        stream: Option<String>,
        /// How many at most, up to 1,000.
        #[arg(short = 'n', long, default_value_t = 10)]
        events: u32,
        /// The newest instead.
        #[arg(long)]
        newest: bool,
    },
    /// Copy the file to another, also while the agent runs: a buffer file of
    /// one moment, for a look elsewhere or for `import`.
    Export { file: PathBuf },
    /// Take the events of such a copy in, under their own ids, and send them
    /// from here. Nothing is taken in twice.
    Import { file: PathBuf },
    /// Read what can be read of a damaged file into a new one, for a look or for
    /// `import`. The agent salvages its own file itself, at its next start.
    Salvage {
        /// The damaged file, as it was set aside: `<buffer>.damaged-<time>`.
        damaged: PathBuf,
        /// The new file; none is there yet.
        file: PathBuf,
    },
    /// Check the whole file: pages, batches, numbers, totals.
    Verify,
}

pub(crate) fn run(buffer: Buffer) -> ExitCode {
    let Buffer { common, action } = buffer;
    let outcome = match action {
        Action::Stats => stats(&common),
        Action::Peek { stream, events, newest } => {
            peek(&common, &Request::Peek { stream, events, newest })
        }
        Action::Export { file } => export(&common, &file),
        Action::Import { file } => import(&common, &file),
        Action::Salvage { damaged, file } => salvage(&common, &damaged, &file),
        Action::Verify => verify(&common),
    };
    outcome.unwrap_or_else(|code| code)
}

fn stats(common: &Common) -> Result<ExitCode, ExitCode> {
    let stats: Stats = common.put(&Request::Stats)?;
    if common.json {
        return Ok(ExitCode::SUCCESS);
    }
    let word = |known: Option<String>| known.unwrap_or_else(|| "?".to_owned());
    let rows: Vec<Vec<String>> = stats
        .flows
        .into_iter()
        .map(|flow| {
            let numbers = [flow.batches, flow.events, flow.bytes].map(|number| number.to_string());
            let mut row = vec![word(flow.stream), flow.lane, word(flow.topic)];
            row.extend(numbers);
            row.push(flow.oldest);
            row
        })
        .collect();
    table::print(&["STREAM", "LANE", "TOPIC", "BATCHES", "EVENTS", "BYTES", "OLDEST"], &rows);
    let agent = stats.pid.map_or_else(|| "none runs".to_owned(), |pid| format!("pid {pid}"));
    let mut lines = vec![
        vec!["agent".to_owned(), agent],
        vec![
            "file".to_owned(),
            format!("{} bytes, WAL {} bytes", stats.file.bytes, stats.file.wal_bytes),
        ],
        vec![
            "in memory only".to_owned(),
            format!("{} events, {} bytes", stats.file.in_memory_events, stats.file.in_memory_bytes),
        ],
        vec![
            "dead letters".to_owned(),
            format!("{}, {} made room", stats.dead_letters.letters, stats.dead_letters.dropped),
        ],
        vec!["epochs".to_owned(), stats.epochs.len().to_string()],
    ];
    if stats.file.held_back {
        lines.push(vec!["full".to_owned(), "the sources are held back".to_owned()]);
    }
    if let Some(cause) = stats.file.failing {
        lines.push(vec!["cannot write".to_owned(), cause]);
    }
    for one in stats.dropped {
        let what = format!("{} events, {} bytes ({})", one.events, one.bytes, one.reason);
        lines.push(vec![format!("dropped {}", one.stream), what]);
    }
    for (name, count) in stats.counters {
        lines.push(vec![name, count.to_string()]);
    }
    for source in stats.sources {
        let mut line = if source.up { "up" } else { "down" }.to_owned();
        for (subject, what) in source.faults {
            line = format!("{line}; {subject} {what}");
        }
        lines.push(vec![format!("source {}", source.name), line]);
        for (name, device) in source.devices {
            let reason = device.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            lines.push(vec![format!("device {name}"), device.state + &reason]);
        }
    }
    if let Some(forward) = stats.forward {
        let error = forward.last_error.map(|error| format!(": {error}")).unwrap_or_default();
        lines.push(vec!["forward".to_owned(), forward.state + &error]);
        for one in forward.aside {
            let what = format!("topic {}: {}", one.topic, one.cause);
            lines.push(vec![format!("stands aside {}", one.stream), what]);
        }
    }
    for sent in stats.position.into_iter().flat_map(|position| position.flows) {
        let flow = sent.stream.unwrap_or(sent.flow);
        lines
            .push(vec![format!("sent {flow}"), format!("{} of epoch {}", sent.number, sent.epoch)]);
    }
    // The empty head is the line between the two.
    table::print(&["", ""], &lines);
    Ok(ExitCode::SUCCESS)
}

fn peek(common: &Common, request: &Request) -> Result<ExitCode, ExitCode> {
    let Peek { events } = common.put(request)?;
    if !common.json {
        for peeked in events {
            say(peeked.event);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// In this process, beside an agent that may run: reading is open to all who
/// may read the file, and a long read must not be the agent's.
fn export(common: &Common, file: &Path) -> Result<ExitCode, ExitCode> {
    let config = load(&common.config)?;
    let path = &config.buffer.path;
    ready(common, path)?;
    // An agent that cannot write has it in memory, and will send or write it.
    if let Err(cause) = tidegate::control::put(&config, &Request::Write) {
        complain(format_args!("what an agent has in memory only is not in the copy: {cause}"));
    }
    let bytes = buffer::export(path, file).map_err(|cause| common.failed(&cause))?;
    if common.json {
        say(serde_json::json!({ "file": file, "bytes": bytes }));
    } else {
        say(format_args!("{}: {bytes} bytes", file.display()));
    }
    Ok(ExitCode::SUCCESS)
}

fn import(common: &Common, file: &Path) -> Result<ExitCode, ExitCode> {
    // The agent has another working directory.
    let file = std::path::absolute(file).map_err(|cause| common.failed(&cause))?;
    let Imported { batches, skipped, why, dead_letters } =
        common.put(&Request::Import { file: file.clone() })?;
    if !common.json {
        if let Some(why) = &why {
            complain(format_args!("{skipped} batches were skipped: {why}"));
        }
        if dead_letters > 0 {
            say(format_args!("{dead_letters} dead letters stay in {}", file.display()));
        }
        say(format_args!("{batches} batches taken in"));
    }
    // What is wholly there already was a mistake; the rest of a broken import
    // is not.
    Ok(if batches == 0 && skipped > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn salvage(common: &Common, damaged: &Path, file: &Path) -> Result<ExitCode, ExitCode> {
    let config = load(&common.config)?;
    complain(format_args!("reading {}", damaged.display()));
    let loss = buffer::salvage_into(damaged, file, &config.gateway.id)
        .map_err(|cause| common.failed(&cause))?;
    if common.json {
        say(serde_json::json!(loss));
        return Ok(ExitCode::SUCCESS);
    }
    let told = |count: Option<u64>| count.map_or_else(|| "?".to_owned(), |n| n.to_string());
    say(format_args!(
        "{}: {} batches, {} events; {} batches, {} events are lost",
        file.display(),
        loss.batches,
        loss.events,
        told(loss.lost_batches),
        told(loss.lost_events)
    ));
    for range in &loss.ranges {
        say(format_args!("lost: {range}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(common: &Common) -> Result<ExitCode, ExitCode> {
    let config = load(&common.config)?;
    let path = &config.buffer.path;
    ready(common, path)?;
    complain(format_args!("checking the pages of {}", path.display()));
    let mut told = Instant::now();
    let verified = buffer::verify(path, |done, total| {
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            complain(format_args!("{done} of {total} batches"));
        }
    });
    let verified = verified.map_err(|cause| common.failed(&cause))?;
    let well = verified.wrong.is_empty();
    if common.json {
        say(serde_json::json!({
            "ok": well, "batches": verified.batches, "events": verified.events,
            "dead_letters": verified.dead_letters, "wrong": verified.wrong,
        }));
    } else {
        for wrong in &verified.wrong {
            complain(wrong);
        }
        let state = if well { "good" } else { "damaged" };
        say(format_args!(
            "{}: {state}, {} batches, {} events, {} dead letters",
            path.display(),
            verified.batches,
            verified.events,
            verified.dead_letters
        ));
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The file is there and of this layout. The lock is not kept: reading may stand
/// beside an agent, and an agent must be able to start meanwhile.
fn ready(common: &Common, path: &Path) -> Result<(), ExitCode> {
    match AtRest::take(path) {
        Ok(_) | Err(OpenError::Locked(_)) => Ok(()),
        Err(cause) => Err(common.failed(&cause)),
    }
}
