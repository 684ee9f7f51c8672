//! Against real files that another connection writes.

mod running;

use std::collections::BTreeMap;

use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::collect::{TestCommits, Ticket};
use crate::event::{Event, Timestamp, Value};
use crate::flow::Flows;

const NOW: Timestamp = Timestamp(1_000);

/// A database that "the machine" writes.
struct Machine {
    dir: TempDir,
    sql: Connection,
}

impl Machine {
    fn new(schema: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sql = Connection::open(dir.path().join("machine.db")).unwrap();
        sql.execute_batch(schema).unwrap();
        Self { dir, sql }
    }

    fn run(&self, sql: &str) {
        self.sql.execute_batch(sql).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("machine.db")
    }

    /// The configuration with these keys besides the necessary ones.
    fn config(&self, keys: &serde_json::Value) -> Config {
        let mut all = json!({"name": "m", "path": self.path(), "stream": "rows",
            "cursor": ["id"], "busy_timeout": "0 ms"});
        let (all_keys, keys) = (all.as_object_mut().unwrap(), keys.as_object().unwrap().clone());
        if !keys.contains_key("query") {
            all_keys.insert("table".into(), "t".into());
        }
        all_keys.extend(keys);
        serde_json::from_value(all).unwrap()
    }

    fn source(&self, keys: &serde_json::Value, saved: Option<&[u8]>) -> Source {
        Source::new(
            &self.config(keys),
            Setup {
                gateway: "gw",
                flows: &mut Flows::default(),
                clock: Clock::fixed(NOW),
                saved: saved.map(Into::into),
                lost: false,
            },
        )
    }
}

/// Reads a source page by page, as `run` does, without the async shell.
struct Hand {
    reader: Reader,
    place: Place,
    database: Option<u64>,
    /// What is wrong now, by subject.
    faults: BTreeMap<&'static str, String>,
}

impl Hand {
    fn open(source: &Source) -> Self {
        let reader = Reader::open(Arc::clone(&source.job)).map_err(said).unwrap();
        let (place, database) = (source.place.clone().unwrap(), source.database);
        Self { reader, place, database, faults: BTreeMap::new() }
    }

    fn page(&mut self) -> Result<Page, Trouble> {
        let page = self.reader.read(&self.place, self.database, NOW)?;
        for (subject, wrong) in &page.seen {
            match wrong {
                Some(what) => self.faults.insert(subject, what.clone()),
                None => self.faults.remove(subject),
            };
        }
        if let Some(next) = &page.next {
            self.place = next.clone();
            self.database = Some(self.reader.mark());
        }
        Ok(page)
    }

    /// All pages that there are now.
    fn pages(&mut self) -> Vec<Page> {
        let mut pages = Vec::new();
        loop {
            let page = self.page().map_err(said).unwrap();
            let more = page.more;
            pages.push(page);
            if !more {
                // The definition is examined once all was handed over.
                assert!(self.page().map_err(said).unwrap().next.is_none());
                return pages;
            }
        }
    }

    fn column(&mut self, name: &str) -> Vec<i64> {
        self.pages().iter().flat_map(|page| numbers(&page.events, name)).collect()
    }
}

fn said(trouble: Trouble) -> String {
    match trouble {
        Trouble::Busy => "busy".to_owned(),
        Trouble::Broken(Error { what, cause: Some(cause) }) => format!("{what}: {cause}"),
        Trouble::Broken(error) => error.to_string(),
    }
}

fn value<'e>(event: &'e Event, name: &str) -> &'e Value {
    let found = event.fields.iter().find(|field| &*field.name == name);
    &found.unwrap_or_else(|| panic!("no field {name} in {event:?}")).value
}

fn numbers(events: &[Event], name: &str) -> Vec<i64> {
    events
        .iter()
        .map(|event| match value(event, name) {
            Value::I64(number) => *number,
            other => panic!("{other:?} is no number"),
        })
        .collect()
}

const PLAIN: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, v)";

