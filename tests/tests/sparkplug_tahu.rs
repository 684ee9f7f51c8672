//! The agent as a Sparkplug host of Eclipse Tahu's edge nodes, over a real mosquitto: what
//! they printed against what stands in Kafka.

use std::path::Path;
use std::time::{Duration, Instant};

use tidegate_e2e::agent::Agent;
use tidegate_e2e::judge::{self, Judge, Record};
use tidegate_e2e::kafka::Kafka;
use tidegate_e2e::mosquitto::{Mosquitto, PASSWORD, USER};
use tidegate_e2e::tahu::{EdgeNode, Listener, Message};
use tidegate_e2e::tahu_values::{self as values, Item, Transcript};
use tidegate_e2e::{folder, settings, wait_until};

const DELIVERY: Duration = Duration::from_mins(1);

const NAME: &str = "sparkplug-tahu";

/// A node of Tahu's with the device `d1`, and what it said.
struct Told {
    node: EdgeNode,
    said: Transcript,
}

impl Told {
    fn new(node: EdgeNode, name: &'static str) -> Self {
        let mut said = Transcript::new(name, "d1");
        said.read(&node);
        // Nobody listens yet.
        said.values.clear();
        Self { node, said }
    }

    /// What comes from now on.
    fn mark(&self) -> usize {
        self.node.log().len()
    }

    /// Tells it to publish, one after the other, and waits until it has.
    fn say(&mut self, commands: &[&str]) {
        for command in commands {
            let mark = self.mark();
            self.node.tell(command);
            let kind = match *command {
                "device-birth" => "DBIRTH {",
                command if command.starts_with("node") => "NDATA {",
                _ => "DDATA {",
            };
            self.node.wait_next(mark, kind);
        }
        self.said.read(&self.node);
    }

    /// Tells it to be born, and the births are lost.
    fn unheard(&mut self, commands: &[&str]) {
        let (mark, said) = (self.mark(), self.said.values.len());
        for command in commands {
            self.node.tell(command);
        }
        self.wait_births(mark);
        self.said.values.truncate(said);
    }

    /// Waits until it is born behind this line.
    fn wait_births(&mut self, mark: usize) {
        self.node.wait_next(mark, "NBIRTH {");
        self.node.wait_next(mark, "DBIRTH {");
        self.said.read(&self.node);
    }
}

/// The agent, its two edge nodes and what has arrived.
struct Scene {
    agent: Agent,
    judge: Judge,
    /// Has no primary host.
    line1: Told,
    /// Waits for the agent.
    line2: Told,
}

impl Scene {
    /// Waits until all that was said has arrived.
    fn wait(&mut self, what: &str) -> &[Record] {
        let Self { judge, line1, line2, .. } = self;
        // Tahu prints a message a moment after it has gone out, so that each look may be early.
        let since = Instant::now();
        loop {
            judge.look();
            line1.said.read(&line1.node);
            line2.said.read(&line2.node);
            let wrong = values::wrong(&judge.records, &[&line1.said, &line2.said]);
            if wrong.is_empty() {
                return &self.judge.records;
            }
            assert!(since.elapsed() < DELIVERY, "{what}: {wrong}");
        }
    }

    /// Has `line1` asked for its births by this, which the agent cannot read.
    fn asks(&mut self, commands: &[&str]) {
        let (mark, asked) = (self.line1.mark(), self.line1.node.asked());
        self.line1.say(commands);
        self.line1.wait_births(mark);
        assert_eq!(self.line1.node.asked(), asked + 1, "asked once");
    }

    /// Waits until so many records are stale that have this device.
    fn wait_stale(&mut self, device: &str, count: usize) {
        let enough = |records: &[Record]| stale(records, device).len() >= count;
        self.judge.look_until(&format!("stale values of {device}"), DELIVERY, enough);
    }
}

fn stale<'a>(records: &'a [Record], device: &str) -> Vec<&'a Record> {
    let is_it = |r: &&Record| r.text("quality") == "stale" && r.text("device") == device;
    records.iter().filter(is_it).collect()
}

/// The next message under this topic.
fn hear(listener: &mut Listener, topic: &str) -> Message {
    loop {
        let message = listener.message();
        if message.topic == topic {
            return message;
        }
    }
}

