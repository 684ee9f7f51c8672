//! A backlog: a buffer file that an agent filled from a table while no Kafka was
//! to be reached, and copies of it for those who drain it.

use std::path::{Path, PathBuf};
use std::time::Instant;

use rusqlite::{Connection, params};
use tidegate_e2e::{ports, wait_until};

use crate::bench::{BUFFER, Bench, DEADLINE};
use crate::line::float;
use crate::meter::Lap;

/// Rows of one machine, which become records of about 200 bytes of JSON.
const TABLE: &str = "
    CREATE TABLE log (id INTEGER PRIMARY KEY, temp REAL, pressure REAL, speed INTEGER);
    WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?1)
    INSERT INTO log SELECT n, 20 + n * 7919 % 997 / 100.0, 3 + n * 104729 % 9973 / 10000.0,
                           1400 + n * 31 % 200 FROM number";

#[derive(Debug, Clone)]
pub(crate) struct Backlog {
    /// Of its stream and source, too.
    name: &'static str,
    /// Of the agent that filled it, which has ended.
    file: PathBuf,
    table: PathBuf,
    pub(crate) events: u64,
    /// Events a second that came into the file.
    pub(crate) rate: f64,
    /// CPU of the agent for each of them.
    pub(crate) micros: f64,
    /// Bytes that it wrote for each of them.
    pub(crate) written: f64,
}

/// A table of so many rows.
pub(crate) fn table(path: &Path, rows: u64) {
    let table = Connection::open(path).expect("a database can be made");
    table.pragma_update(None, "synchronous", "OFF").expect("it takes a setting");
    table.pragma_update(None, "journal_mode", "OFF").expect("it takes a setting");
    let (create, fill) = TABLE.split_once(';').expect("it is two statements");
    table.execute_batch(create).expect("a table can be made");
    let rows = i64::try_from(rows).expect("rows are few");
    table.execute(fill, [rows]).expect("rows can be written");
}

/// The source that reads such a table into the stream `name`.
pub(crate) fn source(table: &Path, name: &str) -> String {
    format!(
        "[[source]]\ntype = \"sqlite\"\nname = \"{name}\"\npath = \"{}\"\ntable = \"log\"\n\
         cursor = [\"id\"]\nstream = \"{name}\"\nlane = \"bulk\"\n",
        table.display()
    )
}

impl Backlog {
    /// Lets the agent `name` collect so many rows, as fast as it can.
    pub(crate) fn collect(bench: &Bench, name: &'static str, events: u64) -> Self {
        let folder = bench.folder(name);
        let rows = folder.join("machine.db");
        table(&rows, events);
        let nobody = format!("127.0.0.1:{}", ports::free());
        let mut agent = bench.start_agent(name, &nobody, "", &source(&rows, name));
        let (cpu, disk) = (Lap::start(&agent.meter), agent.meter.written());
        let since = Instant::now();
        let before = agent.counted();
        wait_until("the backlog", DEADLINE, || Some(agent.counted()).filter(|now| *now >= events));
        let rate = float(events - before) / since.elapsed().as_secs_f64();
        let micros = cpu.micros(events - before);
        let written = float(agent.meter.written() - disk) / float(events - before);
        assert_eq!(agent.stored(), events, "events in the file");
        agent.process.kill();
        let file = folder.join(BUFFER);
        // What the kill left in the -wal goes into the file that is copied.
        open(&file)
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .expect("it is whole");
        Self { name, file, table: rows, events, rate, micros, written }
    }

    /// A copy of it as the buffer of the agent `name`, to be sent to the topic
    /// `name`, which is made. Gives that stream and the source that it was read from.
    pub(crate) fn copy(&self, bench: &Bench, name: &str) -> String {
        let file = bench.folder(name).join(BUFFER);
        std::fs::copy(&self.file, &file).expect("the disk has room");
        bench.kafka.create_topic(name, &[]);
        let stream = format!("[[stream]]\nname = \"{}\"\ntopic = \"{name}\"\n", self.name);
        stream + &source(&self.table, self.name)
    }

    /// The same until its file has so many bytes: its batches again and again, each
    /// under the number that comes next. Gives how many events it has then.
    pub(crate) fn grow(bench: &Bench, name: &str, bytes: u64) -> u64 {
        let path = bench.folder(name).join(BUFFER);
        let mut file = open(&path);
        for (key, value) in [("journal_mode", "OFF"), ("synchronous", "OFF")] {
            file.pragma_update(None, key, value).expect("it takes a setting");
        }
        let rows = rows(&file);
        let once = rows.iter().map(|row| row.count).sum::<i64>();
        let batches = i64::try_from(rows.len()).expect("batches are few");
        let mut copies = 1;
        while std::fs::metadata(&path).expect("it is there").len() < bytes {
            let transaction = file.transaction().expect("it is writable");
            {
                let mut insert = transaction
                    .prepare_cached(
                        "INSERT INTO batch (id, flow, first_seq, count, raw, oldest, cursors, data)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                    )
                    .expect("it is a buffer");
                for row in &rows {
                    let (id, seq) = (row.id + copies * batches, row.first_seq + copies * once);
                    insert
                        .execute(params![
                            id,
                            row.flow,
                            seq,
                            row.count,
                            row.raw,
                            row.oldest,
                            row.cursors,
                            row.data
                        ])
                        .expect("the disk has room");
                }
            }
            transaction.commit().expect("the disk has room");
            copies += 1;
        }
        multiply(&file, copies);
        drop(file);
        u64::try_from(copies * once).expect("a count is positive")
    }
}

fn open(path: &Path) -> Connection {
    Connection::open(path).expect("the file is there")
}

struct Row {
    id: i64,
    flow: i64,
    first_seq: i64,
    count: i64,
    raw: i64,
    oldest: i64,
    cursors: Option<Vec<u8>>,
    data: Vec<u8>,
}

fn rows(file: &Connection) -> Vec<Row> {
    let mut query = file
        .prepare("SELECT id, flow, first_seq, count, raw, oldest, cursors, data FROM batch")
        .expect("it is a buffer");
    let rows = query.query_map([], |row| {
        Ok(Row {
            id: row.get(0)?,
            flow: row.get(1)?,
            first_seq: row.get(2)?,
            count: row.get(3)?,
            raw: row.get(4)?,
            oldest: row.get(5)?,
            cursors: row.get(6)?,
            data: row.get(7)?,
        })
    });
    rows.expect("it can be read").collect::<Result<_, _>>().expect("it can be read")
}

/// What the file counts of itself: totals, and the bytes of each flow.
fn multiply(file: &Connection, copies: i64) {
    let totals = ["number", "seq", "batches", "events", "committed"];
    for key in ["totals", "usage"] {
        let text: Vec<u8> = file
            .query_row("SELECT value FROM state WHERE key = ?1", [key], |row| row.get(0))
            .expect("each file has one");
        let mut counts: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&text).expect("counts are JSON");
        for (name, count) in &mut counts {
            if key == "usage" || totals.contains(&name.as_str()) {
                *count = (count.as_i64().expect("a count is a number") * copies).into();
            }
        }
        let text = serde_json::to_vec(&counts).expect("counts are JSON");
        file.execute("UPDATE state SET value = ?2 WHERE key = ?1", (key, text))
            .expect("it is writable");
    }
}
