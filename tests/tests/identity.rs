//! What happens to a buffer's file outside of the agent's hands: whatever it is,
//! nothing is lost, and no id stands for two events.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tidegate_e2e::agent::Agent;
use tidegate_e2e::judge::{self, Judge};
use tidegate_e2e::kafka::Kafka;
use tidegate_e2e::mosquitto::Mosquitto;
use tidegate_e2e::proxy::Mode;
use tidegate_e2e::publisher::Publisher;
use tidegate_e2e::{folder, outage, settings, wait_until};

const DELIVERY: Duration = Duration::from_mins(1);

/// How long another's transaction stands open while it is looked at the topic.
const OPEN: Duration = Duration::from_secs(3);

/// Messages of one step.
const STEP: u64 = 50;

/// A gateway whose only source is mosquitto: an acknowledgement says that a message
/// is in the file.
struct Gateway {
    name: &'static str,
    folder: PathBuf,
    /// A broker of its own: its line is the uplink.
    kafka: Kafka,
    mosquitto: Mosquitto,
    publisher: Publisher,
    agent: Agent,
    judge: Judge,
}

impl Gateway {
    fn start(name: &'static str) -> Self {
        let folder = folder(name);
        let kafka = Kafka::started(&format!("{name}-kafka"));
        let mosquitto = Mosquitto::started(&format!("{name}-mosquitto"));
        let config = settings::head(name, &folder, &settings::plain(&kafka.line.address()))
            + &settings::stream(name, 1)
            + &settings::mqtt("broker", &mosquitto.address(), name, "");
        let mut agent = Agent::new(&folder, &config);
        agent.start();
        mosquitto.wait_line("Sending SUBACK", DELIVERY);
        let publisher = Publisher::connect(mosquitto.port, "publisher");
        let judge = Judge::of_topic(&kafka, name);
        Self { name, folder, kafka, mosquitto, publisher, agent, judge }
    }

    fn offline(&self) {
        self.kafka.line.set(Mode::Refuse);
        self.kafka.line.cut();
    }

    fn online(&self) {
        self.kafka.line.set(Mode::Forward);
    }

