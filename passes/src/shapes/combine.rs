//! Parallel branches and what becomes of their outputs.

use loom_ir::config::{CombineMode, Filter, Layer, Parallel, Spanned};
use loom_ir::types::Shape;

use super::error::ShapeError;
use super::infer::{At, Resolved, Value};
use super::softmax::{distribution, pairs_fit};
use super::{Combination, Gate, ShapedKind, ValueId};

/// The value that is made of the branches' outputs, and of the gate's.
pub(super) fn combined(
    at: &At<'_>,
    parallel: &Parallel,
    values: &[Value],
    outputs: &[ValueId],
    gate: Option<ValueId>,
) -> Result<Resolved, ShapeError> {
    let shapes: Vec<&Shape> = outputs.iter().map(|output| &values[output.0].shape).collect();
    let feature_map = outputs.iter().all(|output| values[output.0].feature_map);
    let (combination, branches, output, feature_map) = match &parallel.mode {
        CombineMode::Concat { axis } => {
            let (axis, output) = concatenated(at, &parallel.branches, &shapes, *axis)?;
            let kept = axis.is_some() && feature_map;
            (Combination::Concat { axis }, outputs.to_vec(), output, kept)
        }
        CombineMode::GridScatter(grid) => {
            let order = grid.order.iter().map(|&branch| outputs[branch]).collect();
            (Combination::Concat { axis: None }, order, flat(&shapes), false)
        }
        mode => {
            equal(at, &parallel.branches, &shapes, "the outputs of branches that are combined by element are equal")?;
            let combination = match mode {
                CombineMode::Multiply => Combination::Multiply,
                CombineMode::Average => Combination::Average,
                CombineMode::Filter(filter) => {
                    let gate = gate.map(|gate| gated(at, filter, gate, &values[gate.0].shape, &shapes)).transpose()?;
                    Combination::Filter { gate }
                }
                _ => Combination::Add,
            };
            (combination, outputs.to_vec(), shapes[0].dims().to_vec(), feature_map)
        }
    };
    let kind = ShapedKind::Combine { combination, branches };
    Ok(Resolved { type_name: "parallel", kind, output, feature_map })
}

/// Every sample as one axis, one after another.
fn flat(shapes: &[&Shape]) -> Vec<u64> {
    let sizes = shapes.iter().map(|shape| shape.dims()[1..].iter().product::<u64>());
    vec![shapes[0].dims()[0], sizes.fold(0, u64::saturating_add)]
}

fn equal(at: &At<'_>, branches: &[Layer], shapes: &[&Shape], rule: &'static str) -> Result<(), ShapeError> {
    match shapes.iter().position(|shape| *shape != shapes[0]) {
        Some(index) => Err(differ(at, branches, shapes, index, rule)),
        None => Ok(()),
    }
}

fn differ(at: &At<'_>, branches: &[Layer], shapes: &[&Shape], index: usize, rule: &'static str) -> ShapeError {
    ShapeError::BranchShapes {
        path: at.layer.path.clone(),
        rule,
        first: shapes[0].clone(),
        branch: branches[index].path.clone(),
        shape: shapes[index].clone(),
        span: branches[index].type_span,
    }
}

/// The axis along which whole outputs follow one another, or none where each sample is flattened first; and the result.
fn concatenated(
    at: &At<'_>,
    branches: &[Layer],
    shapes: &[&Shape],
    given: Option<Spanned<i64>>,
) -> Result<(Option<usize>, Vec<u64>), ShapeError> {
    let first = shapes[0].dims();
    let fits = |shape: &Shape, axis: usize| {
        let dims = shape.dims();
        dims.len() == first.len() && (0..dims.len()).all(|other| other == axis || dims[other] == first[other])
    };
    let axis = match given {
        Some(given) => {
            let axis = at.axis_of(given, shapes[0])?;
            let rule = "the outputs agree in every axis but the one along which they follow one another";
            if let Some(index) = shapes.iter().position(|shape| !fits(shape, axis)) {
                return Err(differ(at, branches, shapes, index, rule));
            }
            axis
        }
        None if first.len() > 1 && shapes.iter().all(|shape| fits(shape, 1)) => 1,
        None => return Ok((None, flat(shapes))),
    };
    let mut output = first.to_vec();
    output[axis] = shapes.iter().fold(0, |sum: u64, shape| sum.saturating_add(shape.dims()[axis]));
    Ok((Some(axis), output))
}

/// The gate's value is a logit for each branch, for all of a sample or for each place of its leading axes.
fn gated(at: &At<'_>, filter: &Filter, value: ValueId, logits: &Shape, outputs: &[&Shape]) -> Result<Gate, ShapeError> {
    let (path, experts) = (at.layer.path.clone(), outputs.len() as u64);
    let span = filter.gate.as_ref().map_or(at.layer.type_span, |gate| gate.type_span);
    let dims = logits.dims();
    let leading = &dims[..dims.len() - 1];
    if leading.is_empty() || dims.last() != Some(&experts) || !outputs[0].dims().starts_with(leading) {
        return Err(ShapeError::Gate { path, experts, gate: logits.clone(), output: outputs[0].clone(), span });
    }
    let top_k = match filter.top_k {
        Some(k) if k.value > experts => {
            return Err(ShapeError::TopK { path, k: k.value, experts, span: k.span });
        }
        // All of them: as if nothing had been said.
        Some(k) if k.value == experts => None,
        top_k => top_k.map(|k| k.value),
    };
    let distribution = distribution(&filter.softmax);
    if top_k.is_some() || distribution.compares_pairs() {
        pairs_fit(at, logits, dims.len() - 1)?;
    }
    Ok(Gate { value, distribution, temperature: filter.temperature, top_k })
}
