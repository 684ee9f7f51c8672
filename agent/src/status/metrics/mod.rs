//! The text of `/metrics`: `OpenMetrics` 1.0, made of what the stages have counted
//! at the moment of asking. Blocking, for a few milliseconds at most.
//!
//! Every label's values come from the configuration (names of sources, devices,
//! groups, streams) or from a list in the code, so that there are only so many
//! series. `docs/metrics.md` has a row for each figure, held by a test.

mod sheet;

use std::collections::BTreeMap;
use std::fmt::Error;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;

use self::sheet::Sheet;
use super::Board;
use super::process::{self, Process};
use crate::buffer::{Reason, Stats};
use crate::forward;
use crate::source::modbus::Counts;
use crate::source::serial::Frames;
use crate::source::sparkplug::Count;
use crate::supervise::Standing;

/// All figures as they are now.
pub(super) fn text(board: &Arc<Board>) -> String {
    let mut registry = Registry::with_prefix("tidegate");
    registry.register_collector(Box::new(Figures(Arc::clone(board))));
    let mut written = String::new();
    text::encode(&mut written, &registry).expect("writing to a string does not fail");
    written
}

#[derive(Debug)]
struct Figures(Arc<Board>);

impl Collector for Figures {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let board = &*self.0;
        let mut sheet = Sheet(encoder);
        let labels = [
            ("version", env!("CARGO_PKG_VERSION")),
            ("arch", std::env::consts::ARCH),
            ("gateway", &*board.gateway),
        ];
        sheet.info("build", "The running program and the gateway's id", &labels)?;
        let stats = board.store.stats().borrow().clone();
        buffer(&mut sheet, board, &stats)?;
        drops(&mut sheet, board, &stats)?;
        sources(&mut sheet, board)?;
        cycles(&mut sheet, board)?;
        frames(&mut sheet, board)?;
        sparkplug(&mut sheet, board)?;
        let kafka = board.forward.borrow().clone();
        forward(&mut sheet, &kafka)?;
        aside(&mut sheet, board, &kafka)?;
        certificates(&mut sheet, board)?;
        process(&mut sheet, board)
    }
}

fn buffer(sheet: &mut Sheet<'_>, board: &Board, stats: &Stats) -> Result<(), Error> {
    let help = "Events in the file, not known to be in Kafka yet";
    sheet.gauge("buffer_events", help, stats.events)?;
    sheet.gauge("buffer_batches", "Batches in the file", stats.batches)?;
    let help = "Events in memory, to be written only where Kafka does not take them soon";
    sheet.gauge("buffer_in_memory_events", help, stats.in_memory.events)?;
    let help = "Memory that those events take";
    sheet.gauge_bytes("buffer_in_memory", help, stats.in_memory.bytes)?;
    sheet.gauge_bytes("buffer_used", "Bytes of the file that are in use", stats.bytes)?;
    let help = "Bytes of the file, empty pages included, its -wal not";
    sheet.gauge_bytes("buffer_file", help, stats.length)?;
    let now = board.clock.now();
    let age = stats.oldest.map_or(0, |oldest| now.0.saturating_sub(oldest.0));
    let age = Duration::from_nanos(u64::try_from(age).unwrap_or(0));
    let help =
        "Age of the oldest event of the oldest batch by the wall clock, 0 while nothing waits";
    sheet.gauge_seconds("buffer_oldest_event_age", help, age)?;
    let help = "1 while sources wait because the file, or a stream's share of it, is full";
    sheet.gauge("buffer_full", help, stats.held_back.into())?;
    let help = "1 while the last commit has failed: the disk is full or errs";
    sheet.gauge("buffer_failing", help, stats.failing.is_some().into())?;
    let help = "Events that were committed since the file was made, or by Kafka without it";
    sheet.counter("buffer_committed_events", help, stats.committed)?;
    let help = "Commits since the agent's start; each syncs the -wal once, and each 4 MB of it \
                go into the file with two syncs more";
    sheet.counter("buffer_commits", help, stats.commits)?;
    sheet.gauge("buffer_dead_letters", "Dead letters in the file", stats.dead_letters)?;
    let help = "Dead letters that made room for newer ones since the file was made";
    sheet.counter("buffer_dead_letters_dropped", help, stats.dead_dropped)?;
    let help = "How long a commit with new data took, its sync included";
    sheet.delays("buffer_commit_duration", help, &stats.took)?;
    let help = "From a source with a delivery in hand to the commit that holds it, each delivery";
    sheet.delays("source_to_commit", help, &stats.waited)
}

