//! Floats without a float type: every operation on `f32` as a program of 32-bit integers on the bits.
//!
//! Integers are exact on every device that has them, whatever its compiler does to floats. [`legalise`] makes a function
//! of `u32`, `i32` and `bool` out of any scalar function: each `f32` becomes the `u32` of its bits, each instruction that
//! computes with one becomes the program of its [`Operation`]. A backend that would rather have functions of its own than
//! long programs asks [`operation`] of each instruction, as `legalise` does.
//!
//! The programs are straight lines like all the others of [`crate::numerics`], correctly rounded, with subnormals kept.
//! The payload of a NaN is anything. Division and square root are not those of [`expand`](super::expand), whose float
//! approximations would be long here: they divide integers.

mod arithmetic;
mod integers;
mod relations;
mod word;

use std::fmt;
use std::sync::LazyLock;

use crate::kernel::scalar::{BinaryOp, CompareOp, Inst, ScalarFn, ScalarFnBuilder, UnaryOp, Value};
use crate::numerics::emit::{INFINITY, SIGN};
use crate::numerics::library;
use crate::numerics::order::CANONICAL_NAN as NAN;
use crate::types::DType;

/// All bits but the sign.
const MAGNITUDE: u32 = !SIGN;
/// The bits of 1.
const ONE: u32 = 0x3f80_0000;

/// An operation that takes or gives floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Of one float.
    Unary(UnaryOp),
    /// Of two floats.
    Binary(BinaryOp),
    /// A comparison of two floats.
    Compare(CompareOp),
    /// The conversion of a float to another type.
    To(DType),
    /// The conversion of another type to a float.
    From(DType),
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::Unary(op) => op.fmt(f),
            Operation::Binary(op) => op.fmt(f),
            Operation::Compare(op) => op.fmt(f),
            Operation::To(ty) => write!(f, "to_{ty}"),
            Operation::From(ty) => write!(f, "from_{ty}"),
        }
    }
}

/// The operation of an instruction whose last operand is of type `ty`; `None` for one that only moves bits (a constant,
/// a choice, a bit cast) or has no float. Not for `f64`.
pub fn operation(inst: &Inst, ty: DType) -> Option<Operation> {
    match *inst {
        Inst::Unary(op, _) if ty == DType::F32 => Some(Operation::Unary(op)),
        Inst::Binary(op, ..) if ty == DType::F32 => Some(Operation::Binary(op)),
        Inst::Compare(op, ..) if ty == DType::F32 => Some(Operation::Compare(op)),
        Inst::Convert(to, _) if ty == DType::F32 && to != DType::F32 => Some(Operation::To(to)),
        Inst::Convert(DType::F32, _) if ty != DType::F32 => Some(Operation::From(ty)),
        _ => None,
    }
}

/// What stands for a type: `u32` for `f32`.
pub const fn legal_type(ty: DType) -> DType {
    match ty {
        DType::F32 => DType::U32,
        other => other,
    }
}

/// `function` on bits: without an `f32`, and without a call.
///
/// # Panics
/// If `function` is ill typed.
pub fn legalise(function: &ScalarFn) -> ScalarFn {
    let mut b = ScalarFnBuilder::new();
    let params = function.params.iter().map(|&ty| b.param(legal_type(ty))).collect();
    let result = append(&mut b, function, params);
    b.finish(result)
}

/// Adds `function` applied to `args`, legalised.
fn append(b: &mut ScalarFnBuilder, function: &ScalarFn, args: Vec<Value>) -> Value {
    let types = match function.types() {
        Ok(types) => types,
        Err(error) => panic!("{error}"),
    };
    let mut values = args;
    for inst in &function.insts {
        let ty = inst.operands().last().map_or(DType::U32, |operand| types[operand.index()]);
        let operands = inst.operands().map(|operand| values[operand.index()]).collect();
        let value = match operation(inst, ty) {
            Some(operation) => match operation.program() {
                Some(program) => append(b, program, operands),
                None => unreachable!("`{operation}` is an operation on floats, and each has a program"),
            },
            None => match inst.map_operands(|operand| values[operand.index()]) {
                Inst::Const(ty, bits) => b.inst(Inst::Const(legal_type(ty), bits)),
                Inst::Bitcast(to, value) | Inst::Convert(to, value) if legal_type(to) == b.type_of(value) => value,
                Inst::Bitcast(to, value) => b.bitcast(legal_type(to), value),
                other => b.inst(other),
            },
        };
        values.push(value);
    }
    values[function.result.index()]
}

/// A program by the operation that it stands for, made when it's first asked for.
macro_rules! programs {
    ($($name:ident = $program:expr;)+) => {
        $(fn $name() -> &'static ScalarFn {
            static PROGRAM: LazyLock<ScalarFn> = LazyLock::new(|| $program);
            &PROGRAM
        })+
    };
}

