//! How much room the disk has.

use std::io::ErrorKind;
use std::path::Path;

use super::schema::{WAL_LIMIT, beside};

/// The file system of a file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disk {
    pub size: u64,
    /// What a user without privileges may still take, without what the file is
    /// going to take for what it holds already.
    pub free: u64,
    /// What the file will be longer by once the -wal is written into it.
    pub owed: u64,
}

/// The file system that holds the file at `path`, whose pages take `length` bytes.
/// Those that only stand in the -wal yet will make the file longer, and the -wal
/// grows to its limit whatever comes: a small disk would be short of both later.
pub(crate) fn disk(path: &Path, length: u64) -> std::io::Result<Disk> {
    let found = rustix::fs::statvfs(path)?;
    let size_of = |path: &Path| match std::fs::metadata(path) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(cause),
        data => Ok(data.map_or(0, |data| data.len())),
    };
    let file = length.saturating_sub(size_of(path)?);
    let wal = u64::from(WAL_LIMIT).saturating_sub(size_of(&beside(path, "-wal"))?);
    Ok(Disk {
        size: found.f_blocks.saturating_mul(found.f_frsize),
        free: found
            .f_bavail
            .saturating_mul(found.f_frsize)
            .saturating_sub(file.saturating_add(wal)),
        owed: file,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_file_is_going_to_take_is_not_free() {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let path = folder.path().join("buffer.db");
        std::fs::write(&path, [7; 4_096]).unwrap();
        let limit = u64::from(WAL_LIMIT);
        let free = |length: u64| {
            let disk = disk(&path, length).unwrap();
            (disk.size, disk.free)
        };
        // Far more than others take of it meanwhile.
        let length = 1 << 60;
        assert_eq!(free(length).1, 0);
        let (size, whole) = free(4_096);
        assert!(whole + limit <= size);
    }
}
