//! What stood there before it was decoded, for a person who looks at one source alone
//! (`tap`).
//!
//! A source that is looked at puts [`Note`]s beside what it hands over; any other makes
//! none, which costs it the look at a flag.

use std::sync::Arc;

use crate::event::Value;

/// What an event, a field or a dead letter of a delivery was made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    pub of: Of,
    pub raw: Raw,
}

/// What a [`Note`] is about, by its index in the delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Event(usize),
    Dead(usize),
    /// A field of the delivery's only event. The last note counts: a place may have been
    /// asked for twice.
    Field(usize),
}

/// Bytes, words or columns as they came.
#[derive(Debug, Clone, PartialEq)]
pub enum Raw {
    /// Registers, the one at `address` first.
    Registers { table: &'static str, address: u16, words: Vec<u16> },
    /// A coil or a discrete input.
    Bit { table: &'static str, address: u16, set: bool },
    /// It was asked for, and why nothing came.
    Nothing { table: &'static str, address: u16, why: String },
    /// A message of MQTT.
    Message(Message),
    /// A frame of a serial line, or what was none.
    Frame(Vec<u8>),
    /// The columns of a row in their order, by storage class.
    Row(Vec<(Arc<str>, Value)>),
}

/// A message of MQTT as the broker sent it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// What is no UTF-8 in it is replaced.
    pub topic: String,
    pub payload: Vec<u8>,
    /// That of the delivery: the lower one of what was published and subscribed.
    pub qos: u8,
    /// The broker had kept it for who subscribes later.
    pub retained: bool,
    /// Of version 5, by the names of its specification (3.3.2.3).
    pub properties: Vec<(String, String)>,
}
