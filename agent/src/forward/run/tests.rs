//! The forward thread step by step, against librdkafka's mock cluster.

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::event::Value;
use crate::flow::{self, Lane};
use crate::forward::config::Delivery;
use crate::forward::line::Tail;
use crate::forward::link::Link;
use crate::forward::tails::Wanted;
use crate::forward::tests::{NOW, Plant, cluster, numbers, read};

/// Steps until something holds, and fails after so many that it never will.
const MOST_STEPS: usize = 1_000;

type Mock = MockCluster<'static, DefaultProducerContext>;

fn forward(plant: &Plant) -> Forward<Link> {
    forward_at(plant, NOW)
}

fn forward_at(plant: &Plant, now: crate::event::Timestamp) -> Forward<Link> {
    let (status, _) = watch::channel(Status::begin());
    Forward::new(
        plant.config.clone(),
        "gw1".to_owned(),
        plant.collector.store(),
        Clock::fixed(now),
        Pace::default(),
        Box::new(Link::open),
        StopAt::default(),
        status,
    )
}

fn until(forward: &mut Forward<Link>, done: impl Fn(&Forward<Link>) -> bool) {
    for _ in 0..MOST_STEPS {
        if done(forward) {
            return;
        }
        let pause = forward.step();
        forward.rest(pause);
    }
    panic!("still {:?} after {MOST_STEPS} steps", forward.core.state());
}

fn is_sent(forward: &Forward<Link>, stream: &str) -> bool {
    forward.kept.position.flows.contains_key(&flow::Hash::of(stream, Lane::Live))
}

struct Stage {
    mock: Mock,
    plant: Plant,
    forward: Forward<Link>,
    folder: tempfile::TempDir,
}

/// A forwarder that has delivered ten events to the first of the topics.
fn stage(topics: &[&str], change: impl Fn(&mut Plant)) -> Stage {
    let mock = cluster(topics);
    let folder = tempfile::tempdir().unwrap();
    let mut plant = Plant::new(folder.path(), &mock.bootstrap_servers(), topics);
    change(&mut plant);
    plant.store(topics[0], 10);
    let mut forward = forward(&plant);
    until(&mut forward, |f| is_sent(f, topics[0]));
    Stage { mock, plant, forward, folder }
}

#[test]
fn a_new_flow_goes_before_the_backlog_is_drained() {
    let Stage { mut plant, mut forward, mock: _mock, folder: _folder } =
        stage(&["plant", "alarms"], |_| ());
    plant.store("alarms", 1);
    // A line on which each commit takes long enough for the next load to be
    // encoded meanwhile; and more is stored than it carries.
    for _ in 0..3 {
        plant.store("plant", 10);
        if forward.next.is_empty() {
            forward.compose(forward.sizer.room(0, 0)).unwrap();
        }
        forward.looked = forward.looked.and_then(|looked| looked.checked_sub(LOOK));
        forward.send().unwrap();
        while forward.commit().is_err() {}
    }
    assert!(is_sent(&forward, "alarms"));
}

#[test]
fn an_idle_forwarder_leaves_the_file_alone_until_something_is_stored() {
    let Stage { mut plant, mut forward, mock: _mock, folder: _folder } =
        stage(&["plant", "alarms"], |_| ());
    until(&mut forward, |f| f.emptied.is_some());
    // The next question to the file opens it.
    forward.reader = None;
    for _ in 0..4 {
        forward.step();
        assert!(forward.reader.is_none());
    }
    plant.store("alarms", 1);
    until(&mut forward, |f| is_sent(f, "alarms"));
}

#[test]
fn one_wide_event_takes_a_full_batch_of_another_flow_along() {
    let Stage { mut plant, mut forward, mock: _mock, folder: _folder } =
        stage(&["wide", "plant"], |_| ());
    plant.store("plant", 1);
    until(&mut forward, |f| is_sent(f, "plant"));
    plant.store_with("wide", 1, |_| Value::Text("x".repeat(1_000).into()));
    plant.store("plant", 1_400);
    forward.compose(forward.sizer.room(0, 0)).unwrap();
    assert_eq!(forward.next.records.len(), 1_401);
}

