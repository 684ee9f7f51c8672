//! The soak of `make soak`, as short as it may be to run each time.

use tidegate_e2e::soak;

/// Every kind of fault comes in them at least once.
const KILLS: u64 = 40;

#[test]
fn nothing_is_lost_or_doubled_over_forty_kills_while_kafka_fails() {
    let report = soak::run("soak", KILLS, |line| eprintln!("{line}"));
    eprintln!("{}", report.json());
    assert!(report.is_clean(), "{}", report.json());
    assert_eq!(report.kills, KILLS);
}
