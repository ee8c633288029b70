//! The exact operations as programs over primitive instructions, for devices whose own instructions aren't trusted, and
//! the pass that puts them (and the library's definitions) in place.
//!
//! A device's `/` or `sqrt` may be a unit or two off; its add, sub, mul, comparisons, selects, integer operations and
//! in-range conversions are exact, or it isn't used. The programs here give the same bits as the interpreter's
//! instructions, NaN payloads aside.

mod division;
mod quick;
mod root;
mod rounding;

use std::sync::LazyLock;

use crate::kernel::scalar::{BinaryOp, CompareOp, Inst, ScalarFn, ScalarFnBuilder, UnaryOp, Value};
use crate::numerics::library;
use crate::types::DType;

/// The correctly rounded quotient of two floats.
pub fn div() -> &'static ScalarFn {
    static FUNCTION: LazyLock<ScalarFn> = LazyLock::new(division::div);
    &FUNCTION
}

/// The quotient where both operands are ordinary numbers, in fewer instructions.
pub struct QuickDivision {
    /// Whether two operands are such.
    pub covers: ScalarFn,
    /// The correctly rounded quotient of two that are; of others, anything.
    pub div: ScalarFn,
}

/// [`div`] for ordinary numbers: for devices that can leave out what they don't need.
pub fn quick_div() -> &'static QuickDivision {
    static FUNCTIONS: LazyLock<QuickDivision> =
        LazyLock::new(|| QuickDivision { covers: quick::covers(), div: quick::div() });
    &FUNCTIONS
}

/// The correctly rounded square root.
pub fn sqrt() -> &'static ScalarFn {
    static FUNCTION: LazyLock<ScalarFn> = LazyLock::new(root::sqrt);
    &FUNCTION
}

/// [`UnaryOp::Floor`].
pub fn floor() -> &'static ScalarFn {
    static FUNCTION: LazyLock<ScalarFn> = LazyLock::new(rounding::floor);
    &FUNCTION
}

/// [`UnaryOp::Ceil`].
pub fn ceil() -> &'static ScalarFn {
    static FUNCTION: LazyLock<ScalarFn> = LazyLock::new(rounding::ceil);
    &FUNCTION
}

/// [`UnaryOp::Round`]: to nearest, ties to even.
pub fn round() -> &'static ScalarFn {
    static FUNCTION: LazyLock<ScalarFn> = LazyLock::new(rounding::round);
    &FUNCTION
}

/// [`UnaryOp::Trunc`].
pub fn trunc() -> &'static ScalarFn {
    static FUNCTION: LazyLock<ScalarFn> = LazyLock::new(rounding::trunc);
    &FUNCTION
}

/// Saturating conversion to `i32`, NaN to 0. Its own conversion instruction only meets values in range.
pub fn to_i32() -> &'static ScalarFn {
    static FUNCTION: LazyLock<ScalarFn> = LazyLock::new(rounding::to_i32);
    &FUNCTION
}

/// Saturating conversion to `u32`, NaN to 0. Its own conversion instruction only meets values in range.
pub fn to_u32() -> &'static ScalarFn {
    static FUNCTION: LazyLock<ScalarFn> = LazyLock::new(rounding::to_u32);
    &FUNCTION
}

/// `function` with every instruction that `keep` rejects replaced by its program.
///
/// `keep` is asked, with the type of the first value operand, about each instruction that isn't primitive:
/// - library operations. Their definitions' own instructions are asked about in turn;
/// - `div`, `sqrt`, `floor`, `ceil`, `round`, `trunc` of `f32`, and its conversions to integers, which saturate. The
///   programs that stand for these hold primitive instructions and conversions of values in range, and aren't expanded
///   again;
/// - `min` and `max` of any type, which become a comparison and a select.
///
/// Primitive instructions, integer `div` and `rem` stay as they are.
///
/// # Panics
/// If `function` is ill typed.
pub fn expand(function: &ScalarFn, keep: &dyn Fn(&Inst, DType) -> bool) -> ScalarFn {
    let mut b = ScalarFnBuilder::new();
    let params: Vec<Value> = function.params.iter().map(|&ty| b.param(ty)).collect();
    let result = append(&mut b, function, params, keep);
    b.finish(result)
}

/// Adds `function` applied to `args`, expanded.
fn append(
    b: &mut ScalarFnBuilder,
    function: &ScalarFn,
    args: Vec<Value>,
    keep: &dyn Fn(&Inst, DType) -> bool,
) -> Value {
    let mut values = args;
    for inst in &function.insts {
        let inst = inst.map_operands(|operand| values[operand.index()]);
        let value = replace(b, inst, keep);
        values.push(value);
    }
    values[function.result.index()]
}

/// One instruction on the builder's own values.
fn replace(b: &mut ScalarFnBuilder, inst: Inst, keep: &dyn Fn(&Inst, DType) -> bool) -> Value {
    match inst {
        Inst::Unary(op, a) => {
            let ty = b.type_of(a);
            if let Some(definition) = library::definition(op, ty) {
                if !keep(&inst, ty) {
                    return append(b, definition, vec![a], keep);
                }
            } else if let Some(program) = unary_program(op)
                && ty == DType::F32
                && !keep(&inst, ty)
            {
                return b.call(program, &[a]);
            }
        }
        Inst::Binary(op, x, y) => {
            let ty = b.type_of(x);
            if let Some(definition) = library::binary_definition(op, ty)
                && !keep(&inst, ty)
            {
                return append(b, definition, vec![x, y], keep);
            }
            match op {
                BinaryOp::Div if ty == DType::F32 && !keep(&inst, ty) => return b.call(div(), &[x, y]),
                BinaryOp::Max if !keep(&inst, ty) => {
                    let less = b.compare(CompareOp::Lt, x, y);
                    return b.select(less, y, x);
                }
                BinaryOp::Min if !keep(&inst, ty) => {
                    let less = b.compare(CompareOp::Lt, y, x);
                    return b.select(less, y, x);
                }
                _ => {}
            }
        }
        Inst::Convert(to @ (DType::I32 | DType::U32), a) if b.type_of(a) == DType::F32 && !keep(&inst, DType::F32) => {
            let program = if to == DType::I32 { to_i32() } else { to_u32() };
            return b.call(program, &[a]);
        }
        _ => {}
    }
    b.inst(inst)
}

/// The program of an exact unary operation.
fn unary_program(op: UnaryOp) -> Option<&'static ScalarFn> {
    Some(match op {
        UnaryOp::Sqrt => sqrt(),
        UnaryOp::Floor => floor(),
        UnaryOp::Ceil => ceil(),
        UnaryOp::Round => round(),
        UnaryOp::Trunc => trunc(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
