//! Where a device puts the bytes of a value.

use serde::{Deserialize, Serialize};

/// Where the bytes A (highest) to D (lowest) of a value lie. Values of four
/// registers follow the same rule: words, bytes within words, or both are
/// reversed.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Big-endian, as Modbus itself has it.
    #[default]
    Abcd,
    /// Words reversed.
    Cdab,
    /// Bytes swapped within each word.
    Badc,
    /// Both: little-endian.
    Dcba,
}

impl Order {
    pub(super) const fn reverses_words(self) -> bool {
        matches!(self, Self::Cdab | Self::Dcba)
    }

    const fn swaps_bytes(self) -> bool {
        matches!(self, Self::Badc | Self::Dcba)
    }

    pub(super) const fn word(self, word: u16) -> u16 {
        if self.swaps_bytes() { word.swap_bytes() } else { word }
    }

    /// At most four words as one number, the highest byte first.
    pub(super) fn join(self, words: &[u16]) -> u64 {
        let push = |bits: u64, word: &u16| (bits << 16) | u64::from(self.word(*word));
        if self.reverses_words() {
            words.iter().rev().fold(0, push)
        } else {
            words.iter().fold(0, push)
        }
    }
}
