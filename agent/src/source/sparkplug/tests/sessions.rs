//! Births, aliases, gaps, deaths, what is held, and what the host says.

use std::time::Duration;

use super::edge::{Bench, Edge, Sent, metric, told};
use crate::decode::sparkplug::proto::Payload;
use crate::event::{Timestamp, Value};
use crate::source::mqtt::config::Qos;
use crate::source::sparkplug::Count;

fn temp(value: i32) -> Vec<crate::decode::sparkplug::proto::Metric> {
    vec![metric(Some("temp"), Some(7), value)]
}

fn by_alias(edge: &mut Edge, value: i32) -> Sent {
    edge.send("NDATA/n", vec![metric(None, Some(7), value)])
}

#[test]
fn a_birth_names_what_data_says_by_alias() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    assert_eq!(told(&bench.hear(&edge.birth(temp(-20)))), ["good n temp=-20"]);
    let events = bench.hear(&by_alias(&mut edge, -21));
    assert_eq!(told(&events), ["good n temp=-21"]);
    let place = |name: &str| {
        let field = events[0].fields.iter().find(|field| &*field.name == name);
        field.map(|field| field.value.clone())
    };
    assert_eq!(place("group_id"), Some(Value::Text("g".into())));
    assert_eq!(place("edge_node_id"), Some(Value::Text("n".into())));
    assert_eq!(events[0].time, Timestamp(1_002_000_000));
    assert_eq!(bench.asked(), 0);
}

#[test]
fn a_device_is_born_behind_its_node_and_has_aliases_of_its_own() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    bench.hear(&edge.birth(temp(1)));
    let birth = edge.send("DBIRTH/n/d", vec![metric(Some("speed"), Some(8), 2)]);
    assert_eq!(told(&bench.hear(&birth)), ["good n/d speed=2"]);
    let data = edge.send("DDATA/n/d", vec![metric(None, Some(8), 3)]);
    assert_eq!(told(&bench.hear(&data)), ["good n/d speed=3"]);
    // The alias is that of the node's own metric.
    let data = edge.send("DDATA/n/d", vec![metric(None, Some(7), 4)]);
    assert!(bench.hear(&data).is_empty());
    assert_eq!(bench.asked(), 1);
}

#[test]
fn seq_goes_from_255_to_0() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    bench.hear(&edge.birth(temp(1)));
    for value in 0..600 {
        assert_eq!(
            told(&bench.hear(&by_alias(&mut edge, value))),
            [format!("good n temp={value}")]
        );
    }
    assert_eq!(bench.asked(), 0);
}

#[test]
fn behind_a_gap_nothing_is_decoded_until_the_birth_that_was_asked_for() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    bench.hear(&edge.birth(temp(1)));
    let _lost = by_alias(&mut edge, 2);
    assert!(bench.hear(&by_alias(&mut edge, 3)).is_empty());
    assert!(bench.hear(&by_alias(&mut edge, 4)).is_empty(), "also where the count goes on");
    assert_eq!(bench.asked(), 1);
    let events = bench.hear(&edge.birth(temp(5)));
    assert_eq!(told(&events), ["good n temp=5", "good n temp=3", "good n temp=4"]);
    assert_eq!(told(&bench.hear(&by_alias(&mut edge, 6))), ["good n temp=6"]);
    let counts = bench.host.counts();
    let counted = [Count::Gaps, Count::Rebirths, Count::Held].map(|count| counts.get(count));
    assert_eq!(counted, [1, 1, 2]);
}

#[test]
fn a_birth_of_another_session_does_not_decode_what_came_before_it() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    bench.hear(&edge.birth(temp(1)));
    let _lost = by_alias(&mut edge, 2);
    bench.hear(&by_alias(&mut edge, 3));
    // Its death is lost too, and in the new session the alias means something else.
    let _lost = edge.death();
    let events = bench.hear(&edge.birth(vec![metric(Some("speed"), Some(7), 9)]));
    assert_eq!(told(&events), ["stale n alias_7=3", "good n speed=9"]);
}