#[test]
fn a_transaction_that_is_too_slow_makes_the_next_one_smaller() {
    let Stage { mut plant, mut forward, mock, folder: _folder } = stage(&["plant"], |_| ());
    plant.store("plant", 10);
    let before = forward.sizer.room(0, 0).bytes;
    mock.broker_round_trip_time(1, Duration::from_secs(1)).unwrap();
    // Out of time is out of time, whether of the transaction's or the stop's.
    *forward.stop.lock().unwrap() = Some(Instant::now());
    forward.step();
    assert_eq!(forward.core.state(), State::Aborting);
    assert_eq!(forward.sizer.room(0, 0).bytes, before / 2);
}

#[test]
fn no_transaction_commits_without_its_position() {
    let mock = cluster(&["plant"]);
    let folder = tempfile::tempdir().unwrap();
    let plant = Plant::new(folder.path(), &mock.bootstrap_servers(), &["plant"]);
    // A producer for which the start has not read the group.
    let link = Link::open(&plant.config, "gw1", &Clock::fixed(crate::event::Timestamp(0))).unwrap();
    let kept = Kept { offset: 1, position: Position::default() };
    let refused = link.send_position(&plant.config.positions_topic, &kept).unwrap_err();
    assert_eq!(refused.class, Class::Rebuild);
}

#[test]
fn at_least_once_goes_on_deleting_in_another_cluster() {
    let Stage { plant, mut forward, mock: _mock, folder: _folder } =
        stage(&["plant"], |plant| plant.config.delivery = Delivery::AtLeastOnce);
    forward.kept.position = plant.collector.store().next_position(None, "before");
    forward.read_position().unwrap();
    assert!(forward.kept.position.is_of(plant.collector.store().epochs(), &forward.cluster));
}

#[test]
fn a_load_that_is_tried_again_buries_its_dead_letters_once() {
    let Stage { mut forward, mock: _mock, folder, plant: _plant } = stage(&["plant"], |_| ());
    let letter = crate::collect::DeadLetter {
        reason: "damaged".into(),
        origin: "gw1/1/4..9 for plant".into(),
        payload: Vec::new(),
        length: 0,
    };
    for _ in 0..3 {
        forward.load.dead = vec![letter.clone()];
        forward.transmit().unwrap();
        forward.abort().unwrap();
    }
    let file = rusqlite::Connection::open(folder.path().join("buffer.db")).unwrap();
    let count: i64 =
        file.query_row("SELECT count(*) FROM dead_letter", (), |row| row.get(0)).unwrap();
    assert_eq!(count, 1);
}

#[test]
fn what_is_a_dead_letter_already_is_not_sent_though_the_broker_would_take_it() {
    let mock = cluster(&["plant"]);
    let folder = tempfile::tempdir().unwrap();
    let mut plant = Plant::new(folder.path(), &mock.bootstrap_servers(), &["plant"]);
    plant.store("plant", 3);
    let store = plant.collector.store();
    let flow = flow::Hash::of("plant", Lane::Live);
    let batch = store.reader().unwrap().batches(flow, BatchId(0), 9, 9).unwrap().remove(0);
    let letter = crate::collect::DeadLetter {
        reason: "the broker refuses it".into(),
        origin: "gw1/1/2 for plant".into(),
        payload: Vec::new(),
        length: 0,
    };
    store.bury_refused(vec![(letter, Some(batch.refused(2).unwrap()))]).unwrap();
    let mut forward = forward(&plant);
    until(&mut forward, |f| is_sent(f, "plant"));
    assert_eq!(numbers(&read(&mock.bootstrap_servers(), "plant")), [0, 2].into());
}

#[test]
fn a_backlog_goes_in_one_transaction_of_several_loads() {
    let Stage { mut plant, mut forward, mock, folder: _folder } = stage(&["plant"], |_| ());
    forward.in_parts_of(1);
    for _ in 0..4 {
        plant.store("plant", 10);
    }
    let outcomes = [(); 4].map(|()| forward.send().unwrap());
    assert_eq!(outcomes, [Outcome::More, Outcome::More, Outcome::More, Outcome::Done]);
    while forward.commit().is_err() {}
    assert_eq!(forward.status.borrow().delivered_events, 50);
    assert_eq!(numbers(&read(&mock.bootstrap_servers(), "plant")), (0..50).collect());
}

