//! Power cuts, thousands of them: the agent's own writer and reader on machines
//! in memory whose medium keeps what was synced, and of the rest what the dice
//! leave.
//!
//! `dice` chooses under a seed, `medium` are the bytes of a file, `machine` is
//! files, names, locks and shared memory, `vfs` is the machine as `SQLite`'s file
//! system, `model` is what must be true, and `world` lives, dies and looks. `neighbour`
//! is another process there, `ailing` a medium that errs while the power is on.
//!
//! The idea is `SQLite`'s own (test6.c there); what is new is that the buffer
//! stands on top, with its sources, its forwarder and its restarts.
//!
//! `CUTS=20000` cuts so many times. A seed that fails is named, and
//! `CUTS_SEED=<seed>` runs it alone.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of tests may end them"
)]

mod ailing;
mod dice;
mod machine;
mod medium;
mod model;
mod neighbour;
mod vfs;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use rusqlite::Connection;

use dice::Dice;
use machine::{Disk, Fuse, Machine};
use medium::Medium;
use world::{Moment, World};

/// Cuts of a run without `CUTS`.
const CUTS: u64 = 2_000;

/// Cuts that one machine goes through: what one leaves is the next one's past.
const LIVES: u64 = 8;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn a_power_cut_costs_nothing_that_was_acknowledged() {
    let alone = number("CUTS_SEED");
    let seeds = match alone {
        Some(seed) => seed..seed + 1,
        None => 0..number("CUTS").unwrap_or(CUTS).div_ceil(LIVES),
    };
    let mut moments = BTreeMap::<Moment, u64>::new();
    for seed in seeds {
        let mut world = World::new(seed);
        for life in 0..LIVES {
            match catch_unwind(AssertUnwindSafe(|| world.live())) {
                Ok(moment) => *moments.entry(moment).or_default() += 1,
                Err(cause) => {
                    println!("cut {life} of CUTS_SEED={seed} cost too much");
                    resume_unwind(cause);
                }
            }
        }
    }
    println!("cuts by moment: {moments:?}");
    // Else the dice have become too kind.
    assert!(alone.is_some() || moments.len() == 4, "no cut was in some moment: {moments:?}");
}

/// Rows that were committed and are gone after a cut, or 1 for a file that is
/// damaged: of so many machines.
fn losses(synchronous: &str, machines: u64) -> i64 {
    let folder = tempfile::tempdir().expect("a folder to name the machine by");
    let path = folder.path().join("plain.db");
    let mut losses = 0;
    for seed in 0..machines {
        let mut dice = Dice::new(seed);
        let medium = Medium { sector: 512, powersafe: true };
        let machine = Machine::boot(Disk::new(), medium, Fuse::Never);
        vfs::plug_in(folder.path(), &machine);
        let connection = Connection::open(&path).expect("a new file");
        connection
            .execute_batch(&format!(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous};
                 PRAGMA wal_autocheckpoint = 8; CREATE TABLE t (x)"
            ))
            .expect("a table");
        for _ in 0..10 {
            connection.execute("INSERT INTO t VALUES (zeroblob(3000))", []).expect("a row");
        }
        let disk = machine.cut(&mut dice);
        drop(connection);
        vfs::plug_in(folder.path(), &Machine::boot(disk, medium, Fuse::Never));
        let left = Connection::open(&path).and_then(|connection| {
            connection.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))
        });
        losses += left.map_or(1, |left| 10 - left);
    }
    vfs::unplug(folder.path());
    losses
}

/// The machines are worth something only if they find what is wrong.
#[test]
fn what_was_not_synced_is_lost_on_these_machines_and_what_was_is_not() {
    assert_eq!(losses("FULL", 50), 0);
    assert!(losses("NORMAL", 50) > 0);
    assert!(losses("OFF", 50) > 0);
}
