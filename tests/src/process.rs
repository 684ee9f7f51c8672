//! A server as a child process: its output by lines, signals, and an end that
//! it cannot escape.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, kill_process};

pub use rustix::process::Signal;

use crate::{panic_with, wait_until};

/// Lines shown when a test fails.
const LAST_LINES: usize = 40;

/// How long a server may take to end after SIGTERM.
const TERMINATION: Duration = Duration::from_mins(1);

/// Of the kernel's clock in a second, as it counts for programs.
const TICKS: u64 = 100;

/// What a process takes of the machine.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    pub cpu: Duration,
    /// Calls that write.
    pub writes: u64,
}

impl std::ops::Sub for Usage {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { cpu: self.cpu.saturating_sub(before.cpu), writes: self.writes - before.writes }
    }
}

/// A running server; dropped, it is killed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    pub log: Log,
}

impl Process {
    /// Starts `program`; everything it says goes into its log.
    pub fn start(name: &str, program: &Command) -> Self {
        Self::start_with(name, program, Stdio::null())
    }

    /// The same for one that is told what to do: [`Process::tell`].
    pub fn start_to_be_told(name: &str, program: &Command) -> Self {
        Self::start_with(name, program, Stdio::piped())
    }

    fn start_with(name: &str, program: &Command, input: Stdio) -> Self {
        // The signal makes sure that nothing survives a killed test run.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program.get_program());
        command.args(program.get_args());
        for (key, value) in program.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        if let Some(folder) = program.get_current_dir() {
            command.current_dir(folder);
        }
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(command);
        let log = Log::default();
        log.read(child.stdout.take().expect("stdout is piped"));
        log.read(child.stderr.take().expect("stderr is piped"));
        Self { name: name.to_owned(), child, log }
    }

    /// Writes it a line.
    pub fn tell(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("it was started to be told");
        writeln!(input, "{line}").expect("it reads");
    }

    /// Waits for a line that contains `text`, from the start of the process on.
    pub fn wait_line(&self, text: &str, within: Duration) -> String {
        self.log
            .wait(0, &format!("`{text}` from {}", self.name), within, |line| line.contains(text))
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let sent = kill_process(pid.expect("a child has a pid"), signal);
        sent.unwrap_or_else(|error| panic_with(&format!("cannot signal {}: {error}", self.name)));
    }

    /// Its pid, to look at it in /proc.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has taken until now, as the kernel counts it.
    pub fn usage(&self) -> Usage {
        let read = |name: &str| {
            let path = format!("/proc/{}/{name}", self.id());
            std::fs::read_to_string(path).expect("it runs")
        };
        let stat = read("stat");
        let (_, fields) = stat.rsplit_once(')').expect("the name stands in brackets");
        // proc(5): user time and system time are fields 14 and 15, and the name is 2.
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
        let io = read("io");
        let writes = io.lines().find_map(|line| line.strip_prefix("syscw: "));
        Usage {
            cpu: Duration::from_millis(ticks * 1_000 / TICKS),
            writes: writes.expect("it counts writes").parse().expect("a number"),
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let what = format!("the end of {}\n{}", self.name, self.log.tail());
        let status = wait_until(&what, within, || self.child.try_wait().expect("it is ours"));
        self.log.wait_closed();
        status
    }

    /// SIGTERM, and its end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(TERMINATION)
    }

    /// SIGKILL, and its end.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a killed child ends");
        self.log.wait_closed();
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "it stands with the failure of its test")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the last that {} said:\n{}", self.name, self.log.tail());
        }
        // It may have ended already; then there is nothing to kill.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Spawns on a thread that lives as long as the test process: the parent-death
/// signal is sent when the thread ends that has started the child, and a test's
/// thread ends before servers that other tests share.
fn spawn(command: Command) -> Child {
    type Job = (Command, SyncSender<std::io::Result<Child>>);
    static NURSERY: LazyLock<SyncSender<Job>> = LazyLock::new(|| {
        let (jobs, queue) = sync_channel::<Job>(0);
        std::thread::spawn(move || {
            for (mut command, answer) in queue {
                answer.send(command.spawn()).ok();
            }
        });
        jobs
    });
    let shown = format!("{command:?}");
    let (answer, child) = sync_channel(1);
    NURSERY.send((command, answer)).expect("the nursery never ends");
    let child = child.recv().expect("the nursery answers each job");
    child.unwrap_or_else(|error| panic_with(&format!("cannot start {shown}: {error}")))
}

/// What a process said, both of its outputs together; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<String>,
    /// Outputs that are still open.
    open: usize,
}

impl Log {
    fn read(&self, output: impl Read + Send + 'static) {
        self.lock().open += 1;
        let log = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n') {
                let Ok(line) = line else { break };
                log.lock().lines.push(String::from_utf8_lossy(&line).into_owned());
                log.0.1.notify_all();
            }
            log.lock().open -= 1;
            log.0.1.notify_all();
        });
    }

    /// How many lines there are: a mark to look from later.
    pub fn len(&self) -> usize {
        self.lock().lines.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    /// The lines from `mark` on that match.
    pub fn matching(&self, mark: usize, matches: impl Fn(&str) -> bool) -> Vec<String> {
        self.lock().lines.iter().skip(mark).filter(|line| matches(line)).cloned().collect()
    }

    /// Waits for the first line from `mark` on that matches; fails the test at the
    /// deadline, or at once when the process has ended without it.
    pub fn wait(
        &self,
        mark: usize,
        what: &str,
        within: Duration,
        matches: impl Fn(&str) -> bool,
    ) -> String {
        let since = Instant::now();
        let (mut seen, mut state) = (mark, self.lock());
        loop {
            if let Some(found) = state.lines.iter().skip(seen).find(|line| matches(line)) {
                return found.clone();
            }
            seen = state.lines.len().max(mark);
            let left = within.saturating_sub(since.elapsed());
            if state.open == 0 || left.is_zero() {
                let why = if state.open == 0 { "its process has ended" } else { "too late" };
                drop(state);
                panic_with(&format!(
                    "no {what} after {:?}, {why}\n{}",
                    since.elapsed(),
                    self.tail()
                ));
            }
            state = self.0.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn wait_closed(&self) {
        let mut state = self.lock();
        while state.open > 0 {
            state = self.0.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The last lines, for the message of a failing test.
    pub fn tail(&self) -> String {
        let state = self.lock();
        let start = state.lines.len().saturating_sub(LAST_LINES);
        state
            .lines
            .iter()
            .skip(start)
            .fold(String::from("last lines:\n"), |text, line| text + "  | " + line + "\n")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
