use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::buffer::{FieldRef, ValueRef};
use crate::event::{Decimal, Event, Field, Quality, Timestamp, Value};
use crate::flow;

fn owned(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Bool(v) => Value::Bool(v),
        ValueRef::I64(v) => Value::I64(v),
        ValueRef::U64(v) => Value::U64(v),
        ValueRef::F64(v) => Value::F64(v),
        ValueRef::Decimal(v) => Value::Decimal(v),
        ValueRef::Text(v) => Value::Text(v.into()),
        ValueRef::Bytes(v) => Value::Bytes(v.into()),
        ValueRef::Timestamp { time, zoned } => Value::Timestamp { time, zoned },
        ValueRef::Date(v) => Value::Date(v),
        ValueRef::Time(v) => Value::Time(v),
        ValueRef::Uuid(v) => Value::Uuid(v),
        ValueRef::Json(v) => Value::Json(v.into()),
        ValueRef::Array(array) => {
            let elements: Box<[Value]> = array.iter().map(owned).collect();
            assert_eq!(elements.len(), array.len());
            Value::Array(elements)
        }
    }
}

/// What the walk gives, as text: NaN is equal to itself there.
fn walked(bytes: &[u8]) -> Result<Vec<String>, crate::buffer::Damaged> {
    let mut seen = Vec::new();
    walk(bytes, 1, |event| {
        let fields: Vec<_> = event
            .fields
            .iter()
            .map(|f: &FieldRef<'_>| format!("{} {:?} {:?}", f.name, owned(f.value), f.quality))
            .collect();
        seen.push(format!(
            "{} {} {:?} {:?} {:?} {:?} {fields:?}",
            event.seq, event.device, event.time, event.read_at, event.quality, event.labels
        ));
        Ok(())
    })?;
    Ok(seen)
}

fn told(seq: usize, event: &Event) -> String {
    let fields: Vec<_> =
        event.fields.iter().map(|f| format!("{} {:?} {:?}", f.name, f.value, f.quality)).collect();
    format!(
        "{seq} {} {:?} {:?} {:?} {:?} {fields:?}",
        event.device,
        event.time,
        event.read_at,
        event.quality,
        [("site", "north")]
    )
}

fn encoded(events: &[Event]) -> Vec<u8> {
    let labels: Labels = Arc::from([(Arc::from("site"), Arc::from("north"))]);
    let mut encoder = Encoder::default();
    for event in events {
        encoder.add(3, &labels, event);
    }
    let mut bytes = Vec::new();
    encoder.finish(&mut bytes);
    bytes
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::I64),
        any::<u64>().prop_map(Value::U64),
        any::<u64>().prop_map(|bits| Value::F64(f64::from_bits(bits))),
        any::<f32>().prop_map(|short| Value::F64(f64::from(short))),
        (any::<i32>(), 0..9).prop_map(|(digits, decimals)| {
            Value::F64(f64::from(digits) / 10_f64.powi(decimals))
        }),
        (any::<i128>(), any::<u8>())
            .prop_map(|(unscaled, scale)| Value::Decimal(Decimal { unscaled, scale })),
        (any::<i64>(), any::<u8>()).prop_map(|(unscaled, scale)| {
            Value::Decimal(Decimal { unscaled: unscaled.into(), scale })
        }),
        ".{0,20}".prop_map(|text| Value::Text(text.into())),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| Value::Bytes(bytes.into())),
        (any::<i64>(), any::<bool>())
            .prop_map(|(time, zoned)| Value::Timestamp { time: Timestamp(time), zoned }),
        any::<i32>().prop_map(Value::Date),
        any::<u64>().prop_map(Value::Time),
        any::<[u8; 16]>().prop_map(Value::Uuid),
        Just(Value::Json("{\"a\":1}".into())),
    ];
    leaf.prop_recursive(3, 20, 5, |inner| {
        prop::collection::vec(inner, 0..5).prop_map(|list| Value::Array(list.into()))
    })
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let quality = || prop::option::of((0..7_u8).prop_map(|n| Quality::from_u8(n).unwrap()));
    let field = ("[a-c]{1}", prop::option::of("[x-z]{1}"), values(), quality()).prop_map(
        |(name, unit, value, quality)| Field {
            name: name.into(),
            unit: unit.map(Into::into),
            value,
            quality,
        },
    );
    let event = (
        "[a-c]{1}",
        any::<i64>(),
        prop::option::of(any::<i64>()),
        quality(),
        prop::collection::vec(field, 0..6),
    )
        .prop_map(|(device, time, read_at, quality, fields)| Event {
            flow: flow::Id(0),
            device: device.into(),
            time: Timestamp(time),
            read_at: read_at.map(Timestamp),
            quality: quality.unwrap_or_default(),
            fields,
        });
    prop::collection::vec(event, 0..20)
}

