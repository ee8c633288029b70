//! Distributions that give some elements exactly 0: sparsemax (Martins and Astudillo, arXiv:1602.02068) and entmax (Peters,
//! Niculae and Martins, arXiv:1905.05702).
//!
//! The published algorithms sort. Here each element is compared with all others, so that sums run over the axis in its own
//! order (LN1's), whatever the values; fusion keeps the pairs out of memory.

use loom_ir::graph::{Builder, NodeId, ReduceKind};
use loom_ir::kernel::scalar::{BinaryOp, CompareOp, UnaryOp};
use loom_ir::types::Shape;

use super::softmax::Pairs;

/// How often the interval of the threshold is halved: 24 halvings of less than 1 reach 2^-24.
const BISECTIONS: u32 = 24;

/// z - m', m' the maximum, but 0 where that is -inf.
fn shifted(b: &mut Builder<'_>, z: NodeId, axis: usize) -> NodeId {
    let max = b.reduce(ReduceKind::Max, z, &[axis]);
    let lowest = b.splat_like(f32::NEG_INFINITY, max);
    let nothing = b.compare(CompareOp::Eq, max, lowest);
    let zero = b.splat_like(0.0, max);
    let max = b.select(nothing, zero, max);
    let max = b.spread(max, z, &[axis]);
    b.sub(z, max)
}

/// a / n, and 0 where n is 0: no element belongs to the support where all are -inf or one is NaN.
fn over_count(b: &mut Builder<'_>, a: NodeId, count: NodeId) -> NodeId {
    let quotient = b.div(a, count);
    let zero = b.splat_like(0.0, quotient);
    let empty = b.compare(CompareOp::Eq, count, zero);
    b.select(empty, zero, quotient)
}

/// Σ terms over the elements for which `support` holds.
fn sum_over(b: &mut Builder<'_>, support: NodeId, terms: NodeId, axis: usize) -> NodeId {
    let zero = b.splat_like(0.0, terms);
    let terms = b.select(support, terms, zero);
    b.reduce(ReduceKind::Sum, terms, &[axis])
}

/// max(z - tau, +0), tau the same along the axis.
fn above(b: &mut Builder<'_>, z: NodeId, tau: NodeId, axis: usize) -> NodeId {
    let tau = b.spread(tau, z, &[axis]);
    let rest = b.sub(z, tau);
    let zero = b.splat_like(0.0, z);
    b.binary(BinaryOp::Max, rest, zero)
}

/// Which others are at least as great as each element, and the pairs of v. z is compared, not v, which is z moved and
/// scaled: one comparison is computed again wherever it's needed, so that the pairs never lie in memory. Where v has ties
/// that z hasn't, no formula below can tell.
fn at_least(b: &mut Builder<'_>, z: NodeId, v: NodeId, axis: usize) -> (NodeId, Pairs) {
    let raw = Pairs::of(b, z, axis);
    let counts = b.compare(CompareOp::Ge, raw.other, raw.own);
    (counts, Pairs::of(b, v, axis))
}

/// With v = z - m', and for each element the number k and the sum s of those that are at least as great: the support is
/// where 1 + k · v > s; tau = (Σ v - 1) / n over its n elements; y = max(v - tau, +0).
pub(super) fn sparsemax(b: &mut Builder<'_>, z: NodeId, axis: usize) -> NodeId {
    let v = shifted(b, z, axis);
    let (counts, pairs) = at_least(b, z, v, axis);
    let ones = b.splat_like(1.0, pairs.own);
    let k = pairs.sum_where(b, counts, ones);
    let s = pairs.sum_where(b, counts, pairs.other);
    let product = b.mul(k, v);
    let one = b.splat_like(1.0, v);
    let bound = b.add(one, product);
    let support = b.compare(CompareOp::Gt, bound, s);
    let n = sum_over(b, support, one, axis);
    let sum = sum_over(b, support, v, axis);
    let one = b.splat_like(1.0, sum);
    let excess = b.sub(sum, one);
    let tau = over_count(b, excess, n);
    above(b, v, tau, axis)
}

pub(super) fn entmax(b: &mut Builder<'_>, z: NodeId, axis: usize, alpha: f64) -> NodeId {
    if alpha == 1.5 { entmax_15(b, z, axis) } else { bisected(b, z, axis, alpha) }
}

