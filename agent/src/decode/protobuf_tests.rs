use proptest::prelude::*;
use prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto, FileDescriptorSet, MessageOptions, OneofDescriptorProto,
};
use prost_reflect::{MapKey, Value as Wire};

use super::*;

fn field(name: &str, number: i32, kind: Type) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        r#type: Some(kind.into()),
        label: Some(Label::Optional.into()),
        ..FieldDescriptorProto::default()
    }
}

fn of(name: &str, number: i32, kind: Type, type_name: &str) -> FieldDescriptorProto {
    FieldDescriptorProto { type_name: Some(type_name.to_owned()), ..field(name, number, kind) }
}

fn repeated(field: FieldDescriptorProto) -> FieldDescriptorProto {
    FieldDescriptorProto { label: Some(Label::Repeated.into()), ..field }
}

fn message(name: &str, fields: Vec<FieldDescriptorProto>) -> DescriptorProto {
    DescriptorProto { name: Some(name.to_owned()), field: fields, ..DescriptorProto::default() }
}

/// plant.v1: what a reading of a machine may have.
fn described() -> Vec<u8> {
    let entry = DescriptorProto {
        options: Some(MessageOptions { map_entry: Some(true), ..MessageOptions::default() }),
        ..message("TagsEntry", vec![field("key", 1, Type::String), field("value", 2, Type::Double)])
    };
    let optional = FieldDescriptorProto {
        proto3_optional: Some(true),
        oneof_index: Some(0),
        ..field("humidity", 6, Type::Float)
    };
    let reading = DescriptorProto {
        nested_type: vec![entry],
        oneof_decl: vec![OneofDescriptorProto {
            name: Some("_humidity".to_owned()),
            ..OneofDescriptorProto::default()
        }],
        ..message(
            "Reading",
            vec![
                field("device", 1, Type::String),
                field("temp", 2, Type::Double),
                of("state", 3, Type::Enum, ".plant.v1.State"),
                of("motor", 4, Type::Message, ".plant.v1.Motor"),
                repeated(field("samples", 5, Type::Sint32)),
                optional,
                repeated(of("tags", 7, Type::Message, ".plant.v1.Reading.TagsEntry")),
                field("raw", 8, Type::Bytes),
                of("at", 9, Type::Message, ".google.protobuf.Timestamp"),
                repeated(of("motors", 10, Type::Message, ".plant.v1.Motor")),
                field("count", 11, Type::Uint64),
            ],
        )
    };
    let state = EnumDescriptorProto {
        name: Some("State".to_owned()),
        value: [("IDLE", 0), ("RUNNING", 1)]
            .map(|(name, number)| EnumValueDescriptorProto {
                name: Some(name.to_owned()),
                number: Some(number),
                options: None,
            })
            .into(),
        ..EnumDescriptorProto::default()
    };
    let motor = message("Motor", vec![field("rpm", 1, Type::Uint32), field("hot", 2, Type::Bool)]);
    let plant = FileDescriptorProto {
        name: Some("plant.proto".to_owned()),
        package: Some("plant.v1".to_owned()),
        syntax: Some("proto3".to_owned()),
        dependency: vec!["google/protobuf/timestamp.proto".to_owned()],
        message_type: vec![reading, motor],
        enum_type: vec![state],
        ..FileDescriptorProto::default()
    };
    let timestamp = FileDescriptorProto {
        name: Some("google/protobuf/timestamp.proto".to_owned()),
        package: Some("google.protobuf".to_owned()),
        syntax: Some("proto3".to_owned()),
        message_type: vec![message(
            "Timestamp",
            vec![field("seconds", 1, Type::Int64), field("nanos", 2, Type::Int32)],
        )],
        ..FileDescriptorProto::default()
    };
    FileDescriptorSet { file: vec![timestamp, plant] }.encode_to_vec()
}

fn config(folder: &tempfile::TempDir, file: &[u8], message: &str) -> Config {
    let descriptor = folder.path().join("plant.pb");
    std::fs::write(&descriptor, file).unwrap();
    Config { descriptor, message: message.to_owned() }
}

pub(in crate::decode) fn decoder() -> Decoder {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder, &described(), "plant.v1.Reading");
    assert_eq!(config.check(), []);
    Decoder::new(&config)
}

fn empty(decoder: &Decoder, name: &str) -> DynamicMessage {
    let pool = decoder.message.as_ref().unwrap().parent_pool().clone();
    DynamicMessage::new(pool.get_message_by_name(name).unwrap())
}

#[test]
fn a_message_becomes_what_its_descriptor_says() {
    let decoder = decoder();
    let mut motor = empty(&decoder, "plant.v1.Motor");
    motor.set_field_by_name("rpm", Wire::U32(1_500));
    let mut at = empty(&decoder, "google.protobuf.Timestamp");
    at.set_field_by_name("seconds", Wire::I64(2));
    at.set_field_by_name("nanos", Wire::I32(5));
    let mut reading = empty(&decoder, "plant.v1.Reading");
    reading.set_field_by_name("device", Wire::String("press".into()));
    reading.set_field_by_name("state", Wire::EnumNumber(1));
    reading.set_field_by_name("motor", Wire::Message(motor.clone()));
    reading.set_field_by_name("humidity", Wire::F32(23.1));
    reading.set_field_by_name("samples", Wire::List(vec![Wire::I32(-1), Wire::I32(2)]));
    let tags = [("b", 2.0), ("a", 1.0)];
    let tags = tags.map(|(key, value)| (MapKey::String(key.into()), Wire::F64(value)));
    reading.set_field_by_name("tags", Wire::Map(tags.into()));
    reading.set_field_by_name("raw", Wire::Bytes(vec![1, 2].into()));
    reading.set_field_by_name("at", Wire::Message(at));
    reading.set_field_by_name("motors", Wire::List(vec![Wire::Message(motor)]));
    reading.set_field_by_name("count", Wire::U64(u64::MAX));
    // Of a later version of the device: field 200, a varint.
    let payload = [reading.encode_to_vec(), vec![0xC0, 0x0C, 7]].concat();
    let node = decoder.tree(&payload).unwrap();
    let expected = concat!(
        r#"{"device":"press","temp":0.0,"state":"RUNNING","motor":{"rpm":1500,"hot":false},"#,
        r#""samples":[-1,2],"humidity":23.1,"tags":{"a":1.0,"b":2.0},"raw":"AQI=","at":"1970-01-01T00:00:02.000000005Z","#,
        r#""motors":[{"rpm":1500,"hot":false}],"count":18446744073709551615}"#
    );
    assert_eq!(node.to_json(), expected);
}

