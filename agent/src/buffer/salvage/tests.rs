//! Real files, damaged in every way that a flash card knows.

mod crash;
mod ends;
mod plant;
mod random;
mod rules;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use rusqlite::Connection;

use super::*;
use crate::buffer::{AtRest, Changes, Encoder, File, Labels, OpenError, Position, Sealed, damage};
use crate::collect::Checkpoint;
use crate::event::{Event, Field, Quality, Timestamp, Value as FieldValue};
use crate::flow::{Flows, Lane};
use plant::*;
use random::places;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..5_u8, 0..5_u8, 0..9_000_u16).prop_map(|(a, b, n)| Step::Append(a, b, n)),
        2 => Just(Step::Forget),
        1 => (1..4_u8).prop_map(Step::Bury),
        1 => Just(Step::Reopen),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Evict),
        1 => Just(Step::Mark),
    ];
    prop::collection::vec(step, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_salvage_of_a_whole_file_is_that_file(steps in steps()) {
        let plant = Plant::new(&steps);
        let cut = plant.cut();
        let (from, to) = (cut.path().join("buffer.db"), cut.path().join("new.db"));
        let loss = salvage(&from, &to, "gw1", "none").unwrap();
        prop_assert_eq!((loss.lost_batches, loss.lost_events), (Some(0), Some(0)));
        prop_assert!(!loss.cursors_lost && loss.ranges.is_empty() && loss.unreadable == 0);
        let is_loss = |row: &String| row.starts_with("state|loss|");
        let there: BTreeSet<_> = rows(&to).into_iter().filter(|row| !is_loss(row)).collect();
        prop_assert_eq!(there, rows(&plant.path()));
        let made = Connection::open(&to).unwrap();
        let check: String =
            made.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        prop_assert_eq!(check, "ok");
    }
}

/// A file with all in it, harmed by `harm`, opened: what was told, and whether
/// all batches are there.
fn after(harm: impl FnOnce(&Path)) -> (Option<Loss>, bool, tempfile::TempDir) {
    let plant = Plant::new(PLANT);
    let cut = plant.cut();
    let path = cut.path().join("buffer.db");
    harm(&path);
    let file = open(&path);
    let loss = file.loss().cloned();
    drop(file);
    let whole = batches(&path) == batches(&plant.path());
    (loss, whole, cut)
}

fn checkpointed(path: &Path) {
    let other = Connection::open(path).unwrap();
    other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}

#[test]
fn without_its_header_a_file_loses_nothing() {
    for length in [16, 100, PAGE] {
        let (loss, whole, _cut) = after(|path| {
            checkpointed(path);
            overwrite(path, 0, &vec![0xa5; length]);
        });
        assert!(whole, "{length}");
        assert_eq!(loss.unwrap().lost_batches, Some(0));
    }
}

#[test]
fn a_damaged_index_loses_nothing() {
    let (loss, whole, _cut) = after(|path| {
        let root = root(path, "batch_flow");
        checkpointed(path);
        overwrite(path, root * PAGE, &[0; PAGE]);
    });
    assert!(whole);
    assert_eq!(loss.unwrap().lost_events, Some(0));
}

#[test]
fn a_damaged_shm_is_no_damage() {
    let (loss, whole, _cut) =
        after(|path| fs::write(schema::beside(path, "-shm"), vec![0x5a; 32_768]).unwrap());
    assert!(whole);
    assert_eq!(loss, None);
}

#[test]
fn the_header_of_the_wal_may_be_gone() {
    for place in [0, 4, 8, 12, 16] {
        let (loss, whole, _cut) = after(|path| {
            let wal = schema::beside(path, "-wal");
            // The salt at 16 is random: any one byte may stand there already.
            let was = fs::read(&wal).unwrap()[place];
            overwrite(&wal, place, &[!was]);
        });
        assert!(whole, "{place}");
        assert!(loss.unwrap().cause.contains("-wal"));
    }
}

