//! What stands on the page.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::page::{self, Family};
use super::*;
use crate::source::sparkplug::Count;
use crate::status::metrics;

/// The value of the sample that begins so.
fn value(text: &str, sample: &str) -> f64 {
    let rest = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    rest.unwrap_or_else(|| panic!("no {sample} in {text}")).parse().unwrap()
}

#[track_caller]
fn check(text: &str, expected: &[(&str, f64)]) {
    for (sample, expected) in expected {
        let found = value(text, sample);
        assert!((found - expected).abs() < 1e-9, "{sample} is {found}, not {expected}");
    }
}

#[tokio::test]
async fn the_page_is_open_metrics_also_with_strange_names_on_it() {
    let bench = Bench::new();
    let (address, _tasks) = bench.serve();
    let answer = get(address, "/metrics").await;
    assert_eq!(answer.status, 200);
    let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(answer.head.contains(kind), "{}", answer.head);
    let families = page::read(&answer.body).unwrap();
    let devices = families.iter().flat_map(|family| &family.samples);
    let devices: BTreeSet<_> = devices.filter_map(|sample| sample.labels.get("device")).collect();
    assert_eq!(devices, BTreeSet::from([&STRANGE.to_owned()]));
}

#[tokio::test]
async fn what_is_stored_and_what_waits_shows_with_the_commit() {
    let mut bench = Bench::new();
    check(
        &metrics::text(&bench.board),
        &[
            ("tidegate_buffer_events", 0.0),
            ("tidegate_buffer_oldest_event_age_seconds", 0.0),
            ("tidegate_source_to_commit_seconds_count", 0.0),
        ],
    );
    let commits = value(&metrics::text(&bench.board), "tidegate_buffer_commits_total");
    bench.store(7).await;
    bench.store(3).await;
    bench.clock.set(Timestamp(NOW.0 + 5_000_000_000));
    let text = metrics::text(&bench.board);
    check(
        &text,
        &[
            ("tidegate_buffer_events", 10.0),
            ("tidegate_buffer_batches", 2.0),
            ("tidegate_buffer_committed_events_total", 10.0),
            ("tidegate_buffer_commits_total", commits + 2.0),
            ("tidegate_buffer_oldest_event_age_seconds", 65.0),
            ("tidegate_source_to_commit_seconds_count", 2.0),
            ("tidegate_buffer_commit_duration_seconds_count", 2.0),
        ],
    );
    assert!(value(&text, "tidegate_buffer_used_bytes") > 0.0);
    assert!(value(&text, "tidegate_source_to_commit_seconds_sum") > 0.0);
    let waited = value(&text, "tidegate_source_to_commit_seconds_sum");
    assert!(waited >= value(&text, "tidegate_buffer_commit_duration_seconds_sum"));
}

#[tokio::test]
async fn what_the_stages_say_stands_under_its_name() {
    let mut bench = Bench::new();
    bench.cycles.add(Counts { read: 1, missed: 2, rested: 3, failed: 4, refused: 5 });
    bench.well();
    bench.link.fault("boiler", "busy");
    bench.link.device("pump", Standing::Down, "no answer");
    bench.forward.send_modify(|status| {
        (status.delivered_events, status.delivered_bytes, status.transactions) = (6, 7, 8);
        status.took.add(Duration::from_millis(300));
        status.last_error = Some("no broker".to_owned());
    });
    bench.board.store.0.stats.send_modify(|stats| {
        (stats.dead_letters, stats.dead_dropped) = (9, 10);
        (stats.held_back, stats.failing) = (true, Some("the disk is full".to_owned()));
        stats.dropped = vec![buffer::Dropped {
            stream: "plant".to_owned(),
            reason: buffer::Reason::Age,
            events: 11,
            bytes: 12,
        }];
    });
    bench.frames.add_read();
    (0..2).for_each(|_| bench.frames.add_unread());
    bench.frames.add_dropped(3);
    bench.counts.add(Count::Gaps);
    (0..2).for_each(|_| bench.counts.add(Count::Passed));
    let of = "{source=\"plc\",device=\"boil\\\"er\\\\\\n1\",group=\"fast\"}";
    let text = metrics::text(&bench.board);
    for (figure, expected) in [
        ("read_cycles", 1.0),
        ("missed_cycles", 2.0),
        ("rested_cycles", 3.0),
        ("failed_cycles", 4.0),
        ("refused_requests", 5.0),
    ] {
        check(&text, &[(&format!("tidegate_modbus_{figure}_total{of}"), expected)]);
    }
    check(
        &text,
        &[
            ("tidegate_serial_read_frames_total{source=\"plc\"}", 1.0),
            ("tidegate_serial_unread_frames_total{source=\"plc\"}", 2.0),
            ("tidegate_serial_dropped_frames_total{source=\"plc\"}", 3.0),
            ("tidegate_sparkplug_gaps_total{source=\"plc\"}", 1.0),
            ("tidegate_sparkplug_passed_total{source=\"plc\"}", 2.0),
            ("tidegate_source_up{source=\"plc\"}", 1.0),
            ("tidegate_source_faults{source=\"plc\"}", 1.0),
            ("tidegate_device_state{source=\"plc\",device=\"pump\",state=\"down\"}", 1.0),
            ("tidegate_device_state{source=\"plc\",device=\"pump\",state=\"up\"}", 0.0),
            ("tidegate_forward_delivered_events_total", 6.0),
            ("tidegate_forward_delivered_bytes_total", 7.0),
            ("tidegate_forward_transactions_total", 8.0),
            ("tidegate_forward_failing", 1.0),
            ("tidegate_forward_state{state=\"sending\"}", 1.0),
            ("tidegate_forward_state{state=\"connecting\"}", 0.0),
            ("tidegate_source_to_kafka_seconds_bucket{le=\"0.25\"}", 0.0),
            ("tidegate_source_to_kafka_seconds_bucket{le=\"0.5\"}", 1.0),
            ("tidegate_source_to_kafka_seconds_sum", 0.3),
            (
                "tidegate_certificate_expiry_seconds{by=\"kafka.tls\",file=\"/etc/tidegate/gw1.pem\"}",
                1_893_456_000.0,
            ),
            ("tidegate_buffer_dead_letters", 9.0),
            ("tidegate_buffer_dead_letters_dropped_total", 10.0),
            ("tidegate_buffer_full", 1.0),
            ("tidegate_buffer_failing", 1.0),
            ("tidegate_dropped_events_total{stream=\"plant\",reason=\"age\"}", 11.0),
            ("tidegate_dropped_bytes_total{stream=\"plant\",reason=\"age\"}", 12.0),
            ("tidegate_dropped_events_total{stream=\"plant\",reason=\"size\"}", 0.0),
        ],
    );
    page::read(&text).unwrap();
}

