use proptest::prelude::*;

use super::super::proto::DataType;
use super::*;

fn of(metric: Metric) -> Payload {
    Payload { seq: Some(1), metrics: vec![metric], ..Payload::default() }
}

#[test]
fn a_text_that_is_not_utf_8_costs_only_what_is_wrong_in_it() {
    let properties = PropertySet {
        keys: vec!["engUnit".to_owned()],
        values: vec![PropertyValue {
            value: Some(proto::Property::String("~C".to_owned())),
            ..PropertyValue::default()
        }],
    };
    let metric = Metric {
        name: Some("K~hlung/Tür".to_owned()),
        properties: Some(properties),
        value: Some(MetricValue::Int(7)),
        ..Metric::default()
    };
    let mut bytes = of(metric.clone()).encode_to_vec();
    bytes.iter_mut().filter(|byte| **byte == b'~').for_each(|byte| *byte = 0xB0);
    assert!(Payload::decode(&*bytes).is_err(), "the decoder alone refuses it");
    let payload = read(&bytes).unwrap();
    let read = &payload.metrics[0];
    assert_eq!(read.name(), "K?hlung/Tür");
    assert_eq!(super::super::property::unit(read.properties.as_ref().unwrap()), Some("?C"));
    assert_eq!(read.value, metric.value);
}

#[test]
fn a_text_that_ends_in_the_midst_of_a_character_is_mended() {
    let mut text = *b"a\xC3b\xE2\x82";
    mend(&mut text);
    assert_eq!(&text, b"a?b??");
}

#[test]
fn what_would_take_too_much_memory_is_none_before_it_takes_it() {
    // Metrics of two bytes each.
    let empty = [0x12, 0].repeat(500_000);
    assert!(matches!(read(&empty), Err(Error::TooMuch)));
    // Columns and rows without a byte in them.
    let set = |columns: usize, rows| DataSet {
        columns: vec![String::new(); columns],
        rows: vec![Row::default(); rows],
        ..DataSet::default()
    };
    let of_set = |set| {
        let value = Some(MetricValue::DataSet(set));
        of(Metric { datatype: Some(DataType::DataSet as u32), value, ..Metric::default() })
    };
    let wide = of_set(set(15_000, 15_000)).encode_to_vec();
    assert!(wide.len() < 64 * 1_024, "{}", wide.len());
    assert!(matches!(read(&wide), Err(Error::Swollen)));
    // Two parts of one value, each of which is small.
    let halves =
        [of_set(set(3_000, 0)), of_set(set(0, 3_000))].map(|half| half.metrics[0].encode_to_vec());
    let merged = halves.concat();
    let mut bytes = vec![0x12];
    prost::encoding::encode_varint(merged.len().try_into().unwrap(), &mut bytes);
    bytes.extend(merged);
    assert!(matches!(read(&bytes), Err(Error::Swollen)));
    let long = of(Metric { name: Some("n".repeat(2_000)), ..Metric::default() });
    assert!(matches!(read(&long.encode_to_vec()), Err(Error::LongName)));
}

#[test]
fn a_large_birth_and_a_full_table_are_read() {
    let name = |n| Some(format!("Area {}/Line {}/Machine/Value {n}", n % 10, n % 100));
    let metric = |n: u64| Metric {
        name: name(n),
        alias: Some(n),
        timestamp: Some(1_700_000_000_000),
        datatype: Some(DataType::Double as u32),
        value: Some(MetricValue::Double(0.5)),
        ..Metric::default()
    };
    let birth = Payload { metrics: (0..15_000).map(metric).collect(), ..Payload::default() };
    assert_eq!(read(&birth.encode_to_vec()).unwrap(), birth);
    let cell = |n| DataSetValue { value: Some(proto::Cell::Int(n)) };
    let row = |n| Row { elements: (0..20_u32).map(|at| cell(n + at)).collect() };
    let set = DataSet {
        columns: (0..20).map(|n| format!("c{n}")).collect(),
        types: vec![DataType::Int32 as u32; 20],
        rows: (0..1_000).map(row).collect(),
        ..DataSet::default()
    };
    let table = of(Metric { value: Some(MetricValue::DataSet(set)), ..Metric::default() });
    assert_eq!(read(&table.encode_to_vec()).unwrap(), table);
}

proptest! {
    #[test]
    fn any_bytes_are_what_the_decoder_says_or_mended(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        if let Ok(payload) = Payload::decode(&*bytes) {
            let read = read(&bytes).unwrap();
            prop_assert_eq!(read.encode_to_vec(), payload.encode_to_vec());
        } else {
            let _mended = read(&bytes);
        }
    }
}
