//! The pages of a database as they stand on the medium, newest image first,
//! read without `SQLite`: it reads none of them once its header is damaged.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::wal::Wal;
use super::{PAGE, be32};
use crate::buffer::schema::{self, beside};

/// A page in memory.
pub(super) type Page = Box<[u8; PAGE]>;

/// Bytes of one entry of the pointer map: a kind and a parent.
const ENTRY: u32 = 5;

/// The entry of a page that holds nothing: what it still shows was deleted.
const FREE: [u8; ENTRY as usize] = [2, 0, 0, 0, 0];

/// Every page has one of these kinds.
const KINDS: std::ops::RangeInclusive<u8> = 1..=5;

/// The page in which `SQLite` locks bytes; it is never used.
const LOCKS: u32 = 0x4000_0000 / schema::PAGE + 1;

#[derive(Debug)]
pub(super) struct Pages {
    file: File,
    wal: Wal,
    count: u32,
    /// The page of the pointer map that was read last; empty if it is damaged.
    map: Option<(u32, Vec<u8>)>,
}

impl Pages {
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        let wal = Wal::read(&beside(path, "-wal"))?;
        let stored = u32::try_from(file.metadata()?.len().div_ceil(PAGE as u64));
        let stored = stored.unwrap_or(u32::MAX);
        // A shrunk database leaves pages behind its end until the next checkpoint.
        let count = wal.size.map_or(stored, |size| size.max(wal.last_page()));
        Ok(Self { file, wal, count, map: None })
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Why `SQLite` would not see all of the -wal.
    pub(super) fn broken(&self) -> Option<&'static str> {
        self.wal.broken
    }

    /// `None`: the page cannot be read.
    pub(super) fn read(&self, page: u32) -> Option<Page> {
        let mut bytes = Box::new([0; PAGE]);
        let place = u64::from(page.checked_sub(1)?) * PAGE as u64;
        let (file, place) = self.wal.find(page).unwrap_or((&self.file, place));
        file.read_exact_at(&mut *bytes, place).ok()?;
        Some(bytes)
    }

    /// Whether the page is in use, by the pointer map that `auto_vacuum` keeps.
    /// In doubt it is: a batch that was sent is not sent again, Kafka's position
    /// covers it.
    pub(super) fn is_used(&mut self, page: u32) -> bool {
        let of_map = schema::PAGE / ENTRY + 1;
        let map = page.saturating_sub(2) / of_map * of_map + 2;
        // The map steps aside for the page of locks.
        let map = if map == LOCKS { map + 1 } else { map };
        if page <= 2 || page == map || page == LOCKS {
            return false;
        }
        if self.map.as_ref().is_none_or(|(known, _)| *known != map) {
            self.map = Some((map, self.entries(map)));
        }
        let place = page.saturating_sub(map + 1) as usize;
        let entries = self.map.as_ref().map(|(_, bytes)| bytes.chunks_exact(ENTRY as usize));
        entries.and_then(|mut entries| entries.nth(place)) != Some(&FREE[..])
    }

    /// The entries of a page of the map. One that is wrong makes all of them
    /// so: a page taken for free by mistake would be lost.
    fn entries(&self, map: u32) -> Vec<u8> {
        let pages = self.count.saturating_sub(map).min(schema::PAGE / ENTRY);
        let bytes = self.read(map).map(|bytes| bytes.to_vec()).unwrap_or_default();
        let entries = bytes.get(..(pages * ENTRY) as usize).unwrap_or_default();
        let right = |entry: &[u8]| entry.first().is_some_and(|kind| KINDS.contains(kind));
        if entries.chunks_exact(ENTRY as usize).all(right) { entries.to_vec() } else { Vec::new() }
    }

    /// Bytes of a value that go on in other pages from `next`, up to `length`.
    pub(super) fn follow(&self, mut next: u32, length: usize, into: &mut Vec<u8>) -> bool {
        while into.len() < length {
            // Each page gives bytes, so that a ring of pages ends.
            let Some(bytes) = (next > 1).then(|| self.read(next)).flatten() else { return false };
            next = be32(&*bytes, 0);
            let rest = bytes.get(4..).unwrap_or_default();
            into.extend_from_slice(rest.get(..length - into.len()).unwrap_or(rest));
        }
        true
    }
}
