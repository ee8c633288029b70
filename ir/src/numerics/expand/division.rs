//! Correctly rounded division.

use crate::kernel::scalar::{BinaryOp, CompareOp, ScalarFn, ScalarFnBuilder, Value};
use crate::numerics::emit::{INFINITY, MAGIC, SIGN, and, bits, float, or, scale, shl, shr, test};
use crate::types::DType;

/// A finite float other than zero as `mantissa * 2^(exponent - 150)`, the mantissa in [2^23, 2^24).
pub(super) struct Parts {
    pub mantissa: Value,
    pub exponent: Value,
}

/// Takes a float without sign apart; subnormals are scaled first. Zero, infinity and NaN give anything.
pub(super) fn parts(b: &mut ScalarFnBuilder, magnitude: Value) -> Parts {
    let subnormal = test(b, CompareOp::Lt, magnitude, f32::MIN_POSITIVE);
    let enlarged = scale(b, magnitude, 16_777_216.0);
    let normal = b.select(subnormal, enlarged, magnitude);
    let raw = bits(b, normal);
    let fraction = and(b, raw, 0x007f_ffff);
    let mantissa = or(b, fraction, 0x0080_0000);
    let exponent = shr(b, raw, 23);
    let exponent = b.bitcast(DType::I32, exponent);
    let lift = b.i32(24);
    let none = b.i32(0);
    let lift = b.select(subnormal, lift, none);
    let exponent = b.binary(BinaryOp::Sub, exponent, lift);
    Parts { mantissa, exponent }
}

/// The integer quotient to 25 bits comes from an approximation that is at most some units off and is put right by the
/// exact remainder, in wrapping 32-bit arithmetic. Quotient and a sticky bit of the remainder are then rounded once, at
/// the place that the result's exponent asks for.
pub(super) fn div() -> ScalarFn {
    let mut b = ScalarFnBuilder::new();
    let numerator = b.param(DType::F32);
    let denominator = b.param(DType::F32);
    let b = &mut b;
    let n_bits = bits(b, numerator);
    let d_bits = bits(b, denominator);
    let sign = b.binary(BinaryOp::Xor, n_bits, d_bits);
    let sign = and(b, sign, SIGN);
    let n_bits = and(b, n_bits, !SIGN);
    let d_bits = and(b, d_bits, !SIGN);
    let n_size = float(b, n_bits);
    let d_size = float(b, d_bits);
    let n = parts(b, n_size);
    let d = parts(b, d_size);

    // The quotient of the mantissas is brought into [1, 2).
    let below = b.compare(CompareOp::Lt, n.mantissa, d.mantissa);
    let doubled = shl(b, n.mantissa, 1);
    let mantissa = b.select(below, doubled, n.mantissa);
    let exponent = b.binary(BinaryOp::Sub, n.exponent, d.exponent);
    let minus_one = b.i32(-1);
    let zero = b.i32(0);
    let step = b.select(below, minus_one, zero);
    let exponent = b.binary(BinaryOp::Add, exponent, step);

    // y = 2^24/d to 2^-18; the seed and the first step are those of the library's quotient, before its truncation.
    let d_signed = b.bitcast(DType::I32, d.mantissa);
    let d_float = b.convert(DType::F32, d_signed);
    let d_unit = scale(b, d_float, 1.0 / 8_388_608.0);
    let seed = b.u32(0x7ef3_57d7);
    let raw = bits(b, d_unit);
    let y = b.binary(BinaryOp::Sub, seed, raw);
    let mut y = float(b, y);
    for constant in [2.001_498_7, 2.0] {
        let product = b.mul(d_unit, y);
        let constant = b.f32(constant);
        let factor = b.sub(constant, product);
        y = b.mul(y, factor);
    }

    let m_signed = b.bitcast(DType::I32, mantissa);
    let m_float = b.convert(DType::F32, m_signed);
    // m/2^23 * (1/d_unit) * 2^24: about 2^24 m/d, as an integer.
    let guess = b.mul(m_float, y);
    let guess = scale(b, guess, 2.0);
    let guess = b.convert(DType::I32, guess);
    let guess = b.bitcast(DType::U32, guess);

    // remainder = 2^24 m - guess d, which is some 2^7 d at most.
    let target = shl(b, mantissa, 24);
    let product = b.mul(guess, d.mantissa);
    let remainder = b.binary(BinaryOp::Sub, target, product);
    let remainder = b.bitcast(DType::I32, remainder);
    let size = b.convert(DType::F32, remainder);
    let units = b.mul(size, y);
    let units = scale(b, units, 1.0 / 8_388_608.0);
    let magic = b.f32(MAGIC);
    let units = b.add(units, magic);
    let units = bits(b, units);
    let magic = b.u32(MAGIC.to_bits());
    let units = b.binary(BinaryOp::Sub, units, magic);
    let quotient = b.binary(BinaryOp::Add, guess, units);
    let product = b.mul(units, d.mantissa);
    let remainder = b.bitcast(DType::U32, remainder);
    let remainder = b.binary(BinaryOp::Sub, remainder, product);
    // Now within (-d, d): one more unit down if it's negative.
    let high = b.u32(SIGN);
    let negative = b.compare(CompareOp::Ge, remainder, high);
    let one = b.u32(1);
    let lower = b.binary(BinaryOp::Sub, quotient, one);
    let quotient = b.select(negative, lower, quotient);
    let raised = b.binary(BinaryOp::Add, remainder, d.mantissa);
    let remainder = b.select(negative, raised, remainder);

    // 26 bits: the quotient and whether anything is left.
    let none = b.u32(0);
    let sticky = b.compare(CompareOp::Ne, remainder, none);
    let sticky = b.select(sticky, one, none);
    let extended = shl(b, quotient, 1);
    let extended = b.binary(BinaryOp::Or, extended, sticky);

    let result = round_and_pack(b, extended, exponent);

    // Zeros and infinities; both at once make NaN, as does a NaN.
    let infinity = b.u32(INFINITY);
    let n_zero = b.compare(CompareOp::Eq, n_bits, none);
    let d_infinite = b.compare(CompareOp::Eq, d_bits, infinity);
    let zero = b.binary(BinaryOp::Or, n_zero, d_infinite);
    let d_zero = b.compare(CompareOp::Eq, d_bits, none);
    let n_infinite = b.compare(CompareOp::Eq, n_bits, infinity);
    let infinite = b.binary(BinaryOp::Or, d_zero, n_infinite);
    let result = b.select(zero, none, result);
    let result = b.select(infinite, infinity, result);
    let result = b.binary(BinaryOp::Or, result, sign);
    let both = b.binary(BinaryOp::And, zero, infinite);
    let n_nan = b.compare(CompareOp::Gt, n_bits, infinity);
    let d_nan = b.compare(CompareOp::Gt, d_bits, infinity);
    let nan = b.binary(BinaryOp::Or, n_nan, d_nan);
    let nan = b.binary(BinaryOp::Or, nan, both);
    let nan_bits = b.u32(f32::NAN.to_bits());
    let result = b.select(nan, nan_bits, result);
    let result = float(b, result);
    std::mem::take(b).finish(result)
}

