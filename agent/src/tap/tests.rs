//! What is shown against what would be sent, and what a tap leaves alone.

use std::collections::HashSet;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::collect::DeadLetter;
use crate::event::{Decimal, Event, Field, Quality, Timestamp, Value};
use crate::flow::Id;
use crate::raw::{Note, Of, Raw};

fn event(quality: Quality, fields: Vec<Field>) -> Event {
    Event {
        flow: Id(0),
        device: "boiler".into(),
        time: Timestamp(1_767_225_600_123_456_789),
        read_at: None,
        quality,
        fields,
    }
}

fn field(name: &str, value: Value, quality: Option<Quality>) -> Field {
    Field { name: name.into(), unit: None, value, quality }
}

fn no_labels() -> Labels {
    Arc::from([])
}

fn values() -> impl Strategy<Value = Value> {
    let text = |text: String| -> Arc<str> { text.as_str().into() };
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::I64),
        any::<u64>().prop_map(Value::U64),
        any::<u64>().prop_map(|bits| Value::F64(f64::from_bits(bits))),
        any::<(i128, u8)>()
            .prop_map(|(unscaled, scale)| Value::Decimal(Decimal { unscaled, scale })),
        any::<String>().prop_map(move |it| Value::Text(text(it))),
        any::<String>().prop_map(move |it| Value::Json(text(it))),
        Just(Value::Json("{\"a\" :\n 1.50}".into())),
        any::<Vec<u8>>().prop_map(|it| Value::Bytes(it.into())),
        any::<i64>().prop_map(|it| Value::Timestamp { time: Timestamp(it), zoned: true }),
        any::<Vec<i64>>().prop_map(|it| Value::Array(it.into_iter().map(Value::I64).collect())),
    ]
}

fn qualities() -> impl Strategy<Value = Option<Quality>> {
    (0..10_u8).prop_map(Quality::from_u8)
}

proptest! {
    #[test]
    fn what_is_shown_is_what_would_be_sent(
        // A source gives each name once.
        named in proptest::collection::btree_map(
            "[a-c_.]{0,2}|ts|quality|site|x_q",
            (values(), qualities()),
            0..8,
        ),
        whole in qualities(),
        read_at: bool,
        labels in proptest::sample::subsequence(vec!["site", "quality", "a"], 0..=3),
    ) {
        let fields = named.into_iter().map(|(name, (value, own))| field(&name, value, own));
        let mut event = event(whole.unwrap_or_default(), fields.collect());
        event.read_at = read_at.then_some(Timestamp(5));
        let labels = labels.into_iter().map(|name| (Arc::from(name), Arc::from("text")));
        let labels: Labels = labels.collect();
        let delivery = Delivery { events: vec![event], ..Delivery::default() };
        let (mut seen, _) = seen::of(delivery, &labels);
        let Seen { event, fields, .. } = seen.remove(0);
        let sent: Json = serde_json::from_slice(&seen::text(&event, &labels)).unwrap();
        prop_assert_eq!(fields.len(), event.fields.len());
        for shown in &fields {
            let value: Json = serde_json::from_str(&shown.value).unwrap();
            prop_assert_eq!(&sent[&shown.name], &value);
            let own = sent.get(format!("{}_q", shown.name)).unwrap_or(&sent["quality"]);
            prop_assert_eq!(own, &shown.quality);
        }
        let names: HashSet<&String> = fields.iter().map(|shown| &shown.name).collect();
        prop_assert_eq!(names.len(), fields.len(), "each is another member");
    }
}

#[test]
fn what_something_was_made_of_stands_beside_it() {
    let bit = |address| Raw::Bit { table: "coil", address, set: true };
    let note = |of, address| Note { of, raw: bit(address) };
    let letter = DeadLetter {
        reason: "no JSON".into(),
        origin: "hall a/b".into(),
        payload: Vec::new(),
        length: 0,
    };
    let two = vec![field("a", Value::I64(1), None), field("b", Value::Null, None)];
    let delivery = Delivery {
        events: vec![event(Quality::Good, two), event(Quality::Good, Vec::new())],
        dead: vec![letter],
        notes: vec![
            note(Of::Field(1), 1),
            note(Of::Field(1), 2),
            note(Of::Event(1), 3),
            note(Of::Dead(0), 4),
            // What is of nothing is of no harm.
            note(Of::Field(7), 5),
            note(Of::Event(7), 5),
            note(Of::Dead(7), 5),
        ],
        ..Delivery::default()
    };
    let (seen, dead) = seen::of(delivery, &no_labels());
    let fields: Vec<_> = seen[0].fields.iter().map(|shown| shown.raw.clone()).collect();
    assert_eq!(fields, [None, Some(bit(2))], "the last one counts");
    assert_eq!((&seen[0].raw, &seen[1].raw), (&None, &Some(bit(3))));
    assert_eq!(dead[0].raw, Some(bit(4)));
}
