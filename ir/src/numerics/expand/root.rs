//! Correctly rounded square root.

use super::division::parts;
use crate::kernel::scalar::{BinaryOp, CompareOp, ScalarFn};
use crate::numerics::emit::{INFINITY, MAGIC, SIGN, and, bits, float, scale, shl, shr, test, unary_program};
use crate::types::DType;

/// With the argument as `m 2^(2k)`, m an integer of 47 or 48 bits, the result is the integer root of m, rounded: an
/// approximation is put right by the exact remainder `m - s^2`, in wrapping 32-bit arithmetic. A root is never halfway
/// between two floats, and never subnormal.
pub(super) fn sqrt() -> ScalarFn {
    unary_program(DType::F32, |b, x| {
        let p = parts(b, x);
        // value = mantissa 2^(exponent - 150) with the exponent made odd, so that exponent - 127 is even.
        let one = b.i32(1);
        let odd = b.binary(BinaryOp::And, p.exponent, one);
        let zero = b.i32(0);
        let is_even = b.compare(CompareOp::Eq, odd, zero);
        let doubled = shl(b, p.mantissa, 1);
        let mantissa = b.select(is_even, doubled, p.mantissa);

        // y = 1/sqrt(v) to 2^-19 for v = mantissa/2^23 in [1, 4).
        let signed = b.bitcast(DType::I32, mantissa);
        let v = b.convert(DType::F32, signed);
        let v = scale(b, v, 1.0 / 8_388_608.0);
        let seed = b.u32(0x5f0b_38a0);
        let raw = bits(b, v);
        let half = shr(b, raw, 1);
        let y = b.binary(BinaryOp::Sub, seed, half);
        let y = float(b, y);
        let square = b.mul(v, y);
        let square = b.mul(square, y);
        let step = b.f32(1.890_988);
        let factor = b.sub(step, square);
        let y = b.mul(y, factor);
        let square = b.mul(v, y);
        let square = b.mul(square, y);
        let square = scale(b, square, 0.5);
        let step = b.f32(1.5);
        let factor = b.sub(step, square);
        let y = b.mul(y, factor);

        // s is about 2^23 sqrt(v); the remainder of 2^23 mantissa = 2^46 v is some 2^6 * 2 s at most.
        let root = b.mul(v, y);
        let root = scale(b, root, 8_388_608.0);
        let root = b.convert(DType::I32, root);
        let root = b.bitcast(DType::U32, root);
        let target = shl(b, mantissa, 23);
        let product = b.mul(root, root);
        let remainder = b.binary(BinaryOp::Sub, target, product);
        let remainder = b.bitcast(DType::I32, remainder);
        let size = b.convert(DType::F32, remainder);
        let units = b.mul(size, y);
        let units = scale(b, units, 1.0 / 16_777_216.0);
        let magic = b.f32(MAGIC);
        let units = b.add(units, magic);
        let units = bits(b, units);
        let magic = b.u32(MAGIC.to_bits());
        let units = b.binary(BinaryOp::Sub, units, magic);
        let root = b.binary(BinaryOp::Add, root, units);
        let product = b.mul(root, root);
        let remainder = b.binary(BinaryOp::Sub, target, product);
        // Within (-2s, 2s): one unit down if it's negative, by (s - 1)^2 = s^2 - 2s + 1.
        let high = b.u32(SIGN);
        let negative = b.compare(CompareOp::Ge, remainder, high);
        let unit = b.u32(1);
        let lower = b.binary(BinaryOp::Sub, root, unit);
        let sum = b.binary(BinaryOp::Add, root, lower);
        let raised = b.binary(BinaryOp::Add, remainder, sum);
        let root = b.select(negative, lower, root);
        let remainder = b.select(negative, raised, remainder);
        // Above s + 1/2, so up, if the remainder is above s.
        let up = b.compare(CompareOp::Gt, remainder, root);
        let none = b.u32(0);
        let up = b.select(up, unit, none);
        let root = b.binary(BinaryOp::Add, root, up);

        // The result is s 2^(h - 23) with h = (exponent - 127) / 2 rounded down; s holds the leading bit.
        let bias = b.i32(127);
        let exponent = b.binary(BinaryOp::Sub, p.exponent, bias);
        let half = shr(b, exponent, 1);
        let field = b.i32(126);
        let field = b.binary(BinaryOp::Add, half, field);
        let field = b.bitcast(DType::U32, field);
        let field = shl(b, field, 23);
        let result = b.binary(BinaryOp::Add, field, root);
        let result = float(b, result);

        // +inf and NaN give themselves, zeros too, what is below them NaN.
        let finite = test(b, CompareOp::Lt, x, f32::from_bits(INFINITY));
        let result = b.select(finite, result, x);
        let raw = bits(b, x);
        let magnitude = and(b, raw, !SIGN);
        let is_zero = b.compare(CompareOp::Eq, magnitude, none);
        let nan = b.f32(f32::NAN);
        let outside = b.select(is_zero, x, nan);
        let positive = test(b, CompareOp::Gt, x, 0.0);
        b.select(positive, result, outside)
    })
}
