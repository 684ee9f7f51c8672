//! A small disk for the agent's buffer, that others can fill: a file system in
//! memory that only the processes of its own namespace see mounted.
//!
//! Root mounts it, and so does everybody where the kernel gives users namespaces
//! of their own. Where it gives neither, the test fails and says what to do.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::panic_with;
use crate::process::Process;

const MOUNT: Duration = Duration::from_secs(20);

/// How a namespace is made, the best way first, and entered again. With a user's
/// namespace it works for everybody; root can do without.
const WAYS: [(&[&str], &[&str]); 2] = [
    (&["--user", "--map-root-user", "--mount"], &["--user", "--preserve-credentials", "--mount"]),
    (&["--mount"], &["--mount"]),
];

const REMEDY: &str = "a test needs a small disk of its own, and this machine lets its user mount \
    none: run it as root with CAP_SYS_ADMIN, or allow namespaces \
    (sysctl -w kernel.apparmor_restrict_unprivileged_userns=0; a container: --cap-add SYS_ADMIN)";

/// The file that others have put there.
const FOREIGN: &str = "foreign";

/// What is written at once where a disk is filled.
const PIECE: usize = 64 * 1024;

/// The disk; dropped, it is gone with all that is on it.
#[derive(Debug)]
pub struct SmallDisk {
    /// Keeps the namespace.
    holder: Process,
    enter: &'static [&'static str],
    /// Where its processes find it.
    pub folder: PathBuf,
}

impl SmallDisk {
    /// A disk of so many bytes, at an empty folder.
    pub fn mount(folder: &Path, bytes: u64) -> Self {
        let folder = folder.join("disk");
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let folder = folder.canonicalize().expect("it was just made");
        let mount = |way: &[&str], then: &str| {
            let script = format!("mount -t tmpfs -o size={bytes},mode=0777 disk \"$1\" && {then}");
            let mut command = Command::new("unshare");
            command.args(way).args(["--", "sh", "-c", &script, "sh"]).arg(&folder);
            command
        };
        let works = |way: &[&str]| {
            let mut tried = mount(way, "true");
            tried.stdout(Stdio::null()).stderr(Stdio::null());
            tried.status().is_ok_and(|status| status.success())
        };
        let found = WAYS.into_iter().find(|(make, _)| works(make));
        let (make, enter) = found.unwrap_or_else(|| panic_with(REMEDY));
        let stay = "echo mounted && exec setpriv --pdeathsig KILL -- sleep infinity";
        let holder = Process::start("the small disk", &mount(make, stay));
        holder.wait_line("mounted", MOUNT);
        Self { holder, enter, folder }
    }

    /// What a command begins with to see the disk; the process stays the same.
    pub fn entry(&self) -> Vec<String> {
        let mut words = vec!["nsenter".to_owned(), format!("--target={}", self.holder.id())];
        words.extend(self.enter.iter().map(|word| (*word).to_owned()));
        // Who enters a namespace may lose the signal that ends it with the test.
        words.extend(["--", "setpriv", "--pdeathsig", "KILL", "--"].map(str::to_owned));
        words
    }

    /// The disk as it is seen from outside.
    fn seen(&self) -> PathBuf {
        let inside = self.folder.strip_prefix("/").expect("it is absolute");
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(inside)
    }

    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        let found = rustix::fs::statvfs(self.seen()).expect("a mounted disk tells");
        found.f_bavail * found.f_frsize
    }

    /// Length of a file on it; 0 where there is none.
    pub fn length(&self, name: &str) -> u64 {
        std::fs::metadata(self.seen().join(name)).map_or(0, |data| data.len())
    }

    /// Somebody else writes a file until so many bytes are free.
    pub fn fill_up_to(&self, free: u64) {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.seen().join(FOREIGN))
            .expect("the disk is writable");
        loop {
            let over = self.free().saturating_sub(free);
            let piece = PIECE.min(usize::try_from(over).unwrap_or(PIECE));
            if piece == 0 {
                return;
            }
            match file.write_all(&vec![7; piece]) {
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                written => written.expect("the disk is writable"),
            }
        }
    }

    /// Somebody else's file goes.
    pub fn clear(&self) {
        std::fs::remove_file(self.seen().join(FOREIGN)).expect("it was filled");
    }
}