#[tokio::test]
async fn the_process_tells_what_it_uses() {
    let bench = Bench::new();
    let text = metrics::text(&bench.board);
    let started = value(&text, "tidegate_process_start_time_seconds");
    assert!((1_767_225_600.0 - started).abs() < 3_600.0, "by the clock of the test: {started}");
    for figure in ["resident_memory_bytes", "cpu_seconds_total", "threads"] {
        assert!(value(&text, &format!("tidegate_process_{figure}")) > 0.0, "{figure}");
    }
    let version = env!("CARGO_PKG_VERSION");
    let build = format!("tidegate_build_info{{version=\"{version}\",arch=");
    assert!(text.contains(&build) && text.contains("gateway=\"gw1\"} 1\n"), "{text}");
}

#[tokio::test]
async fn a_stream_that_stands_aside_shows_also_where_the_configuration_has_it_no_more() {
    let bench = Bench::new();
    let of = |stream: &str| format!("tidegate_forward_stream_aside{{stream=\"{stream}\"}}");
    check(&metrics::text(&bench.board), &[(&of("plant"), 0.0)]);
    bench.forward.send_modify(|status| status.aside = vec![aside("before"), aside("plant")]);
    let text = metrics::text(&bench.board);
    check(&text, &[(&of("before"), 1.0), (&of("plant"), 1.0)]);
    page::read(&text).unwrap();
}

/// The row of a family in docs/metrics.md: its name as it is asked for, type,
/// labels and meaning.
fn row(family: &Family) -> String {
    let suffix = match &*family.kind {
        "counter" => "_total",
        "info" => "_info",
        _ => "",
    };
    let labels = family.samples.iter().flat_map(|sample| sample.labels.keys());
    let labels: BTreeSet<&str> =
        labels.map(String::as_str).filter(|label| *label != "le").collect();
    let labels: Vec<String> = labels.into_iter().map(|label| format!("`{label}`")).collect();
    let Family { name, kind, help, .. } = family;
    format!("| `{name}{suffix}` | {kind} | {} | {help} |", labels.join(", "))
}

#[tokio::test]
async fn every_figure_has_its_row_in_the_docs_and_every_row_its_figure() {
    let bench = Bench::new();
    let families = page::read(&metrics::text(&bench.board)).unwrap();
    let expected: Vec<String> = families.iter().map(row).collect();
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let found: Vec<&str> = docs.lines().filter(|line| line.starts_with("| `tidegate_")).collect();
    assert_eq!(found, expected, "docs/metrics.md is to have:\n{}", expected.join("\n"));
}

#[tokio::test]
async fn there_are_as_many_series_as_the_configuration_has_names() {
    let mut bench = Bench::new();
    let count = |bench: &Bench| -> BTreeMap<String, usize> {
        let families = page::read(&metrics::text(&bench.board)).unwrap();
        families.into_iter().map(|family| (family.name, family.samples.len())).collect()
    };
    let before = count(&bench);
    // Whatever goes on, and whatever others are called.
    for subject in ["boiler", "pump", "10.0.0.5:502"] {
        bench.link.fault(subject, "busy");
    }
    bench.store(5).await;
    bench.forward.send_modify(|status| status.last_error = Some("no broker".to_owned()));
    assert_eq!(count(&bench), before);
    assert_eq!(before["tidegate_source_faults"], 1);
    assert_eq!(before["tidegate_dropped_events"], buffer::Reason::ALL.len());
}
