use proptest::prelude::*;

use super::*;
use crate::decode::names::Names;
use crate::decode::tree::Opened;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn read(hex: &str) -> Result<Node<'static>, Error> {
    tree(&bytes(hex))
}

fn plain(hex: &str) -> Value {
    match read(hex).unwrap() {
        Node::Plain(value) => value,
        other => panic!("{other:?}"),
    }
}

/// Of RFC 8949, appendix A.
#[test]
fn the_examples_of_the_specification_are_read() {
    for (hex, value) in [
        ("00", Value::I64(0)),
        ("1903e8", Value::I64(1_000)),
        ("1bffffffffffffffff", Value::U64(u64::MAX)),
        ("c249010000000000000000", Value::Decimal(Decimal { unscaled: 1 << 64, scale: 0 })),
        ("3bffffffffffffffff", Value::Decimal(Decimal { unscaled: -(1 << 64), scale: 0 })),
        ("c349010000000000000000", Value::Decimal(Decimal { unscaled: -(1 << 64) - 1, scale: 0 })),
        ("3903e7", Value::I64(-1_000)),
        ("f93e00", Value::F64(1.5)),
        ("fa47c35000", Value::F64(100_000.0)),
        ("fbc010666666666666", Value::F64(-4.1)),
        // Of single precision, by the digits that it was written with.
        ("fa41b8cccd", Value::F64(23.1)),
        ("f97c00", Value::F64(f64::INFINITY)),
        ("f4", Value::Bool(false)),
        ("f5", Value::Bool(true)),
        ("f6", Value::Null),
        ("f7", Value::Null),
        ("f8ff", Value::Null),
        ("4401020304", Value::Bytes([1, 2, 3, 4].as_slice().into())),
        ("62c3bc", Value::Text("ü".into())),
        ("5f42010243030405ff", Value::Bytes([1, 2, 3, 4, 5].as_slice().into())),
        ("7f657374726561646d696e67ff", Value::Text("streaming".into())),
    ] {
        assert_eq!(plain(hex), value, "{hex}");
    }
    let numbers = |numbers: &[i64]| {
        Node::Array(numbers.iter().map(|n| Node::Plain(Value::I64(*n))).collect())
    };
    assert_eq!(read("83010203"), Ok(numbers(&[1, 2, 3])));
    assert_eq!(read("9f010203ff"), Ok(numbers(&[1, 2, 3])));
    assert_eq!(read("bf61610161629f0203ffff").unwrap().to_json(), r#"{"a":1,"b":[2,3]}"#);
    assert_eq!(read("a201020304").unwrap().to_json(), r#"{"1":2,"3":4}"#);
}

#[test]
fn tags_that_a_field_has_a_type_for_are_read() {
    let at = |nanos| Value::Timestamp { time: Timestamp(nanos), zoned: true };
    let text = "c074323031332d30332d32315432303a30343a30305a";
    for (hex, value) in [
        (text, at(1_363_896_240_000_000_000)),
        ("c11a514b67b0", at(1_363_896_240_000_000_000)),
        ("c1fb41d452d9ec200000", at(1_363_896_240_500_000_000)),
        ("c48221196ab3", Value::Decimal(Decimal { unscaled: 27_315, scale: 2 })),
        ("c4820203", Value::I64(300)),
        ("d82550 11111111111111111111111111111111", Value::Uuid([0x11; 16])),
        // Of another tag, and of one that does not fit, what stands there.
        ("d818 4101", Value::Bytes([1].as_slice().into())),
        ("c0 6178", Value::Text("x".into())),
    ] {
        assert_eq!(plain(hex), value, "{hex}");
    }
}

#[test]
fn a_map_becomes_fields_as_an_object_of_json_does() {
    // {"t": 21.5, "m": {"rpm": 1500, "raw": h'0102'}, "a": [1, [2]]}
    let payload = "a3 6174 f94d60 616d a2 6372706d 1905dc 63726177 420102 6161 82 01 81 02";
    let mut fields = Vec::new();
    let node = read(payload).unwrap();
    node.flatten(&mut Names::default(), &Opened::default(), &mut fields).unwrap();
    let found: Vec<(&str, Value)> =
        fields.iter().map(|field| (&*field.name, field.value.clone())).collect();
    let expected = [
        ("t", Value::F64(21.5)),
        ("m_rpm", Value::I64(1_500)),
        ("m_raw", Value::Bytes([1, 2].as_slice().into())),
        ("a", Value::Json("[1,[2]]".into())),
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_is_broken_is_told_with_its_place() {
    for (hex, error) in [
        ("", Error::Short),
        ("8301", Error::Short),
        ("1c", Error::Syntax(0)),
        ("ff", Error::Syntax(0)),
        ("82ff", Error::Syntax(1)),
        ("0102", Error::Behind(1)),
        ("a1f401", Error::Key),
        // A length that nobody could hold.
        ("5bffffffffffffff00", Error::Short),
        ("9bffffffffffffff00", Error::Short),
    ] {
        assert_eq!(read(hex), Err(error), "{hex}");
    }
    assert!(read("62ffff").is_err(), "no UTF-8");
    let deep = [vec![0x81; 1_000_000], vec![0]].concat();
    assert_eq!(tree(&deep), Err(Error::TooMuch(TooMuch::Depth)));
    let tags = [vec![0xC1; 1_000_000], vec![0]].concat();
    assert_eq!(tree(&tags), Err(Error::TooMuch(TooMuch::Depth)));
    let many = [bytes("9a00100000"), vec![0; 0x0010_0000]].concat();
    assert_eq!(tree(&many), Err(Error::TooMuch(TooMuch::Values)));
}

proptest! {
    #[test]
    fn any_bytes_give_a_tree_or_an_error(payload: Vec<u8>) {
        let _either = tree(&payload);
    }

    /// Bytes that begin something more often than those of chance do.
    #[test]
    fn any_heads_give_a_tree_or_an_error(
        heads in proptest::collection::vec(
            proptest::sample::select(vec![
                0x00, 0x18, 0x20, 0x3B, 0x41, 0x5F, 0x61, 0x7F, 0x82, 0x9F, 0xA1, 0xBF, 0xC0, 0xC1,
                0xC2, 0xC3, 0xC4, 0xD8, 0x25, 0xF4, 0xF6, 0xF9, 0xFB, 0xFF, b'a', 0xC3,
            ]),
            0..60,
        )
    ) {
        if let Ok(node) = tree(&heads) {
            let _either =
                node.flatten(&mut Names::default(), &Opened::default(), &mut Vec::new());
            serde_json::from_str::<serde::de::IgnoredAny>(&node.to_json()).unwrap();
        }
    }

    #[test]
    fn what_was_written_is_read(text: String, bytes: Vec<u8>, number: i64, float: f64) {
        use ciborium::Value as Cbor;
        let value = Cbor::Array(vec![
            Cbor::Text(text.clone()),
            Cbor::Bytes(bytes.clone()),
            Cbor::Integer(number.into()),
            Cbor::Float(float),
        ]);
        let mut written = Vec::new();
        ciborium::into_writer(&value, &mut written).unwrap();
        let expected = [
            Value::Text(text.into()),
            Value::Bytes(bytes.into()),
            Value::I64(number),
            Value::F64(float),
        ];
        prop_assume!(!float.is_nan());
        prop_assert_eq!(tree(&written), Ok(Node::Array(expected.map(Node::Plain).into())));
    }
}
