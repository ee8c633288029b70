//! The distributions of the softmax layer.

use loom_ir::eval::scalar;
use loom_ir::graph::{Builder, NodeId, ReduceKind, TensorType};
use loom_ir::kernel::scalar::{BinaryOp, CompareOp, UnaryOp};
use loom_ir::numerics::philox::Stream;
use loom_ir::types::{DType, Shape};

use super::{combine, elements, layers, sparse};
use crate::shapes::Distribution;

/// z = x / temperature, distributed along `axis`; for those distributions that need neither noise nor another shape.
pub(super) fn along(
    b: &mut Builder<'_>,
    x: NodeId,
    axis: usize,
    temperature: f64,
    distribution: &Distribution,
) -> NodeId {
    match distribution {
        Distribution::Sparsemax => {
            let z = tempered(b, x, temperature);
            sparse::sparsemax(b, z, axis)
        }
        Distribution::Entmax { alpha } => {
            let z = tempered(b, x, temperature);
            sparse::entmax(b, z, axis, *alpha)
        }
        Distribution::Masked { mask } => {
            let kept = mask.iter().map(|&kept| u32::from(kept)).collect();
            let kept = b.constant(kept, TensorType::new(DType::Bool, [mask.len() as u64]));
            let shape = b.graph().shape(x).clone();
            let kept = b.broadcast(kept, &shape, &[axis]);
            let lowest = b.splat_like(f32::NEG_INFINITY, x);
            let x = b.select(kept, x, lowest);
            layers::softmax(b, x, axis, temperature)
        }
        Distribution::Tree { levels } => {
            let z = tempered(b, x, temperature);
            tree(b, z, axis, levels)
        }
        Distribution::Adaptive { sizes } => {
            let z = tempered(b, x, temperature);
            adaptive(b, z, axis, sizes)
        }
        Distribution::Mixture { weights } => mixture(b, x, axis, temperature, weights),
        Distribution::Standard | Distribution::Gumbel => layers::softmax(b, x, axis, temperature),
    }
}

/// x / temperature; x itself where that is 1.
pub(super) fn tempered(b: &mut Builder<'_>, x: NodeId, temperature: f64) -> NodeId {
    if temperature == 1.0 {
        return x;
    }
    let temperature = b.splat_like(temperature as f32, x);
    b.div(x, temperature)
}

/// x + g, one g for each element of a sample, the same for all samples: g = -log(-log(u)) with
/// u = ((word >> 9) · 2 + 1) · 2^-24 of the stream `PATH/gumbel`.
pub(super) fn with_gumbel_noise(b: &mut Builder<'_>, x: NodeId, batch: u64, seed: u64, path: &str) -> NodeId {
    let dims = b.graph().shape(x).dims().to_vec();
    let count = dims.iter().product::<u64>() / batch;
    let log = |x: u32| scalar::unary(UnaryOp::Log, DType::F32, x);
    let negative = |x: u32| scalar::unary(UnaryOp::Neg, DType::F32, x);
    let noise = Stream::new(seed, path, "gumbel").words().take(count as usize).map(|word| {
        let uniform = (((word >> 9) * 2 + 1) as f32 * (1.0 / 16_777_216.0)).to_bits();
        negative(log(negative(log(uniform))))
    });
    let noise = b.constant(noise.collect(), TensorType::new(DType::F32, [count]));
    let samples = Shape::from([batch, count]);
    let noise = b.broadcast(noise, &samples, &[1]);
    let noise = b.reshape(noise, dims);
    b.add(x, noise)
}

fn with_extent(b: &Builder<'_>, x: NodeId, axis: usize, extents: &[u64]) -> Shape {
    let dims = b.graph().shape(x).dims();
    Shape::new([&dims[..axis], extents, &dims[axis + 1..]].concat())
}

/// p(node) = p(parent) · standard(logits of the parent's children); what comes out are the leaves. The logits of each level
/// follow those of the level above it, children of one parent together.
fn tree(b: &mut Builder<'_>, z: NodeId, axis: usize, levels: &[u64]) -> NodeId {
    let (mut start, mut parents) = (0, 1u64);
    let mut above: Option<NodeId> = None;
    for &children in levels {
        let nodes = parents * children;
        let own = elements::slice(b, z, axis, start, start + nodes);
        let grouped = with_extent(b, own, axis, &[parents, children]);
        let own = b.reshape(own, grouped.clone());
        let own = layers::softmax(b, own, axis + 1, 1.0);
        let joint = match above {
            None => own,
            Some(above) => {
                let axes: Vec<usize> = (0..grouped.rank()).filter(|&other| other != axis + 1).collect();
                let above = b.broadcast(above, &grouped, &axes);
                b.mul(above, own)
            }
        };
        let flat = with_extent(b, z, axis, &[nodes]);
        above = Some(b.reshape(joint, flat));
        start += nodes;
        parents = nodes;
    }
    let Some(leaves) = above else { unreachable!("a tree has a level") };
    leaves
}

