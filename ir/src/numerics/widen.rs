//! What a stored element stands for ([`super::stored`]), as a program of scalar operations: for devices that keep weights as
//! they are stored.

use super::emit::{INFINITY, and, bits, float, or, scale, shl, shr};
use super::formats::{FloatFormat, Overflow, Storage};
use super::order::CANONICAL_NAN;
use super::stored::Form;
use crate::kernel::scalar::{BinaryOp, CompareOp, ScalarFn, ScalarFnBuilder, Value};
use crate::types::DType;

/// The program of a form that [`super::stored::View::form`] gives. Its parameters are all `u32`: the element's code, in the low
/// bits of a word whose others are zero; if there are scales the bits of its group's; if there are zero points the bits of its
/// group's as an `f32`.
pub fn program(form: &Form) -> ScalarFn {
    let mut b = ScalarFnBuilder::new();
    let code = b.param(DType::U32);
    let factor = form.groups.map(|_| b.param(DType::U32));
    let point = form.zero_points.then(|| b.param(DType::U32));
    let mut value = match (form.storage, form.storage.float()) {
        // The exponents are those of an `f32`.
        (Storage::Bf16, _) => {
            let raised = shl(&mut b, code, 16);
            float(&mut b, raised)
        }
        (_, Some(format)) => minifloat(&mut b, code, format, form.storage.bits()),
        (storage, None) => integer(&mut b, code, storage),
    };
    if let Some(point) = point {
        let point = float(&mut b, point);
        value = b.sub(value, point);
    }
    if let Some(factor) = factor {
        let factor = float(&mut b, factor);
        value = b.mul(value, factor);
    }
    b.finish(value)
}

fn integer(b: &mut ScalarFnBuilder, code: Value, storage: Storage) -> Value {
    if !storage.is_signed() {
        return b.convert(DType::F32, code);
    }
    let unused = 32 - storage.bits();
    let raised = shl(b, code, unused);
    let raised = b.bitcast(DType::I32, raised);
    let extended = shr(b, raised, unused);
    b.convert(DType::F32, extended)
}

fn minifloat(b: &mut ScalarFnBuilder, code: Value, format: FloatFormat, size: u32) -> Value {
    let mantissa = format.mantissa_bits();
    let bias = (1 << (size - 2 - mantissa)) - 1;
    let sign = and(b, code, 1 << (size - 1));
    let sign = shl(b, sign, 32 - size);
    let magnitude = and(b, code, (1 << (size - 1)) - 1);
    let shifted = shl(b, magnitude, 23 - mantissa);
    let rebias = b.u32((127 - bias) << 23);
    let normal = b.binary(BinaryOp::Add, shifted, rebias);
    // A multiple of the least number, a power of two: the product is exact.
    let multiple = b.convert(DType::F32, magnitude);
    let subnormal = scale(b, multiple, f32::from_bits((128 - bias - mantissa) << 23));
    let subnormal = bits(b, subnormal);
    let first_normal = b.u32(1 << mantissa);
    let is_subnormal = b.compare(CompareOp::Lt, magnitude, first_normal);
    let mut found = b.select(is_subnormal, subnormal, normal);
    if format.overflow() == Overflow::Infinity {
        // The exponent of all ones is one of an `f32` too.
        let special = or(b, shifted, INFINITY);
        let last = b.u32(((1 << (size - 1 - mantissa)) - 1) << mantissa);
        let is_special = b.compare(CompareOp::Ge, magnitude, last);
        found = b.select(is_special, special, found);
    } else if format.has_nan() {
        let nan = b.u32(CANONICAL_NAN);
        let last = b.u32((1 << (size - 1)) - 1);
        let is_nan = b.compare(CompareOp::Eq, magnitude, last);
        found = b.select(is_nan, nan, found);
    }
    let joined = b.binary(BinaryOp::Or, found, sign);
    float(b, joined)
}

#[cfg(test)]
mod tests {
    use super::super::groups::Groups;
    use super::super::stored::{Scales, View};
    use super::*;
    use crate::eval::scalar::evaluate;
    use crate::types::Shape;

    #[test]
    fn programs_give_what_is_defined() {
        let same =
            |one: u32, other: u32| one == other || (f32::from_bits(one).is_nan() && f32::from_bits(other).is_nan());
        let shape = Shape::from([1]);
        let [least, plain, greatest] = [1, 0x3f83_3333, 0x7f7f_ffff].map(f32::from_bits);
        for storage in Storage::ALL.into_iter().filter(|storage| storage.bits() <= 16) {
            for (factor, point) in
                [(None, None), (Some(least), Some(-3)), (Some(plain), None), (Some(greatest), Some(7))]
            {
                let scale = factor.unwrap_or_default().to_le_bytes();
                let point_bytes = point.map(|point: i32| point.to_le_bytes());
                let zero_point = point_bytes.as_ref().map(|bytes| (Storage::I32, &bytes[..]));
                let scales = factor.map(|_| Scales { groups: Groups::tensor(&shape), scale: &scale, zero_point });
                for code in 0..1u32 << storage.bits() {
                    let data = code.to_le_bytes();
                    let view = View { storage, data: &data, scales };
                    let Some(form) = view.form() else { continue };
                    let mut args = vec![code];
                    args.extend(factor.map(f32::to_bits));
                    args.extend(point.filter(|_| form.zero_points).map(|point| (point as f32).to_bits()));
                    let found = evaluate(&program(&form), &args, &mut Vec::new());
                    assert!(same(found, view.bits(0)), "{storage} {code:x} · {factor:?} - {point:?}: {found:08x}");
                }
            }
        }
    }
}
