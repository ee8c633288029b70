//! Rounding to integers, and conversion to them.

use crate::kernel::scalar::{CompareOp, ScalarFn, ScalarFnBuilder, Value};
use crate::numerics::emit::{abs, test, unary_program, with_sign_of};
use crate::types::DType;

/// Every float of this size or above is an integer.
const INTEGERS: f32 = 8_388_608.0;

/// `result`, which isn't negative, with the sign of x, where x may have a fraction; x itself otherwise.
fn finish(b: &mut ScalarFnBuilder, x: Value, result: Value) -> Value {
    let signed = with_sign_of(b, result, x);
    let size = abs(b, x);
    let fractional = test(b, CompareOp::Lt, size, INTEGERS);
    b.select(fractional, signed, x)
}

/// The integer part of `|x|`, for one below 2^23.
fn integer_part(b: &mut ScalarFnBuilder, x: Value) -> Value {
    let size = abs(b, x);
    let fractional = test(b, CompareOp::Lt, size, INTEGERS);
    let zero = b.f32(0.0);
    let in_range = b.select(fractional, size, zero);
    let integer = b.convert(DType::I32, in_range);
    b.convert(DType::F32, integer)
}

pub(super) fn trunc() -> ScalarFn {
    unary_program(DType::F32, |b, x| {
        let part = integer_part(b, x);
        finish(b, x, part)
    })
}

/// Adding 2^23 leaves no bits for a fraction: the sum rounds to nearest even.
pub(super) fn round() -> ScalarFn {
    unary_program(DType::F32, |b, x| {
        let size = abs(b, x);
        let magic = b.f32(INTEGERS);
        let sum = b.add(size, magic);
        let rounded = b.sub(sum, magic);
        finish(b, x, rounded)
    })
}

/// The integer part, and one more in size where something was cut off a number of the sign that `away` tells.
fn directed(away: CompareOp) -> ScalarFn {
    unary_program(DType::F32, |b, x| {
        let part = integer_part(b, x);
        let size = abs(b, x);
        let cut = b.compare(CompareOp::Lt, part, size);
        let one = b.f32(1.0);
        let next = b.add(part, one);
        let next = b.select(cut, next, part);
        let outward = test(b, away, x, 0.0);
        let result = b.select(outward, next, part);
        finish(b, x, result)
    })
}

pub(super) fn floor() -> ScalarFn {
    directed(CompareOp::Lt)
}

pub(super) fn ceil() -> ScalarFn {
    directed(CompareOp::Gt)
}

/// Conversion of the numbers in (below, above); `least` at or under it, `greatest` at or over it, 0 for NaN.
fn saturating(ty: DType, below: f32, above: f32, least: u32, greatest: u32) -> ScalarFn {
    unary_program(ty, |b, x| {
        let constant = |b: &mut ScalarFnBuilder, bits: u32| {
            if ty == DType::I32 { b.i32(bits as i32) } else { b.u32(bits) }
        };
        let over_low = test(b, CompareOp::Gt, x, below);
        let under_high = test(b, CompareOp::Lt, x, above);
        let zero = b.f32(0.0);
        let bounded = b.select(over_low, x, zero);
        let bounded = b.select(under_high, bounded, zero);
        let converted = b.convert(ty, bounded);
        let too_low = test(b, CompareOp::Le, x, below);
        let least = constant(b, least);
        let result = b.select(too_low, least, converted);
        let too_high = test(b, CompareOp::Ge, x, above);
        let greatest = constant(b, greatest);
        b.select(too_high, greatest, result)
    })
}

pub(super) fn to_i32() -> ScalarFn {
    saturating(DType::I32, -2_147_483_648.0, 2_147_483_648.0, i32::MIN as u32, i32::MAX as u32)
}

pub(super) fn to_u32() -> ScalarFn {
    saturating(DType::U32, 0.0, 4_294_967_296.0, 0, u32::MAX)
}
