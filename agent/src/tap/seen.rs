//! An event as it will be sent, and what it was made of.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::buffer::{Batch, BatchId, Encoder, Epoch, Labels};
use crate::collect::{DeadLetter, Delivery};
use crate::encode::json;
use crate::event::Event;
use crate::flow;
use crate::raw::{Note, Of, Raw};

/// An event, its fields as they stand in the record, and what it was made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub event: Event,
    pub fields: Vec<Shown>,
    /// What all of it was made of: a message, a row.
    pub raw: Option<Raw>,
}

/// A field as the record has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// Another one than the source's where a record cannot carry that.
    pub name: String,
    pub unit: Option<String>,
    /// JSON.
    pub value: String,
    pub quality: String,
    /// What it alone was made of: registers.
    pub raw: Option<Raw>,
}

/// What became no event.
#[derive(Debug, Clone, PartialEq)]
pub struct Dead {
    pub letter: DeadLetter,
    pub raw: Option<Raw>,
}

/// All of a delivery.
pub(super) fn of(delivery: Delivery, labels: &Labels) -> (Vec<Seen>, Vec<Dead>) {
    let seen = |event: Event| Seen { fields: fields(&event, labels), event, raw: None };
    let mut seen: Vec<Seen> = delivery.events.into_iter().map(seen).collect();
    let dead = delivery.dead.into_iter().map(|letter| Dead { letter, raw: None });
    let mut dead: Vec<Dead> = dead.collect();
    for Note { of, raw } in delivery.notes {
        let place = match of {
            Of::Event(index) => seen.get_mut(index).map(|seen| &mut seen.raw),
            Of::Dead(index) => dead.get_mut(index).map(|dead| &mut dead.raw),
            Of::Field(index) => {
                let fields = seen.first_mut().map(|seen| &mut seen.fields);
                fields.and_then(|fields| fields.get_mut(index)).map(|field| &mut field.raw)
            }
        };
        if let Some(place) = place {
            *place = Some(raw);
        }
    }
    (seen, dead)
}

/// The fields of the record that would be sent: an event goes the whole way to it, through
/// the buffer's form and the encoder, so that nothing is shown that is sent as something
/// else.
fn fields(event: &Event, labels: &Labels) -> Vec<Shown> {
    let mut members = record(event, labels).0.into_iter().peekable();
    // In the order of `encode::json`: what the agent writes, the labels, the fields.
    while members.next_if(|(name, _)| name != "quality").is_some() {}
    let read_at = usize::from(event.read_at.is_some());
    let before = 1 + read_at + labels.len();
    for _ in 0..before {
        members.next();
    }
    let shown = event.fields.iter().map_while(|field| {
        let (name, value) = members.next()?;
        // No field's own name ends so: `names::rename` sees to it.
        let own = members.next_if(|(next, _)| next.strip_suffix("_q") == Some(&name));
        let own = own.map(|(_, own)| own.get().trim_matches('"').to_owned());
        Some(Shown {
            name,
            unit: field.unit.as_deref().map(str::to_owned),
            value: value.get().to_owned(),
            quality: own.unwrap_or_else(|| event.quality.as_str().to_owned()),
            raw: None,
        })
    });
    shown.collect()
}

fn record(event: &Event, labels: &Labels) -> Members {
    serde_json::from_slice(&text(event, labels)).expect("a record is JSON")
}

/// The record without what only a run of the agent can give it.
pub(super) fn text(event: &Event, labels: &Labels) -> Vec<u8> {
    let (mut stored, mut events, mut record) = (Encoder::default(), Vec::new(), Vec::new());
    stored.add(0, labels, event);
    stored.finish(&mut events);
    let mut encoder = json::Encoder::new();
    encoder.begin("", Epoch(0));
    let walked = batch(events).events(|event| {
        encoder.event(&event, &mut record);
        Ok(())
    });
    walked.expect("what was stored here is whole");
    record
}

/// The members of a record in their order.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(record: D) -> Result<Self, D::Error> {
        record.deserialize_map(Collect)
    }
}

struct Collect;

impl<'de> Visitor<'de> for Collect {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

/// A batch of one event that no file holds.
fn batch(events: Vec<u8>) -> Batch {
    Batch {
        id: BatchId(0),
        gateway: "".into(),
        epoch: Epoch(0),
        written: Epoch(0),
        number: 1,
        flow: flow::Hash(0),
        first_seq: 1,
        count: 1,
        buried: Vec::new(),
        events,
    }
}