/// A stream that has dropped nothing shows its zeros: what appears out of nowhere
/// is no increase to who watches for one.
fn drops(sheet: &mut Sheet<'_>, board: &Board, stats: &Stats) -> Result<(), Error> {
    let seen = board.seen.borrow();
    let quiet = seen.streams.iter().flat_map(|stream| {
        let known = |reason: &Reason| {
            stats.dropped.iter().any(|one| one.stream == *stream && one.reason == *reason)
        };
        let reasons = Reason::ALL.into_iter().filter(move |reason| !known(reason));
        reasons.map(|reason| (labels(stream, reason), 0, 0))
    });
    let counted =
        stats.dropped.iter().map(|one| (labels(&one.stream, one.reason), one.events, one.bytes));
    let rows: Vec<_> = counted.chain(quiet).collect();
    let help = "Events that a rule of the configuration dropped since the file was made";
    sheet.counters("dropped_events", help, rows.iter().map(|(of, events, _)| (*of, *events)))?;
    let help = "The same in bytes, as they stood in the file or were about to";
    sheet.counters_bytes("dropped", help, rows.iter().map(|(of, _, bytes)| (*of, *bytes)))
}

const fn labels(stream: &str, reason: Reason) -> [(&str, &str); 2] {
    [("stream", stream), ("reason", reason.as_str())]
}

fn sources(sheet: &mut Sheet<'_>, board: &Board) -> Result<(), Error> {
    let seen = board.seen.borrow();
    let states: Vec<_> = seen.sources.iter().map(|source| source.borrow().clone()).collect();
    let help = "1 while the source's connection stands";
    let up = states.iter().map(|state| ([("source", &*state.source)], u64::from(state.up)));
    sheet.gauges("source_up", help, up)?;
    let help = "What is wrong with the source now: its connection, devices, topics, tables";
    let faults = states.iter().map(|state| {
        let faults = u64::try_from(state.faults.len()).unwrap_or(u64::MAX);
        ([("source", &*state.source)], faults)
    });
    sheet.gauges("source_faults", help, faults)?;
    let ways = states.iter().filter_map(|state| Some((state, state.way.as_ref()?)));
    let ways =
        ways.map(|(state, way)| ([("source", &*state.source)], u64::from(way.fallback.is_some())));
    let help = "1 while the source takes its fallback, 0 while it takes its first address";
    sheet.gauges("source_fallback", help, ways)?;
    let devices = states.iter().flat_map(|state| {
        let source = &*state.source;
        state.devices.iter().map(move |(name, device)| (source, name.as_str(), device.standing))
    });
    let rows = devices.flat_map(|(source, device, now)| {
        Standing::ALL.into_iter().map(move |standing| {
            let of = [("source", source), ("device", device), ("state", standing.as_str())];
            (of, u64::from(standing == now))
        })
    });
    sheet.gauges("device_state", "1 for the state that the device is in, once it is known", rows)
}

fn cycles(sheet: &mut Sheet<'_>, board: &Board) -> Result<(), Error> {
    let seen = board.seen.borrow();
    let mut groups = Vec::new();
    for (source, cycles) in &seen.cycles {
        for cycle in cycles {
            let of = [("source", &**source), ("device", &*cycle.device), ("group", &*cycle.group)];
            groups.push((of, cycle.counts()));
        }
    }
    let mut figure = |name, help, count: fn(&Counts) -> u64| {
        sheet.counters(name, help, groups.iter().map(|(of, counts)| (*of, count(counts))))
    };
    let help = "Cycles in which a group was read, whole or in part";
    figure("modbus_read_cycles", help, |counts| counts.read)?;
    let help = "Cycles that were skipped because their time went by: the interval is too short, \
                or the buffer is full";
    figure("modbus_missed_cycles", help, |counts| counts.missed)?;
    let help = "Cycles that were skipped because the device was silent and rests";
    figure("modbus_rested_cycles", help, |counts| counts.rested)?;
    let help = "Cycles that ended without an answer, or with a wrong one";
    figure("modbus_failed_cycles", help, |counts| counts.failed)?;
    let help = "Requests that the device refused";
    figure("modbus_refused_requests", help, |counts| counts.refused)
}

fn frames(sheet: &mut Sheet<'_>, board: &Board) -> Result<(), Error> {
    let seen = board.seen.borrow();
    let mut figure = |name, help, count: fn(&Frames) -> u64| {
        let lines = seen.frames.iter();
        sheet.counters(name, help, lines.map(|(of, frames)| ([("source", &**of)], count(frames))))
    };
    figure("serial_read_frames", "Frames of a line that could be read", Frames::read)?;
    let help = "Frames of a line that could not be read, and bytes that were no frame";
    figure("serial_unread_frames", help, Frames::unread)?;
    let help = "Frames of a serial port that were lost because the buffer took nothing";
    figure("serial_dropped_frames", help, Frames::dropped)
}

