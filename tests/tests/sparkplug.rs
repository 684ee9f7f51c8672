//! The Sparkplug host against a real mosquitto and an edge node that loses messages, dies
//! and comes back with other aliases, while the agent is killed.

use std::process::Command;
use std::time::Duration;

use tidegate_e2e::agent::Agent;
use tidegate_e2e::edge::Edge;
use tidegate_e2e::judge::{self, Judge};
use tidegate_e2e::kafka::Kafka;
use tidegate_e2e::mosquitto::Mosquitto;
use tidegate_e2e::process::Process;
use tidegate_e2e::sparkplug::{self, Said};
use tidegate_e2e::{folder, settings, wait_until};

const DELIVERY: Duration = Duration::from_mins(1);

/// Waits until all of this has arrived.
fn wait(judge: &mut Judge, what: &str, said: &[Said]) {
    judge.look_until(what, DELIVERY, |records| sparkplug::has_all(records, said));
}

#[test]
fn values_carry_the_names_that_were_meant_over_gaps_a_kill_and_another_session() {
    let name = "sparkplug";
    let folder = folder(name);
    let kafka = Kafka::started("sparkplug-kafka");
    let mosquitto = Mosquitto::started("sparkplug-mosquitto");
    let source = format!(
        "
[[source]]
type = \"sparkplug\"
name = \"cell\"
address = \"{}\"
host_id = \"tidegate\"
groups = [\"plant\"]
stream = \"{name}\"
",
        mosquitto.address()
    );
    let config = settings::head(name, &folder, &settings::plain(&kafka.brokers()))
        + &settings::stream(name, 1)
        + &source;
    let mut agent = Agent::new(&folder, &config);
    let mut listen = Command::new("mosquitto_sub");
    let port = mosquitto.port.to_string();
    listen.args(["-p", &port, "-i", "listener", "-t", "spBv1.0/STATE/#", "-v"]);
    let listener = Process::start("mosquitto_sub", &listen);
    mosquitto.wait_line("Sending SUBACK to listener", DELIVERY);

    // Born before the agent is there: its data waits for the rebirth.
    let mut edge = Edge::connect(mosquitto.port, "plant", "line1", 0);
    edge.birth();
    mosquitto.wait_line("'spBv1.0/plant/DBIRTH/line1/pump'", DELIVERY);
    edge.said.clear();
    agent.start();
    listener.wait_line("spBv1.0/STATE/tidegate {\"online\":true", DELIVERY);
    edge.data(5);
    edge.wait_command();
    edge.birth();
    edge.data(20);
    let mut judge = Judge::of_topic(&kafka, name);
    wait(&mut judge, "what waited for its birth", &edge.said);
    agent.kill();
    listener.wait_line("spBv1.0/STATE/tidegate {\"online\":false", DELIVERY);
    agent.start();
    agent.wait_line(&["source is up"], DELIVERY);
    edge.data(5);
    edge.wait_command();
    edge.birth();
    edge.data(20);
    wait(&mut judge, "what came after the kill", &edge.said);

    // It dies, and the next session has the aliases the other way round.
    let mut said = edge.vanish();
    judge.look_until("stale values", DELIVERY, |records| !sparkplug::stale(records).is_empty());
    let mut edge = Edge::connect(mosquitto.port, "plant", "line1", 1);
    edge.birth();
    edge.data(20);
    wait(&mut judge, "the other session", &edge.said);
    // A gap: the node was asked a moment ago, so that this request waits; a birth by
    // itself is as good.
    edge.lose();
    edge.data(5);
    edge.birth();
    edge.data(5);
    wait(&mut judge, "what came behind the gap", &edge.said);
    agent.stop();
    wait_until("a goodbye beside the will", DELIVERY, || {
        let offline = |line: &str| line.contains("{\"online\":false");
        (listener.log.matching(0, offline).len() == 2).then_some(())
    });

    said.extend(edge.said.clone());
    let records = judge.look();
    sparkplug::assert_true(records, &said);
    judge::assert_ids(records);
    let stale = sparkplug::stale(records);
    let last = |device: &str, metric: &str| {
        let of = |said: &&Said| said.device == device && said.metric == metric;
        said.iter()
            .filter(of)
            .map(|said| said.value)
            .find(|value| stale.get(&(device.to_owned(), metric.to_owned())) == Some(value))
    };
    for device in ["line1", "line1/pump"] {
        for metric in ["a", "b"] {
            assert!(last(device, metric).is_some(), "{device} {metric} was stale: {stale:?}");
        }
    }
}
