//! Modbus devices on libraries of others: the programs of `peers/modbus`.
//!
//! What they run on, scripts/setup.sh fetches; the one in C is compiled here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use crate::process::Process;
use crate::{cache, folder};

/// The versions that scripts/versions.sh names: pymodbus, pyModbusTCP, modbus-serial.
const FETCHED: &str = "modbus-peers-3.16.1-0.3.1-8.0.25";

/// An interpreter starts in less than a second on an idle machine.
const START: Duration = Duration::from_mins(1);

/// A device; dropped, it is killed.
#[derive(Debug)]
pub struct Peer {
    name: String,
    program: Command,
    process: Option<Process>,
}

impl Peer {
    /// A program of `peers/modbus` and its arguments, started.
    pub fn started(program: &str, arguments: &[&str]) -> Self {
        let mut command = command(program);
        command.args(arguments);
        let name = format!("{program} {}", arguments.join(" "));
        let mut peer = Self { name, program: command, process: None };
        peer.start();
        peer
    }

    fn start(&mut self) {
        let process = Process::start(&self.name, &self.program);
        process.wait_line("READY", START);
        self.process = Some(process);
    }

    /// SIGKILL: its connections break, its serial port stays.
    pub fn kill(&mut self) {
        self.process.take().expect("the peer runs").kill();
    }

    /// The same place anew, with one more argument.
    pub fn start_again(&mut self, argument: &str) {
        assert!(self.process.is_none(), "the peer was killed");
        self.program.arg(argument);
        self.start();
    }

    /// Waits for a line that contains `text`, said since the last start.
    pub fn wait_line(&self, text: &str, within: Duration) {
        self.process.as_ref().expect("the peer runs").wait_line(text, within);
    }
}

/// What runs this program.
fn command(program: &str) -> Command {
    static LIBMODBUS: LazyLock<PathBuf> = LazyLock::new(compiled);
    let fetched = cache().join(FETCHED);
    assert!(fetched.is_dir(), "no {}: run scripts/setup.sh", fetched.display());
    let path = sources().join(program);
    let mut command = match path.extension().and_then(|extension| extension.to_str()) {
        // Without writing what it has compiled beside the source.
        Some("py") => {
            let mut python = Command::new(fetched.join("bin/python"));
            python.arg("-B");
            python
        }
        Some("js") => {
            let mut node = Command::new("node");
            node.env("NODE_PATH", fetched.join("node_modules"));
            let machine = std::env::var("PATH").unwrap_or_default();
            node.env("PATH", format!("{machine}:{}", fetched.join("bin").display()));
            node
        }
        _ => return Command::new(&*LIBMODBUS),
    };
    command.arg(path);
    command
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/modbus")
}

fn compiled() -> PathBuf {
    let program = folder("libmodbus").join("libmodbus_server");
    let mut compiler = Command::new("cc");
    compiler.arg("-o").arg(&program).arg(sources().join("libmodbus_server.c")).arg("-lmodbus");
    let mut compiler = Process::start("cc", &compiler);
    let status = compiler.wait(START);
    assert!(status.success(), "cannot compile the libmodbus server\n{}", compiler.log.tail());
    program
}
