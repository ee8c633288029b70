//! Tables of rotary position embeddings: cosines and sines of `position · base^(-i / half)`.
//!
//! They are made once, when a network is compiled, and are constants from then on. The platform's mathematical library
//! differs from one to the next, so none is used: everything is computed from additions, products and quotients of `f64`,
//! as unevaluated sums of two (some 106 bits), and rounded once to `f32`. That is enough for correct rounding unless a value
//! lies within some 2^-80 of a midpoint between two `f32`.

use std::f64::consts::FRAC_PI_2;

/// A number as the sum of two, the second at most half a unit in the last place of the first.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Double {
    high: f64,
    low: f64,
}

/// π/2 to 106 bits.
const HALF_PI: Double = Double { high: FRAC_PI_2, low: 6.123_233_995_736_766e-17 };
const ONE: Double = Double { high: 1.0, low: 0.0 };
/// More than Newton's iteration ever takes.
const MOST_STEPS: usize = 2000;

impl Double {
    fn of(value: f64) -> Double {
        Double { high: value, low: 0.0 }
    }

    /// The exact sum (Knuth).
    fn sum(a: f64, b: f64) -> Double {
        let high = a + b;
        let part = high - a;
        Double { high, low: (a - (high - part)) + (b - part) }
    }

    /// The exact product (Dekker, with Veltkamp's halves: no fused operation is needed).
    fn product(a: f64, b: f64) -> Double {
        const SPLIT: f64 = 134_217_729.0;
        let halves = |x: f64| {
            let scaled = SPLIT * x;
            let high = scaled - (scaled - x);
            (high, x - high)
        };
        let ((a1, a2), (b1, b2)) = (halves(a), halves(b));
        let high = a * b;
        Double { high, low: ((a1 * b1 - high) + a1 * b2 + a2 * b1) + a2 * b2 }
    }

    fn plus(self, other: Double) -> Double {
        let (high, low) = (Double::sum(self.high, other.high), Double::sum(self.low, other.low));
        let first = Double::sum(high.high, high.low + low.high);
        Double::sum(first.high, first.low + low.low)
    }

    fn negated(self) -> Double {
        Double { high: -self.high, low: -self.low }
    }

    fn times(self, other: Double) -> Double {
        let product = Double::product(self.high, other.high);
        Double::sum(product.high, product.low + (self.high * other.low + self.low * other.high))
    }

    fn over(self, divisor: f64) -> Double {
        let first = self.high / divisor;
        let rest = self.plus(Double::product(first, divisor).negated());
        Double::sum(first, (rest.high + rest.low) / divisor)
    }

    /// Rounded once: where the first part lies on a midpoint, the second decides.
    fn rounded(self) -> f32 {
        let nearest = self.high as f32;
        let rest = (self.high - f64::from(nearest)) + self.low;
        let other = if rest > 0.0 { nearest.next_up() } else { nearest.next_down() };
        let half = (f64::from(other) - f64::from(nearest)) / 2.0;
        // `high` as f32 is off only if it was a midpoint, which `low` moves to the other side.
        if rest.abs() > half.abs() { other } else { nearest }
    }

    fn power(self, mut exponent: u64) -> Double {
        let (mut result, mut square) = (ONE, self);
        while exponent > 0 {
            if exponent & 1 == 1 {
                result = result.times(square);
            }
            square = square.times(square);
            exponent >>= 1;
        }
        result
    }

    /// `base^(-1/n)` for `base` in 1 to [`GREATEST_BASE`]: Newton's iteration for `y^-n = base`, which rises to the root
    /// from below.
    fn inverse_root(base: f64, n: u64) -> Double {
        // e^-x is at least 1 - x, and ln(base) less than 28: large roots begin next to their end, and of small ones, where
        // each step multiplies y by up to 1 + 1/n, the first steps are few.
        let mut y = if base > 1.0 { Double::of((1.0 / base).max(1.0 - 28.0 / n as f64)) } else { ONE };
        // Some 750 steps at most, near n = 28.
        for _ in 0..MOST_STEPS {
            let error = ONE.plus(Double::of(base).times(y.power(n)).negated());
            y = y.plus(y.times(error).over(n as f64));
            // The power has n times the error of y; the step just made squares it.
            if error.high.abs() < n as f64 * 1e-20 {
                break;
            }
        }
        y
    }