/// With v = (z - m') · 0.5, and for each element the number k, the sum s and the sum of squares q of those that are at
/// least as great: the support is where t(k, s, q) <= v; tau = t of the support; y = d · d with d = max(v - tau, +0).
fn entmax_15(b: &mut Builder<'_>, z: NodeId, axis: usize) -> NodeId {
    let v = shifted(b, z, axis);
    let half = b.splat_like(0.5, v);
    let v = b.mul(v, half);
    let (counts, pairs) = at_least(b, z, v, axis);
    let ones = b.splat_like(1.0, pairs.own);
    let k = pairs.sum_where(b, counts, ones);
    let s = pairs.sum_where(b, counts, pairs.other);
    let squares = b.mul(pairs.other, pairs.other);
    let q = pairs.sum_where(b, counts, squares);
    let own = threshold_15(b, k, s, q);
    let support = b.compare(CompareOp::Le, own, v);
    let one = b.splat_like(1.0, v);
    let square = b.mul(v, v);
    let n = sum_over(b, support, one, axis);
    let s = sum_over(b, support, v, axis);
    let q = sum_over(b, support, square, axis);
    let tau = threshold_15(b, n, s, q);
    let d = above(b, v, tau, axis);
    b.mul(d, d)
}

/// t(k, s, q) = mean - sqrt(max((1 - (q - s · mean)) / k, +0)) with mean = s / k.
fn threshold_15(b: &mut Builder<'_>, k: NodeId, s: NodeId, q: NodeId) -> NodeId {
    let mean = over_count(b, s, k);
    let product = b.mul(s, mean);
    let spread = b.sub(q, product);
    let one = b.splat_like(1.0, spread);
    let rest = b.sub(one, spread);
    let delta = over_count(b, rest, k);
    let zero = b.splat_like(0.0, delta);
    let delta = b.binary(BinaryOp::Max, delta, zero);
    let root = b.unary(UnaryOp::Sqrt, delta);
    b.sub(mean, root)
}

/// With v = (alpha - 1) · (z - m') and p(t) = exp(c · log(max(v - t, +0))), c = 1 / (alpha - 1): the threshold lies in
/// [-1, 0]; from tau = -1 on, for i = 1 to 24, tau becomes tau + 2^-i where Σ p(tau + 2^-i) >= 1; y = p(tau) / Σ p(tau).
fn bisected(b: &mut Builder<'_>, z: NodeId, axis: usize, alpha: f64) -> NodeId {
    let v = shifted(b, z, axis);
    let factor = b.splat_like((alpha - 1.0) as f32, v);
    let v = b.mul(factor, v);
    let power = (1.0 / (alpha - 1.0)) as f32;
    let mut row = b.graph().shape(v).dims().to_vec();
    row.remove(axis);
    let mut tau = b.splat(-1.0, &Shape::new(row));
    for step in 1..=BISECTIONS {
        let width = b.splat_like((-f64::from(step)).exp2() as f32, tau);
        let middle = b.add(tau, width);
        let p = powers(b, v, middle, power, axis);
        let sum = b.reduce(ReduceKind::Sum, p, &[axis]);
        let one = b.splat_like(1.0, sum);
        let enough = b.compare(CompareOp::Ge, sum, one);
        tau = b.select(enough, middle, tau);
    }
    let p = powers(b, v, tau, power, axis);
    let sum = b.reduce(ReduceKind::Sum, p, &[axis]);
    let sum = b.spread(sum, p, &[axis]);
    let quotient = b.div(p, sum);
    let zero = b.splat_like(0.0, p);
    let empty = b.compare(CompareOp::Eq, sum, zero);
    b.select(empty, zero, quotient)
}

/// exp(c · log(max(v - t, +0)))
fn powers(b: &mut Builder<'_>, v: NodeId, t: NodeId, power: f32, axis: usize) -> NodeId {
    let base = above(b, v, t, axis);
    let log = b.unary(UnaryOp::Log, base);
    let power = b.splat_like(power, log);
    let scaled = b.mul(power, log);
    b.unary(UnaryOp::Exp, scaled)
}
