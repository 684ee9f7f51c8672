//! What the rules of a full file left in one that is damaged.

use rusqlite::Connection;

use super::*;
use crate::buffer::evict::EARLIEST;
use crate::buffer::usage::Usage;

/// A file with all in it at rest, changed by `sql`, without a header.
fn after(sql: &str) -> (File, tempfile::TempDir) {
    let mut plant = Plant::new(PLANT);
    Connection::open(plant.path()).unwrap().execute_batch(sql).unwrap();
    plant.step(Step::Checkpoint);
    plant.file = None;
    let path = plant.path();
    overwrite(&path, 0, &[0; 16]);
    let file = open(&path);
    assert!(file.loss().is_some());
    (file, plant.folder)
}

fn column(folder: &Path, query: &str) -> Vec<i64> {
    let connection = Connection::open(folder.join("buffer.db")).unwrap();
    let mut statement = connection.prepare(query).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

fn usage(path: &Path) -> (Usage, Usage) {
    let connection = Connection::open(path).unwrap();
    let saved = Usage::load(&connection).unwrap();
    connection.execute_batch("DELETE FROM state WHERE key = 'usage'").unwrap();
    (saved, Usage::load(&connection).unwrap())
}

#[test]
fn the_bytes_of_each_flow_are_counted_anew() {
    let mut plant = Plant::new(&[Step::Append(2, 1, 900); 30]);
    plant.step(Step::Checkpoint);
    plant.file = None;
    let path = plant.path();
    let (before, _) = usage(&plant.cut().path().join("buffer.db"));
    let page = *places(&path)[20].1.iter().next_back().unwrap();
    overwrite(&path, (page as usize - 1) * PAGE, &[0; PAGE]);
    damage::ask(&path, "a page is gone");
    let file = open(&path);
    assert!(file.loss().unwrap().lost_batches > Some(0));
    drop(file);
    let (saved, counted) = usage(&path);
    assert_eq!(saved, counted);
    assert_ne!(saved, before);
}

#[test]
fn a_mark_that_may_be_damaged_makes_no_batch_older() {
    let marks = "SELECT id FROM mark ORDER BY id";
    let (_file, folder) = after("");
    let whole = column(folder.path(), marks);
    assert_eq!(whole.len(), 1);
    let (id, day) = (BatchId(whole[0]), 86_400_000_000_000);
    for (wrong, at) in [
        // Before any clock was set.
        (BatchId::new(id.ordinal(), 1), 7),
        // Behind all that there is.
        (BatchId::new(id.ordinal() + 5, 1), EARLIEST.0 + 2 * day),
        // It would take the newest with what is a day older.
        (BatchId::new(id.ordinal() + 1, 1), EARLIEST.0),
    ] {
        let (_file, folder) =
            after(&format!("INSERT INTO mark (id, at) VALUES ({}, {at})", wrong.0));
        assert_eq!(column(folder.path(), marks), [id.0], "{wrong:?}");
    }
}

#[test]
fn the_number_of_a_gap_that_is_lost_does_not_come_again() {
    // As if the page with the newest ones were gone.
    let (mut file, folder) = after("DELETE FROM gap WHERE id > 1");
    assert_eq!(column(folder.path(), "SELECT id FROM gap"), [1]);
    let refused = crate::buffer::Dropped {
        stream: "one".to_owned(),
        reason: crate::buffer::Reason::Newest,
        events: 1,
        bytes: 1,
    };
    let changes = Changes { refused: vec![refused], told: 9, ..Changes::default() };
    file.commit(&changes, Timestamp(1)).unwrap();
    assert_eq!(column(folder.path(), "SELECT id FROM gap"), [1, 3]);
}

#[test]
fn a_source_that_is_of_another_type_now_does_not_get_its_old_cursor_back() {
    let (file, folder) = after(
        "DELETE FROM state WHERE key = 'cursor/table';
         INSERT INTO state (key, value) VALUES ('session/table', x'09')",
    );
    assert_eq!(file.saved("table"), Some(&Checkpoint::Session([9].as_slice().into())));
    let query = "SELECT count(*) FROM state WHERE key LIKE '%/table'";
    assert_eq!(column(folder.path(), query), [1]);
}
