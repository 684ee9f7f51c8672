//! One real Kafka broker, `KRaft`, on this machine.
//!
//! Its data stay when it stops, so that it can be stopped, killed, frozen and
//! started again. Listeners: plaintext; plaintext behind a [`Proxy`] that can be cut;
//! SASL over TLS with every login; TLS with client certificates.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use crate::certificates::Certificates;
use crate::process::{Process, Signal};
use crate::proxy::Proxy;
use crate::{cache, folder, panic_with, ports};

/// The user of every login.
pub const USER: &str = "edge";
pub const PASSWORD: &str = "edge-secret";

/// The version that scripts/setup.sh fetches; `E2E_KAFKA=3.9.2` is the other one
/// that it knows.
const VERSION: &str = "4.3.1";

fn version() -> String {
    std::env::var("E2E_KAFKA").unwrap_or_else(|_| VERSION.to_owned())
}

/// A start takes 5 to 11 s on an idle machine.
const START: Duration = Duration::from_mins(2);

/// Small and quick to start: a test's broker, not one for load.
const JAVA: &[&str] = &[
    "-Xms64m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Xshare:auto",
    "-Djava.awt.headless=true",
];

/// Kafka 4 logs by log4j 2.
const LOG4J2: &str = "\
status = ERROR
appender.c.type = Console
appender.c.name = C
appender.c.layout.type = PatternLayout
appender.c.layout.pattern = %d{ISO8601} %p %m (%c{1})%n
rootLogger.level = WARN
rootLogger.appenderRef.c.ref = C
logger.s.name = kafka.server
logger.s.level = INFO
logger.t.name = kafka.coordinator.transaction
logger.t.level = INFO
";

/// Kafka 3 logs by log4j 1.
const LOG4J1: &str = "\
log4j.rootLogger = WARN, C
log4j.appender.C = org.apache.log4j.ConsoleAppender
log4j.appender.C.layout = org.apache.log4j.PatternLayout
log4j.appender.C.layout.ConversionPattern = %d{ISO8601} %p %m (%c{1})%n
log4j.logger.kafka.server = INFO
log4j.logger.kafka.coordinator.transaction = INFO
";

/// The broker; dropped, it is killed.
#[derive(Debug)]
pub struct Kafka {
    folder: PathBuf,
    port: u16,
    secure: u16,
    mutual: u16,
    /// The way to the broker that can be cut: its address is advertised there.
    pub line: Proxy,
    pub certificates: Certificates,
    broker: Option<Process>,
}

impl Kafka {
    /// A broker that runs.
    pub fn started(name: &str) -> Self {
        let mut kafka = Self::prepared(name);
        kafka.start();
        kafka
    }

    /// A broker that has never been started: its ports refuse.
    pub fn prepared(name: &str) -> Self {
        let folder = folder(name);
        let certificates = Certificates::make(&folder.join("tls"));
        let (port, secure, mutual) = (ports::free(), ports::free(), ports::free());
        let (controller, proxied) = (ports::free(), ports::free());
        let line = Proxy::to(proxied);
        let listeners = Listeners { port, secure, mutual, controller, proxied, line: line.port() };
        let properties = properties(&folder, &certificates, &listeners);
        std::fs::write(folder.join("server.properties"), properties).expect("it is writable");
        for (name, text) in [("log4j2.properties", LOG4J2), ("log4j1.properties", LOG4J1)] {
            std::fs::write(folder.join(name), text).expect("it is writable");
        }
        let kafka = Self { folder, port, secure, mutual, line, certificates, broker: None };
        kafka.format();
        kafka
    }