#[test]
fn what_came_before_any_birth_is_decoded_by_the_first_one_and_the_devices_by_their_own() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    edge.seq = 17;
    assert!(bench.hear(&by_alias(&mut edge, 1)).is_empty());
    let device = edge.send("DDATA/n/d", vec![metric(None, Some(8), 2)]);
    assert!(bench.hear(&device).is_empty());
    assert_eq!(bench.asked(), 1, "once for both");
    let events = bench.hear(&edge.birth(temp(3)));
    assert_eq!(told(&events), ["good n temp=3", "good n temp=1"]);
    let birth = edge.send("DBIRTH/n/d", vec![metric(Some("speed"), Some(8), 4)]);
    assert_eq!(told(&bench.hear(&birth)), ["good n/d speed=4", "good n/d speed=2"]);
}

#[test]
fn an_alias_that_two_births_of_a_session_give_to_different_metrics_decodes_nothing_between() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    bench.hear(&edge.birth(temp(1)));
    let _lost = by_alias(&mut edge, 2);
    bench.hear(&by_alias(&mut edge, 3));
    let events = bench.hear(&edge.birth(vec![metric(Some("speed"), Some(7), 9)]));
    assert_eq!(told(&events), ["good n speed=9", "stale n alias_7=3"]);
}

#[test]
fn an_alias_that_the_birth_does_not_know_waits_and_its_neighbours_do_not() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    bench.hear(&edge.birth(temp(1)));
    let both = vec![metric(None, Some(7), 2), metric(None, Some(99), 3)];
    assert_eq!(told(&bench.hear(&edge.send("NDATA/n", both))), ["good n temp=2"]);
    assert_eq!(bench.asked(), 1);
    let mut metrics = temp(4);
    metrics.push(metric(Some("new"), Some(99), 5));
    let events = bench.hear(&edge.birth(metrics));
    assert_eq!(told(&events), ["good n temp=4 new=5", "good n new=3"]);
}

#[test]
fn a_death_makes_all_that_was_known_stale_and_a_late_will_does_not() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    let mut early = edge.clone();
    edge.session = 1;
    bench.hear(&edge.birth(temp(1)));
    bench.hear(&edge.send("DBIRTH/n/d", vec![metric(Some("speed"), Some(8), 2)]));
    bench.hear(&by_alias(&mut edge, 3));
    assert!(bench.hear(&early.death()).is_empty(), "the will of the session before");
    let mut events = told(&bench.hear(&edge.clone().death()));
    events.sort();
    assert_eq!(events, ["stale n temp=3", "stale n/d speed=2"]);
    assert!(bench.hear(&edge.death()).is_empty(), "once");
    assert_eq!(bench.asked(), 0, "who is dead is not asked");
}

#[test]
fn a_dead_device_is_stale_and_the_others_go_on() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    bench.hear(&edge.birth(temp(1)));
    bench.hear(&edge.send("DBIRTH/n/d", vec![metric(Some("speed"), Some(8), 2)]));
    let death = edge.send("DDEATH/n/d", Vec::new());
    assert_eq!(told(&bench.hear(&death)), ["stale n/d speed=2"]);
    assert_eq!(told(&bench.hear(&by_alias(&mut edge, 3))), ["good n temp=3"]);
    let data = edge.send("DDATA/n/d", vec![metric(None, Some(8), 4)]);
    assert!(bench.hear(&data).is_empty(), "it must be born again");
    assert_eq!(bench.asked(), 1);
}

#[test]
fn a_lost_connection_makes_all_stale_and_the_nodes_are_asked_after_it() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    bench.hear(&edge.birth(temp(1)));
    bench.host.lost(bench.now, bench.time);
    assert_eq!(told(&bench.host.take_events()), ["stale n temp=1"]);
    bench.host.log_in(bench.time);
    bench.host.connected(bench.now);
    assert_eq!(bench.asked(), 1);
    assert!(bench.hear(&by_alias(&mut edge, 2)).is_empty(), "who knows what was missed");
    assert_eq!(told(&bench.hear(&edge.birth(temp(3)))), ["good n temp=3", "good n temp=2"]);
}

