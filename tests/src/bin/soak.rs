//! `make soak KILLS=1000`: says what happens, and as its last line one JSON object.

use std::io::Write as _;
use std::process::ExitCode;

use tidegate_e2e::soak;

/// Where nothing else is asked for: some forty minutes.
const KILLS: u64 = 1_000;

fn main() -> ExitCode {
    let kills = std::env::var("KILLS").ok();
    let kills = kills.map_or(KILLS, |text| text.parse().expect("KILLS is a number"));
    let report = soak::run("soak-long", kills, say);
    say(&report.json());
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A closed pipe is no error worth a word.
fn say(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}
