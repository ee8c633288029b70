//! The softmax layer: its axis, and what each variant asks of it.

use loom_ir::config::{Softmax, SoftmaxVariant, Spanned};
use loom_ir::diagnostics::Span;
use loom_ir::types::Shape;

use super::error::ShapeError;
use super::infer::{At, Resolved};
use super::{Distribution, ShapedKind};

/// How a variant that keeps its axis distributes along it.
pub(super) fn distribution(variant: &SoftmaxVariant) -> Distribution {
    match variant {
        SoftmaxVariant::Sparsemax => Distribution::Sparsemax,
        SoftmaxVariant::Entmax { alpha } if *alpha == 2.0 => Distribution::Sparsemax,
        SoftmaxVariant::Entmax { alpha } => Distribution::Entmax { alpha: *alpha },
        SoftmaxVariant::Masked { mask } => Distribution::Masked { mask: mask.value.clone() },
        SoftmaxVariant::Gumbel { noise: true } => Distribution::Gumbel,
        SoftmaxVariant::Adaptive { sizes } => Distribution::Adaptive { sizes: sizes.value.clone() },
        SoftmaxVariant::Mixture { weights } => Distribution::Mixture { weights: weights.value.clone() },
        SoftmaxVariant::Hierarchical { levels } => Distribution::Tree { levels: levels.value.clone() },
        SoftmaxVariant::Standard | SoftmaxVariant::Grid { .. } | SoftmaxVariant::Gumbel { noise: false } => {
            Distribution::Standard
        }
    }
}

pub(super) fn softmax(at: &At<'_>, options: &Softmax, feature_map: bool) -> Result<Resolved, ShapeError> {
    let dims = at.shape.dims();
    let anchor = at.layer.type_span;
    let axis = at.axis_of(options.axis.unwrap_or(Spanned::new(-1, anchor)), at.shape)?;
    let mut sizes = Sizes { before: dims[..axis].to_vec(), extent: dims[axis], after: dims[axis + 1..].to_vec() };
    let mut kind = distribution(&options.variant);
    let mut group = None;
    let mut result = sizes.extent;
    let total = |sizes: &[u64]| sizes.iter().fold(0u64, |sum, &size| sum.saturating_add(size));
    let product = |sizes: &[u64]| sizes.iter().fold(1u64, |product, &size| product.saturating_mul(size));
    match &options.variant {
        SoftmaxVariant::Standard | SoftmaxVariant::Sparsemax => {}
        SoftmaxVariant::Entmax { .. } | SoftmaxVariant::Gumbel { .. } => {}
        SoftmaxVariant::Grid { rows, cols } => {
            let cells = product(&[rows.value, cols.value]);
            // A grid may be the whole sample.
            if options.axis.is_none() && product(&dims[1..]) == cells {
                sizes = Sizes { before: vec![dims[0]], extent: cells, after: Vec::new() };
            }
            expect(at, sizes.extent, &[cells], "rows times columns", rows.span)?;
            (group, result) = (Some(cols.value), sizes.extent);
        }
        SoftmaxVariant::Hierarchical { levels } => {
            let leaves = product(&levels.value);
            let mut nodes = 1u64;
            let all = levels.value.iter().fold(0u64, |all, &children| {
                nodes = nodes.saturating_mul(children);
                all.saturating_add(nodes)
            });
            expect(at, sizes.extent, &[leaves, all], "the tree's leaves, or all its nodes but the root", levels.span)?;
            if sizes.extent == leaves {
                (kind, group) = (Distribution::Standard, levels.value.last().copied());
            }
            result = leaves;
        }
        SoftmaxVariant::Masked { mask } => {
            expect(at, sizes.extent, &[mask.value.len() as u64], "the mask's elements", mask.span)?;
        }
        SoftmaxVariant::Adaptive { sizes: clusters } => {
            let classes = total(&clusters.value);
            let with_clusters = classes.saturating_add(clusters.value.len() as u64 - 1);
            let what = "the classes, or these and each cluster but the head";
            expect(at, sizes.extent, &[classes, with_clusters], what, clusters.span)?;
            if sizes.extent == classes {
                // A cluster is as likely as its members together, which makes every class as likely as without clusters.
                kind = Distribution::Standard;
            }
            result = classes;
        }
        SoftmaxVariant::Mixture { weights } => {
            let parts = weights.value.len() as u64;
            if sizes.extent == 0 || !sizes.extent.is_multiple_of(parts) {
                return Err(ShapeError::Mixture {
                    path: at.layer.path.clone(),
                    parts,
                    extent: sizes.extent,
                    span: weights.span,
                });
            }
            result = sizes.extent / parts;
        }
    }
    let output = if group.is_some() { dims.to_vec() } else { [&dims[..axis], &[result], &dims[axis + 1..]].concat() };
    // The plain variant takes its input as it is; the others take three axes, or four for groups along one.
    let (input, axis) = match (&kind, group) {
        (Distribution::Standard, None) => (at.shape.clone(), axis),
        (_, group) => {
            let own = group.map_or(vec![sizes.extent], |group| vec![sizes.extent / group, group]);
            let dims = [vec![product(&sizes.before)], own, vec![product(&sizes.after)]].concat();
            let axis = dims.len() - 2;
            (Shape::checked(dims).map_err(|source| at.limit("the input:", source))?, axis)
        }
    };
    if kind.compares_pairs() {
        pairs_fit(at, &input, axis)?;
    }
    let temperature = options.temperature;
    let kind = ShapedKind::Softmax { input, axis, temperature, distribution: kind, output: Shape::new(output.clone()) };
    Ok(Resolved { type_name: "softmax", kind, output, feature_map })
}

/// The input's extents around the axis.
struct Sizes {
    before: Vec<u64>,
    extent: u64,
    after: Vec<u64>,
}

fn expect(at: &At<'_>, extent: u64, fitting: &[u64], what: &'static str, span: Span) -> Result<(), ShapeError> {
    if fitting.contains(&extent) {
        return Ok(());
    }
    let (path, expected) = (at.layer.path.clone(), fitting.to_vec());
    Err(ShapeError::AxisExtent { path, what, expected, extent, shape: at.shape.clone(), span })
}

/// Each element along the axis is compared with each other one: together they are limited as a tensor's elements are.
pub(super) fn pairs_fit(at: &At<'_>, input: &Shape, axis: usize) -> Result<(), ShapeError> {
    let extent = input.dims()[axis];
    let dims = [input.dims(), &[extent]].concat();
    Shape::checked(dims).map(|_| ()).map_err(|source| at.limit("the pairs of elements:", source))
}
