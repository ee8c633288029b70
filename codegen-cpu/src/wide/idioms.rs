//! What scalar instructions say together, where a vector has one instruction for it.
//!
//! Each of these holds by what the instructions are, not by where they come from: the library's programs are written with
//! primitive operations, and anybody else's function may be, too.

use loom_ir::kernel::scalar::{BinaryOp, CompareOp, Inst, ScalarFn, Value};
use loom_ir::types::DType;

/// The bits that are tested, if an instruction is LN1's test for NaN: `(bits & 7fffffff) > 7f800000`. One comparison of
/// floats does that.
pub(super) fn is_nan(function: &ScalarFn, inst: &Inst) -> Option<Value> {
    let constant = |value: Value| match function.inst(value) {
        Some(&Inst::Const(DType::U32, bits)) => Some(bits as u32),
        _ => None,
    };
    let Inst::Compare(CompareOp::Gt, magnitude, infinity) = *inst else { return None };
    let Some(&Inst::Binary(BinaryOp::And, bits, mask)) = function.inst(magnitude) else { return None };
    ((constant(mask), constant(infinity)) == (Some(0x7fff_ffff), Some(0x7f80_0000))).then_some(bits)
}

/// Which of x86-64's operations on floats, [`BinaryOp::Max`] or [`BinaryOp::Min`], gives `a` or `b`, if an instruction is
/// `select(condition, a, b)`: `a > b ? a : b` and `a < b ? a : b`, so that a NaN, or two zeros, leave `b`.
pub(super) fn extremum(function: &ScalarFn, condition: Value, a: Value, b: Value) -> Option<BinaryOp> {
    let Some(&Inst::Compare(op, left, right)) = function.inst(condition) else { return None };
    match (op, (left, right) == (a, b), (left, right) == (b, a)) {
        (CompareOp::Gt, true, _) | (CompareOp::Lt, _, true) => Some(BinaryOp::Max),
        (CompareOp::Lt, true, _) | (CompareOp::Gt, _, true) => Some(BinaryOp::Min),
        _ => None,
    }
}

/// Most exponents that [`scaled`] looks at.
const EXPONENTS: u32 = 1024;

/// `m` and `n`, if the instruction of a number is `m · 2^n`, rounded once, written as two products:
///
/// ```text
/// shifted = clamp(x) · k + c,  n = shifted - c,  e = bits(shifted)
/// m · float((e >> 1) << 23) · float((e - (e >> 1)) << 23)
/// ```
///
/// That the factors are powers of two of half of `n` each is tried for every `n` that the clamp leaves. `m` is a sum with
/// 1, and so zero or at least 2^-24: the first product is exact, or too small for the second one to be anything but zero, or
/// infinite like the second. Where `x` is a NaN, the factors are anything, and so `m` must be a NaN.
pub(super) fn scaled(function: &ScalarFn, number: usize) -> Option<(Value, Value)> {
    let Inst::Binary(BinaryOp::Mul, first, second) = function.insts[number] else { return None };
    let &Inst::Binary(BinaryOp::Mul, m, half_power) = function.inst(first)? else { return None };
    let (half, rest) = (exponent(function, half_power)?, exponent(function, second)?);
    let &Inst::Binary(BinaryOp::Shr, bits, one) = function.inst(half)? else { return None };
    let &Inst::Binary(BinaryOp::Sub, whole, part) = function.inst(rest)? else { return None };
    let &Inst::Bitcast(DType::U32, shifted) = function.inst(bits)? else { return None };
    let &Inst::Binary(BinaryOp::Add, product, shift) = function.inst(shifted)? else { return None };
    let &Inst::Binary(BinaryOp::Mul, x, factor) = function.inst(product)? else { return None };
    let (c, k, (low, high)) = (float(function, shift)?, float(function, factor)?, clamp(function, x)?);
    let difference = Inst::Binary(BinaryOp::Sub, shifted, shift);
    let n = function.insts[..number].iter().position(|inst| *inst == difference)?;

    let is_sum_with_one = match *function.inst(m)? {
        Inst::Binary(BinaryOp::Add, a, b) => [a, b].iter().any(|&term| float(function, term) == Some(1.0)),
        _ => false,
    };
    let as_written = (whole, part) == (bits, half) && word(function, one) == Some(1);
    let (low, high) = ((low * k + c).to_bits(), (high * k + c).to_bits());
    let few = low >> 31 == 0 && high.checked_sub(low).is_some_and(|more| more < EXPONENTS) && k > 0.0;
    let right = as_written && is_sum_with_one && few && (low..=high).all(|bits| is_split(bits, c));
    (right && nan_follows(function, m, x)).then(|| (m, function.value_of(n)))
}

/// Whether the factors that are made of these bits are normal numbers, `2^h` and `2^o`, with `h + o` the float less `c` and
/// at most 1 apart.
fn is_split(bits: u32, c: f32) -> bool {
    let half = bits >> 1;
    let powers = [half << 23, (bits - half) << 23];
    let normal = powers.iter().all(|&power| power >> 31 == 0 && f32::from_bits(power).is_normal());
    let [h, o] = powers.map(|power| (power >> 23) as i32 - 127);
    normal && (h - o).abs() <= 1 && f32::from_bits(bits) - c == (h + o) as f32
}

/// The integer of `float(integer << 23)`.
fn exponent(function: &ScalarFn, power: Value) -> Option<Value> {
    let &Inst::Bitcast(DType::F32, bits) = function.inst(power)? else { return None };
    let &Inst::Binary(BinaryOp::Shl, integer, amount) = function.inst(bits)? else { return None };
    (word(function, amount) == Some(23)).then_some(integer)
}

