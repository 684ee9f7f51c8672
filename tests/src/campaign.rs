//! The agent is killed and the MQTT broker restarted, again and again, in the middle of
//! numbered messages; then the judge counts.
//!
//! A round is one slice of messages, all of them acknowledged to the publisher, and one
//! [`Fault`] a moment later, while the agent still has most of them in doubt: read and not
//! committed, committed and not acknowledged, acknowledged and not proven. The agent logs
//! in over TLS with a client certificate. The publisher has a plain way of its own: what
//! is published while the broker goes would be in doubt for the publisher, and then no
//! judge could tell whose fault a duplicate is.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::agent::Agent;
use crate::certificates::Certificates;
use crate::chance::Chance;
use crate::judge::{self, Fate, Judge};
use crate::kafka::Kafka;
use crate::mosquitto::Mosquitto;
use crate::proxy::Proxy;
use crate::publisher::Publisher;
use crate::{folder, outage, settings, wait_until};

/// Messages of a round: fewer than these come on top, by chance.
const SLICE: u64 = 100;
const SLICE_MORE: u64 = 200;

/// Longest time between a slice and its fault, in milliseconds: the commit interval of
/// these agents is 200, and a message of QoS 2 needs two commits.
const MOMENT: u64 = 450;

/// In one round of so many the next slice does not wait until the agent is back.
const HASTY: u64 = 4;

/// Until the agent has subscribed; after a fault its pauses between two tries add up.
const UP: Duration = Duration::from_mins(2);

/// Until what waits in the broker is in Kafka; several times what it takes.
const DRAIN: Duration = Duration::from_mins(3);

/// When nothing has come for so long, nothing more will: longer than any pause of the
/// agent between two tries.
const QUIET: Duration = Duration::from_mins(1);

/// A broker that keeps sessions and their messages over a restart.
pub trait Broker {
    /// Port of its listener without TLS, for the publisher.
    fn plain_port(&self) -> u16;

    /// Port of its listener that asks for a client certificate.
    fn secure_port(&self) -> u16;

    fn certificates(&self) -> &Certificates;

    /// Ends it in a way after which it has all that it has acknowledged.
    fn stop(&mut self);

    fn start(&mut self);

    /// Publishes one message after the other until the agent knows that this broker counts
    /// its packet ids up; false: it does not, so that a kill may double messages of QoS 1.
    fn teach(&self, agent: &Agent, client: &str, publish: &mut dyn FnMut()) -> bool;

    /// Messages that it has sent to this client once more since its last start, if it
    /// tells.
    fn sent_again(&self, client: &str) -> usize;
}

impl Broker for Mosquitto {
    fn plain_port(&self) -> u16 {
        self.port
    }

    fn secure_port(&self) -> u16 {
        self.tls_port
    }

    fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    fn stop(&mut self) {
        Self::stop(self);
    }

    fn start(&mut self) {
        Self::start(self);
    }

    fn teach(&self, agent: &Agent, client: &str, publish: &mut dyn FnMut()) -> bool {
        Self::teach(self, agent, client, publish);
        true
    }

    fn sent_again(&self, client: &str) -> usize {
        self.count(&format!("Sending PUBLISH to {client} (d1"))
    }
}

/// What happens behind a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The agent is killed and started.
    Kill,
    /// The line is cut, and the agent is killed as soon as it has logged in again, before
    /// the first commit of the new connection, and started.
    KilledAtLogin,
    /// The broker is stopped and started.
    Restart,
    /// The agent is killed, and is away while the broker restarts.
    Both,
    /// The broker stops, and while it is away the agent is killed and started.
    KilledWhileAway,
    /// The line between them is cut.
    Cut,
}

const FAULTS: [Fault; 6] = [
    Fault::Kill,
    Fault::Restart,
    Fault::Both,
    Fault::KilledWhileAway,
    Fault::Cut,
    Fault::KilledAtLogin,
];

/// One campaign.
#[derive(Debug, Clone, Copy)]
pub struct Campaign {
    /// Of the gateway, the topics, and the folder.
    pub name: &'static str,
    /// `3.1.1` or `5`.
    pub protocol: &'static str,
    /// 1 or 2.
    pub qos: u8,
    /// At least so many.
    pub messages: u64,
}

