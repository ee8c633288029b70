//! exp, expm1, tanh and sigmoid: one reduction, one polynomial; and exp2, whose reduction is exact.
//!
//! The first four write `x = n ln 2 + r` with `|r| <= ln 2 / 2` and `e^x = 2^n (1 + r + w)`, where `w = r^2 q(r)`. The
//! integer `n` comes out of the low bits of `x/ln 2 + MAGIC + bias`: the bias is the exponent offset of the power of
//! two that the caller needs, so that a shift by 23 makes that power without an addition.

use super::quotient::{Split, quotient};
use crate::kernel::scalar::{BinaryOp, CompareOp, ScalarFn, ScalarFnBuilder, Value};
use crate::numerics::emit::{
    HEAD, MAGIC, abs, add_exactly, add_three, at_least, at_most, bits, float, horner, masked, scale, shl, shr, test,
    unary_program, with_sign_of,
};
use crate::types::DType;

/// 1/ln 2.
pub(super) const LOG2_E: f32 = f32::from_bits(0x3fb8_aa3b);

/// The first 15 bits of ln 2: its product with an integer below 2^9 is exact.
pub(super) const LN2_HEAD: f32 = f32::from_bits(0x3f31_7200);

/// ln 2 - [`LN2_HEAD`].
pub(super) const LN2_TAIL: f32 = f32::from_bits(0x35bf_be8e);

/// q with `e^r = 1 + r + r^2 q(r)` on `|r| <= 1.0001 ln 2 / 2`: Remez with weight `r^2 / e^r`, then each coefficient
/// rounded to `f32` and the rest fitted again. Relative error of `e^r`: 2^-28.2.
const Q: [f32; 5] = [
    f32::from_bits(0x3eff_fffe),
    f32::from_bits(0x3e2a_aa46),
    f32::from_bits(0x3d2a_ac2c),
    f32::from_bits(0x3c09_1eef),
    f32::from_bits(0x3ab5_6390),
];

/// C with `e^r = 1 + r + r^2/2 + r^3 C(r)`, for pow and for expm1, which near x = 0.35 is small beside the `e^r` that
/// it comes from, and may have as small an error. Made like [`Q`], but by linear programming. Relative error of `e^r`:
/// 2^-33.2.
const CUBIC: [f32; 5] = [
    f32::from_bits(0x3e2a_aaaa),
    f32::from_bits(0x3d2a_aa74),
    f32::from_bits(0x3c08_8987),
    f32::from_bits(0x3ab6_a65e),
    f32::from_bits(0x394e_fdd0),
];

/// ln 2 to 12 bits: its product with another 12-bit number is exact.
const LN2_TWELVE: f32 = f32::from_bits(0x3f31_7000);

/// ln 2 - [`LN2_TWELVE`].
const LN2_REST: f32 = f32::from_bits(0x3805_fdf4);

/// q with `2^r = 1 + r ln 2 + r^2 q(r)` on `|r| <= 0.5001`: Remez with weight `r^2 / 2^r`, then each coefficient
/// rounded to `f32` and the rest fitted again. Relative error of `2^r`: 2^-27.8.
const Q2: [f32; 5] = [
    f32::from_bits(0x3e75_fdee),
    f32::from_bits(0x3d63_57c6),
    f32::from_bits(0x3c1d_96e5),
    f32::from_bits(0x3aaf_8247),
    f32::from_bits(0x3920_dd65),
];

/// `e^x = 2^n (1 + r + w)`.
struct Reduced {
    /// Integer whose low 9 bits are those of `n + bias`; garbage for a NaN.
    exponent: Value,
    r: Value,
    /// What `r` lacks of the exact remainder, where that is above 2^-10.
    r_rest: Value,
    w: Value,
}

impl Reduced {
    /// `2^(n + bias - 127)`, which must be a normal number.
    fn power(&self, b: &mut ScalarFnBuilder) -> Value {
        let power = shl(b, self.exponent, 23);
        float(b, power)
    }
}

