//! Integers of up to 64 bits, as bits and as numbers.

use super::float::FloatFormat;

/// The number that the low `count` bits of a word stand for.
pub(super) fn widen(bits: u64, count: u32, signed: bool) -> i128 {
    let unused = 64 - count;
    if signed { ((bits << unused) as i64 >> unused).into() } else { (bits << unused >> unused).into() }
}

/// The bits of the nearest float, ties to even.
pub(super) fn to_format(value: i128, format: FloatFormat) -> u64 {
    // The sign bit stands where the format's negative zero has it.
    let sign = if value < 0 { format.narrow(-0.0) } else { 0 };
    sign | format.rounded(value.unsigned_abs(), 0)
}

/// The nearest float, ties to even.
pub(super) fn to_float(value: i128, format: FloatFormat) -> f64 {
    format.widen(to_format(value, format))
}

/// The integer part; of infinities the ends of the range, of NaN 0.
pub(super) fn truncated(value: f64) -> i128 {
    let magnitude = value.to_bits() & !(1 << 63);
    let exponent = (magnitude >> 52) as i64 - 1075;
    let mantissa = i128::from(magnitude & ((1 << 52) - 1) | 1 << 52);
    let magnitude = match exponent {
        _ if magnitude > 0x7FF0_0000_0000_0000 => return 0,
        74.. => i128::MAX,
        0..=73 => mantissa << exponent,
        -52..=-1 => mantissa >> -exponent,
        _ => 0,
    };
    if value.is_sign_negative() { -magnitude } else { magnitude }
}
