//! Numbers rounded to those of a narrower format.

use crate::kernel::scalar::{BinaryOp, CompareOp, ScalarFn, ScalarFnBuilder, Value};
use crate::numerics::emit::{INFINITY, abs, and, bits, float, shr, test, unary_program, with_sign_of};
use crate::numerics::formats::{FloatFormat, Overflow};
use crate::numerics::order::CANONICAL_NAN;
use crate::types::DType;

/// The nearest number of the format, ties to even, as `f32`: narrowed and widened again.
pub(super) fn round(format: FloatFormat) -> ScalarFn {
    unary_program(DType::F32, |b, x| {
        let size = abs(b, x);
        let normal = normal(b, size, format);
        let rounded = match format.least_normal() {
            least if least > f32::MIN_POSITIVE => {
                // In steps of the least number: added to a power of two that has this last place, they are rounded to it.
                let magic = b.f32(least * 2f32.powi(24 - 1 - format.mantissa_bits() as i32));
                let sum = b.add(size, magic);
                let subnormal = b.sub(sum, magic);
                let small = test(b, CompareOp::Lt, size, least);
                b.select(small, subnormal, normal)
            }
            // The format's exponents are those of `f32`: bits of subnormal numbers are rounded like all others.
            _ => normal,
        };
        let largest = format.greatest() as f32;
        let over = test(b, CompareOp::Gt, rounded, largest);
        let too_large = match format.overflow() {
            Overflow::Infinity => b.f32(f32::INFINITY),
            Overflow::Saturate => b.f32(largest),
        };
        let limited = b.select(over, too_large, rounded);
        let signed = with_sign_of(b, limited, x);
        let raw = bits(b, size);
        let infinity = b.u32(INFINITY);
        let is_nan = b.compare(CompareOp::Gt, raw, infinity);
        let nan = b.u32(if format.has_nan() { CANONICAL_NAN } else { 0 });
        let nan = float(b, nan);
        b.select(is_nan, nan, signed)
    })
}

/// A number that isn't negative, with as many bits of mantissa as the format has: half of what is cut off is added, less
/// a unit where the last bit that stays is even, and a carry goes into the exponent by itself.
fn normal(b: &mut ScalarFnBuilder, size: Value, format: FloatFormat) -> Value {
    let cut = 23 - format.mantissa_bits();
    let raw = bits(b, size);
    let odd = shr(b, raw, cut);
    let odd = and(b, odd, 1);
    let below_half = b.u32((1 << (cut - 1)) - 1);
    let sum = b.binary(BinaryOp::Add, raw, below_half);
    let sum = b.binary(BinaryOp::Add, sum, odd);
    let kept = and(b, sum, u32::MAX << cut);
    float(b, kept)
}