#[test]
fn what_no_birth_explains_in_time_goes_out_as_stale() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    bench.hear(&by_alias(&mut edge, 1));
    bench.pass(Duration::from_secs(89));
    assert!(bench.tick().is_empty());
    bench.pass(Duration::from_secs(1));
    assert_eq!(told(&bench.tick()), ["stale n alias_7=1"]);
    assert_eq!(bench.host.counts().get(Count::Unresolved), 1);
}

#[test]
fn what_is_held_is_bounded_and_the_oldest_goes_first() {
    let mut bench = Bench::with(&serde_json::json!({ "hold": { "messages": 2 } }));
    let mut edge = Edge::new();
    assert!(bench.hear(&by_alias(&mut edge, 1)).is_empty());
    assert!(bench.hear(&by_alias(&mut edge, 2)).is_empty());
    let events = bench.hear(&by_alias(&mut edge, 3));
    assert_eq!(told(&events), ["stale n alias_7=1"]);
    let events = bench.hear(&edge.birth(temp(4)));
    assert_eq!(told(&events), ["good n temp=4", "good n temp=2", "good n temp=3"]);
}

#[test]
fn bytes_that_are_held_are_bounded_for_one_node_and_for_all() {
    for hold in [
        serde_json::json!({ "bytes": "240 B", "total_bytes": "4 KiB" }),
        serde_json::json!({ "bytes": "240 B", "total_bytes": "240 B" }),
    ] {
        let mut bench = Bench::with(&serde_json::json!({ "hold": hold }));
        let mut edge = Edge::new();
        let mut out = 0;
        for value in 1..=10 {
            out += bench.hear(&by_alias(&mut edge, value)).len();
        }
        assert_eq!(out, 8, "two of a hundred bytes each are held");
        bench.host.leave(bench.now, bench.time);
        assert_eq!(bench.host.take_events().len(), 2, "and go out at a stop");
    }
}

#[test]
fn what_is_held_and_acknowledged_stands_in_the_checkpoint_until_it_goes_out() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    assert!(bench.hear(&by_alias(&mut edge, 1)).is_empty());
    assert!(bench.host.checkpoint().is_empty(), "QoS 0 is not acknowledged");
    assert!(bench.hear_with(&by_alias(&mut edge, 2), false, 1).is_empty());
    let saved = bench.host.checkpoint();
    let mut after_crash = Bench::new();
    after_crash.host.restore(&saved, bench.now, bench.time);
    let events = after_crash.host.take_events();
    assert_eq!(told(&events), ["stale n alias_7=2"]);
    assert_eq!(events[0].read_at, Some(bench.time));
    let events = bench.hear(&edge.birth(temp(3)));
    assert_eq!(told(&events), ["good n temp=3", "good n temp=1", "good n temp=2"]);
    assert!(bench.host.checkpoint().is_empty());
}

#[test]
fn no_more_is_held_in_a_checkpoint_than_each_commit_can_bear() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    let mut out = 0;
    for value in 0..900 {
        out += bench.hear_with(&by_alias(&mut edge, value), false, 1).len();
    }
    assert!(bench.host.checkpoint().len() <= 64 * 1024);
    assert!((100..400).contains(&out), "{out}");
}

#[test]
fn what_comes_twice_or_was_retained_does_not_fool_the_sequence() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    let birth = edge.birth(temp(1));
    let first = by_alias(&mut edge, 2);
    let second = by_alias(&mut edge, 3);
    for message in [&birth, &first, &second] {
        assert_eq!(bench.hear(message).len(), 1);
    }
    for message in [&birth, &first, &second] {
        assert!(bench.hear_with(message, false, 1).is_empty());
    }
    let old = Edge { session: 9, seq: 0, clock: 5 }.birth(vec![metric(Some("old"), Some(7), 1)]);
    assert!(bench.hear_with(&old, true, 1).is_empty());
    assert_eq!(told(&bench.hear(&by_alias(&mut edge, 4))), ["good n temp=4"]);
    assert_eq!(bench.asked(), 0);
    assert_eq!(bench.host.counts().get(Count::Passed), 4);
}

#[test]
fn a_retained_birth_of_an_unknown_node_asks_for_a_true_one() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    assert!(bench.hear_with(&edge.birth(temp(1)), true, 0).is_empty());
    assert_eq!(bench.asked(), 1);
}

