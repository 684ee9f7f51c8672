use super::*;

fn config(folder: &std::path::Path) -> Config {
    let path = folder.join("gateway.toml");
    let text = format!(
        "[gateway]\nid = \"gw1\"\nshutdown_grace = \"200 ms\"\n\
         [buffer]\npath = \"{}\"\n[kafka]\nbrokers = \"localhost:1\"\n\
         [system]\nenabled = false\n",
        folder.join("buffer.db").display()
    );
    std::fs::write(&path, text).unwrap();
    crate::config::load(&path).unwrap().config
}

use crate::collect::{Delivery, SourceInfo};
use crate::control::words::{Draining, Letters, Moved};
use crate::control::{Request, put};
use crate::event::{Event, Quality, Timestamp};
use crate::flow::Lane;
use crate::forward::tests::{cluster, read};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

/// Longest that anything here waits before it fails; nothing depends on it.
const PATIENCE: Duration = Duration::from_mins(1);

/// A configuration for these brokers, and a buffer with so many events for
/// the topic `plant`.
async fn filled(folder: &std::path::Path, brokers: &str, events: i64) -> Config {
    let mut config = config(folder);
    config.kafka = serde_json::from_value(serde_json::json!({ "brokers": brokers })).unwrap();
    let mut flows = Flows::default();
    let flow = flows.id("plant", Lane::Live);
    let file = Buffer::open(&config.buffer, "gw1", Clock::system()).unwrap();
    let source = SourceInfo { name: "s".into(), labels: Vec::new() };
    let (collector, mut intakes) = collect::start(file, vec![source], flows).unwrap();
    let field = crate::event::Field {
        name: "n".into(),
        unit: None,
        value: crate::event::Value::U64(7),
        quality: None,
    };
    let event = |time| Event {
        flow,
        device: "d".into(),
        time: Timestamp(time),
        read_at: None,
        quality: Quality::Good,
        fields: vec![field.clone()],
    };
    let events = (0..events).map(event).collect();
    let delivery = Delivery { events, urgent: true, ..Delivery::default() };
    let ticket = intakes[0].deliver(delivery).await.unwrap();
    intakes[0].wait_committed(ticket).await.unwrap();
    collector.close();
    config
}

/// As a command does it, from a thread of its own.
async fn asked<T: serde::de::DeserializeOwned + Send + 'static>(
    config: &Config,
    request: Request,
) -> T {
    let config = config.clone();
    let put = move || put(&config, &request).unwrap();
    let answer = tokio::task::spawn_blocking(put).await.unwrap();
    serde_json::from_str(answer.get()).unwrap()
}

async fn until(agent: &mut Agent, holds: impl FnMut(&buffer::Stats) -> bool) {
    let waited = tokio::time::timeout(PATIENCE, agent.buffer.wait_for(holds)).await;
    drop(waited.expect("the agent gets there").unwrap());
}

#[tokio::test]
async fn a_refused_event_is_sent_again_over_the_socket_once_under_its_old_id() {
    let mock = cluster(&["plant"]);
    let folder = tempfile::tempdir().unwrap();
    let config = filled(folder.path(), &mock.bootstrap_servers(), 1).await;
    // Refused with others, as far as is known, and then alone.
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    mock.request_errors(RDKafkaApiKey::Produce, &[refused, refused]);
    let mut agent = Agent::start(config.clone()).unwrap();
    until(&mut agent, |stats| stats.dead_letters == 1 && stats.batches == 0).await;
    let listed: Letters = asked(&config, Request::Letters { before: None, limit: 9 }).await;
    let letter = &listed.letters[0];
    assert_eq!((listed.total, letter.stream.as_deref()), (1, Some("plant")));
    assert_eq!(read(&mock.bootstrap_servers(), "plant"), []);

    let all = Request::Requeue { which: buffer::Which::All };
    let moved: Moved = asked(&config, all.clone()).await;
    assert_eq!((moved.done, moved.skipped.len(), moved.left), (1, 0, 0));
    until(&mut agent, |stats| stats.batches == 0).await;
    let again: Moved = asked(&config, all).await;
    assert_eq!(again.done, 0);
    assert_eq!(agent.stop().await.unwrap(), 0);
    let found = read(&mock.bootstrap_servers(), "plant");
    let ids: Vec<String> = found.iter().map(|(_, id, _)| format!("{id} for plant")).collect();
    assert_eq!(ids, std::slice::from_ref(&letter.origin));
}

