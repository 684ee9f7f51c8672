//! A backlog of many gigabytes, and how its size tells.

use std::path::Path;

use rustix::fs::{Advice, fadvise, statvfs};

use crate::backlog::Backlog;
use crate::bench::{BUFFER, Bench, DEADLINE};
use crate::line::{Line, float};
use tidegate_e2e::wait_until;

/// Limits of the project: from the start to READY, in seconds.
const READY: f64 = 1.0;

/// A buffer that is full of old events costs no more of each than a small one;
/// what two runs of the same work differ by is granted.
const MORE: f64 = 1.1;

/// Events after which the two files are compared.
const FIRST: u64 = 500_000;

/// Room that the disk keeps beside the large file.
const ROOM: u64 = 5_000_000_000;

/// Files of so many bytes, one ten times the other, and a little more events in the
/// smallest than are waited for.
const SIZES: [u64; 4] = [1_000_000, 10_000_000, 100_000_000, 1_000_000_000];
const SMALLEST: u64 = 40_000;
const FEW: u64 = 20_000;

/// What the size of a backlog costs: the start, and the first events.
pub(crate) fn sizes(bench: &mut Bench) {
    let name = "sizes";
    let smallest = Backlog::collect(bench, "sizes-filled", SMALLEST);
    for bytes in SIZES {
        // Each is a topic and an agent of its own.
        let name_of = format!("sizes-{bytes}");
        let source = smallest.copy(bench, &name_of);
        let events = Backlog::grow(bench, &name_of, bytes);
        let begun = begin(bench, &name_of, &source, events, FEW);
        std::fs::remove_dir_all(bench.folder(&name_of)).expect("its folder is ours");
        let size = format!("{:.0} MB", float(bytes) / 1e6);
        bench.lines.extend([
            Line::told(name, "from start to READY", begun.ready, "s").at_most(READY).note(&size),
            Line::told(name, "CPU, start and first events", begun.micros, "µs/event")
                .note(format!("{size}, {FEW} events; {:.2} in the kernel", begun.kernel)),
        ]);
    }
}

/// A backlog of so many bytes, between two of the same events that are small: all
/// three are measured after the disk has taken the large one.
pub(crate) fn open(bench: &mut Bench, bytes: u64) {
    let name = "open";
    let backlog = crate::collect::filled(bench);
    // The small ones must hold some more than are waited for.
    let first = FIRST.min(backlog.events / 2);
    let disk = statvfs(bench.folder(name)).expect("a folder is on a disk");
    let free = disk.f_bavail * disk.f_frsize;
    let bytes = bytes.min(free.saturating_sub(ROOM));
    let source = backlog.copy(bench, name);
    let events = Backlog::grow(bench, name, bytes);
    let small = |name| {
        let source = backlog.copy(bench, name);
        begin(bench, name, &source, backlog.events, first)
    };
    let before = small("open-before");
    let large = begin(bench, name, &source, events, first);
    std::fs::remove_dir_all(bench.folder(name)).expect("its folder is ours");
    let after = small("open-after");
    let mean = f64::midpoint(before.micros, after.micros);
    let note = format!("{:.1} GB of the same batches, none in the page cache", float(bytes) / 1e9);
    bench.lines.extend([
        Line::told(name, "from start to READY", large.ready, "s").at_most(READY).note(note),
        Line::told(name, "CPU of the first events", large.micros, "µs/event")
            .note(format!("{first} events; {:.2} in the kernel", large.kernel)),
        Line::told(name, "by that with a small file", large.micros / mean, "×")
            .at_most(MORE)
            .note(format!("{before}; {after}")),
    ]);
}

/// What the first events took from the start on: microseconds of CPU of each, and
/// what of it in the kernel.
struct Begun {
    micros: f64,
    kernel: f64,
    /// From the start to READY, in seconds.
    ready: f64,
}

impl std::fmt::Display for Begun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} µs/event, {:.2} in the kernel", self.micros, self.kernel)
    }
}

/// Starts an agent on the file of so many events, of which nothing is in memory.
fn begin(bench: &Bench, name: &str, source: &str, events: u64, first: u64) -> Begun {
    forget_pages(&bench.folder(name).join(BUFFER));
    let keys = "max_size = \"1024 GiB\"\nmin_free_disk = \"1 %\"";
    let agent = bench.start_agent(name, &bench.kafka.brokers(), keys, source);
    let topic = bench.topic(name);
    // A transaction's mark counts as an event there: one in some thousands, and in
    // the first transactions, which are small, one in 500.
    let enough = first + first / 100;
    let sent =
        wait_until("the first events", DEADLINE, || Some(topic.end()).filter(|end| *end >= enough));
    let each = |time: std::time::Duration| time.as_secs_f64() * 1e6 / float(sent);
    let (micros, kernel) = (each(agent.meter.cpu()), each(agent.meter.kernel()));
    let left = agent.counted();
    assert!(left <= events, "{left} of {events} events are left");
    let ready = agent.ready.as_secs_f64();
    drop(agent);
    topic.check_order(first);
    Begun { micros, kernel, ready }
}

/// Lets the kernel read the file from the disk again.
fn forget_pages(path: &Path) {
    let file = std::fs::File::open(path).expect("it is there");
    file.sync_all().expect("the disk takes it");
    fadvise(&file, 0, None, Advice::DontNeed).expect("the kernel takes the hint");
}
