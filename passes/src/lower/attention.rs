//! Multi-head attention.

use loom_ir::graph::{Builder, ContractAxes, NodeId, Op, ReduceKind, TensorType};
use loom_ir::kernel::scalar::{BinaryOp, CompareOp, UnaryOp};
use loom_ir::numerics::rotary::rotary;
use loom_ir::types::{DType, Shape};

use super::{combine, layers};
use crate::shapes::Attention;

/// For each head of queries, and the head of keys and values that it shares with its neighbours:
///
/// s = scale · contract(q, k), -inf where the query may not attend; e = exp(s - m') with m' = max(s), but 0 where that is
/// -inf; out = contract(e, v) / sum(e), +0 where that sum is 0. Then the heads side by side, contract(·, o_weight) + o_bias,
/// if there is an output projection.
pub(super) fn attention(b: &mut Builder<'_>, x: NodeId, options: &Attention) -> NodeId {
    let dims = b.graph().shape(x).dims().to_vec();
    let (batch, length, size) = (dims[0], dims[1], dims[2]);
    let &Attention { heads, kv_heads, head_dim, .. } = options;
    let groups = heads / kv_heads;
    let projected = |b: &mut Builder<'_>, roles: (&str, &str), count: u64| {
        let y = layers::linear(b, x, roles, [count * head_dim, size], options.bias);
        b.reshape(y, [batch, length, count, head_dim])
    };
    let q = projected(b, ("q_weight", "q_bias"), heads);
    let k = projected(b, ("k_weight", "k_bias"), kv_heads);
    let v = projected(b, ("v_weight", "v_bias"), kv_heads);
    let (q, k) = match options.rope {
        Some(base) => {
            let tables = Tables::new(b, length, head_dim, base);
            (tables.rotated(b, q), tables.rotated(b, k))
        }
        None => (q, k),
    };
    // Neighbouring heads of queries have one head of keys and values.
    let q = b.reshape(q, [batch, length, kv_heads, groups, head_dim]);
    // Batch and heads are batch axes; queries and their groups the rows, keys the columns: [batch, kv, q, group, k].
    let axes =
        ContractAxes { lhs_batch: vec![0, 2], rhs_batch: vec![0, 2], lhs_reduced: vec![4], rhs_reduced: vec![3] };
    let products = b.op(Op::Contract(axes), &[q, k]);
    let scale = b.splat_like((1.0 / (head_dim as f64).sqrt()) as f32, products);
    let scores = b.mul(scale, products);
    let scores = match kept(b, scores, length, options) {
        Some(kept) => {
            let lowest = b.splat_like(f32::NEG_INFINITY, scores);
            b.select(kept, scores, lowest)
        }
        None => scores,
    };
    let max = b.reduce(ReduceKind::Max, scores, &[4]);
    let lowest = b.splat_like(f32::NEG_INFINITY, max);
    let nothing = b.compare(CompareOp::Eq, max, lowest);
    let zero = b.splat_like(0.0, max);
    let max = b.select(nothing, zero, max);
    let max = b.spread(max, scores, &[4]);
    let shifted = b.sub(scores, max);
    let e = b.unary(UnaryOp::Exp, shifted);
    let sum = b.reduce(ReduceKind::Sum, e, &[4]);
    // [batch, kv, q, group, head_dim]
    let axes =
        ContractAxes { lhs_batch: vec![0, 1], rhs_batch: vec![0, 2], lhs_reduced: vec![4], rhs_reduced: vec![1] };
    let mixed = b.op(Op::Contract(axes), &[e, v]);
    let sum = b.spread(sum, mixed, &[4]);
    let quotient = b.div(mixed, sum);
    let zero = b.splat_like(0.0, quotient);
    let empty = b.compare(CompareOp::Eq, sum, zero);
    let y = b.select(empty, zero, quotient);
    let y = b.op(Op::Transpose(vec![0, 2, 1, 3, 4]), &[y]);
    let y = b.reshape(y, [batch, length, heads * head_dim]);
    if !options.output_projection {
        return y;
    }
    layers::linear(b, y, ("o_weight", "o_bias"), [size, heads * head_dim], options.output_bias)
}

/// Where query i (axis 2 of the scores) may attend to key j (axis 4); none if everywhere.
fn kept(b: &mut Builder<'_>, scores: NodeId, length: u64, options: &Attention) -> Option<NodeId> {
    let shape = b.graph().shape(scores).clone();
    let mut rules = Vec::new();
    let (query, key) = (b.indices(&shape, 2), b.indices(&shape, 4));
    if options.causal {
        rules.push(b.compare(CompareOp::Le, key, query));
    }
    if let Some(window) = options.window.filter(|&window| window < length) {
        let window = b.splat_bits(window as u32, DType::U32, &shape);
        // i < j + w and j < i + w: no number is ever negative.
        for (one, other) in [(query, key), (key, query)] {
            let end = b.binary(BinaryOp::Add, other, window);
            rules.push(b.compare(CompareOp::Lt, one, end));
        }
    }
    if let Some(mask) = &options.mask {
        let bits = mask.iter().map(|&kept| u32::from(kept)).collect();
        let mask = b.constant(bits, TensorType::new(DType::Bool, [length, length]));
        rules.push(b.broadcast(mask, &shape, &[2, 4]));
    }
    rules.into_iter().reduce(|all, rule| b.binary(BinaryOp::And, all, rule))
}

/// Rotations by position: of a head's element i < half with element i + half, by the angle position · base^(-i / half).
struct Tables {
    /// cos, both halves alike: `[positions, head_dim]`.
    cos: NodeId,
    /// sin, negative in the first half.
    sin: NodeId,
}

impl Tables {
    fn new(b: &mut Builder<'_>, length: u64, head_dim: u64, base: f64) -> Tables {
        let half = head_dim / 2;
        let (cos, sin) = rotary(length, half, base);
        let negative = |bits: &u32| bits ^ 0x8000_0000;
        let (mut both_cos, mut both_sin) = (Vec::new(), Vec::new());
        for (cos, sin) in cos.chunks(half as usize).zip(sin.chunks(half as usize)) {
            both_cos.extend(cos.iter().chain(cos));
            both_sin.extend(sin.iter().map(negative).chain(sin.iter().copied()));
        }
        let ty = TensorType::new(DType::F32, [length, head_dim]);
        Tables { cos: b.constant(both_cos, ty.clone()), sin: b.constant(both_sin, ty) }
    }

    /// x · cos + swapped(x) · sin, swapped(x) being x with its halves exchanged.
    fn rotated(&self, b: &mut Builder<'_>, x: NodeId) -> NodeId {
        let shape = b.graph().shape(x).clone();
        let half = shape.dims()[3] / 2;
        let part = |b: &mut Builder<'_>, start: u64| {
            let mut ends = shape.dims().to_vec();
            ends[3] = start + half;
            b.op(Op::Slice { starts: vec![0, 0, 0, start], ends, steps: vec![1; 4] }, &[x])
        };
        let parts = [part(b, half), part(b, 0)];
        let swapped = combine::concat(b, &parts, 3);
        let table = |b: &mut Builder<'_>, table: NodeId, shape: &Shape| b.broadcast(table, shape, &[1, 3]);
        let (cos, sin) = (table(b, self.cos, &shape), table(b, self.sin, &shape));
        let straight = b.mul(x, cos);
        let across = b.mul(swapped, sin);
        b.add(straight, across)
    }
}