/// The bits of `extended * 2^(exponent - 25)`, rounded to nearest even, where `extended` is in [2^25, 2^26).
fn round_and_pack(b: &mut ScalarFnBuilder, extended: Value, exponent: Value) -> Value {
    // Two bits go in a normal result. The exponent field of one is `exponent + 127`; below 1, further bits go.
    let bias = b.i32(127);
    let field = b.binary(BinaryOp::Add, exponent, bias);
    let one = b.i32(1);
    let zero = b.i32(0);
    let missing = b.binary(BinaryOp::Sub, one, field);
    let is_subnormal = b.compare(CompareOp::Gt, missing, zero);
    let missing = b.select(is_subnormal, missing, zero);
    let most = b.i32(26);
    let too_many = b.compare(CompareOp::Gt, missing, most);
    let missing = b.select(too_many, most, missing);
    let missing = b.bitcast(DType::U32, missing);
    let two = b.u32(2);
    let count = b.binary(BinaryOp::Add, missing, two);

    // Adding half a unit less one, and the last bit kept, makes ties go to even.
    let unit = b.u32(1);
    let before = b.binary(BinaryOp::Sub, count, unit);
    let half = b.binary(BinaryOp::Shl, unit, before);
    let half = b.binary(BinaryOp::Sub, half, unit);
    let last = b.binary(BinaryOp::Shr, extended, count);
    let last = b.binary(BinaryOp::And, last, unit);
    let sum = b.binary(BinaryOp::Add, extended, half);
    let sum = b.binary(BinaryOp::Add, sum, last);
    let kept = b.binary(BinaryOp::Shr, sum, count);

    // A normal mantissa has its leading bit at 2^23, which adds one to the field; a subnormal has none.
    let base = b.binary(BinaryOp::Sub, field, one);
    let base = b.select(is_subnormal, zero, base);
    let base = b.bitcast(DType::U32, base);
    let base = shl(b, base, 23);
    let packed = b.binary(BinaryOp::Add, base, kept);
    let largest = b.i32(254);
    let over = b.compare(CompareOp::Gt, field, largest);
    let infinity = b.u32(INFINITY);
    b.select(over, infinity, packed)
}
