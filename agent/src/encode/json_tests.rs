//! Records as text, and that each parses back to what went in.

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::event::Timestamp;

const EPOCH: Epoch = Epoch(0x9f2c_41d0_7be3_a815);

fn field<'a>(name_index: usize, name: &'a str, value: ValueRef<'a>) -> FieldRef<'a> {
    FieldRef { name_index, name, value, quality: None }
}

fn event<'a>(labels: &'a [(&'a str, &'a str)], fields: &'a [FieldRef<'a>]) -> EventRef<'a> {
    EventRef {
        seq: 42,
        device: "boiler",
        time: Timestamp(1_767_225_600_123_456_789),
        read_at: None,
        quality: Quality::Good,
        labels,
        fields,
    }
}

fn encode(event: &EventRef<'_>) -> String {
    let mut encoder = Encoder::new();
    encoder.begin("gw1", EPOCH);
    let mut out = Vec::new();
    encoder.event(event, &mut out);
    String::from_utf8(out).unwrap()
}

/// The members behind `quality`.
fn fields(fields: &[FieldRef<'_>]) -> String {
    let all = encode(&event(&[], fields));
    all.split_once("\"quality\":\"good\"").unwrap().1.to_owned()
}

#[test]
fn the_record_of_the_design() {
    let mut pressure = field(1, "pressure", ValueRef::Null);
    pressure.quality = Some(Quality::Timeout);
    insta::assert_snapshot!(
        encode(&event(&[], &[field(0, "temp", ValueRef::F64(21.5)), pressure])),
        @r#"{"gateway":"gw1","epoch":"9f2c41d07be3a815","seq":42,"device":"boiler","ts":1767225600123,"ts_ns":456789,"month":1767225600000,"quality":"good","temp":21.5,"pressure":null,"pressure_q":"timeout"}"#
    );
}

#[test]
fn labels_and_the_time_of_reading_stand_before_the_fields() {
    let fields = [field(0, "n", ValueRef::I64(-1))];
    let mut event = event(&[("site", "Köln \"1\""), ("line.no", "7")], &fields);
    event.time = Timestamp(-1_000_000);
    event.read_at = Some(Timestamp(1_767_225_600_500_000_000));
    event.quality = Quality::Stale;
    insta::assert_snapshot!(
        encode(&event),
        @r#"{"gateway":"gw1","epoch":"9f2c41d07be3a815","seq":42,"device":"boiler","ts":-1,"month":-2678400000,"quality":"stale","read_ts":1767225600500,"site":"Köln \"1\"","line_no":"7","n":-1}"#
    );
}

#[test]
fn every_kind_of_value_is_exact() {
    insta::assert_snapshot!(
        fields(&[
            field(0, "a", ValueRef::Bool(true)),
            field(1, "b", ValueRef::I64(i64::MIN)),
            field(2, "c", ValueRef::U64(i64::MAX as u64)),
            field(3, "d", ValueRef::U64(u64::MAX)),
            field(4, "e", ValueRef::Decimal(Decimal { unscaled: -12_345, scale: 2 })),
            field(5, "f", ValueRef::Decimal(Decimal { unscaled: 5, scale: 10 })),
            field(6, "g", ValueRef::Text("a\u{1}\n\\")),
            field(7, "h", ValueRef::Bytes(b"\x00\xff~")),
        ]),
        @r#","a":true,"b":-9223372036854775808,"c":9223372036854775807,"d":"18446744073709551615","e":"-123.45","f":"0.0000000005","g":"a\u0001\n\\","h":"AP9+"}"#
    );
}

#[test]
fn every_kind_of_time_is_exact() {
    let at = |nanos, zoned| ValueRef::Timestamp { time: Timestamp(nanos), zoned };
    insta::assert_snapshot!(
        fields(&[
            field(0, "a", at(1_767_225_600_123_000_000, true)),
            field(1, "b", at(1_767_225_600_123_456_700, true)),
            field(2, "c", at(1_767_225_600_123_456_700, false)),
            field(3, "d", ValueRef::Date(-1)),
            field(4, "e", ValueRef::Time(86_399_000_000_001)),
            field(5, "f", ValueRef::Uuid(*b"\x12\x3e\x45\x67\xe8\x9b\x12\xd3\xa4\x56\x42\x66\x14\x17\x40\x00")),
        ]),
        @r#","a":1767225600123,"b":"2026-01-01T00:00:00.123456700Z","c":"2026-01-01T00:00:00.123456700","d":"1969-12-31","e":"23:59:59.000000001","f":"123e4567-e89b-12d3-a456-426614174000"}"#
    );
}

#[test]
fn what_json_cannot_carry_is_null_with_a_quality() {
    insta::assert_snapshot!(
        fields(&[
            field(0, "a", ValueRef::F64(f64::NAN)),
            field(1, "b", ValueRef::F64(f64::NEG_INFINITY)),
        ]),
        @r#","a":null,"a_q":"out_of_range","b":null,"b_q":"out_of_range"}"#
    );
}

#[test]
fn json_is_embedded_only_where_it_is_json() {
    insta::assert_snapshot!(
        fields(&[
            field(0, "a", ValueRef::Json("{\"x\": [1, 2.50]}")),
            field(1, "b", ValueRef::Json("{\"x\": ")),
            field(2, "c", ValueRef::Json("1, \"seq\": 9")),
        ]),
        @r#","a":{"x": [1, 2.50]},"b":"{\"x\": ","c":"1, \"seq\": 9"}"#
    );
}

#[test]
fn no_two_members_have_the_same_name() {
    let fields = [
        field(0, "a.b", ValueRef::I64(1)),
        field(1, "a_b", ValueRef::I64(2)),
        field(2, "site", ValueRef::I64(3)),
        field(3, "seq", ValueRef::I64(4)),
    ];
    let all = encode(&event(&[("site", "x")], &fields));
    insta::assert_snapshot!(
        all.split_once("\"quality\":\"good\"").unwrap().1,
        @r#","site":"x","a_b":1,"a_b_2":2,"site_2":3,"seq_":4}"#
    );
}

#[test]
fn names_of_one_batch_are_not_taken_for_those_of_the_next() {
    let mut encoder = Encoder::new();
    let mut out = Vec::new();
    for (name, expected) in [("one", "\"one\":1}"), ("two", "\"two\":1}")] {
        encoder.begin("gw1", EPOCH);
        out.clear();
        let fields = [field(0, name, ValueRef::I64(1))];
        encoder.event(&event(&[], &fields), &mut out);
        assert!(out.ends_with(expected.as_bytes()));
    }
}

/// A value and what must come back of it.
fn any_value() -> impl Strategy<Value = (crate::event::Value, Json)> {
    use crate::event::Value;
    prop_oneof![
        Just((Value::Null, Json::Null)),
        any::<bool>().prop_map(|b| (Value::Bool(b), Json::from(b))),
        any::<i64>().prop_map(|n| (Value::I64(n), Json::from(n))),
        any::<u64>().prop_map(|n| {
            let json = i64::try_from(n).map_or_else(|_| Json::from(n.to_string()), Json::from);
            (Value::U64(n), json)
        }),
        any::<f64>().prop_map(|n| {
            (Value::F64(n), if n.is_finite() { Json::from(n) } else { Json::Null })
        }),
        any::<String>().prop_map(|s| (Value::Text(s.as_str().into()), Json::from(s))),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(|b| {
            let text = base64::engine::general_purpose::STANDARD.encode(&b);
            (Value::Bytes(b.into()), Json::from(text))
        }),
        any::<String>()
            .prop_map(|s| (Value::Json(Json::from(s.as_str()).to_string().into()), Json::from(s))),
    ]
}

fn borrowed(value: &crate::event::Value) -> ValueRef<'_> {
    use crate::event::Value;
    match value {
        Value::Null => ValueRef::Null,
        Value::Bool(b) => ValueRef::Bool(*b),
        Value::I64(n) => ValueRef::I64(*n),
        Value::U64(n) => ValueRef::U64(*n),
        Value::F64(n) => ValueRef::F64(*n),
        Value::Text(s) => ValueRef::Text(s),
        Value::Bytes(b) => ValueRef::Bytes(b),
        Value::Json(s) => ValueRef::Json(s),
        other => panic!("the strategy makes no {other:?}"),
    }
}

