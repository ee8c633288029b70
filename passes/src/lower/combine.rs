//! Parallel branches: what is made of their outputs.

use loom_ir::graph::{Builder, NodeId, Op, ReduceKind};
use loom_ir::kernel::scalar::{BinaryOp, CompareOp};
use loom_ir::types::{DType, Shape};

use super::{layers, softmax};
use crate::shapes::{Combination, Distribution};

/// Logits for branches, as in [`crate::shapes::Gate`].
pub(super) struct Gate<'a> {
    pub logits: NodeId,
    pub distribution: &'a Distribution,
    pub temperature: f64,
    pub top_k: Option<u64>,
}

/// One value of several, in their order.
pub(super) fn combine(
    b: &mut Builder<'_>,
    combination: &Combination,
    branches: &[NodeId],
    gate: Option<Gate<'_>>,
) -> NodeId {
    match combination {
        Combination::Concat { axis: Some(axis) } => concat(b, branches, *axis),
        Combination::Concat { axis: None } => {
            let flat: Vec<NodeId> = branches.iter().map(|&branch| layers::flatten(b, branch)).collect();
            concat(b, &flat, 1)
        }
        Combination::Add => folded(b, branches, BinaryOp::Add),
        Combination::Multiply => folded(b, branches, BinaryOp::Mul),
        // (y0 + y1 + …) / n
        Combination::Average => {
            let sum = folded(b, branches, BinaryOp::Add);
            let count = b.splat_like(branches.len() as f32, sum);
            b.div(sum, count)
        }
        Combination::Filter { .. } => filter(b, branches, gate),
    }
}

/// ((y0 op y1) op y2) op …
fn folded(b: &mut Builder<'_>, values: &[NodeId], op: BinaryOp) -> NodeId {
    let folded = values.iter().copied().reduce(|left, right| b.binary(op, left, right));
    let Some(folded) = folded else { unreachable!("a parallel layer has a branch") };
    folded
}

/// The values one after another along `axis`: each is moved to its place by padding and taken where the index is its own.
/// What the padding holds is never taken, so nothing is added to an element.
pub(super) fn concat(b: &mut Builder<'_>, values: &[NodeId], axis: usize) -> NodeId {
    let extent = |b: &Builder<'_>, value: NodeId| b.graph().shape(value).dims()[axis];
    let total: u64 = values.iter().map(|&value| extent(b, value)).sum();
    let mut dims = b.graph().shape(values[0]).dims().to_vec();
    dims[axis] = total;
    let shape = Shape::new(dims);
    let mut end = 0;
    let mut joined = None;
    for &value in values {
        let start = end;
        end += extent(b, value);
        let (mut low, mut high) = (vec![0; shape.rank()], vec![0; shape.rank()]);
        (low[axis], high[axis]) = (start, total - end);
        let placed = b.op(Op::Pad { low, high, value: 0 }, &[value]);
        joined = Some(match joined {
            None => placed,
            Some(before) => {
                let index = b.indices(&shape, axis);
                let start = b.splat_bits(start as u32, DType::U32, &shape);
                let earlier = b.compare(CompareOp::Lt, index, start);
                b.select(earlier, before, placed)
            }
        });
    }
    let Some(joined) = joined else { unreachable!("a parallel layer has a branch") };
    joined
}

/// (w0 · y0) + (w1 · y1) + …; without a gate each weight is 1/n. A branch that is not chosen adds +0, whatever it gives.
fn filter(b: &mut Builder<'_>, branches: &[NodeId], gate: Option<Gate<'_>>) -> NodeId {
    let Some(gate) = gate else {
        let weight = (1.0 / branches.len() as f64) as f32;
        let terms: Vec<NodeId> = branches
            .iter()
            .map(|&y| {
                let weight = b.splat_like(weight, y);
                b.mul(weight, y)
            })
            .collect();
        return folded(b, &terms, BinaryOp::Add);
    };
    let axis = b.graph().shape(gate.logits).rank() - 1;
    let chosen = gate.top_k.map(|k| greatest(b, gate.logits, axis, k));
    let logits = match chosen {
        Some(chosen) => {
            let lowest = b.splat_like(f32::NEG_INFINITY, gate.logits);
            b.select(chosen, gate.logits, lowest)
        }
        None => gate.logits,
    };
    let weights = softmax::along(b, logits, axis, gate.temperature, gate.distribution);
    let terms: Vec<NodeId> = branches
        .iter()
        .enumerate()
        .map(|(index, &y)| {
            let weight = for_branch(b, weights, index as u64, y);
            let term = b.mul(weight, y);
            match chosen {
                Some(chosen) => {
                    let chosen = for_branch(b, chosen, index as u64, y);
                    let zero = b.splat_like(0.0, y);
                    b.select(chosen, term, zero)
                }
                None => term,
            }
        })
        .collect();
    folded(b, &terms, BinaryOp::Add)
}

/// Which elements along `axis` are among the `k` greatest: fewer than `k` others are greater, or equal and before them.
fn greatest(b: &mut Builder<'_>, z: NodeId, axis: usize, k: u64) -> NodeId {
    let pairs = softmax::Pairs::of(b, z, axis);
    let before = pairs.precedes(b);
    let count = b.op(Op::Convert(DType::U32), &[before]);
    let rank = b.reduce(ReduceKind::Sum, count, &[axis + 1]);
    let shape = b.graph().shape(rank).clone();
    let k = b.splat_bits(k as u32, DType::U32, &shape);
    b.compare(CompareOp::Lt, rank, k)
}

/// Element `index` of the last axis of `gates`, repeated over the rest of `y`'s axes.
fn for_branch(b: &mut Builder<'_>, gates: NodeId, index: u64, y: NodeId) -> NodeId {
    let dims = b.graph().shape(gates).dims().to_vec();
    let last = dims.len() - 1;
    let (mut starts, mut ends) = (vec![0; dims.len()], dims.clone());
    (starts[last], ends[last]) = (index, index + 1);
    let one = b.op(Op::Slice { starts, ends, steps: vec![1; dims.len()] }, &[gates]);
    let one = b.reshape(one, dims[..last].to_vec());
    let shape = b.graph().shape(y).clone();
    b.broadcast(one, &shape, &(0..last).collect::<Vec<_>>())
}
