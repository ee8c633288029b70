//! Multi-head attention.

use loom_ir::graph::{Builder, ContractAxes, Graph, NodeId, Op, ReduceKind, TensorType};
use loom_ir::kernel::scalar::{BinaryOp, CompareOp, UnaryOp};
use loom_ir::kernel::states::{NEXT, POSITION};
use loom_ir::numerics::rotary::rotary;
use loom_ir::types::{DType, Shape};

use super::layers::Factors;
use super::{combine, layers};
use crate::shapes::{Attention, Quantised, ShapedKind, ShapedNetwork};

/// What a network with caches carries from run to run.
pub(super) struct Cached {
    /// How many positions of each sample the caches hold: `[batch]`, `u32`.
    position: NodeId,
    /// How many a run adds.
    step: u64,
    /// The values of the caches after the run, by name.
    next: Vec<(String, NodeId)>,
}

impl Cached {
    /// None for a network without caches.
    pub fn new(graph: &mut Graph, network: &ShapedNetwork) -> Option<Cached> {
        let cached = |kind: &ShapedKind| matches!(kind, ShapedKind::Attention(options) if options.cache.is_some());
        network.layers.iter().find(|layer| cached(&layer.kind))?;
        let ty = TensorType::new(DType::U32, [network.batch_size]);
        let position = Builder::new(graph, "").input(POSITION, ty);
        // Every cache is of the input's positions: `shapes` saw to it.
        Some(Cached { position, step: network.values[0].dims()[1], next: Vec::new() })
    }

    /// Makes what is carried outputs.
    pub fn finish(self, graph: &mut Graph) {
        let mut b = Builder::new(graph, "");
        let shape = b.graph().shape(self.position).clone();
        let step = b.splat_bits(self.step as u32, DType::U32, &shape);
        let position = b.binary(BinaryOp::Add, self.position, step);
        for (name, next) in self.next {
            graph.add_output(name + NEXT, next);
        }
        graph.add_output(format!("{POSITION}{NEXT}"), position);
    }

    /// The position in its sequence of each of the run's positions, over `shape`, whose axes `batch` and `run` are those
    /// of samples and of positions.
    fn absolute(&self, b: &mut Builder<'_>, shape: &Shape, batch: usize, run: usize) -> NodeId {
        let before = b.broadcast(self.position, shape, &[batch]);
        let index = b.indices(shape, run);
        b.binary(BinaryOp::Add, before, index)
    }

    /// The cache called `role` with the run's positions put into it: `[batch, capacity, heads, head_dim]`.
    fn extended(&mut self, b: &mut Builder<'_>, role: &str, new: NodeId, capacity: u64) -> NodeId {
        let ty = b.graph().ty(new).clone();
        let (batch, step) = (ty.shape.dims()[0], ty.shape.dims()[1]);
        let kept_shape = Shape::from([&[batch, capacity], &ty.shape.dims()[2..]].concat());
        let name = format!("{}.{role}", b.origin());
        let kept = b.input(&name, TensorType::new(ty.dtype, kept_shape.clone()));
        // Place j of the cache holds the run's position j - before; what is negative wraps to a large number.
        let places = Shape::from([batch, capacity]);
        let place = b.indices(&places, 1);
        let before = b.broadcast(self.position, &places, &[0]);
        let run = b.binary(BinaryOp::Sub, place, before);
        let steps = b.splat_bits(step as u32, DType::U32, &places);
        let is_new = b.compare(CompareOp::Lt, run, steps);
        let sample = b.indices(&places, 0);
        let first = b.binary(BinaryOp::Mul, sample, steps);
        let row = b.binary(BinaryOp::Add, first, run);
        let none = b.splat_bits(u32::MAX, DType::U32, &places);
        let row = b.select(is_new, row, none);
        let rows = b.reshape(new, [&[batch * step], &ty.shape.dims()[2..]].concat());
        let moved = b.op(Op::Gather, &[rows, row]);
        let is_new = b.broadcast(is_new, &kept_shape, &[0, 1]);
        let next = b.select(is_new, moved, kept);
        self.next.push((name, next));
        next
    }
}

