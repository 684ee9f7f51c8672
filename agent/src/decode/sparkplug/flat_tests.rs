use proptest::prelude::*;

use super::super::proto::{Argument, Cell, DataSetValue, Parameter, Row};
use super::*;

fn metric(datatype: DataType, value: MetricValue) -> Metric {
    let datatype = Some(datatype as u32);
    Metric { datatype, value: Some(value), ..Metric::default() }
}

fn flat(metric: &Metric) -> Vec<(String, Value, bool)> {
    let mut out = Vec::new();
    flatten("m", metric, &Types::new(), &mut Room::default(), &mut out);
    out.into_iter().map(|flat| (flat.name, flat.value, flat.quality.is_none())).collect()
}

fn one(datatype: DataType, value: MetricValue) -> Option<Value> {
    let [(_, value, is_good)] = &flat(&metric(datatype, value))[..] else { panic!("not one") };
    is_good.then(|| value.clone())
}

#[test]
fn signed_integers_are_twos_complement_in_either_field() {
    use MetricValue::{Int, Long};
    for (datatype, found, expected) in [
        (DataType::Int8, Int(0xFFFF_FFFF), Some(-1)),
        (DataType::Int8, Int(0xFF), Some(-1)),
        (DataType::Int8, Int(127), Some(127)),
        (DataType::Int8, Int(256), None),
        (DataType::Int16, Long(0x8000), Some(-32_768)),
        (DataType::Int16, Long(u64::MAX), Some(-1)),
        (DataType::Int32, Int(0x8000_0000), Some(-2_147_483_648)),
        (DataType::Int32, Long(u64::MAX - 4), Some(-5)),
        (DataType::Int32, Long(1 << 40), None),
        (DataType::Int64, Long(u64::MAX), Some(-1)),
        (DataType::UInt8, Int(255), Some(255)),
        (DataType::UInt8, Int(256), None),
        (DataType::UInt32, Long(0xFFFF_FFFF), Some(0xFFFF_FFFF)),
        (DataType::UInt32, Int(0xFFFF_FFFF), Some(0xFFFF_FFFF)),
    ] {
        let found_value = one(datatype, found.clone());
        assert_eq!(found_value, expected.map(Value::I64), "{datatype:?} {found:?}");
    }
    assert_eq!(one(DataType::UInt64, Long(u64::MAX)), Some(Value::U64(u64::MAX)));
}

#[test]
fn the_other_types_are_what_they_are() {
    let text = |text: &str| MetricValue::String(text.to_owned());
    assert_eq!(one(DataType::Float, MetricValue::Float(0.5)), Some(Value::F64(0.5)));
    assert_eq!(one(DataType::Float, MetricValue::Float(23.1)), Some(Value::F64(23.1)));
    let floats = MetricValue::Bytes(23.1_f32.to_le_bytes().to_vec());
    let array = Value::Array([Value::F64(23.1)].into());
    assert_eq!(one(DataType::FloatArray, floats), Some(array));
    assert_eq!(one(DataType::DateTime, MetricValue::Long(u64::MAX)), None, "not 1969");
    assert_eq!(one(DataType::Boolean, MetricValue::Boolean(true)), Some(Value::Bool(true)));
    assert_eq!(one(DataType::Text, text("a")), Some(Value::Text("a".into())));
    let time = Timestamp(1_486_144_502_122_000_000);
    assert_eq!(
        one(DataType::DateTime, MetricValue::Long(1_486_144_502_122)),
        Some(Value::Timestamp { time, zoned: true })
    );
    let mut uuid = [0; 16];
    (uuid[0], uuid[15]) = (0x12, 0xEF);
    let written = "12000000-0000-0000-0000-0000000000ef";
    assert_eq!(one(DataType::Uuid, text(written)), Some(Value::Uuid(uuid)));
    assert_eq!(one(DataType::Uuid, text("no uuid")), None);
    let bytes = MetricValue::Bytes(vec![1, 2]);
    assert_eq!(one(DataType::File, bytes.clone()), Some(Value::Bytes([1, 2].as_slice().into())));
    let array = Value::Array([Value::I64(1), Value::I64(2)].into());
    assert_eq!(one(DataType::UInt8Array, bytes), Some(array));
}

#[test]
fn a_data_set_is_a_field_for_each_column() {
    let cell = |value| DataSetValue { value: Some(value) };
    let row =
        |n, text: &str| Row { elements: vec![cell(Cell::Int(n)), cell(Cell::String(text.into()))] };
    let set = DataSet {
        num_of_columns: Some(2),
        columns: vec!["n".to_owned(), "t".to_owned()],
        types: vec![DataType::Int8 as u32, DataType::String as u32],
        rows: vec![row(1, "a"), row(0xFFFF_FFFF, "b")],
    };
    let texts = [Value::Text("a".into()), Value::Text("b".into())];
    let fields = flat(&metric(DataType::DataSet, MetricValue::DataSet(set)));
    assert_eq!(
        fields,
        [
            ("m/n".to_owned(), Value::Array([Value::I64(1), Value::I64(-1)].into()), true),
            ("m/t".to_owned(), Value::Array(texts.into()), true),
        ]
    );
}