/// Between which constants a value is, unless it's a NaN: `at_most(at_least(x, low), high)`.
fn clamp(function: &ScalarFn, value: Value) -> Option<(f32, f32)> {
    let bound = |value: Value, op: BinaryOp| {
        let &Inst::Select(condition, limit, inner) = function.inst(value)? else { return None };
        let limit_of = (extremum(function, condition, limit, inner) == Some(op)).then(|| float(function, limit));
        Some((limit_of??, inner))
    };
    let (high, inner) = bound(value, BinaryOp::Min)?;
    let (low, _) = bound(inner, BinaryOp::Max)?;
    (low <= high).then_some((low, high))
}

/// Whether a value is a NaN where another is: sums, differences and products keep one.
fn nan_follows(function: &ScalarFn, value: Value, other: Value) -> bool {
    let mut follows = vec![false; value.index().max(other.index()) + 1];
    follows[other.index()] = true;
    for number in other.0 + 1..=value.0 {
        if let Some(&Inst::Binary(BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul, a, b)) = function.inst(Value(number)) {
            follows[number as usize] = follows[a.index()] || follows[b.index()];
        }
    }
    follows[value.index()]
}

fn float(function: &ScalarFn, value: Value) -> Option<f32> {
    match *function.inst(value)? {
        Inst::Const(DType::F32, bits) => Some(f32::from_bits(bits as u32)),
        _ => None,
    }
}

fn word(function: &ScalarFn, value: Value) -> Option<u32> {
    match *function.inst(value)? {
        Inst::Const(DType::U32, bits) => Some(bits as u32),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use loom_ir::kernel::scalar::{ScalarFnBuilder, UnaryOp};
    use loom_ir::numerics::library;

    use super::*;

    fn found(function: &ScalarFn) -> Vec<(Value, Value)> {
        (0..function.insts.len()).filter_map(|number| scaled(function, number)).collect()
    }

    /// `(1 + r) · 2^n` as the library writes it, between these bounds and with this constant.
    fn power(low: f32, high: f32, c: f32, one: f32) -> ScalarFn {
        let mut b = ScalarFnBuilder::new();
        let x = b.param(DType::F32);
        let (low, high, c, one, k) = (b.f32(low), b.f32(high), b.f32(c), b.f32(one), b.f32(1.5));
        let under = b.compare(CompareOp::Lt, x, low);
        let x = b.select(under, low, x);
        let over = b.compare(CompareOp::Gt, x, high);
        let x = b.select(over, high, x);
        let product = b.mul(x, k);
        let shifted = b.add(product, c);
        let n = b.sub(shifted, c);
        let r = b.sub(product, n);
        let m = b.add(one, r);
        let bits = b.bitcast(DType::U32, shifted);
        let (by_one, by_23) = (b.u32(1), b.u32(23));
        let half = b.binary(BinaryOp::Shr, bits, by_one);
        let rest = b.binary(BinaryOp::Sub, bits, half);
        let powers = [half, rest].map(|exponent| {
            let bits = b.binary(BinaryOp::Shl, exponent, by_23);
            b.bitcast(DType::F32, bits)
        });
        let result = b.mul(m, powers[0]);
        let result = b.mul(result, powers[1]);
        b.finish(result)
    }

    #[test]
    fn an_exponential_scales_once() {
        let exp = library::definition(UnaryOp::Exp, DType::F32).unwrap();
        let scaled = found(exp);
        assert_eq!(scaled.len(), 1);
        let difference = exp.inst(scaled[0].1);
        assert!(matches!(difference, Some(Inst::Binary(BinaryOp::Sub, ..))), "{difference:?}");
    }

    #[test]
    fn what_may_differ_is_left_alone() {
        let c = 12_582_912.0 + 254.0;
        assert_eq!(found(&power(-100.0, 80.0, c, 1.0)).len(), 1);
        // A factor that is no normal number; a constant that isn't the exponents' bias; sums that may be tiny; too large.
        for other in [
            power(-300.0, 80.0, c, 1.0),
            power(-100.0, 200.0, c, 1.0),
            power(-100.0, 80.0, c + 1.0, 1.0),
            power(-100.0, 80.0, c, 0.0),
            power(f32::NEG_INFINITY, 80.0, c, 1.0),
            power(-100.0, f32::INFINITY, c, 1.0),
            power(80.0, -100.0, c, 1.0),
        ] {
            assert_eq!(found(&other), [], "{other:?}");
        }
    }

    #[test]
    fn extrema_leave_the_second_operand() {
        let mut b = ScalarFnBuilder::new();
        let (x, y) = (b.param(DType::F32), b.param(DType::F32));
        let conditions = [CompareOp::Lt, CompareOp::Gt, CompareOp::Le, CompareOp::Ne].map(|op| b.compare(op, x, y));
        let used = conditions[1..].iter().fold(conditions[0], |all, &other| b.binary(BinaryOp::Xor, all, other));
        let function = b.finish(used);
        let found = |a, b| conditions.map(|condition| extremum(&function, condition, a, b));
        assert_eq!(found(x, y), [Some(BinaryOp::Min), Some(BinaryOp::Max), None, None]);
        assert_eq!(found(y, x), [Some(BinaryOp::Max), Some(BinaryOp::Min), None, None]);
        assert_eq!(found(x, x), [None; 4]);
    }
}
