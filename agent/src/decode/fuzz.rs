//! The decoders under any bytes: one target each (`crate::fuzz`).

use super::names::Names;
use super::registers::{self, Meaning, Order, Type};
use super::tree::{Node, Opened};
use super::{
    cbor, columns, escaped, json, layout, nmea, number, pattern, payload, protobuf, scalar,
    sparkplug, text, time, topic,
};
use crate::event::Value;
use crate::fuzz::{check, halves, text as as_text};

/// A configuration of a decoder, as JSON.
fn config<C: serde::de::DeserializeOwned>(json: serde_json::Value) -> C {
    serde_json::from_value(json).unwrap()
}

#[test]
fn json() {
    let mut names = Names::default();
    check("json", |bytes| drop(json::decode(bytes, &mut names, &mut Vec::new())));
}

/// All that is done with a payload as a tree.
fn walk(tree: &Node<'static>, names: &mut Names) {
    drop(tree.flatten(names, &Opened::of(["a.0"].into_iter()), &mut Vec::new()));
    let _json: serde_json::Value = serde_json::from_str(&tree.to_json()).unwrap();
    for path in [".", "a", "a.b"] {
        if let Ok((beside, elements)) = tree.clone().split(path) {
            drop(beside.flatten(names, &Opened::default(), &mut Vec::new()));
            for element in elements {
                drop(element.flatten(names, &Opened::default(), &mut Vec::new()));
            }
        }
    }
}

#[test]
fn cbor() {
    let mut names = Names::default();
    check("cbor", |bytes| {
        if let Ok(tree) = cbor::tree(bytes) {
            walk(&tree, &mut names);
        }
    });
}

#[test]
fn protobuf() {
    let decoder = protobuf::tests::decoder();
    let mut names = Names::default();
    check("protobuf", |bytes| {
        if let Ok(tree) = decoder.tree(bytes) {
            walk(&tree, &mut names);
        }
    });
}

/// Payloads of several events.
#[test]
fn records() {
    let ways = [
        (serde_json::json!({"as": "json"}), Some("a")),
        (serde_json::json!({"as": "json"}), Some(".")),
        (serde_json::json!({"as": "columns", "header": true}), None),
        (serde_json::json!({"as": "columns", "rows": true, "fields": [{"name": "a"}]}), None),
    ];
    let mut ways = ways.map(|(keys, each)| (payload::Parser::new(&config(keys)), each));
    check("records", |bytes| {
        for (parser, each) in &mut ways {
            let Ok(records) = parser.split(bytes, *each) else { continue };
            for record in &records.list {
                drop(parser.record(record, &mut Vec::new()));
                record.to_line();
            }
        }
    });
}

#[test]
fn scalar() {
    check("scalar", |bytes| drop(scalar::decode(bytes)));
}

#[test]
fn number() {
    check("number", |bytes| {
        drop(number::parse(&as_text(bytes)));
        assert!(number::decimal(&as_text(bytes)).is_none_or(|number| number.scale < 255));
    });
}

#[test]
fn texts() {
    let kinds = ["number", "integer", "float", "hex", "bool", "text"];
    let pieces: Vec<text::Piece> = kinds
        .into_iter()
        .flat_map(|kind| {
            [
                serde_json::json!({"name": "a", "type": kind}),
                serde_json::json!({"name": "a", "type": kind, "comma": true}),
                serde_json::json!({"name": "a", "type": kind, "scale": 0.1, "offset": -40}),
            ]
        })
        .map(|keys| text::Piece::new(&config(keys)))
        .collect();
    check("texts", |bytes| {
        for piece in &pieces {
            drop(piece.field(&text::of_bytes(bytes)));
        }
    });
}

#[test]
fn times() {
    let formats =
        ["unix_s", "unix_ms", "unix_ns", "rfc3339", "%Y-%m-%d %H:%M:%S%.f", "%d.%m.%y %z"];
    let readers = formats.map(|format| {
        time::Reader::new(&config(serde_json::json!({"path": "t", "format": format}))).unwrap()
    });
    check("times", |bytes| {
        for reader in &readers {
            drop(reader.read(&Value::Text(as_text(bytes).into())));
            if let Some(number) = number::parse(&as_text(bytes)) {
                drop(reader.read(&number));
            }
        }
    });
}

