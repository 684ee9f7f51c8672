use proptest::prelude::*;

use super::*;
use crate::decode::json;

fn flat(payload: &str, paths: &[&str]) -> Vec<(String, Value)> {
    let opened = Opened::of(paths.iter().copied());
    let mut fields = Vec::new();
    let node = json::tree(payload.as_bytes()).unwrap();
    node.flatten(&mut Names::default(), &opened, &mut fields).unwrap();
    fields.into_iter().map(|field| (field.name.to_string(), field.value)).collect()
}

/// What the decoder makes of it that makes no tree.
fn streamed(payload: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    json::decode(payload, &mut Names::default(), &mut fields).ok().map(|()| fields)
}

#[test]
fn a_tree_of_json_has_the_fields_that_json_has() {
    for payload in [
        r#"{"temp":21.50,"n":3,"ok":true,"none":null,"a":{"b":{"c":"x\n"}},"t":"y"}"#,
        r#"{"a":[1,2.5,"x",null],"b":[{"c":1}],"d":[],"e":[[1],{}]}"#,
        " 5 ",
        r#"{"x":0.12345678901234567890123}"#,
        "[1,2]",
        r#"{"a\"b":1,"a\"b":2}"#,
    ] {
        let expected = streamed(payload.as_bytes()).unwrap();
        let expected: Vec<(String, Value)> =
            expected.into_iter().map(|field| (field.name.to_string(), field.value)).collect();
        assert_eq!(flat(payload, &[]), expected, "{payload}");
    }
}

#[test]
fn elements_that_a_path_goes_through_have_fields_of_their_own() {
    let payload = r#"{"axes":[{"v":1,"u":[5,6]},{"v":2},{"v":3}],"n":[7,8]}"#;
    let found = flat(payload, &["axes.1.v", "axes.0.u.1", "n.0", "n.9"]);
    let expected = [
        ("axes_0_v", Value::I64(1)),
        ("axes_0_u_1", Value::I64(6)),
        ("axes_1_v", Value::I64(2)),
        ("n_0", Value::I64(7)),
    ];
    assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value)));
    assert_eq!(flat(r#"[{"v":1},{"v":2}]"#, &["1.v"]), [("1_v".to_owned(), Value::I64(2))]);
}

#[test]
fn an_array_is_split_from_what_stands_beside_it() {
    let split = |payload: &'static str, path| {
        let (beside, elements) = json::tree(payload.as_bytes()).unwrap().split(path)?;
        let elements: Vec<String> = elements.iter().map(Node::to_json).collect();
        Ok::<_, String>((beside.to_json(), elements.join(" ")))
    };
    let both = |beside: &str, elements: &str| Ok((beside.to_owned(), elements.to_owned()));
    let payload = r#"{"id":"g","data":{"x":1,"r":[{"v":1},2]}}"#;
    assert_eq!(split(payload, "data.r"), both(r#"{"id":"g","data":{"x":1}}"#, r#"{"v":1} 2"#));
    assert_eq!(split("[1,[2]]", "."), both("{}", "1 [2]"));
    assert_eq!(split(r#"{"a":[{"r":[1]}]}"#, "a.0.r"), both(r#"{"a":[{}]}"#, "1"));
    assert_eq!(split(r#"{"r":null}"#, "r"), both("{}", ""));
    assert_eq!(split(payload, "r").unwrap_err(), "there is no array at `r`");
    assert_eq!(split(payload, "data").unwrap_err(), "what stands at `data` is no array");
    assert_eq!(split("{}", ".").unwrap_err(), "what stands at `.` is no array");
}

#[test]
fn all_kinds_of_values_are_written_as_json() {
    let values = [
        Value::Null,
        Value::F64(1.0),
        Value::F64(f64::NAN),
        Value::Decimal(Decimal { unscaled: -5, scale: 2 }),
        Value::Text("a\"\n".into()),
        Value::Bytes([1, 2].as_slice().into()),
        Value::Timestamp { time: crate::event::Timestamp(1_500_000_000), zoned: true },
        Value::Uuid([0x11; 16]),
    ];
    let node = Node::Array(values.into_iter().map(Node::Plain).collect());
    let written = node.to_json();
    let expected = concat!(
        r#"[null,1.0,null,-0.05,"a\"\n","AQI=","1970-01-01T00:00:01.5Z","#,
        r#""11111111111111111111111111111111"]"#
    );
    assert_eq!(written, expected);
    serde_json::from_str::<serde::de::IgnoredAny>(&written).unwrap();
}

#[test]
fn what_is_too_deep_or_too_much_is_an_error() {
    let deep = format!("{}{}", "[".repeat(DEEPEST_TREE + 2), "]".repeat(DEEPEST_TREE + 2));
    let many = format!("[{}1]", "1,".repeat(MOST_NODES));
    for payload in [&deep, &many, "{", ""] {
        assert!(json::tree(payload.as_bytes()).is_err(), "{payload:.20}");
    }
    let long = format!("[{}1]", "1,".repeat(MOST_VALUES));
    let node = json::tree(long.as_bytes()).unwrap();
    let error = node.flatten(&mut Names::default(), &Opened::default(), &mut Vec::new());
    assert_eq!(error, Err(TooMuch::Array));
}

proptest! {
    #[test]
    fn any_bytes_give_a_tree_or_an_error(
        payload: Vec<u8>,
        text in r#"[\[\]{}":,0-9eE.+\-a\\u ]{0,40}"#,
    ) {
        for payload in [&payload[..], text.as_bytes()] {
            let Ok(node) = json::tree(payload) else { continue };
            let opened = Opened::of(["a.0.a", "0", "a.1"].into_iter());
            let _either = node.flatten(&mut Names::default(), &opened, &mut Vec::new());
            serde_json::from_str::<serde::de::IgnoredAny>(&node.to_json()).unwrap();
            let _either = node.split("a");
        }
    }

    #[test]
    fn any_text_of_json_signs_is_the_same_by_both_ways(
        text in r#"\{"a":[\[\]{}":,0-9.\-ab]{0,30}\}"#,
    ) {
        let Some(expected) = streamed(text.as_bytes()) else { return Ok(()) };
        let node = json::tree(text.as_bytes()).unwrap();
        let mut fields = Vec::new();
        node.flatten(&mut Names::default(), &Opened::default(), &mut fields).unwrap();
        let is_json = |field: &Field| matches!(field.value, Value::Json(_));
        // JSON within it is written anew here.
        fields.retain(|field| !is_json(field));
        let expected: Vec<Field> = expected.into_iter().filter(|f| !is_json(f)).collect();
        prop_assert_eq!(fields, expected);
    }
}