proptest! {
    #[test]
    fn every_event_comes_back_as_it_went_in(events in events()) {
        let told: Vec<_> =
            events.iter().enumerate().map(|(index, event)| told(index + 1, event)).collect();
        prop_assert_eq!(walked(&encoded(&events)).unwrap(), told);
    }

    #[test]
    fn an_event_taken_out_of_its_batch_is_the_same_event(events in events()) {
        let bytes = encoded(&events);
        for (index, event) in events.iter().enumerate() {
            let (time, one) = extract(&bytes, index).unwrap();
            prop_assert_eq!(time, event.time);
            prop_assert_eq!(walked(&one).unwrap(), vec![told(1, event)]);
        }
        prop_assert!(extract(&bytes, events.len()).is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(walked(&bytes));
        drop(extract(&bytes, 0));
    }

    #[test]
    fn a_changed_batch_is_read_or_refused(
        events in events(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encoded(&events);
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        drop(walked(&bytes));
        drop(extract(&bytes, 1));
        bytes.truncate(cut.index(bytes.len()));
        drop(walked(&bytes));
    }
}

#[test]
fn the_float_keeps_its_bits() {
    for number in [f64::NAN, f64::INFINITY, -0.0, 0.1, 21.5, f64::from_bits(0x7ff0_0000_0000_0001)]
    {
        let field =
            Field { name: "x".into(), unit: None, value: Value::F64(number), quality: None };
        let event = Event {
            flow: flow::Id(0),
            device: "d".into(),
            time: Timestamp(0),
            read_at: None,
            quality: Quality::Good,
            fields: vec![field],
        };
        let mut seen = None;
        walk(&encoded(&[event]), 1, |event| {
            if let [FieldRef { value: ValueRef::F64(number), .. }] = event.fields {
                seen = Some(number.to_bits());
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, Some(number.to_bits()));
    }
}

/// Bytes of an event with this one value beside those of one with a null.
fn bytes_of(number: f64) -> usize {
    let event = |value| Event {
        flow: flow::Id(0),
        device: "d".into(),
        time: Timestamp(0),
        read_at: None,
        quality: Quality::Good,
        fields: vec![Field { name: "x".into(), unit: None, value, quality: None }],
    };
    encoded(&[event(Value::F64(number))]).len() - encoded(&[event(Value::Null)]).len() + 1
}

#[test]
fn a_reading_of_few_decimals_takes_few_bytes() {
    for (number, bytes) in [
        (20.34, 4),
        (-0.07, 2),
        (1013.25, 4 + 1), // as an f32
        (1013.26, 4 + 2),
        (0.000_001, 2),
        (123_456.789, 6),
        (1e-7, 9),
        (1.0 / 3.0, 9),
        (f64::from_bits(20.34_f64.to_bits() + 1), 9),
        (1e300, 9),
        (4_294_967_295.9, 9),
    ] {
        assert_eq!(bytes_of(number), bytes, "{number}");
    }
}

#[test]
fn a_name_is_the_same_index_in_all_events() {
    let field = |name: &str| Field {
        name: name.into(),
        unit: None,
        value: Value::Bool(true),
        quality: None,
    };
    let event = |fields| Event {
        flow: flow::Id(0),
        device: "d".into(),
        time: Timestamp(0),
        read_at: None,
        quality: Quality::Good,
        fields,
    };
    let events = [
        event(vec![field("a"), field("b")]),
        event(vec![field("b"), field("c"), field("a")]),
        event(vec![field("b")]),
    ];
    let mut indices = Vec::new();
    walk(&encoded(&events), 1, |event| {
        indices.push(event.fields.iter().map(|f| f.name_index).collect::<Vec<_>>());
        Ok(())
    })
    .unwrap();
    assert_eq!(indices, [vec![0, 1], vec![1, 2, 0], vec![1]]);
}

#[test]
fn arrays_in_arrays_do_not_reach_the_end_of_the_stack() {
    // A batch of one event, one field, a hundred thousand arrays.
    let mut bytes = vec![0x84, 0x01, 0x81, 0x82, 0x60, 0x80, 0x81, 0x82, 0x60, 0xf6, 0x81];
    bytes.extend([0x00, 0x00, 0xf6, 0x00, 0x01, 0x00]);
    bytes.resize(bytes.len() + 100_000, 0x81);
    assert!(walked(&bytes).is_err());
}
