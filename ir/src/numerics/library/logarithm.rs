//! log and log1p: one polynomial; log2: another.

use crate::kernel::scalar::{BinaryOp, CompareOp, ScalarFn, ScalarFnBuilder, Value};
use crate::numerics::emit::{
    HEAD, INFINITY, add_exactly, add_three, bits, float, horner, masked, scale, shl, shr, test, unary_program,
};
use crate::types::DType;

/// ln 2 to 15 bits: its product with an integer below 2^9 is exact.
const LN2_HEAD: f32 = f32::from_bits(0x3f31_7200);

/// ln 2 - [`LN2_HEAD`].
const LN2_TAIL: f32 = f32::from_bits(0x35bf_be8e);

/// The bits of 3/4: mantissas are reduced to [3/4, 3/2). For log1p this makes every subtraction that finds `f` exact.
const THREE_QUARTERS: u32 = 0x3f40_0000;

/// Q with `ln(1 + f) = f + f^2 Q(f)` on [-1/4, 1/2]: Remez with weight `f^2 / ln(1 + f)`, then each
/// coefficient rounded to `f32` and the rest fitted again. Relative error of the logarithm: 2^-26.0.
const Q: [f32; 9] = [
    f32::from_bits(0xbf00_0000),
    f32::from_bits(0x3eaa_aad6),
    f32::from_bits(0xbe80_0041),
    f32::from_bits(0x3e4c_b38e),
    f32::from_bits(0xbe2a_6b61),
    f32::from_bits(0x3e14_3b15),
    f32::from_bits(0xbe07_480c),
    f32::from_bits(0x3dd8_fcc8),
    f32::from_bits(0xbd3c_af4b),
];

/// The bits of the first number above `sqrt(1/2)`: log2 reduces mantissas to between it and twice it, so that what is
/// added to n is at most 1/2 in size and doesn't cancel it.
const ROOT_HALF: u32 = 0x3f35_04f4;

/// 1/ln 2 to 12 bits: its product with another 12-bit number is exact.
const LOG2_E_HEAD: f32 = f32::from_bits(0x3fb8_b000);

/// 1/ln 2 - [`LOG2_E_HEAD`].
const LOG2_E_TAIL: f32 = f32::from_bits(0xb938_9ad4);

/// 8 significant bits: the square has 16.
const SHORT: u32 = 0xffff_0000;

/// The first 8 bits of Q(0) = -1/(2 ln 2), for Q with `log2(1 + f) = f/ln 2 + f^2 Q(f)`.
const Q2_HEAD: f32 = f32::from_bits(0xbf38_0000);

/// Q - [`Q2_HEAD`] on [sqrt(1/2) - 1, sqrt(2) - 1]: minimax with weight `f^2 / log2(1 + f)`, by linear programming,
/// each coefficient rounded to `f32` and the rest fitted again. Relative error of the logarithm: 2^-30.4.
const Q2_REST: [f32; 10] = [
    f32::from_bits(0xbb2a_3b1b),
    f32::from_bits(0x3ef6_3844),
    f32::from_bits(0xbeb8_aa47),
    f32::from_bits(0x3e93_bf94),
    f32::from_bits(0xbe76_3c4c),
    f32::from_bits(0x3e52_0a97),
    f32::from_bits(0xbe37_4a76),
    f32::from_bits(0x3e2f_ceab),
    f32::from_bits(0xbe2c_839f),
    f32::from_bits(0x3dc6_c61f),
];

/// `f + f^2 Q(f) - minus_n ln 2`: the logarithm of `2^n (1 + f)`.
fn combine(b: &mut ScalarFnBuilder, f: Value, minus_n: Value) -> Value {
    let q = horner(b, f, &Q);
    let square = b.mul(f, f);
    let w = b.mul(square, q);
    let tail = scale(b, minus_n, LN2_TAIL);
    let w = b.sub(w, tail);
    let head = scale(b, minus_n, LN2_HEAD);
    let sum = b.sub(f, head);
    // |head| >= |f|, or head = 0: the error of the sum is exact.
    let back = b.add(sum, head);
    let error = b.sub(f, back);
    let w = b.add(w, error);
    b.add(sum, w)
}

/// ln x.
pub(super) fn log() -> ScalarFn {
    unary_program(DType::F32, |b, x| {
        let (f, minus_n) = reduce(b, x, THREE_QUARTERS);
        let result = combine(b, f, minus_n);
        outside_domain(b, x, 0.0, result)
    })
}