#[test]
fn what_stands_behind_a_damaged_frame_of_the_wal_is_not_lost_without_a_word() {
    let plant = Plant::new(&[
        Step::Append(1, 0, 100),
        Step::Append(2, 0, 100),
        Step::Append(3, 0, 100),
        Step::Append(4, 0, 100),
    ]);
    let cut = plant.cut();
    let path = cut.path().join("buffer.db");
    let wal = schema::beside(&path, "-wal");
    let all = fs::read(&wal).unwrap();
    // The first frame of the second batch's commit: the frame behind the one
    // that ends the first.
    let commits: Vec<usize> =
        (32..all.len()).step_by(24 + PAGE).filter(|place| be32(&all, place + 4) > 0).collect();
    let second = commits[commits.len() - 4] + 24 + PAGE;
    overwrite(&wal, second + 24 + 100, &[0xff; 8]);
    let file = open(&path);
    let loss = file.loss().unwrap().clone();
    assert!(loss.cause.contains("-wal"), "{loss:?}");
    // The pages of the last commits hold all batches.
    assert_eq!((loss.batches, loss.lost_batches), (4, Some(0)));
    drop(file);
    assert_eq!(batches(&path), batches(&plant.path()));
}

#[test]
fn a_torn_end_of_the_wal_is_no_damage() {
    let plant = Plant::new(PLANT);
    let length = fs::metadata(schema::beside(&plant.path(), "-wal")).unwrap().len();
    for cut_off in [1, 100, 4_000, 5_000] {
        let cut = plant.cut();
        let path = cut.path().join("buffer.db");
        let wal = fs::OpenOptions::new().write(true).open(schema::beside(&path, "-wal")).unwrap();
        wal.set_len(length - cut_off).unwrap();
        assert_eq!(open(&path).loss(), None, "{cut_off}");
    }
}

#[test]
fn an_empty_file_beside_its_wal_is_no_new_file() {
    let plant = Plant::new(&[Step::Append(3, 2, 500), Step::Append(1, 0, 5_000)]);
    let cut = plant.cut();
    let path = cut.path().join("buffer.db");
    fs::write(&path, b"").unwrap();
    let file = open(&path);
    assert_eq!(file.loss().unwrap().lost_batches, Some(0));
    drop(file);
    assert_eq!(batches(&path), batches(&plant.path()));
    // Without a -wal it is one.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("buffer.db");
    fs::write(&path, b"").unwrap();
    assert_eq!(open(&path).loss(), None);
}

#[test]
fn what_is_no_database_is_set_aside_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("buffer.db");
    fs::write(&path, "no database".repeat(1_000)).unwrap();
    fs::write(schema::beside(&path, "-wal"), "no log").unwrap();
    let file = open(&path);
    let loss = file.loss().unwrap();
    assert_eq!((loss.batches, loss.lost_batches, loss.cursors_lost), (0, None, true));
    assert_eq!(fs::read_to_string(&loss.set_aside).unwrap(), "no database".repeat(1_000));
    let wal = fs::read_to_string(schema::beside(&loss.set_aside, "-wal")).unwrap();
    assert_eq!(wal, "no log");
    // What happened is told once.
    drop(file);
    assert_eq!(open(&path).loss(), None);
}

#[test]
fn a_batch_that_cannot_be_read_is_a_dead_letter_and_its_cursor_counts() {
    let (loss, _, cut) = after(|path| {
        let other = Connection::open(path).unwrap();
        other
            .execute_batch(
                "DELETE FROM state WHERE key IN ('cursor/table', 'totals');
                 UPDATE batch SET data = x'28b52ffd0102' WHERE id = (SELECT max(id) FROM batch)",
            )
            .unwrap();
        drop(other);
        checkpointed(path);
        overwrite(path, 0, &[0; 16]);
    });
    let loss = loss.unwrap();
    assert_eq!((loss.unreadable, loss.lost_batches), (1, None));
    let file = open(&cut.path().join("buffer.db"));
    assert_eq!(file.totals().dead_letters, 4);
    // The last commit's, which only the damaged batch carries.
    assert_eq!(file.saved("table"), Some(&Checkpoint::Cursor([7].as_slice().into())));
}

#[test]
fn a_source_whose_cursor_is_gone_is_known_as_lost_until_it_has_another_name() {
    let mut plant = Plant::new(PLANT);
    // Nothing of the table is left in the queue.
    let other = Connection::open(plant.path()).unwrap();
    other.execute_batch("UPDATE batch SET cursors = NULL").unwrap();
    drop(other);
    plant.step(Step::Checkpoint);
    plant.file = None;
    let path = plant.path();
    let root = root(&path, "state");
    overwrite(&path, root * PAGE, &[0; PAGE]);
    let mut file = open(&path);
    assert!(file.loss().unwrap().cursors_lost);
    assert_eq!(file.saved("table"), None);
    assert!(file.is_lost("table") && file.is_lost("another"));
    file.settle(&["table"], &plant.flows).unwrap();
    for _ in 0..2 {
        assert!(file.is_lost("table"));
        assert!(!file.is_lost("another"), "it came after the salvage");
        drop(file);
        file = open(&path);
    }
}

