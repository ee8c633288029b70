//! Binary floating-point formats of up to 64 bits, by their numbers of bits.

/// A binary floating-point format: sign, exponent, mantissa, with subnormal numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloatFormat {
    exponent: u32,
    mantissa: u32,
    overflow: Overflow,
    nan: Option<u64>,
}

/// What is too large for a format, infinities included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// Becomes an infinity: the exponent of all ones has infinities and NaNs alone, as in IEEE 754.
    Infinity,
    /// Becomes the greatest finite number: the exponent of all ones is one like the others.
    Saturate,
}

const F64_MANTISSA: u32 = 52;
const F64_BIAS: i64 = 1023;
const F64_NAN: u64 = 0x7FF8_0000_0000_0000;

impl FloatFormat {
    /// IEEE 754 binary64.
    pub const F64: FloatFormat = FloatFormat::ieee(11, 52, F64_NAN);
    /// IEEE 754 binary32.
    pub const F32: FloatFormat = FloatFormat::ieee(8, 23, 0x7FC0_0000);
    /// IEEE 754 binary16.
    pub const F16: FloatFormat = FloatFormat::ieee(5, 10, 0x7E00);
    /// The upper half of a binary32.
    pub const BF16: FloatFormat = FloatFormat::ieee(8, 7, 0x7FC0);
    /// OCP 8-bit Floating Point Specification 1.0, E4M3: all ones is NaN, there are no infinities.
    pub const F8_E4M3: FloatFormat =
        FloatFormat { exponent: 4, mantissa: 3, overflow: Overflow::Saturate, nan: Some(0x7F) };
    /// OCP Microscaling Formats 1.0, E2M1: neither infinities nor NaN.
    pub const F4_E2M1: FloatFormat = FloatFormat { exponent: 2, mantissa: 1, overflow: Overflow::Saturate, nan: None };

    const fn ieee(exponent: u32, mantissa: u32, nan: u64) -> FloatFormat {
        FloatFormat { exponent, mantissa, overflow: Overflow::Infinity, nan: Some(nan) }
    }

    /// Bits of mantissa, without the one that is implied.
    pub const fn mantissa_bits(self) -> u32 {
        self.mantissa
    }

    /// What becomes of too large numbers.
    pub const fn overflow(self) -> Overflow {
        self.overflow
    }

    /// Whether it has a NaN.
    pub const fn has_nan(self) -> bool {
        self.nan.is_some()
    }

    /// The least number that is not subnormal, where `f32` has it.
    pub fn least_normal(self) -> f32 {
        self.widen(1 << self.mantissa) as f32
    }

    const fn bits(self) -> u32 {
        1 + self.exponent + self.mantissa
    }

    const fn bias(self) -> i64 {
        (1 << (self.exponent - 1)) - 1
    }

    /// Exponent and mantissa of the greatest finite number.
    const fn greatest_bits(self) -> u64 {
        let all = (1u64 << (self.exponent + self.mantissa)) - 1;
        match (self.overflow, self.nan) {
            (Overflow::Infinity, _) => all - (1 << self.mantissa),
            (Overflow::Saturate, Some(_)) => all - 1,
            (Overflow::Saturate, None) => all,
        }
    }

    /// The greatest finite number.
    pub fn greatest(self) -> f64 {
        self.widen(self.greatest_bits())
    }

    /// The number that the low bits of a word stand for, exactly.
    pub fn widen(self, bits: u64) -> f64 {
        let magnitude = bits & ((1 << (self.exponent + self.mantissa)) - 1);
        let sign = (bits >> (self.bits() - 1) & 1) << 63;
        let (exponent, mantissa) = (magnitude >> self.mantissa, magnitude & ((1 << self.mantissa) - 1));
        let special = exponent == (1 << self.exponent) - 1 && self.overflow == Overflow::Infinity;
        if special && mantissa == 0 {
            return f64::from_bits(sign | 0x7FF0_0000_0000_0000);
        }
        if special || (self.overflow == Overflow::Saturate && magnitude > self.greatest_bits()) {
            return f64::from_bits(F64_NAN);
        }
        // A subnormal number of this format is a normal one of binary64, unless it is binary64 itself.
        if self.exponent == 11 {
            return f64::from_bits(bits);
        }
        if exponent == 0 {
            if mantissa == 0 {
                return f64::from_bits(sign);
            }
            let top = 63 - i64::from(mantissa.leading_zeros());
            let exponent = 1 - self.bias() - i64::from(self.mantissa) + top + F64_BIAS;
            let mantissa = (mantissa << (i64::from(F64_MANTISSA) - top)) & ((1 << F64_MANTISSA) - 1);
            return f64::from_bits(sign | (exponent as u64) << F64_MANTISSA | mantissa);
        }
        let exponent = exponent as i64 - self.bias() + F64_BIAS;
        f64::from_bits(sign | (exponent as u64) << F64_MANTISSA | mantissa << (F64_MANTISSA - self.mantissa))
    }

    /// The nearest number of the format, ties to the even one.
    pub fn narrow(self, value: f64) -> u64 {
        let bits = value.to_bits();
        let sign = (bits >> 63) << (self.bits() - 1);
        let magnitude = bits & !(1 << 63);
        if magnitude > 0x7FF0_0000_0000_0000 {
            // Where there is no NaN, it is +0.
            return self.nan.unwrap_or(0);
        }
        if magnitude == 0x7FF0_0000_0000_0000 {
            return sign | self.too_large();
        }
        let exponent = (magnitude >> F64_MANTISSA) as i64;
        // value = mantissa · 2^scale, exactly.
        let (mantissa, scale) = match exponent {
            0 => (magnitude, 1 - F64_BIAS - i64::from(F64_MANTISSA)),
            _ => (
                magnitude & ((1 << F64_MANTISSA) - 1) | 1 << F64_MANTISSA,
                exponent - F64_BIAS - i64::from(F64_MANTISSA),
            ),
        };
        sign | self.rounded(mantissa.into(), scale)
    }

    /// The bits, without a sign, of the number nearest to `mantissa` · 2^`scale`.
    pub(super) fn rounded(self, mantissa: u128, scale: i64) -> u64 {
        if mantissa == 0 {
            return 0;
        }
        let top = 127 - i64::from(mantissa.leading_zeros()) + scale;
        // The last place of the result: that of its binade, but never below that of subnormal numbers.
        let least = 1 - self.bias() - i64::from(self.mantissa);
        let place = (top - i64::from(self.mantissa)).max(least);
        let shift = place - scale;
        let steps = match shift {
            ..=0 => mantissa << (-shift).min(127),
            1..=127 => {
                let (kept, rest) = (mantissa >> shift, mantissa & ((1 << shift) - 1));
                let half = 1u128 << (shift - 1);
                kept + u128::from(rest > half || (rest == half && kept & 1 == 1))
            }
            _ => 0,
        };
        // In steps of the last place, numbers of all binades follow one another as their bits do.
        let binade = (place - least) as u128;
        let bits = steps + (binade << self.mantissa);
        if bits > self.greatest_bits().into() { self.too_large() } else { bits as u64 }
    }

    const fn too_large(self) -> u64 {
        match self.overflow {
            Overflow::Infinity => self.greatest_bits() + 1,
            Overflow::Saturate => self.greatest_bits(),
        }
    }
}
