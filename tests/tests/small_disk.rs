//! A disk that is full for real: the agent writes until its floor, others write
//! until nothing is left, and it is freed again. The agent stays the same process.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tidegate_e2e::agent::Agent;
use tidegate_e2e::chance::Chance;
use tidegate_e2e::disk::SmallDisk;
use tidegate_e2e::judge::{self, Judge, Record};
use tidegate_e2e::kafka::Kafka;
use tidegate_e2e::mosquitto::Mosquitto;
use tidegate_e2e::process::Usage;
use tidegate_e2e::publisher::Publisher;
use tidegate_e2e::{folder, outage, settings, wait_until};

const MIB: u64 = 1024 * 1024;

const DISK: u64 = 16 * MIB;

/// `min_free_disk` here: it must be reached long before the disk is full.
const FLOOR: u64 = 2 * MIB;

/// Letters of a message: they are stored in two thirds of it.
const NOISE: usize = 4_000;

/// Messages that are published, and acknowledged by the agent, before the next are.
const SLICE: u64 = 25;

/// How long nobody frees the disk.
const FULL: Duration = Duration::from_secs(10);

/// Until the agent says or does what it must.
const DONE: Duration = Duration::from_mins(2);

/// Numbered messages of noise through a mosquitto, and the agent's acknowledgements.
struct Load {
    mosquitto: Mosquitto,
    publisher: Publisher,
    chance: Chance,
}

impl Load {
    fn start(name: &str) -> Self {
        let mosquitto = Mosquitto::started(&format!("{name}-mosquitto"));
        let publisher = Publisher::connect(mosquitto.port, "publisher");
        Self { mosquitto, publisher, chance: Chance::of(1) }
    }

    fn published(&self) -> u64 {
        self.publisher.acknowledged
    }

    fn publish(&mut self, count: u64) {
        let first = self.published() + 1;
        let messages: Vec<_> = (first..first + count)
            .map(|number| message(number, &self.chance.letters(NOISE)))
            .collect();
        self.publisher.publish(&messages);
    }

    fn teach(&mut self, agent: &Agent) {
        let Self { mosquitto, publisher, .. } = self;
        mosquitto.teach(agent, "tidegate-", || {
            publisher.publish(&[message(publisher.acknowledged + 1, "")]);
        });
    }

    /// What the agent has acknowledged.
    fn taken(&self) -> u64 {
        self.mosquitto.count("Received PUBACK from tidegate-") as u64
    }

    fn wait_taken(&self) {
        wait_until("the agent's acknowledgements", DONE, || {
            (self.taken() == self.published()).then_some(())
        });
    }
}

