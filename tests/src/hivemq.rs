//! One real `HiveMQ` CE, the embedded edition: a plain listener, and one for TLS with client
//! certificates. `peers/hivemq/Broker.java` is its program, which java compiles as it starts.
//!
//! It keeps in files what it acknowledges, over its own SIGKILL too, which mosquitto does not:
//! of 38,000 messages in eleven kills none was lost. What it hears from a subscriber it writes a
//! little later: of 707 messages of QoS 2 that it had released when it was killed in the middle,
//! it published 221 again; stopped by SIGTERM none of 700, killed 50 ms later none of 350. It
//! gives freed packet ids again at once, and sends 50 messages before their acknowledgements.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::certificates::Certificates;
use crate::process::Process;
use crate::{cache, folder, ports};

/// The version that scripts/versions.sh names.
const FETCHED: &str = "hivemq-2025.5";

/// A start takes 5 s on an idle machine, and less on files that are there.
const START: Duration = Duration::from_mins(2);

/// Small and quick to start.
const JAVA: &[&str] = &[
    "-Xms32m",
    "-Xmx128m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
];

/// The broker; dropped, it is killed.
#[derive(Debug)]
pub struct HiveMq {
    folder: PathBuf,
    /// Anonymous.
    pub port: u16,
    /// TLS; asks for a client certificate.
    pub tls_port: u16,
    pub certificates: Certificates,
    broker: Option<Process>,
}

impl HiveMq {
    pub fn started(name: &str) -> Self {
        let folder = folder(name);
        let certificates = Certificates::make(&folder.join("tls"));
        let (port, tls_port) = (ports::free(), ports::free());
        let config = config(&folder, port, tls_port);
        std::fs::write(folder.join("config.xml"), config).expect("it is writable");
        let mut hivemq = Self { folder, port, tls_port, certificates, broker: None };
        hivemq.start();
        hivemq
    }

    pub fn start(&mut self) {
        assert!(self.broker.is_none(), "the broker is started once");
        let jars = cache().join(FETCHED);
        assert!(jars.is_dir(), "no {}: run scripts/setup.sh", jars.display());
        let mut java = Command::new("java");
        java.args(JAVA);
        // A broker that is killed leaves its native libraries where it has unpacked them.
        java.arg(format!("-Djava.io.tmpdir={}", self.folder.display()));
        java.env("ROCKSDB_SHAREDLIB_DIR", &self.folder);
        java.arg("-cp").arg(jars.join("*")).arg(program()).arg(&self.folder);
        let server = &self.certificates.server;
        java.args([&self.certificates.ca, &server.certificate, &server.key]);
        let broker = Process::start("hivemq", &java);
        broker.wait_line("READY", START);
        self.broker = Some(broker);
    }

    /// SIGKILL: it crashes.
    pub fn kill(&mut self) {
        self.broker.take().expect("the broker runs").kill();
    }

    /// SIGTERM: it closes its files and goes, which takes 5 s.
    pub fn stop(&mut self) {
        self.broker.take().expect("the broker runs").terminate();
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn program() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/hivemq/Broker.java")
}

/// The queue of a session whose client is away may grow: the default of 1,000 drops what it
/// has acknowledged.
fn config(folder: &Path, port: u16, tls_port: u16) -> String {
    let folder = folder.display();
    format!(
        "\
<hivemq>
  <listeners>
    <tcp-listener><port>{port}</port><bind-address>127.0.0.1</bind-address></tcp-listener>
    <tls-tcp-listener>
      <port>{tls_port}</port>
      <bind-address>127.0.0.1</bind-address>
      <tls>
        <keystore>
          <path>{folder}/keys.p12</path>
          <password>changeit</password>
          <private-key-password>changeit</private-key-password>
        </keystore>
        <truststore><path>{folder}/trust.p12</path><password>changeit</password></truststore>
        <client-authentication-mode>REQUIRED</client-authentication-mode>
      </tls>
    </tls-tcp-listener>
  </listeners>
  <mqtt><queued-messages><max-queue-size>1000000</max-queue-size></queued-messages></mqtt>
  <anonymous-usage-statistics><enabled>false</enabled></anonymous-usage-statistics>
  <persistence><mode>file</mode></persistence>
</hivemq>
"
    )
}