/// How it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub messages: u64,
    pub kills: u64,
    pub restarts: u64,
    pub cuts: u64,
    /// Messages that the broker sent more than once, as far as it tells.
    pub sent_again: usize,
    pub lost: usize,
    pub doubled: usize,
    /// Doubled, and allowed to be: QoS 1 of a broker that gives freed packet ids again.
    pub taken_again: usize,
    pub seconds: u64,
}

impl Report {
    /// One JSON object in one line.
    pub fn json(&self, of: &Campaign) -> String {
        serde_json::json!({
            "protocol": of.protocol, "qos": of.qos, "messages": self.messages,
            "kills": self.kills, "restarts": self.restarts, "cuts": self.cuts,
            "sent_again": self.sent_again, "lost": self.lost, "doubled": self.doubled,
            "taken_again": self.taken_again, "seconds": self.seconds,
        })
        .to_string()
    }
}

/// What takes part in it.
struct Scene<'b, B> {
    broker: &'b mut B,
    line: Proxy,
    agent: Agent,
    client: String,
    publisher: Publisher,
    published: u64,
    report: Report,
}

impl Campaign {
    /// Runs it; `say` is told what happens.
    pub fn run(
        &self,
        kafka: &Kafka,
        broker: &mut impl Broker,
        mut say: impl FnMut(&str),
    ) -> Report {
        let began = Instant::now();
        let mut chance = Chance::new();
        say(&format!("{}: E2E_SEED={}", self.name, chance.seed));
        let folder = folder(self.name);
        let line = Proxy::to(broker.secure_port());
        let config = settings::head(self.name, &folder, &settings::plain(&kafka.brokers()))
            + &settings::stream(self.name, 1)
            + &self.source(line.port(), broker.certificates());
        let publisher = Publisher::connect(broker.plain_port(), &self.publisher());
        let mut scene = Scene {
            line,
            agent: Agent::new(&folder, &config),
            client: format!("tidegate-{}-broker", self.name),
            publisher,
            broker,
            published: 0,
            report: Report::default(),
        };
        scene.agent.start();
        scene.wait_up(0);
        let counts = self.teach(&mut scene) || self.qos == 2;
        while scene.published < self.messages {
            self.publish(&mut scene, SLICE + chance.below(SLICE_MORE));
            outage(Duration::from_millis(chance.below(MOMENT)));
            let kind = usize::try_from(chance.below(FAULTS.len() as u64)).unwrap_or_default();
            let fault = *FAULTS.get(kind).expect("it is below their number");
            say(&format!("{}: {fault:?} after {}", self.name, scene.published));
            let ups = scene.ups();
            self.strike(fault, &mut scene);
            if chance.below(HASTY) > 0 {
                scene.wait_up(ups);
            }
        }
        self.count(scene, kafka, counts, began, say)
    }

    fn publisher(&self) -> String {
        format!("{}-publisher", self.name)
    }