#[test]
fn every_storage_class_arrives_as_it_is_stored() {
    let machine = Machine::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, ok BOOLEAN, price DECIMAL(38,10), x, y, z);
         INSERT INTO t VALUES (1, 1, '12345678901234567890.0123456789x', 1.5, x'00ff', NULL),
                              (2, 7, 3, -9223372036854775808, 'text', CAST(x'ff' AS TEXT))",
    );
    let mut hand = Hand::open(&machine.source(&json!({}), None));
    let events = hand.pages().remove(0).events;
    let row = |at: usize| -> Vec<Value> {
        events[at].fields.iter().map(|field| field.value.clone()).collect()
    };
    let text = |text: &str| Value::Text(text.into());
    assert_eq!(
        row(0),
        [
            Value::I64(1),
            Value::Bool(true),
            text("12345678901234567890.0123456789x"),
            Value::F64(1.5),
            Value::Bytes([0, 255].as_slice().into()),
            Value::Null
        ]
    );
    assert_eq!(
        row(1),
        [
            Value::I64(2),
            Value::I64(7),
            Value::I64(3),
            Value::I64(i64::MIN),
            text("text"),
            Value::Bytes([255].as_slice().into())
        ]
    );
    let names: Vec<&str> = events[0].fields.iter().map(|field| &*field.name).collect();
    assert_eq!(names, ["id", "ok", "price", "x", "y", "z"]);
    assert_eq!((&*events[0].device, events[0].time, events[0].read_at), ("m", NOW, None));
}

#[test]
fn device_and_time_come_from_columns_and_the_omitted_stay_out() {
    let machine = Machine::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, dev TEXT, at TEXT, secret TEXT);
         INSERT INTO t VALUES (1, 'press', '1970-01-01 00:00:01.5', 'x')",
    );
    let keys = json!({"device_column": "dev", "time_column": "AT", "time_format": "text",
        "omit": ["secret"]});
    let events = Hand::open(&machine.source(&keys, None)).pages().remove(0).events;
    assert_eq!(&*events[0].device, "press");
    assert_eq!((events[0].time, events[0].read_at), (Timestamp(1_500_000_000), Some(NOW)));
    assert_eq!(events[0].fields.len(), 1);
}

#[test]
fn a_column_name_that_is_not_utf8_arrives_as_far_as_it_can_be_read() {
    let machine = Machine::new(PLAIN);
    machine.run(
        "PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = CAST(
             CAST('CREATE TABLE t (id INTEGER PRIMARY KEY, temp' AS BLOB) || x'b0'
             || CAST('C BOOL' AS BLOB) || x'ff' || CAST(')' AS BLOB) AS TEXT)
         WHERE name = 't'",
    );
    let writer = Connection::open(machine.path()).unwrap();
    writer.execute_batch("INSERT INTO t VALUES (1, 21)").unwrap();
    for keys in [json!({}), json!({"query": "SELECT * FROM t"}), json!({"cursor": ["rowid"]})] {
        let mut hand = Hand::open(&machine.source(&keys, None));
        let events = hand.pages().remove(0).events;
        let names: Vec<&str> = events[0].fields.iter().map(|field| &*field.name).collect();
        assert_eq!(names, ["id", "temp\u{fffd}C"], "{keys}");
        assert_eq!(value(&events[0], "temp\u{fffd}C"), &Value::I64(21));
    }
}

#[test]
fn an_omitted_column_counts_for_nothing() {
    let machine = Machine::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v, picture)");
    machine.run("INSERT INTO t VALUES (1,0,zeroblob(2000000)),(2,0,zeroblob(2000000))");
    let mut hand = Hand::open(&machine.source(&json!({"omit": ["Picture"]}), None));
    let page = hand.page().map_err(said).unwrap();
    assert_eq!(numbers(&page.events, "id"), [1, 2]);
    assert_eq!((page.dead.len(), page.bytes < 1_000), (0, true));
}

#[test]
fn ties_over_a_page_border_stay_together() {
    let machine = Machine::new(
        "CREATE TABLE t (n INTEGER, k INTEGER); CREATE INDEX i ON t (k);
         INSERT INTO t VALUES (1,1),(2,2),(3,2),(4,2),(5,3),(6,4),(7,4),(8,4),(9,4),(10,5)",
    );
    let keys = json!({"cursor": ["k"], "batch": 3});
    let pages = Hand::open(&machine.source(&keys, None)).pages();
    let pages: Vec<Vec<i64>> = pages.iter().map(|page| numbers(&page.events, "k")).collect();
    // The run of four 4s is longer than a page and comes whole all the same.
    assert_eq!(pages, [vec![1], vec![2, 2, 2], vec![3], vec![4, 4, 4, 4], vec![5]]);
}