#[test]
fn a_flow_whose_definition_is_gone_gets_the_running_one() {
    let mut plant = Plant::new(PLANT);
    let other = Connection::open(plant.path()).unwrap();
    other.execute_batch("DELETE FROM stream").unwrap();
    drop(other);
    plant.step(Step::Checkpoint);
    plant.file = None;
    overwrite(&plant.path(), 0, &[0; 16]);
    let mut file = open(&plant.path());
    file.settle(&[], &plant.flows).unwrap();
    let flows = crate::buffer::Reader::open(&plant.path()).unwrap().flows().unwrap();
    assert_eq!(flows.len(), 2);
}

#[test]
fn what_kafka_has_stays_away_also_where_the_map_of_free_pages_is_gone() {
    // Enough for pages that hold nothing else.
    let mut plant = Plant::new(&[Step::Append(3, 0, 700); 20]);
    plant.step(Step::Forget);
    plant.step(Step::Append(0, 2, 50));
    plant.step(Step::Checkpoint);
    plant.file = None;
    let path = plant.path();
    // The map itself, and the header, so that a salvage is made.
    overwrite(&path, PAGE, &[0; PAGE]);
    overwrite(&path, 0, &[0; 16]);
    let file = open(&path);
    let loss = file.loss().unwrap();
    assert_eq!((loss.batches, loss.events, loss.lost_batches), (1, 2, Some(0)));
}

#[test]
fn a_lost_epoch_is_found_in_its_index_or_named_anew() {
    let index = "sqlite_autoindex_epoch_1";
    for names in [&["epoch"][..], &["epoch", index]] {
        let renamed = names.len() > 1;
        let mut plant = Plant::new(PLANT);
        plant.step(Step::Checkpoint);
        let epochs: Vec<_> =
            plant.file.as_ref().unwrap().epochs().iter().map(|e| e.epoch).collect();
        plant.file = None;
        let path = plant.path();
        let roots: Vec<usize> = names.iter().map(|name| root(&path, name)).collect();
        let before = batches(&path);
        for root in roots {
            overwrite(&path, root * PAGE, &[0; PAGE]);
        }
        let file = open(&path);
        assert_eq!(file.loss().unwrap().renamed_epochs > 0, renamed);
        let known: Vec<_> = file.epochs().iter().map(|e| e.epoch).collect();
        if !renamed {
            assert_eq!(known[..epochs.len()], epochs);
        }
        drop(file);
        assert_eq!(batches(&path), before);
    }
}

#[test]
fn a_look_at_a_damaged_file_leaves_all_of_it_to_the_next_start() {
    let harms: [fn(&Path); 3] = [
        |path| fs::write(path, b"").unwrap(),
        |path| overwrite(&schema::beside(path, "-wal"), 0, &[0xee]),
        |path| {
            // A salvage that had just begun.
            let aside = schema::beside(path, ".damaged-now");
            for part in ["", "-wal"] {
                fs::rename(schema::beside(path, part), schema::beside(&aside, part)).unwrap();
            }
            let note = "buffer.db.damaged-now\na test\n";
            fs::write(schema::beside(path, ".salvaging"), note).unwrap();
        },
    ];
    for harm in harms {
        let plant = Plant::new(&[Step::Append(3, 2, 500), Step::Append(1, 0, 5_000)]);
        let cut = plant.cut();
        let path = cut.path().join("buffer.db");
        harm(&path);
        let error = AtRest::take(&path).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        assert_eq!(open(&path).loss().unwrap().lost_batches, Some(0));
        assert_eq!(batches(&path), batches(&plant.path()));
        AtRest::take(&path).unwrap();
    }
}

#[test]
fn what_was_put_in_again_says_nothing_about_the_numbers_of_what_is_lost() {
    let mut plant = Plant::new(&[]);
    for _ in 0..40 {
        plant.step(Step::Append(2, 0, 900));
    }
    let around = "UPDATE batch SET birth = x'00000000000000ff677731', first_seq = 900
                  WHERE id & 255 BETWEEN 10 AND 18 OR id & 255 BETWEEN 24 AND 31";
    Connection::open(plant.path()).unwrap().execute_batch(around).unwrap();
    plant.step(Step::Checkpoint);
    plant.file = None;
    let path = plant.path();
    let page = *places(&path)[20].1.iter().next_back().unwrap();
    overwrite(&path, (page as usize - 1) * PAGE, &[0; PAGE]);
    damage::ask(&path, "a page is gone");
    let file = open(&path);
    let ranges = &file.loss().unwrap().ranges;
    let numbers = ranges.iter().flat_map(|range| range.rsplit('/').next().unwrap().split(" to "));
    let numbers: Vec<u64> = numbers.map(|number| number.parse().unwrap()).collect();
    assert!(!numbers.is_empty() && numbers.iter().all(|number| *number <= 80), "{ranges:?}");
}