    /// The next messages, until the agent has them in its file.
    fn publish(&mut self) {
        let first = self.publisher.acknowledged + 1;
        let messages: Vec<_> = (first..first + STEP)
            .map(|n| ("plant/l1/d1/temp".to_owned(), format!(r#"{{"n":{n}}}"#).into_bytes()))
            .collect();
        self.publisher.publish(&messages);
        let all = usize::try_from(self.publisher.acknowledged).expect("they are few");
        wait_until("the agent's acknowledgements", DELIVERY, || {
            (self.mosquitto.count("Received PUBACK from") >= all).then_some(())
        });
    }

    /// Everything that was published is in Kafka, at least once.
    fn wait_delivered(&mut self) {
        let all = self.publisher.acknowledged;
        self.judge.look_until("every message", DELIVERY, |records| {
            let mut numbers: Vec<_> = records.iter().map(|record| record.number("n")).collect();
            numbers.sort_unstable();
            numbers.dedup();
            numbers.into_iter().eq(1..=all)
        });
    }

    /// Ends, and looks at the ids of all that came.
    fn assert_identities(mut self) {
        self.wait_delivered();
        self.agent.stop();
        let records = self.judge.look();
        assert!(!records.is_empty(), "{} has delivered", self.name);
        judge::assert_ids(records);
    }
}

/// The file and what belongs to it.
fn files(folder: &Path) -> [PathBuf; 3] {
    let buffer = settings::buffer(folder);
    let beside = |end| PathBuf::from(format!("{}{end}", buffer.display()));
    [buffer.clone(), beside("-wal"), beside("-shm")]
}

fn remove(folder: &Path) {
    for file in files(folder) {
        if file.try_exists().expect("the folder is readable") {
            std::fs::remove_file(file).expect("the folder is writable");
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder can be made");
    remove(to);
    for (from, to) in files(from).iter().zip(files(to)) {
        // Of shared memory nothing belongs to an image.
        if from.try_exists().expect("it is readable") && !to.ends_with("buffer.db-shm") {
            std::fs::copy(from, to).expect("a file can be copied");
        }
    }
}

#[test]
fn a_restored_image_that_ran_offline_loses_nothing_and_reuses_no_id() {
    let mut gateway = Gateway::start("restored");
    gateway.publish();
    gateway.wait_delivered();

    // The image holds messages that are not in Kafka when it is taken.
    gateway.offline();
    gateway.publish();
    gateway.agent.kill();
    let image = gateway.folder.join("image");
    copy(&gateway.folder, &image);

    // Kafka's position goes on, past the image.
    gateway.online();
    gateway.agent.start();
    gateway.publish();
    gateway.wait_delivered();
    gateway.agent.stop();

    // The image runs offline: its numbers go past Kafka's position.
    copy(&image, &gateway.folder);
    gateway.offline();
    gateway.agent.start();
    gateway.publish();
    gateway.publish();
    gateway.agent.kill();

    gateway.online();
    gateway.agent.start();
    gateway.publish();
    gateway.assert_identities();
}

#[test]
fn a_new_file_under_the_old_id_loses_nothing_and_reuses_no_id() {
    let mut gateway = Gateway::start("replaced");
    gateway.publish();
    gateway.wait_delivered();
    gateway.agent.stop();

    remove(&gateway.folder);
    gateway.offline();
    gateway.agent.start();
    gateway.publish();
    gateway.agent.kill();

    gateway.online();
    gateway.agent.start();
    gateway.publish();
    gateway.assert_identities();
}

/// The start of a producer deletes what Kafka has: a file from before the sending, put
/// back, knows the epoch of the position and sends none of it again.
#[test]
fn an_older_file_sends_nothing_that_the_position_covers() {
    let mut gateway = Gateway::start("gwcovered");
    let image = gateway.folder.join("image");
    gateway.offline();
    gateway.publish();
    gateway.agent.kill();
    copy(&gateway.folder, &image);
    gateway.agent.start();
    gateway.online();
    gateway.wait_delivered();
    gateway.agent.stop();

    copy(&image, &gateway.folder);
    gateway.agent.start();
    gateway.publish();
    gateway.wait_delivered();
    gateway.agent.stop();
    let numbers = gateway.judge.look().iter().map(|record| record.number("n"));
    judge::assert_each_once("message", gateway.publisher.acknowledged, numbers);
}

/// A gateway at rest whose file is one from before the sending, put back, and whose
/// position Kafka has forgotten; `deliver` sees the sending.
fn forgotten(name: &'static str, deliver: impl FnOnce(&mut Gateway)) -> Gateway {
    let mut gateway = Gateway::start(name);
    let image = gateway.folder.join("image");
    gateway.publish();
    gateway.wait_delivered();
    gateway.offline();
    gateway.publish();
    gateway.agent.kill();
    copy(&gateway.folder, &image);
    deliver(&mut gateway);
    gateway.agent.stop();
    copy(&image, &gateway.folder);
    gateway.kafka.forget_group(&format!("tidegate-{name}"));
    gateway
}

/// Everything is there once, and the agent says what it found there.
fn assert_looked(mut gateway: Gateway) {
    gateway.wait_delivered();
    gateway.agent.stop();
    let numbers = gateway.judge.look().iter().map(|record| record.number("n"));
    judge::assert_each_once("message", gateway.publisher.acknowledged, numbers);
    let found = format!(r#""events":{STEP}"#);
    let looked = gateway.agent.lines(&["looked for what is in Kafka already", &found]);
    assert_eq!(looked.len(), 1, "what was found is told");
}

#[test]
fn a_lost_position_is_made_up_for_by_a_look_at_the_topics() {
    let mut gateway = forgotten("gwforgotten", |gateway| {
        gateway.agent.start();
        gateway.online();
        gateway.wait_delivered();
    });
    gateway.offline();
    gateway.agent.start();
    gateway.publish();
    gateway.online();
    assert_looked(gateway);
}

/// What another gateway's open transaction keeps from readers is waited for.
#[test]
fn a_look_sees_what_stands_behind_an_open_transaction_of_another() {
    let mut other = None;
    let mut gateway = forgotten("gwbehind", |gateway| {
        let producer: BaseProducer = gateway
            .kafka
            .client()
            .set("transactional.id", "another")
            .set("transaction.timeout.ms", "300000")
            .create()
            .expect("the settings are valid");
        producer.init_transactions(DELIVERY).expect("the broker answers");
        producer.begin_transaction().expect("nothing is open");
        producer.send(BaseRecord::<str, str>::to("gwbehind").payload("{}")).expect("it fits");
        producer.flush(DELIVERY).expect("the broker answers");
        other = Some(producer);
        gateway.online();
        gateway.agent.start();
        gateway.agent.wait_line(&["connected to Kafka"], DELIVERY);
    });
    gateway.agent.start();
    gateway.agent.wait_line(&["the position in Kafka is lost"], DELIVERY);
    outage(OPEN);
    let other: BaseProducer = other.expect("it was opened");
    other.abort_transaction(DELIVERY).expect("it is open");
    gateway.publish();
    assert_looked(gateway);
}
