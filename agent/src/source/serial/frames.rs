//! What became of a line's frames: counted by its source, read by whoever looks.

use std::sync::atomic::{AtomicU64, Ordering};

/// Since the process started. Nothing is told by one count about another, so that no
/// order is kept between them.
#[derive(Debug, Default)]
pub struct Frames {
    read: AtomicU64,
    unread: AtomicU64,
    dropped: AtomicU64,
}

impl Frames {
    /// One that could be read.
    pub(crate) fn add_read(&self) {
        self.read.fetch_add(1, Ordering::Relaxed);
    }

    /// One that could not, or bytes that are none.
    pub(crate) fn add_unread(&self) {
        self.unread.fetch_add(1, Ordering::Relaxed);
    }

    /// So many that found no room.
    pub(crate) fn add_dropped(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    pub fn unread(&self) -> u64 {
        self.unread.load(Ordering::Relaxed)
    }

    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
