//! Products of integers: the input's codes times the weights' codes, and what their total stands for.
//!
//! ```text
//! s = max(max|x| / 127, 2^-149)                      # of a row, or given
//! q = i32(min(max(round(x / s), -127), 127))
//! y = (f32(Σ q · w) · scale) · s                     # of groups: sum over them of f32(Σ q · w) · scale, then · s
//! ```
//!
//! A row that holds a number that isn't finite has such an s, so that all of its codes are 0 and all of its results NaN.

use loom_ir::graph::{Builder, ContractAxes, NodeId, Op, ReduceKind};
use loom_ir::kernel::scalar::{BinaryOp, UnaryOp};
use loom_ir::types::{DType, Shape};

use crate::shapes::{Quantised, groups_of};

/// The greatest code of an input.
const GREATEST: f32 = 127.0;

/// A tensor's codes, and what each row's are multiplied by.
struct Codes {
    codes: NodeId,
    scale: Scale,
}

enum Scale {
    Given(f32),
    /// One a row: the leading axes.
    Rows(NodeId),
}

/// A value of codes and what each is multiplied by.
pub(super) struct Arriving {
    pub codes: NodeId,
    scale: f32,
}

impl Arriving {
    /// f32(codes) · scale
    pub fn meaning(&self, b: &mut Builder<'_>) -> NodeId {
        let codes = b.op(Op::Convert(DType::F32), &[self.codes]);
        let scale = b.splat_like(self.scale, codes);
        b.mul(codes, scale)
    }
}

/// x as codes of a scale, and what these stand for.
pub(super) fn quantise(b: &mut Builder<'_>, x: NodeId, scale: f32) -> NodeId {
    let codes = codes(b, x, 0, Some(scale)).codes;
    Arriving { codes, scale }.meaning(b)
}

/// The codes of a value that is what [`Arriving::meaning`] gives, or has the same elements elsewhere. (Nothing else is an `i32`
/// times a number: totals are multiplied by the weights' scales first.)
pub(super) fn arriving(b: &mut Builder<'_>, x: NodeId) -> Option<Arriving> {
    let graph = b.graph();
    let (op, operands) = (&graph.node(x).op, graph.operands(x));
    match (op, operands.as_slice()) {
        (Op::Binary(BinaryOp::Mul), &[codes, scale]) => {
            let (Op::Broadcast { .. }, Op::Convert(DType::F32)) = (&graph.node(scale).op, &graph.node(codes).op) else {
                return None;
            };
            let Op::Constant(bits) = &graph.node(*graph.operands(scale).first()?).op else { return None };
            let (&[bits], &[codes]) = (&**bits, graph.operands(codes).as_slice()) else { return None };
            (graph.node(codes).ty.dtype == DType::I32).then_some(Arriving { codes, scale: f32::from_bits(bits) })
        }
        (Op::Reshape(_) | Op::Transpose(_) | Op::Slice { .. } | Op::Broadcast { .. }, &[operand]) => {
            let op = op.clone();
            let mut value = arriving(b, operand)?;
            value.codes = b.op(op, &[value.codes]);
            Some(value)
        }
        _ => None,
    }
}

/// max(codes, 0): what relu gives of what they stand for.
pub(super) fn relu(b: &mut Builder<'_>, codes: NodeId) -> NodeId {
    let shape = b.graph().shape(codes).clone();
    let zero = b.splat_bits(0, DType::I32, &shape);
    b.binary(BinaryOp::Max, codes, zero)
}

/// The codes of x. Its rows are the axes from number `first` on. Codes that arrive are taken as they are, unless others are asked for.
fn codes(b: &mut Builder<'_>, x: NodeId, first: usize, given: Option<f32>) -> Codes {
    let same = |value: &Arriving| given.is_none_or(|given| given.to_bits() == value.scale.to_bits());
    if let Some(value) = arriving(b, x).filter(same) {
        return Codes { codes: value.codes, scale: Scale::Given(value.scale) };
    }
    let axes: Vec<usize> = (first..b.graph().shape(x).rank()).collect();
    let (scale, divisor) = match given {
        Some(scale) => (Scale::Given(scale), b.splat_like(scale, x)),
        None => {
            let size = b.unary(UnaryOp::Abs, x);
            let greatest = b.reduce(ReduceKind::Max, size, &axes);
            let steps = b.splat_like(GREATEST, greatest);
            let scale = b.div(greatest, steps);
            let least = b.splat_like(f32::from_bits(1), scale);
            let scale = b.binary(BinaryOp::Max, scale, least);
            (Scale::Rows(scale), b.spread(scale, x, &axes))
        }
    };
    let quotient = b.div(x, divisor);
    let nearest = b.unary(UnaryOp::Round, quotient);
    let [least, most] = [-GREATEST, GREATEST].map(|end| b.splat_like(end, nearest));
    let kept = b.binary(BinaryOp::Max, nearest, least);
    let kept = b.binary(BinaryOp::Min, kept, most);
    Codes { codes: b.op(Op::Convert(DType::I32), &[kept]), scale }
}

