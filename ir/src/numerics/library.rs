//! The scalar math library: straight-line programs, one a function.
//!
//! Each function is written once, over IEEE add, sub and mul (never fused), comparisons, select and integer
//! operations; [`definition`] and [`binary_definition`] give its program. What every backend computes is this program
//! and nothing else, so the bits are the same everywhere, and how good they are is measured over all 2^32 arguments
//! (`loom-ulp`; the table is in `docs/numerics.md`).
//!
//! Rules that the programs keep:
//! - any NaN in, some NaN out; no bit of a NaN's payload reaches another result;
//! - subnormal arguments and results are as good as others: a power of two is applied in steps that round once;
//! - no division: where a quotient is needed, it's formed from exact products, which also makes it better.
//!
//! Those rules are for `f32`. The functions of `f64` (in `double`) may divide and take square roots, both correctly rounded.

mod double;
mod error_function;
mod exponential;
mod logarithm;
mod narrow;
mod power;
mod quotient;
mod root;
mod trigonometric;

use std::sync::LazyLock;

use crate::kernel::scalar::{BinaryOp, ScalarFn, UnaryOp};
use crate::numerics::formats::FloatFormat;
use crate::types::DType;

static RSQRT: LazyLock<ScalarFn> = LazyLock::new(root::rsqrt);
static EXP: LazyLock<ScalarFn> = LazyLock::new(exponential::exp);
static EXP2: LazyLock<ScalarFn> = LazyLock::new(exponential::exp2);
static LOG: LazyLock<ScalarFn> = LazyLock::new(logarithm::log);
static LOG2: LazyLock<ScalarFn> = LazyLock::new(logarithm::log2);
static LOG1P: LazyLock<ScalarFn> = LazyLock::new(logarithm::log1p);
static EXPM1: LazyLock<ScalarFn> = LazyLock::new(exponential::expm1);
static TANH: LazyLock<ScalarFn> = LazyLock::new(exponential::tanh);
static SIGMOID: LazyLock<ScalarFn> = LazyLock::new(exponential::sigmoid);
static ERF: LazyLock<ScalarFn> = LazyLock::new(error_function::erf);
static SIN: LazyLock<ScalarFn> = LazyLock::new(trigonometric::sin);
static COS: LazyLock<ScalarFn> = LazyLock::new(trigonometric::cos);
static ROUND_F16: LazyLock<ScalarFn> = LazyLock::new(|| narrow::round(FloatFormat::F16));
static ROUND_BF16: LazyLock<ScalarFn> = LazyLock::new(|| narrow::round(FloatFormat::BF16));
static ROUND_F8: LazyLock<ScalarFn> = LazyLock::new(|| narrow::round(FloatFormat::F8_E4M3));
static ROUND_F4: LazyLock<ScalarFn> = LazyLock::new(|| narrow::round(FloatFormat::F4_E2M1));
static POW: LazyLock<ScalarFn> = LazyLock::new(power::pow);

/// The definition of a library operation on this type; `None` for the others.
pub fn definition(op: UnaryOp, ty: DType) -> Option<&'static ScalarFn> {
    match ty {
        DType::F32 => definition_f32(op),
        DType::F64 => double::definition(op),
        _ => None,
    }
}

/// Whether a library operation is defined on `f64`: those that layers are made of are.
pub const fn has_f64(op: UnaryOp) -> bool {
    double::has(op)
}

fn definition_f32(op: UnaryOp) -> Option<&'static ScalarFn> {
    Some(match op {
        UnaryOp::Rsqrt => &RSQRT,
        UnaryOp::Exp => &EXP,
        UnaryOp::Exp2 => &EXP2,
        UnaryOp::Log => &LOG,
        UnaryOp::Log2 => &LOG2,
        UnaryOp::Log1p => &LOG1P,
        UnaryOp::Expm1 => &EXPM1,
        UnaryOp::Tanh => &TANH,
        UnaryOp::Sigmoid => &SIGMOID,
        UnaryOp::Erf => &ERF,
        UnaryOp::Sin => &SIN,
        UnaryOp::Cos => &COS,
        UnaryOp::RoundF16 => &ROUND_F16,
        UnaryOp::RoundBf16 => &ROUND_BF16,
        UnaryOp::RoundF8 => &ROUND_F8,
        UnaryOp::RoundF4 => &ROUND_F4,
        _ => return None,
    })
}

/// The definition of a library operation of two operands of this type; `None` for the others.
pub fn binary_definition(op: BinaryOp, ty: DType) -> Option<&'static ScalarFn> {
    match (op, ty) {
        (BinaryOp::Pow, DType::F32) => Some(&POW),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
