//! Alive, ready, and why not.

use super::*;
use crate::buffer::locked;
use crate::status::health::{ailing, unready, worth_a_look};

/// Part and words of each reason.
fn words(reasons: Vec<crate::status::health::Reason>) -> Vec<(String, String)> {
    reasons.into_iter().map(|reason| (reason.part, reason.what)).collect()
}

#[track_caller]
fn check(found: Vec<crate::status::health::Reason>, expected: &[(&str, &str)]) {
    let own = |(part, what): &(&str, &str)| ((*part).to_owned(), (*what).to_owned());
    assert_eq!(words(found), expected.iter().map(own).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_source_that_is_not_connected_is_a_reason_until_it_is() {
    let mut bench = Bench::new();
    bench.well();
    check(unready(&bench.board), &[]);
    let mut other = Bench::new();
    other.forward.send_modify(|status| status.state = "sending");
    check(unready(&other.board), &[("source plc", "is not connected yet")]);
    other.link.fault("", "cannot connect to 10.0.0.5:502");
    check(unready(&other.board), &[("source plc", "cannot connect to 10.0.0.5:502")]);
    other.link.up("10.0.0.5:502");
    check(unready(&other.board), &[]);
    other.link.fault("boiler", "busy");
    check(unready(&other.board), &[]);
}

#[tokio::test]
async fn a_device_that_does_not_answer_is_worth_a_look_and_no_reason() {
    let mut bench = Bench::new();
    bench.well();
    check(worth_a_look(&bench.board), &[]);
    bench.link.device("pump", Standing::Degraded, "group 0: exception 06 (device busy)");
    bench.link.device("boiler", Standing::Down, "no answer from unit 7 in time");
    let expected = [
        ("device plc/boiler", "down: no answer from unit 7 in time"),
        ("device plc/pump", "degraded: group 0: exception 06 (device busy)"),
    ];
    check(worth_a_look(&bench.board), &expected);
    check(unready(&bench.board), &[]);
}

#[tokio::test]
async fn a_full_buffer_is_not_ready_and_alive() {
    let mut bench = Bench::new();
    bench.well();
    bench.board.store.0.stats.send_modify(|stats| stats.held_back = true);
    check(unready(&bench.board), &[("buffer", "it is full, sources are held back")]);
    check(ailing(&bench.board), &[]);
}

#[tokio::test]
async fn a_buffer_that_cannot_be_written_or_is_damaged_is_neither() {
    let mut bench = Bench::new();
    bench.well();
    let stats = |failing: Option<&str>| {
        let failing = failing.map(str::to_owned);
        bench.board.store.0.stats.send_modify(|stats| stats.failing = failing);
    };
    stats(Some("the medium errs"));
    let expected = [("buffer", "cannot be written: the medium errs")];
    check(ailing(&bench.board), &expected);
    check(unready(&bench.board), &expected);
    stats(None);
    check(ailing(&bench.board), &[]);
    *locked(&bench.board.store.0.damage) = Some("a page is gone".to_owned());
    let expected = [("buffer", "its file is damaged and is about to be salvaged")];
    check(ailing(&bench.board), &expected);
    check(unready(&bench.board), &expected);
}

#[tokio::test]
async fn a_line_that_is_down_is_not_ready_and_alive_and_an_old_error_without_events_is_no_reason() {
    let mut bench = Bench::new();
    bench.well();
    let forward = bench.forward.clone();
    let set = |state: &'static str, error: Option<&str>| {
        let last_error = error.map(str::to_owned);
        forward.send_modify(|status| (status.state, status.last_error) = (state, last_error));
    };
    for state in ["connecting", "reading position", "looking", "standing aside"] {
        set(state, None);
        check(unready(&bench.board), &[("kafka", &format!("not reached yet ({state})"))]);
    }
    set("connecting", Some("no route"));
    check(unready(&bench.board), &[("kafka", "not reached (connecting): no route")]);
    check(ailing(&bench.board), &[]);
    for state in ["sending", "committing", "aborting"] {
        set(state, Some("no route"));
        check(unready(&bench.board), &[]);
    }
    bench.store(1).await;
    check(unready(&bench.board), &[("kafka", "cannot deliver: no route")]);
    set("sending", None);
    check(unready(&bench.board), &[]);
}

#[tokio::test]
async fn a_stream_that_stands_aside_is_told_and_ready_all_the_same() {
    let mut bench = Bench::new();
    bench.well();
    bench.forward.send_modify(|status| status.aside = vec![aside("plant")]);
    check(unready(&bench.board), &[]);
    let (address, _tasks) = bench.serve();
    let answer = get(address, "/readyz").await;
    let expected = "{\"reasons\":[{\"part\":\"stream plant\",\"what\":\"stands aside, its events are \
                    kept: topic lines: it is missing\"}],\"status\":\"ready\"}\n";
    assert_eq!((answer.status, &*answer.body), (200, expected));
    let answer = get(address, "/healthz").await;
    assert_eq!((answer.status, &*answer.body), (200, "{\"reasons\":[],\"status\":\"ok\"}\n"));
}

#[tokio::test]
async fn a_thread_that_hangs_is_not_alive() {
    let mut bench = Bench::new();
    bench.well();
    check(ailing(&bench.board), &[]);
    bench.writer.hang();
    let found = words(ailing(&bench.board));
    let [(part, what)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(part, "buffer");
    let silent = what.strip_prefix("no sign of life for ").and_then(|rest| rest.strip_suffix(" s"));
    let silent: u64 = silent.expect("it says how long").parse().unwrap();
    assert!(silent >= 3_600, "an hour: {what}");
}

#[tokio::test]
async fn a_verdict_is_one_line_of_json_with_the_reasons_and_503() {
    let mut bench = Bench::new();
    let (address, _tasks) = bench.serve();
    let answer = get(address, "/readyz").await;
    assert_eq!(answer.status, 503);
    assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    let expected = "{\"reasons\":[{\"part\":\"kafka\",\"what\":\"not reached yet (connecting)\"},\
                    {\"part\":\"source plc\",\"what\":\"is not connected yet\"}],\
                    \"status\":\"not ready\"}\n";
    assert_eq!(answer.body, expected);
    bench.well();
    let answer = get(address, "/readyz").await;
    assert_eq!((answer.status, &*answer.body), (200, "{\"reasons\":[],\"status\":\"ready\"}\n"));
    let answer = get(address, "/healthz").await;
    assert_eq!((answer.status, &*answer.body), (200, "{\"reasons\":[],\"status\":\"ok\"}\n"));
    bench.writer.hang();
    let answer = get(address, "/healthz").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("no sign of life"), "{}", answer.body);
}