#[tokio::test]
async fn a_drain_asked_for_over_the_socket_leaves_nothing() {
    let mock = cluster(&["plant"]);
    let folder = tempfile::tempdir().unwrap();
    let config = filled(folder.path(), &mock.bootstrap_servers(), 50).await;
    let mut agent = Agent::start(config.clone()).unwrap();
    let mut requests = agent.drain_requests();
    let _: Draining = asked(&config, Request::Drain { within_ms: 60_000 }).await;
    let within = requests.wait_for(Option::is_some).await.unwrap().unwrap();
    assert_eq!(within, PATIENCE);
    assert!(agent.drain(within).await.unwrap());
    assert_eq!(agent.stop().await.unwrap(), 0);
    assert_eq!(read(&mock.bootstrap_servers(), "plant").len(), 50);
}

#[tokio::test]
async fn a_drain_that_finds_no_broker_gives_up_and_keeps_all() {
    let folder = tempfile::tempdir().unwrap();
    let config = filled(folder.path(), "127.0.0.1:1", 5).await;
    let mut agent = Agent::start(config).unwrap();
    assert!(!agent.drain(Duration::from_millis(200)).await.unwrap());
    assert_eq!(agent.stop().await.unwrap(), 5);
}

#[test]
fn a_stop_needs_none_of_the_threads_that_sources_may_block() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let (release, stuck) = std::sync::mpsc::sync_channel::<()>(1);
    runtime.block_on(async {
        let stuck = tokio::task::spawn_blocking(move || stuck.recv());
        let agent = Agent::start(config(folder.path())).unwrap();
        assert_eq!(agent.stop().await.unwrap(), 0);
        assert!(!stuck.is_finished());
    });
    drop(release);
}

/// Damages the file, and reads in it.
fn damage(folder: &std::path::Path, agent: &Agent) {
    destroy(folder);
    let read = agent.collector.store().reader().and_then(|mut reader| reader.flows());
    read.unwrap_err();
}

/// Damages the file where nobody looks at the moment.
fn destroy(folder: &std::path::Path) {
    // All that is written so far stands in the -wal.
    let wal = folder.join("buffer.db-wal");
    let length = usize::try_from(std::fs::metadata(&wal).unwrap().len()).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&wal).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![0xff; length - 32], 32).unwrap();
}

#[tokio::test]
async fn the_file_is_read_whole_a_minute_after_each_start_and_each_day() {
    tokio::time::pause();
    for days in [0, 3] {
        let folder = tempfile::tempdir().unwrap();
        let mut agent = Agent::start(config(folder.path())).unwrap();
        tokio::time::sleep(Duration::from_hours(24 * days)).await;
        assert!(!agent.collector.is_damaged());
        destroy(folder.path());
        tokio::time::sleep(Duration::from_hours(25)).await;
        assert!(agent.collector.is_damaged());
        assert!(matches!(agent.broken().await, Broken::Damaged));
    }
}

#[tokio::test]
async fn a_drain_that_meets_damage_ends_and_leaves_it_to_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = filled(folder.path(), "127.0.0.1:1", 5).await;
    let mut agent = Agent::start(config.clone()).unwrap();
    damage(folder.path(), &agent);
    // Whenever it ends, it is not because its time is over.
    let drained = tokio::time::timeout(PATIENCE, agent.drain(PATIENCE * 60)).await;
    assert!(!drained.unwrap().unwrap());
    agent.stop().await.unwrap();
    assert_eq!(Agent::start(config).unwrap().stop().await.unwrap(), 5);
}

#[tokio::test]
async fn a_damaged_file_is_salvaged_in_the_running_process() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let mut agent = Agent::start(config.clone()).unwrap();
    let epoch = agent.epoch();
    damage(folder.path(), &agent);
    assert!(matches!(agent.broken().await, Broken::Damaged));
    let agent = Again::default().mend(agent, &config).await;
    assert_ne!(agent.epoch(), epoch);
    assert_eq!(agent.stop().await.unwrap(), 0);
}

