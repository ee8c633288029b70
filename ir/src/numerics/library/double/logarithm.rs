//! log and log1p of `f64`.
//!
//! A number is `2^k (1 + f)` with `1 + f` between sqrt(1/2) and sqrt(2); with `s = f / (2 + f)`,
//! `ln(1 + f) = 2 s + s R = f - (f^2/2 - s (f^2/2 + R))`, R an even function of s (Tang, ACM TOMS 16, 1990): f is exact, and
//! what is added to it small.

use super::exponential::{LN2_HEAD, LN2_TAIL};
use super::{bits, float, horner, integer, program, scale, test};
use crate::kernel::scalar::{BinaryOp, CompareOp, ScalarFn, ScalarFnBuilder, UnaryOp, Value};
use crate::types::DType;

/// The bits of the first number above `sqrt(1/2)`.
const ROOT_HALF: u64 = 0x3fe6_a09e_667f_3bcd;

/// The bits of a mantissa.
const MANTISSA: u64 = (1 << 52) - 1;

/// L with `ln((1 + s)/(1 - s)) = s (2 + z L(z))`, `z = s^2`, where `|s| <= (sqrt(2) - 1)/(sqrt(2) + 1)`: Remez with weight
/// z/2, rounded. Relative error of the logarithm: 2^-63.9.
const L: [f64; 8] = [
    f64::from_bits(0x3fe5_5555_5555_5555),
    f64::from_bits(0x3fd9_9999_9999_9cf7),
    f64::from_bits(0x3fd2_4924_9243_7c2c),
    f64::from_bits(0x3fcc_71c7_2511_6bac),
    f64::from_bits(0x3fc7_45cd_f21f_92ee),
    f64::from_bits(0x3fc3_b20b_5333_7c81),
    f64::from_bits(0x3fc0_f58a_20ac_6b8f),
    f64::from_bits(0x3fc0_f9f9_9bab_3769),
];

/// `x = 2^k (1 + f)`: k as a float, and f. Of a positive normal number.
fn split(b: &mut ScalarFnBuilder, x: Value) -> (Value, Value) {
    let raw = bits(b, x);
    let above = integer(b, BinaryOp::Sub, raw, ROOT_HALF);
    let signed = b.bitcast(DType::I64, above);
    let count = b.i64(52);
    let k = b.binary(BinaryOp::Shr, signed, count);
    let k = b.convert(DType::F64, k);
    let mantissa = integer(b, BinaryOp::And, above, MANTISSA);
    let mantissa = integer(b, BinaryOp::Add, mantissa, ROOT_HALF);
    let mantissa = float(b, mantissa);
    let one = b.f64(1.0);
    (k, b.sub(mantissa, one))
}

/// `k ln 2 + ln(1 + f) + rest`.
fn joined(b: &mut ScalarFnBuilder, k: Value, f: Value, rest: Option<Value>) -> Value {
    let two = b.f64(2.0);
    let d = b.add(two, f);
    let s = b.div(f, d);
    let z = b.mul(s, s);
    let l = horner(b, z, &L);
    let r = b.mul(z, l);
    let half = scale(b, f, 0.5);
    let half_square = b.mul(half, f);
    let sum = b.add(half_square, r);
    let product = b.mul(s, sum);
    let k_tail = scale(b, k, LN2_TAIL);
    let k_tail = match rest {
        Some(rest) => b.add(k_tail, rest),
        None => k_tail,
    };
    let small = b.add(product, k_tail);
    let small = b.sub(half_square, small);
    let small = b.sub(small, f);
    let k_head = scale(b, k, LN2_HEAD);
    b.sub(k_head, small)
}

/// The result where x is a positive finite number; else what IEEE 754 asks: infinity's logarithm is infinity, that of a zero
/// -infinity, of a negative number or a NaN NaN.
fn or_special(b: &mut ScalarFnBuilder, x: Value, result: Value) -> Value {
    let infinite = test(b, CompareOp::Eq, x, f64::INFINITY);
    let result = b.select(infinite, x, result);
    let positive = test(b, CompareOp::Gt, x, 0.0);
    let zero = test(b, CompareOp::Eq, x, 0.0);
    let lowest = b.f64(f64::NEG_INFINITY);
    let nan = b.f64(f64::NAN);
    let outside = b.select(zero, lowest, nan);
    b.select(positive, result, outside)
}

/// ln x.
pub(super) fn log() -> ScalarFn {
    program(|b, x| {
        let subnormal = test(b, CompareOp::Lt, x, f64::MIN_POSITIVE);
        let enlarged = scale(b, x, f64::from_bits(0x4350_0000_0000_0000));
        let normal = b.select(subnormal, enlarged, x);
        let (k, f) = split(b, normal);
        let less = b.f64(-54.0);
        let reduced = b.add(k, less);
        let k = b.select(subnormal, reduced, k);
        let result = joined(b, k, f, None);
        or_special(b, x, result)
    })
}

/// ln(1 + x): of `u = 1 + x`, and of what u lacks; of a small x without u.
pub(super) fn log1p() -> ScalarFn {
    program(|b, x| {
        let one = b.f64(1.0);
        let u = b.add(one, x);
        let (k, f) = split(b, u);
        // Exact in the order of the greater of 1 and x first.
        let large = test(b, CompareOp::Ge, x, 1.0);
        let back = b.sub(u, x);
        let lacks_large = b.sub(one, back);
        let back = b.sub(u, one);
        let lacks_small = b.sub(x, back);
        let lacks = b.select(large, lacks_large, lacks_small);
        let lacks = b.div(lacks, u);
        // Between sqrt(1/2) - 1 and sqrt(2) - 1, x is f.
        let above = test(b, CompareOp::Gt, x, -0.292_893_218_813_452_4);
        let below = test(b, CompareOp::Lt, x, 0.414_213_562_373_095_03);
        let near = b.binary(BinaryOp::And, above, below);
        let zero = b.f64(0.0);
        let k = b.select(near, zero, k);
        let f = b.select(near, x, f);
        let lacks = b.select(near, zero, lacks);
        let result = joined(b, k, f, Some(lacks));
        let result = or_special(b, u, result);
        // x - x^2/2 rounds to x, and only x has the sign of zero.
        let size = b.unary(UnaryOp::Abs, x);
        let tiny = test(b, CompareOp::Lt, size, f64::from_bits(0x3c90_0000_0000_0000));
        b.select(tiny, x, result)
    })
}
