use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::decode::payload::MOST_RECORDS;

/// The routes of one subscription that has these keys besides its topic.
fn routes(keys: &serde_json::Value) -> Routes {
    let mut subscription = json!({ "topic": "plant/{line}/{device}" });
    for (key, value) in keys.as_object().unwrap() {
        subscription[key] = value.clone();
    }
    let config: Config = serde_json::from_value(json!({
        "name": "m",
        "address": "broker:1883",
        "subscription": [subscription],
    }))
    .unwrap();
    assert_eq!(config.check(), []);
    Routes::new(&config, &mut Flows::default())
}

fn message(payload: &[u8]) -> Publish {
    Publish {
        qos: 1,
        id: 1,
        dup: false,
        retain: false,
        topic: Bytes::from_static(b"plant/l1/press"),
        properties: Bytes::new(),
        payload: Bytes::copy_from_slice(payload),
    }
}

const NOW: Timestamp = Timestamp(7);

fn events(routes: &mut Routes, message: &Publish) -> Result<Vec<Event>, String> {
    let mut events = Vec::new();
    match routes.decode(message, NOW, &mut events) {
        Ok(Taken { odd: None, .. }) => Ok(events),
        Ok(Taken { odd: Some(odd), .. }) => Err(format!("odd: {}", odd.reason)),
        Err(Refused::Dead(_, why)) => {
            assert_eq!(events, [], "something of it was taken");
            Err(why)
        }
        Err(Refused::Unwanted) => Err("unwanted".to_owned()),
    }
}

/// `name=value` of each, and a unit behind it.
fn told(event: &Event) -> String {
    let field = |field: &Field| {
        let unit = field.unit.as_deref().map(|unit| format!(" {unit}")).unwrap_or_default();
        format!("{}={:?}{unit}", field.name, field.value)
    };
    event.fields.iter().map(field).collect::<Vec<_>>().join(", ")
}

/// Of a payload that all can be read of.
fn check(keys: &serde_json::Value, payload: &[u8], expected: &[&str]) {
    let found = events(&mut routes(keys), &message(payload)).unwrap();
    let found: Vec<String> = found.iter().map(told).collect();
    assert_eq!(found, expected);
}

