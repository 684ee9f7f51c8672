//! A `-wal` read by hand, because `SQLite` stops at the first frame that is
//! damaged and says nothing: what was committed behind it would be gone
//! without a word. (Format: <https://sqlite.org/fileformat2.html>, section 4.)
//!
//! The checksum of a frame begins with the one of the frame before it. That one
//! is stored beside it, so that the frames behind a damaged one can still be
//! told from garbage.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

use super::{PAGE, be32};
use crate::pulse;

const HEADER: usize = 32;
const FRAME: usize = 24;

/// The last bit says that the checksum's words are big-endian.
const MAGIC: u32 = 0x377f_0682;

/// The only version of the format that there is.
const VERSION: u32 = 3_007_000;

/// What the file holds: the newest committed image of each page.
#[derive(Debug, Default)]
pub(super) struct Wal {
    file: Option<File>,
    /// Page → where its bytes begin.
    pages: HashMap<u32, u64>,
    /// Pages of the database after the last commit.
    pub(super) size: Option<u32>,
    /// Why `SQLite` would not see all of it.
    pub(super) broken: Option<&'static str>,
}

/// One commit as its frames are read.
#[derive(Debug, Default)]
struct Transaction {
    pages: Vec<(u32, u64)>,
    size: u32,
    /// A frame of it is missing.
    gap: bool,
}

impl Wal {
    /// Reads the whole file; one that is missing or holds no frame is empty.
    pub(super) fn read(path: &Path) -> std::io::Result<Self> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(cause) => return Err(cause),
        };
        if file.metadata()?.len() < (HEADER + FRAME + PAGE) as u64 {
            return Ok(Self::default());
        }
        let mut wal = Self::default();
        wal.frames(BufReader::with_capacity(64 * 1024, &file))?;
        wal.file = Some(file);
        Ok(wal)
    }

    /// Where the newest image of a page stands.
    pub(super) fn find(&self, page: u32) -> Option<(&File, u64)> {
        Some((self.file.as_ref()?, *self.pages.get(&page)?))
    }

    pub(super) fn last_page(&self) -> u32 {
        self.pages.keys().copied().max().unwrap_or(0)
    }

    fn frames(&mut self, mut input: impl Read) -> std::io::Result<()> {
        let mut header = [0; HEADER];
        input.read_exact(&mut header)?;
        let big = be32(&header, 0) == MAGIC | 1;
        let stored = (be32(&header, 24), be32(&header, 28));
        let whole = be32(&header, 0) & !1 == MAGIC
            && be32(&header, 4) == VERSION
            && be32(&header, 8) as usize == PAGE
            && sum(&header[..24], big, (0, 0)) == stored;
        if !whole {
            self.broken = Some("the header of the -wal is damaged");
        }
        let mut salts = whole.then(|| (be32(&header, 16), be32(&header, 20)));
        // What the header's checksum would have to be stands in it, mostly.
        let mut running = stored;
        let mut open = Transaction::default();
        let mut doubtful = Vec::new();
        let mut frame = [0; FRAME + PAGE];
        let mut place = HEADER as u64;
        while full(&mut input, &mut frame)? {
            pulse::beat();
            let (page, size) = (be32(&frame, 0), be32(&frame, 4));
            let mine = *salts.get_or_insert((be32(&frame, 8), be32(&frame, 12)));
            let ours = mine == (be32(&frame, 8), be32(&frame, 12));
            let stored = (be32(&frame, 16), be32(&frame, 20));
            let right = sum(&frame[FRAME..], big, sum(&frame[..8], big, running));
            running = stored;
            let bytes = place + FRAME as u64;
            place += frame.len() as u64;
            if !ours || right != stored || page == 0 {
                // Damage, or where the last commit ended.
                open.gap = true;
                continue;
            }
            open.pages.push((page, bytes));
            if size == 0 {
                continue;
            }
            open.size = size;
            // Each commit was on the medium before the next one began: what
            // stands before a whole one is damage and no torn end. A torn end
            // was never acknowledged and does not count.
            for earlier in doubtful.drain(..) {
                self.broken = self.broken.or(Some("a part of the -wal is damaged"));
                self.apply(earlier);
            }
            let done = std::mem::take(&mut open);
            if done.gap {
                doubtful.push(done);
            } else {
                self.apply(done);
            }
        }
        Ok(())
    }

    fn apply(&mut self, transaction: Transaction) {
        self.pages.extend(transaction.pages);
        self.size = Some(transaction.size);
    }
}

/// The checksum of `SQLite`'s, going on from `seed`.
fn sum(bytes: &[u8], big: bool, (mut a, mut b): (u32, u32)) -> (u32, u32) {
    let word = |bytes: &[u8]| {
        let word = be32(bytes, 0);
        if big { word } else { word.swap_bytes() }
    };
    for pair in bytes.chunks_exact(8) {
        let (first, second) = pair.split_at(4);
        a = a.wrapping_add(word(first)).wrapping_add(b);
        b = b.wrapping_add(word(second)).wrapping_add(a);
    }
    (a, b)
}

/// False at the end of the file, also within a frame.
fn full(input: &mut impl Read, into: &mut [u8]) -> std::io::Result<bool> {
    match input.read_exact(into) {
        Ok(()) => Ok(true),
        Err(cause) if cause.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(cause) => Err(cause),
    }
}
