//! `tidegate tap` as people and scripts meet it: no Kafka answers, and where nothing else
//! is said there is no buffer either.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the helpers of tests may end them"
)]

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;

const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");

/// An address that the device refuses.
const REFUSED: u16 = 99;

struct Gateway {
    folder: tempfile::TempDir,
    config: PathBuf,
}

impl Gateway {
    fn new(sources: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("gateway.toml");
        let buffer = folder.path().join("nowhere/buffer.db");
        let head = format!(
            "[gateway]\nid = \"gw1\"\n[buffer]\npath = \"{}\"\n[kafka]\nbrokers = \"127.0.0.1:1\"\n",
            buffer.display()
        );
        std::fs::write(&config, head + sources).unwrap();
        Self { folder, config }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(TIDEGATE);
        command.args(words).arg("--config").arg(&self.config);
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }
}

/// A device whose register N holds 200 + N; it lives as long as the test.
fn device() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    address
}

fn serve(mut stream: TcpStream) {
    let mut asked = [0; 12];
    while stream.read_exact(&mut asked).is_ok() {
        let word = |at: usize| u16::from_be_bytes([asked[at], asked[at + 1]]);
        let (first, count) = (word(8), word(10));
        let mut pdu = vec![asked[6], asked[7], u8::try_from(2 * count).unwrap()];
        pdu.extend((first..first + count).flat_map(|register| (200 + register).to_be_bytes()));
        if (first..first + count).contains(&REFUSED) {
            pdu = vec![asked[6], asked[7] | 0x80, 2];
        }
        let mut frame = asked[..5].to_vec();
        frame.push(u8::try_from(pdu.len()).unwrap());
        frame.extend(pdu);
        if stream.write_all(&frame).is_err() {
            return;
        }
    }
}

