//! What the kernel knows of this process. What it does not tell (another system,
//! a kernel without these counts) is left out.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::event::Timestamp;

/// When the process started, as near as makes no difference.
static STARTED: OnceLock<Instant> = OnceLock::new();

/// To be called early in the process; later calls change nothing.
pub(super) fn started() -> Instant {
    *STARTED.get_or_init(Instant::now)
}

/// Wall time of the start in whole seconds. It moves with a clock that is set,
/// and not with one that is corrected by little.
pub(super) fn start_time(now: Timestamp) -> u64 {
    static TOLD: AtomicU64 = AtomicU64::new(0);
    let now = Duration::from_nanos(u64::try_from(now.0).unwrap_or(0));
    let start = now.saturating_sub(started().elapsed()).as_secs();
    let told = TOLD.load(Ordering::Relaxed);
    if start.abs_diff(told) <= 1 {
        return told;
    }
    TOLD.store(start, Ordering::Relaxed);
    start
}

/// Figures of one moment.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub resident_bytes: Option<u64>,
    pub threads: Option<u64>,
    pub cpu: Option<Duration>,
    pub written_bytes: Option<u64>,
}

impl Process {
    #[cfg(target_os = "linux")]
    pub(super) fn look() -> Self {
        use rustix::time::{ClockId, clock_gettime};
        // By pid, which a sandbox that hides the rest of /proc leaves.
        let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}"));
        let status = read("status").unwrap_or_default();
        let io = read("io").unwrap_or_default();
        let cpu = Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).ok();
        Self {
            resident_bytes: number(&status, "VmRSS:").map(|kib| kib.saturating_mul(1024)),
            threads: number(&status, "Threads:"),
            cpu,
            written_bytes: number(&io, "write_bytes:"),
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn look() -> Self {
        Self::default()
    }
}

/// The number behind a name at the beginning of a line.
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux has such files"))]
fn number(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_by_the_name_that_begins_its_line() {
        let text = "wchar: 9\nwrite_bytes: 4096\ncancelled_write_bytes: 7\nVmRSS:\t  12 kB\n";
        assert_eq!(number(text, "write_bytes:"), Some(4096));
        assert_eq!(number(text, "VmRSS:"), Some(12));
        assert_eq!(number(text, "Threads:"), None);
        assert_eq!(number("Threads: many", "Threads:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_the_process_uses_is_known() {
        let process = Process::look();
        assert!(process.resident_bytes.unwrap() > 100_000);
        assert!(process.threads.unwrap() >= 2, "this test runs on a thread of its own");
        assert!(process.cpu.unwrap() > Duration::ZERO);
    }

    #[test]
    fn the_start_moves_with_a_clock_that_is_set_and_not_with_one_that_is_corrected() {
        let at = |second: i64| start_time(Timestamp(second * 1_000_000_000 + 999_999_999));
        let told = at(1_767_225_600);
        assert_eq!(at(1_767_225_601), told);
        assert_ne!(at(1_767_229_200), told);
    }
}
