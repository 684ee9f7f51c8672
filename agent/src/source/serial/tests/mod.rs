//! The source: on a line in memory where time is let pass, and on pseudo-terminals and
//! real sockets where the way itself matters.

mod check;
mod held;
mod line;
mod ways;

use super::*;
use crate::collect::DeadLetter;
use crate::event::{Event, Quality, Value};
use crate::flow::Flows;

const NOW: Timestamp = Timestamp(1_767_225_600_123_456_789);

pub(super) fn parse(text: &str) -> Result<Config, ::config::ConfigError> {
    let file = ::config::File::from_str(text, ::config::FileFormat::Toml);
    ::config::Config::builder().add_source(file).build()?.try_deserialize()
}

/// A source with what it tells, and the clock that stamps its events.
struct Bench {
    source: Source,
    link: Link,
    stop: CancellationToken,
    clock: Clock,
}

/// A source at this address, with these keys besides.
fn bench(address: &str, keys: &str) -> Bench {
    let head = format!("name = \"line\"\nstream = \"plant\"\naddress = \"{address}\"\n");
    let config = parse(&(head + keys)).unwrap();
    assert_eq!(config.check(), []);
    let clock = Clock::fixed(NOW);
    let mut flows = Flows::default();
    let (flows, clock_of_source) = (&mut flows, clock.clone());
    let setup = Setup { gateway: "gw1", flows, clock: clock_of_source, saved: None, lost: false };
    let source = Source::new(&config, setup);
    Bench { source, link: Link::new("line".into()), stop: CancellationToken::new(), clock }
}

impl Bench {
    fn faults(&self) -> Vec<(String, String)> {
        self.link.faults().into_iter().collect()
    }
}

/// Names and values of an event.
fn values(event: &Event) -> Vec<(&str, Value)> {
    event.fields.iter().map(|field| (&*field.name, field.value.clone())).collect()
}

fn dead(letter: &DeadLetter) -> (&str, &[u8], u64) {
    (&letter.reason, &letter.payload, letter.length)
}
