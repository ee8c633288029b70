//! Layers that multiply integers: which can, and how many terms their sums may have.

use loom_ir::config::{GivenCoding, LayerKind, Network, Precision, Quantisation};
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
    most: u64,
) -> Result<(Precision, Option<Quantised>), ShapeError> {
    let Some(format) = precision.codes() else { return Ok((precision, None)) };
    let products = products(at, &resolved.kind, &resolved.output, input);
    if products.is_empty() {
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
    for Product { length, channels, results, rows } in products {
        let (count, terms) = match (channels, options.group_size) {
            (Some(channels), Some(group_size)) => {
                let volume = length / channels.max(1);
                let Some((count, each)) = channel_groups(channels, volume, Some(group_size.value)) else {
                    let (path, group_size, span) = (at.layer.path.clone(), group_size.value, group_size.span);
                    return Err(ShapeError::GroupSize { path, group_size, volume, span });
                };
                (count, each * volume)
            }
            _ => groups_of(length, group_size),
        };
        if terms > most {
            let (path, span) = (at.layer.path.clone(), at.layer.type_span);
            return Err(ShapeError::Terms { path, terms, most, span });
        }
        let all = Shape::checked(vec![count, results.max(1)]);
        all.map_err(|source| at.limit("the groups' totals:", source))?;
        // The last group is filled up.
        for rows in rows {
            let filled = Shape::checked(vec![rows.max(1), count, terms]);
            filled.map_err(|source| at.limit("the groups' codes:", source))?;
        }
    }
    let [input, inner] = [options.input, options.inner].map(|given| given.map(|given| given.coding()));
    Ok((precision, Some(Quantised { format, group_size, input, inner })))
}

/// The most terms that a sum of products has in a network: fewer where any of its codes have a zero point.
pub(super) fn most_terms(network: &Network) -> u64 {
    let has = |given: Option<GivenCoding>| given.is_some_and(|given| given.zero_point.is_some());
    let mut affine = has(network.input_codes);
    network.visit(&mut |layer| {
        let Quantisation { input, inner, output, .. } = layer.quantisation;
        affine |= [input, inner, output].into_iter().any(has);
    });
    if affine { IntegerSpec::MOST_AFFINE_TERMS } else { IntegerSpec::MOST_TERMS }
}

/// Groups of a row of weights, and the weights of each (of the last one maybe fewer): as many groups as groups of that
/// size need, and as even as can be. The same groups as a stored weight's.
pub(crate) fn groups_of(length: u64, group_size: Option<u64>) -> (u64, u64) {
    let size = group_size.unwrap_or(length).clamp(1, length.max(1));
    let count = length.div_ceil(size).max(1);
    (count, length.div_ceil(count))
}

/// The same of so many channels, each of `volume` weights: as few groups as can be, of whole channels, all of as many. `None`
/// where a group has no room for a channel.
pub(crate) fn channel_groups(channels: u64, volume: u64, group_size: Option<u64>) -> Option<(u64, u64)> {
    let most = group_size.map_or(channels, |size| size / volume.max(1));
    if channels <= most {
        return Some((1, channels));
    }
    let divisors = (1..=channels.isqrt()).filter(|divisor| channels.is_multiple_of(*divisor));
    let each = divisors.flat_map(|divisor| [divisor, channels / divisor]).filter(|&each| each <= most).max()?;
    Some((channels / each, each))
}

/// A layer whose own format is that of the layers inside.
fn contains_layers(at: &At<'_>) -> bool {
    matches!(at.layer.kind, LayerKind::Sequential(_) | LayerKind::Parallel(_) | LayerKind::Kmeans(_))
}

/// A product with weights.
struct Product {
    /// Weights of an output.
    length: u64,
    /// Of a convolution, how many channels they are of.
    channels: Option<u64>,
    /// How many sums there are.
    results: u64,
    /// Rows of both factors, as often as there are copies of them: of the input and of the weight.
    rows: [u64; 2],
}

/// The products of a layer with its weights.
fn products(at: &At<'_>, kind: &ShapedKind, output: &[u64], input: &Shape) -> Vec<Product> {
    let outputs = output.iter().fold(1u64, |all, &extent| all.saturating_mul(extent));
    let last = at.shape.dims().last().copied().unwrap_or(1);
    let rows = at.shape.elements().checked_div(last).unwrap_or(0);
    let product = |length, outputs: u64, results| Product { length, channels: None, results, rows: [rows, outputs] };
    match kind {
        ShapedKind::Dense { input_size, output_size, .. } => vec![product(*input_size, *output_size, outputs)],
        ShapedKind::Conv { input, filters, groups, window, .. } => {
            let channels = input.dims()[1] / groups;
            let length = channels.saturating_mul(window.size.iter().product());
            // Its groups are not filled up.
            vec![Product { length, channels: Some(channels), results: outputs, rows: [1, *filters] }]
        }
        ShapedKind::Swiglu { input_size, intermediate_size, .. } => {
            let inner = rows.saturating_mul(*intermediate_size);
            vec![product(*input_size, *intermediate_size, inner), product(*intermediate_size, *input_size, outputs)]
        }
        ShapedKind::Attention(options) => {
            let width = options.heads.saturating_mul(options.head_dim);
            let size = input.dims().last().copied().unwrap_or(1);
            let mut products = vec![product(size, width, rows.saturating_mul(width))];
            products.extend(options.output_projection.then(|| product(width, size, outputs)));
            products
        }
        ShapedKind::Recurrent(layer) => {
            let gates = layer.cell.gates().saturating_mul(layer.hidden_size);
            let rows = at.shape.dims()[0].saturating_mul(layer.steps);
            let results = rows.saturating_mul(gates);
            // The graph has the weight of the state at every step.
            let all = layer.steps.saturating_mul(gates);
            [(layer.input_size, gates), (layer.hidden_size, all)]
                .map(|(length, outputs)| Product { length, channels: None, results, rows: [rows, outputs] })
                .into()
        }
        _ => Vec::new(),
    }
}