#[test]
fn topics() {
    check("topics", |bytes| {
        let (template, topic) = halves(bytes);
        if let Ok(template) = topic::Template::parse(&as_text(template)) {
            drop(template.matches(&as_text(topic)));
            assert!(template.overlaps(&template));
        }
        topic::unshared(&as_text(topic));
    });
}

#[test]
fn patterns() {
    let decoder = pattern::Decoder::new(&config(serde_json::json!({
        "patterns": [r"(?<a>[^,]*),(?<b>.*)", r"(?<c>[0-9]+)\s+(?<d>[a-z]+)?", r"^(?<e>-?\d+\.\d)$"],
        "fields": [{"name": "b", "type": "text"}],
    })));
    check("patterns", |bytes| drop(decoder.decode(bytes, &mut Vec::new())));
}

#[test]
fn columns() {
    let fields = serde_json::json!([{"name": "a"}, {"name": "-"}, {"name": "b", "type": "text"}]);
    let decoders = [
        serde_json::json!({"fields": fields}),
        serde_json::json!({"separator": " ", "fields": fields}),
        serde_json::json!({"separator": ";;", "fields": fields}),
        serde_json::json!({"widths": [1, 3, 2], "fields": fields}),
    ]
    .map(|keys| columns::Decoder::new(&config(keys)));
    check("columns", |bytes| {
        for decoder in &decoders {
            drop(decoder.decode(bytes, &mut Vec::new()));
        }
    });
}

#[test]
fn nmea() {
    let mut names = Names::default();
    check("nmea", |bytes| {
        for unchecked in [false, true] {
            let config = nmea::Config { unchecked, ..nmea::Config::default() };
            names.rewind();
            drop(nmea::decode(bytes, &config, &mut names, &mut Vec::new()));
        }
    });
}

const TYPES: [&str; 15] = [
    "bool", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "bcd16", "bcd32", "bcd64", "f16",
    "f32", "f64",
];

#[test]
fn layouts() {
    let decoders = ["abcd", "cdab", "badc", "dcba"].map(|order| {
        let mut fields: Vec<serde_json::Value> = (0..)
            .zip(TYPES)
            .map(|(at, kind)| serde_json::json!({"name": kind, "at": at, "type": kind}))
            .collect();
        fields.push(serde_json::json!({"name": "s", "at": 2, "type": "string", "length": 9}));
        fields.push(serde_json::json!({"name": "b", "at": 3, "type": "bit", "bit": 7}));
        layout::Decoder::new(&config(serde_json::json!({"order": order, "fields": fields})))
    });
    check("layouts", |bytes| {
        for decoder in &decoders {
            let mut fields = Vec::new();
            decoder.decode(bytes, &mut fields);
            assert_eq!(fields.len(), TYPES.len() + 2);
        }
    });
}

#[test]
fn registers() {
    let kind = |name: &str| serde_json::from_value::<Type>(name.into()).unwrap();
    let mut decoders = Vec::new();
    for order in [Order::Abcd, Order::Cdab, Order::Badc, Order::Dcba] {
        for kind in TYPES.map(kind).into_iter().skip(3).chain([Type::String]) {
            for absent in [vec![], vec![0x8000], vec![u64::MAX, 0xFFFF]] {
                let meaning = Meaning::Number;
                decoders.push(registers::Decoder { kind, order, length: 4, absent, meaning });
            }
        }
    }
    check("registers", |bytes| {
        let (pairs, _) = bytes.as_chunks::<2>();
        let words: Vec<u16> = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
        for decoder in &decoders {
            drop(decoder.decode(&words));
            drop(decoder.decode(words.get(..decoder.width().into()).unwrap_or_default()));
        }
    });
}

#[test]
fn escaped() {
    check("escaped", |bytes| {
        drop(escaped::Escaped::try_from(as_text(bytes).into_owned()));
        let printed = escaped::Escaped::try_from(escaped::print(bytes)).unwrap();
        assert_eq!(printed.get(), bytes);
    });
}

#[test]
fn sparkplug() {
    use sparkplug::flat;
    check("sparkplug", |bytes| {
        sparkplug::show(bytes);
        let Ok(payload) = sparkplug::read(bytes) else { return };
        for metric in &payload.metrics {
            let (types, mut room) = (flat::Types::new(), flat::Room::default());
            flat::flatten("m", metric, &types, &mut room, &mut Vec::new());
            metric.properties.as_ref().map(sparkplug::property::quality);
            metric.properties.as_ref().map(sparkplug::property::unit);
        }
    });
}
