//! How much room the disk has.

use std::path::Path;

/// The file system of a file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disk {
    pub size: u64,
    /// What a user without privileges may still take.
    pub free: u64,
}

/// The file system that holds the file at `path`.
pub(crate) fn disk(path: &Path) -> std::io::Result<Disk> {
    let found = rustix::fs::statvfs(path)?;
    Ok(Disk {
        size: found.f_blocks.saturating_mul(found.f_frsize),
        free: found.f_bavail.saturating_mul(found.f_frsize),
    })
}
