//! Compresses the bytes of a batch, harder where that saves pages.
//!
//! A row that does not fit into one page goes on in others, which its end gives back
//! and the next row takes again: that changes three more pages in a commit, and each
//! changed page is written. A gateway of few events has a commit of one such row each
//! second.

use std::io;

use zstd::bulk::Compressor;

use super::schema::PAGE;

/// Level 3 makes a large batch no smaller.
pub(super) const LEVEL: i32 = 1;

/// Makes twenty events a fifth smaller than [`LEVEL`] does, for a third of a
/// millisecond; a lower level does not.
const HARD: i32 = 12;

/// The most that is compressed so.
const MOST_HARD: usize = 32 * 1024;

/// Bytes of a row that stand in its page (`SQLite`'s file format, 1.6).
const IN_PAGE: usize = PAGE as usize - 35;

/// Of a row at most what is not its data or its cursors: kinds and numbers.
const HEAD: usize = 40;

/// The two ways to compress; each batch carries a checksum of its own, since a
/// flipped bit in it must not become a wrong value.
pub(super) struct Packer {
    quick: Compressor<'static>,
    hard: Compressor<'static>,
}

impl Default for Packer {
    fn default() -> Self {
        Self { quick: checked(LEVEL), hard: checked(HARD) }
    }
}

impl Packer {
    /// Compresses `raw` for a row with so many bytes of cursors.
    pub(super) fn pack(&mut self, raw: &[u8], cursors: usize) -> io::Result<Vec<u8>> {
        let room = IN_PAGE.saturating_sub(HEAD + cursors);
        let quick = self.quick.compress(raw)?;
        // It takes off a quarter at best, and much memory for a large event.
        if quick.len() <= room || quick.len() > room / 3 * 4 || raw.len() > MOST_HARD {
            return Ok(quick);
        }
        let hard = self.hard.compress(raw)?;
        Ok(if hard.len() <= room { hard } else { quick })
    }
}

fn checked(level: i32) -> Compressor<'static> {
    let mut compressor = Compressor::new(level).expect("zstd has this level");
    compressor.include_checksum(true).expect("zstd knows its checksum");
    compressor
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of which the quick level makes about half, and the hard one less.
    fn readings(count: u32) -> Vec<u8> {
        let each = |n: u32| {
            let noise = u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
            let number = (20.0 + f64::from(n) / 7.0).to_be_bytes();
            [&b"temp"[..], &number, b"pressure", &noise, b"running, program 42"].concat()
        };
        (0..count).flat_map(each).collect()
    }

    fn plain(packed: &[u8]) -> Vec<u8> {
        zstd::bulk::decompress(packed, 1 << 20).unwrap()
    }

    #[test]
    fn what_is_a_little_too_large_for_a_page_is_made_to_fit() {
        let mut packer = Packer::default();
        let mut fitted = 0;
        for count in 1..200 {
            let raw = readings(count);
            let quick = checked(LEVEL).compress(&raw).unwrap();
            let row = packer.pack(&raw, 0).unwrap();
            assert_eq!(plain(&row), raw);
            assert!(row == quick || row.len() <= IN_PAGE - HEAD && quick.len() > row.len());
            fitted += usize::from(row != quick);
        }
        assert!(fitted > 0);
    }

    #[test]
    fn cursors_take_their_part_of_the_page() {
        let mut packer = Packer::default();
        let room = IN_PAGE - HEAD - 130;
        let raw = (1..200).map(readings).find(|raw| packer.pack(raw, 0).unwrap().len() > room);
        let row = packer.pack(&raw.unwrap(), 130).unwrap();
        assert!(row.len() <= room);
    }
}
