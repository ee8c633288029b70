//! Numbers of few bits with a scale (LN1, "Storage").
//!
//! A group of numbers x is stored as codes q of a format, with one scale s, an f32, and for integers maybe one zero point
//! z: `x ≈ f32(q - z) · s`. That product is the one rounding of dequantising, the same everywhere. Scales and codes are
//! made once, in binary64 arithmetic rounded to nearest, so they are the same on every machine too.

use serde::{Deserialize, Serialize};

use super::formats::{Number, Storage};

/// The end of the name of a tensor of scales.
pub const SCALE: &str = ".scale";

/// The end of the name of a program's tensor of the sums of codes that share a scale: no file has one.
pub const SUM: &str = ".sum";

/// A format of codes that are contracted as they are: symmetric, signed, of at most 8 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodeFormat {
    /// 8 bits.
    I8,
    /// 4 bits.
    I4,
}

impl CodeFormat {
    /// Every format.
    pub const ALL: [CodeFormat; 2] = [CodeFormat::I8, CodeFormat::I4];

    /// The format as one of storage.
    pub const fn storage(self) -> Storage {
        match self {
            CodeFormat::I8 => Storage::I8,
            CodeFormat::I4 => Storage::I4,
        }
    }

    /// The greatest code, the least being as far from 0.
    pub const fn greatest(self) -> i8 {
        match self {
            CodeFormat::I8 => 127,
            CodeFormat::I4 => 7,
        }
    }

    /// The name in graph text.
    pub const fn name(self) -> &'static str {
        match self {
            CodeFormat::I8 => "i8",
            CodeFormat::I4 => "i4",
        }
    }

    /// What a buffer of it is called in printed programs.
    pub(crate) const fn buffer_name(self) -> &'static str {
        match self {
            CodeFormat::I8 => "i8 weight",
            CodeFormat::I4 => "i4 weight",
        }
    }

    /// The format with this [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<CodeFormat> {
        CodeFormat::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// What the codes q of 8 bits that a layer's input or result becomes stand for: `f32(q - z) · s`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coding {
    /// s: more than 0 and finite.
    pub scale: f32,
    /// z, a code; without it 0 stands for itself, and the least code isn't used.
    pub zero_point: Option<i8>,
}

impl Coding {
    /// The least and the greatest q - z.
    pub fn steps(self) -> (i16, i16) {
        match self.zero_point {
            Some(zero) => (i16::from(i8::MIN) - i16::from(zero), i16::from(i8::MAX) - i16::from(zero)),
            None => (-i16::from(i8::MAX), i16::from(i8::MAX)),
        }
    }
}

/// Whether zero is the middle of the codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// No zero point: the greatest magnitude of the group becomes the greatest code.
    Symmetric,
    /// Integers: least and greatest, zero among them, become the least and the greatest code.
    Affine,
}

/// The scale of a group, and its zero point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameters {
    /// More than 0 and finite.
    pub scale: f32,
    /// The code of zero; 0 where codes are symmetric.
    pub zero_point: i128,
}

/// The values of a group that decide on its scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    least: f32,
    greatest: f32,
}

impl Range {
    /// Of no values, and zero, which every group can hold.
    pub const ZERO: Range = Range { least: 0.0, greatest: 0.0 };

    /// With one value more; `None` if it isn't finite.
    #[must_use]
    pub fn with(self, value: f32) -> Option<Range> {
        let least = if value < self.least { value } else { self.least };
        let greatest = if value > self.greatest { value } else { self.greatest };
        value.is_finite().then_some(Range { least, greatest })
    }
}

/// The codes of a format that a scheme uses: from the least to the greatest.
fn codes(storage: Storage, scheme: Scheme) -> (i128, i128) {
    let (least, greatest) = storage.integer_range().unwrap_or_default();
    match scheme {
        // The one code more below zero is left out.
        Scheme::Symmetric if storage.is_signed() => (-greatest, greatest),
        _ => (least, greatest),
    }
}

/// A quotient as a scale: 1 of an empty range, and otherwise rounded once, but not to 0.
fn scale(range: f64, codes: f64) -> f32 {
    if range == 0.0 { 1.0 } else { ((range / codes) as f32).max(f32::from_bits(1)) }
}