/// Reduces `x`, which is at most some hundreds in size; the series gives w. A NaN gives NaN for `r` and `w`.
fn reduce(b: &mut ScalarFnBuilder, x: Value, bias: u32, series: fn(&mut ScalarFnBuilder, Value) -> Value) -> Reduced {
    let magic = b.f32(MAGIC + bias as f32);
    let scaled = scale(b, x, LOG2_E);
    let shifted = b.add(scaled, magic);
    let n = b.sub(shifted, magic);
    let head = scale(b, n, LN2_HEAD);
    let tail = scale(b, n, LN2_TAIL);
    let coarse = b.sub(x, head);
    let r = b.sub(coarse, tail);
    let back = b.sub(coarse, r);
    let r_rest = b.sub(back, tail);
    let w = series(b, r);
    Reduced { exponent: bits(b, shifted), r, r_rest, w }
}

/// `r^2 q(r)`, with [`Q`].
fn short_series(b: &mut ScalarFnBuilder, r: Value) -> Value {
    let q = horner(b, r, &Q);
    let square = b.mul(r, r);
    b.mul(square, q)
}

/// `r^2/2 + r^3 C(r)`, with [`CUBIC`]: more terms, and only the square and the sum round noticeably.
pub(super) fn long_series(b: &mut ScalarFnBuilder, r: Value) -> Value {
    let cubic = horner(b, r, &CUBIC);
    let square = b.mul(r, r);
    let half = scale(b, square, 0.5);
    let cube = b.mul(r, square);
    let rest = b.mul(cube, cubic);
    b.add(half, rest)
}

/// e^x.
///
/// `2^n` is applied as two factors, each a normal number: the last product rounds once, also to a subnormal result.
pub(super) fn exp() -> ScalarFn {
    unary_program(DType::F32, |b, x| {
        // e^-104 < 2^-150 rounds to zero, e^89 is beyond the largest number.
        let x = at_least(b, x, -104.0);
        let x = at_most(b, x, 89.0);
        // The bias 254 is shared by two exponents.
        let reduced = reduce(b, x, 254, short_series);
        let rest = b.add(reduced.r, reduced.w);
        let one = b.f32(1.0);
        let mantissa = b.add(one, rest);
        scale_twice(b, mantissa, reduced.exponent)
    })
}

/// `mantissa * 2^n` for an integer `exponent` whose low 9 bits are those of `n + 254`: two factors, each a normal
/// number.
pub(super) fn scale_twice(b: &mut ScalarFnBuilder, mantissa: Value, exponent: Value) -> Value {
    let half = shr(b, exponent, 1);
    let other = b.binary(BinaryOp::Sub, exponent, half);
    let half = shl(b, half, 23);
    let half = float(b, half);
    let other = shl(b, other, 23);
    let other = float(b, other);
    let scaled = b.mul(mantissa, half);
    b.mul(scaled, other)
}

/// 2^x.
///
/// `x = n + r` is exact, and so is the product of the heads of `r` and ln 2: only the last sum rounds noticeably.
pub(super) fn exp2() -> ScalarFn {
    unary_program(DType::F32, |b, x| {
        // Beyond these, results are zero and infinity.
        let x = at_least(b, x, -151.0);
        let x = at_most(b, x, 129.0);
        let magic = b.f32(MAGIC + 254.0);
        let shifted = b.add(x, magic);
        let n = b.sub(shifted, magic);
        let r = b.sub(x, n);
        let r_head = masked(b, r, HEAD);
        let r_tail = b.sub(r, r_head);
        let head = scale(b, r_head, LN2_TWELVE);
        let tail = scale(b, r_tail, LN2_TWELVE);
        let rest = scale(b, r, LN2_REST);
        let tail = b.add(tail, rest);
        let q = horner(b, r, &Q2);
        let square = b.mul(r, r);
        let w = b.mul(square, q);
        let tail = b.add(tail, w);
        let one = b.f32(1.0);
        let mantissa = add_three(b, one, head, tail);
        let exponent = bits(b, shifted);
        scale_twice(b, mantissa, exponent)
    })
}