/// Finds `f` and `-n` with `x = 2^n (1 + f)`, where `1 + f` lies between the number with the bits `lowest` and twice
/// that.
fn reduce(b: &mut ScalarFnBuilder, x: Value, lowest: u32) -> (Value, Value) {
    let subnormal = test(b, CompareOp::Lt, x, f32::MIN_POSITIVE);
    let enlarged = scale(b, x, 8_388_608.0);
    let normal = b.select(subnormal, enlarged, x);
    let offset = b.u32(lowest);
    let raw = bits(b, normal);
    let above = b.binary(BinaryOp::Sub, raw, offset);
    let above = b.bitcast(DType::I32, above);
    let n = shr(b, above, 23);
    let exponent = shl(b, n, 23);
    let exponent = b.bitcast(DType::U32, exponent);
    let mantissa = b.binary(BinaryOp::Sub, raw, exponent);
    let mantissa = float(b, mantissa);
    let one = b.f32(1.0);
    let f = b.sub(mantissa, one);
    let some = b.i32(23);
    let none = b.i32(0);
    let lift = b.select(subnormal, some, none);
    let minus_n = b.binary(BinaryOp::Sub, lift, n);
    (f, b.convert(DType::F32, minus_n))
}

/// The logarithm to the base 2, whose first terms `n + f/ln 2 + f^2 Q(0)` are exact in their leading parts and added
/// with the errors of their sums.
pub(super) fn log2() -> ScalarFn {
    unary_program(DType::F32, |b, x| {
        let (f, minus_n) = reduce(b, x, ROOT_HALF);
        // Not -minus_n: log2(1) is +0.
        let zero = b.f32(0.0);
        let n = b.sub(zero, minus_n);
        let f_head = masked(b, f, HEAD);
        let f_tail = b.sub(f, f_head);
        let linear = scale(b, f_head, LOG2_E_HEAD);
        let linear_rest = scale(b, f_tail, LOG2_E_HEAD);
        let f_short = masked(b, f, SHORT);
        let square = b.mul(f_short, f_short);
        let quadratic = scale(b, square, Q2_HEAD);
        let difference = b.sub(f, f_short);
        let sum = b.add(f, f_short);
        let square_rest = b.mul(difference, sum);
        let quadratic_rest = scale(b, square_rest, Q2_HEAD);
        // f (1/ln 2 - its head) + f^2 (Q(f) - its head).
        let q = horner(b, f, &Q2_REST);
        let slope = b.mul(f, q);
        let rest = b.f32(LOG2_E_TAIL);
        let slope = b.add(slope, rest);
        let w = b.mul(f, slope);
        let tail = b.add(linear_rest, quadratic_rest);
        let tail = b.add(tail, w);

        let (sum, error) = add_exactly(b, n, linear);
        let tail = b.add(tail, error);
        let result = add_three(b, sum, quadratic, tail);
        outside_domain(b, x, 0.0, result)
    })
}

/// ln(1 + x).
///
/// `1 + x` is only used to find `n`. The reduced argument `2^-n x - (1 - 2^-n)` is exact where it matters: it is x
/// itself for n = 0, and otherwise both terms are within a factor of two of each other.
pub(super) fn log1p() -> ScalarFn {
    unary_program(DType::F32, |b, x| {
        let one = b.f32(1.0);
        let sum = b.add(one, x);
        let offset = b.u32(THREE_QUARTERS);
        let raw = bits(b, sum);
        let above = b.binary(BinaryOp::Sub, raw, offset);
        let above = b.bitcast(DType::I32, above);
        let n = shr(b, above, 23);
        let zero = b.i32(0);
        let minus_n = b.binary(BinaryOp::Sub, zero, n);
        // 4 * 2^-n, because 2^-n isn't a normal number for the largest n.
        let exponent = shl(b, minus_n, 23);
        let four = b.i32(0x4080_0000);
        let power = b.binary(BinaryOp::Add, exponent, four);
        let power = float(b, power);
        let scaled = b.mul(x, power);
        let scaled = scale(b, scaled, 0.25);
        let power = scale(b, power, 0.25);
        // 1 - 2^-n rather than 2^-n - 1: the difference below keeps the sign of x = -0.
        let rest = b.sub(one, power);
        let f = b.sub(scaled, rest);
        let minus_n = b.convert(DType::F32, minus_n);
        let result = combine(b, f, minus_n);
        outside_domain(b, x, -1.0, result)
    })
}

/// `result` for numbers above the pole; there -inf, below it NaN; +inf and NaN give themselves.
fn outside_domain(b: &mut ScalarFnBuilder, x: Value, pole: f32, result: Value) -> Value {
    let finite = test(b, CompareOp::Lt, x, f32::from_bits(INFINITY));
    let result = b.select(finite, result, x);
    let at_pole = test(b, CompareOp::Eq, x, pole);
    let minus_infinity = b.f32(f32::NEG_INFINITY);
    let nan = b.f32(f32::NAN);
    let below = b.select(at_pole, minus_infinity, nan);
    let above = test(b, CompareOp::Gt, x, pole);
    b.select(above, result, below)
}
