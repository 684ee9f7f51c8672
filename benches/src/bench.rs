//! The servers, the agents between them, and the wait until all is in Kafka.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use rustix::fs::statvfs;
use tidegate_e2e::kafka::Kafka;
use tidegate_e2e::process::Process;
use tidegate_e2e::{folder, target, wait_until};

use crate::backlog::Backlog;
use crate::burst::{self, Burst};
use crate::line::{self, Line};
use crate::meter::Meter;
use crate::mosquitto::Mosquitto;
use crate::poll::{self, Polled};

/// No part takes so long, on whatever machine.
pub(crate) const DEADLINE: Duration = Duration::from_mins(10);

/// Nothing new for so long: what is there is all there is for now.
const QUIET: Duration = Duration::from_millis(500);

/// Between two looks at Kafka, each of which costs it a request.
const LOOK: Duration = Duration::from_millis(10);

const ANSWER: Duration = Duration::from_mins(1);

/// The agent's default of `min_free_disk` is this part of the disk.
const FLOOR: u64 = 10;

/// Each agent's buffer, in its folder.
pub(crate) const BUFFER: &str = "buffer.db";

#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) kafka: Kafka,
    pub(crate) mosquitto: Mosquitto,
    pub(crate) events: u64,
    /// Events of a backlog.
    pub(crate) waiting: u64,
    pub(crate) lines: Vec<Line>,
    pub(crate) backlog: Option<Backlog>,
    burst: Option<Burst>,
    polled: Option<Polled>,
    folder: PathBuf,
}

impl Bench {
    pub(crate) fn start(events: u64, waiting: u64) -> Self {
        let folder = folder("bench");
        let disk = statvfs(&folder).expect("a folder is on a disk");
        if disk.f_bavail < disk.f_blocks / FLOOR {
            line::progress(
                "bench: less than a tenth of the disk is free. The agent holds its sources back \
                 below that (`min_free_disk`): figures will be wrong, or not come",
            );
        }
        Self {
            kafka: Kafka::started("bench-kafka"),
            mosquitto: Mosquitto::start(),
            events,
            waiting,
            lines: Vec::new(),
            backlog: None,
            burst: None,
            polled: None,
            folder,
        }
    }

    /// The agent's burst, measured once in a run.
    pub(crate) fn burst(&mut self) -> Burst {
        let burst = self.burst.unwrap_or_else(|| burst::burst(self));
        *self.burst.insert(burst)
    }

    /// The agent's polling, measured once in a run.
    pub(crate) fn polled(&mut self) -> Polled {
        let polled = self.polled.unwrap_or_else(|| poll::modbus(self));
        *self.polled.insert(polled)
    }

    /// A folder that `name` has for itself.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        folder
    }

    /// An agent with these sources, ready; what it reads goes to the topic
    /// `name`, which is made. All else is as its users have it by default, but the
    /// agent's own stream, which the figures do not count.
    pub(crate) fn agent(&self, name: &str, sources: &str) -> Agent {
        self.kafka.create_topic(name, &[]);
        self.start_agent(name, &self.kafka.brokers(), "", sources)
    }

    /// The same with these brokers and further keys of `[buffer]`. No topic is
    /// made, and what the buffer holds already stays.
    pub(crate) fn start_agent(
        &self,
        name: &str,
        brokers: &str,
        buffer: &str,
        sources: &str,
    ) -> Agent {
        let folder = self.folder(name);
        let config = folder.join("gateway.toml");
        let text = format!(
            "[gateway]\nid = \"{name}\"\n[buffer]\npath = \"{}\"\n{buffer}\n[kafka]\nbrokers = \"{brokers}\"\n\
             [system]\nenabled = false\n{sources}",
            folder.join(BUFFER).display(),
        );
        std::fs::write(&config, text).expect("it is writable");
        let mut command = Command::new(binary());
        command.arg("run").arg("--config").arg(config);
        let since = Instant::now();
        let process = Process::start("tidegate", &command);
        process.wait_line("READY", DEADLINE);
        let ready = since.elapsed();
        Agent { meter: Meter::of(&process), process, ready, folder }
    }

    /// The source that reads what [`crate::load::publish`] gives.
    pub(crate) fn mqtt(&self, name: &str) -> String {
        self.mqtt_with(name, "", "")
    }

    /// The same with further keys of the source and of its subscription.
    pub(crate) fn mqtt_with(&self, name: &str, source: &str, subscription: &str) -> String {
        format!(
            "[[source]]\ntype = \"mqtt\"\nname = \"{name}\"\naddress = \"127.0.0.1:{}\"\n{source}\n\
             [[source.subscription]]\ntopic = \"{name}/{{device}}/state\"\n{subscription}\n",
            self.mosquitto.port
        )
    }

    pub(crate) fn topic<'a>(&self, name: &'a str) -> Topic<'a> {
        let consumer = reader(&self.kafka.client());
        Topic { name, consumer }
    }
}

/// This program itself with other work, to be measured alone.
pub(crate) fn child(name: &'static str, arguments: &[&str]) -> Process {
    let own = std::env::current_exe().expect("a program knows its file");
    Process::start(name, Command::new(own).arg(name).args(arguments))
}

