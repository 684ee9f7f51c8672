//! What a host knows at most, and what no message may take.

use std::time::Duration;

use prost::Message as _;

use super::edge::{Bench, Edge, Sent, metric, told};
use crate::decode::sparkplug::proto::{DataSet, DataType, Metric, MetricValue, Payload, Row};
use crate::event::{Quality, Value};
use crate::source::sparkplug::Arrived;
use crate::source::sparkplug::held::{Saved, SavedMessage};

/// Columns and rows without a byte in them.
fn swollen() -> Vec<u8> {
    let set = DataSet {
        columns: vec![String::new(); 10_000],
        rows: vec![Row::default(); 10_000],
        ..DataSet::default()
    };
    let metric = Metric {
        alias: Some(7),
        datatype: Some(DataType::DataSet as u32),
        value: Some(MetricValue::DataSet(set)),
        ..Metric::default()
    };
    Payload { seq: Some(9), metrics: vec![metric], ..Payload::default() }.encode_to_vec()
}

fn take(bench: &mut Bench, (topic, payload): &Sent, retained: bool) -> Result<(), String> {
    let (topic, now, time) = (topic.as_bytes(), bench.now, bench.time);
    bench.host.take(Arrived { topic, payload, retained, qos: 0, now, time })
}

fn born(node: &str) -> Sent {
    let (_, payload) = Edge::new().birth(vec![metric(Some("a"), Some(1), 1)]);
    (format!("spBv1.0/g/NBIRTH/{node}"), payload)
}

#[test]
fn a_data_set_that_would_take_all_memory_is_a_dead_letter() {
    let mut bench = Bench::new();
    let message = ("spBv1.0/g/NDATA/n".to_owned(), swollen());
    let error = take(&mut bench, &message, false).unwrap_err();
    assert!(error.contains("64 times"), "{error}");
    assert_eq!(bench.asked(), 0, "nothing is known of its node");
}

#[test]
fn one_that_a_crash_left_goes_out_as_it_came() {
    let message = SavedMessage {
        group: "g".to_owned(),
        node: "n".to_owned(),
        payload: swollen(),
        ..SavedMessage::default()
    };
    let saved = Saved { messages: vec![message] }.encode_to_vec();
    let mut bench = Bench::new();
    bench.host.restore(&saved, bench.now, bench.time);
    let events = bench.host.take_events();
    let [event] = &events[..] else { panic!("not one") };
    let field = event.fields.last().unwrap();
    assert_eq!((&*field.name, event.quality), ("payload", Quality::Stale));
    assert_eq!(field.value, Value::Bytes(swollen().into()));
}

#[test]
fn what_cannot_be_read_or_was_retained_does_not_keep_a_new_node_out() {
    let mut bench = Bench::new();
    for n in 0..11_000 {
        let nonsense = (format!("spBv1.0/g/NBIRTH/x{n}"), vec![0xFF]);
        take(&mut bench, &nonsense, false).unwrap_err();
        take(&mut bench, &nonsense, true).unwrap();
        take(&mut bench, &born(&format!("r{n}")), true).unwrap();
    }
    assert_eq!(bench.host.counts().get(crate::source::sparkplug::Count::Passed), 22_000);
    assert_eq!(told(&bench.hear(&born("n"))), ["good n a=1"]);
}

#[test]
fn the_unborn_node_that_was_silent_longest_goes_for_a_new_one_and_none_that_lives() {
    let mut bench = Bench::new();
    let data = |n: u64| {
        let value = i32::try_from(n).unwrap();
        let mut edge = Edge { clock: n, ..Edge::new() };
        let (_, payload) = edge.send("NDATA/n", vec![metric(None, Some(7), value)]);
        (format!("spBv1.0/g/NDATA/u{n}"), payload)
    };
    bench.hear(&born("alive"));
    for n in 0..9_999 {
        bench.pass(Duration::from_millis(1));
        assert!(bench.hear(&data(n)).is_empty());
    }
    // It has spoken again.
    bench.hear(&data(0));
    bench.pass(Duration::from_millis(1));
    let events = bench.hear(&born("new"));
    assert_eq!(told(&events), ["stale u1 alias_7=1", "good new a=1"], "what was held is told");
    let mut edge = Edge { seq: 1, ..Edge::new() };
    let (_, payload) = edge.send("NDATA/alive", vec![metric(None, Some(1), 5)]);
    let events = bench.hear(&("spBv1.0/g/NDATA/alive".to_owned(), payload));
    assert_eq!(told(&events), ["good alive a=5"]);
}

#[test]
fn what_births_say_is_bounded_in_sum() {
    let mut bench = Bench::new();
    let name = |n| format!("a metric with a name that is not a short one {n}");
    let metrics: Vec<Metric> = (0..10_000).map(|n| metric(Some(&name(n)), Some(n), 1)).collect();
    let (_, birth) = Edge::new().birth(metrics);
    let of = |n| (format!("spBv1.0/g/NBIRTH/b{n}"), birth.clone());
    let taken = (0..60).position(|n| take(&mut bench, &of(n), false).is_err()).unwrap();
    assert!((5..40).contains(&taken), "{taken}");
    // Who dies makes room.
    let mut death = Edge::new().death();
    death.0 = "spBv1.0/g/NDEATH/b0".to_owned();
    take(&mut bench, &death, false).unwrap();
    take(&mut bench, &of(60), false).unwrap();
}
