//! Another process on the machine while the agent starts: a command that has looked
//! at the file and is in the midst of writing its -wal back.
//!
//! What it found there is found by the agent too, though a process that was killed
//! has written it and never synced it; and the agent cannot write it back itself.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};
use tidegate::buffer;
use tidegate::clock::Clock;
use tidegate::collect::{self, Buffer, Checkpoint, Delivery, SourceInfo};
use tidegate::event::Timestamp;
use tidegate::flow::Flows;

use crate::dice::Dice;
use crate::machine::{Disk, Fuse, Machine};
use crate::medium::Medium;
use crate::vfs;

/// Cuts of a test: what each leaves is for the dice.
const CUTS: u64 = 50;

pub(crate) struct Neighbour {
    _connection: Connection,
    machine: Arc<Machine>,
    name: String,
}

impl Neighbour {
    /// Nothing where there is no -wal to write back.
    pub(crate) fn begin(path: &Path, machine: &Arc<Machine>) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_owned();
        let connection =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
        let looked = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
        looked.ok()?;
        let begun = machine.write_back(&name, true);
        begun.then(|| Self { _connection: connection, machine: Arc::clone(machine), name })
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.machine.write_back(&self.name, false);
    }
}

fn open(folder: &Path) -> Buffer {
    let config = buffer::Config { path: folder.join("buffer.db"), ..buffer::Config::default() };
    Buffer::open(&config, "gw1", Clock::fixed(Timestamp(7))).expect("the agent starts")
}

fn cursor(number: u8) -> Checkpoint {
    Checkpoint::Cursor([number].as_slice().into())
}

/// An agent that saves two cursors, of which the second is written and not synced, until
/// it is killed.
fn run(folder: &Path, machine: &Machine) {
    let source = SourceInfo { name: "a".into(), labels: Vec::new() };
    let (collector, mut intakes) =
        collect::start(open(folder), vec![source], Flows::default()).expect("a thread");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for number in [1, 2] {
        machine.lie(number == 2);
        let checkpoint = Some(cursor(number));
        let delivery = Delivery { checkpoint, urgent: true, ..Delivery::default() };
        runtime.block_on(async {
            let ticket = intakes[0].deliver(delivery).await.expect("the writer lives");
            intakes[0].wait_committed(ticket).await.expect("the writer lives");
        });
    }
    machine.turn_off();
    drop((collector, intakes));
}

/// Whether what a start found beside a neighbour is there after a cut right behind it.
/// `careless`: that start syncs nothing.
fn is_kept(seed: u64, careless: bool) -> bool {
    let mut dice = Dice::new(seed);
    let folder = tempfile::tempdir().expect("a folder for the lock");
    let medium = Medium { sector: if dice.once_in(2) { 512 } else { 4096 }, powersafe: true };
    let plug_in = |machine: &Arc<Machine>| vfs::plug_in(folder.path(), machine);
    let first = Machine::boot(Disk::new(), medium, Fuse::Never);
    plug_in(&first);
    run(folder.path(), &first);
    let second = first.without_process(Fuse::Never);
    plug_in(&second);
    let neighbour = Neighbour::begin(&folder.path().join("buffer.db"), &second);
    assert!(neighbour.is_some(), "there is a -wal to write back");
    second.lie(careless);
    let buffer = open(folder.path());
    assert_eq!(buffer.saved("a"), Some(cursor(2)), "it is found");
    let disk = second.cut(&mut dice);
    drop((neighbour, buffer));
    let third = Machine::boot(disk, medium, Fuse::Never);
    plug_in(&third);
    let kept = open(folder.path()).saved("a") == Some(cursor(2));
    vfs::unplug(folder.path());
    kept
}

/// A source is answered for it: an MQTT broker delivers again what is known already.
#[test]
fn what_a_start_finds_outlives_a_cut_though_nobody_had_synced_it() {
    assert!((0..CUTS).all(|seed| is_kept(seed, false)));
}

#[test]
fn a_start_that_syncs_nothing_is_caught() {
    assert!(!(0..CUTS).all(|seed| is_kept(seed, true)));
}
