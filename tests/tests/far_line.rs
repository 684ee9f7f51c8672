//! A backlog over a line whose answers take long: what the agent does meanwhile.

use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tidegate_e2e::agent::Agent;
use tidegate_e2e::judge::Judge;
use tidegate_e2e::kafka::Kafka;
use tidegate_e2e::proxy::Mode;
use tidegate_e2e::table::Table;
use tidegate_e2e::{folder, settings, wait_until};

/// Rows of the backlog: a dozen loads.
const ROWS: u64 = 30_000;

/// How long the line keeps each of its chunks, of which a load is some twenty.
const FAR: Duration = Duration::from_millis(200);

/// CPU over the far line by that over the near one. 3.4 are measured, for the wake-ups of
/// each load, which cost more where others use the machine's caches; 18 with a thread that
/// spins until each answer comes.
const MOST: f64 = 8.0;

const DONE: Duration = Duration::from_mins(5);

/// CPU of the agent for a backlog that drains over the line to Kafka as it is made.
fn drained(kafka: &Kafka, name: &str, delay: Duration) -> Duration {
    let folder = folder(name);
    let mut table = Table::make(&folder.join("plant.db"));
    table.write(ROWS);
    let config = settings::head(name, &folder, &settings::plain(&kafka.line.address()))
        + &settings::stream(name, 1)
        + &settings::sqlite("table", &table.path, name);
    kafka.line.set(Mode::Refuse);
    let mut agent = Agent::new(&folder, &config);
    agent.start();
    let file = settings::buffer(&folder);
    wait_until("the backlog", DONE, || {
        let file = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
        let stored = "SELECT coalesce(sum(count), 0) FROM batch";
        let stored: i64 = file.query_row(stored, [], |row| row.get(0)).ok()?;
        (stored.cast_unsigned() == ROWS).then_some(())
    });
    let before = agent.process().usage().cpu;
    kafka.line.slow(delay, None);
    kafka.line.set(Mode::Forward);
    let mut judge = Judge::of_topic(kafka, name);
    judge.look_until("all rows", DONE, |records| records.len() as u64 >= ROWS);
    assert_eq!(judge.records.len() as u64, ROWS);
    let cpu = agent.process().usage().cpu.saturating_sub(before);
    agent.stop();
    cpu
}

#[test]
fn waiting_for_kafka_takes_no_cpu() {
    let kafka = Kafka::started("far-kafka");
    let near = drained(&kafka, "near", Duration::ZERO);
    let far = drained(&kafka, "far", FAR);
    let ratio = far.as_secs_f64() / near.as_secs_f64();
    println!("{far:?} over a far line, {near:?} over a near one: {ratio:.2}, {MOST} at most");
    assert!(ratio <= MOST, "{far:?} over a far line, {near:?} over a near one");
}