#[test]
fn what_the_database_calls_equal_is_a_tie() {
    let machine = Machine::new(
        "CREATE TABLE t (n INTEGER, k TEXT COLLATE NOCASE); CREATE INDEX i ON t (k);
         INSERT INTO t VALUES (1,'a'),(2,'A'),(3,'b'),(4,'B'),(5,'c')",
    );
    let keys = json!({"cursor": ["k"], "batch": 1});
    let mut read = Hand::open(&machine.source(&keys, None)).column("n");
    read.sort_unstable();
    assert_eq!(read, [1, 2, 3, 4, 5]);
}

#[test]
fn a_run_of_ties_beyond_the_bound_is_a_fault_that_ends_when_it_is_mended() {
    let machine = Machine::new(
        "CREATE TABLE t (n INTEGER, k INTEGER); CREATE INDEX i ON t (k);
         INSERT INTO t VALUES (0, 0);
         WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n <= 100000)
         INSERT INTO t SELECT n, 7 FROM c; INSERT INTO t VALUES (-1, 8)",
    );
    let mut hand = Hand::open(&machine.source(&json!({"cursor": ["k"], "batch": 10}), None));
    assert_eq!(hand.column("n"), [0]);
    let fault = hand.faults.get("ties").unwrap();
    assert!(fault.starts_with("more than 100000 rows of the table t share the cursor value (7)"));
    machine.run("DELETE FROM t WHERE n > 5");
    assert_eq!(hand.column("n"), [1, 2, 3, 4, 5, -1]);
    assert!(!hand.faults.contains_key("ties"));
}

#[test]
fn a_cursor_of_several_columns_and_types_is_compared_by_the_database() {
    let machine = Machine::new(
        "CREATE TABLE t (n INTEGER PRIMARY KEY, \"the \"\"k\"\"\" TEXT, j);
         INSERT INTO t VALUES (5,'b',1),(1,'a',2),(2,'a',10),(3,'a','x'),(4,'a',x'00'),(6,'b',1.5)",
    );
    let keys = json!({"cursor": ["the \"k\"", "j"], "batch": 1});
    assert_eq!(Hand::open(&machine.source(&keys, None)).column("n"), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn rows_without_a_place_are_told_and_the_others_go_on() {
    let machine = Machine::new(
        "CREATE TABLE t (n INTEGER, a INTEGER, b INTEGER);
         INSERT INTO t VALUES (1,1,1),(2,5,NULL),(3,5,1),(4,NULL,9),(5,6,1)",
    );
    let mut hand = Hand::open(&machine.source(&json!({"cursor": ["a", "b"], "batch": 1}), None));
    assert_eq!(hand.column("n"), [1, 3, 5]);
    assert!(hand.faults["null"].contains("the table t have NULL in a cursor column"));
}

#[test]
fn a_cursor_that_is_not_unique_or_has_no_index_is_told_beforehand() {
    let machine = Machine::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, ts INTEGER, a INTEGER, b INTEGER, UNIQUE (a, b));
         CREATE INDEX i ON t (ts, id); CREATE VIEW w AS SELECT * FROM t",
    );
    let faults = |keys: serde_json::Value| -> Vec<&str> {
        let mut hand = Hand::open(&machine.source(&keys, None));
        hand.pages();
        hand.faults.into_keys().collect()
    };
    assert_eq!(faults(json!({})), [""; 0]);
    assert_eq!(faults(json!({"cursor": ["ROWID"]})), [""; 0]);
    assert_eq!(faults(json!({"cursor": ["ts", "ID"]})), [""; 0]);
    assert_eq!(faults(json!({"cursor": ["a", "b"]})), [""; 0]);
    assert_eq!(faults(json!({"cursor": ["ts"]})), ["unique"]);
    assert_eq!(faults(json!({"cursor": ["b"]})), ["index", "unique"]);
    assert_eq!(faults(json!({"table": "w"})), [""; 0]);
}

#[test]
fn a_damaged_file_is_told_and_never_panics() {
    let machine = Machine::new(PLAIN);
    machine.run(
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 2000)
         INSERT INTO t SELECT n, zeroblob(50) FROM c",
    );
    let copy = machine.dir.path().join("damaged.db");
    let mut bytes = std::fs::read(machine.path()).unwrap();
    bytes[8192..].fill(0x5a);
    std::fs::write(&copy, bytes).unwrap();
    let told = first_error(&machine, &json!({"path": copy}));
    let begin = format!("the database {} is damaged", copy.display());
    assert!(told.starts_with(&begin), "{told}");
}

