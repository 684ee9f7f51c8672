//! The harness alone: the servers start, end as they are told to, and keep what
//! they should.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tidegate_e2e::judge::Judge;
use tidegate_e2e::kafka::Kafka;
use tidegate_e2e::mosquitto::Mosquitto;

const SEND: Duration = Duration::from_secs(60);

#[test]
fn kafka_keeps_its_records_over_stop_and_crash() {
    let mut kafka = Kafka::started("harness-kafka");
    kafka.create_topic("kept", &[]);
    let mut judge = Judge::new(&kafka);
    for (round, end) in [(1, Kafka::stop as fn(&mut Kafka)), (2, Kafka::kill)] {
        let producer: BaseProducer = kafka.client().set("acks", "all").create().unwrap();
        let value = format!(r#"{{"round":{round}}}"#);
        producer.send(BaseRecord::to("kept").key("a").payload(&value)).unwrap();
        producer.flush(SEND).unwrap();
        end(&mut kafka);
        kafka.start();
        judge.look_until("both rounds", SEND, |records| records.len() == round);
    }
}

#[test]
fn mosquitto_starts_again_on_its_ports() {
    let mut mosquitto = Mosquitto::started("harness-mosquitto");
    mosquitto.stop();
    mosquitto.start();
}