fn bus(address: &str) -> String {
    format!(
        r#"
[[source]]
type = "modbus"
name = "hall-1"
address = "{address}"
stream = "boiler"
[[source.device]]
name = "boiler-1"
unit = 1
max_hole = 0
[[source.device.group]]
interval = "50 ms"
signals = [
  {{ name = "temp", table = "holding", address = 15, type = "i16", scale = 0.1, unit = "°C" }},
  {{ name = "energy", table = "holding", address = 16, type = "u32" }},
  {{ name = "gone", table = "holding", address = {REFUSED} }},
]
"#
    )
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The lines behind their times.
fn timeless(output: &Output) -> Vec<String> {
    let lines = text(&output.stdout);
    lines.lines().map(|line| line.get(12..).unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_bus_is_shown_as_registers_and_as_what_is_made_of_them() {
    let gateway = Gateway::new(&bus(&device()));
    let output = gateway.run(&["tap", "hall-1", "--count", "1"]);
    assert!(output.status.success(), "{output:?}");
    insta::assert_snapshot!(timeless(&output).join("\n"), @"
      DEVICE    FIELD   VALUE     UNIT  QUALITY      RAW
      boiler-1  temp    21.5      °C    good         holding 15: 00D7
      boiler-1  energy  14155993        good         holding 16 to 17: 00D8 00D9
      boiler-1  gone    null            bad_address  holding 99: exception 02 (illegal data address)
    ");
    assert!(text(&output.stderr).contains("hall-1 is up"), "{output:?}");
}

#[test]
fn a_program_reads_an_event_a_line_and_chooses_fields() {
    let gateway = Gateway::new(&bus(&device()));
    let words = ["tap", "hall-1", "--json", "-n", "3", "--device", "boiler", "--field", "temp"];
    let output = gateway.run(&words);
    assert!(output.status.success(), "{output:?}");
    let lines = text(&output.stdout);
    let events: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 3);
    let event = &events[0];
    assert_eq!((&event["stream"], &event["device"]), (&"boiler".into(), &"boiler-1".into()));
    let made_of = serde_json::json!({ "table": "holding", "address": 15, "words": ["00D7"] });
    let temp = serde_json::json!({
        "name": "temp", "value": 21.5, "unit": "°C", "quality": "good", "raw": made_of,
    });
    assert_eq!(event["fields"], serde_json::json!([temp]));
}

#[test]
fn who_reads_may_hang_up_and_ctrl_c_ends_it_well() {
    let gateway = Gateway::new(&bus(&device()));
    for is_asked in [true, false] {
        let mut command = gateway.command(&["tap", "hall-1"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        lines.next().unwrap().unwrap();
        if is_asked {
            let pid = child.id().to_string();
            assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
            lines.for_each(drop);
        } else {
            drop(lines);
        }
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(!text(&output.stderr).contains("pipe"), "{output:?}");
    }
}

#[test]
fn a_device_that_is_not_there_is_told_with_what_may_help_and_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let gateway = Gateway::new(&bus(&address.to_string()));
    let output = gateway.run(&["tap", "hall-1", "--for", "200 ms"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = text(&output.stderr);
    assert!(told.contains(&format!("cannot connect to {address}")), "{told}");
    assert!(told.contains("if an agent runs that reads it, stop it"), "{told}");
    assert!(told.contains("hall-1: no value was read"), "{told}");
    let shown = timeless(&output);
    assert!(shown[1].contains("temp    null"), "{shown:?}");
    assert_eq!(shown.len(), 4, "that there are no values is said once: {shown:?}");
}

/// A terminal: the end that a program writes to, and ours.
fn terminal() -> (File, File, PathBuf) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let path = PathBuf::from(ptsname(&ours, Vec::new()).unwrap().into_string().unwrap());
    let theirs = File::options().read(true).write(true).open(&path).unwrap();
    (theirs, File::from(ours), path)
}

#[test]
fn a_port_that_is_taken_is_told_with_what_may_help() {
    let (held, _ours, path) = terminal();
    held.try_lock().unwrap();
    let serial = bus(path.to_str().unwrap()) + "[source.serial]\nbaud = 9600\n";
    let output = Gateway::new(&serial).run(&["tap", "hall-1", "--for", "200 ms"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = text(&output.stderr);
    assert!(told.contains("another program or source has it open"), "{told}");
    assert!(told.contains("a serial port has one reader"), "{told}");
}

#[test]
fn on_a_terminal_a_bus_is_a_table_that_is_drawn_in_its_place() {
    let gateway = Gateway::new(&bus(&device()));
    let (theirs, ours, _) = terminal();
    let mut command = gateway.command(&["tap", "hall-1", "--count", "5"]);
    let mut child = command.stdout(theirs).stderr(Stdio::null()).spawn().unwrap();
    // Its own copy of the terminal goes with the command.
    drop(command);
    let mut shown = Vec::new();
    // Its end is an error: nobody has the other side open any more.
    drop((&ours).read_to_end(&mut shown));
    assert!(child.wait().unwrap().success());
    let shown = text(&shown);
    assert!(shown.contains("hall-1: up, 5 events"), "{shown}");
    assert!(shown.contains("21.5") && shown.contains("holding 16 to 17: 00D8 00D9"), "{shown}");
    assert!(shown.contains("\x1b[2K"), "{shown}");
    assert_eq!(shown.matches("holding 15").count(), 1, "what is the same is not sent again");
}

#[test]
fn an_unknown_source_is_told_with_those_that_there_are() {
    let output = Gateway::new(&bus("127.0.0.1:1")).run(&["tap", "attic"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no source `attic`, only hall-1"), "{output:?}");
}

/// A gateway with a table of so many rows.
fn with_table(rows: u32) -> Gateway {
    let gateway = Gateway::new("");
    let table = gateway.folder.path().join("log.db");
    let log = rusqlite::Connection::open(&table).unwrap();
    log.execute_batch("CREATE TABLE cycles (id INTEGER PRIMARY KEY, force REAL, ok BOOLEAN)")
        .unwrap();
    for row in 1..=rows {
        log.execute("INSERT INTO cycles VALUES (?1, ?1 + 0.5, 1)", [row]).unwrap();
    }
    std::fs::create_dir(gateway.folder.path().join("nowhere")).unwrap();
    let source = format!(
        "[system]\nenabled = false\n[[source]]\ntype = \"sqlite\"\nname = \"press\"\n\
         path = \"{}\"\ntable = \"cycles\"\ncursor = [\"id\"]\nstream = \"cycles\"\n\
         interval = \"20 ms\"\n",
        table.display()
    );
    let config = std::fs::read_to_string(&gateway.config).unwrap();
    std::fs::write(&gateway.config, config + &source).unwrap();
    gateway
}

/// Dropped, it is killed.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_table_is_read_beside_an_agent_whose_cursor_stays_where_it_is() {
    let gateway = with_table(3);
    let mut command = gateway.command(&["run"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("READY")));
    std::thread::spawn(move || lines.for_each(drop));
    let _agent = Agent(child);
    let stored = || -> Value {
        let output = gateway.run(&["buffer", "stats", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap()
    };
    while stored()["flows"][0]["events"] != 3 {}
    let before = stored();

    let output = gateway.run(&["tap", "press", "--from-start", "--count", "2"]);
    assert!(output.status.success(), "{output:?}");
    insta::assert_snapshot!(timeless(&output).join("\n"), @"
      DEVICE  FIELD  VALUE  UNIT  QUALITY  RAW
      id=1 force=1.5 ok=1
      press   id     1            good
      press   force  1.5          good
      press   ok     true         good
      id=2 force=2.5 ok=1
      press   id     2            good
      press   force  2.5          good
      press   ok     true         good
    ");
    assert_eq!(stored()["flows"], before["flows"]);
}

#[test]
fn a_table_is_read_from_now_on_and_leaves_no_trace() {
    let gateway = with_table(3);
    let mut command = gateway.command(&["tap", "press", "--json", "--count", "1"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It is up with its first look, which finds where the end is.
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(told.any(|line| line.unwrap().contains("press is up")));
    let log = rusqlite::Connection::open(gateway.folder.path().join("log.db")).unwrap();
    log.execute("INSERT INTO cycles VALUES (7, NULL, 0)", []).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let event: Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = serde_json::json!({ "row": { "id": 7, "force": null, "ok": 0 } });
    assert_eq!(event["raw"], row);
    assert_eq!(event["fields"][2]["value"], false);
    let made = std::fs::read_dir(gateway.folder.path().join("nowhere")).unwrap().count();
    assert_eq!(made, 0, "no buffer, no lock");
}