/// Of the head's classes: standard(the head's and the clusters' logits). Of a cluster's classes: the cluster's share there,
/// times standard(its classes' logits).
fn adaptive(b: &mut Builder<'_>, z: NodeId, axis: usize, sizes: &[u64]) -> NodeId {
    let clusters = sizes.len() as u64 - 1;
    let head = elements::slice(b, z, axis, 0, sizes[0] + clusters);
    let head = layers::softmax(b, head, axis, 1.0);
    let mut parts = vec![elements::slice(b, head, axis, 0, sizes[0])];
    let mut start = sizes[0] + clusters;
    for (index, &size) in sizes[1..].iter().enumerate() {
        let own = elements::slice(b, z, axis, start, start + size);
        let own = layers::softmax(b, own, axis, 1.0);
        let place = sizes[0] + index as u64;
        let share = elements::slice(b, head, axis, place, place + 1);
        let shape = b.graph().shape(own).clone();
        let share = b.broadcast(share, &shape, &(0..shape.rank()).collect::<Vec<_>>());
        parts.push(b.mul(share, own));
        start += size;
    }
    combine::concat(b, &parts, axis)
}

/// Σ w · standard(part) over the parts, w = weight / Σ weights.
fn mixture(b: &mut Builder<'_>, x: NodeId, axis: usize, temperature: f64, weights: &[f64]) -> NodeId {
    let parts = weights.len() as u64;
    let size = b.graph().shape(x).dims()[axis] / parts;
    let split = with_extent(b, x, axis, &[parts, size]);
    let x = b.reshape(x, split.clone());
    let each = layers::softmax(b, x, axis + 1, temperature);
    let total: f64 = weights.iter().sum();
    let shares = weights.iter().map(|weight| ((weight / total) as f32).to_bits()).collect();
    let shares = b.constant(shares, TensorType::new(DType::F32, [parts]));
    let shares = b.broadcast(shares, &split, &[axis]);
    let terms = b.mul(shares, each);
    b.reduce(ReduceKind::Sum, terms, &[axis])
}

/// Every element along an axis beside every other one: `own` varies along `axis`, `other` along the axis after it.
pub(super) struct Pairs {
    pub own: NodeId,
    pub other: NodeId,
    axis: usize,
}

impl Pairs {
    pub fn of(b: &mut Builder<'_>, z: NodeId, axis: usize) -> Pairs {
        let dims = b.graph().shape(z).dims().to_vec();
        let shape = Shape::new([&dims[..=axis], &dims[axis..]].concat());
        let without = |left_out: usize| (0..shape.rank()).filter(move |&other| other != left_out).collect::<Vec<_>>();
        let own = b.broadcast(z, &shape, &without(axis + 1));
        let other = b.broadcast(z, &shape, &without(axis));
        Pairs { own, other, axis }
    }

    /// Whether the other comes before in descending order, equal ones in the order of their indices.
    pub fn precedes(&self, b: &mut Builder<'_>) -> NodeId {
        let shape = b.graph().shape(self.own).clone();
        let greater = b.compare(CompareOp::Gt, self.other, self.own);
        let equal = b.compare(CompareOp::Eq, self.other, self.own);
        let other = b.indices(&shape, self.axis + 1);
        let own = b.indices(&shape, self.axis);
        let earlier = b.compare(CompareOp::Lt, other, own);
        let tied = b.binary(BinaryOp::And, equal, earlier);
        b.binary(BinaryOp::Or, greater, tied)
    }

    /// The sum over the others for which `counts` holds, for each element.
    pub fn sum_where(&self, b: &mut Builder<'_>, counts: NodeId, terms: NodeId) -> NodeId {
        let zero = b.splat_like(0.0, terms);
        let terms = b.select(counts, terms, zero);
        b.reduce(ReduceKind::Sum, terms, &[self.axis + 1])
    }
}
