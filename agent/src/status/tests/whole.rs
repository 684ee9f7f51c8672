//! The port of a whole agent, before librdkafka's mock cluster.

use std::time::Duration;

use super::*;
use crate::agent::Agent;
use crate::config::Config as Whole;
use crate::forward::tests::cluster;

/// Longest that anything here waits before it fails; nothing depends on it.
const PATIENCE: Duration = Duration::from_mins(1);

fn config(folder: &std::path::Path, brokers: &str, listen: &str) -> Whole {
    let text = format!(
        "[gateway]\nid = \"gw1\"\nshutdown_grace = \"2 s\"\n\
         [buffer]\npath = \"{}\"\nmin_free_disk = \"0 B\"\n[kafka]\nbrokers = \"{brokers}\"\n\
         [system]\nenabled = false\n",
        folder.join("buffer.db").display()
    );
    let loaded = crate::config::load_str(&text, "gateway.toml", std::iter::empty()).unwrap();
    let status = Config { listen: Some(listen.to_owned()) };
    Whole { status, ..loaded.config }
}

/// A buffer with so many events for the topic `plant`.
async fn fill(config: &Whole, events: i64) {
    let mut flows = Flows::default();
    let flow = flows.id("plant", Lane::Live);
    let file = Buffer::open(&config.buffer, "gw1", Clock::system()).unwrap();
    let source = SourceInfo { name: "s".into(), labels: Vec::new() };
    let (collector, mut intakes) = collect::start(file, vec![source], flows).unwrap();
    let event = |n| Event {
        flow,
        device: "d".into(),
        time: Timestamp(n),
        read_at: Some(Clock::system().now()),
        quality: Quality::Good,
        fields: Vec::new(),
    };
    let delivery =
        Delivery { events: (0..events).map(event).collect(), urgent: true, ..Delivery::default() };
    let ticket = intakes[0].deliver(delivery).await.unwrap();
    intakes[0].wait_committed(ticket).await.unwrap();
    collector.close();
}

async fn sent(agent: &Agent) {
    let mut buffer = agent.buffer();
    let empty = buffer.wait_for(|stats| stats.batches == 0 && stats.committed > 0);
    drop(tokio::time::timeout(PATIENCE, empty).await.expect("all is sent").unwrap());
}

/// The value of a sample without labels.
async fn figure(address: SocketAddr, name: &str) -> f64 {
    let answer = get(address, "/metrics").await;
    let mut lines = answer.body.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name}: {answer:?}")).parse().unwrap()
}

#[tokio::test]
async fn what_keeps_kafka_away_is_a_reason_until_it_is_back_and_all_was_delivered() {
    let mock = cluster(&["plant"]);
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), &mock.bootstrap_servers(), "127.0.0.1:0");
    fill(&config, 50).await;
    mock.broker_down(1).unwrap();
    let agent = Agent::start(config).unwrap();
    let address = agent.status().unwrap();
    let away = get(address, "/readyz").await;
    assert_eq!(away.status, 503);
    assert!(away.body.contains("\"part\":\"kafka\",\"what\":\"not reached"), "{}", away.body);
    assert_eq!(get(address, "/healthz").await.status, 200, "a line that is down is no illness");
    assert!(figure(address, "tidegate_buffer_events").await >= 50.0);
    assert!(figure(address, "tidegate_forward_delivered_events_total").await < 1.0);

    mock.broker_up(1).unwrap();
    sent(&agent).await;
    let back = get(address, "/readyz").await;
    assert_eq!((back.status, &*back.body), (200, "{\"reasons\":[],\"status\":\"ready\"}\n"));
    assert!((figure(address, "tidegate_forward_delivered_events_total").await - 50.0).abs() < 0.1);
    assert!(figure(address, "tidegate_buffer_events").await < 1.0);
    assert!(figure(address, "tidegate_forward_transactions_total").await >= 1.0);
    assert!(figure(address, "tidegate_source_to_kafka_seconds_count").await >= 1.0);
    // By when they were read, and not by what their payload says.
    assert!(figure(address, "tidegate_source_to_kafka_seconds_sum").await < 3_600.0);
    assert_eq!(agent.stop().await.unwrap(), 0);
    assert!(TcpStream::connect(address).await.is_err(), "the port goes with the agent");
}

#[tokio::test]
async fn a_port_that_is_taken_stops_nothing() {
    let mock = cluster(&["plant"]);
    let folder = tempfile::tempdir().unwrap();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = other.local_addr().unwrap().to_string();
    let config = config(folder.path(), &mock.bootstrap_servers(), &listen);
    fill(&config, 5).await;
    let agent = Agent::start(config).unwrap();
    assert_eq!(agent.status(), None);
    sent(&agent).await;
    assert_eq!(agent.stop().await.unwrap(), 0);
}

#[tokio::test]
async fn without_a_word_nothing_listens() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "localhost:1", "");
    let config = Whole { status: Config::default(), ..config };
    let agent = Agent::start(config).unwrap();
    assert_eq!(agent.status(), None);
    agent.stop().await.unwrap();
}
