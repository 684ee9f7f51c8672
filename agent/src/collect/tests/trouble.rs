//! A disk that is full, a file that turns out to be damaged.

use rusqlite::Connection;

use super::*;

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

/// Commits enough for a table of several pages, and damages it.
async fn damaged(folder: &Path) -> Fixture {
    let mut fixture = begin(&config(folder), Lane::Live);
    for time in 0..40 {
        let ticket = fixture.intakes[0].deliver(noisy(fixture.id, time, 3_000)).await.unwrap();
        fixture.intakes[0].wait_committed(ticket).await.unwrap();
    }
    destroy(folder, "batch");
    fixture
}

/// Puts all into the database and destroys the root of a table there.
fn destroy(folder: &Path, table: &str) {
    let path = folder.join("buffer.db");
    let other = Connection::open(&path).unwrap();
    let query = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let root: u32 = other.query_row(query, [table], |row| row.get(0)).unwrap();
    let root = root as usize;
    other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let page: u32 = other.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
    let page = page as usize;
    bytes[(root - 1) * page..root * page].fill(0xff);
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
