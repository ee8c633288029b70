//! Shorthand for writing the library's programs.

use crate::kernel::scalar::{BinaryOp, CompareOp, ScalarFn, ScalarFnBuilder, UnaryOp, Value};
use crate::types::DType;

/// `1.5 * 2^23`: adding it to a value below `2^22` in size rounds that value to an integer, which then stands in the
/// low bits of the sum.
pub(super) const MAGIC: f32 = 12_582_912.0;

/// The bits of +infinity: anything above, sign aside, is a NaN.
pub(super) const INFINITY: u32 = 0x7f80_0000;

/// The sign bit.
pub(super) const SIGN: u32 = 0x8000_0000;

/// Clears the low 12 bits: what is left has 12 significant bits, so that the product of two such values is exact.
pub(super) const HEAD: u32 = 0xffff_f000;

/// A program of one `f32` parameter.
pub(super) fn unary_program(result: DType, body: impl FnOnce(&mut ScalarFnBuilder, Value) -> Value) -> ScalarFn {
    let mut b = ScalarFnBuilder::new();
    let x = b.param(DType::F32);
    let value = body(&mut b, x);
    assert_eq!(b.type_of(value), result, "a program's result has the declared type");
    b.finish(value)
}

/// A program of two `f32` parameters.
pub(super) fn binary_program(
    result: DType,
    body: impl FnOnce(&mut ScalarFnBuilder, Value, Value) -> Value,
) -> ScalarFn {
    let mut b = ScalarFnBuilder::new();
    let x = b.param(DType::F32);
    let y = b.param(DType::F32);
    let value = body(&mut b, x, y);
    assert_eq!(b.type_of(value), result, "a program's result has the declared type");
    b.finish(value)
}

/// The bits of a float.
pub(super) fn bits(b: &mut ScalarFnBuilder, x: Value) -> Value {
    b.bitcast(DType::U32, x)
}

/// The float with these bits.
pub(super) fn float(b: &mut ScalarFnBuilder, bits: Value) -> Value {
    b.bitcast(DType::F32, bits)
}

/// `x & mask` for integers.
pub(super) fn and(b: &mut ScalarFnBuilder, x: Value, mask: u32) -> Value {
    let mask = b.u32(mask);
    b.binary(BinaryOp::And, x, mask)
}

/// `x | mask` for integers.
pub(super) fn or(b: &mut ScalarFnBuilder, x: Value, mask: u32) -> Value {
    let mask = b.u32(mask);
    b.binary(BinaryOp::Or, x, mask)
}

/// `x << count` for integers.
pub(super) fn shl(b: &mut ScalarFnBuilder, x: Value, count: u32) -> Value {
    let count = if b.type_of(x) == DType::I32 { b.i32(count as i32) } else { b.u32(count) };
    b.binary(BinaryOp::Shl, x, count)
}

/// `x >> count` for integers.
pub(super) fn shr(b: &mut ScalarFnBuilder, x: Value, count: u32) -> Value {
    let count = if b.type_of(x) == DType::I32 { b.i32(count as i32) } else { b.u32(count) };
    b.binary(BinaryOp::Shr, x, count)
}

/// A float with all but the bits of `mask` cleared.
pub(super) fn masked(b: &mut ScalarFnBuilder, x: Value, mask: u32) -> Value {
    let raw = bits(b, x);
    let kept = and(b, raw, mask);
    float(b, kept)
}

/// `|x|`.
pub(super) fn abs(b: &mut ScalarFnBuilder, x: Value) -> Value {
    b.unary(UnaryOp::Abs, x)
}

/// `magnitude`, which isn't negative, with the sign of `sign`.
pub(super) fn with_sign_of(b: &mut ScalarFnBuilder, magnitude: Value, sign: Value) -> Value {
    let sign = bits(b, sign);
    let sign = and(b, sign, SIGN);
    let magnitude = bits(b, magnitude);
    let joined = b.binary(BinaryOp::Or, magnitude, sign);
    float(b, joined)
}

/// `x op constant` as a bool.
pub(super) fn test(b: &mut ScalarFnBuilder, op: CompareOp, x: Value, constant: f32) -> Value {
    let constant = b.f32(constant);
    b.compare(op, x, constant)
}

/// `if x > limit { limit } else { x }`: keeps a NaN.
pub(super) fn at_most(b: &mut ScalarFnBuilder, x: Value, limit: f32) -> Value {
    let over = test(b, CompareOp::Gt, x, limit);
    let limit = b.f32(limit);
    b.select(over, limit, x)
}

/// `if x < limit { limit } else { x }`: keeps a NaN.
pub(super) fn at_least(b: &mut ScalarFnBuilder, x: Value, limit: f32) -> Value {
    let under = test(b, CompareOp::Lt, x, limit);
    let limit = b.f32(limit);
    b.select(under, limit, x)
}

/// `x * constant`.
pub(super) fn scale(b: &mut ScalarFnBuilder, x: Value, constant: f32) -> Value {
    let constant = b.f32(constant);
    b.mul(x, constant)
}

/// The rounded sum of two values, where the first is the larger in size or zero, and its error, which is exact.
pub(super) fn add_exactly(b: &mut ScalarFnBuilder, large: Value, small: Value) -> (Value, Value) {
    let sum = b.add(large, small);
    let back = b.sub(sum, large);
    let error = b.sub(small, back);
    (sum, error)
}

/// The sum of three values, of which the last is much the smallest, with little more error than one rounding. The first
/// is larger in size than the second, or zero.
pub(super) fn add_three(b: &mut ScalarFnBuilder, large: Value, middle: Value, small: Value) -> Value {
    let (sum, error) = add_exactly(b, large, middle);
    let rest = b.add(error, small);
    b.add(sum, rest)
}

/// `c[0] + x*(c[1] + x*(c[2] + ...))`, innermost first.
pub(super) fn horner(b: &mut ScalarFnBuilder, x: Value, coefficients: &[f32]) -> Value {
    let (&last, rest) = coefficients.split_last().expect("a polynomial has a coefficient");
    let mut sum = b.f32(last);
    for &coefficient in rest.iter().rev() {
        let product = b.mul(sum, x);
        let coefficient = b.f32(coefficient);
        sum = b.add(product, coefficient);
    }
    sum
}
