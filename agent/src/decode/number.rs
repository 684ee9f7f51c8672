//! A number as text → the value that holds it exactly.

use crate::event::{Decimal, Value};

/// Significant digits up to which a number with a point is taken as what some
/// device printed of a double: 17 are what C's `%.17g` prints. More digits than
/// that a double cannot hold, such a number stays a decimal.
const DOUBLE_DIGITS: usize = 17;

/// Reads one number in JSON's notation; a leading `+` is allowed too.
/// Integers stay integers at any width that a decimal holds.
pub fn parse(text: &str) -> Option<Value> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let (mut any, mut significant, mut integer) = (false, 0, true);
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' => {
                any = true;
                significant += usize::from(byte != b'0' || significant > 0);
            }
            b'-' => {}
            b'.' | b'e' | b'E' | b'+' => integer = false,
            _ => return None,
        }
    }
    if !any {
        return None;
    }
    if integer {
        if let Ok(number) = text.parse::<i64>() {
            return Some(Value::I64(number));
        }
        if let Ok(number) = text.parse::<u64>() {
            return Some(Value::U64(number));
        }
    }
    if (integer || significant > DOUBLE_DIGITS)
        && let Some(exact) = decimal(text)
    {
        return Some(Value::Decimal(exact));
    }
    text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::F64)
}

/// The number that an `f32` is meant to be: of all that are nearest to it the one with the
/// fewest digits. 23.1 has no exact `f32`, and what is nearest has, as an `f64`, the digits
/// 23.100000381469727.
pub fn of_f32(number: f32) -> f64 {
    let exact = f64::from(number);
    if !number.is_finite() || exact.fract() == 0.0 {
        return exact;
    }
    zmij::Buffer::new().format_finite(number).parse().unwrap_or(exact)
}

/// `-12.50` → 1250 with scale 2 and its sign; no exponent.
pub fn decimal(text: &str) -> Option<Decimal> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() {
        return None;
    }
    let mut unscaled: i128 = 0;
    for byte in whole.bytes().chain(fraction.bytes()) {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        unscaled = unscaled.checked_mul(10)?.checked_add(i128::from(digit))?;
    }
    let scale = u8::try_from(fraction.len()).ok()?;
    Some(Decimal { unscaled: if negative { -unscaled } else { unscaled }, scale })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_f32_has_the_digits_that_were_meant() {
        for (number, meant) in [(23.1_f32, 23.1_f64), (0.1, 0.1), (-1e-3, -1e-3), (8e6, 8e6)] {
            assert_eq!(of_f32(number).to_bits(), meant.to_bits(), "{meant}");
        }
        assert!(of_f32(f32::NAN).is_nan() && of_f32(f32::INFINITY).is_infinite());
        assert_eq!(of_f32(-0.0).to_bits(), (-0.0_f64).to_bits());
    }

    proptest! {
        #[test]
        fn every_f32_is_printed_as_the_shortest_and_comes_back(bits in any::<u32>()) {
            let number = f32::from_bits(bits);
            prop_assume!(number.is_finite());
            #[expect(clippy::cast_possible_truncation, reason = "back to where it came from")]
            let back = of_f32(number) as f32;
            prop_assert_eq!(back.to_bits(), bits);
            if number.fract() != 0.0 {
                // Of two that are as short either will do.
                prop_assert_eq!(of_f32(number).to_string().len(), number.to_string().len());
            }
        }
    }

    #[test]
    fn a_number_keeps_its_width() {
        assert_eq!(parse("21.50"), Some(Value::F64(21.5)));
        assert_eq!(parse("-7"), Some(Value::I64(-7)));
        assert_eq!(parse("18446744073709551615"), Some(Value::U64(u64::MAX)));
        assert_eq!(parse("1e3"), Some(Value::F64(1_000.0)));
        assert_eq!(parse("0.30000000000000004"), Some(Value::F64(0.1 + 0.2)));
        assert_eq!(
            parse("-18446744073709551616"),
            Some(Value::Decimal(Decimal { unscaled: -18_446_744_073_709_551_616, scale: 0 }))
        );
        assert_eq!(
            parse("1234567890.1234567890"),
            Some(Value::Decimal(Decimal { unscaled: 12_345_678_901_234_567_890, scale: 10 }))
        );
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in ["", "-", ".", "abc", "1.2.3", "1e999", "nan", "inf", "--1", "1e"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
