//! The functions of `f64` that layers are made of: rsqrt, exp, expm1, log, log1p, tanh, sigmoid and erf.
//!
//! They keep the rules of the other [library](super), but that they divide and take square roots: of 64 bits both are
//! correctly rounded wherever there are such numbers at all. No result is more than 2 units in the last place off, by
//! samples (`ir/src/numerics/library/double/tests.rs`; the table is in `docs/numerics.md`). What layers have no use for is
//! not defined on `f64`.

mod error_function;
mod exponential;
mod logarithm;

use std::sync::LazyLock;

use crate::kernel::scalar::{BinaryOp, CompareOp, ScalarFn, ScalarFnBuilder, UnaryOp, Value};
use crate::types::DType;

static RSQRT: LazyLock<ScalarFn> = LazyLock::new(rsqrt);
static EXP: LazyLock<ScalarFn> = LazyLock::new(exponential::exp);
static EXPM1: LazyLock<ScalarFn> = LazyLock::new(exponential::expm1);
static TANH: LazyLock<ScalarFn> = LazyLock::new(exponential::tanh);
static SIGMOID: LazyLock<ScalarFn> = LazyLock::new(exponential::sigmoid);
static LOG: LazyLock<ScalarFn> = LazyLock::new(logarithm::log);
static LOG1P: LazyLock<ScalarFn> = LazyLock::new(logarithm::log1p);
static ERF: LazyLock<ScalarFn> = LazyLock::new(error_function::erf);

/// Whether [`definition`] gives a program.
pub(super) const fn has(op: UnaryOp) -> bool {
    matches!(
        op,
        UnaryOp::Rsqrt
            | UnaryOp::Exp
            | UnaryOp::Expm1
            | UnaryOp::Tanh
            | UnaryOp::Sigmoid
            | UnaryOp::Log
            | UnaryOp::Log1p
            | UnaryOp::Erf
    )
}

/// The definition of a library operation on `f64`; `None` for the others.
pub(super) fn definition(op: UnaryOp) -> Option<&'static ScalarFn> {
    Some(match op {
        UnaryOp::Rsqrt => &RSQRT,
        UnaryOp::Exp => &EXP,
        UnaryOp::Expm1 => &EXPM1,
        UnaryOp::Tanh => &TANH,
        UnaryOp::Sigmoid => &SIGMOID,
        UnaryOp::Log => &LOG,
        UnaryOp::Log1p => &LOG1P,
        UnaryOp::Erf => &ERF,
        _ => return None,
    })
}

/// 1/sqrt(x), both steps rounded: a zero's sign stays, as `1/-0` has it.
fn rsqrt() -> ScalarFn {
    program(|b, x| {
        let root = b.unary(UnaryOp::Sqrt, x);
        let one = b.f64(1.0);
        b.div(one, root)
    })
}

/// The sign bit.
const SIGN: u64 = 1 << 63;

/// A program of one `f64`.
fn program(body: impl FnOnce(&mut ScalarFnBuilder, Value) -> Value) -> ScalarFn {
    let mut b = ScalarFnBuilder::new();
    let x = b.param(DType::F64);
    let result = body(&mut b, x);
    assert_eq!(b.type_of(result), DType::F64, "a function of f64 gives f64");
    b.finish(result)
}

/// The bits of a float.
fn bits(b: &mut ScalarFnBuilder, x: Value) -> Value {
    b.bitcast(DType::U64, x)
}

/// The float with these bits.
fn float(b: &mut ScalarFnBuilder, bits: Value) -> Value {
    b.bitcast(DType::F64, bits)
}

/// `x op constant` of `u64`s.
fn integer(b: &mut ScalarFnBuilder, op: BinaryOp, x: Value, constant: u64) -> Value {
    let constant = b.u64(constant);
    b.binary(op, x, constant)
}

/// `magnitude`, which isn't negative, with the sign of `sign`.
fn with_sign_of(b: &mut ScalarFnBuilder, magnitude: Value, sign: Value) -> Value {
    let sign = bits(b, sign);
    let sign = integer(b, BinaryOp::And, sign, SIGN);
    let magnitude = bits(b, magnitude);
    let joined = b.binary(BinaryOp::Or, magnitude, sign);
    float(b, joined)
}

/// `x op constant` as a bool.
fn test(b: &mut ScalarFnBuilder, op: CompareOp, x: Value, constant: f64) -> Value {
    let constant = b.f64(constant);
    b.compare(op, x, constant)
}

/// `if x > limit { limit } else { x }`: keeps a NaN.
fn at_most(b: &mut ScalarFnBuilder, x: Value, limit: f64) -> Value {
    let over = test(b, CompareOp::Gt, x, limit);
    let limit = b.f64(limit);
    b.select(over, limit, x)
}

/// `if x < limit { limit } else { x }`: keeps a NaN.
fn at_least(b: &mut ScalarFnBuilder, x: Value, limit: f64) -> Value {
    let under = test(b, CompareOp::Lt, x, limit);
    let limit = b.f64(limit);
    b.select(under, limit, x)
}

/// `x * constant`.
fn scale(b: &mut ScalarFnBuilder, x: Value, constant: f64) -> Value {
    let constant = b.f64(constant);
    b.mul(x, constant)
}

/// `c[0] + x*(c[1] + x*(c[2] + ...))`, innermost first.
fn horner(b: &mut ScalarFnBuilder, x: Value, coefficients: &[f64]) -> Value {
    let (&last, rest) = coefficients.split_last().expect("a polynomial has a coefficient");
    let mut sum = b.f64(last);
    for &coefficient in rest.iter().rev() {
        let product = b.mul(sum, x);
        let coefficient = b.f64(coefficient);
        sum = b.add(product, coefficient);
    }
    sum
}

/// A number as a rounded one, and what that lacks.
struct Pair {
    head: Value,
    tail: Value,
}

/// The quotient with little more error than its two roundings: the first one's is not mended, what the tails ask is.
fn quotient(b: &mut ScalarFnBuilder, n: &Pair, d: &Pair) -> Value {
    let q = b.div(n.head, d.head);
    let product = b.mul(q, d.tail);
    let missing = b.sub(n.tail, product);
    let correction = b.div(missing, d.head);
    b.add(q, correction)
}

#[cfg(test)]
mod tests;
