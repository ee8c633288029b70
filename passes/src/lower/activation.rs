//! Activations. Constants are the nearest `f32` to the stated value.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

use loom_ir::config::{Activation, GeluApproximation};
use loom_ir::graph::{Builder, NodeId};
use loom_ir::kernel::scalar::{BinaryOp, CompareOp, UnaryOp};

use super::layers;

/// `alpha` and `scale` of selu (Klambauer et al., arXiv:1706.02515).
const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;
const SELU_SCALE: f64 = 1.050_700_987_355_480_5;
/// The cubic term of gelu's tanh form (Hendrycks and Gimpel, arXiv:1606.08415).
const GELU_CUBIC: f64 = 0.044_715;

/// Applies an activation; softmax runs along `axis`.
pub(super) fn apply(b: &mut Builder<'_>, activation: Activation, x: NodeId, axis: usize) -> NodeId {
    match activation {
        Activation::Linear => x,
        // max(x, +0)
        Activation::Relu => {
            let zero = b.splat_like(0.0, x);
            b.binary(BinaryOp::Max, x, zero)
        }
        Activation::Sigmoid => b.unary(UnaryOp::Sigmoid, x),
        Activation::Tanh => b.unary(UnaryOp::Tanh, x),
        Activation::Softmax => layers::softmax(b, x, axis, 1.0),
        // (0.5 x) (1 + erf(x · 1/√2))
        Activation::Gelu { approximate: GeluApproximation::None } => {
            let scale = b.splat_like(FRAC_1_SQRT_2 as f32, x);
            let scaled = b.mul(x, scale);
            let erf = b.unary(UnaryOp::Erf, scaled);
            half_times_one_plus(b, x, erf)
        }
        // (0.5 x) (1 + tanh(√(2/π) (x + 0.044715 ((x x) x))))
        Activation::Gelu { approximate: GeluApproximation::Tanh } => {
            let square = b.mul(x, x);
            let cube = b.mul(square, x);
            let cubic = b.splat_like(GELU_CUBIC as f32, x);
            let term = b.mul(cubic, cube);
            let sum = b.add(x, term);
            let scale = b.splat_like(FRAC_2_PI.sqrt() as f32, x);
            let scaled = b.mul(scale, sum);
            let tanh = b.unary(UnaryOp::Tanh, scaled);
            half_times_one_plus(b, x, tanh)
        }
        // x sigmoid(x)
        Activation::Swish => {
            let sigmoid = b.unary(UnaryOp::Sigmoid, x);
            b.mul(x, sigmoid)
        }
        // x tanh(softplus(x))
        Activation::Mish => {
            let softplus = softplus(b, x);
            let tanh = b.unary(UnaryOp::Tanh, softplus);
            b.mul(x, tanh)
        }
        // x if x >= 0, else slope x
        Activation::LeakyRelu { negative_slope } => {
            let slope = b.splat_like(negative_slope as f32, x);
            let scaled = b.mul(slope, x);
            let zero = b.splat_like(0.0, x);
            let positive = b.compare(CompareOp::Ge, x, zero);
            b.select(positive, x, scaled)
        }
        Activation::Elu { alpha } => elu(b, x, alpha),
        // scale · elu(x)
        Activation::Selu => {
            let elu = elu(b, x, SELU_ALPHA);
            let scale = b.splat_like(SELU_SCALE as f32, x);
            b.mul(scale, elu)
        }
        Activation::Softplus => softplus(b, x),
    }
}

/// (0.5 x) (1 + y)
fn half_times_one_plus(b: &mut Builder<'_>, x: NodeId, y: NodeId) -> NodeId {
    let half = b.splat_like(0.5, x);
    let half_x = b.mul(half, x);
    let one = b.splat_like(1.0, x);
    let sum = b.add(one, y);
    b.mul(half_x, sum)
}

/// x if x > 0, else alpha (e^x - 1)
fn elu(b: &mut Builder<'_>, x: NodeId, alpha: f64) -> NodeId {
    let expm1 = b.unary(UnaryOp::Expm1, x);
    let alpha = b.splat_like(alpha as f32, x);
    let scaled = b.mul(alpha, expm1);
    let zero = b.splat_like(0.0, x);
    let positive = b.compare(CompareOp::Gt, x, zero);
    b.select(positive, x, scaled)
}

/// max(x, +0) + log1p(exp(-|x|)): the textbook's ln(1 + e^x) without its overflow.
fn softplus(b: &mut Builder<'_>, x: NodeId) -> NodeId {
    let zero = b.splat_like(0.0, x);
    let positive = b.binary(BinaryOp::Max, x, zero);
    let magnitude = b.unary(UnaryOp::Abs, x);
    let negative = b.unary(UnaryOp::Neg, magnitude);
    let exp = b.unary(UnaryOp::Exp, negative);
    let log = b.unary(UnaryOp::Log1p, exp);
    b.add(positive, log)
}