#[test]
fn a_query_may_have_its_own_conditions_and_comments() {
    let machine = Machine::new(PLAIN);
    machine.run("INSERT INTO t VALUES (1,'x'),(2,'y'),(3,'x')");
    let keys = json!({"query": "SELECT id, v FROM t WHERE v = 'x' -- only these", "batch": 1});
    assert_eq!(Hand::open(&machine.source(&keys, None)).column("id"), [1, 3]);
}

#[test]
fn rowid_is_a_cursor_and_then_a_field() {
    let machine = Machine::new("CREATE TABLE t (v); INSERT INTO t VALUES ('x'),('y')");
    let keys = json!({"cursor": ["rowid"], "batch": 1});
    assert_eq!(Hand::open(&machine.source(&keys, None)).column("rowid"), [1, 2]);
}

#[test]
fn a_source_that_begins_at_the_end_reads_only_what_comes() {
    let machine = Machine::new(PLAIN);
    machine.run("INSERT INTO t VALUES (1,0),(2,0)");
    let mut hand = Hand::open(&machine.source(&json!({"from": "end"}), None));
    assert_eq!(hand.column("id"), [0_i64; 0]);
    assert_eq!(hand.place, Place::After(vec![super::super::cursor::Key::I64(2)]));
    machine.run("INSERT INTO t VALUES (3,0)");
    assert_eq!(hand.column("id"), [3]);
}

#[test]
fn an_empty_table_has_its_end_before_the_first_row() {
    let machine = Machine::new(PLAIN);
    let mut hand = Hand::open(&machine.source(&json!({"from": "end"}), None));
    assert_eq!(hand.column("id"), [0_i64; 0]);
    machine.run("INSERT INTO t VALUES (1,0)");
    assert_eq!(hand.column("id"), [1]);
}

#[test]
fn a_table_made_anew_is_told_once_its_rows_stand_below_the_cursor() {
    let machine = Machine::new(PLAIN);
    machine.run("INSERT INTO t VALUES (1,0),(2,0),(3,0)");
    let mut hand = Hand::open(&machine.source(&json!({}), None));
    assert_eq!(hand.column("id"), [1, 2, 3]);
    machine.run("DELETE FROM t");
    assert_eq!(hand.column("id"), [0_i64; 0]);
    assert!(hand.faults.is_empty(), "an empty table may only have been tidied up");
    machine.run("INSERT INTO t VALUES (1,0)");
    assert_eq!(hand.column("id"), [0_i64; 0]);
    assert!(hand.faults["cursor"].starts_with("all rows of the table t stand below the last one"));
    machine.run("INSERT INTO t VALUES (4,0)");
    assert_eq!(hand.column("id"), [4]);
    assert!(hand.faults.contains_key("cursor"), "the row below it was never read");
}

#[test]
fn another_file_whose_rows_have_passed_the_cursor_is_told() {
    let machine = Machine::new(PLAIN);
    machine.run("INSERT INTO t VALUES (1,0),(2,0),(3,0)");
    let mut hand = Hand::open(&machine.source(&json!({}), None));
    assert_eq!(hand.column("id"), [1, 2, 3]);
    let saved = hand.place.save(machine.source(&json!({}), None).job.definition, hand.database);
    let mut same = Hand::open(&machine.source(&json!({}), Some(&saved)));
    assert_eq!(same.column("id"), [0_i64; 0]);
    assert!(same.faults.is_empty());

    let anew = Machine::new(PLAIN);
    anew.run("INSERT INTO t VALUES (1,0),(2,0),(3,0),(4,0),(5,0)");
    let mut hand = Hand::open(&anew.source(&json!({}), Some(&saved)));
    assert_eq!(hand.column("id"), [4, 5]);
    let fault = &hand.faults["file"];
    assert!(fault.contains("is now another file than the one that was read up to (3)"), "{fault}");
}

