//! What is wrong outside of the agent: each gives one clear line, stops nothing
//! else, and loses nothing.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use tidegate_e2e::agent::Agent;
use tidegate_e2e::certificates::Certificates;
use tidegate_e2e::chance::Chance;
use tidegate_e2e::judge::{self, Judge};
use tidegate_e2e::kafka::{self, Kafka};
use tidegate_e2e::mosquitto::Mosquitto;
use tidegate_e2e::publisher::Publisher;
use tidegate_e2e::table::Table;
use tidegate_e2e::{folder, settings};

const DELIVERY: Duration = Duration::from_mins(1);

/// One broker for all; each test has a gateway and topics of its own.
static KAFKA: LazyLock<Kafka> = LazyLock::new(|| Kafka::started("bad-input-kafka"));

/// Two tables: one whose stream is in trouble, one that must not notice.
struct Pair {
    folder: PathBuf,
    bad: Table,
    good: Table,
}

impl Pair {
    fn make(name: &str) -> Self {
        let folder = folder(name);
        let (bad, good) = (folder.join("bad.db"), folder.join("good.db"));
        Self { bad: Table::make(&bad), good: Table::make(&good), folder }
    }

    fn agent(&self, gateway: &str, kafka: &str, bad: &str, bad_stream: &str) -> Agent {
        let good = format!("{gateway}-good");
        let config = settings::head(gateway, &self.folder, kafka)
            + bad_stream
            + &settings::stream(&good, 1)
            + &settings::sqlite("bad", &self.bad.path, bad)
            + &settings::sqlite("good", &self.good.path, &good);
        let mut agent = Agent::new(&self.folder, &config);
        agent.environment("KAFKA_PASSWORD", kafka::PASSWORD);
        agent
    }
}

/// Waits until these ids, and no others, are in the topic.
fn wait_rows(topic: &str, count: u64) {
    let mut judge = Judge::of_topic(&KAFKA, topic);
    judge.look_until(&format!("{count} rows in {topic}"), DELIVERY, |records| {
        u64::try_from(records.len()).is_ok_and(|have| have >= count)
    });
    let ids = judge.records.iter().map(|record| record.number("id"));
    judge::assert_each_once(topic, count, ids);
}

/// Exactly one line of trouble has these words; it is a warning or an error.
fn assert_said_once(agent: &Agent, words: &[&str]) {
    let troubles: Vec<_> = agent
        .lines(words)
        .into_iter()
        .filter(|line| line.contains("WARN") || line.contains("ERROR"))
        .collect();
    assert_eq!(troubles.len(), 1, "one line with {words:?}: {troubles:#?}");
}

#[test]
fn a_stream_waits_for_its_missing_topic_while_the_others_go_on() {
    let mut pair = Pair::make("missing");
    let stream = settings::stream_without_create("missing-bad");
    let plain = settings::plain(&KAFKA.brokers());
    let mut agent = pair.agent("missing", &plain, "missing-bad", &stream);
    agent.start();
    pair.bad.write(10);
    pair.good.write(10);
    wait_rows("missing-good", 10);
    agent.wait_line(&["missing-bad"], DELIVERY);
    pair.good.write(10);
    wait_rows("missing-good", 20);
    assert_said_once(&agent, &["missing-bad"]);

    KAFKA.create_topic("missing-bad", &[]);
    wait_rows("missing-bad", 10);
    agent.stop();
}

#[test]
fn a_stream_whose_topic_is_forbidden_stands_aside_while_the_others_go_on() {
    let mut pair = Pair::make("forbidden");
    KAFKA.create_topic("forbidden-bad", &[]);
    KAFKA.deny_topic("forbidden-bad");
    let login = settings::password("scram-sha-256");
    let login = settings::login(&KAFKA.secure(), &KAFKA.certificates, &login);
    let stream = settings::stream_without_create("forbidden-bad");
    let mut agent = pair.agent("forbidden", &login, "forbidden-bad", &stream);
    agent.start();
    pair.bad.write(10);
    pair.good.write(10);
    agent.wait_line(&["forbidden-bad"], DELIVERY);
    wait_rows("forbidden-good", 10);
    pair.good.write(10);
    wait_rows("forbidden-good", 20);
    assert_said_once(&agent, &["forbidden-bad"]);
    agent.kill();

    // Nothing is lost: with another login it arrives.
    let mut agent =
        pair.agent("forbidden", &settings::plain(&KAFKA.brokers()), "forbidden-bad", &stream);
    agent.start();
    wait_rows("forbidden-bad", 10);
    agent.stop();
}

