//! `make soak KILLS=1000 WRITE=when_needed`: says what happens, and as its last line one JSON object.

use std::io::Write as _;
use std::process::ExitCode;

use tidegate_e2e::soak;

/// Where nothing else is asked for: some forty minutes.
const KILLS: u64 = 1_000;

fn main() -> ExitCode {
    let kills = std::env::var("KILLS").ok();
    let kills = kills.map_or(KILLS, |text| text.parse().expect("KILLS is a number"));
    let write = std::env::var("WRITE").ok().filter(|word| !word.is_empty());
    let write = write.map_or(soak::Write::Always, |word| {
        soak::Write::of(&word).expect("WRITE is `always` or `when_needed`")
    });
    let report = soak::run("soak-long", kills, write, say);
    say(&report.json());
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A closed pipe is no error worth a word.
fn say(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}
