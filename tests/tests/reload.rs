//! SIGHUP: a changed file is taken over without a restart. Only what changed is
//! touched, nothing is lost or doubled, and a wrong file changes nothing.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use tidegate_e2e::agent::Agent;
use tidegate_e2e::certificates::Certificates;
use tidegate_e2e::judge::{self, Judge};
use tidegate_e2e::kafka::Kafka;
use tidegate_e2e::mosquitto::Mosquitto;
use tidegate_e2e::process::Signal;
use tidegate_e2e::publisher::Publisher;
use tidegate_e2e::table::Table;
use tidegate_e2e::{folder, settings};

/// Longest that anything here waits before it fails; nothing depends on it.
const PATIENCE: Duration = Duration::from_mins(1);

/// One of each for all; each test has a gateway and topics of its own.
static KAFKA: LazyLock<Kafka> = LazyLock::new(|| Kafka::started("reload-kafka"));
static MOSQUITTO: LazyLock<Mosquitto> = LazyLock::new(|| Mosquitto::started("reload-mosquitto"));

/// A source of the topics below `topic`, which are also its stream; `more` is what
/// else it says.
fn mqtt(name: &str, topic: &str, more: &str) -> String {
    let address = MOSQUITTO.address();
    format!(
        "\n[[source]]\ntype = \"mqtt\"\nname = \"{name}\"\naddress = \"{address}\"\n\
         stream = \"{topic}\"\n{more}\n\n[[source.subscription]]\ntopic = \"{topic}/{{device}}\"\n"
    )
}

fn head(gateway: &str, folder: &Path, kafka: &str) -> String {
    settings::head(gateway, folder, &(settings::plain(&KAFKA.brokers()) + kafka))
}

/// Takes the file over; fails the test if it is refused.
fn reload(agent: &mut Agent, config: &str) {
    let [done, refused] = ["configuration is taken over", "configuration is refused"];
    let before = [done, refused].map(|line| agent.lines(&[line]).len());
    agent.configure(config);
    agent.process().signal(Signal::HUP);
    tidegate_e2e::wait_until("the new configuration", PATIENCE, || {
        let now = [done, refused].map(|line| agent.lines(&[line]).len());
        assert_eq!(now.last(), before.last(), "it is refused");
        (now.first() > before.first()).then_some(())
    });
}

/// How often the source has logged in.
fn logins(gateway: &str, source: &str) -> usize {
    MOSQUITTO.count(&format!(" as tidegate-{gateway}-{source} "))
}

fn wait_subscribed(gateway: &str, source: &str) {
    MOSQUITTO.wait_line(&format!("Sending SUBACK to tidegate-{gateway}-{source}"), PATIENCE);
}

/// Messages of a topic, numbered from 1.
struct Plant {
    publisher: Publisher,
    topic: String,
}

impl Plant {
    fn new(topic: &str) -> Self {
        let publisher = Publisher::connect(MOSQUITTO.port, &format!("{topic}-publisher"));
        Self { publisher, topic: topic.to_owned() }
    }

