//! Which branches were taken, where the compiler was told to count them: `make fuzz` does
//! (`-C passes=sancov-module`, LLVM's `SanitizerCoverage` with inline 8-bit counters). Where
//! it was not, there are no counters, and every input is like the one before.

use std::sync::atomic::{AtomicUsize, Ordering};

static BEGIN: AtomicUsize = AtomicUsize::new(0);
static END: AtomicUsize = AtomicUsize::new(0);

/// Counters are looked at, and cleared, in pieces of this size: almost all are zero.
const PIECE: usize = 512;
const ZEROS: [u8; PIECE] = [0; PIECE];

/// Called by what the compiler adds before `main`, once for each object, always with the
/// counters of the whole program.
#[expect(unsafe_code, reason = "the name is SanitizerCoverage's")]
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(begin: *mut u8, end: *mut u8) {
    BEGIN.store(begin.addr(), Ordering::Relaxed);
    END.store(end.addr(), Ordering::Relaxed);
}

/// The counters of this program, and what was reached until now.
#[derive(Debug)]
pub(super) struct Coverage {
    counters: &'static mut [u8],
    /// For each counter the [sizes](size) that it had.
    seen: Vec<u8>,
}

impl Coverage {
    /// For who runs alone: two would take each other's branches for their own.
    pub(super) fn begin() -> Self {
        let (begin, end) = (BEGIN.load(Ordering::Relaxed), END.load(Ordering::Relaxed));
        Self { counters: counters(begin, end), seen: vec![0; end - begin] }
    }

    pub(super) fn clear(&mut self) {
        for piece in self.counters.chunks_mut(PIECE) {
            if *piece != ZEROS[..piece.len()] {
                piece.fill(0);
            }
        }
    }

    /// Whether something was reached since the last [clear](Coverage::clear), or as often,
    /// as never before.
    pub(super) fn is_new(&mut self) -> bool {
        let mut new = false;
        for (piece, seen) in self.counters.chunks(PIECE).zip(self.seen.chunks_mut(PIECE)) {
            if *piece == ZEROS[..piece.len()] {
                continue;
            }
            for (counter, seen) in piece.iter().zip(seen) {
                let size = size(*counter);
                new |= *seen & size != size;
                *seen |= size;
            }
        }
        new
    }

    pub(super) const fn branches(&self) -> usize {
        self.seen.len()
    }

    pub(super) fn reached(&self) -> usize {
        self.seen.iter().filter(|seen| **seen != 0).count()
    }
}

#[expect(unsafe_code, reason = "the counters are the linker's, and no variable of Rust")]
fn counters(begin: usize, end: usize) -> &'static mut [u8] {
    if begin == end {
        return &mut [];
    }
    // SAFETY: LLVM gives begin and end of one section of bytes, which lives as long as the
    // program. Who begins a search runs alone (`--test-threads=1`), and the code under
    // test, which counts in it, never runs while this is looked at.
    unsafe {
        std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut(begin), end - begin)
    }
}

/// One bit for each size of a count, so that a loop is not new with every turn.
const fn size(count: u8) -> u8 {
    match count {
        0 => 0,
        1 => 1,
        2 => 2,
        3 => 4,
        4..=7 => 8,
        8..=15 => 16,
        16..=31 => 32,
        32..=127 => 64,
        128.. => 128,
    }
}
