//! A serial port without wires: a pseudo-terminal, with a link where one is wanted.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// The device's side is `own`; the other is the port's.
#[derive(Debug)]
pub(super) struct Terminal {
    own: File,
    path: PathBuf,
    link: Option<PathBuf>,
    /// Open, so that the device's side outlives who reads the port.
    _port: OwnedFd,
}

impl Terminal {
    /// A new one; `link` is made to point to it, in place of an older link.
    pub(super) fn new(link: Option<&Path>) -> io::Result<Self> {
        let own = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&own)?;
        unlockpt(&own)?;
        let name = ptsname(&own, Vec::new())?.into_string().map_err(io::Error::other)?;
        let path = PathBuf::from(name);
        let port = open(&path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        // Until somebody sets it, a terminal is for people, and echoes.
        let mut modes = tcgetattr(&port)?;
        modes.make_raw();
        tcsetattr(&port, OptionalActions::Now, &modes)?;
        let link = link.map(|link| linked(link, &path)).transpose()?;
        Ok(Self { own: File::from(own), path, link, _port: port })
    }

    /// What is to be opened to talk to the device.
    pub(super) fn path(&self) -> &Path {
        self.link.as_deref().unwrap_or(&self.path)
    }

    /// The device's side.
    pub(super) fn own(&self) -> io::Result<File> {
        self.own.try_clone()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            // Somebody may have taken it away.
            std::fs::remove_file(link).ok();
        }
    }
}

/// A link of an earlier run is replaced; anything else that stands there is not.
fn linked(link: &Path, path: &Path) -> io::Result<PathBuf> {
    match std::fs::symlink_metadata(link) {
        Ok(there) if there.is_symlink() => std::fs::remove_file(link)?,
        Ok(_) => {
            let what = format!("{} is there already, and no link", link.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    std::os::unix::fs::symlink(path, link)?;
    Ok(link.to_owned())
}
