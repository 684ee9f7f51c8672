//! Sparkplug edge nodes of Eclipse Tahu: `peers/tahu/EdgeNode.java`, which says what it
//! publishes and is told what to do; a host of Tahu's, `Host.java`, which says what it hears;
//! and what goes over the broker, by mosquitto's client.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::cache;
use crate::mosquitto::Mosquitto;
use crate::process::{Log, Process};

/// The version that scripts/versions.sh names.
const FETCHED: &str = "tahu-1.0.19";

/// A start takes 3 s on an idle machine: Tahu looks each second whether it is connected.
const START: Duration = Duration::from_mins(1);

/// Until a message that was published has come over the broker.
const DELIVERY: Duration = Duration::from_mins(1);

/// Of the group `plant`, with one device; dropped, it is killed, and its will published.
#[derive(Debug)]
pub struct EdgeNode(Process);

impl EdgeNode {
    /// Connects to a broker of this port; it has published its births.
    pub fn started(port: u16, node: &str, device: &str) -> Self {
        let node = Self::launched(port, &[node, device]);
        node.0.wait_line("DBIRTH {", START);
        node
    }

    /// The same, but it waits for its primary host to be online.
    pub fn waiting(port: u16, node: &str, device: &str, host: &str) -> Self {
        let node = Self::launched(port, &[node, device, host]);
        node.0.wait_line("Waiting for primary host", START);
        node
    }

    fn launched(port: u16, words: &[&str]) -> Self {
        let mut java = java("EdgeNode.java");
        java.arg(format!("tcp://127.0.0.1:{port}")).arg("plant").args(words);
        Self(Process::start_to_be_told("tahu", &java))
    }

    /// A command of those that `EdgeNode.java` explains.
    pub fn tell(&mut self, command: &str) {
        self.0.tell(command);
    }

    /// Waits for a line with this text: `NBIRTH {` and the like, with the payload as Tahu
    /// writes it, or `NCMD` with a metric's name and value.
    pub fn wait_line(&self, text: &str) -> String {
        self.0.wait_line(text, DELIVERY)
    }

    /// The same from this line of its log on.
    pub fn wait_next(&self, mark: usize, text: &str) -> String {
        self.log().wait(mark, &format!("`{text}` of Tahu"), DELIVERY, |line| line.contains(text))
    }

    /// What it has printed.
    pub fn log(&self) -> &Log {
        &self.0.log
    }

    /// How often it was asked to be born again.
    pub fn asked(&self) -> usize {
        self.log().matching(0, |line| line == "NCMD Node Control/Rebirth true").len()
    }

    /// SIGKILL: the broker publishes its will.
    pub fn kill(&mut self) {
        self.0.kill();
    }
}

/// A host; dropped, it is killed. Its log has a line for each thing that it hears.
#[derive(Debug)]
pub struct Host(pub Process);

impl Host {
    /// Connects to a broker at this address.
    pub fn started(address: &str, name: &str) -> Self {
        let mut java = java("Host.java");
        java.arg(format!("tcp://{address}")).arg(name);
        Self(Process::start("tahu host", &java))
    }
}

/// What runs one of our programs on Tahu's jars.
fn java(program: &str) -> Command {
    let jars = cache().join(FETCHED);
    assert!(jars.is_dir(), "no {}: run scripts/setup.sh", jars.display());
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/tahu");
    let mut java = Command::new("java");
    java.args(["-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]);
    java.arg(format!("-Dlogback.configurationFile={}", sources.join("logback.xml").display()));
    java.arg("-cp").arg(jars.join("*")).arg(sources.join(program));
    java
}

/// A message as it went over the broker.
#[derive(Debug, Clone)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
}

/// Reads all Sparkplug messages of a broker from its start on.
#[derive(Debug)]
pub struct Listener {
    client: Process,
    read: usize,
}

impl Listener {
    /// It has subscribed, under this name.
    pub fn started(broker: &Mosquitto, name: &str) -> Self {
        let mut client = Command::new("mosquitto_sub");
        client.args(["-p", &broker.port.to_string(), "-i", name, "-q", "1", "-t", "spBv1.0/#"]);
        // Topic, and payload in hexadecimal digits.
        client.args(["-F", "%t %x"]);
        let client = Process::start("mosquitto_sub", &client);
        broker.wait_line(&format!("Sending SUBACK to {name}"), DELIVERY);
        Self { client, read: 0 }
    }

    /// Waits for the next message.
    pub fn message(&mut self) -> Message {
        loop {
            let line = self.client.log.wait(self.read, "next message", DELIVERY, |_| true);
            self.read += 1;
            if let Some((topic, payload)) = line.split_once(' ')
                && topic.starts_with("spBv1.0/")
            {
                return Message { topic: topic.to_owned(), payload: bytes(payload) };
            }
        }
    }
}

fn bytes(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair));
    pairs.map(|pair| u8::from_str_radix(&pair, 16).expect("hexadecimal digits")).collect()
}
