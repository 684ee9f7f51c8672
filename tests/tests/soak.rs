//! The soak of `make soak`, as short as it may be to run each time.

use tidegate_e2e::soak::{self, Write};

/// Every kind of fault comes in them at least once.
const KILLS: u64 = 40;

#[test]
fn nothing_is_lost_or_doubled_over_forty_kills_while_kafka_fails() {
    let report = soak::run("soak", KILLS, Write::Always, |line| eprintln!("{line}"));
    eprintln!("{}", report.json());
    assert!(report.is_clean(), "{}", report.json());
    assert_eq!(report.kills, KILLS);
}

#[test]
fn what_is_written_when_needed_is_not_lost_and_only_a_kill_doubles_a_message() {
    let report = soak::run("soak-needed", KILLS, Write::WhenNeeded, |line| eprintln!("{line}"));
    eprintln!("{}", report.json());
    assert!(report.is_clean(), "{}", report.json());
}