    /// Publishes so many more; gives how many there are.
    fn publish(&mut self, count: u64) -> u64 {
        let first = self.publisher.acknowledged + 1;
        let messages: Vec<_> = (first..first + count)
            .map(|n| (format!("{}/d{}", self.topic, n % 7), format!(r#"{{"n":{n}}}"#).into_bytes()))
            .collect();
        self.publisher.publish(&messages);
        self.publisher.acknowledged
    }
}

/// All messages 1 to `count` are in the topic, each once.
fn assert_once(topic: &str, count: u64) {
    let mut judge = Judge::of_topic(&KAFKA, topic);
    judge.look_until(&format!("{count} messages in {topic}"), PATIENCE, |records| {
        records.len() as u64 >= count
    });
    judge::assert_each_once(topic, count, judge.records.iter().map(|record| record.number("n")));
}

#[test]
fn only_what_changed_is_touched_and_every_message_arrives_once() {
    let gateway = "reload-part";
    let folder = folder(gateway);
    let (kept, changed, gone, new) = ("part-kept", "part-changed", "part-gone", "part-new");
    let streams: String = [kept, changed, gone, new].map(|name| settings::stream(name, 1)).concat();
    let before = head(gateway, &folder, "")
        + &streams
        + &mqtt("kept", kept, "")
        + &mqtt("changed", changed, "")
        + &mqtt("gone", gone, "");
    let mut agent = Agent::new(&folder, &before);
    agent.start();
    let [mut to_kept, mut to_changed, mut to_gone] = [kept, changed, gone].map(Plant::new);
    for source in ["kept", "changed", "gone"] {
        wait_subscribed(gateway, source);
    }
    to_kept.publish(200);
    to_changed.publish(200);
    let of_gone = to_gone.publish(200);
    // What a source that goes has not read stays with its broker.
    assert_once(gone, of_gone);

    let after = head(gateway, &folder, "")
        + &streams
        + &mqtt("kept", kept, "")
        + &mqtt("changed", changed, "labels = { hall = \"2\" }")
        + &mqtt("new", new, "");
    reload(&mut agent, &after);
    wait_subscribed(gateway, "new");
    let of_kept = to_kept.publish(200);
    let of_changed = to_changed.publish(200);
    let of_new = Plant::new(new).publish(200);
    assert_once(kept, of_kept);
    assert_once(changed, of_changed);
    assert_once(gone, of_gone);
    assert_once(new, of_new);
    assert_eq!(logins(gateway, "kept"), 1, "an unchanged source keeps its connection");
    assert_eq!(logins(gateway, "changed"), 2);
    assert_eq!(logins(gateway, "gone"), 1);
    let mut judge = Judge::of_topic(&KAFKA, changed);
    let labelled = judge.look().iter().filter(|record| record.value.get("hall").is_some());
    assert!(labelled.count() >= 200, "the new label is in what came after");
    agent.stop();
}

#[test]
fn a_wrong_file_changes_nothing_and_says_why() {
    let gateway = "reload-wrong";
    let folder = folder(gateway);
    let good = head(gateway, &folder, "") + &settings::stream(gateway, 1) + &mqtt("b", gateway, "");
    let mut agent = Agent::new(&folder, &good);
    agent.start();
    wait_subscribed(gateway, "b");
    let mut plant = Plant::new(gateway);
    plant.publish(10);

    agent.configure(&good.replace("commit_interval", "comit_interval"));
    agent.process().signal(Signal::HUP);
    agent.wait_line(&["configuration is refused"], PATIENCE);
    assert!(!agent.lines(&["comit_interval", "commit_interval"]).is_empty(), "key and remedy");

    agent.configure(&good.replace(&format!("id = \"{gateway}\""), "id = \"another\""));
    agent.process().signal(Signal::HUP);
    agent.wait_line(&["configuration is refused", "gateway.id", "restart"], PATIENCE);

    assert_once(gateway, plant.publish(10));
    assert_eq!(logins(gateway, "b"), 1);
    // And a good one after them is taken.
    reload(&mut agent, &good.replace("\"200 ms\"", "\"100 ms\""));
    assert_once(gateway, plant.publish(10));
    assert_eq!(logins(gateway, "b"), 1);
    agent.stop();
}

#[test]
fn a_secret_that_changed_on_disk_is_read_again_and_one_that_did_not_changes_nothing() {
    let gateway = "reload-secret";
    let folder = folder(gateway);
    let file = folder.join("password");
    let write = |password: &str| std::fs::write(&file, password).expect("the folder is ours");
    write("of-the-first-year");
    let login = format!("username = \"gw\"\npassword = {{ file = \"{}\" }}", file.display());
    let other = "reload-secret-free";
    let config = head(gateway, &folder, "")
        + &settings::stream(gateway, 1)
        + &settings::stream(other, 1)
        + &mqtt("locked", gateway, &login)
        + &mqtt("free", other, "");
    let mut agent = Agent::new(&folder, &config);
    agent.start();
    wait_subscribed(gateway, "locked");
    wait_subscribed(gateway, "free");
    let [mut to_locked, mut to_free] = [gateway, other].map(Plant::new);
    to_locked.publish(50);
    to_free.publish(50);

    reload(&mut agent, &config);
    assert_eq!([logins(gateway, "locked"), logins(gateway, "free")], [1, 1]);

    write("of-the-second-year");
    reload(&mut agent, &config);
    tidegate_e2e::wait_until("the source logs in again", PATIENCE, || {
        (logins(gateway, "locked") == 2).then_some(())
    });
    assert_once(gateway, to_locked.publish(50));
    assert_once(other, to_free.publish(50));
    assert_eq!(logins(gateway, "free"), 1, "the other one keeps its connection");
    agent.stop();
}

#[test]
fn a_certificate_that_changed_on_disk_is_read_again() {
    let gateway = "reload-certificate";
    let folder = folder(gateway);
    // Of an authority that Kafka does not trust.
    let own = Certificates::make(&folder.join("tls"));
    let ours = &KAFKA.certificates;
    std::fs::copy(&ours.ca, &own.ca).expect("the folder is ours");
    let kafka = settings::mutual(&KAFKA.mutual(), &own, &own.client);
    let config = settings::head(gateway, &folder, &kafka)
        + &settings::stream(gateway, 1)
        + &mqtt("b", gateway, "");
    let mut agent = Agent::new(&folder, &config);
    agent.start();
    wait_subscribed(gateway, "b");
    let mut plant = Plant::new(gateway);
    plant.publish(50);
    agent.wait_line(&["cannot deliver to Kafka", "certificate unknown"], PATIENCE);

    for (from, to) in
        [(&ours.client.certificate, &own.client.certificate), (&ours.client.key, &own.client.key)]
    {
        std::fs::copy(from, to).expect("the folder is ours");
    }
    reload(&mut agent, &config);
    assert_once(gateway, plant.publish(50));
    assert_eq!(
        logins(gateway, "b"),
        1,
        "a source does not see that a certificate of Kafka changed"
    );
    agent.stop();
}

#[test]
fn kafka_is_connected_to_anew_and_a_backlog_of_a_stream_that_is_gone_is_sent() {
    let gateway = "reload-uplink";
    let folder = folder(gateway);
    let mut table = Table::make(&folder.join("plant.db"));
    table.write(5_000);
    let rows = "reload-rows";
    let streams = settings::stream(gateway, 1);
    let source = settings::sqlite("rows", &table.path, rows);
    // Nobody answers there: all of it stays in the file.
    let away = settings::head(gateway, &folder, &settings::plain("127.0.0.1:1"))
        + &streams
        + &settings::stream(rows, 1)
        + &source
        + &mqtt("b", gateway, "");
    let mut agent = Agent::new(&folder, &away);
    agent.start();
    wait_subscribed(gateway, "b");
    let mut plant = Plant::new(gateway);
    plant.publish(100);
    tidegate_e2e::wait_until("all rows in the file", PATIENCE, || {
        let file = rusqlite::Connection::open(settings::buffer(&folder)).ok()?;
        let count = "SELECT coalesce(sum(count), 0) FROM batch";
        let stored: i64 = file.query_row(count, [], |row| row.get(0)).ok()?;
        (stored == 5_100).then_some(())
    });
    // Kafka is another one, and the stream of the rows is no longer named.
    reload(&mut agent, &(head(gateway, &folder, "") + &streams + &mqtt("b", gateway, "")));
    assert_once(gateway, plant.publish(100));
    let mut judge = Judge::of_topic(&KAFKA, rows);
    judge.look_until("all rows", PATIENCE, |records| records.len() >= 5_000);
    judge::assert_each_once("rows", 5_000, judge.records.iter().map(|record| record.number("id")));
    // And back again: the cursor is where it was.
    table.write(10);
    let all = head(gateway, &folder, "compression = \"lz4\"\n")
        + &streams
        + &settings::stream(rows, 1)
        + &source
        + &mqtt("b", gateway, "");
    reload(&mut agent, &all);
    judge.look_until("the new rows", PATIENCE, |records| records.len() >= 5_010);
    judge::assert_each_once("rows", 5_010, judge.records.iter().map(|record| record.number("id")));
    assert_once(gateway, plant.publish(100));
    assert_eq!(logins(gateway, "b"), 1, "a source does not see that Kafka changed");
    agent.stop();
}

#[test]
fn what_is_stored_goes_to_the_topic_that_a_reload_corrects() {
    let gateway = "reload-topic";
    let folder = folder(gateway);
    let corrected = "reload-topic-corrected";
    // Its topic is not there, and nobody makes it.
    let stream = settings::stream_without_create(gateway);
    let before = head(gateway, &folder, "") + &stream + &mqtt("b", gateway, "");
    let mut agent = Agent::new(&folder, &before);
    agent.start();
    wait_subscribed(gateway, "b");
    let count = Plant::new(gateway).publish(200);
    agent.wait_line(&["stream stands aside", gateway], PATIENCE);

    let create = "create = { partitions = 1, replication = 1 }";
    let stream = stream + &format!("topic = \"{corrected}\"\n{create}\n");
    // Nothing more comes of it.
    reload(&mut agent, &(head(gateway, &folder, "") + &stream + &mqtt("b", gateway, "")));
    assert_once(corrected, count);
    assert_eq!(logins(gateway, "b"), 1, "a source does not see where its stream goes");
    agent.stop();
}
