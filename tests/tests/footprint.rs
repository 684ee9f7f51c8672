//! What an agent that has nothing to do takes of a gateway: threads, memory, and the
//! program itself. None of them depends on how fast the machine is.
//!
//! It counts the build that is tested: the program without its debug info, which is
//! larger than what ships (`make bench`, `make cross-test`), and bounds that see a
//! library too many.

use std::path::Path;
use std::time::Duration;

use tidegate_e2e::agent::Agent;
use tidegate_e2e::kafka::Kafka;
use tidegate_e2e::mosquitto::Mosquitto;
use tidegate_e2e::{folder, settings, wait_until};

/// Of our own: the sources', the writer's and the forwarder's.
const THREADS: [&str; 3] = ["buffer", "forward", "tidegate"];

/// librdkafka names its own by this.
const LIBRARY: &str = "rdk:";

/// Bytes of memory that are not the program's file: 3.1 MB are measured.
const MEMORY: u64 = 4_000_000;

/// Bytes of the program that are mapped: 26.8 MB are measured, of a build that is hardly
/// optimised.
const PROGRAM: u64 = 28_000_000;

/// A thread that was borrowed ends after ten seconds without work.
const SETTLED: Duration = Duration::from_mins(2);

#[test]
fn an_idle_agent_has_three_threads_of_its_own_and_little_memory() {
    let name = "footprint";
    let (kafka, broker) =
        (Kafka::started("footprint-kafka"), Mosquitto::started("footprint-broker"));
    let folder = folder(name);
    let config = settings::head(name, &folder, &settings::plain(&kafka.brokers()))
        + &settings::stream(name, 1)
        + &settings::mqtt("line", &broker.address(), name, "");
    let mut agent = Agent::new(&folder, &config);
    agent.start();
    agent.wait_line(&["source is up"], SETTLED);
    agent.wait_line(&["connected"], SETTLED);
    let process = Path::new("/proc").join(agent.process().id().to_string());
    wait_until("three threads of its own", SETTLED, || {
        (threads(&process) == THREADS).then_some(())
    });
    let (memory, program) = (field(&process, "RssAnon:"), program(&process));
    println!(
        "{memory} bytes of memory, {MEMORY} at most; {program} of the program, {PROGRAM} at most"
    );
    assert!(memory <= MEMORY, "{memory} bytes of memory");
    assert!(program <= PROGRAM, "{program} bytes of program");
    agent.stop();
}

/// The names of its threads, without librdkafka's.
fn threads(process: &Path) -> Vec<String> {
    let tasks = std::fs::read_dir(process.join("task")).expect("it runs").flatten();
    // A thread may end between the two looks.
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    let mut own: Vec<String> = names
        .map(|name| name.trim_end().to_owned())
        .filter(|name| !name.starts_with(LIBRARY))
        .collect();
    own.sort_unstable();
    own
}

/// Bytes by a line of `status`, which counts in KiB.
fn field(process: &Path, name: &str) -> u64 {
    let status = std::fs::read_to_string(process.join("status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.expect("a count of KiB") * 1024
}

/// Bytes of its file that its memory maps: all but the debug info.
fn program(process: &Path) -> u64 {
    let file = std::fs::read_link(process.join("exe")).expect("it runs");
    let file = file.to_string_lossy();
    let maps = std::fs::read_to_string(process.join("maps")).expect("it runs");
    let mapped = maps.lines().filter(|line| line.ends_with(&*file)).map(|line| {
        let (range, _) = line.split_once(' ').expect("a range first");
        let (from, to) = range.split_once('-').expect("a range has two ends");
        let address = |text| u64::from_str_radix(text, 16).expect("an address is hexadecimal");
        address(to) - address(from)
    });
    mapped.sum()
}