    fn format(&self) {
        let mut format = self.java("kafka.tools.StorageTool");
        format.args(["format", "-t", "AAAAAAAAQACAAAAAAAAAAQ", "-c"]);
        format.arg(self.folder.join("server.properties"));
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let user = format!("{mechanism}=[name={USER},password={PASSWORD}]");
            format.args(["--add-scram", &user]);
        }
        let mut format = Process::start("kafka format", &format);
        let status = format.wait(START);
        assert!(status.success(), "cannot format Kafka's storage\n{}", format.log.tail());
    }

    pub fn start(&mut self) {
        assert!(self.broker.is_none(), "the broker is started once");
        let mut java = self.java("kafka.Kafka");
        java.arg(self.folder.join("server.properties"));
        let broker = Process::start("kafka", &java);
        broker.wait_line("Kafka Server started", START);
        self.broker = Some(broker);
    }

    /// SIGTERM: it goes in order.
    pub fn stop(&mut self) {
        self.broker.take().expect("the broker runs").terminate();
    }

    /// SIGKILL: it crashes.
    ///
    /// A single broker of 4.3.1 that is killed right after it has answered a commit forgets the
    /// commit's markers at its next start now and then ("Couldn't find leader endpoint … can be
    /// skipped" in its log: 2 of 8 kills). Readers of these partitions, and of the position, then
    /// wait until the same producer commits there again: after a kill the load must go on.
    pub fn kill(&mut self) {
        self.broker.take().expect("the broker runs").kill();
    }

    /// SIGSTOP: it holds its connections and says nothing.
    pub fn freeze(&self) {
        self.process().signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.process().signal(Signal::CONT);
    }

    /// For those who measure it.
    pub fn process(&self) -> &Process {
        self.broker.as_ref().expect("the broker runs")
    }

    /// The plaintext listener.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// SASL over TLS: PLAIN, SCRAM, OAUTHBEARER.
    pub fn secure(&self) -> String {
        format!("localhost:{}", self.secure)
    }

    /// TLS with client certificates.
    pub fn mutual(&self) -> String {
        format!("localhost:{}", self.mutual)
    }

    /// Makes a topic of one partition.
    pub fn create_topic(&self, name: &str, config: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> =
            self.client().create().expect("the settings are valid");
        let mut topic = NewTopic::new(name, 1, TopicReplication::Fixed(1));
        for (key, value) in config {
            topic = topic.set(key, value);
        }
        let topics = [topic];
        let made = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime can be built")
            .block_on(admin.create_topics(&topics, &AdminOptions::new()));
        for result in made.expect("the broker answers") {
            result.unwrap_or_else(|(topic, code)| {
                panic_with(&format!("cannot create topic {topic}: {code}"))
            });
        }
    }

    /// Lets [`USER`] neither write to this topic nor see it.
    pub fn deny_topic(&self, name: &str) {
        let mut acl = self.java("org.apache.kafka.tools.AclCommand");
        acl.args(["--bootstrap-server", &self.brokers(), "--add", "--deny-principal"]);
        acl.args([&format!("User:{USER}"), "--operation", "All", "--topic", name]);
        let mut acl = Process::start("kafka acl", &acl);
        let status = acl.wait(START);
        assert!(status.success(), "cannot deny topic {name}\n{}", acl.log.tail());
    }

    /// Deletes what the group has committed, as an operator or a retention does.
    pub fn forget_group(&self, group: &str) {
        let admin: AdminClient<DefaultClientContext> =
            self.client().create().expect("the settings are valid");
        let deleted = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime can be built")
            .block_on(admin.delete_groups(&[group], &AdminOptions::new()));
        for result in deleted.expect("the broker answers") {
            result.unwrap_or_else(|(group, code)| {
                panic_with(&format!("cannot delete group {group}: {code}"))
            });
        }
    }

    /// Settings of a client on the plaintext listener.
    pub fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", self.brokers());
        client
    }

    fn java(&self, class: &str) -> Command {
        let jars = cache().join(format!("kafka-{}", version()));
        assert!(jars.is_dir(), "no Kafka in {}: run scripts/setup.sh", jars.display());
        let mut java = Command::new("java");
        java.args(JAVA);
        for (setting, file) in [
            ("log4j2.configurationFile=", "log4j2.properties"),
            ("log4j.configuration=file:", "log4j1.properties"),
        ] {
            java.arg(format!("-D{setting}{}", self.folder.join(file).display()));
        }
        java.arg("-cp").arg(jars.join("*")).arg(class);
        java
    }
}

struct Listeners {
    port: u16,
    secure: u16,
    mutual: u16,
    controller: u16,
    proxied: u16,
    /// What the proxied listener advertises.
    line: u16,
}

fn properties(
    folder: &std::path::Path,
    certificates: &Certificates,
    Listeners { port, secure, mutual, controller, proxied, line }: &Listeners,
) -> String {
    const SECURITY: &str = "org.apache.kafka.common.security";
    let data = folder.join("log");
    let (keystore, ca) = (certificates.server_chain.display(), certificates.ca.display());
    let mut text = format!(
        "\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAIN://127.0.0.1:{port},SECURE://127.0.0.1:{secure},MUTUAL://127.0.0.1:{mutual},PROXIED://127.0.0.1:{proxied},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAIN://127.0.0.1:{port},SECURE://localhost:{secure},MUTUAL://localhost:{mutual},PROXIED://127.0.0.1:{line}
listener.security.protocol.map=PLAIN:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL,MUTUAL:SSL
inter.broker.listener.name=PLAIN
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=true
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.secure.plain.sasl.jaas.config={SECURITY}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";
listener.name.secure.scram-sha-256.sasl.jaas.config={SECURITY}.scram.ScramLoginModule required;
listener.name.secure.scram-sha-512.sasl.jaas.config={SECURITY}.scram.ScramLoginModule required;
listener.name.secure.oauthbearer.sasl.jaas.config={SECURITY}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";
listener.name.mutual.ssl.client.auth=required
listener.name.mutual.ssl.truststore.type=PEM
listener.name.mutual.ssl.truststore.location={ca}
log.dirs={}
num.partitions=1
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
num.network.threads=2
num.io.threads=2
background.threads=2
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=4194304
controlled.shutdown.enable=false
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
",
        data.display()
    );
    for listener in ["secure", "mutual"] {
        write!(
            text,
            "listener.name.{listener}.ssl.keystore.type=PEM\n\
             listener.name.{listener}.ssl.keystore.location={keystore}\n"
        )
        .expect("writing to a string does not fail");
    }
    text
}