#[test]
fn a_record_that_is_refused_behind_other_loads_is_found_and_nothing_else_is_lost() {
    let Stage { mut plant, mut forward, mock, folder } = stage(&["plant"], |_| ());
    forward.in_parts_of(1);
    plant.store("plant", 10);
    let too_large = |_| Value::Text("x".repeat(2 << 20).into());
    plant.store_with("plant", 1, too_large);
    plant.store("plant", 10);
    until(&mut forward, |f| f.status.borrow().delivered_events == 30);
    let known = (0..20).chain(21..31).collect();
    assert_eq!(numbers(&read(&mock.bootstrap_servers(), "plant")), known);
    let file = rusqlite::Connection::open(folder.path().join("buffer.db")).unwrap();
    let mut letters = file.prepare("SELECT origin FROM dead_letter").unwrap();
    let letters: Vec<String> =
        letters.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].ends_with("/21 for plant"), "{letters:?}");
}

#[test]
fn an_alarm_ends_the_transaction_of_a_backlog() {
    let Stage { mut plant, mut forward, mock: _mock, folder: _folder } = stage(&["plant"], |_| ());
    forward.in_parts_of(1);
    for _ in 0..3 {
        plant.store("plant", 10);
    }
    assert_eq!(forward.send().unwrap(), Outcome::More);
    forward.load.urgent = true;
    assert_eq!(forward.send().unwrap(), Outcome::Done);
}

#[test]
fn a_backlog_goes_at_its_rate_and_what_is_read_now_goes_at_once() {
    let mock = cluster(&["plant", "other"]);
    let folder = tempfile::tempdir().unwrap();
    let mut plant = Plant::new(folder.path(), &mock.bootstrap_servers(), &["plant", "other"]);
    plant.config.backfill_limit = Some(crate::units::ByteSize(100));
    for stream in ["plant", "plant", "other"] {
        plant.store(stream, 10);
    }
    // An hour later all of it is a backlog: one batch is more than goes in a second.
    let mut late = forward_at(&plant, crate::event::Timestamp(NOW.0 + 3_600_000_000_000));
    until(&mut late, |f| f.status.borrow().delivered_events == 10);
    late.compose(late.sizer.room(0, 0)).unwrap();
    assert!(late.next.is_empty());
    drop(late);
    let mut now = forward(&plant);
    until(&mut now, |f| f.status.borrow().delivered_events == 20);
}

/// Numbers of the events that a look at the end of a topic sees.
fn tail(link: &mut Link, config: &Config, topic: &str, records: u64) -> (Vec<u64>, Tail) {
    let wanted = Wanted { topic: topic.to_owned(), since: None, records };
    let mut seqs = Vec::new();
    loop {
        let mut note = |id: Option<&str>, _| {
            let (_, seq) = id.unwrap().rsplit_once('/').unwrap();
            seqs.push(seq.parse().unwrap());
        };
        match link.read_tail(config, "gw1", &wanted, &mut note) {
            Ok(Tail::Reading { .. }) | Err(Trouble { class: Class::Repeat, .. }) => {}
            Ok(done) => {
                link.leave_tail();
                return (seqs, done);
            }
            Err(trouble) => panic!("{trouble}"),
        }
    }
}

#[test]
fn a_look_sees_the_ids_at_the_end_of_a_topic_and_says_whether_that_is_all() {
    let Stage { plant, mut forward, mock: _mock, folder: _folder } = stage(&["plant"], |_| ());
    let link = forward.link.as_mut().unwrap();
    let all = tail(link, &plant.config, "plant", 100);
    assert_eq!(all, ((1..=10).collect(), Tail::Ended { whole: true }));
    let last = tail(link, &plant.config, "plant", 3);
    assert_eq!(last, (vec![8, 9, 10], Tail::Ended { whole: false }));
    let none = tail(link, &plant.config, "missing", 3);
    assert_eq!(none, (vec![], Tail::Closed(Presence::Missing)));
}

#[test]
fn a_topic_that_must_not_be_read_cannot_be_looked_at() {
    let Stage { plant, mut forward, mock, folder: _folder } = stage(&["plant"], |_| ());
    let forbidden = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    mock.request_errors(RDKafkaApiKey::Fetch, &[forbidden]);
    let none = tail(forward.link.as_mut().unwrap(), &plant.config, "plant", 100);
    assert_eq!(none, (vec![], Tail::Closed(Presence::Forbidden)));
}