fn config(kafka: &Kafka, mosquitto: &Mosquitto, place: &Path) -> String {
    let source = format!(
        "
[[source]]
type = \"sparkplug\"
name = \"plant\"
address = \"127.0.0.1:{}\"
username = \"{USER}\"
password = {{ env = \"MQTT_PASSWORD\" }}
host_id = \"tidegate\"
groups = [\"plant\"]
rebirth_interval = \"4 s\"
stream = \"{NAME}\"
",
        mosquitto.login_port
    );
    settings::head(NAME, place, &settings::plain(&kafka.brokers()))
        + &settings::stream(NAME, 1)
        + &source
}

/// Births by alias, a gap, deaths, a late will and a kill, in one run: a start of Kafka and
/// two of Tahu take most of its time.
#[test]
fn what_tahu_said_stands_in_kafka_under_the_names_that_it_meant() {
    let place = folder(NAME);
    let mosquitto = Mosquitto::started("sparkplug-tahu-mosquitto");
    let port = mosquitto.port;
    let (kafka, line1, line2) = std::thread::scope(|scope| {
        let kafka = scope.spawn(|| Kafka::started("sparkplug-tahu-kafka"));
        let line1 = scope.spawn(|| EdgeNode::started(port, "line1", "d1"));
        let line2 = scope.spawn(|| EdgeNode::waiting(port, "line2", "d1", "tidegate"));
        let all = (kafka.join(), line1.join(), line2.join());
        (all.0.expect("it starts"), all.1.expect("it starts"), all.2.expect("it starts"))
    });
    let mut listener = Listener::started(&mosquitto, "listener");
    let mut scene = Scene {
        agent: Agent::new(&place, &config(&kafka, &mosquitto, &place)),
        judge: Judge::of_topic(&kafka, NAME),
        line1: Told::new(line1, "line1"),
        line2: Told::new(line2, "line2"),
    };

    scene.agent.environment("MQTT_PASSWORD", PASSWORD);

    // Born before the agent is there, and born when its primary host is.
    scene.agent.start();
    scene.agent.wait_line(&["source is up"], DELIVERY);
    scene.line2.wait_births(0);
    scene.asks(&["data i16 101", "node uptime 102"]);
    scene.line1.say(&["all", "data i8 -3", "data f64 0.125", "data flag false", "data text ä"]);
    scene.line1.say(&["node uptime 103", "historical i32 104", "data i64 null"]);
    scene.line2.say(&["all", "data i16 201", "node uptime 202"]);
    scene.wait("every type by its alias");

    // A gap.
    scene.line1.node.tell("gap");
    scene.asks(&["data i16 105", "data i32 106"]);
    let birth = scene.line1.said.last("u8").clone();
    scene.line1.say(&["data i16 107", "node uptime 108"]);
    scene.wait("what came behind the gap");
    for held in ["105", "106"] {
        assert_read_after(&scene.judge.records, &birth, held);
    }

    // Births that change what aliases mean are lost between the broker and the agent.
    mosquitto.lose(&["spBv1.0/plant/NBIRTH/line1", "spBv1.0/plant/DBIRTH/line1/d1"]);
    let born = || mosquitto.count("'spBv1.0/plant/DBIRTH/line1/d1'");
    let before = born();
    scene.line1.unheard(&["other-aliases", "rebirth"]);
    wait_until("the births in the broker", DELIVERY, || (born() > before).then_some(()));
    mosquitto.lose(&[]);
    scene.asks(&["data i16 116", "data i32 117"]);
    scene.line1.say(&["data i16 118", "data i32 119"]);
    scene.wait("what came behind the births that were lost");

    // The device dies, and has other aliases when it is back.
    scene.line1.node.tell("device-death");
    scene.wait_stale("line1/d1", 1);
    scene.line1.say(&["device-birth", "data i16 109", "all"]);
    scene.wait("what came of the device that was born again");

    // The session is taken over, and the next one hears the old one's will.
    let mark = scene.line1.mark();
    mosquitto.publish("elsewhere", &["-i", "tahu-line1", "-m", "mine"]);
    let will = hear(&mut listener, "spBv1.0/plant/NDEATH/line1");
    scene.line1.wait_births(mark);
    scene.line1.say(&["data i16 110"]);
    scene.wait("what came of the next session");
    let (dead, asked) = (stale(&scene.judge.records, "line1").len(), scene.line1.node.asked());
    let file = folder("sparkplug-tahu-will").join("payload");
    std::fs::write(&file, &will.payload).expect("the folder is writable");
    mosquitto.publish(&will.topic, &["-f", file.to_str().expect("its name is UTF-8")]);
    scene.line1.say(&["data i16 111", "node uptime 112"]);
    let records = scene.wait("what came behind the late will");
    assert_eq!(stale(records, "line1").len(), dead, "a will of another session");

    // The agent is killed, and with it the primary host of the other node.
    scene.agent.kill();
    hear(&mut listener, "spBv1.0/plant/NDEATH/line2");
    let mark = scene.line2.mark();
    scene.agent.start();
    scene.agent.wait_line(&["source is up"], DELIVERY);
    scene.line2.wait_births(mark);
    scene.asks(&["data i16 113", "node uptime 114"]);
    assert_eq!(scene.line1.node.asked(), asked + 1, "not for the late will");
    scene.line1.say(&["data i16 115"]);
    scene.line2.say(&["data i16 203"]);
    scene.wait("what came after the kill");

    let deaths = stale(&scene.judge.records, "line1").len();
    scene.line1.node.kill();
    scene.wait_stale("line1", deaths + 1);
    scene.agent.stop();
    hear(&mut listener, "spBv1.0/plant/NDEATH/line2");

    let records = scene.judge.look();
    let as_stale = values::assert_true(records, &[&scene.line1.said, &scene.line2.said]);
    // One or both of those that came between the births with other aliases: nobody can know
    // which of the births they followed.
    assert!((1..=2).contains(&as_stale), "{as_stale} values without a name");
    judge::assert_ids(records);
    judge::assert_gap_free(records);
    let last = stale(records, "line1/d1").last().map(|record| record.value["i16"].clone());
    assert_eq!(last, Some(115.into()), "its last value");
}

/// The values that came behind a gap are read by the births that it asked for, and not
/// before.
fn assert_read_after(records: &[Record], birth: &Item, held: &str) {
    let place = |is_it: &dyn Fn(&Item) -> bool| {
        let place = records.iter().position(|record| values::items(record).iter().any(is_it));
        place.expect("it has arrived")
    };
    let born = place(&|item| item == birth);
    let read = place(&|item| item.device == birth.device && item.value == held);
    assert!(born < read, "{held} is record {read}, and its birth {born}");
}