#[test]
fn a_wrong_password_is_waited_out_with_the_events_kept() {
    let mut pair = Pair::make("password");
    let login = settings::password("scram-sha-256");
    let login = settings::login(&KAFKA.secure(), &KAFKA.certificates, &login);
    let stream = settings::stream("password-bad", 1);
    let mut agent = pair.agent("password", &login, "password-bad", &stream);
    agent.environment("KAFKA_PASSWORD", "wrong");
    agent.start();
    pair.bad.write(10);
    agent.wait_line(&["login"], DELIVERY);
    assert!(agent.process().is_running(), "a refused login ends nothing");
    assert_said_once(&agent, &["login"]);
    agent.kill();

    agent.environment("KAFKA_PASSWORD", kafka::PASSWORD);
    agent.start();
    pair.good.write(10);
    wait_rows("password-bad", 10);
    wait_rows("password-good", 10);
    agent.stop();
}

#[test]
fn a_certificate_of_a_foreign_authority_is_waited_out_with_the_events_kept() {
    let mut pair = Pair::make("foreign");
    let foreign = Certificates::make(&pair.folder.join("foreign"));
    let stream = settings::stream("foreign-bad", 1);
    let mutual = |client| settings::mutual(&KAFKA.mutual(), &KAFKA.certificates, client);
    let mut agent = pair.agent("foreign", &mutual(&foreign.client), "foreign-bad", &stream);
    agent.start();
    pair.bad.write(10);
    agent.wait_line(&["certificate"], DELIVERY);
    assert!(agent.process().is_running(), "a refused certificate ends nothing");
    assert_said_once(&agent, &["certificate"]);
    agent.kill();

    let right = mutual(&KAFKA.certificates.client);
    let mut agent = pair.agent("foreign", &right, "foreign-bad", &stream);
    agent.start();
    pair.good.write(10);
    wait_rows("foreign-bad", 10);
    wait_rows("foreign-good", 10);
    agent.stop();
}

#[test]
fn a_record_too_large_for_its_topic_goes_alone() {
    let mut pair = Pair::make("large");
    KAFKA.create_topic("large-bad", &[("max.message.bytes", "3000")]);
    let stream = settings::stream_without_create("large-bad");
    let plain = settings::plain(&KAFKA.brokers());
    let mut agent = pair.agent("large", &plain, "large-bad", &stream);
    // All of it stands in the table before the agent looks: it is one batch.
    pair.bad.write(20);
    // Nothing that compresses: the limit is one of bytes on the line.
    let noise = Chance::of(1).letters(20_000);
    pair.bad.write_note(&noise);
    pair.bad.write(20);
    pair.good.write(10);
    agent.start();
    wait_rows("large-good", 10);

    let mut judge = Judge::of_topic(&KAFKA, "large-bad");
    judge.look_until("all but the large one", DELIVERY, |records| records.len() >= 40);
    agent.stop();
    let ids: Vec<_> = judge.look().iter().map(|record| record.number("id")).collect();
    assert_eq!(ids, (1..=41).filter(|id| *id != 21).collect::<Vec<_>>());
    assert_said_once(&agent, &["dead letter"]);
}

#[test]
fn a_payload_that_is_no_json_and_one_of_twenty_megabytes_stop_nothing() {
    let folder = folder("payload");
    let mosquitto = Mosquitto::started("payload-mosquitto");
    let config = settings::head("payload", &folder, &settings::plain(&KAFKA.brokers()))
        + &settings::stream("payload", 1)
        + &settings::mqtt("broker", &mosquitto.address(), "payload", "");
    let mut agent = Agent::new(&folder, &config);
    agent.start();
    mosquitto.wait_line("Sending SUBACK", DELIVERY);
    let topic = "plant/l1/d1/temp".to_owned();
    let row = |id: u64| (topic.clone(), format!(r#"{{"id":{id}}}"#).into_bytes());
    let mut publisher = Publisher::connect(mosquitto.port, "publisher");
    publisher.publish(&[row(1), (topic.clone(), b"21.5 degrees".to_vec()), row(2)]);
    publisher.publish(&[(topic.clone(), vec![b'x'; 20 << 20]), row(3)]);
    wait_rows("payload", 3);
    agent.stop();
}

#[test]
fn an_unknown_key_is_told_with_what_would_be_right_and_exits_with_78() {
    let folder = folder("unknown-key");
    let config = settings::head("unknown", &folder, &settings::plain("127.0.0.1:1"))
        .replace("commit_interval", "commit_intervall");
    let mut agent = Agent::new(&folder, &config);
    agent.launch("run");
    let status = agent.wait();
    assert_eq!(status.code(), Some(78));
    let lines = agent.lines(&["commit_intervall", "did you mean `commit_interval`"]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("gateway.toml:7")), "{lines:?}");
}