#[test]
fn what_is_absent_has_its_default_or_is_left_out_and_an_unknown_enum_is_its_number() {
    let decoder = decoder();
    let node = decoder.tree(&[0x18, 9]).unwrap();
    let expected = r#"{"device":"","temp":0.0,"state":9,"raw":"","count":0}"#;
    assert_eq!(node.to_json(), expected);
    // An empty message is one with defaults only.
    assert!(decoder.tree(&[]).is_ok());
}

#[test]
fn another_message_is_no_event_of_defaults() {
    let error = decoder().tree(&[0xC0, 0x0C, 7]).unwrap_err();
    assert_eq!(error, Error::Foreign("plant.v1.Reading".to_owned()));
    let error = decoder().tree(b"{\"temp\":21.5}").unwrap_err();
    assert!(matches!(error, Error::Malformed { .. } | Error::Foreign(_)), "{error}");
}

#[test]
fn what_would_take_too_much_memory_is_none_before_it_takes_it() {
    // Half a million values, packed.
    let many = [vec![0x2A, 0x80, 0x80, 0x20], vec![0; 0x8_0000]].concat();
    assert_eq!(decoder().tree(&many).unwrap_err(), Error::TooMuch(TooMuch::Values));
    // As many empty messages, each of two bytes.
    let empty = [0x52, 0].repeat(0x8_0000);
    assert_eq!(decoder().tree(&empty).unwrap_err(), Error::TooMuch(TooMuch::Values));
    // Unknown groups within each other.
    let deep = vec![0x1B; 100_000];
    assert_eq!(decoder().tree(&deep).unwrap_err(), Error::TooMuch(TooMuch::Depth));
}

#[test]
fn a_wrong_descriptor_is_told_with_what_would_be_right() {
    let folder = tempfile::tempdir().unwrap();
    let told = |file: &[u8], message: &str| {
        let mut wrong = config(&folder, file, message).check();
        assert_eq!(wrong.len(), 1);
        let (key, what) = wrong.remove(0);
        format!("{key}: {}", what.replace(&folder.path().display().to_string(), "/etc"))
    };
    let near = "message: the descriptor has no message `Reading`: did you mean `plant.v1.Reading`?";
    assert_eq!(told(&described(), "Reading"), near);
    let near = "message: the descriptor has no message `plant.v1.Readings`: did you mean \
                `plant.v1.Reading`?";
    assert_eq!(told(&described(), "plant.v1.Readings"), near);
    let far = "message: the descriptor has no message `x`: it has `google.protobuf.Timestamp`, \
               `plant.v1.Reading`, `plant.v1.Reading.TagsEntry`, `plant.v1.Motor`";
    assert_eq!(told(&described(), "x"), far);
    let text = told(b"syntax = \"proto3\";\nmessage Reading {}\n", "Reading");
    assert!(text.starts_with("descriptor: /etc/plant.pb holds no whole descriptor set"), "{text}");
    let none = told(b"", "Reading");
    assert!(none.starts_with("descriptor: /etc/plant.pb describes no message"), "{none}");
    let mut set = FileDescriptorSet::decode(&*described()).unwrap();
    set.file.remove(0);
    let half = told(&set.encode_to_vec(), "plant.v1.Reading");
    assert!(half.contains("--include_imports"), "{half}");
    let config = Config { descriptor: folder.path().join("no.pb"), message: "a".to_owned() };
    let (key, what) = config.check().remove(0);
    assert!(key == "descriptor" && what.starts_with("cannot read "), "{what}");
}

#[test]
fn without_its_descriptor_each_payload_is_told_to_be_unread() {
    let config = Config { descriptor: "/nowhere/plant.pb".into(), message: "a".to_owned() };
    let error = Decoder::new(&config).tree(&[]).unwrap_err();
    assert!(error.to_string().starts_with("cannot read /nowhere/plant.pb"), "{error}");
}

proptest! {
    #[test]
    fn any_bytes_give_a_tree_or_an_error(payloads in proptest::collection::vec(any::<Vec<u8>>(), 40)) {
        let decoder = decoder();
        for payload in payloads {
            let _either = decoder.tree(&payload);
        }
    }

    /// Keys of fields that there are, and what may stand behind them.
    #[test]
    fn any_fields_give_a_tree_or_an_error(
        bytes in proptest::collection::vec(
            proptest::sample::select(vec![
                0x0A, 0x11, 0x18, 0x22, 0x2A, 0x28, 0x35, 0x3A, 0x42, 0x4A, 0x52, 0x58, 0x08, 0x10,
                0x00, 0x01, 0x02, 0x03, 0x04, 0x7F, 0x80, 0xFF,
            ]),
            0..40,
        )
    ) {
        if let Ok(node) = decoder().tree(&bytes) {
            serde_json::from_str::<serde::de::IgnoredAny>(&node.to_json()).unwrap();
        }
    }
}
