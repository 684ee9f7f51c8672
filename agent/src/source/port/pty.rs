//! A serial port without a wire, for tests: a pseudo-terminal, plugged in under a name
//! that stays, as those in `/dev/serial/by-id` do.

use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::Port;

/// The device's end. Dropped, the port is unplugged.
#[derive(Debug)]
pub(in crate::source) struct Pty {
    pub(in crate::source) master: Port,
    /// Without it the master would be told of a hang-up before the agent comes.
    _open: File,
}

impl Pty {
    /// The port's path, plugged in or not.
    pub(in crate::source) fn path(folder: &Path) -> PathBuf {
        folder.join("port")
    }

    pub(in crate::source) fn plug(folder: &Path) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        rustix::io::ioctl_fionbio(&master, true).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let path = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
        let open = File::options().read(true).write(true).open(path).unwrap();
        std::fs::remove_file(Self::path(folder)).ok();
        std::os::unix::fs::symlink(path, Self::path(folder)).unwrap();
        Self { master: Port::register(File::from(master)).unwrap(), _open: open }
    }
}
