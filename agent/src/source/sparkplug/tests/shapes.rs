//! What metrics become: times, nulls, qualities, units, and what is chosen.

use std::time::Duration;

use super::edge::{Bench, Edge, metric, told};
use crate::decode::sparkplug::proto::{
    DataType, Metric, MetricValue, Property, PropertySet, PropertyValue, Template,
};
use crate::event::{Quality, Timestamp, Value};

fn at(time: u64, mut metric: Metric) -> Metric {
    metric.timestamp = Some(time);
    metric
}

fn historical(mut metric: Metric) -> Metric {
    metric.is_historical = Some(true);
    metric
}

#[test]
fn metrics_of_one_time_are_one_event_and_historical_ones_are_marked() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    let names = ["a", "b", "c"];
    let birth = names.iter().zip(1..).map(|(name, alias)| metric(Some(name), Some(alias), 0));
    bench.hear(&edge.birth(birth.collect()));
    let data = edge.send(
        "NDATA/n",
        vec![
            at(5_000, metric(None, Some(1), 1)),
            historical(at(3_000, metric(None, Some(1), 2))),
            historical(at(9_000, metric(None, Some(3), 6))),
            at(5_000, metric(None, Some(2), 3)),
            metric(None, Some(3), 4),
            at(5_000, metric(None, Some(1), 5)),
        ],
    );
    let events = bench.hear(&data);
    assert_eq!(
        told(&events),
        [
            "good n is_historical=Bool(true) a=2",
            "good n is_historical=Bool(true) c=6",
            "good n c=4",
            "good n a=1 b=3",
            "good n a=5",
        ]
    );
    let times: Vec<i64> = events.iter().map(|event| event.time.0 / 1_000_000).collect();
    assert_eq!(times, [3_000, 9_000, 1_002, 5_000, 5_000]);
    assert!(events.iter().all(|event| event.read_at == Some(Timestamp(bench.time.0))));
    // What is historical is not the last value.
    let stale = told(&bench.hear(&edge.death()));
    assert_eq!(stale, ["stale n a=5 b=3 c=4"]);
}

#[test]
fn a_time_that_nobody_can_write_is_not_taken() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    let late = [u64::MAX / 2, u64::MAX].map(|time| at(time, metric(Some("a"), None, 1)));
    let events = bench.hear(&edge.birth(late.to_vec()));
    assert!(events.iter().all(|event| event.time == Timestamp(1_001_000_000)), "{events:?}");
}

#[test]
fn null_is_a_value_and_what_is_no_value_of_its_type_is_bad() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    let mut null = metric(Some("a"), None, 1);
    (null.is_null, null.value) = (Some(true), None);
    let mut wrong = metric(Some("b"), None, 1);
    wrong.value = Some(MetricValue::Boolean(true));
    let events = bench.hear(&edge.birth(vec![null, wrong]));
    assert_eq!(told(&events), ["good n a=Null b=Bool(true)(bad_payload)"]);
}

#[test]
fn a_quality_that_is_no_number_is_not_good() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    let qualities = [
        Property::String("BAD".to_owned()),
        Property::Float(0.0),
        Property::Set(PropertySet::default()),
    ];
    let metrics = qualities.into_iter().zip(["a", "b", "c"]).map(|(quality, name)| {
        let properties = Some(property("Quality", quality));
        Metric { properties, ..metric(Some(name), None, 1) }
    });
    let events = bench.hear(&edge.birth(metrics.collect()));
    let bad = "good n a=1(device_error) b=1(device_error) c=1(device_error)";
    assert_eq!(told(&events), [bad]);
}

fn property(key: &str, value: Property) -> PropertySet {
    PropertySet {
        keys: vec![key.to_owned()],
        values: vec![PropertyValue { value: Some(value), ..PropertyValue::default() }],
    }
}

#[test]
fn properties_are_quality_and_unit() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    let metrics = [(192, "a"), (500, "b"), (0, "c"), (7, "d")].map(|(quality, name)| {
        let properties = Some(property("Quality", Property::Int(quality)));
        Metric { properties, ..metric(Some(name), None, 1) }
    });
    let unit = Some(property("engUnit", Property::String("bar".to_owned())));
    let with_unit = Metric { properties: unit, ..metric(Some("e"), Some(9), 1) };
    let metrics = metrics.into_iter().chain([with_unit]).collect();
    let events = bench.hear(&edge.birth(metrics));
    assert_eq!(told(&events), ["good n a=1 b=1(stale) c=1(device_error) d=1(device_error) e=1"]);
    let events = bench.hear(&edge.send("NDATA/n", vec![metric(None, Some(9), 2)]));
    let field = events[0].fields.last().unwrap();
    assert_eq!(field.unit.as_deref(), Some("bar"), "that of the birth");
    assert_eq!(events[0].quality, Quality::Good);
}

