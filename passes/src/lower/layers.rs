//! Dense layers, softmax and normalisations.

use loom_ir::graph::{Builder, ContractAxes, NodeId, Op, ReduceKind};
use loom_ir::kernel::scalar::{CompareOp, UnaryOp};
use loom_ir::numerics::quantise::Coding;
use loom_ir::types::{DType, Shape};

use super::quantised;
use crate::shapes::Quantised;

/// One axis a sample.
pub(super) fn flatten(b: &mut Builder<'_>, x: NodeId) -> NodeId {
    let dims = b.graph().shape(x).dims();
    let flat = Shape::from([dims[0], dims[1..].iter().product()]);
    b.reshape(x, flat)
}

/// contract(x, weight) + bias, over the last axis of x. The weight is `[output, input]`.
pub(super) fn dense(
    b: &mut Builder<'_>,
    x: NodeId,
    weight_shape: [u64; 2],
    bias: bool,
    factors: Factors<'_>,
) -> NodeId {
    linear(b, x, ("weight", "bias"), weight_shape, bias, factors)
}

/// What products with weights multiply.
#[derive(Debug, Clone, Copy)]
pub(super) enum Factors<'a> {
    /// The numbers themselves.
    Floats,
    /// Codes, those of the input as given, or with a scale of each row.
    Codes(&'a Quantised, Option<Coding>),
}

impl Factors<'_> {
    /// Those of a layer's input.
    pub fn of_input(quantised: &Option<Quantised>) -> Factors<'_> {
        quantised.as_ref().map_or(Factors::Floats, |quantised| Factors::Codes(quantised, quantised.input))
    }

    /// Those of what a layer's last product takes.
    pub fn of_inner(quantised: &Option<Quantised>) -> Factors<'_> {
        quantised.as_ref().map_or(Factors::Floats, |quantised| Factors::Codes(quantised, quantised.inner))
    }
}

/// The same with weights of these names.
pub(super) fn linear(
    b: &mut Builder<'_>,
    x: NodeId,
    (weight_role, bias_role): (&str, &str),
    weight_shape: [u64; 2],
    bias: bool,
    factors: Factors<'_>,
) -> NodeId {
    let y = match factors {
        Factors::Codes(quantised, coding) => {
            quantised::linear(b, x, weight_role, weight_shape, (quantised, coding), None)
        }
        Factors::Floats => {
            let weight = b.weight(weight_role, weight_shape);
            let axes = ContractAxes {
                lhs_batch: Vec::new(),
                rhs_batch: Vec::new(),
                lhs_reduced: vec![b.graph().shape(x).rank() - 1],
                rhs_reduced: vec![1],
            };
            b.op(Op::Contract(axes), &[x, weight])
        }
    };
    let last = b.graph().shape(y).rank() - 1;
    if bias { add_bias(b, y, bias_role, last) } else { y }
}

/// y + bias, the bias repeated along every axis but `axis`.
pub(super) fn add_bias(b: &mut Builder<'_>, y: NodeId, role: &str, axis: usize) -> NodeId {
    let shape = b.graph().shape(y).clone();
    let bias = b.weight(role, [shape.dims()[axis]]);
    let bias = b.broadcast(bias, &shape, &[axis]);
    b.add(y, bias)
}

/// Row id of the weight for each id of x; an id is truncated, and one that is no row gives zeros.
pub(super) fn embedding(b: &mut Builder<'_>, x: NodeId, vocab_size: u64, dim: u64) -> NodeId {
    let weight = b.weight("weight", [vocab_size, dim]);
    // By way of a signed number: a negative id is a large row, not row 0.
    let ids = b.op(Op::Convert(DType::I32), &[x]);
    let rows = b.op(Op::Convert(DType::U32), &[ids]);
    b.op(Op::Gather, &[weight, rows])
}

/// down(silu(gate(x)) · up(x)), each of the three contract(·, weight) + bias, silu(g) = g · sigmoid(g).
pub(super) fn swiglu(
    b: &mut Builder<'_>,
    x: NodeId,
    [size, between]: [u64; 2],
    bias: bool,
    quantised: &Option<Quantised>,
) -> NodeId {
    let factors = Factors::of_input(quantised);
    let gate = linear(b, x, ("gate_weight", "gate_bias"), [between, size], bias, factors);
    let up = linear(b, x, ("up_weight", "up_bias"), [between, size], bias, factors);
    let sigmoid = b.unary(UnaryOp::Sigmoid, gate);
    let silu = b.mul(gate, sigmoid);
    let product = b.mul(silu, up);
    linear(b, product, ("down_weight", "down_bias"), [size, between], bias, Factors::of_inner(quantised))
}