#[test]
fn the_loss_is_counted_and_named() {
    let mut plant = Plant::new(&[Step::Append(2, 0, 100)]);
    for _ in 0..40 {
        plant.step(Step::Append(2, 0, 900));
    }
    plant.step(Step::Checkpoint);
    let epoch = plant.file.as_ref().unwrap().epochs().last().unwrap().epoch;
    plant.file = None;
    let path = plant.path();
    let all = places(&path);
    // The leaf of the twentieth batch: the two that stand in it.
    let page = *all[20].1.iter().next_back().unwrap();
    let gone = all.iter().filter(|(_, pages)| pages.contains(&page)).count() as u64;
    overwrite(&path, (page as usize - 1) * PAGE, &[0; PAGE]);
    damage::ask(&path, "a page is gone");
    let file = open(&path);
    let loss = file.loss().unwrap();
    assert_eq!(loss.cause, "a page is gone");
    assert_eq!((loss.lost_batches, loss.lost_events), (Some(gone), Some(gone * 2)));
    let begins = format!("gw1/{epoch}/");
    assert!(loss.ranges.len() == 1 && loss.ranges[0].starts_with(&begins), "{loss:?}");
}

#[test]
fn every_table_of_the_layout_is_known_here() {
    let mut columns: Vec<(String, u32)> = Vec::new();
    let folder = tempfile::tempdir().unwrap();
    let made = schema::make(&folder.path().join("new.db")).unwrap();
    let mut statement = made
        .prepare(
            "SELECT m.name, count(*) FROM sqlite_schema m, pragma_table_info(m.name) p
             WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' GROUP BY m.name ORDER BY m.name",
        )
        .unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    columns.extend(rows.map(Result::unwrap));
    // Rows are told apart by their shape: who adds a table or a column looks
    // into `Salvage::row`.
    let known = [
        ("batch", 9),
        ("dead_event", 8),
        ("dead_letter", 6),
        ("dropped", 4),
        ("epoch", 4),
        ("gap", 10),
        ("imported", 2),
        ("mark", 2),
        ("state", 2),
        ("stream", 3),
    ];
    assert_eq!(columns, known.map(|(name, count)| (name.to_owned(), count)));
}

#[test]
fn what_can_be_sent_again_and_what_was_taken_in_come_over() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("old.db"), folder.path().join("new.db"));
    let made = schema::make(&from).unwrap();
    made.execute_batch(
        "INSERT INTO epoch (ordinal, epoch, gateway) VALUES (1, 77, 'gw1');
         INSERT INTO state (key, value) VALUES ('totals', CAST('{}' AS BLOB));
         INSERT INTO dead_letter (id, at, reason, origin, length, payload)
             VALUES (5, 1, 'refused', 'gw1/4d/1', 2, x'7b7d');
         INSERT INTO dead_event (letter, birth, data, place, flow, seq, raw, oldest)
             VALUES (5, x'01', zeroblob(9000), 1099511627777, 7, 3, 9, 2),
                    (6, x'02', x'aa', 1099511627777, 7, 4, 9, 2);
         INSERT INTO imported (epoch, number) VALUES ('00000000000000ff', 12);",
    )
    .unwrap();
    drop(made);
    salvage(&from, &to, "gw1", "a test").unwrap();
    let new = Connection::open(&to).unwrap();
    let text = |query: &str| new.query_row(query, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(
        text(
            "SELECT group_concat(letter || ' ' || place || ' ' || seq || ' ' || hex(birth), ', ')
             FROM dead_event"
        ),
        "5 1099511627777 3 01, 6 1099511627777 4 02"
    );
    assert_eq!(
        text("SELECT group_concat(epoch || ' ' || number) FROM imported"),
        "00000000000000ff 12"
    );
    // The letter of the second is lost, and it is not sent without one.
    assert_eq!(
        text("SELECT group_concat(id || ' ' || origin, ', ') FROM dead_letter"),
        "5 gw1/4d/1, 6 salvaged"
    );
    assert_eq!(text("SELECT group_concat(ordinal || ' ' || epoch, ', ') FROM epoch"), "1 77");
}