programs! {
    neg = word::unary(DType::U32, DType::U32, |x| x ^ SIGN);
    abs = word::unary(DType::U32, DType::U32, |x| x & MAGNITUDE);
    floor = word::unary(DType::U32, DType::U32, integers::floor);
    ceil = word::unary(DType::U32, DType::U32, integers::ceil);
    round = word::unary(DType::U32, DType::U32, integers::round);
    trunc = word::unary(DType::U32, DType::U32, integers::trunc);
    sqrt = word::unary(DType::U32, DType::U32, arithmetic::sqrt);
    add = word::binary(arithmetic::add);
    mul = word::binary(arithmetic::mul);
    div = word::binary(arithmetic::div);
    equal = word::relation(relations::equal);
    less = word::relation(relations::less);
    less_or_equal = word::relation(relations::less_or_equal);
    to_i32 = word::unary(DType::U32, DType::I32, integers::to_i32);
    to_u32 = word::unary(DType::U32, DType::U32, integers::to_u32);
    from_i32 = word::unary(DType::I32, DType::U32, integers::from_i32);
    from_u32 = word::unary(DType::U32, DType::U32, integers::from_u32);
    to_bool = one(DType::U32, |b, x| {
        let magnitude = b.u32(MAGNITUDE);
        let size = b.binary(BinaryOp::And, x, magnitude);
        b.convert(DType::Bool, size)
    });
    from_bool = one(DType::Bool, |b, x| {
        let (one, zero) = (b.u32(ONE), b.u32(0));
        b.select(x, one, zero)
    });
    // Of floats: what these are made of is legalised in turn.
    sub = two(|b, x, y| {
        let negative = b.unary(UnaryOp::Neg, y);
        b.add(x, negative)
    });
    min = two(|b, x, y| {
        let less = b.compare(CompareOp::Lt, y, x);
        b.select(less, y, x)
    });
    max = two(|b, x, y| {
        let less = b.compare(CompareOp::Lt, x, y);
        b.select(less, y, x)
    });
    not_equal = two(|b, x, y| {
        let equal = b.compare(CompareOp::Eq, x, y);
        b.unary(UnaryOp::Not, equal)
    });
    greater = two(|b, x, y| b.compare(CompareOp::Lt, y, x));
    greater_or_equal = two(|b, x, y| b.compare(CompareOp::Le, y, x));
}

/// A program of one value.
fn one(ty: DType, body: impl FnOnce(&mut ScalarFnBuilder, Value) -> Value) -> ScalarFn {
    let mut b = ScalarFnBuilder::new();
    let x = b.param(ty);
    let result = body(&mut b, x);
    b.finish(result)
}

/// A program of two floats.
fn two(body: impl FnOnce(&mut ScalarFnBuilder, Value, Value) -> Value) -> ScalarFn {
    let mut b = ScalarFnBuilder::new();
    let (x, y) = (b.param(DType::F32), b.param(DType::F32));
    let result = body(&mut b, x, y);
    b.finish(result)
}

impl Operation {
    /// What the operation is: a function of integers that takes and gives the bits of floats, or one of floats whose own
    /// instructions are to be legalised, such as the definitions of the library. `None` if there's no such operation.
    pub fn program(self) -> Option<&'static ScalarFn> {
        Some(match self {
            Operation::Unary(UnaryOp::Neg) => neg(),
            Operation::Unary(UnaryOp::Abs) => abs(),
            Operation::Unary(UnaryOp::Floor) => floor(),
            Operation::Unary(UnaryOp::Ceil) => ceil(),
            Operation::Unary(UnaryOp::Round) => round(),
            Operation::Unary(UnaryOp::Trunc) => trunc(),
            Operation::Unary(UnaryOp::Sqrt) => sqrt(),
            Operation::Unary(op) => return library::definition(op, DType::F32),
            Operation::Binary(BinaryOp::Add) => add(),
            Operation::Binary(BinaryOp::Sub) => sub(),
            Operation::Binary(BinaryOp::Mul) => mul(),
            Operation::Binary(BinaryOp::Div) => div(),
            Operation::Binary(BinaryOp::Min) => min(),
            Operation::Binary(BinaryOp::Max) => max(),
            Operation::Compare(CompareOp::Eq) => equal(),
            Operation::Compare(CompareOp::Ne) => not_equal(),
            Operation::Compare(CompareOp::Lt) => less(),
            Operation::Compare(CompareOp::Le) => less_or_equal(),
            Operation::Compare(CompareOp::Gt) => greater(),
            Operation::Compare(CompareOp::Ge) => greater_or_equal(),
            Operation::To(DType::I32) => to_i32(),
            Operation::To(DType::U32) => to_u32(),
            Operation::To(DType::Bool) => to_bool(),
            Operation::From(DType::I32) => from_i32(),
            Operation::From(DType::U32) => from_u32(),
            Operation::From(DType::Bool) => from_bool(),
            Operation::Binary(op) => return library::binary_definition(op, DType::F32),
            Operation::To(_) | Operation::From(_) => return None,
        })
    }
}

#[cfg(test)]
mod tests;
