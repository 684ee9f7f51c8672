//! A disk that is full, a file that turns out to be damaged.

use rusqlite::Connection;

use super::*;
use crate::buffer::{Burial, Call};
use crate::collect::full_tests::rules;

/// An event of so many bytes that no compression makes smaller.
fn noisy(flow: crate::flow::Id, time: i64, length: usize) -> Delivery {
    let mut noise = 0x9e37_79b9_u64.wrapping_mul(time.cast_unsigned() + 1);
    let bytes = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        noise.to_be_bytes()[0]
    });
    let mut next = delivery(flow, time..time + 1);
    next.events[0].fields[0].value = Value::Bytes(bytes.take(length).collect());
    next.urgent = true;
    next
}

#[tokio::test]
async fn on_a_full_disk_deletes_go_alone_and_make_the_room() {
    let folder = tempfile::tempdir().unwrap();
    let mut flows = Flows::default();
    let id = flows.id("plant", Lane::Live);
    let flow = flows.get(id).clone();
    let buffer = open(&config(folder.path()));
    // SQLITE_FULL, as a disk without room gives it.
    buffer.file.most_pages(400);
    let source = SourceInfo { name: "a".into(), labels: Vec::new() };
    let (collector, mut intakes) = start(buffer, vec![source], flows).unwrap();
    let store = collector.store();
    let mut stats = store.stats();
    for time in 0..30 {
        let ticket = intakes[0].deliver(noisy(id, time, 8_192)).await.unwrap();
        intakes[0].wait_committed(ticket).await.unwrap();
    }
    let held = intakes[0].deliver(noisy(id, 30, 250_000)).await.unwrap();
    stats.wait_for(|stats| stats.failing.is_some()).await.unwrap();
    assert!(intakes[0].committed() < held);
    let batches = all(&store, &flow);
    let mut position = store.next_position(None, "kafka");
    // The first makes too little room for what waits, and is deleted all the same.
    for (batch, left) in [(&batches[0], (1..30).collect::<Vec<_>>()), (&batches[29], vec![30])] {
        position.advance(flow.hash, batch.epoch, batch.number);
        store.adopt(&position, "kafka").unwrap();
        if left == [30] {
            intakes[0].wait_committed(held).await.unwrap();
        }
        assert_eq!(stored(&store, &flow), left);
    }
    stats.wait_for(|stats| stats.failing.is_none()).await.unwrap();
    collector.close();
}

#[test]
fn a_dead_letter_on_a_full_disk_takes_the_reserve_and_then_waits() {
    let folder = tempfile::tempdir().unwrap();
    let reserve = folder.path().join("buffer.db.reserve");
    let buffer = open(&config(folder.path()));
    // No page more than it has.
    buffer.file.most_pages(1);
    let time = Steady::still();
    let (mut writer, _) = assemble(buffer, Vec::new(), Flows::default(), time.clone());
    writer.begin();
    let (reply, answer) = sync_channel(1);
    writer.ask(Call::Bury { dead: vec![Burial { letter: letter(50_000), event: None }], reply });
    let mut waits = Vec::new();
    for _ in 0..9 {
        writer.turn();
        let wait = writer.wake().unwrap().saturating_duration_since(time.now());
        waits.push((wait.as_secs(), reserve.try_exists().unwrap()));
        time.pass(wait);
    }
    let waited = [1, 2, 4, 8, 16, 30, 30].map(|seconds| (seconds, false));
    assert_eq!(waits, [[(0, true), (0, false)].as_slice(), &waited].concat());
    answer.try_recv().unwrap_err();
    // Somebody has made room.
    writer.most_pages(10_000);
    writer.turn();
    answer.try_recv().unwrap();
    assert_eq!(writer.wake(), None);
}

/// Commits so many batches, enough for a table of several pages.
async fn filled(folder: &Path, batches: i64) -> Fixture {
    let mut fixture = begin(&config(folder), Lane::Live);
    for time in 0..batches {
        let ticket = fixture.intakes[0].deliver(noisy(fixture.id, time, 3_000)).await.unwrap();
        fixture.intakes[0].wait_committed(ticket).await.unwrap();
    }
    fixture
}

async fn damaged(folder: &Path) -> Fixture {
    let fixture = filled(folder, 40).await;
    destroy(folder, "batch");
    fixture
}

/// Puts all into the database and destroys the root of a table there.
fn destroy(folder: &Path, table: &str) {
    destroy_page(folder, table, |root| root.number);
}

/// The root of a table, of a file with pages of this size.
struct Root<'a> {
    number: usize,
    page: &'a [u8],
}

