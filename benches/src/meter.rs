//! What the kernel says of a process: CPU, memory, threads, bytes written.

use std::time::Duration;

use tidegate_e2e::process::Process;

/// Ticks of `utime` and `stime` a second (`USER_HZ`): 100 on every Linux that
/// the project builds for.
const TICK: Duration = Duration::from_millis(10);

/// A process of this machine.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    folder: String,
}

impl Meter {
    pub(crate) fn of(process: &Process) -> Self {
        Self { folder: format!("/proc/{}", process.id()) }
    }

    pub(crate) fn own() -> Self {
        Self { folder: "/proc/self".to_owned() }
    }

    /// CPU of all its threads since its start. `stat` also knows the threads
    /// that have ended, but counts in ticks; `schedstat` counts nanoseconds of
    /// those that live. Neither says too much, so the larger one is right.
    pub(crate) fn cpu(&self) -> Duration {
        self.ticks().max(self.nanoseconds())
    }

    /// What of [`Self::cpu`] the kernel took for it.
    pub(crate) fn kernel(&self) -> Duration {
        TICK * self.times()[1]
    }

    fn ticks(&self) -> Duration {
        TICK * self.times().iter().sum()
    }

    /// Ticks in the program and in the kernel.
    fn times(&self) -> [u32; 2] {
        let stat = self.read("stat");
        // The name in brackets may hold spaces; utime and stime are the 14th
        // and 15th field (proc(5)), the 12th and 13th after it.
        let (_, fields) = stat.rsplit_once(')').expect("stat has a name in brackets");
        let mut ticks = fields
            .split_whitespace()
            .skip(11)
            .map(|field| field.parse().expect("a time in ticks is a number"));
        [ticks.next(), ticks.next()].map(|ticks| ticks.expect("stat has both"))
    }

    fn nanoseconds(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("{}/task", self.folder)).expect("it runs");
        let each = tasks.flatten().map(|task| {
            // A thread may end between the two looks.
            let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let first = text.split_whitespace().next().and_then(|first| first.parse().ok());
            Duration::from_nanos(first.unwrap_or_default())
        });
        each.sum()
    }

    /// Bytes of memory that it holds now.
    pub(crate) fn resident(&self) -> u64 {
        self.field("status", "VmRSS:") * 1024
    }

    /// What of [`Self::resident`] is not the program's own file and libraries.
    pub(crate) fn anonymous(&self) -> u64 {
        self.field("status", "RssAnon:") * 1024
    }

    /// The most that it has ever held.
    pub(crate) fn peak(&self) -> u64 {
        self.field("status", "VmHWM:") * 1024
    }

    pub(crate) fn threads(&self) -> u64 {
        self.field("status", "Threads:")
    }

    /// Bytes that it made the kernel write to storage.
    pub(crate) fn written(&self) -> u64 {
        self.field("io", "write_bytes:")
    }

    fn field(&self, file: &str, name: &str) -> u64 {
        let text = self.read(file);
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
            .unwrap_or_default()
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(format!("{}/{file}", self.folder)).expect("it runs")
    }
}

/// CPU of a process over a stretch of time.
#[derive(Debug)]
pub(crate) struct Lap {
    meter: Meter,
    cpu: Duration,
}

impl Lap {
    pub(crate) fn start(meter: &Meter) -> Self {
        Self { meter: meter.clone(), cpu: meter.cpu() }
    }

    pub(crate) fn cpu(&self) -> Duration {
        self.meter.cpu().saturating_sub(self.cpu)
    }

    /// Microseconds for each of so many.
    pub(crate) fn micros(&self, count: u64) -> f64 {
        self.cpu().as_secs_f64() * 1e6 / crate::line::float(count)
    }

    /// Percent of one core over this time.
    pub(crate) fn percent(&self, over: Duration) -> f64 {
        self.cpu().as_secs_f64() * 100.0 / over.as_secs_f64()
    }
}
