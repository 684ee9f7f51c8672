//! The file against a queue in memory: append, forget, open again, kill.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use crate::buffer::{BatchId, Changes, Encoder, Epoch, File, Labels, Position, Reader, Sealed};
use crate::event::{Event, Quality, Timestamp};
use crate::flow::{self, Flows, Lane};

#[derive(Debug, Clone)]
enum Step {
    /// One commit: so many events of the first flow and of the second.
    Append(u8, u8),
    /// The flow's oldest batches are in Kafka.
    Forget(usize, usize),
    Reopen,
    /// What stands on the disk at this moment is all that is left.
    Kill,
}

#[derive(Debug, Clone, PartialEq)]
struct Row {
    id: BatchId,
    epoch: Epoch,
    number: u64,
    first_seq: u64,
    times: Vec<i64>,
}

fn open(folder: &Path) -> File {
    File::open(&folder.join("buffer.db"), "gw1").unwrap()
}

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

fn rows(folder: &Path, flow: flow::Hash) -> Vec<Row> {
    let mut reader = Reader::open(&folder.join("buffer.db")).unwrap();
    let batches = reader.batches(flow, BatchId(0), u32::MAX, usize::MAX).unwrap();
    batches
        .into_iter()
        .map(|batch| {
            let mut times = Vec::new();
            batch
                .events(|event| {
                    times.push(event.time.0);
                    Ok(())
                })
                .unwrap();
            assert_eq!(batch.count as usize, times.len());
            Row {
                id: batch.id,
                epoch: batch.epoch,
                number: batch.number,
                first_seq: batch.first_seq,
                times,
            }
        })
        .collect()
}

fn copied(from: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["buffer.db", "buffer.db-wal"] {
        std::fs::copy(from.join(name), folder.path().join(name)).unwrap();
    }
    folder
}

fn next(file: &File, kafka: Option<&Position>) -> Position {
    Position::continued(kafka, "gw1", "kafka", file.epochs())
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..4_u8, 0..4_u8).prop_map(|(a, b)| Step::Append(a, b)),
        3 => (0..2_usize, 0..3_usize).prop_map(|(flow, n)| Step::Forget(flow, n)),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 1..25)
}

fn check(steps: &[Step]) {
    let mut flows = Flows::default();
    let ids = [flows.id("one", Lane::Live), flows.id("two", Lane::Bulk)];
    let labels: Labels = Arc::from([]);
    let mut folder = tempfile::tempdir().unwrap();
    let mut file = open(folder.path());
    let mut model: [VecDeque<Row>; 2] = Default::default();
    let mut position = next(&file, None);
    let (mut time, mut number, mut seq, mut used) = (0, 0, 0, BatchId(0));
    for step in steps {
        match *step {
            Step::Append(first, second) => {
                let mut batches = Vec::new();
                for (index, count) in [first, second].into_iter().enumerate() {
                    if count == 0 {
                        continue;
                    }
                    let mut encoder = Encoder::default();
                    let times: Vec<i64> = (time..time + i64::from(count)).collect();
                    time += i64::from(count);
                    for time in &times {
                        encoder.add(0, &labels, &event(ids[index], *time));
                    }
                    number += 1;
                    let running = file.epochs().last().unwrap();
                    let row = Row {
                        id: BatchId::new(running.ordinal, number),
                        epoch: running.epoch,
                        number,
                        first_seq: seq + 1,
                        times,
                    };
                    seq += u64::from(count);
                    assert!(row.id > used, "an id came twice");
                    used = row.id;
                    model[index].push_back(row);
                    batches.push((ids[index], encoder));
                }
                let batches = batches
                    .iter()
                    .map(|(id, events)| Sealed { flow: flows.get(*id), events })
                    .collect();
                file.commit(&Changes { batches, ..Changes::default() }, Timestamp(0)).unwrap();
            }
            Step::Forget(flow, count) => {
                let gone: Vec<Row> = model[flow].drain(..count.min(model[flow].len())).collect();
                if let Some(last) = gone.last() {
                    position.advance(flows.get(ids[flow]).hash, last.epoch, last.number);
                }
                let positions = vec![(&position, "kafka")];
                let changes = Changes { positions, ..Changes::default() };
                let adopted = file.commit(&changes, Timestamp(0)).unwrap();
                assert_eq!(adopted[0].deleted_batches, gone.len() as u64);
            }
            Step::Reopen | Step::Kill => {
                if matches!(step, Step::Kill) {
                    folder = copied(folder.path());
                } else {
                    drop(file);
                }
                file = open(folder.path());
                (number, seq) = (0, 0);
                let kafka = file.memory().position.clone();
                position = next(&file, kafka.as_ref());
            }
        }
        for (flow, model) in model.iter().enumerate() {
            assert_eq!(VecDeque::from(rows(folder.path(), flows.get(ids[flow]).hash)), *model);
        }
        let events: usize = model.iter().flatten().map(|row| row.times.len()).sum();
        assert_eq!(file.totals().events, events as u64);
        assert_eq!(file.totals().batches, (model[0].len() + model[1].len()) as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn the_file_is_the_queue_that_a_model_is(steps in steps()) {
        check(&steps);
    }
}
