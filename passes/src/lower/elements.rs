//! Layers that only scale, choose or repeat elements.

use loom_ir::config::{NormalizeBy, Scale};
use loom_ir::graph::{Builder, NodeId, Op, ReduceKind};
use loom_ir::kernel::scalar::{BinaryOp, UnaryOp};

/// Elements `start` to `end` along `axis`.
pub(super) fn slice(b: &mut Builder<'_>, x: NodeId, axis: usize, start: u64, end: u64) -> NodeId {
    let mut ends = b.graph().shape(x).dims().to_vec();
    let mut starts = vec![0; ends.len()];
    let steps = vec![1; ends.len()];
    (starts[axis], ends[axis]) = (start, end);
    b.op(Op::Slice { starts, ends, steps }, &[x])
}

/// factor · x, + offset where there is one.
pub(super) fn scale(b: &mut Builder<'_>, x: NodeId, scale: Scale) -> NodeId {
    let factor = b.splat_like(scale.factor as f32, x);
    let y = b.mul(factor, x);
    match scale.offset {
        Some(offset) => {
            let offset = b.splat_like(offset as f32, y);
            b.add(y, offset)
        }
        None => y,
    }
}

/// x / max(n, epsilon), n = sqrt(sum(x · x)) or n = sum(|x|).
pub(super) fn normalize(b: &mut Builder<'_>, x: NodeId, axis: usize, norm: NormalizeBy, epsilon: f64) -> NodeId {
    let length = match norm {
        NormalizeBy::L2 => {
            let square = b.mul(x, x);
            let sum = b.reduce(ReduceKind::Sum, square, &[axis]);
            b.unary(UnaryOp::Sqrt, sum)
        }
        NormalizeBy::L1 => {
            let magnitude = b.unary(UnaryOp::Abs, x);
            b.reduce(ReduceKind::Sum, magnitude, &[axis])
        }
    };
    let least = b.splat_like(epsilon as f32, length);
    let length = b.binary(BinaryOp::Max, length, least);
    let length = b.spread(length, x, &[axis]);
    b.div(x, length)
}