impl Root<'_> {
    /// The leaf in the middle of the table (`SQLite`'s file format, section 1.6).
    fn middle(&self) -> usize {
        let number = |at: usize, bytes: usize| {
            self.page[at..at + bytes].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
        };
        assert_eq!(self.page[0], 5, "an interior page");
        let cell = number(12 + number(3, 2) / 2 * 2, 2);
        number(cell, 4)
    }
}

/// The same of a page that is found from the root.
fn destroy_page(folder: &Path, table: &str, which: impl FnOnce(Root<'_>) -> usize) {
    let path = folder.join("buffer.db");
    let other = Connection::open(&path).unwrap();
    let query = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let root: u32 = other.query_row(query, [table], |row| row.get(0)).unwrap();
    let root = root as usize;
    other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let page: u32 = other.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
    let page = page as usize;
    let number = which(Root { number: root, page: &bytes[(root - 1) * page..root * page] });
    bytes[(number - 1) * page..number * page].fill(0xff);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
    // Whoever has pages in memory reads them again.
    other.execute_batch("INSERT INTO state (key, value) VALUES ('x', x'00')").unwrap();
}

fn check(folder: &Path, flow: &crate::flow::Flow) {
    let buffer = open(&config(folder));
    let loss = buffer.loss().unwrap();
    assert_eq!((loss.batches, loss.lost_batches), (40, Some(0)));
    assert_eq!(stored(&buffer.store(), flow), (0..40).collect::<Vec<_>>());
}

#[tokio::test]
async fn damage_that_a_commit_meets_ends_the_writer_and_is_salvaged() {
    let folder = tempfile::tempdir().unwrap();
    let Fixture { mut collector, mut intakes, flow, id } = damaged(folder.path()).await;
    let ticket = intakes[0].deliver(noisy(id, 40, 10)).await.unwrap();
    collector.ended().await;
    assert!(collector.is_damaged());
    assert!(intakes[0].committed() < ticket, "it is not acknowledged");
    collector.close();
    check(folder.path(), &flow);
}

#[tokio::test]
async fn damage_that_the_forwarder_meets_ends_the_writer_and_is_salvaged() {
    let folder = tempfile::tempdir().unwrap();
    let Fixture { mut collector, flow, .. } = damaged(folder.path()).await;
    let store = collector.store();
    let read = store
        .reader()
        .and_then(|mut reader| reader.batches(flow.hash, BatchId(0), u32::MAX, usize::MAX));
    read.unwrap_err();
    collector.ended().await;
    assert!(collector.is_damaged());
    collector.close();
    check(folder.path(), &flow);
}

#[tokio::test]
async fn damage_that_only_an_operator_meets_ends_the_writer_and_is_salvaged() {
    let folder = tempfile::tempdir().unwrap();
    let Fixture { mut collector, .. } = begin(&config(folder.path()), Lane::Live);
    let store = collector.store();
    let letter = DeadLetter { reason: "r".into(), origin: "o".into(), payload: vec![1], length: 1 };
    store.bury(vec![letter]).unwrap();
    destroy(folder.path(), "dead_event");
    store.errand(buffer::Errand::Drop(vec![1])).unwrap_err();
    collector.ended().await;
    assert!(collector.is_damaged());
    collector.close();
    assert_eq!(open(&config(folder.path())).stats().borrow().dead_letters, 1);
}

#[tokio::test]
async fn damage_that_only_a_drop_meets_ends_the_writer_and_is_salvaged() {
    let folder = tempfile::tempdir().unwrap();
    let config = buffer::Config { max_size: ByteSize(512 * 1024), ..config(folder.path()) };
    let mut flows = Flows::default();
    let id = flows.polled("plant", Lane::Live);
    let source = SourceInfo { name: "a".into(), labels: Vec::new() };
    let (mut collector, mut intakes) = start(open(&config), vec![source], flows.clone()).unwrap();
    // No commit looks there.
    destroy(folder.path(), "dropped");
    for time in 0.. {
        let Ok(ticket) = intakes[0].deliver(noisy(id, time, 8_192)).await else { break };
        if intakes[0].wait_committed(ticket).await.is_err() {
            break;
        }
    }
    collector.ended().await;
    assert!(collector.is_damaged());
    let committed = intakes[0].committed().0.cast_signed();
    collector.close();
    let buffer = open(&config);
    assert_eq!(buffer.loss().unwrap().lost_events, Some(0));
    assert_eq!(stored(&buffer.store(), flows.get(id)), (0..committed).collect::<Vec<_>>());
}

/// The writer on a file of half a MiB, without its thread; its time stands.
fn still(folder: &Path, flows: &Flows) -> (writer::Writer, Vec<Intake>, Arc<Shared>) {
    let config = buffer::Config { max_size: ByteSize(512 * 1024), ..config(folder) };
    let buffer = open(&config);
    let shared = Arc::clone(&buffer.shared);
    let sources = ["a", "b"].map(|name| SourceInfo { name: name.into(), labels: Vec::new() });
    let (mut writer, intakes) = assemble(buffer, sources.into(), flows.clone(), Steady::still());
    writer.begin();
    (writer, intakes, shared)
}

#[tokio::test]
async fn nothing_is_committed_once_the_file_is_known_to_be_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let mut flows = Flows::new([rules("small", None, 10), rules("large", None, 100)]);
    let (small, large) = (flows.polled("small", None), flows.id("large", None));
    let (mut writer, mut intakes, shared) = still(folder.path(), &flows);
    // All that may go of a stream at its share is on its way to Kafka.
    locked(&shared.pins).loaded.insert(flows.get(small).hash, BatchId(i64::MAX));
    for time in 0..7 {
        intakes[0].deliver(noisy(small, time, 8_192)).await.unwrap();
        writer.turn();
    }
    assert_eq!(intakes[0].committed(), Ticket(7));
    // It no longer is: what comes makes room, and meets the damage before its commit.
    locked(&shared.pins).loaded.clear();
    destroy(folder.path(), "dropped");
    intakes[0].deliver(noisy(small, 7, 10)).await.unwrap();
    intakes[1].deliver(noisy(large, 8, 10)).await.unwrap();
    writer.turn();
    assert!(locked(&shared.damage).is_some());
    assert_eq!(intakes[1].committed(), Ticket(0));
    drop(writer);
    let store = open(&config(folder.path())).store();
    assert_eq!(stored(&store, flows.get(large)), Vec::<i64>::new());
    assert_eq!(stored(&store, flows.get(small)), (0..7).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_file_that_turns_out_to_be_damaged_takes_no_change_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut flows = Flows::default();
    let id = flows.polled("plant", None);
    let (mut writer, mut intakes, shared) = still(folder.path(), &flows);
    destroy(folder.path(), "dropped");
    let asked = Asked {
        flows: flows.clone(),
        buffer: config(folder.path()),
        retired: Vec::new(),
        added: Vec::new(),
    };
    let (reply, mut joined) = tokio::sync::oneshot::channel();
    shared.inbox.try_send(Message::Change(Box::new(Change { asked, reply }))).unwrap();
    // More than the file may have: something is dropped behind its commit.
    intakes[0].deliver(noisy(id, 0, 600_000)).await.unwrap();
    writer.turn();
    assert!(locked(&shared.damage).is_some());
    joined.try_recv().unwrap_err();
}

#[test]
fn what_is_due_beside_commits_is_done_once_the_pause_after_a_failure_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let max_age = Some(Period::from_secs(86_400));
    let buffer = open(&buffer::Config { max_age, ..config(folder.path()) });
    buffer.file.most_pages(1);
    let time = Steady::still();
    let (mut writer, _) = assemble(buffer, Vec::new(), Flows::default(), time.clone());
    writer.begin();
    let (reply, _answer) = sync_channel(1);
    writer.ask(Call::Bury { dead: vec![Burial { letter: letter(50_000), event: None }], reply });
    for _ in 0..3 {
        writer.turn();
    }
    // Who asked has gone: there is nothing to commit.
    writer.hang_up();
    let wait = writer.wake().unwrap().saturating_duration_since(time.now());
    assert_eq!(wait, writer::AGAIN);
    time.pass(wait);
    writer.turn();
    assert!(writer.wake().unwrap() > time.now(), "it is done, and the writer rests");
}

