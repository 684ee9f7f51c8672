//! A second way to the same devices.

use std::time::Duration;

use tokio::time::{advance, pause, resume};

use super::*;
use crate::source::modbus::ways::{SILENCE, STAY};

/// A bench with two addresses.
fn bench_of_two(first: &str, second: &str) -> (Bench, TestCommits) {
    bench(first, &format!("fallback = \"{second}\"\n{ONE}"))
}

/// The address in use, and why it is the fallback.
fn way(bench: &tokio::sync::watch::Receiver<crate::supervise::State>) -> (String, Option<String>) {
    let way = bench.borrow().way.clone().unwrap();
    (way.address, way.fallback)
}

/// Lets so much time pass at once, between two cycles.
async fn pass(time: Duration) {
    pause();
    advance(time).await;
    resume();
}

#[tokio::test]
async fn where_the_first_cannot_be_reached_the_second_is_read_and_the_first_tried_again() {
    let ((gone, first), (listener, second)) = (listen().await, listen().await);
    drop(gone);
    let (mut bench, mut commits) = bench_of_two(&first, &second);
    let error = bench.source.run(&mut bench.intake, &mut bench.link, &bench.stop).await;
    assert_eq!(error.unwrap_err().to_string(), format!("cannot connect to {first}"));
    assert_eq!(commits.event().await.quality, Quality::Timeout);
    let states = bench.link.watch();
    let script = async {
        let mut wire = Wire::accept(&listener).await;
        let asked = wire.asked().await;
        wire.answer(asked, 5).await;
        assert_eq!(fields(&commits.event().await), good(5, 6));
        let (address, why) = way(&states);
        assert_eq!(address, second);
        assert!(why.unwrap().starts_with(&format!("cannot connect to {first}: ")));
        // Not there yet: what is there is read on.
        pass(STAY).await;
        wire.dropped().await;
        let mut wire = Wire::accept(&listener).await;
        let asked = wire.asked().await;
        wire.answer(asked, 7).await;
        assert_eq!(fields(&commits.event().await), good(7, 8));
        assert_eq!(way(&states).0, second, "what is tried in vain is no change");
        let listener = TcpListener::bind(&first).await.unwrap();
        pass(2 * STAY).await;
        wire.dropped().await;
        let mut wire = Wire::accept(&listener).await;
        let asked = wire.asked().await;
        wire.answer(asked, 9).await;
        assert_eq!(fields(&commits.event().await), good(9, 10));
        assert_eq!(way(&states), (first, None));
    };
    assert!(bench.run(script).await.0.is_ok());
    assert_eq!(bench.faults(), []);
}

#[tokio::test]
async fn where_nothing_answers_behind_the_first_the_second_is_tried() {
    let ((of_first, first), (of_second, second)) = (listen().await, listen().await);
    let (mut bench, mut commits) = bench_of_two(&first, &second);
    let states = bench.link.watch();
    let script = async {
        let mut wire = Wire::accept(&of_first).await;
        let asked = wire.asked().await;
        wire.exception(asked, 0x0B).await;
        assert_eq!(commits.event().await.quality, Quality::Timeout);
        pass(SILENCE).await;
        let asked = wire.asked().await;
        wire.exception(asked, 0x0B).await;
        wire.dropped().await;
        let mut wire = Wire::accept(&of_second).await;
        assert_eq!(way(&states), (first, None), "it is on trial");
        let asked = wire.asked().await;
        wire.answer(asked, 5).await;
        assert_eq!(fields(&commits.event().await), good(5, 6));
        assert_eq!(way(&states), (second, Some("no device answered there".to_owned())));
    };
    assert!(bench.run(script).await.0.is_ok());
}

#[tokio::test]
async fn where_neither_can_be_reached_both_are_named_in_the_same_words() {
    let ((one, first), (other, second)) = (listen().await, listen().await);
    drop((one, other));
    let (mut bench, _commits) = bench_of_two(&first, &second);
    let mut said = Vec::new();
    for _ in 0..4 {
        let end = bench.source.run(&mut bench.intake, &mut bench.link, &bench.stop).await;
        said.push(end.unwrap_err().to_string());
    }
    assert_eq!(said[0], format!("cannot connect to {first}"));
    let both = &said[1];
    assert!(both.starts_with(&format!("cannot connect to {first}: ")), "{both}");
    assert!(both.contains(&format!("; fallback: cannot connect to {second}: ")), "{both}");
    assert!(said[2..].iter().all(|again| again == both), "{said:?}");
}
