//! Soft assignment to learned centres.

use loom_ir::config::{KmeansMetric, KmeansOutput};
use loom_ir::graph::{Builder, ContractAxes, NodeId, Op, ReduceKind};
use loom_ir::kernel::scalar::{CompareOp, UnaryOp};
use loom_ir::types::Shape;

use super::layers;

/// a = standard softmax of (-distance(f, centre)) / (2 · (T · T)), over the centres; or Σ a · centre.
pub(super) fn kmeans(
    b: &mut Builder<'_>,
    features: NodeId,
    clusters: u64,
    metric: KmeansMetric,
    output: KmeansOutput,
    temperature: f64,
) -> NodeId {
    let dims = b.graph().shape(features).dims().to_vec();
    let (rows, size) = (&dims[..dims.len() - 1], dims[dims.len() - 1]);
    let centres = b.weight("cluster_centers", [clusters, size]);
    // Features and centres side by side: [rows…, clusters, size].
    let shape = Shape::new([rows, &[clusters, size]].concat());
    let last = shape.rank() - 1;
    let f = b.broadcast(features, &shape, &(0..last - 1).chain([last]).collect::<Vec<_>>());
    let c = b.broadcast(centres, &shape, &[last - 1, last]);
    let distance = distance(b, f, c, last, metric);
    let negative = b.unary(UnaryOp::Neg, distance);
    let width = b.splat_like((2.0 * temperature * temperature) as f32, negative);
    let logits = b.div(negative, width);
    let shares = layers::softmax(b, logits, last - 1, 1.0);
    match output {
        KmeansOutput::Probabilities => shares,
        KmeansOutput::Features => {
            let axes = ContractAxes {
                lhs_batch: Vec::new(),
                rhs_batch: Vec::new(),
                lhs_reduced: vec![last - 1],
                rhs_reduced: vec![0],
            };
            b.op(Op::Contract(axes), &[shares, centres])
        }
    }
}

fn distance(b: &mut Builder<'_>, f: NodeId, c: NodeId, axis: usize, metric: KmeansMetric) -> NodeId {
    let sum = |b: &mut Builder<'_>, terms: NodeId| b.reduce(ReduceKind::Sum, terms, &[axis]);
    match metric {
        KmeansMetric::SquaredEuclidean | KmeansMetric::Euclidean => {
            let d = b.sub(f, c);
            let square = b.mul(d, d);
            let sum = sum(b, square);
            if metric == KmeansMetric::Euclidean { b.unary(UnaryOp::Sqrt, sum) } else { sum }
        }
        KmeansMetric::Manhattan => {
            let d = b.sub(f, c);
            let size = b.unary(UnaryOp::Abs, d);
            sum(b, size)
        }
        // 1 - Σ f·c / (sqrt(Σ f·f) · sqrt(Σ c·c)); 1 where a length is 0.
        KmeansMetric::Cosine => {
            let [fc, ff, cc] = [(f, c), (f, f), (c, c)].map(|(left, right)| {
                let product = b.mul(left, right);
                sum(b, product)
            });
            let (f, c) = (b.unary(UnaryOp::Sqrt, ff), b.unary(UnaryOp::Sqrt, cc));
            let lengths = b.mul(f, c);
            let quotient = b.div(fc, lengths);
            let zero = b.splat_like(0.0, lengths);
            let nothing = b.compare(CompareOp::Eq, lengths, zero);
            let cosine = b.select(nothing, zero, quotient);
            let one = b.splat_like(1.0, cosine);
            b.sub(one, cosine)
        }
    }
}