#[test]
fn rows_are_handed_over_before_the_definition_is_examined() {
    let machine = Machine::new("CREATE TABLE t (a INTEGER, b INTEGER)");
    machine.run("INSERT INTO t VALUES (1, 1), (NULL, 2)");
    let mut hand = Hand::open(&machine.source(&json!({"cursor": ["a"]}), None));
    let page = hand.page().map_err(said).unwrap();
    assert_eq!(numbers(&page.events, "a"), [1]);
    assert!(hand.faults.is_empty());
    assert!(hand.page().map_err(said).unwrap().events.is_empty());
    assert!(hand.faults.contains_key("null"));
}

#[test]
fn a_page_without_rows_is_never_followed_at_once() {
    assert!(!row::Rows::default().into_page(true).more);
}

#[test]
fn a_column_added_while_reading_arrives() {
    let machine = Machine::new(PLAIN);
    machine.run("INSERT INTO t VALUES (1,0)");
    let mut hand = Hand::open(&machine.source(&json!({}), None));
    assert_eq!(hand.column("id"), [1]);
    machine.run("ALTER TABLE t ADD COLUMN w; INSERT INTO t VALUES (2,0,5)");
    let page = hand.page().map_err(said).unwrap();
    assert_eq!(value(&page.events[0], "w"), &Value::I64(5));
}

#[test]
fn a_row_too_large_is_a_dead_letter_and_the_next_ones_go_on() {
    let machine = Machine::new(PLAIN);
    machine.run("INSERT INTO t VALUES (1,0),(2,zeroblob(20000000)),(3,0)");
    let mut hand = Hand::open(&machine.source(&json!({}), None));
    let pages = hand.pages();
    let read: Vec<i64> = pages.iter().flat_map(|p| numbers(&p.events, "id")).collect();
    assert_eq!(read, [1, 3]);
    let dead = &pages[0].dead[0];
    assert_eq!((dead.payload.len(), dead.length), (64 * 1024, 20_000_000));
    assert!(dead.reason.starts_with("row (2) holds 20000"), "{}", dead.reason);
}

#[test]
fn a_page_ends_at_its_bytes() {
    let machine = Machine::new(PLAIN);
    machine.run(
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 30)
         INSERT INTO t SELECT n, zeroblob(100000) FROM c",
    );
    let pages = Hand::open(&machine.source(&json!({}), None)).pages();
    let rows: Vec<usize> = pages.iter().map(|page| page.events.len()).collect();
    assert_eq!(rows, [11, 11, 8]);
    assert!(pages.iter().all(|page| page.bytes < 1_200_000));
}

#[test]
fn without_a_commit_nothing_is_queried() {
    let machine = Machine::new(PLAIN);
    machine.run("INSERT INTO t VALUES (1,0)");
    let mut hand = Hand::open(&machine.source(&json!({}), None));
    hand.pages();
    // A place at which there would be rows: they are not looked for.
    hand.place = Place::Start;
    assert_eq!(hand.column("id"), [0_i64; 0]);
    machine.run("CREATE TABLE other (x)");
    assert_eq!(hand.column("id"), [1]);
}

#[test]
fn a_reader_does_not_hold_the_writer_up() {
    for mode in ["DELETE", "WAL"] {
        let machine = Machine::new(&format!("PRAGMA journal_mode = {mode}; {PLAIN}"));
        let mut hand = Hand::open(&machine.source(&json!({"batch": 2}), None));
        let mut read = Vec::new();
        for id in 1..=9 {
            machine.run(&format!("INSERT INTO t VALUES ({id}, 0)"));
            read.extend(numbers(&hand.page().map_err(said).unwrap().events, "id"));
        }
        assert_eq!(read, (1..=9).collect::<Vec<i64>>(), "{mode}");
    }
}

#[test]
fn a_locked_database_is_read_after_the_lock() {
    let machine = Machine::new(PLAIN);
    machine.run("INSERT INTO t VALUES (1,0)");
    let mut hand = Hand::open(&machine.source(&json!({}), None));
    machine.run("BEGIN EXCLUSIVE; INSERT INTO t VALUES (2,0)");
    assert_eq!(hand.page().map_err(said).unwrap_err(), "busy");
    machine.run("COMMIT");
    assert_eq!(hand.column("id"), [1, 2]);
}

/// The line that a source which cannot read gives.
fn first_error(machine: &Machine, keys: &serde_json::Value) -> String {
    let source = machine.source(keys, None);
    let mut reader = match Reader::open(Arc::clone(&source.job)) {
        Ok(reader) => reader,
        Err(trouble) => return said(trouble),
    };
    said(reader.read(&Place::Start, None, NOW).unwrap_err())
}