    fn cos_sin(self) -> (Double, Double) {
        let quarter = (self.high / HALF_PI.high).round_ties_even();
        let x = self.plus(HALF_PI.times(Double::of(quarter)).negated());
        // Taylor's series up to x^27 / 27!, below 2^-100 for x up to π/4.
        let square = x.times(x).negated();
        let (mut cos, mut sin, mut even, mut odd) = (ONE, x, ONE, x);
        for k in 1..=13 {
            let k = f64::from(k);
            even = even.times(square).over((2.0 * k - 1.0) * (2.0 * k));
            odd = odd.times(square).over((2.0 * k) * (2.0 * k + 1.0));
            cos = cos.plus(even);
            sin = sin.plus(odd);
        }
        match (quarter.rem_euclid(4.0)) as u8 {
            0 => (cos, sin),
            1 => (sin.negated(), cos),
            2 => (cos.negated(), sin.negated()),
            _ => (sin, cos.negated()),
        }
    }
}

/// The largest base of [`rotary`].
pub const GREATEST_BASE: f64 = 1e12;

/// The bits of cos and sin of `position · base^(-i / half)`, each `[positions, half]` in row-major order. `base` is at
/// least 1 and at most [`GREATEST_BASE`].
pub fn rotary(positions: u64, half: u64, base: f64) -> (Vec<u32>, Vec<u32>) {
    let ratio = Double::inverse_root(base, half);
    let mut frequencies = Vec::new();
    let mut frequency = ONE;
    for _ in 0..half {
        frequencies.push(frequency);
        frequency = frequency.times(ratio);
    }
    let angles = (0..positions)
        .flat_map(|position| frequencies.iter().map(move |frequency| frequency.times(Double::of(position as f64))));
    angles
        .map(|angle| {
            let (cos, sin) = angle.cos_sin();
            (cos.rounded().to_bits(), sin.rounded().to_bits())
        })
        .unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_and_sines_are_correctly_rounded() {
        for k in 0..20_000u64 {
            // Angles of all sizes up to some 2^20.
            let angle = (k as f64 * 0.618_033_988_749_894_9).fract() * 2f64.powi((k % 41) as i32 - 20);
            let (cos, sin) = Double::of(angle).cos_sin();
            assert_eq!(cos.rounded(), core_math::cos(angle) as f32, "cos {angle}");
            assert_eq!(sin.rounded(), core_math::sin(angle) as f32, "sin {angle}");
        }
    }

    #[test]
    fn roots() {
        for (base, n) in [
            (10_000.0, 1),
            (10_000.0, 64),
            (1e6, 4),
            (500_000.0, 32),
            (1.0, 7),
            (1.5, 3),
            (1e12, 3),
            (1e12, 40),
            (1e12, 1 << 31),
        ] {
            let root = Double::inverse_root(base, n);
            let back = root.power(n).times(Double::of(base)).plus(ONE.negated());
            assert!(back.high.abs() < n as f64 * 1e-29, "{base} {n}: {back:?}");
        }
        assert_eq!(Double::inverse_root(16.0, 4).high, 0.5);
    }

    #[test]
    fn rounding_is_once() {
        let midpoint = 1.0 + f64::from(f32::EPSILON) / 2.0;
        assert_eq!(Double { high: midpoint, low: 1e-20 }.rounded(), 1.0f32.next_up());
        assert_eq!(Double { high: midpoint, low: -1e-20 }.rounded(), 1.0);
        assert_eq!(Double { high: -0.25, low: 0.0 }.rounded(), -0.25);
        let odd = 1.0 + 1.5 * f64::from(f32::EPSILON);
        assert_eq!(Double { high: odd, low: -1e-20 }.rounded(), 1.0f32.next_up());
    }

    #[test]
    fn tables_are_pinned() {
        let (cos, sin) = rotary(3, 2, 10_000.0);
        let expected: Vec<(f64, f64)> = [0.0, 0.0, 1.0, 0.01, 2.0, 0.02]
            .iter()
            .map(|&angle: &f64| (core_math::cos(angle), core_math::sin(angle)))
            .collect();
        assert_eq!(cos, expected.iter().map(|&(cos, _)| (cos as f32).to_bits()).collect::<Vec<u32>>());
        assert_eq!(sin, expected.iter().map(|&(_, sin)| (sin as f32).to_bits()).collect::<Vec<u32>>());
    }
}
