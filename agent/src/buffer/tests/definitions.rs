//! What the file knows of a stream for as long as it has events of it (SAFETY 14).

use std::path::Path;
use std::sync::Arc;

use super::event;
use crate::buffer::{Changes, Encoder, File, Position, Reader, Sealed};
use crate::event::Timestamp;
use crate::flow::{Flows, Lane, Stream};

fn open(folder: &Path) -> File {
    File::open(&folder.join("buffer.db"), "gw1").unwrap()
}

/// One batch of the stream, which has this topic now.
fn store(file: &mut File, topic: &str) {
    let plant = Stream { name: "plant".into(), topic: topic.into(), create: None };
    let mut flows = Flows::new([plant]);
    let flow = flows.id("plant", Lane::Live);
    let mut events = Encoder::default();
    events.add(0, &Arc::from([]), &event(flow, 1));
    let batches = vec![Sealed { flow: flows.get(flow), events: &events }];
    file.commit(&Changes { batches, ..Changes::default() }, Timestamp(0)).unwrap();
}

/// Where the forwarder sends what is stored.
fn topics(folder: &Path) -> Vec<String> {
    let mut reader = Reader::open(&folder.join("buffer.db")).unwrap();
    let flows = reader.flows().unwrap();
    flows.into_iter().map(|(_, _, stream)| stream.topic.clone()).collect()
}

/// Streams that the file knows, with events or without.
fn known(folder: &Path) -> i64 {
    let file = rusqlite::Connection::open(folder.join("buffer.db")).unwrap();
    file.query_row("SELECT count(*) FROM stream", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_stream_that_nobody_names_any_more_is_known_until_its_last_batch_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = open(folder.path());
    store(&mut file, "plant");
    let (written, flow) = (file.newest(), crate::flow::Hash::of("plant", Lane::Live));
    let epoch = file.epochs().last().unwrap().epoch;
    // Processes whose configuration does not have it.
    for _ in 0..2 {
        drop(file);
        file = open(folder.path());
        assert_eq!(topics(folder.path()), ["plant"]);
    }
    let mut position = Position::continued(None, "gw1", "kafka", file.epochs());
    position.advance(flow, epoch, written.number());
    let positions = vec![(&position, "kafka")];
    file.commit(&Changes { positions, ..Changes::default() }, Timestamp(0)).unwrap();
    drop(file);
    drop(open(folder.path()));
    assert_eq!(known(folder.path()), 0);
}

#[test]
fn the_last_definition_of_a_stream_counts_for_its_whole_backlog() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = open(folder.path());
    store(&mut file, "before");
    store(&mut file, "after");
    drop(file);
    // It was rolled back before anything of the backlog was sent.
    let mut file = open(folder.path());
    assert_eq!(topics(folder.path()), ["after"]);
    store(&mut file, "before");
    assert_eq!(topics(folder.path()), ["before"]);
}

/// The configuration says that the stream has this topic.
fn follow(file: &mut File, topic: &str) {
    let plant = Stream { name: "plant".into(), topic: topic.into(), create: None };
    file.follow(&Flows::new([plant])).unwrap();
}

#[test]
fn what_is_stored_follows_the_configuration_without_anything_new() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = open(folder.path());
    store(&mut file, "misspelt");
    let commits = file.commits();
    follow(&mut file, "mended");
    assert_eq!((topics(folder.path()), file.commits()), (vec!["mended".to_owned()], commits + 1));
    follow(&mut file, "mended");
    assert_eq!(file.commits(), commits + 1, "there is nothing to write");
    // What was handed over before, or stands in memory, still has the earlier one.
    store(&mut file, "misspelt");
    assert_eq!(topics(folder.path()), ["mended"]);
    // One that the configuration does not name keeps its last.
    file.follow(&Flows::default()).unwrap();
    assert_eq!(topics(folder.path()), ["mended"]);
}

#[test]
fn what_could_not_follow_at_once_does_with_the_next_commit() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = open(folder.path());
    store(&mut file, "misspelt");
    let other = rusqlite::Connection::open(folder.path().join("buffer.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let plant = Stream { name: "plant".into(), topic: "mended".into(), create: None };
    file.follow(&Flows::new([plant])).unwrap_err();
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(topics(folder.path()), ["misspelt"]);
    file.commit(&Changes::default(), Timestamp(0)).unwrap();
    assert_eq!(topics(folder.path()), ["mended"]);
}
