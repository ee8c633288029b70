//! Layers that multiply integers: which can, and how many terms their sums may have.

use loom_ir::config::{LayerKind, Precision};
use loom_ir::numerics::reduction::IntegerSpec;
use loom_ir::types::Shape;

use super::error::ShapeError;
use super::infer::{At, Resolved};
use super::{Quantised, ShapedKind};

/// The number format of a layer, and how it multiplies integers, if it does. A layer that has nothing to multiply with
/// weights is `float32` in a network of integers, and an error where it is told itself to be of integers.
pub(super) fn of(
    at: &At<'_>,
    resolved: &Resolved,
    precision: Precision,
    input: &Shape,
) -> Result<(Precision, Option<Quantised>), ShapeError> {
    let Some(format) = precision.codes() else { return Ok((precision, None)) };
    let lengths = terms(&resolved.kind, input);
    if lengths.is_empty() {
        return match at.layer.precision {
            Some(asked) if asked == precision && !contains_layers(at) => Err(ShapeError::Integers {
                path: at.layer.path.clone(),
                precision,
                type_name: resolved.type_name,
                span: at.layer.type_span,
            }),
            _ => Ok((Precision::F32, None)),
        };
    }
    let options = at.layer.quantisation;
    let group_size = options.group_size.map(|size| size.value);
    for length in lengths {
        let (count, terms) = groups_of(length, group_size);
        if terms > IntegerSpec::MOST_TERMS {
            let (path, span) = (at.layer.path.clone(), at.layer.type_span);
            return Err(ShapeError::Terms { path, terms, most: IntegerSpec::MOST_TERMS, span });
        }
        let totals = at.shape.elements().max(resolved.output.iter().product::<u64>());
        let all = Shape::checked(vec![count, totals.max(1)]);
        all.map_err(|source| at.limit("the groups' totals:", source))?;
    }
    let [input_scale, inner_scale] =
        [options.input_scale, options.inner_scale].map(|scale| scale.map(|scale| scale.value));
    Ok((precision, Some(Quantised { format, group_size, input_scale, inner_scale })))
}

/// Groups of a row of weights, and the weights of each (of the last one maybe fewer): as many groups as groups of that
/// size need, and as even as can be. The same groups as a stored weight's.
pub(crate) fn groups_of(length: u64, group_size: Option<u64>) -> (u64, u64) {
    let size = group_size.unwrap_or(length).clamp(1, length.max(1));
    let count = length.div_ceil(size).max(1);
    (count, length.div_ceil(count))
}

/// A layer whose own format is that of the layers inside.
fn contains_layers(at: &At<'_>) -> bool {
    matches!(at.layer.kind, LayerKind::Sequential(_) | LayerKind::Parallel(_) | LayerKind::Kmeans(_))
}

/// The terms of each product with weights.
fn terms(kind: &ShapedKind, input: &Shape) -> Vec<u64> {
    match kind {
        ShapedKind::Dense { input_size, .. } => vec![*input_size],
        ShapedKind::Conv { input, groups, window, .. } => {
            vec![(input.dims()[1] / groups).saturating_mul(window.size.iter().product())]
        }
        ShapedKind::Swiglu { input_size, intermediate_size, .. } => vec![*input_size, *intermediate_size],
        ShapedKind::Attention(options) => {
            let mut terms = input.dims().last().copied().into_iter().collect::<Vec<u64>>();
            terms.extend(options.output_projection.then(|| options.heads.saturating_mul(options.head_dim)));
            terms
        }
        _ => Vec::new(),
    }
}
