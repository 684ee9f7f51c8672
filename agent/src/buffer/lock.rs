//! One agent a file: `<path>.lock`, held as long as the process lives. The
//! kernel lets go of it also after a kill, so that nobody removes it by hand.
//!
//! In it stand, for whoever finds it taken, the pid and the socket on which the
//! agent takes commands. It is emptied and given to the owner of the buffer, also by
//! root, and so never opened through a link: see [`own`].

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Path, PathBuf};

use super::{OpenError, own};

/// A pid and the longest path that a socket can have, with room to spare.
const MOST_TEXT: u64 = 4096;

/// Another process has the file.
#[derive(Debug, thiserror::Error)]
#[error("{} is in use by another agent (pid {pid})", path.display())]
pub struct Locked {
    pub path: PathBuf,
    /// As it stands in the lock's file.
    pub pid: String,
    /// Where that process takes commands, if it does.
    pub socket: Option<PathBuf>,
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
        let name = name(path);
        let failed = |cause: std::io::Error| match cause.kind() {
            ErrorKind::ReadOnlyFilesystem => OpenError::ReadOnly(path.to_owned()),
            ErrorKind::InvalidInput => OpenError::ForeignLock(name.clone()),
            _ => OpenError::Lock { path: name.clone(), cause },
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = own::open(&name, &mut options).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // It is only to help: without it the lock counts too.
                let read = (&file).take(MOST_TEXT).read_to_string(&mut text);
                let mut lines = text.lines().filter(|line| read.is_ok() && !line.is_empty());
                return Err(OpenError::Locked(Locked {
                    path: path.to_owned(),
                    pid: lines.next().unwrap_or("unknown").to_owned(),
                    socket: lines.next().map(PathBuf::from),
                }));
            }
            Err(TryLockError::Error(cause)) => return Err(failed(cause)),
        }
        // A command that root runs must not leave a lock that the agent, which is
        // not root, cannot open. Nobody else may or need do this.
        if let Ok(owner) = std::fs::metadata(path) {
            drop(fchown(&file, Some(owner.uid()), Some(owner.gid())));
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes()).map_err(failed)?;
        Ok(Self(file))
    }
}

/// Writes beside the pid where this process, which holds the lock, takes
/// commands.
pub fn announce(path: &Path, socket: &Path) -> std::io::Result<()> {
    let mut file = own::open(&name(path), OpenOptions::new().append(true))?;
    file.write_all(socket.as_os_str().as_bytes())?;
    file.write_all(b"\n")
}

/// Who had the file last, by what stands in its lock, which is not touched. It may have
/// ended since: whether somebody answers on its socket tells.
pub fn announced(path: &Path) -> Option<Locked> {
    let mut text = String::new();
    let file = own::open(&name(path), OpenOptions::new().read(true)).ok()?;
    file.take(MOST_TEXT).read_to_string(&mut text).ok()?;
    let mut lines = text.lines().filter(|line| !line.is_empty());
    let pid = lines.next()?.to_owned();
    Some(Locked { path: path.to_owned(), pid, socket: lines.next().map(PathBuf::from) })
}

fn name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, hard_link};
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_lock_that_is_a_link_is_refused_and_what_it_leads_to_stays_as_it_is() {
        for link in [symlink::<PathBuf, PathBuf>, hard_link::<PathBuf, PathBuf>] {
            let folder = tempfile::tempdir().unwrap();
            let (path, victim) = (folder.path().join("buffer.db"), folder.path().join("victim"));
            fs::write(&victim, "precious").unwrap();
            link(victim.clone(), name(&path)).unwrap();
            let refused = Lock::take(&path).unwrap_err();
            assert!(matches!(refused, OpenError::ForeignLock(_)), "{refused}");
            assert!(refused.to_string().contains("buffer.db.lock"), "{refused}");
            announce(&path, Path::new("/run/socket")).unwrap_err();
            assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
            // What it asks for helps.
            fs::remove_file(name(&path)).unwrap();
            let _lock = Lock::take(&path).unwrap();
            announce(&path, Path::new("/run/socket")).unwrap();
        }
    }
}