#[tokio::test]
async fn a_reload_reaches_the_right_kafka_also_while_nothing_can_be_written() {
    let mock = cluster(&["plant", "tidegate.system"]);
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = filled(folder.path(), "127.0.0.1:1", 5).await;
    wrong.system = serde_json::from_value(serde_json::json!({})).unwrap();
    let mut agent = Agent::start(wrong.clone()).unwrap();
    // Its own source changes too, and what that says last cannot be committed.
    let mut right = wrong.clone();
    right.kafka.brokers = mock.bootstrap_servers();
    right.gateway.labels.insert("hall".to_owned(), "2".to_owned());
    let other = rusqlite::Connection::open(&wrong.buffer.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();

    let mut status = agent.forward.subscribe();
    {
        let mut reload = std::pin::pin!(agent.reload(right));
        let reached = status.wait_for(forward::Status::is_reached);
        tokio::select! {
            done = &mut reload => panic!("it cannot be done yet: {done:?}"),
            reached = tokio::time::timeout(PATIENCE, reached) => {
                drop(reached.expect("the new Kafka is reached").unwrap());
            }
        }
        other.execute_batch("ROLLBACK").unwrap();
        assert!(reload.await.unwrap().kafka);
    }
    until(&mut agent, |stats| stats.batches == 0).await;
    agent.stop().await.unwrap();
    assert_eq!(read(&mock.bootstrap_servers(), "plant").len(), 5);
}

#[test]
fn an_uplink_is_another_one_once_a_file_that_its_options_name_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let revoked = folder.path().join("revoked.pem");
    let mut config = config(folder.path());
    let path = revoked.display().to_string();
    config.kafka.options.insert("ssl.crl.location".to_owned(), path);
    std::fs::write(&revoked, "one").unwrap();
    let before = reload::uplink(&config);
    assert!(before == reload::uplink(&config), "nothing has changed");
    std::fs::write(&revoked, "two").unwrap();
    assert!(before != reload::uplink(&config));
}

/// The stream `plant` goes to this topic.
fn sent_to(config: &Config, topic: &str) -> Config {
    let stream = serde_json::json!({ "name": "plant", "topic": topic });
    Config { streams: vec![serde_json::from_value(stream).unwrap()], ..config.clone() }
}

#[tokio::test]
async fn what_is_stored_goes_to_the_topic_that_a_start_or_a_reload_corrects() {
    let mock = cluster(&["by-start", "by-reload"]);
    for (topic, reloads) in [("by-start", false), ("by-reload", true)] {
        let folder = tempfile::tempdir().unwrap();
        // Nothing new comes of it in either case.
        let stored = filled(folder.path(), &mock.bootstrap_servers(), 5).await;
        let mended = sent_to(&stored, topic);
        let mut agent = if reloads {
            let mut agent = Agent::start(sent_to(&stored, "misspelt")).unwrap();
            let mut status = agent.forward.subscribe();
            let aside = status.wait_for(|status| !status.aside.is_empty());
            let aside = tokio::time::timeout(PATIENCE, aside).await.unwrap().unwrap().clone();
            assert_eq!(aside.aside[0].topic, "misspelt");
            agent.reload(mended).await.unwrap();
            agent
        } else {
            Agent::start(mended).unwrap()
        };
        until(&mut agent, |stats| stats.batches == 0).await;
        agent.stop().await.unwrap();
        assert_eq!(read(&mock.bootstrap_servers(), topic).len(), 5);
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_ends_no_uplink() {
    let folder = tempfile::tempdir().unwrap();
    let old = config(folder.path());
    let mut agent = Agent::start(old.clone()).unwrap();
    let mut new = old;
    let missing = folder.path().join("renewed.pem");
    new.kafka.options.insert("ssl.crl.location".to_owned(), missing.display().to_string());
    let refused = agent.reload(new.clone()).await.unwrap_err();
    assert!(refused.is::<Refused>(), "{refused}");
    assert!(refused.to_string().contains("renewed.pem"), "{refused}");
    std::fs::write(&missing, "here it is").unwrap();
    assert!(agent.reload(new).await.unwrap().kafka);
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_reload_makes_anew_is_made_while_others_have_their_turns() {
    let folder = tempfile::tempdir().unwrap();
    let mut new = config(folder.path());
    // Whoever reads it waits until somebody writes it.
    let ca = folder.path().join("ca.pem");
    assert!(std::process::Command::new("mkfifo").arg(&ca).status().unwrap().success());
    let source = serde_json::json!({
        "type": "mqtt",
        "name": "m",
        "address": "127.0.0.1:1",
        "tls": { "ca": &ca },
        "subscription": [{ "topic": "a" }],
    });
    new.sources.push(serde_json::from_value(source).unwrap());
    let (turn, turns) = std::sync::mpsc::sync_channel(1);
    let writer = std::thread::spawn(move || {
        let had_one = turns.recv_timeout(PATIENCE).is_ok();
        std::fs::write(&ca, "").unwrap();
        had_one
    });
    let preparing = reload::prepare(new, Flows::default(), Clock::system());
    let (prepared, _sent) = tokio::join!(preparing, async { turn.send(()) });
    assert_eq!(prepared.unwrap().wanted.len(), 1);
    assert!(writer.join().unwrap(), "nobody else had a turn");
}
