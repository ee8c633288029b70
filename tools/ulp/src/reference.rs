//! Correctly rounded results.

use loom_ir::kernel::scalar::UnaryOp;
use loom_ir::numerics::formats::FloatFormat;

/// The correctly rounded result of a library operation.
///
/// core-math has no logistic function: its value comes from the correctly rounded `f64` exponential, about 2^-52 off, and
/// is taken for correctly rounded. (A result so close to a midpoint that this matters would be 2^-28 of a unit from it.)
pub fn rounded(op: UnaryOp, x: f32) -> f32 {
    match op {
        UnaryOp::Rsqrt => core_math::rsqrtf(x),
        UnaryOp::Exp => core_math::expf(x),
        UnaryOp::Exp2 => core_math::exp2f(x),
        UnaryOp::Log => core_math::logf(x),
        UnaryOp::Log2 => core_math::log2f(x),
        UnaryOp::Log1p => core_math::log1pf(x),
        UnaryOp::Expm1 => core_math::expm1f(x),
        UnaryOp::Tanh => core_math::tanhf(x),
        UnaryOp::Erf => core_math::erff(x),
        UnaryOp::Sin => core_math::sinf(x),
        UnaryOp::Cos => core_math::cosf(x),
        UnaryOp::Sigmoid => exact(op, x) as f32,
        UnaryOp::RoundF16 | UnaryOp::RoundBf16 | UnaryOp::RoundF8 | UnaryOp::RoundF4 => stored(op, x),
        _ => unreachable!("not a library operation"),
    }
}

/// The result to `f64` precision.
pub fn exact(op: UnaryOp, x: f32) -> f64 {
    let x = f64::from(x);
    match op {
        UnaryOp::Rsqrt => core_math::rsqrt(x),
        UnaryOp::Exp => core_math::exp(x),
        UnaryOp::Exp2 => core_math::exp2(x),
        UnaryOp::Log => core_math::log(x),
        UnaryOp::Log2 => core_math::log2(x),
        UnaryOp::Log1p => core_math::log1p(x),
        UnaryOp::Expm1 => core_math::expm1(x),
        UnaryOp::Tanh => core_math::tanh(x),
        UnaryOp::Erf => core_math::erf(x),
        UnaryOp::Sin => core_math::sin(x),
        UnaryOp::Cos => core_math::cos(x),
        UnaryOp::Sigmoid if x < 0.0 => {
            let e = core_math::exp(x);
            e / (1.0 + e)
        }
        UnaryOp::Sigmoid => 1.0 / (1.0 + core_math::exp(-x)),
        // The result is defined as a number of the format; there is nothing more exact.
        UnaryOp::RoundF16 | UnaryOp::RoundBf16 | UnaryOp::RoundF8 | UnaryOp::RoundF4 => stored(op, x as f32).into(),
        _ => unreachable!("not a library operation"),
    }
}

/// Narrowed to a format and widened again.
fn stored(op: UnaryOp, x: f32) -> f32 {
    let format = match op {
        UnaryOp::RoundF16 => FloatFormat::F16,
        UnaryOp::RoundBf16 => FloatFormat::BF16,
        UnaryOp::RoundF8 => FloatFormat::F8_E4M3,
        UnaryOp::RoundF4 => FloatFormat::F4_E2M1,
        _ => unreachable!("not a narrowing"),
    };
    format.widen(format.narrow(x.into())) as f32
}