#[test]
fn what_is_missing_is_named() {
    let machine = Machine::new(PLAIN);
    machine.run("INSERT INTO t VALUES (1,0)");
    let path = machine.path();
    let of = |what: &str| format!("cannot read {what}");
    let path = path.display();
    assert_eq!(
        first_error(&machine, &json!({"table": "u"})),
        of(&format!("the table u of {path}: no such table: u"))
    );
    assert_eq!(
        first_error(&machine, &json!({"cursor": ["nr"]})),
        of(&format!("the table t of {path}: no such column: t.nr"))
    );
    assert_eq!(
        first_error(&machine, &json!({"query": "SELECT v FROM t"})),
        of(&format!("the query of {path}: no such column: query.id"))
    );
    assert_eq!(
        first_error(&machine, &json!({"time_column": "at", "time_format": "text"})),
        of(&format!("the table t of {path}: no such column: at (time_column)"))
    );
    let nowhere = machine.dir.path().join("nowhere.db");
    assert_eq!(
        first_error(&machine, &json!({"path": nowhere})),
        format!("the database {} is not there", nowhere.display())
    );
    assert!(!nowhere.try_exists().unwrap(), "a source never makes a file");
    std::fs::write(&nowhere, "no database at all".repeat(100)).unwrap();
    assert_eq!(
        first_error(&machine, &json!({"path": nowhere})),
        format!("the file {} is not an SQLite database", nowhere.display())
    );
}

#[test]
fn a_file_that_vanished_or_was_exchanged_is_told() {
    let machine = Machine::new(PLAIN);
    let source = machine.source(&json!({}), None);
    let mut hand = Hand::open(&source);
    assert_eq!(hand.column("id"), [0_i64; 0]);
    let away = machine.dir.path().join("away.db");
    std::fs::rename(machine.path(), &away).unwrap();
    let path = machine.path();
    let path = path.display();
    assert_eq!(said(hand.page().unwrap_err()), format!("the database {path} is not there"));
    std::fs::copy(&away, machine.path()).unwrap();
    assert_eq!(
        said(hand.page().unwrap_err()),
        format!("another file has taken the place of the database {path}")
    );
    Connection::open(machine.path()).unwrap().execute_batch("INSERT INTO t VALUES (1,0)").unwrap();
    assert_eq!(Hand::open(&source).column("id"), [1]);
}

#[test]
fn the_configuration_is_checked_with_what_would_be_right() {
    let machine = Machine::new(PLAIN);
    let keys = |keys: &serde_json::Value| -> Vec<String> {
        machine.config(keys).check().into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(keys(&json!({})), [""; 0]);
    assert_eq!(keys(&json!({"query": "SELECT 1 AS id"})), [""; 0]);
    assert_eq!(keys(&json!({"query": "DELETE FROM t"})), ["query"]);
    assert_eq!(keys(&json!({"query": "SELECT 1", "table": "t"})), ["query"]);
    assert_eq!(keys(&json!({"table": null})), ["table"]);
    assert_eq!(keys(&json!({"cursor": []})), ["cursor"]);
    assert_eq!(keys(&json!({"cursor": ["a", "A"]})), ["cursor"]);
    assert_eq!(keys(&json!({"batch": 0, "interval": "0 ms"})), ["batch", "interval"]);
    assert_eq!(keys(&json!({"time_column": "at"})), ["time_format"]);
    assert_eq!(keys(&json!({"time_format": "text"})), ["time_column"]);
}

#[test]
fn a_source_of_type_sqlite_is_read_and_an_unknown_key_refused() {
    let read = |text: &str| serde_json::from_str::<crate::source::Config>(text);
    let good = r#"{"type": "sqlite", "name": "m", "path": "/m.db", "table": "t", "cursor": ["id"],
        "stream": "rows", "interval": "2 s"}"#;
    assert!(matches!(read(good), Ok(crate::source::Config::Sqlite(config))
        if config.interval == Period::from_secs(2) && config.batch == 1_000));
    let wrong = read(&good.replace("interval", "intervall")).unwrap_err().to_string();
    assert!(wrong.starts_with("unknown field `intervall`"), "{wrong}");
}