/// y times the scale of its rows, which are its leading axes.
fn times_scale(b: &mut Builder<'_>, y: NodeId, scale: &Scale) -> NodeId {
    let scale = match *scale {
        Scale::Given(scale) => b.splat_like(scale, y),
        Scale::Rows(scale) => {
            let (shape, rows) = (b.graph().shape(y).clone(), b.graph().shape(scale).rank());
            b.broadcast(scale, &shape, &(0..rows).collect::<Vec<_>>())
        }
    };
    b.mul(y, scale)
}

/// f32(totals) · scale, the scale that of the index on `axes`.
fn rescaled(b: &mut Builder<'_>, totals: NodeId, scale: NodeId, axes: &[usize]) -> NodeId {
    let totals = b.op(Op::Convert(DType::F32), &[totals]);
    let shape = b.graph().shape(totals).clone();
    let scale = b.broadcast(scale, &shape, axes);
    b.mul(totals, scale)
}

/// The product over the last axis of x with a weight `[outputs, inputs]`.
pub(super) fn linear(
    b: &mut Builder<'_>,
    x: NodeId,
    role: &str,
    weight: [u64; 2],
    quantised: &Quantised,
    scale: Option<f32>,
) -> NodeId {
    let last = b.graph().shape(x).rank() - 1;
    let x = codes(b, x, last, scale);
    let [outputs, inputs] = weight;
    let (groups, size) = groups_of(inputs, quantised.group_size);
    let y = if groups == 1 {
        let [weight, scale] = b.codes(role, weight, quantised.format, [outputs]);
        let axes = ContractAxes {
            lhs_batch: Vec::new(),
            rhs_batch: Vec::new(),
            lhs_reduced: vec![last],
            rhs_reduced: vec![1],
        };
        let totals = b.op(Op::Contract(axes), &[x.codes, weight]);
        rescaled(b, totals, scale, &[last])
    } else {
        let [weight, scale] = b.codes(role, weight, quantised.format, [outputs, groups]);
        let [lhs, rhs] = [x.codes, weight].map(|codes| grouped(b, codes, groups, size));
        // Groups are the first axis of the totals.
        let axes = ContractAxes {
            lhs_batch: vec![last],
            rhs_batch: vec![1],
            lhs_reduced: vec![last + 1],
            rhs_reduced: vec![2],
        };
        let totals = b.op(Op::Contract(axes), &[lhs, rhs]);
        let scale = b.op(Op::Transpose(vec![1, 0]), &[scale]);
        let parts = rescaled(b, totals, scale, &[0, last + 1]);
        b.reduce(ReduceKind::Sum, parts, &[0])
    };
    times_scale(b, y, &x.scale)
}

/// The last axis as groups of a size, the last one filled up with zeros.
fn grouped(b: &mut Builder<'_>, codes: NodeId, groups: u64, size: u64) -> NodeId {
    let mut dims = b.graph().shape(codes).dims().to_vec();
    let (rank, length) = (dims.len(), dims.pop().unwrap_or(1));
    let codes = if length == groups * size {
        codes
    } else {
        let mut high = vec![0; rank];
        high[rank - 1] = groups * size - length;
        b.op(Op::Pad { low: vec![0; rank], high, value: 0 }, &[codes])
    };
    dims.extend([groups, size]);
    b.reshape(codes, dims)
}

/// What a convolution multiplies and what gives its totals their meaning.
pub(super) struct Convolution {
    /// The input's codes.
    pub input: NodeId,
    /// The weight's codes.
    pub weight: NodeId,
    weight_scale: NodeId,
    input_scale: Scale,
}

/// The codes of a convolution's operands: x has a row for each sample, the weight a scale for each filter.
pub(super) fn convolution(b: &mut Builder<'_>, x: NodeId, weight: Vec<u64>, quantised: &Quantised) -> Convolution {
    let filters = Shape::from([weight[0]]);
    let x = codes(b, x, 1, quantised.input_scale);
    let [weight, weight_scale] = b.codes("weight", weight, quantised.format, filters);
    Convolution { input: x.codes, weight, weight_scale, input_scale: x.scale }
}

impl Convolution {
    /// What totals `[batch, filters, positions…]` stand for.
    pub fn meaning(&self, b: &mut Builder<'_>, totals: NodeId) -> NodeId {
        let y = rescaled(b, totals, self.weight_scale, &[1]);
        times_scale(b, y, &self.input_scale)
    }
}
