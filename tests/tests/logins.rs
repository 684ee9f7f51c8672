//! Every way to log in to Kafka, with the right secret.

use std::sync::LazyLock;
use std::time::Duration;

use tidegate_e2e::agent::Agent;
use tidegate_e2e::judge::{self, Judge};
use tidegate_e2e::kafka::{self, Kafka};
use tidegate_e2e::mosquitto::{self, Mosquitto};
use tidegate_e2e::publisher::Publisher;
use tidegate_e2e::table::Table;
use tidegate_e2e::token::Tokens;
use tidegate_e2e::{folder, settings};

const DELIVERY: Duration = Duration::from_mins(1);

/// One broker for all; each test has a gateway and a topic of its own.
static KAFKA: LazyLock<Kafka> = LazyLock::new(|| Kafka::started("logins-kafka"));

/// An agent with these lines in `[kafka]` delivers ten rows.
fn check(name: &str, kafka: &str) {
    let folder = folder(&format!("login-{name}"));
    let mut table = Table::make(&folder.join("machine.db"));
    let config = settings::head(name, &folder, kafka)
        + &settings::stream(name, 1)
        + &settings::sqlite("press", &table.path, name);
    let mut agent = Agent::new(&folder, &config);
    agent.environment("KAFKA_PASSWORD", kafka::PASSWORD);
    agent.start();
    table.write(10);
    let mut judge = Judge::of_topic(&KAFKA, name);
    judge.look_until("ten rows", DELIVERY, |records| records.len() >= 10);
    agent.stop();
    let ids = judge.look().iter().map(|record| record.number("id"));
    judge::assert_each_once("rows", 10, ids);
}

#[test]
fn plain_delivers() {
    check(
        "plain",
        &settings::login(&KAFKA.secure(), &KAFKA.certificates, &settings::password("plain")),
    );
}

#[test]
fn scram_sha_256_delivers() {
    let login = settings::password("scram-sha-256");
    check("scram256", &settings::login(&KAFKA.secure(), &KAFKA.certificates, &login));
}

#[test]
fn scram_sha_512_delivers() {
    let login = settings::password("scram-sha-512");
    check("scram512", &settings::login(&KAFKA.secure(), &KAFKA.certificates, &login));
}

#[test]
fn a_client_certificate_delivers() {
    let certificates = &KAFKA.certificates;
    check("mutual", &settings::mutual(&KAFKA.mutual(), certificates, &certificates.client));
}

#[test]
fn oauthbearer_delivers_with_a_token_of_the_endpoint() {
    let tokens = Tokens::start(kafka::USER);
    let login = format!(
        "mechanism = \"oauthbearer\", token_endpoint = \"{}\", client_id = \"{}\", \
         client_secret = {{ env = \"KAFKA_PASSWORD\" }}",
        tokens.url(),
        kafka::USER
    );
    check("oauthbearer", &settings::login(&KAFKA.secure(), &KAFKA.certificates, &login));
    assert!(tokens.given() > 0);
}

/// An agent with these lines in its MQTT source takes ten messages.
fn check_mqtt(name: &str, address: &str, mosquitto: &Mosquitto, more: &str) {
    let folder = folder(&format!("login-{name}"));
    let config = settings::head(name, &folder, &settings::plain(&KAFKA.brokers()))
        + &settings::stream(name, 1)
        + &settings::mqtt("broker", address, name, more);
    let mut agent = Agent::new(&folder, &config);
    agent.environment("MQTT_PASSWORD", mosquitto::PASSWORD);
    agent.start();
    mosquitto.wait_line("Sending SUBACK", DELIVERY);
    let message = |n| ("plant/l1/d1/temp".to_owned(), format!(r#"{{"n":{n}}}"#).into_bytes());
    let messages: Vec<_> = (1..=10).map(message).collect();
    Publisher::connect(mosquitto.port, "publisher").publish(&messages);
    let mut judge = Judge::of_topic(&KAFKA, name);
    judge.look_until("ten messages", DELIVERY, |records| records.len() >= 10);
    agent.stop();
    let numbers = judge.look().iter().map(|record| record.number("n"));
    judge::assert_each_once("messages", 10, numbers);
}

#[test]
fn an_mqtt_broker_that_asks_for_a_client_certificate_is_read() {
    let mosquitto = Mosquitto::started("mqtt-tls-mosquitto");
    let certificates = &mosquitto.certificates;
    let tls = format!(
        "tls = {{ ca = \"{}\", certificate = \"{}\", key = \"{}\" }}",
        certificates.ca.display(),
        certificates.client.certificate.display(),
        certificates.client.key.display()
    );
    check_mqtt("mqtt-tls", &format!("localhost:{}", mosquitto.tls_port), &mosquitto, &tls);
}

#[test]
fn an_mqtt_broker_that_asks_for_a_password_is_read() {
    let mosquitto = Mosquitto::started("mqtt-password-mosquitto");
    let login =
        format!("username = \"{}\"\npassword = {{ env = \"MQTT_PASSWORD\" }}", mosquitto::USER);
    check_mqtt("mqtt-password", &format!("127.0.0.1:{}", mosquitto.login_port), &mosquitto, &login);
}
