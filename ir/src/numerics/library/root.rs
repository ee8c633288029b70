//! rsqrt.

use crate::kernel::scalar::{BinaryOp, CompareOp, ScalarFn};
use crate::numerics::emit::{INFINITY, bits, float, masked, or, scale, shr, test, unary_program};
use crate::types::DType;

/// Half the bits taken from this give about `1/sqrt(x)`; searched together with [`STEP`] so that after one step and
/// truncation to 10 bits `|1 - x y^2| <= 0.0031`.
const SEED: u32 = 0x5f0b_84a8;

/// The constant of the Newton-like step `y (STEP - x y^2)`; the factor 1/2 of Newton's is in the seed.
const STEP: f32 = 1.891_815_2;

/// 10 significant bits: the square has 20, its product with a 4-bit number is exact.
const TEN_BITS: u32 = 0xffff_c000;

/// 4 significant bits.
const FOUR_BITS: u32 = 0xfff0_0000;

/// 1/sqrt(x).
///
/// With `y` of 10 bits near the result, `e = 1 - x y^2` is known to 2^-27 and the result is
/// `y + y (e/2 + 3 e^2/8 + ...)`; the coefficient of e also carries the mean of the e^3 term.
pub(super) fn rsqrt() -> ScalarFn {
    unary_program(DType::F32, |b, x| {
        let subnormal = test(b, CompareOp::Lt, x, f32::MIN_POSITIVE);
        let enlarged = scale(b, x, 16_777_216.0);
        let normal = b.select(subnormal, enlarged, x);

        let seed = b.u32(SEED);
        let raw = bits(b, normal);
        let half = shr(b, raw, 1);
        let y = b.binary(BinaryOp::Sub, seed, half);
        let y = float(b, y);
        let product = b.mul(normal, y);
        let product = b.mul(product, y);
        let step = b.f32(STEP);
        let factor = b.sub(step, product);
        let y = b.mul(y, factor);
        let y = masked(b, y, TEN_BITS);

        let square = b.mul(y, y);
        let head = masked(b, normal, FOUR_BITS);
        let tail = b.sub(normal, head);
        let one = b.f32(1.0);
        let product = b.mul(head, square);
        let e = b.sub(one, product);
        let product = b.mul(tail, square);
        let e = b.sub(e, product);
        let series = scale(b, e, 0.375);
        let linear = b.f32(0.500_002_2);
        let series = b.add(series, linear);
        let series = b.mul(series, e);
        let correction = b.mul(y, series);
        let result = b.add(y, correction);

        let back = b.f32(4096.0);
        let one = b.f32(1.0);
        let factor = b.select(subnormal, back, one);
        let result = b.mul(result, factor);

        let infinite = test(b, CompareOp::Eq, x, f32::INFINITY);
        let zero = b.f32(0.0);
        let result = b.select(infinite, zero, result);
        let sign = bits(b, x);
        let pole = or(b, sign, INFINITY);
        let pole = float(b, pole);
        let is_zero = test(b, CompareOp::Eq, x, 0.0);
        let nan = b.f32(f32::NAN);
        let outside = b.select(is_zero, pole, nan);
        let positive = test(b, CompareOp::Gt, x, 0.0);
        b.select(positive, result, outside)
    })
}
