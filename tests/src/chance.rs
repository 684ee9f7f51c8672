//! Random moments that can be had again: `E2E_SEED=<the printed number>`.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// A sequence of numbers from one seed (splitmix64).
#[derive(Debug)]
pub struct Chance {
    pub seed: u64,
    state: u64,
}

impl Chance {
    /// From `E2E_SEED`, else another one each time.
    pub fn new() -> Self {
        let given = std::env::var("E2E_SEED").ok();
        let seed = given.map_or_else(
            || RandomState::new().build_hasher().finish(),
            |text| text.parse().expect("E2E_SEED is a number"),
        );
        Self::of(seed)
    }

    pub fn of(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    /// A text that hardly compresses.
    pub fn letters(&mut self, count: usize) -> String {
        let letter = |number: u64| char::from(b'a' + u8::try_from(number).expect("below 26"));
        (0..count).map(|_| letter(self.below(26))).collect()
    }

    /// One moment in each of `count` equal parts of `1..=end`: they never fall together.
    pub fn moments(&mut self, count: u64, end: u64) -> Vec<u64> {
        let part = end / count;
        (0..count).map(|at| at * part + 1 + self.below(part)).collect()
    }

    /// A number from 0 to below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

impl Default for Chance {
    fn default() -> Self {
        Self::new()
    }
}