proptest! {
    #[test]
    fn any_event_parses_back_with_its_exact_values(
        device in any::<String>(),
        time in any::<i64>(),
        values in proptest::collection::vec(any_value(), 0..8),
    ) {
        let names: Vec<String> = (0..values.len()).map(|n| format!("f{n}")).collect();
        let fields: Vec<_> = values.iter().zip(&names).enumerate()
            .map(|(index, ((value, _), name))| field(index, name, borrowed(value)))
            .collect();
        let mut event = event(&[], &fields);
        event.device = &device;
        event.time = Timestamp(time);
        let text = encode(&event);
        let json: Json = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&json["device"], &Json::from(device.as_str()));
        let ts = json["ts"].as_i64().unwrap();
        let finer = json.get("ts_ns").map_or(0, |n| n.as_i64().unwrap());
        prop_assert_eq!(i128::from(ts) * 1_000_000 + i128::from(finer), i128::from(time));
        for ((value, expected), name) in values.iter().zip(&names) {
            match value {
                // serde_json's own float parser may be one unit off.
                crate::event::Value::F64(number) if number.is_finite() => {
                    let (_, from) = text.split_once(&format!("\"{name}\":")).unwrap();
                    let end = from.find([',', '}']).unwrap();
                    prop_assert_eq!(from[..end].parse(), Ok(*number));
                }
                _ => prop_assert_eq!(&json[name], expected),
            }
        }
    }
}
