//! Convolution and pooling.

use loom_ir::graph::{Builder, ContractAxes, NodeId, Op, ReduceKind, TensorType, Window};
use loom_ir::types::{DType, Shape};

use super::{layers, quantised};
use crate::shapes::{PoolKind, Quantised, SpatialWindow};

/// The windows of `[batch, channels, positions…]`: `[batch, channels, outputs…, kernel…]`. `fill` is the bits of what pads.
fn windows(b: &mut Builder<'_>, x: NodeId, window: &SpatialWindow, fill: u32) -> NodeId {
    let spatial = window.size.len();
    let op = Op::Window(Window {
        axes: (2..2 + spatial).collect(),
        size: window.size.clone(),
        stride: window.stride.clone(),
        dilation: window.dilation.clone(),
        low: window.padding.clone(),
        high: window.padding.clone(),
        fill,
    });
    b.op(op, &[x])
}

/// contract(weight, windows of x) + bias. The weight is `[filters, channels of a group, kernel…]`.
///
/// The reduced index is (position in the kernel)·C + channel (LN1 section 3). Samples (and groups) are batch axes, filters
/// the rows and output positions the columns, so the result lies as `[batch, filters, positions…]` at once.
pub(super) fn convolution(
    b: &mut Builder<'_>,
    x: NodeId,
    [filters, groups]: [u64; 2],
    window: &SpatialWindow,
    bias: bool,
    quantised: Option<&Quantised>,
) -> NodeId {
    let spatial = window.size.len();
    let dims = b.graph().shape(x).dims().to_vec();
    let (batch, channels) = (dims[0], dims[1]);
    let weight = [vec![filters, channels / groups], window.size.clone()].concat();
    let integers = quantised.map(|quantised| quantised::convolution(b, x, weight.clone(), quantised));
    let (x, weight) = match &integers {
        Some(integers) => (integers.input, integers.weight),
        None => (x, b.weight("weight", weight)),
    };
    let (fill, parts) =
        integers.as_ref().map_or((0, 1), |integers| (i32::from(integers.zero_point) as u32, integers.groups));
    let patches = windows(b, x, window, fill);
    let positions = b.graph().shape(patches).dims()[2..2 + spatial].to_vec();
    // Grouped channels get an axis of their own, as a batch axis of both operands, and so do those that share a scale.
    let (grouped, parted) = (usize::from(groups > 1), usize::from(parts > 1));
    let (weight, patches) = if grouped + parted > 0 {
        let each = channels / groups / parts;
        let [grouping, parting] = [(groups, grouped), (parts, parted)].map(|(count, axes)| vec![count; axes]);
        let split = [grouping.clone(), vec![filters / groups], parting.clone(), vec![each], window.size.clone()];
        let weight = b.reshape(weight, split.concat());
        let split = [vec![batch], grouping, parting, vec![each], positions.clone(), window.size.clone()];
        (weight, b.reshape(patches, split.concat()))
    } else {
        (weight, patches)
    };
    let weight_shape = b.graph().shape(weight).dims().to_vec();
    let repeated = Shape::new([vec![batch], weight_shape.clone()].concat());
    let weight = b.broadcast(weight, &repeated, &(1..=weight_shape.len()).collect::<Vec<_>>());
    // After the batch axes: weight [filters, (parts), channels, kernel…], patches [(parts), channels, positions…, kernel…].
    let first = 1 + grouped;
    let axes = ContractAxes {
        lhs_batch: (0..first).chain((first + 1..).take(parted)).collect(),
        rhs_batch: (0..first + parted).collect(),
        lhs_reduced: (first + parted + 2..first + parted + 2 + spatial).chain([first + parted + 1]).collect(),
        rhs_reduced: (first + parted + 1 + spatial..first + parted + 1 + 2 * spatial).chain([first + parted]).collect(),
    };
    let y = b.op(Op::Contract(axes), &[weight, patches]);
    let y = match integers {
        Some(integers) => {
            let dims = [vec![batch, groups, parts, filters / groups], positions].concat();
            let totals = b.reshape(y, dims);
            integers.meaning(b, totals, groups)
        }
        None => b.reshape(y, [vec![batch, filters], positions].concat()),
    };
    if bias { layers::add_bias(b, y, "bias", 1) } else { y }
}

/// The greatest element or the mean of each window. The mean is the sum over the window in row-major order, padding
/// included as +0, divided by the number of elements that count.
pub(super) fn pooling(b: &mut Builder<'_>, x: NodeId, kind: PoolKind, window: &SpatialWindow) -> NodeId {
    let spatial = window.size.len();
    let kernel: Vec<usize> = (2 + spatial..2 + 2 * spatial).collect();
    match kind {
        PoolKind::Max => {
            let patches = windows(b, x, window, f32::NEG_INFINITY.to_bits());
            b.reduce(ReduceKind::Max, patches, &kernel)
        }
        PoolKind::Average { count_include_pad } => {
            let extents = b.graph().shape(x).dims()[2..].to_vec();
            let patches = windows(b, x, window, 0);
            if count_include_pad {
                return layers::mean(b, patches, &kernel);
            }
            let sum = b.reduce(ReduceKind::Sum, patches, &kernel);
            let shape = b.graph().shape(sum).clone();
            let positions = shape.dims()[2..].to_vec();
            let counts = window_counts(window, &extents, &positions);
            let counts = b.constant(counts, TensorType::new(DType::F32, positions));
            let axes: Vec<usize> = (2..2 + spatial).collect();
            let counts = b.broadcast(counts, &shape, &axes);
            b.div(sum, counts)
        }
    }
}

/// Whether [`pooling`] gives of codes the codes of what it gives of what they stand for: a maximum does, where padding, which is
/// -inf there, plays no part.
pub(super) fn takes_codes(kind: PoolKind, window: &SpatialWindow) -> bool {
    kind == PoolKind::Max && window.padding.iter().all(|&padding| padding == 0)
}

/// max(the channel's positions)
pub(super) fn global_max(b: &mut Builder<'_>, x: NodeId) -> NodeId {
    let positions: Vec<usize> = (2..b.graph().shape(x).rank()).collect();
    b.reduce(ReduceKind::Max, x, &positions)
}

/// sum(the channel's positions) / N
pub(super) fn global_mean(b: &mut Builder<'_>, x: NodeId) -> NodeId {
    let positions: Vec<usize> = (2..b.graph().shape(x).rank()).collect();
    layers::mean(b, x, &positions)
}

/// For each window position, in row-major order, how many of its elements are not padding; as `f32` bits.
fn window_counts(window: &SpatialWindow, extents: &[u64], positions: &[u64]) -> Vec<u32> {
    let along = |axis: usize, position: u64| {
        (0..window.size[axis])
            .filter(|&k| {
                let index = position * window.stride[axis] + k * window.dilation[axis];
                index >= window.padding[axis] && index - window.padding[axis] < extents[axis]
            })
            .count() as u64
    };
    let mut counts = vec![1u64];
    for (axis, &count) in positions.iter().enumerate() {
        let own: Vec<u64> = (0..count).map(|position| along(axis, position)).collect();
        counts = counts.iter().flat_map(|&outer| own.iter().map(move |&inner| outer * inner)).collect();
    }
    counts.into_iter().map(|count| (count as f32).to_bits()).collect()
}