fn sparkplug(sheet: &mut Sheet<'_>, board: &Board) -> Result<(), Error> {
    let seen = board.seen.borrow();
    for count in Count::ALL {
        let help = match count {
            Count::Births => "Births of edge nodes and devices",
            Count::Deaths => "Deaths of edge nodes and devices",
            Count::Gaps => "Gaps in the sequence numbers of edge nodes",
            Count::Rebirths => "Requests to edge nodes to be born again",
            Count::Held => "Messages that were kept raw until a birth",
            Count::Unresolved => {
                "Messages that went out as stale, in part or whole, for want of a birth"
            }
            Count::Passed => {
                "Messages that were passed over: retained ones, double ones, late deaths of an \
                 earlier session"
            }
        };
        let hosts = seen.sparkplug.iter();
        let rows = hosts.map(|(of, counts)| ([("source", &**of)], counts.get(count)));
        sheet.counters(&format!("sparkplug_{}", count.as_str()), help, rows)?;
    }
    Ok(())
}

fn forward(sheet: &mut Sheet<'_>, kafka: &forward::Status) -> Result<(), Error> {
    let states = forward::Status::STATES.into_iter();
    let states = states.map(|state| ([("state", state)], u64::from(state == kafka.state)));
    sheet.gauges("forward_state", "1 for the state that the way to Kafka is in", states)?;
    let help = "1 while something keeps events from being delivered, until the next delivery";
    sheet.gauge("forward_failing", help, kafka.last_error.is_some().into())?;
    let help = "Events that Kafka has committed since the agent's start";
    sheet.counter("forward_delivered_events", help, kafka.delivered_events)?;
    let help = "Keys and values that Kafka has committed since the agent's start, uncompressed";
    sheet.counter_bytes("forward_delivered", help, kafka.delivered_bytes)?;
    let help = "Transactions that Kafka has committed since the agent's start; with \
                at_least_once, loads that it has taken";
    sheet.counter("forward_transactions", help, kafka.transactions)?;
    let help = "From the reading of a batch's first event to its commit in Kafka by the wall \
                clock, each batch";
    sheet.delays("source_to_kafka", help, &kafka.took)
}

/// Each stream that the configuration names, also while it is well, and those of an
/// earlier one that are not.
fn aside(sheet: &mut Sheet<'_>, board: &Board, kafka: &forward::Status) -> Result<(), Error> {
    let seen = board.seen.borrow();
    let mut streams: BTreeMap<&str, u64> =
        seen.streams.iter().map(|stream| (&**stream, 0)).collect();
    streams.extend(kafka.aside.iter().map(|one| (&*one.stream, 1)));
    let rows = streams.into_iter().map(|(stream, aside)| ([("stream", stream)], aside));
    let help = "1 while the stream stands aside because its topic is missing or refuses its \
                events: they are kept, and the other streams go on";
    sheet.gauges("forward_stream_aside", help, rows)
}

fn certificates(sheet: &mut Sheet<'_>, board: &Board) -> Result<(), Error> {
    let certificates = board.certificates.borrow();
    let ends = certificates
        .iter()
        .map(|one| ([("by", one.by.as_str()), ("file", one.file.as_str())], one.ends));
    let help = "When a file of certificates that the configuration names expires, since 1970: our \
                own with its first certificate, authorities with their last";
    sheet.gauges_seconds("certificate_expiry", help, ends)
}

fn process(sheet: &mut Sheet<'_>, board: &Board) -> Result<(), Error> {
    let process = Process::look();
    if let Some(bytes) = process.resident_bytes {
        sheet.gauge_bytes("process_resident_memory", "Resident memory", bytes)?;
    }
    if let Some(cpu) = process.cpu {
        sheet.counter_seconds("process_cpu", "CPU time, user and system", cpu)?;
    }
    if let Some(threads) = process.threads {
        sheet.gauge("process_threads", "Threads, librdkafka's included", threads)?;
    }
    if let Some(bytes) = process.written_bytes {
        let help = "Bytes that the process had the kernel write to a disk (write_bytes of \
                    /proc/self/io): all its files, in whole pages; a flash card writes more";
        sheet.counter_bytes("process_disk_written", help, bytes)?;
    }
    let start = Duration::from_secs(process::start_time(board.clock.now()));
    sheet.gauge_seconds("process_start_time", "Start of the process since 1970", start)
}
