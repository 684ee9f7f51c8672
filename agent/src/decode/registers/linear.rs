//! Scale and offset: what a number is in its unit.

/// `value × scale + offset`, computed in decimal as the operator wrote it.
///
/// 0.1 has no exact `f64`, so `215.0 * 0.1` may miss the nearest `f64` to 21.5.
/// But every `f64` prints as its shortest decimal, which is what was written:
/// `scale = m / 10^k`. So for integers `(value × m + offset) / 10^k` has an
/// exact numerator and, while that is below 2^53 and k at most 22, exact
/// operands of one IEEE division: the result is correctly rounded. Beyond 2^53
/// it is off by at most one rounding more.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    scale: f64,
    offset: f64,
    decimal: Option<Decimal>,
}

#[derive(Debug, Clone, PartialEq)]
struct Decimal {
    factor: i128,
    offset: i128,
    /// 10^k, exact.
    divisor: f64,
}

/// The largest power of ten that an `f64` holds exactly.
const MAX_PLACES: u32 = 22;
/// With |factor| ≤ 10^18, |value| < 2^64 and |offset| ≤ 10^36 the numerator
/// stays below 2 × 10^37, far inside an i128.
const MAX_FACTOR: i128 = 10_i128.pow(18);
const MAX_OFFSET: i128 = 10_i128.pow(36);

impl Linear {
    /// `None` if neither is given: then integers stay integers.
    pub fn new(scale: Option<f64>, offset: Option<f64>) -> Option<Self> {
        if scale.is_none() && offset.is_none() {
            return None;
        }
        let (scale, offset) = (scale.unwrap_or(1.0), offset.unwrap_or(0.0));
        Some(Self { scale, offset, decimal: Decimal::new(scale, offset) })
    }

    /// 10 to the power of `places`, which is -22 to 18.
    pub fn power_of_ten(places: i8) -> Self {
        let power = u32::from(places.unsigned_abs());
        let (factor, divisor) = if places < 0 {
            (1, 10f64.powi(-i32::from(places)))
        } else {
            (10_i128.checked_pow(power).unwrap_or(MAX_FACTOR), 1.0)
        };
        let decimal = Some(Decimal { factor, offset: 0, divisor });
        Self { scale: 10f64.powi(places.into()), offset: 0.0, decimal }
    }

    #[expect(clippy::cast_precision_loss, reason = "this is the one rounding beyond 2^53")]
    pub(crate) fn of_integer(&self, number: i128) -> f64 {
        match &self.decimal {
            Some(d) => (number * d.factor + d.offset) as f64 / d.divisor,
            None => (number as f64).mul_add(self.scale, self.offset),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a float is not exact anyhow")]
    pub(in crate::decode) fn of_float(&self, number: f64) -> f64 {
        if let Some(d) = &self.decimal {
            let result = (number * d.factor as f64 + d.offset as f64) / d.divisor;
            if result.is_finite() {
                return result;
            }
        }
        number * self.scale + self.offset
    }
}

impl Decimal {
    fn new(scale: f64, offset: f64) -> Option<Self> {
        let (factor, factor_places) = shortest(scale)?;
        let (offset, offset_places) = shortest(offset)?;
        let places = factor_places.max(offset_places);
        let raise = |m: i128, by: u32| m.checked_mul(10_i128.checked_pow(by)?);
        let factor = raise(factor, places - factor_places)?;
        let offset = raise(offset, places - offset_places)?;
        if factor.abs() > MAX_FACTOR || offset.abs() > MAX_OFFSET {
            return None;
        }
        let divisor = 10f64.powi(i32::try_from(places).ok()?);
        Some(Self { factor, offset, divisor })
    }
}

/// The number as `mantissa / 10^places`, by its shortest decimal.
fn shortest(number: f64) -> Option<(i128, u32)> {
    let printed = format!("{number:e}");
    let (digits, exponent) = printed.split_once('e')?;
    let fraction = digits.split_once('.').map_or(0, |(_, f)| f.len());
    let mantissa: i128 = digits.replace('.', "").parse().ok()?;
    let places = i32::try_from(fraction).ok()?.checked_sub(exponent.parse().ok()?)?;
    if places < 0 {
        let zeros = places.unsigned_abs();
        return Some((mantissa.checked_mul(10_i128.checked_pow(zeros)?)?, 0));
    }
    u32::try_from(places).ok().filter(|p| *p <= MAX_PLACES).map(|p| (mantissa, p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scaled_integer_is_the_f64_nearest_to_the_decimal_result() {
        for (scale, exponent) in [(0.1, -1), (0.01, -2), (0.001, -3), (10.0, 1)] {
            let linear = Linear::new(Some(scale), None).unwrap();
            for number in i16::MIN..=i16::MAX {
                let expected: f64 = format!("{number}e{exponent}").parse().unwrap();
                let got = linear.of_integer(i128::from(number));
                assert_eq!(got.to_bits(), expected.to_bits(), "{number} at {scale}");
            }
        }
    }

    #[test]
    fn a_power_of_ten_moves_the_point_and_nothing_else() {
        for places in -10..=10 {
            let linear = Linear::power_of_ten(places);
            for number in [0, 1, -7, 123, 215, -32_768, 65_535, 999_999_999, 1 << 53] {
                let expected: f64 = format!("{number}e{places}").parse().unwrap();
                let got = linear.of_integer(number);
                assert_eq!(got.to_bits(), expected.to_bits(), "{number} at {places}");
            }
        }
    }
}
