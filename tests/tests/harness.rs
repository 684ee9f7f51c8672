//! The harness alone: the servers start, end as they are told to, and keep what
//! they should; the judge sees what is committed, and only that.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tidegate_e2e::certificates::Certificates;
use tidegate_e2e::folder;
use tidegate_e2e::judge::Judge;
use tidegate_e2e::kafka::Kafka;
use tidegate_e2e::modbus::Modbus;
use tidegate_e2e::mosquitto::Mosquitto;
use tidegate_e2e::publisher::Publisher;
use tidegate_e2e::table::Table;

const SEND: Duration = Duration::from_mins(1);

#[test]
fn the_judge_reads_what_is_committed_over_stop_and_crash_of_kafka() {
    let mut kafka = Kafka::started("harness-kafka");
    kafka.create_topic("kept", &[]);
    let mut judge = Judge::new(&kafka);
    for (round, end) in [(1, Kafka::stop as fn(&mut Kafka)), (2, Kafka::kill)] {
        let producer: BaseProducer =
            kafka.client().set("transactional.id", "harness").create().unwrap();
        producer.init_transactions(SEND).unwrap();
        for commit in [false, true] {
            producer.begin_transaction().unwrap();
            let value = format!(r#"{{"round":{round},"committed":{commit}}}"#);
            producer.send(BaseRecord::to("kept").key("a").payload(&value)).unwrap();
            producer.flush(SEND).unwrap();
            if commit {
                producer.commit_transaction(SEND).unwrap();
            } else {
                producer.abort_transaction(SEND).unwrap();
            }
        }
        // The commit is answered before its marker stands in the log.
        judge.look_until("its commit", SEND, |records| records.len() == round);
        end(&mut kafka);
        kafka.start();
    }
    let mut judge = Judge::new(&kafka);
    assert_eq!(judge.look().len(), 2);
    assert!(judge.records.iter().all(|record| record.value["committed"] == true));
}

#[test]
fn mosquitto_acknowledges_and_starts_again_on_its_ports() {
    let mut mosquitto = Mosquitto::started("harness-mosquitto");
    for round in 1..=2 {
        let mut publisher = Publisher::connect(mosquitto.port, "harness");
        let messages: Vec<_> = (0..500).map(|n| (format!("a/{n}"), vec![b'x'; 200])).collect();
        publisher.publish(&messages);
        assert_eq!(publisher.acknowledged, 500, "round {round}");
        mosquitto.stop();
        mosquitto.start();
    }
}

#[test]
fn a_plant_answers_its_requests_with_their_number() {
    use std::io::{Read as _, Write as _};
    let plant = Modbus::start();
    let mut stream = std::net::TcpStream::connect(plant.address()).unwrap();
    for round in 1..=2 {
        stream.write_all(&[0, 7, 0, 0, 0, 6, 1, 3, 0, 0, 0, 2]).unwrap();
        let mut answer = [0; 13];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [0, 7, 0, 0, 0, 7, 1, 3, 4, 0, round, 0, round]);
    }
    assert_eq!(plant.requests(1), 2);
}

#[test]
fn a_table_grows_by_numbered_rows() {
    let mut table = Table::make(&folder("harness-table").join("machine.db"));
    table.write(10);
    table.write(5);
    let reader = rusqlite::Connection::open(&table.path).unwrap();
    let count = "SELECT count(*) || ' ' || max(id) FROM log";
    let rows: String = reader.query_row(count, (), |row| row.get(0)).unwrap();
    assert_eq!(rows, "15 15");
}

#[test]
fn every_listener_of_kafka_takes_its_login_and_no_other() {
    let kafka = Kafka::started("harness-logins");
    let ca = kafka.certificates.ca.to_str().unwrap();
    let sasl = |mechanism, password| {
        let mut client = rdkafka::ClientConfig::new();
        client
            .set("bootstrap.servers", kafka.secure())
            .set("security.protocol", "sasl_ssl")
            .set("ssl.ca.location", ca)
            .set("sasl.mechanisms", mechanism)
            .set("sasl.username", tidegate_e2e::kafka::USER)
            .set("sasl.password", password);
        client
    };
    let mutual = |pair: &tidegate_e2e::certificates::Pair| {
        let mut client = rdkafka::ClientConfig::new();
        client
            .set("bootstrap.servers", kafka.mutual())
            .set("security.protocol", "ssl")
            .set("ssl.ca.location", ca)
            .set("ssl.certificate.location", pair.certificate.to_str().unwrap())
            .set("ssl.key.location", pair.key.to_str().unwrap());
        client
    };
    let mut line = rdkafka::ClientConfig::new();
    line.set("bootstrap.servers", kafka.line.address());
    let is_taken = |client: &rdkafka::ClientConfig, within: u64| {
        let consumer: BaseConsumer = client.create().unwrap();
        consumer.fetch_metadata(None, Duration::from_secs(within)).is_ok()
    };
    let password = tidegate_e2e::kafka::PASSWORD;
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        assert!(is_taken(&sasl(mechanism, password), 60), "{mechanism}");
    }
    assert!(is_taken(&mutual(&kafka.certificates.client), 60));
    assert!(is_taken(&line, 60));
    // Refused, it would be tried again for ever: the time is how long we listen.
    assert!(!is_taken(&sasl("SCRAM-SHA-256", "wrong"), 2));
    let foreign = Certificates::make(&folder("harness-foreign"));
    assert!(!is_taken(&mutual(&foreign.client), 2));
}
