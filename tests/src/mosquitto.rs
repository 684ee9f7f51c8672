//! One real mosquitto: a plain listener, one with a password, and one for TLS
//! with client certificates.
//!
//! It keeps sessions on disk when it ends by SIGTERM; over its own SIGKILL it keeps
//! nothing, so that is no scenario here. Its queue for a session whose client is
//! away has no limit: the default of 1,000 drops what it has acknowledged.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::agent::Agent;
use crate::certificates::Certificates;
use crate::process::{Process, Signal};
use crate::{folder, panic_with, ports, wait_until};

/// The user of the listener with a password.
pub const USER: &str = "edge";
pub const PASSWORD: &str = "edge-secret";

const START: Duration = Duration::from_secs(20);

/// Until the agent acknowledges one message.
const ACKNOWLEDGED: Duration = Duration::from_mins(1);

/// Far more messages than show how the broker numbers them.
const MOST_LESSONS: usize = 50;

/// The broker; dropped, it is killed.
#[derive(Debug)]
pub struct Mosquitto {
    folder: PathBuf,
    /// Anonymous.
    pub port: u16,
    /// Asks for [`USER`] and [`PASSWORD`].
    pub login_port: u16,
    /// TLS; asks for a client certificate.
    pub tls_port: u16,
    pub certificates: Certificates,
    broker: Option<Process>,
}

impl Mosquitto {
    pub fn started(name: &str) -> Self {
        let folder = folder(name);
        let certificates = Certificates::make(&folder.join("tls"));
        let (port, login_port, tls_port) = (ports::free(), ports::free(), ports::free());
        let passwords = folder.join("passwords");
        let mut make = Command::new("mosquitto_passwd");
        make.arg("-c").arg("-b").arg(&passwords).args([USER, PASSWORD]);
        let mut make = Process::start("mosquitto_passwd", &path(&make));
        assert!(make.wait(START).success(), "no password file\n{}", make.log.tail());
        let access = folder.join("access");
        std::fs::write(&access, access_to_all_but(&[])).expect("it is writable");
        // Started as root it would become a user who cannot read the folder.
        let config = format!(
            "\
user root
per_listener_settings true
persistence true
persistence_location {folder}/
log_dest stderr
log_type all
connection_messages true
max_queued_messages 0
max_inflight_messages 1000
set_tcp_nodelay true
listener {port} 127.0.0.1
allow_anonymous true
listener {login_port} 127.0.0.1
allow_anonymous false
password_file {passwords}
acl_file {access}
listener {tls_port} 127.0.0.1
allow_anonymous true
require_certificate true
cafile {ca}
certfile {certificate}
keyfile {key}
",
            folder = folder.display(),
            access = access.display(),
            passwords = passwords.display(),
            ca = certificates.ca.display(),
            certificate = certificates.server.certificate.display(),
            key = certificates.server.key.display(),
        );
        std::fs::write(folder.join("mosquitto.conf"), config).expect("it is writable");
        let mut mosquitto = Self { folder, port, login_port, tls_port, certificates, broker: None };
        mosquitto.start();
        mosquitto
    }

    pub fn start(&mut self) {
        assert!(self.broker.is_none(), "the broker is started once");
        let mut command = Command::new("mosquitto");
        command.arg("-c").arg(self.folder.join("mosquitto.conf"));
        let broker = Process::start("mosquitto", &path(&command));
        broker.wait_line("running", START);
        self.broker = Some(broker);
    }

    /// SIGTERM: it saves its sessions and goes.
    pub fn stop(&mut self) {
        self.broker.take().expect("the broker runs").terminate();
    }

    /// Waits for a line that contains `text`, said since the last start.
    pub fn wait_line(&self, text: &str, within: Duration) -> String {
        self.process().wait_line(text, within)
    }

    /// How often the broker has said this since its last start.
    pub fn count(&self, text: &str) -> usize {
        self.process().log.matching(0, |line| line.contains(text)).len()
    }

    /// Lets one message after the other be published, each when the agent, `client`, has
    /// acknowledged the one before, until it says that the broker counts its packet ids:
    /// before that it takes again what a kill leaves in doubt.
    pub fn teach(&self, agent: &Agent, client: &str, mut publish: impl FnMut()) {
        // Of QoS 1 and 2.
        let ends = ["PUBACK", "PUBCOMP"].map(|end| format!("Received {end} from {client}"));
        let acknowledged = || ends.iter().map(|end| self.count(end)).sum::<usize>();
        let before = acknowledged();
        for lesson in 1..=MOST_LESSONS {
            publish();
            wait_until("an acknowledgement of the agent", ACKNOWLEDGED, || {
                (acknowledged() >= before + lesson).then_some(())
            });
            if !agent.lines(&["counts its packet ids up"]).is_empty() {
                return;
            }
        }
        panic_with("the agent has not learned how mosquitto numbers its messages");
    }

    /// To whoever has logged in as [`USER`] nothing comes under these topics from now on, and
    /// he is not told.
    pub fn lose(&self, topics: &[&str]) {
        let access = access_to_all_but(topics);
        std::fs::write(self.folder.join("access"), access).expect("it is writable");
        let reloads = self.count("Reloading config");
        self.process().signal(Signal::HUP);
        wait_until("the broker's new rules", START, || {
            (self.count("Reloading config") > reloads).then_some(())
        });
    }

    /// Publishes by mosquitto's client, with these words for it.
    pub fn publish(&self, topic: &str, words: &[&str]) {
        let mut client = Command::new("mosquitto_pub");
        client.args(["-p", &self.port.to_string(), "-t", topic]).args(words);
        let mut client = Process::start("mosquitto_pub", &client);
        assert!(client.wait(START).success(), "{}", client.log.tail());
    }

    fn process(&self) -> &Process {
        self.broker.as_ref().expect("the broker runs")
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// Rules of access for [`USER`].
fn access_to_all_but(topics: &[&str]) -> String {
    let denied = topics.iter().map(|topic| format!("topic deny {topic}\n"));
    let all = format!("user {USER}\ntopic readwrite #\n");
    std::iter::once(all).chain(denied).collect()
}

/// Debian keeps the server out of a user's path.
fn path(command: &Command) -> Command {
    let mut found = Command::new(command.get_program());
    found.args(command.get_args());
    let path = std::env::var("PATH").unwrap_or_default();
    found.env("PATH", format!("{path}:/usr/sbin"));
    found
}