impl Parameters {
    /// The parameters of a group. Unsigned formats without a zero point hold no negative number.
    ///
    /// Symmetric: `s = f32(max|x| / greatest code)`. Affine: `s = f32((max - min) / (greatest code - least code))`,
    /// `z = least code - min / s`, rounded to nearest, ties to even. Where all is 0, s is 1; where s would be 0 it's 2^-149.
    pub fn of(storage: Storage, scheme: Scheme, range: Range) -> Parameters {
        let (least, greatest) = (f64::from(range.least), f64::from(range.greatest));
        let magnitude = greatest.max(-least);
        if storage.float().is_some() {
            return Parameters { scale: scale(magnitude, storage.greatest()), zero_point: 0 };
        }
        let (first, last) = codes(storage, scheme);
        match scheme {
            Scheme::Symmetric => Parameters { scale: scale(magnitude, last as f64), zero_point: 0 },
            Scheme::Affine => {
                let scale = scale(greatest - least, (last - first) as f64);
                let below = rounded(-least / f64::from(scale));
                Parameters { scale, zero_point: first.saturating_add(below).clamp(first, last) }
            }
        }
    }

    /// The bits of the code for a number: `x / s` in binary64, to the nearest code, ties to the even one; what is beyond the
    /// codes becomes the last one.
    pub fn quantise(self, storage: Storage, scheme: Scheme, value: f32) -> u64 {
        let quotient = f64::from(value) / f64::from(self.scale);
        if storage.float().is_some() {
            return storage.narrow(Number::Float(quotient));
        }
        let (first, last) = codes(storage, scheme);
        let code = rounded(quotient).saturating_add(self.zero_point).clamp(first, last);
        storage.narrow(Number::Integer(code))
    }

    /// The code of a number in a symmetric format of few bits: what [`Parameters::quantise`] gives, as an integer.
    pub fn code(self, format: CodeFormat, value: f32) -> i32 {
        let greatest = f64::from(format.greatest());
        (f64::from(value) / f64::from(self.scale)).round_ties_even().clamp(-greatest, greatest) as i32
    }

    /// The number that a code stands for: `f32(q - z) · s`. (Infinite where x was within a step of the greatest `f32`.)
    pub fn dequantise(self, storage: Storage, bits: u64) -> f32 {
        let difference = match storage.widen(bits) {
            Number::Integer(code) => Number::Integer(code - self.zero_point),
            float => float,
        };
        f32::from_bits(Storage::F32.narrow(difference) as u32) * self.scale
    }
}