#[test]
fn a_node_that_cannot_be_read_is_asked_once_in_an_interval() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    let mut asked = 0;
    for value in 0..600 {
        bench.hear(&by_alias(&mut edge, value));
        asked += bench.asked();
        bench.pass(Duration::from_secs(1));
    }
    assert!((8..=10).contains(&asked), "{asked}");
    assert_eq!(bench.host.counts().get(Count::Rebirths), u64::try_from(asked).unwrap());
}

#[test]
fn a_birth_that_does_not_decode_is_a_dead_letter_and_another_one_is_asked_for() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    bench.hear(&edge.birth(temp(1)));
    let arrived = crate::source::sparkplug::Arrived {
        topic: b"spBv1.0/g/NBIRTH/n",
        payload: &[0xFF, 0xFF],
        retained: false,
        qos: 0,
        now: bench.now,
        time: bench.time,
    };
    assert!(bench.host.take(arrived).unwrap_err().starts_with("payload is not of Sparkplug B"));
    assert!(bench.hear(&by_alias(&mut edge, 2)).is_empty(), "the old one decodes nothing more");
    assert_eq!(bench.asked(), 1);
}

#[test]
fn a_device_that_is_not_born_again_with_its_node_is_stale_in_the_end() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    bench.hear(&edge.birth(temp(1)));
    bench.hear(&edge.send("DBIRTH/n/d", vec![metric(Some("speed"), Some(8), 2)]));
    bench.hear(&edge.birth(temp(3)));
    bench.pass(Duration::from_secs(90));
    assert_eq!(told(&bench.tick()), ["stale n/d speed=2"]);
}

#[test]
fn a_primary_host_says_that_it_is_there_and_answers_who_says_that_it_is_not() {
    let mut bench = Bench::with(&serde_json::json!({ "host_id": "tidegate" }));
    let say = |bench: &mut Bench| {
        let said = bench.said().into_iter();
        let text = |out: crate::source::sparkplug::Outgoing| {
            assert_eq!(
                (&*out.topic, out.qos, out.retain),
                ("spBv1.0/STATE/tidegate", Qos::AtLeastOnce, true)
            );
            String::from_utf8(out.payload).unwrap()
        };
        said.map(text).collect::<Vec<_>>()
    };
    let online = r#"{"online":true,"timestamp":1000000}"#;
    assert_eq!(say(&mut bench), [online]);
    let state = |text: &str| ("spBv1.0/STATE/tidegate".to_owned(), text.as_bytes().to_vec());
    let offline = state(r#"{"online":false,"timestamp":1000000}"#);
    bench.pass(Duration::from_secs(5));
    bench.hear_with(&offline, true, 1);
    bench.hear(&state(online));
    bench.hear(&state("nonsense"));
    assert!(say(&mut bench).is_empty());
    bench.hear(&offline);
    assert_eq!(say(&mut bench), [online], "with the time of its login");
    bench.host.leave(bench.now, bench.time);
    let left = bench.host.take_packets();
    let text: Vec<_> =
        left.into_iter().map(|out| String::from_utf8(out.payload).unwrap()).collect();
    assert_eq!(text, [r#"{"online":false,"timestamp":1005000}"#]);
}

#[test]
fn a_host_without_a_name_says_nothing_of_itself() {
    let mut bench = Bench::new();
    assert!(bench.said().is_empty());
    assert_eq!(bench.host.log_in(bench.time), None);
    bench.host.leave(bench.now, bench.time);
    assert!(bench.host.take_packets().is_empty());
}

#[test]
fn the_request_is_a_command_without_a_sequence_number() {
    use prost::Message as _;
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    bench.hear(&by_alias(&mut edge, 1));
    let said = bench.said();
    let [out] = &said[..] else { panic!("{said:?}") };
    assert_eq!((&*out.topic, out.qos, out.retain), ("spBv1.0/g/NCMD/n", Qos::AtMostOnce, false));
    let payload = Payload::decode(&*out.payload).unwrap();
    let metric = &payload.metrics[0];
    assert_eq!(metric.name.as_deref(), Some("Node Control/Rebirth"));
    assert_eq!((metric.datatype, metric.alias, payload.seq), (Some(11), None, None));
    assert!(payload.timestamp.is_some());
}