/// The release binary, which the Makefile builds.
pub(crate) fn binary() -> PathBuf {
    let built = || target().join("release/tidegate");
    let path = std::env::var_os("E2E_AGENT").map_or_else(built, PathBuf::from);
    assert!(path.is_file(), "no agent at {}: cargo build --release -p tidegate", path.display());
    path
}

/// A running agent; dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) process: Process,
    pub(crate) meter: Meter,
    /// From its start to READY.
    pub(crate) ready: Duration,
    folder: PathBuf,
}

impl Agent {
    /// Waits until its source of this name reads.
    pub(crate) fn wait_up(&self, source: &str) {
        let (named, what) = (format!("source={source}"), format!("`source is up` of {source}"));
        let up = |line: &str| line.contains("source is up") && line.contains(&named);
        self.process.log.wait(0, &what, DEADLINE, up);
    }

    /// Events that its file holds now, row by row.
    pub(crate) fn stored(&self) -> u64 {
        ask(&self.folder.join(BUFFER), "SELECT coalesce(sum(count), 0) FROM batch")
    }

    /// The same as the file itself counts them, which costs nothing.
    pub(crate) fn counted(&self) -> u64 {
        let query = "SELECT coalesce(max(json_extract(CAST(value AS TEXT), '$.events')), 0)
                     FROM state WHERE key = 'totals'";
        ask(&self.folder.join(BUFFER), query)
    }
}

fn ask(path: &Path, query: &str) -> u64 {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let file = rusqlite::Connection::open_with_flags(path, flags).expect("the file is there");
    file.busy_timeout(ANSWER).expect("it takes a time-out");
    let count: i64 =
        file.query_row(query, [], |row| row.get(0)).expect("the file can be read beside the agent");
    u64::try_from(count).expect("a count is positive")
}

/// A consumer that sees what is committed, and only that.
pub(crate) fn reader(client: &ClientConfig) -> BaseConsumer {
    let mut client = client.clone();
    client
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed");
    client.create().expect("the settings are valid")
}

/// Reads the one partition from its start to its end.
pub(crate) fn read_all(
    consumer: &BaseConsumer,
    topic: &str,
    mut each: impl FnMut(&rdkafka::message::BorrowedMessage<'_>),
) {
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, 0, Offset::Beginning).expect("the offset is valid");
    consumer.assign(&from).expect("a consumer can be assigned");
    loop {
        match consumer.poll(ANSWER).expect("Kafka answers") {
            Ok(message) => each(&message),
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => break,
            Err(error) => assert!(error.to_string().is_empty(), "cannot read {topic}: {error}"),
        }
    }
    consumer.unassign().expect("a consumer can be unassigned");
}

/// What has arrived in one topic.
pub(crate) struct Topic<'a> {
    name: &'a str,
    consumer: BaseConsumer,
}

impl Topic<'_> {
    /// The end of what is committed; transactions' own marks count too. While
    /// Kafka is away it is 0.
    pub(crate) fn end(&self) -> u64 {
        let marks = self.consumer.fetch_watermarks(self.name, 0, ANSWER);
        marks.map_or(0, |(_, end)| u64::try_from(end).unwrap_or(0))
    }

    fn count(&self) -> u64 {
        let mut count = 0;
        read_all(&self.consumer, self.name, |_| count += 1);
        count
    }

    /// That the topic begins with the events 1 to `events` of one flow, each once
    /// and in order.
    pub(crate) fn check_order(&self, events: u64) {
        #[derive(serde::Deserialize)]
        struct Numbered {
            seq: u64,
        }
        let mut next = 1;
        read_all(&self.consumer, self.name, |message| {
            let payload = message.payload().unwrap_or_default();
            let event: Numbered = serde_json::from_slice(payload).expect("a record has its number");
            assert_eq!(event.seq, next, "what comes next in {}", self.name);
            next += 1;
        });
        assert!(next > events, "{} of {events} events are in {}", next - 1, self.name);
    }

    /// Waits until so many events are in Kafka, and gives the moment at which
    /// the last of them came. More, or less for good, is a failure.
    pub(crate) fn wait_for(&self, events: u64) -> Instant {
        let (mut end, mut grown) = (self.end(), Instant::now());
        let since = Instant::now();
        let mut counted = 0;
        loop {
            std::thread::sleep(LOOK);
            let now = self.end();
            if now > end {
                (end, grown, counted) = (now, Instant::now(), 0);
            } else if counted == 0 && end >= events && grown.elapsed() > QUIET {
                counted = self.count();
                if counted >= events {
                    assert_eq!(counted, events, "events in {}", self.name);
                    return grown;
                }
            }
            assert!(since.elapsed() < DEADLINE, "{counted} of {events} came to {}", self.name);
        }
    }

    /// Waits until anything new is in the topic.
    pub(crate) fn wait_begin(&self) -> (u64, Instant) {
        let end =
            wait_until("the first events", DEADLINE, || Some(self.end()).filter(|end| *end > 0));
        (end, Instant::now())
    }
}