#[test]
fn each_kind_of_payload_is_read_with_the_words_of_serial_lines() {
    let line = r#"line=Text("l1")"#;
    for (payload, bytes, expected) in [
        (json!("json"), &br#"{"a":{"b":1}}"#[..], "a_b=I64(1)"),
        (json!("cbor"), b"\xa1\x61a\x01", "a=I64(1)"),
        (json!("scalar"), b" 21.5", "value=F64(21.5)"),
        (json!("text"), b"21", r#"value=Text("21")"#),
        (json!("raw"), b"\x01", "value=Bytes([1])"),
        (json!({ "as": "json" }), b"5", "value=I64(5)"),
        (json!({ "as": "scalar", "field": "t" }), b"5", "t=I64(5)"),
        (json!({ "as": "raw", "field": "h", "encoding": "hex" }), b"\xff", r#"h=Text("ff")"#),
        (json!({ "as": "pattern", "patterns": ["w=(?<w>[0-9]+)"] }), b"w=12 g", "w=I64(12)"),
        (
            json!({ "as": "columns", "separator": ";", "fields": [{ "name": "-" }, { "name": "b" }] }),
            b"1;2\r\n",
            "b=I64(2)",
        ),
        (
            json!({ "as": "binary", "fields": [{ "name": "n", "at": 1, "type": "u16" }] }),
            b"\0\x01\x02",
            "n=U64(258)",
        ),
        (
            json!("nmea"),
            b"$SDMTW,12.5,C*02\r\n",
            r#"talker=Text("SD"), sentence=Text("MTW"), water_temp=F64(12.5)"#,
        ),
    ] {
        check(&json!({ "payload": payload }), bytes, &[&format!("{line}, {expected}")]);
    }
}

#[test]
fn each_element_of_an_array_is_an_event_with_what_stands_beside_it() {
    let payload = br#"{"site":"n","m":{"u":"C","x":1},"r":[{"v":1},{"v":2,"site":"own"}],"z":9}"#;
    check(
        &json!({ "each": "r" }),
        payload,
        &[
            r#"line=Text("l1"), site=Text("n"), m_u=Text("C"), m_x=I64(1), z=I64(9), v=I64(1)"#,
            r#"line=Text("l1"), m_u=Text("C"), m_x=I64(1), z=I64(9), v=I64(2), site=Text("own")"#,
        ],
    );
    check(
        &json!({ "each": "r", "carry": ["m.u", { "path": "z", "name": "zone" }], "fields": ["v"] }),
        payload,
        &[
            r#"line=Text("l1"), m_u=Text("C"), zone=I64(9), v=I64(1)"#,
            r#"line=Text("l1"), m_u=Text("C"), zone=I64(9), v=I64(2)"#,
        ],
    );
    check(
        &json!({ "each": "r", "carry": [] }),
        br#"{"a":1,"r":[5]}"#,
        &[r#"line=Text("l1"), value=I64(5)"#],
    );
    check(&json!({ "each": "." }), br#"[{"v":1}]"#, &[r#"line=Text("l1"), v=I64(1)"#]);
    check(&json!({ "each": "r" }), br#"{"r":[]}"#, &[]);
    // {"r": [{"v": 1}, {"v": 2}]}
    let cbor = b"\xa1\x61r\x82\xa1\x61v\x01\xa1\x61v\x02";
    let expected = [r#"line=Text("l1"), v=I64(1)"#, r#"line=Text("l1"), v=I64(2)"#];
    check(&json!({ "payload": "cbor", "each": "r" }), cbor, &expected);
}

#[test]
fn time_and_device_come_from_the_element_and_else_from_beside_it() {
    let keys = json!({
        "each": "r",
        "carry": [],
        "device_path": "id",
        "time": { "path": "ts", "format": "unix_s" },
    });
    let payload = br#"{"id":"a","ts":1,"r":[{"v":1},{"v":2,"ts":2,"id":"b"}]}"#;
    let found = events(&mut routes(&keys), &message(payload)).unwrap();
    let found: Vec<(&str, i64, String)> =
        found.iter().map(|event| (&*event.device, event.time.0, told(event))).collect();
    let expected = [
        ("a", 1_000_000_000, r#"line=Text("l1"), v=I64(1)"#.to_owned()),
        ("b", 2_000_000_000, r#"line=Text("l1"), v=I64(2), id=Text("b")"#.to_owned()),
    ];
    assert_eq!(found, expected);
    // One that CBOR itself knows as a time: {"t": 1(5), "v": 1}.
    let keys = json!({ "payload": "cbor", "time": { "path": "t" } });
    let found = events(&mut routes(&keys), &message(b"\xa2\x61t\xc1\x05\x61v\x01")).unwrap();
    let (time, read_at) = (Timestamp(5_000_000_000), Some(NOW));
    assert_eq!((found[0].time, found[0].read_at, found[0].fields.len()), (time, read_at, 2));
}

#[test]
fn elements_that_cannot_be_read_are_kept_apart_and_the_others_are_events() {
    let keys = json!({ "each": "r", "time": { "path": "ts", "format": "unix_s" } });
    let payload = br#"{"r":[{"ts":1},{"v":"a"},{"ts":2},{"ts":"x"}]}"#;
    let mut routes = routes(&keys);
    let mut found = Vec::new();
    let taken = routes.decode(&message(payload), NOW, &mut found).unwrap();
    assert_eq!(
        found.iter().map(|event| event.time.0).collect::<Vec<_>>(),
        [1_000_000_000, 2_000_000_000]
    );
    let reason = "2 of 4 cannot be read, the first is number 2: there is no time at `ts`";
    let lines = "{\"v\":\"a\"}\n{\"ts\":\"x\"}\n";
    let odd = Odd { reason: reason.to_owned(), lines: lines.to_owned() };
    assert_eq!(taken.odd, Some(odd));
    let all = br#"{"r":[{"v":1},{"v":2}]}"#;
    let why = "none of 2 can be read, the first: there is no time at `ts`";
    assert_eq!(events(&mut routes, &message(all)), Err(why.to_owned()));
}

#[test]
fn a_message_of_too_many_events_or_of_too_much_memory_is_none_at_all() {
    let mut elements = routes(&json!({ "each": "r" }));
    let many = format!(r#"{{"r":[{}1]}}"#, "1,".repeat(MOST_RECORDS));
    let why = "more than 10000 events in one message";
    assert_eq!(events(&mut elements, &message(many.as_bytes())), Err(why.to_owned()));
    let rows = json!({ "payload": { "as": "columns", "header": true } });
    let csv = "1\n".repeat(MOST_RECORDS + 2);
    let found = events(&mut routes(&rows), &message(csv.as_bytes()));
    assert_eq!(found, Err(why.to_owned()));
    let all = "1\n".repeat(MOST_RECORDS + 1);
    let found = events(&mut routes(&rows), &message(all.as_bytes()));
    assert_eq!(found.unwrap().len(), MOST_RECORDS);
    let wide = format!(r#"{{"a":[{}1],"r":[{}1]}}"#, "1,".repeat(2_000), "1,".repeat(2_000));
    let why = "its events take more than 16 MiB";
    assert_eq!(events(&mut elements, &message(wide.as_bytes())), Err(why.to_owned()));
}

#[test]
fn what_stands_beside_an_array_costs_no_more_than_what_is_carried_of_it() {
    let (wide, many) = ("1,".repeat(60_000), "{},".repeat(9_999));
    let payload = format!(r#"{{"id":"a","x":[{wide}1],"r":[{many}{{}}]}}"#);
    let keys = json!({ "each": "r", "carry": [], "device_path": "id" });
    let found = events(&mut routes(&keys), &message(payload.as_bytes())).unwrap();
    assert_eq!((found.len(), &*found[9_999].device, found[9_999].fields.len()), (10_000, "a", 1));
    // None of them has a time, and still each was copied.
    let keys = json!({ "each": "r", "time": { "path": "ts" } });
    let why = "its events take more than 16 MiB";
    let found = events(&mut routes(&keys), &message(payload.as_bytes()));
    assert_eq!(found, Err(why.to_owned()));
}

#[test]
fn rows_of_a_csv_are_events_and_its_header_names_them() {
    let payload = json!({
        "as": "columns",
        "header": true,
        "fields": [{ "name": "temp", "unit": "C" }, { "name": "ts", "type": "text" }],
    });
    let keys = json!({ "payload": payload, "time": { "path": "ts" } });
    let csv =
        b"\xef\xbb\xbfts, id,temp\r\n1970-01-01T00:00:01Z,a,1.5\r\n\r\n1970-01-01T00:00:02Z,b,\r\n";
    let mut routes = routes(&keys);
    let found = events(&mut routes, &message(csv)).unwrap();
    let found: Vec<(i64, String)> = found.iter().map(|event| (event.time.0, told(event))).collect();
    assert_eq!(
        found,
        [
            (1_000_000_000, r#"line=Text("l1"), temp=F64(1.5) C"#.to_owned()),
            (2_000_000_000, r#"line=Text("l1"), temp=Null C"#.to_owned()),
        ]
    );
    // Another order, and a row that is too short.
    let csv = b"temp,ts\n3,1970-01-01T00:00:03Z\n4\n";
    let mut found = Vec::new();
    let odd = routes.decode(&message(csv), NOW, &mut found).unwrap().odd.unwrap();
    assert_eq!((found.len(), odd.lines.as_str()), (1, "4\n"));
    let why = "the header has no column `ts`";
    assert_eq!(events(&mut routes, &message(b"temp\n1\n")), Err(why.to_owned()));
    let guessed = json!({ "payload": { "as": "columns", "header": true } });
    let expected = [r#"line=Text("l1"), a=I64(1), b=Text("x")"#];
    check(&guessed, b"a,-,b\n1,2,x\n", &expected);
    let rows = json!({ "payload": { "as": "columns", "rows": true, "fields": [{ "name": "a" }] } });
    check(&rows, b"1\n2", &[r#"line=Text("l1"), a=I64(1)"#, r#"line=Text("l1"), a=I64(2)"#]);
}

#[test]
fn fields_are_chosen_by_path_named_anew_and_given_a_unit() {
    let keys = json!({
        "fields": ["a.b", { "path": "m.0.v", "name": "temp", "unit": "°C" }],
        "device_path": "m.1.id",
    });
    let payload = br#"{"a":{"b":1,"c":2},"m":[{"v":21.5,"w":0},{"id":"x"}]}"#;
    let found = events(&mut routes(&keys), &message(payload)).unwrap();
    let expected = r#"line=Text("l1"), a_b=I64(1), temp=F64(21.5) °C"#;
    assert_eq!(found.iter().map(told).collect::<Vec<_>>(), [expected]);
    assert_eq!(&*found[0].device, "x");
}

#[test]
fn a_retained_message_is_told_from_others_and_no_other_changes() {
    let retained = Publish { retain: true, ..message(b"{\"a\":1}") };
    for (keys, field, quality) in [
        (json!({}), "retained=Bool(true), ", Quality::Good),
        (json!({ "retained": "stale" }), "", Quality::Stale),
        (json!({ "retained": "unmarked" }), "", Quality::Good),
    ] {
        let mut routes = routes(&keys);
        let event = events(&mut routes, &retained).unwrap().remove(0);
        assert_eq!(told(&event), format!(r#"line=Text("l1"), {field}a=I64(1)"#));
        assert_eq!(event.quality, quality);
        let event = events(&mut routes, &message(b"{\"a\":1}")).unwrap().remove(0);
        assert_eq!(told(&event), r#"line=Text("l1"), a=I64(1)"#);
        assert_eq!(event.quality, Quality::Good);
    }
}

#[test]
fn properties_become_fields_of_each_event() {
    let keys = json!({ "each": ".", "properties": { "user": ["site"], "content_type": "kind" } });
    let properties = Bytes::from_static(b"\x03\0\x01j\x26\0\x04site\0\x01n");
    let message = Publish { properties, ..message(b"[1,2]") };
    let found = events(&mut routes(&keys), &message).unwrap();
    let found: Vec<String> = found.iter().map(told).collect();
    let around = r#"line=Text("l1"), kind=Text("j"), site=Text("n")"#;
    assert_eq!(found, [format!("{around}, value=I64(1)"), format!("{around}, value=I64(2)")]);
}

#[test]
fn a_name_stands_once_in_an_event_and_the_payload_goes_before_what_is_around_it() {
    let user = b"\x26\0\x01a\0\x01u\x26\0\x04line\0\x01u";
    let properties = Bytes::from_static(user);
    let published = |payload: &[u8]| Publish {
        retain: true,
        properties: properties.clone(),
        ..message(payload)
    };
    let retained = "retained=Bool(true)";
    for (keys, payload, expected) in [
        (json!({}), r#"{"b":1}"#, format!(r#"a=Text("u"), line=Text("u"), {retained}, b=I64(1)"#)),
        (
            json!({}),
            r#"{"a":1,"line":2,"retained":3}"#,
            "a=I64(1), line=I64(2), retained=I64(3)".to_owned(),
        ),
        (
            json!({ "fields": [{ "path": "b", "name": "line" }] }),
            r#"{"b":1,"a":2}"#,
            format!(r#"a=Text("u"), {retained}, line=I64(1)"#),
        ),
        (
            json!({ "each": "r", "carry": [{ "path": "s", "name": "a" }] }),
            r#"{"s":1,"r":[{"line":2}]}"#,
            format!("{retained}, a=I64(1), line=I64(2)"),
        ),
        (
            json!({ "each": "r", "carry": [{ "path": "s", "name": "v" }] }),
            r#"{"s":1,"r":[{"v":2}]}"#,
            format!(r#"a=Text("u"), line=Text("u"), {retained}, v=I64(2)"#),
        ),
    ] {
        let mut keys = keys;
        keys["properties"] = json!({ "user": ["*"] });
        let found = events(&mut routes(&keys), &published(payload.as_bytes())).unwrap();
        assert_eq!(found.iter().map(told).collect::<Vec<_>>(), [expected], "{keys}");
    }
}

#[test]
fn no_more_bytes_may_wait_than_the_queue_before_the_file_holds() {
    for (size, expected) in
        [("64 KiB", None), ("4 MiB", None), ("5 MiB", Some("must be from 64 KiB to 4 MiB"))]
    {
        let config: Config = serde_json::from_value(json!({
            "name": "m",
            "address": "broker:1883",
            "max_unacknowledged_bytes": size,
            "subscription": [{ "topic": "a" }],
        }))
        .unwrap();
        let wrong = config.check().pop();
        let expected = expected.map(|e| ("max_unacknowledged_bytes".to_owned(), e.to_owned()));
        assert_eq!(wrong, expected, "{size}");
    }
}

fn described(descriptor: &str) -> serde_json::Value {
    json!({ "as": "protobuf", "descriptor": descriptor, "message": "a" })
}

#[test]
fn a_descriptor_is_a_file_of_its_source_so_that_a_reload_sees_its_change() {
    let config: Config = serde_json::from_value(json!({
        "name": "m",
        "address": "broker:1883",
        "tls": { "ca": "/etc/ca.pem" },
        "subscription": [{ "topic": "a", "payload": described("/etc/plant.pb") }],
    }))
    .unwrap();
    let expected = ["/etc/ca.pem", "/etc/plant.pb"].map(std::path::PathBuf::from);
    assert_eq!(config.files(), expected);
}

#[test]
fn what_does_not_fit_together_is_told_with_its_key() {
    let wrong = |protocol: &str, keys: serde_json::Value| {
        let mut subscription = json!({ "topic": "a" });
        for (key, value) in keys.as_object().unwrap() {
            subscription[key] = value.clone();
        }
        let config: Config = serde_json::from_value(json!({
            "name": "m",
            "address": "broker:1883",
            "protocol": protocol,
            "subscription": [subscription],
        }))
        .unwrap();
        config.check().into_iter().map(|(key, _)| key).collect::<Vec<_>>().join(" ")
    };
    let at = |keys: &str| {
        keys.split(' ').map(|key| format!("subscription.0.{key}")).collect::<Vec<_>>().join(" ")
    };
    for (keys, expected) in [
        (
            json!({ "payload": "scalar", "time": { "path": "a" }, "device_path": "b", "fields": ["c"] }),
            "time device_path fields",
        ),
        (json!({ "payload": "raw", "field": "" }), "field"),
        (json!({ "payload": { "as": "raw" }, "field": "x" }), "field"),
        (json!({ "payload": { "as": "scalar", "field": "" } }), "payload.field"),
        (json!({ "payload": { "as": "columns" } }), "payload.fields"),
        (json!({ "payload": described("/nowhere/plant.pb") }), "payload.descriptor"),
        (json!({ "payload": "nmea", "each": "a" }), "each"),
        (json!({ "each": "a..b" }), "each"),
        (json!({ "carry": ["a"] }), "carry"),
        (json!({ "fields": ["a", ".b", { "path": "c", "name": "" }] }), "fields[1] fields[2]"),
        (json!({ "fields": ["a.b", { "path": "c", "name": "a_b" }] }), "fields[1]"),
        (json!({ "fields": ["a", { "path": "a", "name": "b" }, "c"] }), "fields[1]"),
        (json!({ "each": "r", "fields": ["a"], "carry": ["b", "a", "b"] }), "carry[2]"),
        (json!({ "device_path": "", "time": { "path": "" } }), "device_path time.path"),
        (json!({ "device_path": "a..b", "time": { "path": "t." } }), "device_path time.path"),
        (
            json!({ "properties": { "user": [""], "content_type": "" } }),
            "properties.user[0] properties.content_type",
        ),
    ] {
        assert_eq!(wrong("5", keys.clone()), at(expected), "{keys}");
    }
    assert_eq!(wrong("3.1.1", json!({ "properties": {} })), at("properties"));
}

proptest! {
    #[test]
    fn any_message_gives_events_or_a_reason(
        payload: Vec<u8>,
        properties: Vec<u8>,
        text in r#"[\[\]{}":,0-9.\-ab\n ]{0,40}"#,
        retain: bool,
    ) {
        let columns = json!({ "as": "columns", "header": true });
        for keys in [
            json!({}),
            json!({ "payload": "cbor", "each": "a", "properties": { "user": ["*"] } }),
            json!({ "each": ".", "fields": ["a.0", "b"], "device_path": "a.1" }),
            json!({ "each": "a", "time": { "path": "b", "format": "unix_s" }, "carry": ["b"] }),
            json!({ "payload": columns }),
        ] {
            let mut routes = routes(&keys);
            for payload in [&payload[..], text.as_bytes()] {
                let properties = Bytes::copy_from_slice(&properties);
                let message = Publish { retain, properties, ..message(payload) };
                let _either = events(&mut routes, &message);
            }
        }
    }
}