#[test]
fn a_row_that_is_too_short_makes_its_column_bad() {
    let set = DataSet {
        columns: vec!["n".to_owned()],
        types: vec![DataType::Int8 as u32],
        rows: vec![Row::default()],
        ..DataSet::default()
    };
    let fields = flat(&metric(DataType::DataSet, MetricValue::DataSet(set)));
    assert_eq!(fields, [("m/n".to_owned(), Value::Array([Value::Null].into()), false)]);
}

#[test]
fn a_template_is_a_field_for_each_member_and_parameter() {
    let mut inner = metric(DataType::Int16, MetricValue::Int(5));
    inner.name = Some("x".to_owned());
    let nested = |metrics| Template { metrics, ..Template::default() };
    let mut outer = metric(DataType::Template, MetricValue::Template(nested(vec![inner])));
    outer.name = Some("in".to_owned());
    let mut template = nested(vec![outer]);
    template.parameters.push(Parameter {
        name: Some("p".to_owned()),
        r#type: Some(DataType::String as u32),
        value: Some(Argument::String("v".to_owned())),
    });
    let fields = flat(&metric(DataType::Template, MetricValue::Template(template)));
    assert_eq!(
        fields,
        [
            ("m/in/x".to_owned(), Value::I64(5), true),
            ("m/p".to_owned(), Value::Text("v".into()), true),
        ]
    );
}

#[test]
fn definitions_that_name_each_other_end() {
    let member = |n: usize| Metric {
        name: Some(format!("m{n}")),
        value: Some(MetricValue::Template(Template {
            template_ref: Some("T".to_owned()),
            ..Template::default()
        })),
        ..Metric::default()
    };
    let definition = Template { metrics: (0..50).map(member).collect(), ..Template::default() };
    let mut types = Types::new();
    let find = |name: &str| (name == "T").then_some(&definition);
    learn("x", &member(0), &find, &mut types, &mut Room::default());
    assert!(types.is_empty());
}

#[test]
fn the_types_of_all_instances_of_a_birth_are_bounded() {
    let member = |n: usize| Metric {
        name: Some(format!("m{n}")),
        datatype: Some(DataType::Int8 as u32),
        ..Metric::default()
    };
    let definition = Template { metrics: (0..1_000).map(member).collect(), ..Template::default() };
    let instance = Template { template_ref: Some("T".to_owned()), ..Template::default() };
    let instance = metric(DataType::Template, MetricValue::Template(instance));
    let (mut types, mut room) = (Types::new(), Room::default());
    for n in 0..1_000 {
        learn(&format!("i{n}"), &instance, &|_: &str| Some(&definition), &mut types, &mut room);
    }
    let memory: usize = types.keys().map(|name| TYPE + name.len()).sum();
    assert!((MOST_BYTES / 2..=MOST_BYTES).contains(&memory), "{memory}");
}

#[test]
fn arrays_that_are_too_large_together_stand_as_they_came() {
    let bits = [&400_000_u32.to_le_bytes()[..], &vec![0xFF; 50_000]].concat();
    let large = metric(DataType::BooleanArray, MetricValue::Bytes(bits.clone()));
    let [(_, value, is_good)] = &flat(&large)[..] else { panic!("not one") };
    assert_eq!((value, is_good), (&Value::Bytes(bits.into()), &false));
    // Each of them alone has room.
    let bits = [&40_000_u32.to_le_bytes()[..], &[0xFF; 5_000]].concat();
    let metric = metric(DataType::BooleanArray, MetricValue::Bytes(bits));
    let (mut room, mut out) = (Room::default(), Vec::new());
    for _ in 0..100 {
        flatten("m", &metric, &Types::new(), &mut room, &mut out);
    }
    let good = out.iter().filter(|flat| flat.quality.is_none()).count();
    assert!((1..10).contains(&good), "{good}");
}

proptest! {
    #[test]
    fn any_payload_is_flattened_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        use prost::Message as _;
        if let Ok(metric) = Metric::decode(bytes.as_slice()) {
            let _fields = flat(&metric);
        }
        let _shown = super::super::show(&bytes);
    }

    #[test]
    fn any_bytes_of_any_type_are_a_value_or_bad(
        number in 0..40_u32,
        bytes in prop::collection::vec(any::<u8>(), 0..40),
        long in any::<u64>(),
    ) {
        for value in [MetricValue::Bytes(bytes.clone()), MetricValue::Long(long)] {
            let found = Metric { datatype: Some(number), value: Some(value), ..Metric::default() };
            prop_assert_eq!(flat(&found).len(), 1);
        }
    }
}
