//! The commands as scripts meet them: what they print and how they end, with an
//! agent beside them, without one, and with what is wrong.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the helpers of tests may end them"
)]

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");

/// Of a wrong configuration, as sysexits.h has it.
const CONFIG: i32 = 78;

/// Of an agent that was drained: the unit does not start it again.
const DRAINED: i32 = 79;

/// A gateway that reads a table of so many rows; nobody answers as its Kafka.
struct Gateway {
    folder: tempfile::TempDir,
    config: PathBuf,
}

impl Gateway {
    fn new(rows: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("log.db");
        let log = rusqlite::Connection::open(&table).unwrap();
        log.execute_batch("CREATE TABLE cycles (id INTEGER PRIMARY KEY, force REAL)").unwrap();
        for row in 1..=rows {
            log.execute("INSERT INTO cycles VALUES (?1, ?1 + 0.5)", [row]).unwrap();
        }
        let config = folder.path().join("gateway.toml");
        let text = format!(
            "[gateway]\nid = \"gw1\"\nshutdown_grace = \"1 s\"\n\
             [buffer]\npath = \"{}\"\nmin_free_disk = \"0 B\"\n\
             [kafka]\nbrokers = \"127.0.0.1:1\"\n[system]\nenabled = false\n\
             [[source]]\ntype = \"sqlite\"\nname = \"press\"\npath = \"{}\"\ntable = \"cycles\"\n\
             cursor = [\"id\"]\nstream = \"cycles\"\n",
            folder.path().join("buffer.db").display(),
            table.display(),
        );
        std::fs::write(&config, text).unwrap();
        Self { folder, config }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Output {
        Command::new(TIDEGATE).args(words).arg("--config").arg(&self.config).output().unwrap()
    }

    /// The answer of a command that ends well.
    fn json(&self, words: &[&str]) -> Value {
        let output = self.command(&[words, &["--json"]].concat());
        assert!(output.status.success(), "{words:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// How a command fails: its code, and what it says as JSON.
    fn fails(&self, words: &[&str]) -> (i32, String) {
        let plain = self.command(words);
        let output = self.command(&[words, &["--json"]].concat());
        assert_eq!(plain.status, output.status, "{words:?}");
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        let error = said["error"].as_str().unwrap().to_owned();
        assert_eq!(String::from_utf8(plain.stderr).unwrap().lines().last(), Some(&*error));
        (output.status.code().unwrap(), error)
    }

    /// An agent that has taken in all rows.
    fn run(&self, rows: u64) -> Agent {
        let mut child = Command::new(TIDEGATE)
            .args(["run", "--config"])
            .arg(&self.config)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready = lines.any(|line| line.unwrap().contains("READY"));
        assert!(ready, "the agent ended before it was ready");
        // What it says from now on is read, so that it never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        let agent = Agent(child);
        while events(&self.json(&["buffer", "stats"])) < rows {}
        agent
    }
}

fn events(stats: &Value) -> u64 {
    let flows = stats["flows"].as_array().unwrap();
    flows.iter().map(|flow| flow["events"].as_u64().unwrap()).sum()
}

/// Dropped, it is killed.
struct Agent(Child);

impl Agent {
    fn stop(mut self) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn damage(path: &Path, from: u64, to: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&vec![0xff; usize::try_from(to - from).unwrap()], from).unwrap();
}

#[test]
fn without_a_configuration_every_command_ends_with_its_code() {
    for words in [
        &["run"][..],
        &["check"],
        &["buffer", "stats"],
        &["buffer", "salvage", "a", "b"],
        &["dlq", "list"],
        &["drain"],
    ] {
        let output =
            Command::new(TIDEGATE).args(words).args(["--config", "/nowhere"]).output().unwrap();
        assert_eq!(output.status.code(), Some(CONFIG), "{words:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("/nowhere"), "{words:?}");
    }
}

#[test]
fn without_a_buffer_the_commands_say_so_and_make_none() {
    let gateway = Gateway::new(0);
    let export = gateway.file("copy.db").display().to_string();
    for words in [
        &["buffer", "stats"][..],
        &["buffer", "peek"],
        &["buffer", "verify"],
        &["buffer", "export", &export],
        &["dlq", "list"],
        &["drain"],
    ] {
        let (code, error) = gateway.fails(words);
        assert_eq!(code, 1, "{words:?}");
        assert!(error.contains("there is no buffer at"), "{words:?}: {error}");
    }
    assert!(!gateway.file("buffer.db").try_exists().unwrap());
    assert!(!gateway.file("copy.db").try_exists().unwrap());
}

#[test]
fn beside_an_agent_and_without_it_the_commands_tell_the_same() {
    let gateway = Gateway::new(20);
    let agent = gateway.run(20);
    let beside = gateway.json(&["buffer", "stats"]);
    assert_eq!(beside["pid"], agent.0.id());
    let peeked = gateway.json(&["buffer", "peek", "-n", "3"]);
    assert_eq!(peeked["events"].as_array().unwrap().len(), 3);
    assert_eq!(peeked["events"][0]["event"]["id"], 1);
    let copy = gateway.file("copy.db").display().to_string();
    let exported = gateway.command(&["buffer", "export", &copy]);
    assert_eq!(exported.status.code(), Some(0));
    assert_eq!(String::from_utf8(exported.stderr).unwrap(), "", "all is in the copy");
    let second = gateway.command(&["run"]);
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains(&format!("(pid {})", agent.0.id())), "{said}");

    agent.stop();
    let alone = gateway.json(&["buffer", "stats"]);
    assert_eq!(alone["pid"], Value::Null);
    assert_eq!(alone["flows"], beside["flows"]);
    assert_eq!(gateway.json(&["buffer", "peek", "-n", "3"]), peeked);
    let verified = gateway.json(&["buffer", "verify"]);
    assert_eq!((&verified["ok"], &verified["events"]), (&true.into(), &20.into()));
    assert_eq!(gateway.json(&["dlq", "list"])["letters"], serde_json::json!([]));
    // Nobody answers as Kafka: what is left is told, and stays.
    let drained = gateway.command(&["drain", "--for", "1 s", "--json"]);
    assert_eq!(drained.status.code(), Some(1));
    let left: Value = serde_json::from_slice(&drained.stdout).unwrap();
    assert_eq!((&left["ok"], &left["events"]), (&false.into(), &20.into()));
}

#[test]
fn an_agent_that_is_drained_ends_with_a_code_of_its_own() {
    let gateway = Gateway::new(20);
    let mut agent = gateway.run(20);
    let drained = gateway.command(&["drain", "--for", "1 s"]);
    assert_eq!(drained.status.code(), Some(1), "nobody answers as Kafka");
    assert_eq!(agent.0.wait().unwrap().code(), Some(DRAINED));
    assert_eq!(events(&gateway.json(&["buffer", "stats"])), 20);
}

#[test]
fn what_writes_or_sends_takes_no_other_gateways_buffer_for_its_own() {
    let gateway = Gateway::new(20);
    gateway.run(20).stop();
    let text = std::fs::read_to_string(&gateway.config).unwrap();
    std::fs::write(&gateway.config, text.replace("\"gw1\"", "\"placeholder\"")).unwrap();
    for words in [&["drain", "--for", "1 s"][..], &["dlq", "requeue", "--all"]] {
        let (code, error) = gateway.fails(words);
        assert_eq!(code, 1, "{words:?}");
        for word in ["gw1", "placeholder", "TIDEGATE_GATEWAY__ID"] {
            assert!(error.contains(word), "{words:?}: {error}");
        }
    }
    let stats = gateway.json(&["buffer", "stats"]);
    assert_eq!(events(&stats), 20);
    assert_eq!(stats["epochs"].as_array().unwrap().len(), 1, "no run has begun");
}

#[test]
fn what_is_exported_is_taken_in_once() {
    let gateway = Gateway::new(20);
    gateway.run(20).stop();
    let copy = gateway.file("copy.db").display().to_string();
    gateway.json(&["buffer", "export", &copy]);
    let (code, error) = gateway.fails(&["buffer", "export", &copy]);
    assert_eq!(code, 1);
    assert!(error.contains("is there already"), "{error}");

    let other = Gateway::new(0);
    other.run(0).stop();
    assert!(other.json(&["buffer", "import", &copy])["batches"].as_u64().unwrap() > 0);
    assert_eq!(events(&other.json(&["buffer", "stats"])), 20);
    let again = other.command(&["buffer", "import", &copy]);
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(events(&other.json(&["buffer", "stats"])), 20);
}

#[test]
fn a_damaged_file_is_told_and_salvaged_into_a_new_one() {
    let gateway = Gateway::new(20);
    gateway.run(20).stop();
    let damaged = gateway.file("buffer.db.damaged-1");
    std::fs::copy(gateway.file("buffer.db"), &damaged).unwrap();
    // The catalogue is gone: SQLite reads nothing of it.
    damage(&damaged, 0, 1024);
    let (from, to) = (damaged.display().to_string(), gateway.file("new.db").display().to_string());
    let loss = gateway.json(&["buffer", "salvage", &from, &to]);
    assert_eq!((&loss["events"], &loss["lost_events"]), (&20.into(), &0.into()));
    let (code, error) = gateway.fails(&["buffer", "salvage", &from, &to]);
    assert_eq!(code, 1);
    assert!(error.contains("is there already"), "{error}");

    let other = Gateway::new(0);
    other.run(0).stop();
    other.json(&["buffer", "import", &to]);
    assert_eq!(events(&other.json(&["buffer", "stats"])), 20);

    let buffer = gateway.file("buffer.db");
    let _agent = gateway.run(20);
    let (code, error) =
        gateway.fails(&["buffer", "salvage", &buffer.display().to_string(), "x.db"]);
    assert_eq!(code, 1);
    assert!(error.contains("is in use by another agent"), "{error}");
}

#[test]
fn verify_ends_with_a_failure_where_a_batch_is_damaged() {
    let gateway = Gateway::new(20);
    gateway.run(20).stop();
    let buffer = gateway.file("buffer.db");
    let file = rusqlite::Connection::open(&buffer).unwrap();
    file.execute("UPDATE batch SET data = x'00'", ()).unwrap();
    drop(file);
    let output = gateway.command(&["buffer", "verify", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let verified: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verified["ok"], false);
    assert!(!verified["wrong"].as_array().unwrap().is_empty());
}

/// Layouts of which a gateway may have a file (`tests/layouts/`).
const LAYOUTS: [&str; 1] = ["2"];

/// In each of those files, and of whose run they are.
const KEPT: u64 = 300;
const EPOCH: &str = "e3dcf82bcdbc35a4";

#[test]
fn a_file_of_each_layout_goes_on_where_it_ended() {
    for layout in LAYOUTS {
        let gateway = Gateway::new(310);
        let name = format!("tests/layouts/{layout}.db");
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        std::fs::copy(kept, gateway.file("buffer.db")).unwrap();
        let agent = gateway.run(310);
        // Ten rows came since, and none of the 300 again.
        assert_eq!(events(&gateway.json(&["buffer", "stats"])), 310, "layout {layout}");
        agent.stop();
        assert_eq!(gateway.json(&["buffer", "verify"])["events"], 310, "layout {layout}");
        let peeked = gateway.json(&["buffer", "peek", "-n", "310"]);
        for (row, peeked) in (1_u64..).zip(peeked["events"].as_array().unwrap()) {
            let event = &peeked["event"];
            assert_eq!(event["id"], row, "layout {layout}");
            assert_eq!(event["epoch"] == EPOCH, row <= KEPT, "layout {layout}: {event}");
        }
    }
}
