//! One agent a file: `<path>.lock`, held as long as the process lives. The
//! kernel lets go of it also after a kill, so that nobody removes it by hand.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use super::OpenError;

/// Another process has the file.
#[derive(Debug, thiserror::Error)]
#[error("{} is in use by another agent (pid {pid})", path.display())]
pub struct Locked {
    pub path: PathBuf,
    /// As it stands in the lock's file.
    pub pid: String,
}

/// Holds the lock until it is dropped.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    /// Closing alone would leave it to a child that is between its fork and its
    /// program, and the next opening would find it taken.
    fn drop(&mut self) {
        // A lock that cannot be given back goes with the last of its holders.
        drop(self.0.unlock());
    }
}

impl Lock {
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let name = PathBuf::from(name);
        let failed = |cause| OpenError::Lock { path: name.clone(), cause };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&name)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // The pid is only for the message: without it the lock counts too.
                let read = (&file).take(20).read_to_string(&mut pid);
                let pid =
                    if read.is_ok() && !pid.trim().is_empty() { pid.trim() } else { "unknown" };
                return Err(OpenError::Locked(Locked {
                    path: path.to_owned(),
                    pid: pid.to_owned(),
                }));
            }
            Err(TryLockError::Error(cause)) => return Err(failed(cause)),
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes()).map_err(failed)?;
        Ok(Self(file))
    }
}
