//! What a start looks at (SAFETY 17).

use super::*;
use crate::buffer::verify;

/// One batch each, more than a start looks at.
const BATCHES: i64 = 40;

/// Opens a file of which this batch is no batch. Gives whether the start took it for
/// damaged.
fn is_noticed(damaged: i64) -> bool {
    let mut plant = Plant::new(&[]);
    for _ in 0..BATCHES {
        plant.step(Step::Append(1, 0, 100));
    }
    plant.file = None;
    let path = plant.path();
    let harm = "UPDATE batch SET data = 'text' WHERE id =
                (SELECT id FROM batch ORDER BY id LIMIT 1 OFFSET ?1)";
    Connection::open(&path).unwrap().execute(harm, [damaged]).unwrap();
    let verified = verify(&path, |_, _| {});
    assert!(verified.is_err() || verified.is_ok_and(|seen| !seen.wrong.is_empty()));
    open(&path).loss().is_some()
}

#[test]
fn a_start_looks_at_both_ends_of_the_queue_and_not_between() {
    assert_eq!([0, BATCHES / 2, BATCHES - 1].map(is_noticed), [true, false, true]);
}
