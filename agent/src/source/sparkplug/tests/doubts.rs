//! What puts a node in doubt, what goes out where no birth names it, and how often it is
//! asked.

use std::time::Duration;

use super::edge::{Bench, Edge, Sent, metric, told};
use crate::decode::sparkplug::proto::{DataType, Metric, MetricValue};
use crate::source::sparkplug::Arrived;

fn temp(value: i32) -> Vec<Metric> {
    vec![metric(Some("temp"), Some(7), value)]
}

fn by_alias(edge: &mut Edge, value: i32) -> Sent {
    edge.send("NDATA/n", vec![metric(None, Some(7), value)])
}

#[test]
fn an_alias_that_is_given_three_times_means_nothing() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    let metrics = ["a", "b", "c"].map(|name| metric(Some(name), Some(7), 0));
    bench.hear(&edge.birth(metrics.to_vec()));
    assert!(bench.hear(&by_alias(&mut edge, 1)).is_empty());
    assert_eq!(bench.asked(), 1);
}

#[test]
fn what_waits_goes_out_before_a_birth_of_its_device_that_comes_in_doubt() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    bench.hear(&edge.birth(temp(1)));
    bench.hear(&edge.send("DBIRTH/n/d", vec![metric(Some("speed"), Some(8), 2)]));
    let _lost = by_alias(&mut edge, 3);
    bench.hear(&edge.send("DDATA/n/d", vec![metric(None, Some(8), 4)]));
    let other = |value| vec![metric(Some("torque"), Some(8), value)];
    let events = bench.hear(&edge.send("DBIRTH/n/d", other(5)));
    assert_eq!(told(&events), ["stale n/d alias_8=4", "good n/d torque=5"]);
    bench.hear(&edge.send("DDATA/n/d", vec![metric(None, Some(8), 6)]));
    bench.hear(&edge.birth(temp(7)));
    let events = bench.hear(&edge.send("DBIRTH/n/d", other(8)));
    assert_eq!(told(&events), ["good n/d torque=8", "good n/d torque=6"]);
}

#[test]
fn a_birth_that_gives_a_name_another_type_does_not_decode_what_waits() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    bench.hear(&edge.birth(temp(1)));
    let _lost = by_alias(&mut edge, 2);
    bench.hear(&by_alias(&mut edge, -3));
    let unsigned = Some(DataType::UInt32 as u32);
    let metrics = temp(4).into_iter().map(|metric| Metric { datatype: unsigned, ..metric });
    let events = bench.hear(&edge.birth(metrics.collect()));
    assert_eq!(told(&events), ["good n temp=4", "stale n alias_7=4294967293"]);
}

#[test]
fn a_birth_that_was_cut_off_puts_its_node_in_doubt() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    bench.hear(&edge.birth(temp(1)));
    let _cut = edge.birth(vec![metric(Some("speed"), Some(7), 2)]);
    bench.host.cut(b"spBv1.0/g/NBIRTH/n", false, bench.now);
    assert!(bench.hear(&by_alias(&mut edge, 3)).is_empty());
    assert_eq!(bench.asked(), 1);
}

#[test]
fn what_waits_goes_out_when_the_connection_is_lost() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    bench.hear(&edge.birth(temp(1)));
    let _lost = by_alias(&mut edge, 2);
    bench.hear(&by_alias(&mut edge, 3));
    bench.host.lost(bench.now, bench.time);
    let events = bench.host.take_events();
    assert_eq!(told(&events), ["stale n alias_7=3", "stale n temp=1"]);
}

#[test]
fn what_a_birth_does_not_name_goes_out_all_the_same() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    let mut metrics = temp(1);
    metrics.extend([metric(None, None, 5), metric(None, Some(9), 6)]);
    let events = bench.hear(&edge.birth(metrics));
    assert_eq!(told(&events), ["good n temp=1", "stale n unnamed=5 alias_9=6"]);
}

#[test]
fn the_birth_of_a_device_too_many_is_a_dead_letter() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    bench.hear(&edge.birth(temp(1)));
    for device in 0..20 {
        bench.hear(&edge.send(&format!("DBIRTH/n/{device}"), temp(2)));
    }
    let (topic, payload) = edge.send("DBIRTH/n/20", temp(3));
    let arrived = Arrived {
        topic: topic.as_bytes(),
        payload: &payload,
        retained: false,
        qos: 0,
        now: bench.now,
        time: bench.time,
    };
    let error = bench.host.take(arrived).unwrap_err();
    assert_eq!(error, "more than 20 devices of the edge node g/n");
    assert_eq!(told(&bench.hear(&by_alias(&mut edge, 4))), ["good n temp=4"]);
}

#[test]
fn a_birth_that_does_not_come_is_asked_for_again() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    bench.hear(&by_alias(&mut edge, 1));
    assert_eq!(bench.asked(), 1);
    bench.pass(Duration::from_secs(80));
    assert_eq!(bench.asked(), 1, "the node has said nothing more");
    bench.hear(&edge.birth(temp(2)));
    bench.pass(Duration::from_hours(1));
    assert_eq!(bench.asked(), 0);
}

#[test]
fn a_node_whose_birth_a_second_loss_prevented_is_asked_behind_it() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    bench.hear(&edge.birth(temp(1)));
    for waited in [0, 80, 80, 80] {
        bench.host.lost(bench.now, bench.time);
        bench.host.log_in(bench.time);
        bench.host.connected(bench.now);
        bench.pass(Duration::from_secs(waited));
        assert_eq!(bench.asked(), 1);
    }
}

#[test]
fn where_nobody_is_asked_there_is_nothing_to_do_until_something_has_waited_too_long() {
    let mut bench = Bench::with(&serde_json::json!({ "request_rebirth": false }));
    bench.tick();
    bench.hear(&by_alias(&mut Edge::new(), 1));
    assert_eq!(bench.host.due(), Some(bench.now + Duration::from_secs(90)));
}

#[test]
fn nodes_are_asked_one_after_the_other_when_the_connection_is_back() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    for node in 0..10 {
        let (topic, payload) = edge.birth(temp(1));
        bench.hear(&(format!("{topic}{node}"), payload));
    }
    bench.host.lost(bench.now, bench.time);
    bench.host.connected(bench.now);
    assert_eq!(bench.said().len(), 1);
    bench.pass(Duration::from_millis(10));
    assert_eq!(bench.said().len(), 1);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.said().len(), 8);
}

#[test]
fn the_birth_of_a_node_without_a_clock_is_taken_again() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    let birth = edge.birth(temp(1));
    assert_eq!(told(&bench.hear(&birth)), ["good n temp=1"]);
    let _lost = by_alias(&mut edge, 2);
    bench.hear(&by_alias(&mut edge, 3));
    assert_eq!(told(&bench.hear(&birth)), ["good n temp=1", "good n temp=3"]);
}

#[test]
fn what_no_checkpoint_can_keep_goes_out_alone() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    bench.hear(&by_alias(&mut edge, 1));
    let text = MetricValue::String("x".repeat(70_000));
    let large = Metric { value: Some(text), ..metric(None, Some(7), 0) };
    let events = bench.hear_with(&edge.send("NDATA/n", vec![large]), false, 1);
    assert_eq!(events.len(), 1);
    let events = bench.hear(&edge.birth(temp(3)));
    assert_eq!(told(&events), ["good n temp=3", "good n temp=1"]);
}
