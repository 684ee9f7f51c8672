//! The real binary, run with a configuration file of its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use crate::disk::SmallDisk;
use crate::process::Process;
use crate::target;

/// Until `READY`; a start takes well under a second on an idle machine.
const START: Duration = Duration::from_mins(1);

/// Longest end after SIGTERM: the configured grace is below.
const STOP: Duration = Duration::from_mins(1);

/// The agent and its folder; dropped, it is killed.
#[derive(Debug)]
pub struct Agent {
    folder: PathBuf,
    environment: Vec<(String, String)>,
    /// What its command begins with: where another file system is to be seen.
    entry: Vec<String>,
    process: Option<Process>,
    /// What earlier runs said.
    past: Vec<String>,
}

impl Agent {
    /// Writes the configuration; what `config` says of paths is its own.
    pub fn new(folder: &Path, config: &str) -> Self {
        std::fs::create_dir_all(folder).expect("a folder can be made");
        let agent = Self {
            folder: folder.to_owned(),
            environment: Vec::new(),
            entry: Vec::new(),
            process: None,
            past: Vec::new(),
        };
        agent.configure(config);
        agent
    }

    /// Another configuration for the next start.
    pub fn configure(&self, config: &str) {
        std::fs::write(self.config(), config).expect("the folder is writable");
    }

    /// Another of the program's commands, with the agent's configuration.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(words).arg("--config").arg(self.config());
        command
    }

    fn config(&self) -> PathBuf {
        self.folder.join("gateway.toml")
    }

    pub fn environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// It runs under this program, which is given the agent and its arguments.
    pub fn under(&mut self, program: &[&str]) {
        self.entry = program.iter().map(|word| (*word).to_owned()).collect();
    }

    /// It runs where this disk is mounted.
    pub fn on(&mut self, disk: &SmallDisk) {
        self.entry = disk.entry();
    }

    /// Starts it and waits until it is ready.
    pub fn start(&mut self) {
        self.launch("run");
        self.process().wait_line("READY", START);
    }

    /// Starts it; it need not become ready.
    pub fn launch(&mut self, command: &str) {
        assert!(self.process.is_none(), "the agent is started once");
        let entry = self.entry.iter().cloned().chain(runner()).map(OsString::from);
        let mut words = entry.chain([binary().into_os_string()]);
        let mut agent = Command::new(words.next().expect("the binary at least"));
        agent.args(words).arg(command).arg("--config").arg(self.config());
        // Variables of this name are configuration to the agent; ours are not meant for it.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TIDEGATE_") {
                agent.env_remove(name);
            }
        }
        agent.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.process = Some(Process::start("tidegate", &agent));
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the agent runs")
    }

    /// Waits for a line of this run that contains all of these words.
    pub fn wait_line(&mut self, words: &[&str], within: Duration) -> String {
        let log = self.process().log.clone();
        log.wait(0, &format!("line of the agent with {words:?}"), within, |line| {
            words.iter().all(|word| line.contains(word))
        })
    }

    /// The lines of all runs that contain all of these words.
    pub fn lines(&self, words: &[&str]) -> Vec<String> {
        let now = self.process.as_ref().map(|process| process.log.lines()).unwrap_or_default();
        let all = self.past.iter().chain(&now);
        all.filter(|line| words.iter().all(|word| line.contains(word))).cloned().collect()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("the agent runs");
        process.kill();
        self.past.extend(process.log.lines());
    }

    /// SIGTERM; it must end by itself, and well.
    pub fn stop(&mut self) {
        self.process().signal(crate::process::Signal::TERM);
        let status = self.wait();
        let said = self.past.iter().rev().take(40).rev().cloned().collect::<Vec<_>>().join("\n");
        assert!(status.success(), "the agent ended with {status}\n{said}");
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("the agent runs");
        let status = process.wait(STOP);
        self.past.extend(process.log.lines());
        status
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(process) = &self.process {
            self.past.extend(process.log.lines());
        }
        // To be looked at after a failure; nothing reads it.
        std::fs::write(self.folder.join("agent.log"), self.past.join("\n")).ok();
    }
}

/// The words of `E2E_RUNNER`: what runs an agent that is built for another machine,
/// and is one process with it, so that a signal to the one reaches the other.
fn runner() -> Vec<String> {
    let words = std::env::var("E2E_RUNNER").unwrap_or_default();
    words.split_whitespace().map(str::to_owned).collect()
}

/// `E2E_AGENT`, or what cargo has built.
fn binary() -> PathBuf {
    let built = || target().join("debug/tidegate");
    let path = std::env::var_os("E2E_AGENT").map_or_else(built, PathBuf::from);
    assert!(path.is_file(), "no agent at {}: cargo build -p tidegate", path.display());
    path
}
