//! Binary-coded decimals: four bits a digit, as meters and panels keep numbers.
//!
//! Packed and without a sign, the highest digit first. A half byte above 9 is no
//! digit, and what holds one is no number.

/// Digits of four registers.
const DIGITS: u32 = 16;

/// The number whose digits these bits are; `None` where one of them is none.
pub(super) fn number(bits: u64) -> Option<u64> {
    let digit = |place: u32| bits.checked_shr(4 * place).unwrap_or(0) & 0xF;
    // Sixteen digits are below 2^54.
    let push = |number: u64, digit: u64| (digit <= 9).then(|| number * 10 + digit);
    (0..DIGITS).rev().map(digit).try_fold(0, push)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digits_are_read_from_the_highest() {
        assert_eq!(number(0x1234), Some(1_234));
        assert_eq!(number(0), Some(0));
        assert_eq!(number(0x9999_9999_9999_9999), Some(9_999_999_999_999_999));
    }

    #[test]
    fn a_half_byte_above_nine_is_no_digit() {
        for bits in [0xA, 0xF0, 0x1A34, 0xA000_0000_0000_0000, u64::MAX] {
            assert_eq!(number(bits), None, "{bits:X}");
        }
    }

    proptest! {
        // In base 16 the digits are written as they are meant in base 10.
        #[test]
        fn bits_are_the_number_that_their_hexadecimal_digits_spell(bits in any::<u64>()) {
            prop_assert_eq!(number(bits), format!("{bits:x}").parse().ok());
        }

        #[test]
        fn every_number_of_sixteen_digits_comes_back(meant in 0..10_u64.pow(16)) {
            let bits = u64::from_str_radix(&meant.to_string(), 16).unwrap();
            prop_assert_eq!(number(bits), Some(meant));
        }
    }
}
