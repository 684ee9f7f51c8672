//! The forwarder under every kind of trouble, by one seed and in virtual time.
//!
//! The machine of [`run`](super::run) and the code of the buffer's file are
//! the real ones. Kafka is a model ([`broker`]), and what librdkafka does in
//! between is one too ([`wire`]). A seed decides what fails when: requests and
//! answers that get lost, transactions that time out, a broker that is away or
//! refuses, topics that come and go, a power cut between any two calls, twins,
//! cloned cards, a forgotten position, another cluster. Then all trouble ends,
//! the files are drained, and a read-committed reader must have every event
//! exactly once and in order; nothing may have left a file before it arrived,
//! at any moment.
//!
//! `make simulate SEEDS=10000` runs many seeds, with `FROM=n` those behind n, so
//! that a long campaign may be run in pieces; `SEED=n` runs one again.

pub(crate) mod broker;
pub(crate) mod chance;
mod gateway;
mod judge;
mod mutants;
mod plan;
mod renewal;
pub(crate) mod sender;
mod stuck;
mod twins;
mod unheard;
mod wire;

use crate::event::Timestamp;

const NOW: Timestamp = Timestamp(1_767_225_600_000_000_000);

/// Seeds of a run that names no number.
const SEEDS: u64 = 1_000;

/// A rule taken out, at the place where it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// SAFETY 1: a new producer does not fence what stands open.
    NoInit,
    /// SAFETY 1: what may never be committed is taken for the position.
    ReadUncommitted,
    /// SAFETY 2: a commit that timed out is aborted.
    AbortUnknownCommit,
    /// SAFETY 2: a commit without an answer counts as done.
    SilenceIsCommit,
    /// SAFETY 2: an error on reading is "no position".
    ErrorIsNoPosition,
    /// SAFETY 3: while there is nothing to send, no position is committed.
    NoRenewal,
    /// SAFETY 3: a position that is gone is taken for one that covers everything.
    GoneIsAll,
    /// SAFETY 5: after a fence nobody looks for a twin.
    NoLookForTwins,
    /// Two counters and an epoch: the position is not in the transaction.
    NoPosition,
    /// Invariant 1: batches go before Kafka has committed them.
    DeleteBeforeCommit,
    /// SAFETY 9: a dead letter is not in the file before the position passes.
    DeadLetterLater,
    /// SAFETY 10: a record is stamped with its event's time, however old.
    OwnTimeAlways,
    /// SAFETY 3: a lost position is no reason to look at the topics.
    NoLook,
    /// SAFETY 3: what an aborted transaction wrote is taken for delivered.
    AbortedIsSeen,
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn every_event_arrives_exactly_once_whatever_fails() {
    campaign("forwarder", SEEDS, |seed| plan::run(seed, None));
}

/// Seeds between two lines of a long campaign.
const TELL: u64 = 1_000;

/// Runs a world under `SEEDS` seeds from `FROM`, on all cores, or under `SEED`
/// alone and tells what happens in it.
pub(crate) fn campaign(world: &str, seeds: u64, run: impl Fn(u64) -> Result<(), String> + Sync) {
    if let Some(seed) = number("SEED") {
        let told = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).finish();
        let _told = tracing::subscriber::set_default(told);
        run(seed).unwrap_or_else(|wrong| panic!("{world}: seed {seed}: {wrong}"));
        return;
    }
    let from = number("FROM").unwrap_or(0);
    let end = from + number("SEEDS").unwrap_or(seeds);
    let next = std::sync::atomic::AtomicU64::new(from);
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let wrong = std::thread::scope(|scope| {
        let work = || {
            let mut wrong = Vec::new();
            loop {
                let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if seed >= end {
                    return wrong;
                }
                if seed > from && seed.is_multiple_of(TELL) {
                    println!("{world}: at seed {seed} of {end}");
                }
                if let Err(cause) = run(seed) {
                    let again = format!("make simulate SEED={seed}");
                    let line = format!("{world}: seed {seed}: {cause} (replay: {again})");
                    println!("{line}");
                    wrong.push(line);
                }
            }
        };
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        running.into_iter().flat_map(|run| run.join().expect("a seed panicked")).collect::<Vec<_>>()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