    fn source(&self, port: u16, certificates: &Certificates) -> String {
        let Self { name, protocol, qos, .. } = self;
        let file = |path: &std::path::Path| path.display().to_string();
        format!(
            "
[[source]]
type = \"mqtt\"
name = \"broker\"
address = \"localhost:{port}\"
protocol = \"{protocol}\"
qos = {qos}
stream = \"{name}\"
tls = {{ ca = \"{}\", certificate = \"{}\", key = \"{}\" }}

[[source.subscription]]
topic = \"{name}/{{device}}\"
",
            file(&certificates.ca),
            file(&certificates.client.certificate),
            file(&certificates.client.key),
        )
    }

    fn teach<B: Broker>(&self, scene: &mut Scene<'_, B>) -> bool {
        let Scene { broker, agent, client, publisher, published, .. } = scene;
        broker.teach(agent, client, &mut || {
            *published += 1;
            self.send(publisher, &[self.message(*published)]);
        })
    }

    fn send(&self, publisher: &mut Publisher, messages: &[(String, Vec<u8>)]) {
        if self.qos == 2 {
            publisher.publish_exactly_once(messages);
        } else {
            publisher.publish(messages);
        }
    }

    fn message(&self, number: u64) -> (String, Vec<u8>) {
        (format!("{}/d{}", self.name, number % 7), format!(r#"{{"n":{number}}}"#).into_bytes())
    }

    fn publish<B: Broker>(&self, scene: &mut Scene<'_, B>, count: u64) {
        let first = scene.published + 1;
        let messages: Vec<_> = (first..first + count).map(|n| self.message(n)).collect();
        self.send(&mut scene.publisher, &messages);
        scene.published += count;
    }

    fn strike<B: Broker>(&self, fault: Fault, scene: &mut Scene<'_, B>) {
        match fault {
            Fault::Kill => {
                scene.kill();
                scene.agent.start();
            }
            Fault::KilledAtLogin => {
                let ups = scene.ups();
                scene.cut();
                scene.wait_up(ups);
                scene.kill();
                scene.agent.start();
            }
            Fault::Restart => {
                scene.stop_broker();
                self.start_broker(scene);
            }
            Fault::Both => {
                scene.kill();
                scene.stop_broker();
                self.start_broker(scene);
                scene.agent.start();
            }
            Fault::KilledWhileAway => {
                scene.stop_broker();
                scene.kill();
                scene.agent.start();
                self.start_broker(scene);
            }
            Fault::Cut => scene.cut(),
        }
    }

    fn start_broker<B: Broker>(&self, scene: &mut Scene<'_, B>) {
        scene.broker.start();
        scene.publisher = Publisher::connect(scene.broker.plain_port(), &self.publisher());
    }

    fn count<B: Broker>(
        &self,
        mut scene: Scene<'_, B>,
        kafka: &Kafka,
        counts: bool,
        began: Instant,
        mut say: impl FnMut(&str),
    ) -> Report {
        let mut judge = Judge::of_topic(kafka, self.name);
        let (mut have, mut since) = (0, Instant::now());
        judge.look_until("an end", DRAIN, |records| {
            if records.len() > have {
                (have, since) = (records.len(), Instant::now());
            }
            let numbers: BTreeSet<u64> = records.iter().map(|r| r.number("n")).collect();
            let all = u64::try_from(numbers.len()).is_ok_and(|seen| seen >= scene.published);
            // What is lost never comes.
            all || since.elapsed() > QUIET
        });
        scene.agent.stop();
        let numbers = judge.look().iter().map(|record| record.number("n"));
        let Fate { lost, repeated, foreign } = judge::fate(scene.published, numbers);
        assert!(foreign.is_empty(), "{foreign:?} were never sent");
        if !lost.is_empty() || !repeated.is_empty() {
            say(&format!("{}: lost {lost:?}, repeated {repeated:?}", self.name));
            // Of another epoch it was taken twice, of the same id sent twice.
            let first = repeated.first().map(|(number, _)| *number);
            for record in judge.records.iter().filter(|record| Some(record.number("n")) == first) {
                say(&format!("{}: {record:?}", self.name));
            }
        }
        let (doubled, taken_again) = if counts { (repeated.len(), 0) } else { (0, repeated.len()) };
        Report {
            messages: scene.published,
            lost: lost.len(),
            doubled,
            taken_again,
            sent_again: scene.report.sent_again + scene.broker.sent_again(&scene.client),
            seconds: began.elapsed().as_secs(),
            ..scene.report
        }
    }
}

impl<B: Broker> Scene<'_, B> {
    /// How often the agent has come up so far.
    fn ups(&self) -> usize {
        self.agent.lines(&["source is up", "broker"]).len()
    }

    /// Waits until it has come up once more.
    fn wait_up(&self, before: usize) {
        wait_until("the agent's login", UP, || (self.ups() > before).then_some(()));
    }

    fn kill(&mut self) {
        self.agent.kill();
        self.report.kills += 1;
    }

    fn cut(&mut self) {
        self.line.cut();
        self.report.cuts += 1;
    }

    fn stop_broker(&mut self) {
        self.report.sent_again += self.broker.sent_again(&self.client);
        self.broker.stop();
        self.report.restarts += 1;
    }
}