/// ((x - running_mean) · rsqrt(running_var + epsilon)) · gamma + beta, each a number a channel.
pub(super) fn batch_norm(b: &mut Builder<'_>, x: NodeId, epsilon: f64) -> NodeId {
    let shape = b.graph().shape(x).clone();
    let channels = Shape::from([shape.dims()[1]]);
    let channel = |b: &mut Builder<'_>, role: &str| b.weight(role, channels.clone());
    let gamma = channel(b, "gamma");
    let beta = channel(b, "beta");
    let mean = channel(b, "running_mean");
    let variance = channel(b, "running_var");
    let epsilon = b.splat_like(epsilon as f32, variance);
    let sum = b.add(variance, epsilon);
    let factor = b.unary(UnaryOp::Rsqrt, sum);
    let [gamma, beta, mean, factor] = [gamma, beta, mean, factor].map(|value| b.broadcast(value, &shape, &[1]));
    let centred = b.sub(x, mean);
    let normal = b.mul(centred, factor);
    let scaled = b.mul(normal, gamma);
    b.add(scaled, beta)
}

/// e / sum(e) with e = exp(z - m'), z = x / temperature, m' = max(z), but 0 where that is -inf; +0 where the sum is 0.
pub(super) fn softmax(b: &mut Builder<'_>, x: NodeId, axis: usize, temperature: f64) -> NodeId {
    let z = if temperature == 1.0 {
        x
    } else {
        let temperature = b.splat_like(temperature as f32, x);
        b.div(x, temperature)
    };
    let max = b.reduce(ReduceKind::Max, z, &[axis]);
    // Where everything is masked, -inf - -inf would be NaN.
    let lowest = b.splat_like(f32::NEG_INFINITY, max);
    let nothing = b.compare(CompareOp::Eq, max, lowest);
    let zero = b.splat_like(0.0, max);
    let max = b.select(nothing, zero, max);
    let max = b.spread(max, x, &[axis]);
    let shifted = b.sub(z, max);
    let e = b.unary(UnaryOp::Exp, shifted);
    let sum = b.reduce(ReduceKind::Sum, e, &[axis]);
    let sum = b.spread(sum, x, &[axis]);
    let quotient = b.div(e, sum);
    let zero = b.splat_like(0.0, x);
    let empty = b.compare(CompareOp::Eq, sum, zero);
    b.select(empty, zero, quotient)
}

/// ((x - mean) · rsqrt(var + epsilon)) · gamma + beta, over the axes from `first` on.
pub(super) fn layer_norm(b: &mut Builder<'_>, x: NodeId, first: usize, epsilon: f64) -> NodeId {
    let axes: Vec<usize> = (first..b.graph().shape(x).rank()).collect();
    let mean = mean(b, x, &axes);
    let mean = b.spread(mean, x, &axes);
    let centred = b.sub(x, mean);
    let normal = scaled_by_root(b, centred, centred, &axes, epsilon);
    let shape = b.graph().shape(x).clone();
    let sizes = Shape::new(shape.dims()[first..].to_vec());
    let gamma = b.weight("gamma", sizes.clone());
    let gamma = b.broadcast(gamma, &shape, &axes);
    let beta = b.weight("beta", sizes);
    let beta = b.broadcast(beta, &shape, &axes);
    let y = b.mul(normal, gamma);
    b.add(y, beta)
}

/// (x · rsqrt(mean(x · x) + epsilon)) · gamma, over the axes from `first` on.
pub(super) fn rms_norm(b: &mut Builder<'_>, x: NodeId, first: usize, epsilon: f64) -> NodeId {
    let axes: Vec<usize> = (first..b.graph().shape(x).rank()).collect();
    let normal = scaled_by_root(b, x, x, &axes, epsilon);
    let shape = b.graph().shape(x).clone();
    let gamma = b.weight("gamma", Shape::new(shape.dims()[first..].to_vec()));
    let gamma = b.broadcast(gamma, &shape, &axes);
    b.mul(normal, gamma)
}

/// x · rsqrt(mean(d · d) + epsilon)
fn scaled_by_root(b: &mut Builder<'_>, x: NodeId, d: NodeId, axes: &[usize], epsilon: f64) -> NodeId {
    let square = b.mul(d, d);
    let variance = mean(b, square, axes);
    let epsilon = b.splat_like(epsilon as f32, variance);
    let sum = b.add(variance, epsilon);
    let factor = b.unary(UnaryOp::Rsqrt, sum);
    let factor = b.spread(factor, x, axes);
    b.mul(x, factor)
}

/// sum(x) / N
pub(super) fn mean(b: &mut Builder<'_>, x: NodeId, axes: &[usize]) -> NodeId {
    let count: u64 = axes.iter().map(|&axis| b.graph().shape(x).dims()[axis]).product();
    let sum = b.reduce(ReduceKind::Sum, x, axes);
    let count = b.splat_like(count as f32, sum);
    b.div(sum, count)
}