#[test]
fn only_the_metrics_that_are_asked_for_go_out() {
    let mut bench = Bench::with(&serde_json::json!({ "metrics": ["Motor/*", "temp"] }));
    let mut edge = Edge::new();
    let names = ["temp", "temperature", "Motor/Speed", "Node Control/Reboot"];
    let birth: Vec<Metric> = names.iter().map(|name| metric(Some(name), None, 1)).collect();
    assert_eq!(told(&bench.hear(&edge.birth(birth))), ["good n temp=1 Motor/Speed=1"]);
    assert_eq!(told(&bench.hear(&edge.death())), ["stale n temp=1 Motor/Speed=1"]);
}

#[test]
fn devices_are_named_as_the_configuration_says() {
    let keys = serde_json::json!({ "node": "{group}.{node}", "device": "{device}@{group}" });
    let (mut bench, mut edge) = (Bench::with(&keys), Edge::new());
    let events = bench.hear(&edge.birth(vec![metric(Some("a"), None, 1)]));
    assert_eq!(told(&events), ["good g.n a=1"]);
    let birth = edge.send("DBIRTH/n/{group}", vec![metric(Some("a"), None, 1)]);
    assert_eq!(told(&bench.hear(&birth)), ["good {group}@g a=1"]);
}

#[test]
fn members_of_an_instance_have_the_types_of_their_definition() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    let template = |name: &str, is_definition, template_ref: Option<&str>, members| Metric {
        name: Some(name.to_owned()),
        datatype: Some(DataType::Template as u32),
        value: Some(MetricValue::Template(Template {
            metrics: members,
            template_ref: template_ref.map(str::to_owned),
            is_definition: Some(is_definition),
            ..Template::default()
        })),
        ..Metric::default()
    };
    let bare = |name: &str, value: i32| {
        let datatype = None;
        Metric { datatype, ..metric(Some(name), None, value) }
    };
    let definition = template("Pump", true, None, vec![metric(Some("flow"), None, 0)]);
    let instance = template("P1", false, Some("Pump"), vec![bare("flow", -3)]);
    let events = bench.hear(&edge.birth(vec![definition, instance]));
    assert_eq!(told(&events), ["good n P1/flow=-3"], "a definition is no value");
    let instance = template("P1", false, Some("Pump"), vec![bare("flow", -4)]);
    let events = bench.hear(&edge.send("NDATA/n", vec![instance]));
    assert_eq!(told(&events), ["good n P1/flow=-4"]);
}

#[test]
fn without_requests_a_birth_that_comes_by_itself_decodes_what_waits() {
    let mut bench = Bench::with(&serde_json::json!({ "request_rebirth": false }));
    let mut edge = Edge::new();
    assert!(bench.hear(&edge.send("NDATA/n", vec![metric(None, Some(1), 1)])).is_empty());
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.asked(), 0);
    let events = bench.hear(&edge.birth(vec![metric(Some("a"), Some(1), 2)]));
    assert_eq!(told(&events), ["good n a=2", "good n a=1"]);
}

#[test]
fn no_event_has_more_fields_than_a_table_may_get_columns() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    let names: Vec<String> = (0..2_500).map(|n| format!("m{n}")).collect();
    let metrics = names.iter().map(|name| metric(Some(name), None, 1)).collect();
    for events in [bench.hear(&edge.birth(metrics)), bench.hear(&edge.death())] {
        let fields: Vec<usize> = events.iter().map(|event| event.fields.len()).collect();
        assert_eq!(fields, [998, 998, 510], "two of each are those of the place");
    }
}

#[test]
fn values_without_a_name_make_no_field_for_each_alias() {
    let (mut bench, mut edge) = (Bench::new(), Edge::new());
    let metrics = [999, 1_000, u64::MAX, 1_000].map(|alias| metric(None, Some(alias), 3));
    assert!(bench.hear(&edge.send("NDATA/n", metrics.to_vec())).is_empty());
    bench.host.leave(bench.now, bench.time);
    let events = bench.host.take_events();
    let [event] = &events[..] else { panic!("not one: {events:?}") };
    let [.., own, others] = &event.fields[..] else { panic!("{event:?}") };
    assert_eq!((&*own.name, &own.value), ("alias_999", &Value::I64(3)));
    let told = concat!(
        r#"[{"name":"alias_1000","value":3},{"name":"alias_18446744073709551615","value":3},"#,
        r#"{"name":"alias_1000","value":3}]"#
    );
    assert_eq!((&*others.name, &others.value), ("alias_others", &Value::Json(told.into())));
}
