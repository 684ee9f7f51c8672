//! What the writer promises of a change of the configuration.

use super::full_tests::{Fixture, begin, rules};
use super::tests::{config, noisy};
use super::*;
use crate::flow::Id;

fn ask(fixture: &Fixture, folder: &std::path::Path, streams: &[&str]) -> (Asked, Vec<Id>) {
    let mut flows = fixture.flows.renewed(streams.iter().map(|name| rules(name, None, 100)));
    let ids = streams.iter().map(|name| flows.id(name, None)).collect();
    let info = |name: &str| SourceInfo { name: name.into(), labels: Vec::new() };
    let asked = Asked {
        flows,
        buffer: config(folder),
        retired: vec![SourceId(0)],
        added: vec![info("a"), info("c")],
    };
    (asked, ids)
}

#[tokio::test]
async fn what_a_source_that_went_had_handed_over_is_stored_however_full_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut flows = Flows::new([rules("small", None, 10), rules("large", None, 100)]);
    let (small, large) = (flows.id("small", None), flows.id("large", None));
    let mut fixture = begin(folder.path(), &flows);
    // 51 KiB are seven events.
    fixture.fill(0, small, 0..7).await;
    let cursor = Checkpoint::Cursor(b"behind seven".as_slice().into());
    let held = Delivery { checkpoint: Some(cursor.clone()), ..noisy(small, 7, 1) };
    fixture.intakes[0].deliver(held).await.unwrap();
    let mut stats = fixture.store.stats();
    stats.wait_for(|stats| stats.held_back).await.unwrap();

    let (asked, ids) = ask(&fixture, folder.path(), &["small", "new"]);
    assert_eq!(ids[0], small, "its sources keep the id");
    let mut joined = fixture.collector.change(asked).await.unwrap();
    assert_eq!(fixture.stored(small), (0..8).collect::<Vec<_>>());
    assert_eq!(joined[0].saved, Some(cursor), "the next one goes on where it ended");
    assert_eq!((joined[1].saved.clone(), joined[1].lost), (None, false));
    let places = [joined[0].intake.source(), joined[1].intake.source()];
    assert_eq!(places, [SourceId(0), SourceId(2)], "a free place is taken again");

    // By the new rules there is room, and who did not change goes on.
    fixture.fill(1, large, 0..3).await;
    let ticket = joined[0].intake.deliver(noisy(small, 8, 1)).await.unwrap();
    joined[0].intake.wait_committed(ticket).await.unwrap();
    let ticket = joined[1].intake.deliver(noisy(ids[1], 0, 1)).await.unwrap();
    joined[1].intake.wait_committed(ticket).await.unwrap();
    assert_eq!(fixture.stored(small), (0..9).collect::<Vec<_>>());
    assert_eq!(fixture.stored(large), [0, 1, 2]);
    fixture.collector.close();
}