#[tokio::test]
async fn damage_that_only_the_bounds_meet_is_salvaged_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let Fixture { collector, mut intakes, .. } = begin(&config, Lane::Live);
    for number in 0..40 {
        let letter = DeadLetter {
            reason: "no JSON".to_owned(),
            origin: "broker/topic".to_owned(),
            payload: vec![number; 20_000],
            length: 20_000,
        };
        let next = Delivery { dead: vec![letter], bytes: 1, urgent: true, ..Delivery::default() };
        let ticket = intakes[0].deliver(next).await.unwrap();
        intakes[0].wait_committed(ticket).await.unwrap();
    }
    collector.close();
    // The page in which the twentieth letter begins: no end of the list.
    let path = folder.path().join("buffer.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let size = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
    let begins = |page: &[u8]| page[0] == 13 && page[size - 96] == 20;
    let page = bytes.chunks_exact(size).position(begins).unwrap();
    bytes[page * size..(page + 1) * size].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    // It is met when the letters are brought to less room than they take.
    let small = buffer::Config { max_size: ByteSize::mib(1), ..config };
    let buffer = open(&small);
    assert!(buffer.loss().is_some());
    assert!(buffer.stats().borrow().dead_letters > 0);
}

/// Reads the file whole, as the agent does beside everything else.
fn scrub(store: &Store) -> Result<buffer::Scrubbed, buffer::ReadError> {
    let mut scrub = buffer::Scrub::begin(store.clone())?;
    while scrub.step()? {}
    Ok(scrub.read().clone())
}

