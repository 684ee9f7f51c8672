//! What an event costs, in instructions: they do not depend on the machine, so
//! that a test may hold them.
//!
//! The agent runs under callgrind, reads rows of a table, stores them, and sends
//! them to Kafka, once few and once many. The difference is what the events cost;
//! the start and the end, which are in both, are not in it. It counts the build
//! that is tested: the agent's own code with little optimisation, `SQLite`, zstd and
//! librdkafka with theirs.

use std::path::Path;
use std::time::Duration;

use tidegate_e2e::agent::Agent;
use tidegate_e2e::judge::Judge;
use tidegate_e2e::kafka::Kafka;
use tidegate_e2e::table::Table;
use tidegate_e2e::{folder, settings};

/// Rows of the two runs.
const FEW: u64 = 2_000;
const MANY: u64 = 42_000;

/// Instructions for an event, from the table's row until Kafka has committed it,
/// all threads and librdkafka's included. 22,250 are measured, give or take 40.
const MOST: u64 = 24_000;

/// callgrind makes a start take fifty times as long.
const DONE: Duration = Duration::from_mins(5);

/// Instructions of an agent that does this.
fn count(rows: u64, kafka: &Kafka) -> u64 {
    let name = format!("instructions-{rows}");
    let folder = folder(&name);
    let mut table = Table::make(&folder.join("plant.db"));
    table.write(rows);
    let uplink = settings::plain(&kafka.brokers());
    let config = settings::head(&name, &folder, &uplink)
        + &settings::stream(&name, 1)
        + &settings::sqlite("table", &table.path, &name);
    let mut agent = Agent::new(&folder, &config);
    agent.under(&["valgrind", "--tool=callgrind", &out(&folder)]);
    agent.launch("run");
    let mut judge = Judge::of_topic(kafka, &name);
    judge.look_until("all rows", DONE, |records| records.len() as u64 >= rows);
    assert_eq!(judge.records.len() as u64, rows);
    agent.stop();
    let said = agent.lines(&["Collected : "]).pop().expect("callgrind says what it counted");
    let (_, count) = said.rsplit_once(' ').expect("there is a number");
    count.parse().expect("a number")
}

fn out(folder: &Path) -> String {
    format!("--callgrind-out-file={}", folder.join("callgrind.out").display())
}

#[test]
fn an_event_takes_no_more_instructions_than_it_may() {
    let kafka = Kafka::started("instructions-kafka");
    let (few, many) = (count(FEW, &kafka), count(MANY, &kafka));
    let each = many.saturating_sub(few) / (MANY - FEW);
    println!("{each} instructions an event, {MOST} at most ({few} for {FEW}, {many} for {MANY})");
    assert!(each <= MOST, "{each} instructions an event");
}