/// The nearest integer, ties to even; 0 for NaN.
fn rounded(value: f64) -> i128 {
    // A conversion of Rust's saturates, and is exact for a whole number within range.
    value.round_ties_even() as i128
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_few_bits_are_those_of_their_storage() {
        let scales = [1.0, 0.007_874_016, f32::from_bits(1), f32::MAX, 3e-5];
        let values = (0..4000u32).map(|step| f32::from_bits(step.wrapping_mul(0x9e37_79b9)));
        let near = (0..4000u32).map(|step| (step as f32 - 2000.0) * 0.125);
        let values: Vec<f32> = values.chain(near).filter(|value| value.is_finite()).collect();
        for format in CodeFormat::ALL {
            for scale in scales {
                let parameters = Parameters { scale, zero_point: 0 };
                for &value in values.iter().chain(&[0.0, -0.0, 0.5 * scale, 1.5 * scale, -2.5 * scale]) {
                    let bits = parameters.quantise(format.storage(), Scheme::Symmetric, value);
                    let expected = format.storage().widen(bits);
                    assert_eq!(Number::Integer(parameters.code(format, value).into()), expected, "{value} / {scale}");
                }
            }
        }
    }

    const STORAGES: [Storage; 11] = [
        Storage::F8,
        Storage::F4,
        Storage::I64,
        Storage::I32,
        Storage::I16,
        Storage::I8,
        Storage::I4,
        Storage::U64,
        Storage::U32,
        Storage::U16,
        Storage::U8,
    ];

    fn range(values: &[f32]) -> Range {
        values.iter().fold(Range::ZERO, |range, &value| range.with(value).unwrap())
    }

    #[test]
    fn by_hand() {
        let values = [0.5, -1.27, 0.0, 1.0];
        let symmetric = Parameters::of(Storage::I8, Scheme::Symmetric, range(&values));
        assert_eq!(symmetric, Parameters { scale: (1.27f32 as f64 / 127.0) as f32, zero_point: 0 });
        let codes: Vec<u64> = values.iter().map(|&x| symmetric.quantise(Storage::I8, Scheme::Symmetric, x)).collect();
        assert_eq!(codes, [50, (-127i8) as u8 as u64, 0, 100]);
        let affine = Parameters::of(Storage::U8, Scheme::Affine, range(&[-1.0, 0.0, 4.1]));
        assert_eq!((affine.scale, affine.zero_point), ((5.1f32 as f64 / 255.0) as f32, 50));
        assert_eq!(affine.quantise(Storage::U8, Scheme::Affine, -3.0), 0);
        assert_eq!(affine.quantise(Storage::U8, Scheme::Affine, 9.0), 255);
        assert_eq!(affine.dequantise(Storage::U8, 50), 0.0);
        // Ties go to the even code.
        let one = Parameters { scale: 1.0, zero_point: 0 };
        let tied = [0.5, 1.5, 2.5, -0.5, -1.5, 7.5].map(|x| one.quantise(Storage::I4, Scheme::Symmetric, x) as i64);
        assert_eq!(tied, [0, 2, 2, 0, 14, 7]);
        let four = Parameters::of(Storage::F4, Scheme::Symmetric, range(&[12.0, -3.0]));
        assert_eq!(four.scale, 2.0);
        assert_eq!(four.dequantise(Storage::F4, four.quantise(Storage::F4, Scheme::Symmetric, -3.1)), -3.0);
    }

    /// What docs/numerics.md says of an `output_scale`: a code times its scale, divided by it and rounded, is that code
    /// unless the product overflows. Subnormal products are multiples of the least number, and so exact.
    #[test]
    fn products_with_a_scale_have_their_codes_back() {
        for exponent in 0..255u32 {
            for mantissa in (0..64u32).map(|part| (part * 0x0002_0821) & 0x007f_ffff).chain([1, 2, 3, 0x007f_ffff]) {
                let scale = f32::from_bits(exponent << 23 | mantissa);
                for code in (1..=127).map(|code| code as f32).filter(|code| scale > 0.0 && (code * scale).is_finite()) {
                    assert_eq!((code * scale / scale).round_ties_even(), code, "{scale:e}");
                }
            }
        }
        assert!((127.0 * f32::MAX / f32::MAX).is_infinite());
    }

    #[test]
    fn extremes_stay_finite() {
        for storage in STORAGES {
            for scheme in [Scheme::Symmetric, Scheme::Affine] {
                for values in [
                    [0.0, 0.0],
                    [f32::from_bits(1), 0.0],
                    [1e38, -1e38],
                    [1e38, 0.0],
                    [-f32::MIN_POSITIVE, f32::from_bits(1)],
                    [1.0, 2.0],
                ] {
                    let parameters = Parameters::of(storage, scheme, range(&values));
                    assert!(parameters.scale > 0.0 && parameters.scale.is_finite(), "{storage} {scheme:?} {values:?}");
                    let unsigned = !storage.is_signed() && scheme == Scheme::Symmetric;
                    for value in values.into_iter().filter(|&value| !unsigned || value >= 0.0) {
                        let back = parameters.dequantise(storage, parameters.quantise(storage, scheme, value));
                        // Half a step of an integer; of a float half the distance of its largest numbers; and the rounding
                        // of the scale and of the product.
                        let steps = if storage == Storage::F4 {
                            1.0
                        } else if storage == Storage::F8 {
                            16.0
                        } else {
                            1.01
                        };
                        let slack = f64::from(value.abs()) * 1e-6 + 1e-45;
                        let error = (f64::from(back) - f64::from(value)).abs();
                        assert!(
                            error <= steps * f64::from(parameters.scale) + slack,
                            "{storage} {scheme:?} {value:e} {back:e}"
                        );
                    }
                }
            }
        }
        assert_eq!(Range::ZERO.with(f32::NAN), None);
        assert_eq!(Range::ZERO.with(f32::INFINITY), None);
    }

    #[test]
    fn zero_is_exact() {
        for storage in STORAGES {
            for scheme in [Scheme::Symmetric, Scheme::Affine] {
                for values in [[0.3, 7.0], [-5.5, 0.1], [-1.0, 1.0]] {
                    let parameters = Parameters::of(storage, scheme, range(&values));
                    let code = parameters.quantise(storage, scheme, 0.0);
                    assert_eq!(parameters.dequantise(storage, code), 0.0, "{storage} {scheme:?}");
                }
            }
        }
    }
}
