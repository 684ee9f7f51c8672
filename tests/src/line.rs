//! A serial line without wires: two pseudo-terminals that socat joins.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::Process;

const START: Duration = Duration::from_secs(20);

/// The line; dropped, it is gone.
#[derive(Debug)]
pub struct Line {
    /// The agent's end.
    pub master: String,
    /// The device's end.
    pub device: String,
    /// A terminal that nobody has open any more is gone for socat, which ends then. The
    /// device's end outlives the device, as a port does.
    _open: File,
    _socat: Process,
}

impl Drop for Line {
    /// Its ends are gone with it, as udev sees to: what they lead to may be another's soon.
    fn drop(&mut self) {
        for end in [&self.master, &self.device] {
            std::fs::remove_file(end).ok();
        }
    }
}

impl Line {
    /// Its ends are links in this folder.
    pub fn new(folder: &Path, name: &str) -> Self {
        let end = |end: &str| folder.join(format!("{name}-{end}"));
        let (master, device) = (end("master"), end("device"));
        let terminal = |path: &PathBuf| format!("pty,raw,echo=0,link={}", path.display());
        let mut socat = Command::new("socat");
        socat.args(["-d", "-d", &terminal(&master), &terminal(&device)]);
        let socat = Process::start("socat", &socat);
        socat.wait_line("starting data transfer loop", START);
        let mut open = OpenOptions::new();
        open.read(true).write(true).custom_flags(libc::O_NOCTTY);
        let open = open.open(&device).expect("socat has made a terminal");
        let text = |path: PathBuf| path.into_os_string().into_string().expect("a path of ours");
        Self { master: text(master), device: text(device), _open: open, _socat: socat }
    }
}
