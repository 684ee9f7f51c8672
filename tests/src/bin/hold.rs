//! `hold PID THREAD`: holds one thread of a process until the process is killed: a stage
//! that hangs, in the systems that `scripts/roots.sh` boots.

use std::io::Write as _;

use tidegate_e2e::thread::Held;

fn main() {
    let mut words = std::env::args().skip(1);
    let process = words.next().and_then(|word| word.parse().ok());
    let (Some(process), Some(thread)) = (process, words.next()) else {
        unreachable!("hold PID THREAD")
    };
    let held = Held::new(process, &thread);
    // Whoever reads it may have gone.
    writeln!(std::io::stdout(), "held").ok();
    held.wait_killed();
}