fn message(number: u64, noise: &str) -> (String, Vec<u8>) {
    let payload = format!(r#"{{"n":{number},"noise":"{noise}"}}"#);
    (format!("plant/l1/d{}/temp", number % 5), payload.into_bytes())
}

/// An agent whose buffer lies on the disk.
fn agent(name: &str, disk: &SmallDisk, kafka: &Kafka, load: &Load, when_full: &str) -> Agent {
    let uplink = settings::plain(&kafka.brokers());
    // Its own stream drops its oldest, and where sources wait nothing is to go.
    let head = match when_full {
        "block" => settings::head("gw1", &disk.folder, &uplink),
        _ => settings::head_with_system("gw1", &disk.folder, &uplink),
    };
    let head = head.replace(
        "min_free_disk = \"64 MiB\"",
        &format!("max_size = \"16 MiB\"\nmin_free_disk = \"{} MiB\"", FLOOR / MIB),
    );
    let stream = settings::stream("sensors", 1) + &format!("when_full = \"{when_full}\"\n");
    let source = settings::mqtt("broker", &load.mosquitto.address(), "sensors", "protocol = \"5\"");
    let mut agent = Agent::new(&folder(&format!("{name}-agent")), &(head + &stream + &source));
    agent.on(disk);
    agent
}

fn begin(name: &str, when_full: &str) -> (SmallDisk, Kafka, Load, Agent) {
    let disk = SmallDisk::mount(&folder(name), DISK);
    let kafka = Kafka::prepared(&format!("{name}-kafka"));
    let mut load = Load::start(name);
    let mut agent = agent(name, &disk, &kafka, &load, when_full);
    agent.start();
    load.mosquitto.wait_line("Sending SUBACK", DONE);
    load.teach(&agent);
    (disk, kafka, load, agent)
}

/// The tries to commit that a pause of 1 s, which doubles up to 30 s, leaves time for.
fn most_tries(within: Duration) -> u64 {
    6 + within.as_secs() / 30
}

fn tries(line: &str) -> u64 {
    let line: serde_json::Value = serde_json::from_str(line).expect("a line of the log is JSON");
    let found = line.pointer("/fields/tries").or_else(|| line.get("tries"));
    found.and_then(serde_json::Value::as_u64).expect("the line counts the tries")
}

fn numbers(records: &[Record]) -> Vec<u64> {
    let of = records.iter().filter(|record| record.topic == "sensors");
    of.map(|record| record.number("n")).collect()
}

#[test]
fn on_a_disk_that_others_fill_sources_wait_and_nothing_is_lost() {
    let (disk, mut kafka, mut load, mut agent) = begin("full-block", "block");
    load.publish(200);
    load.wait_taken();

    // Nobody has room, and Kafka is not there.
    disk.fill_up_to(0);
    let since = Instant::now();
    load.publish(400);
    agent.wait_line(&["cannot write the buffer", "disk is full"], DONE);
    let (before, said) = (agent.process().usage(), agent.process().log.len());
    outage(FULL);
    let used: Usage = agent.process().usage() - before;
    let lines = agent.process().log.len() - said;
    assert!(load.taken() < load.published(), "the disk is full");
    disk.clear();
    let again = agent.wait_line(&["the buffer can be written again"], DONE);
    let (tried, within) = (tries(&again), since.elapsed());
    println!("full for {within:?}: {tried} tries failed, {lines} lines in {FULL:?}, {used:?}");
    assert!((1..=most_tries(within)).contains(&tried), "{tried} tries in {within:?}");
    assert!(agent.lines(&["cannot write the buffer"]).len() <= 2, "it is said once");
    load.wait_taken();

    // Full again, and Kafka comes: what it has makes the room for what waits.
    disk.fill_up_to(0);
    load.publish(400);
    kafka.start();
    let mut judge = Judge::new(&kafka);
    judge.look_until("all messages", DONE, |records| {
        numbers(records).len() as u64 >= load.published()
    });
    load.wait_taken();
    agent.wait_line(&["the buffer's reserve is given back for deletes"], DONE);
    disk.clear();
    load.publish(100);
    load.wait_taken();
    agent.stop();
    judge::assert_each_once("messages", load.published(), numbers(judge.look()));
    judge::assert_ids(&judge.records);
    judge::assert_in_order(&judge.records);
}

#[test]
fn on_a_disk_that_runs_full_the_oldest_go_and_the_gaps_name_exactly_those() {
    let (disk, mut kafka, mut load, mut agent) = begin("full-drop", "drop_oldest");

    // Up to the floor by the agent's own writing, and on.
    let mut least = disk.free();
    let mut slice = |load: &mut Load| {
        load.publish(SLICE);
        load.wait_taken();
        least = least.min(disk.free());
    };
    while agent.lines(&["events are dropped", "sensors", "disk"]).is_empty() {
        slice(&mut load);
    }
    let reached = load.published();
    for _ in 0..8 {
        slice(&mut load);
    }
    // One commit may stand in the way.
    let most_commit = SLICE * NOISE as u64;
    println!("the floor was reached with {reached} messages, {least} bytes were free at least");
    assert!(least + most_commit >= FLOOR, "{least} bytes are free");

    // Others take the rest: the floor is theirs to break.
    disk.fill_up_to(0);
    let before = agent.process().usage();
    load.publish(400);
    load.wait_taken();
    let used = agent.process().usage() - before;
    println!("400 messages on a full disk: {used:?}");
    assert_eq!(disk.free(), 0, "the disk is full");
    let failed = agent.lines(&["cannot write the buffer"]);
    println!("commits that failed, once each reason: {}", failed.len());

    disk.clear();
    kafka.start();
    let mut judge = Judge::new(&kafka);
    let count = load.published();
    let gone = |records: &[Record]| count.saturating_sub(numbers(records).len() as u64);
    judge.look_until("the rest, and the gaps of what is gone", DONE, |records| {
        numbers(records).contains(&count) && told(records, "sensors") >= gone(records)
    });
    agent.stop();
    let records = judge.look();
    let gone = gone(records);
    println!("{gone} of {count} messages are gone");
    assert!(gone > 0);
    judge::assert_ids(records);
    judge::assert_in_order(records);
    let mut arrived = numbers(records);
    arrived.sort_unstable();
    assert_eq!(arrived, (gone + 1..=count).collect::<Vec<_>>(), "exactly the oldest are gone");
    assert_gaps(records);
}

fn gaps(records: &[Record]) -> impl Iterator<Item = &Record> {
    let own = records.iter().filter(|record| record.topic == "tidegate.system");
    own.filter(|record| record.text("kind") == "gap")
}

/// Events of the stream that the gaps name.
fn told(records: &[Record], stream: &str) -> u64 {
    let of = gaps(records).filter(|gap| gap.text("stream") == stream);
    of.map(|gap| gap.number("events")).sum()
}

/// The gaps name each seq that did not come, and none that came.
fn assert_gaps(records: &[Record]) {
    let seq = |record: &Record| record.number("seq");
    let epochs: BTreeSet<&str> = records.iter().map(|record| record.text("epoch")).collect();
    assert_eq!(epochs.len(), 1, "the agent was never started anew");
    let came: BTreeSet<u64> = records.iter().map(seq).collect();
    let last = came.last().copied().unwrap_or_default();
    let mut missing: BTreeSet<u64> = (1..=last).filter(|seq| !came.contains(seq)).collect();
    let all = missing.len() as u64;
    let mut named = 0;
    for gap in gaps(records) {
        assert_eq!(gap.text("reason"), "disk", "{gap:?}");
        let seq_of = |field: &str| -> u64 {
            let (_, seq) = gap.text(field).rsplit_once('/').expect("an id ends with its seq");
            seq.parse().expect("a seq is a number")
        };
        let range = seq_of("first_id")..=seq_of("last_id");
        let topic = gap.text("stream");
        let wrong = records.iter().find(|r| r.topic == topic && range.contains(&seq(r)));
        assert!(wrong.is_none(), "{wrong:?} came, and {gap:?} names it");
        missing.retain(|seq| !range.contains(seq));
        named += gap.number("events");
    }
    assert_eq!(missing, BTreeSet::new(), "no gap names these");
    assert_eq!(named, all, "the gaps count what did not come");
}