/// e^x - 1 as `2^n r + (2^n - 1)`, its rounding error, and `2^n w`.
///
/// Computed at half its size: `2^(n-1)` is a number for every `n` up to 128.
pub(super) fn expm1() -> ScalarFn {
    unary_program(DType::F32, |b, x| {
        let clamped = at_least(b, x, -18.0);
        let clamped = at_most(b, clamped, 89.0);
        let reduced = reduce(b, clamped, 126, long_series);
        let power = reduced.power(b);
        let half = b.f32(0.5);
        let whole = b.sub(power, half);
        let linear = b.mul(power, reduced.r);
        // |whole| >= |linear|, or whole = 0.
        let (head, error) = add_exactly(b, whole, linear);
        // What is left of the 1 where the power is beyond 2^24.
        let back = b.sub(power, whole);
        let missing = b.sub(half, back);
        let error = b.sub(error, missing);
        let linear_rest = b.mul(power, reduced.r_rest);
        let error = b.add(error, linear_rest);
        let rest = b.mul(power, reduced.w);
        let tail = b.add(error, rest);
        let sum = b.add(head, tail);
        let result = scale(b, sum, 2.0);
        // Halving would lose bits of a subnormal x, and the sign of zero.
        let size = abs(b, x);
        let tiny = test(b, CompareOp::Lt, size, f32::from_bits(0x3300_0000));
        b.select(tiny, x, result)
    })
}

/// `1/(1 + E)` for x >= 0 and `E/(1 + E)` for x < 0, with `E = e^-|x|`: nothing overflows or cancels, and the power of
/// two of a small E is applied last.
pub(super) fn sigmoid() -> ScalarFn {
    unary_program(DType::F32, |b, x| {
        let size = abs(b, x);
        let size = at_most(b, size, 104.0);
        let exponent = b.unary(crate::kernel::scalar::UnaryOp::Neg, size);
        // 2^n = 2^(n + 24) 2^-24: both are normal for n >= -150.
        let reduced = reduce(b, exponent, 127 + 24, short_series);
        let power = reduced.power(b);
        let one = b.f32(1.0);
        let rest = b.add(reduced.r, reduced.w);
        let mantissa = b.add(one, rest);
        let m_head = masked(b, mantissa, HEAD);
        let m_tail = b.sub(one, m_head);
        let m_tail = b.add(m_tail, reduced.r);
        let m_tail = b.add(m_tail, reduced.w);
        let small = b.f32(f32::from_bits(0x3380_0000));
        let e = b.mul(mantissa, power);
        let e = b.mul(e, small);
        let denominator = b.add(one, e);
        let d_head = masked(b, denominator, HEAD);
        let d_tail = b.sub(one, d_head);
        let d_tail = b.add(d_tail, e);

        let negative = test(b, CompareOp::Lt, x, 0.0);
        let zero = b.f32(0.0);
        let n_head = b.select(negative, m_head, one);
        let n_tail = b.select(negative, m_tail, zero);
        let q = quotient(b, &Split { head: n_head, tail: n_tail }, denominator, &Split { head: d_head, tail: d_tail });
        let scaled = b.mul(q, power);
        let scaled = b.mul(scaled, small);
        b.select(negative, scaled, q)
    })
}

/// `(1 - E)/(1 + E)` with `E = e^(-2|x|)`, numerator and denominator to about 36 bits.
pub(super) fn tanh() -> ScalarFn {
    unary_program(DType::F32, |b, x| {
        let size = abs(b, x);
        // tanh is above 1 - 2^-26 here.
        let clamped = at_most(b, size, 9.25);
        let exponent = scale(b, clamped, -2.0);
        let reduced = reduce(b, exponent, 127, short_series);
        let power = reduced.power(b);
        let linear = b.mul(power, reduced.r);
        let rest = b.mul(power, reduced.w);
        let one = b.f32(1.0);
        let whole = b.sub(one, power);
        let n = b.sub(whole, linear);
        let n = b.sub(n, rest);
        let n_head = masked(b, n, HEAD);
        let n_tail = b.sub(whole, n_head);
        let n_tail = b.sub(n_tail, linear);
        let n_tail = b.sub(n_tail, rest);
        let two = b.f32(2.0);
        let d = b.sub(two, n);
        let d_head = masked(b, d, HEAD);
        let d_tail = b.sub(one, d_head);
        let d_tail = b.add(d_tail, power);
        let d_tail = b.add(d_tail, linear);
        let d_tail = b.add(d_tail, rest);
        let q = quotient(b, &Split { head: n_head, tail: n_tail }, d, &Split { head: d_head, tail: d_tail });
        let signed = with_sign_of(b, q, x);
        // x - x^3/3 rounds to x; the long way would round a subnormal more than once.
        let tiny = test(b, CompareOp::Lt, size, f32::from_bits(0x3980_0000));
        b.select(tiny, x, signed)
    })
}
