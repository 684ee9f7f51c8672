//! The promises of the writer, on real files.

use std::path::Path;

use super::*;
use crate::buffer::{Batch, BatchId};
use crate::event::{Field, Quality, Timestamp, Value};
use crate::flow::Lane;
use crate::units::{ByteSize, Period};

/// Nothing is committed for the time alone.
const NEVER: Period = Period::from_secs(3_600);

struct Fixture {
    collector: Collector,
    intakes: Vec<Intake>,
    flow: crate::flow::Flow,
    id: crate::flow::Id,
}

fn config(folder: &Path) -> buffer::Config {
    buffer::Config {
        path: folder.join("buffer.db"),
        commit_interval: NEVER,
        max_size: ByteSize::mib(64),
    }
}

fn open(config: &buffer::Config) -> Buffer {
    Buffer::open(config, "gw1", Clock::fixed(Timestamp(7))).unwrap()
}

fn begin(config: &buffer::Config, lane: Lane) -> Fixture {
    let mut flows = Flows::default();
    let id = flows.id("plant", lane);
    let flow = flows.get(id).clone();
    let source = |name: &str| SourceInfo {
        name: name.into(),
        labels: vec![("site".into(), "north".into())],
    };
    let (collector, intakes) = start(open(config), vec![source("a"), source("b")], flows).unwrap();
    Fixture { collector, intakes, flow, id }
}

fn event(flow: crate::flow::Id, value: i64) -> Event {
    Event {
        flow,
        device: "boiler".into(),
        time: Timestamp(value),
        read_at: None,
        quality: Quality::Good,
        fields: vec![Field {
            name: "n".into(),
            unit: None,
            value: Value::I64(value),
            quality: None,
        }],
    }
}

fn delivery(flow: crate::flow::Id, values: std::ops::Range<i64>) -> Delivery {
    Delivery { events: values.map(|n| event(flow, n)).collect(), bytes: 100, ..Delivery::default() }
}

fn all(store: &Store, flow: &crate::flow::Flow) -> Vec<Batch> {
    store.reader().unwrap().batches(flow.hash, BatchId(0), u32::MAX, usize::MAX).unwrap()
}

/// Times of the stored events, which are the numbers that they were made with.
fn stored(store: &Store, flow: &crate::flow::Flow) -> Vec<i64> {
    let mut times = Vec::new();
    for batch in all(store, flow) {
        batch
            .events(|event| {
                times.push(event.time.0);
                Ok(())
            })
            .unwrap();
    }
    times
}

#[tokio::test]
async fn what_is_committed_is_read_and_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let Fixture { collector, mut intakes, flow, id } = begin(&config(folder.path()), Lane::Live);
    let store = collector.store();
    let ticket = intakes[0].deliver(delivery(id, 0..3)).await.unwrap();
    assert_eq!(intakes[0].committed(), Ticket(0));
    intakes[0].flush();
    intakes[0].wait_committed(ticket).await.unwrap();
    assert_eq!(stored(&store, &flow), [0, 1, 2]);
    let batch = all(&store, &flow).remove(0);
    assert_eq!((batch.number, batch.first_seq, batch.count, &*batch.gateway), (1, 1, 3, "gw1"));

    let mut position = store.next_position(None, "kafka");
    position.advance(flow.hash, batch.epoch, batch.number);
    let adopted = store.adopt(&position, "kafka").unwrap();
    assert_eq!((adopted.deleted_batches, adopted.deleted_events), (1, 3));
    assert_eq!(stored(&store, &flow), Vec::<i64>::new());
    assert_eq!(store.stats().borrow().events, 0);
    collector.close();
}
