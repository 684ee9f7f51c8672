//! The promises of the position, of the file and of what it drops.

mod bounds;
mod cost;
mod definitions;
mod histories;
mod model;
mod position;
mod requeue;

use proptest::prelude::ProptestConfig;

use crate::event::{Event, Quality, Timestamp};
use crate::flow;

/// An event with nothing in it.
fn event(flow: flow::Id, time: i64) -> Event {
    Event {
        flow,
        device: "d".into(),
        time: Timestamp(time),
        read_at: None,
        quality: Quality::Good,
        fields: Vec::new(),
    }
}

/// So many cases of a property; `PROPTEST_CASES` asks for another number.
fn cases(usual: u32) -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    if asked { ProptestConfig::default() } else { ProptestConfig::with_cases(usual) }
}
