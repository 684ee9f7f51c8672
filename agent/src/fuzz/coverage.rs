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
    BEGIN.store(begin.expose_provenance(), Ordering::Relaxed);
    END.store(end.expose_provenance(), Ordering::Relaxed);
}

/// The counters of this program, and what was reached until now.
#[derive(Debug)]
pub(super) struct Coverage {
    /// The address of the first.
    begin: usize,
    /// For each counter the [sizes](size) that it had.
    seen: Vec<u8>,
}

impl Coverage {
    /// For who runs alone: two would take each other's branches for their own.
    pub(super) fn begin() -> Self {
        Self::of(BEGIN.load(Ordering::Relaxed), END.load(Ordering::Relaxed))
    }

    /// Of the counters in this range of addresses.
    pub(super) fn of(begin: usize, end: usize) -> Self {
        Self { begin, seen: vec![0; end - begin] }
    }

    pub(super) fn clear(&mut self) {
        for at in (0..self.seen.len()).step_by(PIECE) {
            let piece = (self.seen.len() - at).min(PIECE);
            if read(self.begin + at, piece) != ZEROS {
                zero(self.begin + at, piece);
            }
        }
    }

    /// Whether something was reached since the last [clear](Coverage::clear), or as often,
    /// as never before.
    pub(super) fn is_new(&mut self) -> bool {
        let mut new = false;
        for (at, seen) in self.seen.chunks_mut(PIECE).enumerate() {
            let piece = read(self.begin + at * PIECE, seen.len());
            if piece == ZEROS {
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

/// A copy of up to [`PIECE`] counters, and zeros behind them. Nothing in the program holds a
/// reference to one: the code under test writes there.
#[expect(unsafe_code, reason = "the counters are the linker's, and no variable of Rust")]
fn read(address: usize, count: usize) -> [u8; PIECE] {
    let mut piece = ZEROS;
    let counters = std::ptr::with_exposed_provenance::<u8>(address);
    // SAFETY: LLVM gives begin and end of one section of bytes, which lives as long as the
    // program. Who begins a search runs alone (`--test-threads=1`), and the code under
    // test, which counts in it, never runs while this does.
    unsafe { counters.copy_to_nonoverlapping(piece.as_mut_ptr(), count.min(PIECE)) };
    piece
}

/// Sets so many counters to zero.
#[expect(unsafe_code, reason = "the counters are the linker's, and no variable of Rust")]
fn zero(address: usize, count: usize) {
    // SAFETY: as for `read`; `count` ends within the section.
    unsafe { std::ptr::with_exposed_provenance_mut::<u8>(address).write_bytes(0, count) };
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
