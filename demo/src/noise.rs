//! Plausible values without a random source: the same start gives the same run.

/// A xorshift generator (Marsaglia, 2003): enough for noise, for nothing else.
#[derive(Debug, Clone)]
pub struct Noise(u64);

impl Noise {
    pub const fn new(seed: u64) -> Self {
        // Zero would stay zero for ever.
        Self(seed | 1)
    }

    /// The next number from -1 to 1.
    pub fn draw(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The high half is the better one.
        let [a, b, c, d, ..] = self.0.to_be_bytes();
        f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX) * 2.0 - 1.0
    }
}

/// A value that wanders around its middle, as process values do.
#[derive(Debug, Clone)]
pub struct Wander {
    middle: f64,
    width: f64,
    offset: f64,
    noise: Noise,
}

impl Wander {
    pub const fn new(middle: f64, width: f64, seed: u64) -> Self {
        Self { middle, width, offset: 0.0, noise: Noise::new(seed) }
    }

    /// The next value: most of the old distance from the middle and a step, which
    /// together never leave the width.
    pub fn step(&mut self) -> f64 {
        self.offset = self.offset * 0.9 + self.noise.draw() * 0.1;
        self.middle + self.width * self.offset
    }
}

/// Three digits behind the point, as a sensor would print it.
pub fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wandering_value_stays_within_its_width_and_moves() {
        let mut value = Wander::new(80.0, 5.0, 7);
        let run: Vec<f64> = (0..1_000).map(|_| value.step()).collect();
        assert!(run.iter().all(|v| (75.0..=85.0).contains(v)));
        assert!(run.windows(2).all(|pair| (pair[0] - pair[1]).abs() > 0.0));
    }
}