/// For each head of queries, and the head of keys and values that it shares with its neighbours:
///
/// s = scale · contract(q, k), -inf where the query may not attend; e = exp(s - m') with m' = max(s), but 0 where that is
/// -inf; out = contract(e, v) / sum(e), +0 where that sum is 0. Then the heads side by side, contract(·, o_weight) + o_bias,
/// if there is an output projection.
///
/// With a cache, k and v are all that is kept and the run's positions after it.
pub(super) fn attention(
    b: &mut Builder<'_>,
    x: NodeId,
    options: &Attention,
    quantised: &Option<Quantised>,
    cached: Option<&mut Cached>,
) -> NodeId {
    let dims = b.graph().shape(x).dims().to_vec();
    let (batch, length, size) = (dims[0], dims[1], dims[2]);
    let &Attention { heads, kv_heads, head_dim, .. } = options;
    let groups = heads / kv_heads;
    let projected = |b: &mut Builder<'_>, roles: (&str, &str), count: u64| {
        let y = layers::linear(b, x, roles, [count * head_dim, size], options.bias, Factors::of_input(quantised));
        b.reshape(y, [batch, length, count, head_dim])
    };
    let q = projected(b, ("q_weight", "q_bias"), heads);
    let k = projected(b, ("k_weight", "k_bias"), kv_heads);
    let v = projected(b, ("v_weight", "v_bias"), kv_heads);
    let (q, k) = match options.rope {
        Some(base) => {
            let tables = Tables::new(b, length, options, base, cached.as_deref());
            (tables.rotated(b, q), tables.rotated(b, k))
        }
        None => (q, k),
    };
    let mut cached = cached;
    let (k, v) = match (&mut cached, options.cache) {
        (Some(cached), Some(capacity)) => {
            (cached.extended(b, "k_cache", k, capacity), cached.extended(b, "v_cache", v, capacity))
        }
        _ => (k, v),
    };
    // Neighbouring heads of queries have one head of keys and values.
    let q = b.reshape(q, [batch, length, kv_heads, groups, head_dim]);
    // Batch and heads are batch axes; queries and their groups the rows, keys the columns: [batch, kv, q, group, k].
    let axes =
        ContractAxes { lhs_batch: vec![0, 2], rhs_batch: vec![0, 2], lhs_reduced: vec![4], rhs_reduced: vec![3] };
    let products = b.op(Op::Contract(axes), &[q, k]);
    let scale = b.splat_like((1.0 / (head_dim as f64).sqrt()) as f32, products);
    let scores = b.mul(scale, products);
    let scores = match kept(b, scores, options, cached.as_deref()) {
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
    let factors = Factors::of_inner(quantised);
    layers::linear(b, y, ("o_weight", "o_bias"), [size, heads * head_dim], options.output_bias, factors)
}

/// Where query i (axis 2 of the scores) may attend to key j (axis 4); none if everywhere.
fn kept(b: &mut Builder<'_>, scores: NodeId, options: &Attention, cached: Option<&Cached>) -> Option<NodeId> {
    let shape = b.graph().shape(scores).clone();
    let positions = shape.dims()[4];
    let mut rules = Vec::new();
    let query = match cached {
        Some(cached) => cached.absolute(b, &shape, 0, 2),
        None => b.indices(&shape, 2),
    };
    let key = b.indices(&shape, 4);
    if options.causal {
        rules.push(b.compare(CompareOp::Le, key, query));
    }
    if let Some(window) = options.window.filter(|&window| window < positions) {
        let window = b.splat_bits(window as u32, DType::U32, &shape);
        // i < j + w and j < i + w: no number is ever negative.
        for (one, other) in [(query, key), (key, query)] {
            let end = b.binary(BinaryOp::Add, other, window);
            rules.push(b.compare(CompareOp::Lt, one, end));
        }
    }
    if let Some(mask) = &options.mask {
        let bits = mask.iter().map(|&kept| u32::from(kept)).collect();
        let mask = b.constant(bits, TensorType::new(DType::Bool, [positions, positions]));
        rules.push(match cached {
            Some(cached) => {
                let rows = Shape::from([shape.dims()[0], shape.dims()[2]]);
                let rows = cached.absolute(b, &rows, 0, 1);
                let mask = b.op(Op::Gather, &[mask, rows]);
                b.broadcast(mask, &shape, &[0, 2, 4])
            }
            None => b.broadcast(mask, &shape, &[2, 4]),
        });
    }
    rules.into_iter().reduce(|all, rule| b.binary(BinaryOp::And, all, rule))
}

/// Rotations by position: of a head's element i < half with element i + half, by the angle position · base^(-i / half).
struct Tables {
    /// cos, both halves alike: `[positions, head_dim]`, or `[batch, positions, head_dim]` where samples differ.
    cos: NodeId,
    /// sin, negative in the first half.
    sin: NodeId,
    /// Their axes among those of `[batch, positions, heads, head_dim]`.
    axes: &'static [usize],
}

impl Tables {
    fn new(b: &mut Builder<'_>, length: u64, options: &Attention, base: f64, cached: Option<&Cached>) -> Tables {
        let (positions, head_dim) = (options.cache.unwrap_or(length), options.head_dim);
        let half = head_dim / 2;
        let (cos, sin) = rotary(positions, half, base);
        let negative = |bits: &u32| bits ^ 0x8000_0000;
        let (mut both_cos, mut both_sin) = (Vec::new(), Vec::new());
        for (cos, sin) in cos.chunks(half as usize).zip(sin.chunks(half as usize)) {
            both_cos.extend(cos.iter().chain(cos));
            both_sin.extend(sin.iter().map(negative).chain(sin.iter().copied()));
        }
        let ty = TensorType::new(DType::F32, [positions, head_dim]);
        let (cos, sin) = (b.constant(both_cos, ty.clone()), b.constant(both_sin, ty));
        let Some(cached) = cached else { return Tables { cos, sin, axes: &[1, 3] } };
        let batch = b.graph().shape(cached.position).dims()[0];
        let rows = cached.absolute(b, &Shape::from([batch, length]), 0, 1);
        let of_run = |b: &mut Builder<'_>, table: NodeId| b.op(Op::Gather, &[table, rows]);
        Tables { cos: of_run(b, cos), sin: of_run(b, sin), axes: &[0, 1, 3] }
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
        let table = |b: &mut Builder<'_>, table: NodeId, shape: &Shape| b.broadcast(table, shape, self.axes);
        let (cos, sin) = (table(b, self.cos, &shape), table(b, self.sin, &shape));
        let straight = b.mul(x, cos);
        let across = b.mul(swapped, sin);
        b.add(straight, across)
    }
}