#[tokio::test]
async fn damage_in_the_middle_of_a_backlog_is_found_though_nobody_needs_it_yet() {
    let folder = tempfile::tempdir().unwrap();
    let Fixture { mut collector, flow, .. } = filled(folder.path(), 100).await;
    destroy_page(folder.path(), "batch", |root| root.middle());
    // No start sees it.
    collector.close();
    let buffer = open(&config(folder.path()));
    assert!(buffer.loss().is_none());
    (collector, _) = start(buffer, Vec::new(), Flows::default()).unwrap();
    scrub(&collector.store()).unwrap_err();
    assert!(collector.is_damaged());
    collector.ended().await;
    collector.close();
    let buffer = open(&config(folder.path()));
    let loss = buffer.loss().unwrap();
    let left = stored(&buffer.store(), &flow);
    assert_eq!(loss.lost_batches, Some(100 - left.len() as u64));
    assert!(left.len() > 80 && left.contains(&0) && left.contains(&99), "{left:?}");
}

#[tokio::test]
async fn a_value_of_another_type_in_the_middle_is_damage_too() {
    let folder = tempfile::tempdir().unwrap();
    let Fixture { mut collector, .. } = filled(folder.path(), 40).await;
    let other = Connection::open(folder.path().join("buffer.db")).unwrap();
    other.execute("UPDATE batch SET count = 'many' WHERE first_seq = 20", []).unwrap();
    scrub(&collector.store()).unwrap_err();
    assert!(collector.is_damaged());
    collector.ended().await;
}

#[tokio::test]
async fn a_batch_that_cannot_be_decoded_is_told_before_its_turn() {
    let folder = tempfile::tempdir().unwrap();
    let Fixture { collector, .. } = filled(folder.path(), 40).await;
    let other = Connection::open(folder.path().join("buffer.db")).unwrap();
    other.execute("UPDATE batch SET data = x'00' WHERE first_seq = 20", []).unwrap();
    let seen = scrub(&collector.store()).unwrap();
    assert_eq!((seen.batches, seen.wrong), (40, 1));
    assert!(seen.first.unwrap().starts_with("batch 20 of epoch "));
    assert!(!collector.is_damaged(), "the others go on");
}

#[tokio::test]
async fn a_batch_that_its_index_has_lost_is_damage_before_a_position_passes_it() {
    let folder = tempfile::tempdir().unwrap();
    let Fixture { mut collector, flow, .. } = filled(folder.path(), 40).await;
    forget_in_index(folder.path(), 20);
    scrub(&collector.store()).unwrap_err();
    assert!(collector.is_damaged());
    collector.ended().await;
    collector.close();
    check(folder.path(), &flow);
}

/// Has the index not name a batch, as after a write that the medium has lost.
fn forget_in_index(folder: &Path, first_seq: i64) {
    let other = Connection::open(folder.join("buffer.db")).unwrap();
    let select = "SELECT sql FROM sqlite_schema WHERE name = 'batch_flow'";
    let sql: String = other.query_row(select, [], |row| row.get(0)).unwrap();
    let set = |sql: &str| {
        other.pragma_update(None, "writable_schema", true).unwrap();
        let update = "UPDATE sqlite_schema SET sql = ?1 WHERE name = 'batch_flow'";
        other.execute(update, [sql]).unwrap();
        other.pragma_update(None, "writable_schema", "RESET").unwrap();
    };
    set(&format!("{sql} WHERE first_seq <> {first_seq}"));
    other.execute_batch("REINDEX batch_flow").unwrap();
    set(&sql);
}

#[tokio::test]
async fn a_pass_ends_though_something_comes_all_the_time() {
    let folder = tempfile::tempdir().unwrap();
    let Fixture { collector, mut intakes, id, .. } = filled(folder.path(), 10).await;
    let mut scrub = buffer::Scrub::begin(collector.store()).unwrap();
    let mut time = 10;
    while scrub.step().unwrap() {
        let ticket = intakes[0].deliver(noisy(id, time, 10)).await.unwrap();
        intakes[0].wait_committed(ticket).await.unwrap();
        time += 1;
    }
    assert_eq!(scrub.read().batches, 10);
}
