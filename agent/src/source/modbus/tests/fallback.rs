//! A second way to the same devices.

use std::time::Duration;

use tokio::time::{advance, pause, resume};

use super::*;
use crate::source::modbus::ways::{SILENCE, STAY};
use crate::supervise::Standing;

/// A dead device and one that answers.
const DEAD_FIRST: &str = r#"
timeout = "30 s"
[[device]]
name = "dead"
unit = 1
group = [{ interval = "20 ms", signals = [{ name = "a", table = "holding", address = 0 }] }]
[[device]]
name = "boiler"
unit = 7
group = [{ interval = "20 ms", signals = [{ name = "a", table = "holding", address = 0 }] }]
"#;

/// A bench with two addresses.
fn bench_of_two(first: &str, second: &str) -> (Bench, TestCommits) {
    bench(first, &format!("fallback = \"{second}\"\n{ONE}"))
}

/// The address in use, and why it is the fallback.
fn way(bench: &tokio::sync::watch::Receiver<crate::supervise::State>) -> (String, Option<String>) {
    let way = bench.borrow().way.clone().unwrap();
    (way.address, way.fallback)
}

/// A bench whose second address is in use, and the listener at it. The first is free.
async fn bench_on_second(devices: &str) -> (Bench, TestCommits, TcpListener, String) {
    let ((gone, first), (listener, second)) = (listen().await, listen().await);
    drop(gone);
    let (mut bench, commits) = bench(&first, &format!("fallback = \"{second}\"\n{devices}"));
    let Bench { source, intake, link, .. } = &mut bench;
    source.peer.connect().await.unwrap_err();
    source.connect(false, intake, link).await.unwrap();
    assert!(source.peer.is_second());
    drop(listener.accept().await.unwrap());
    (bench, commits, listener, first)
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

#[tokio::test]
async fn one_dead_device_among_others_decides_no_trial() {
    let ((of_first, first), (of_second, second)) = (listen().await, listen().await);
    let (mut bench, mut commits) = bench(&first, &format!("fallback = \"{second}\"\n{DEAD_FIRST}"));
    let states = bench.link.watch();
    let standing = |device: &str| states.borrow().devices.get(device).map(|d| d.standing);
    let script = async {
        let mut wire = Wire::accept(&of_first).await;
        for _ in 0..2 {
            let asked = wire.asked().await;
            wire.exception(asked, 0x0B).await;
            assert_eq!(commits.event().await.quality, Quality::Timeout);
        }
        pass(SILENCE).await;
        wire.dropped().await;
        let mut wire = Wire::accept(&of_second).await;
        let asked = wire.asked().await;
        assert_eq!(asked.unit, 1);
        wire.exception(asked, 0x0B).await;
        for _ in 0..3 {
            let asked = wire.asked().await;
            match asked.unit {
                7 => wire.answer(asked, 5).await,
                _ => wire.exception(asked, 0x0B).await,
            }
            assert_eq!(commits.event().await.quality, Quality::Good);
        }
        assert_eq!(way(&states).0, second);
        assert_eq!(
            [standing("dead"), standing("boiler")],
            [Some(Standing::Down), Some(Standing::Up)]
        );
    };
    assert!(bench.run(script).await.0.is_ok());
}

#[tokio::test]
async fn a_trial_in_vain_costs_no_reading_and_is_told_nowhere() {
    let (mut bench, mut commits, of_second, first) =
        bench_on_second(&ONE.replace("20 ms", "1 h")).await;
    let of_first = TcpListener::bind(&first).await.unwrap();
    let mut states = bench.link.watch();
    let script = async {
        let mut wire = Wire::accept(&of_second).await;
        let asked = wire.asked().await;
        wire.answer(asked, 5).await;
        assert_eq!(fields(&commits.event().await), good(5, 6));
        states.mark_unchanged();
        // Silent, then one that closes what it has accepted.
        for is_open in [true, false] {
            pass(Duration::from_hours(1)).await;
            wire.dropped().await;
            let mut on_trial = Wire::accept(&of_first).await;
            let asked = on_trial.asked().await;
            if is_open {
                on_trial.exception(asked, 0x0B).await;
            }
            drop(on_trial);
            wire = Wire::accept(&of_second).await;
            let asked = wire.asked().await;
            wire.answer(asked, 7).await;
            assert_eq!(fields(&commits.event().await), good(7, 8));
            assert!(!states.has_changed().unwrap());
        }
    };
    assert!(bench.run(script).await.0.is_ok());
    assert_eq!(bench.counts(), Counts { read: 3, ..Counts::default() });
}

#[tokio::test]
async fn a_trial_that_cannot_even_be_opened_wakes_nobody() {
    let (mut bench, _commits, _of_second, _) = bench_on_second(ONE).await;
    pass(STAY).await;
    bench.source.devices[0].health.failed(Instant::now(), 1);
    bench.source.change(&mut bench.intake, &mut bench.link).await.unwrap();
    assert!(bench.source.peer.is_second());
    assert!(bench.source.devices[0].health.rests(Instant::now()));
}

#[tokio::test]
async fn a_way_that_was_left_for_a_trial_has_a_moment_to_be_free_again() {
    let (mut bench, _commits, of_second, first) = bench_on_second(ONE).await;
    let second = of_second.local_addr().unwrap();
    let of_first = TcpListener::bind(&first).await.unwrap();
    drop(of_second);
    pass(STAY).await;
    let script = async {
        let mut wire = Wire::accept(&of_first).await;
        let asked = wire.asked().await;
        wire.exception(asked, 0x0B).await;
        // By then it was refused there.
        wire.dropped().await;
        TcpListener::bind(second).await.unwrap()
    };
    let change = bench.source.change(&mut bench.intake, &mut bench.link);
    let (changed, _of_second) = tokio::join!(change, script);
    changed.unwrap();
    assert!(bench.source.peer.is_second());
    assert_eq!(bench.faults().len(), 1, "that the fallback is in use");
}

#[tokio::test]
async fn that_a_way_cannot_be_opened_again_counts_in_the_midst_of_a_run_too() {
    let ((of_first, first), (of_second, second)) = (listen().await, listen().await);
    let (mut bench, mut commits) = bench_of_two(&first, &second);
    let script = async {
        let mut wire = Wire::accept(&of_first).await;
        drop(of_first);
        let asked = wire.asked().await;
        wire.answer(asked, 5).await;
        assert_eq!(fields(&commits.event().await), good(5, 6));
    };
    let run = bench.source.run(&mut bench.intake, &mut bench.link, &bench.stop);
    assert!(tokio::join!(run, script).0.is_err());
    let script = async {
        let mut wire = Wire::accept(&of_second).await;
        wire.asked().await;
        wire
    };
    assert!(bench.run(script).await.0.is_ok(), "the second time is the second in a row");
}
