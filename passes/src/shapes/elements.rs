//! Layers that only scale, choose, repeat or rearrange elements.

use loom_ir::config::{Broadcast, Normalize, Reshape, Scale, Slice, Spanned};
use loom_ir::types::Shape;

use super::ShapedKind;
use super::error::ShapeError;
use super::infer::{At, Resolved};

pub(super) fn reshape(at: &At<'_>, reshape: &Reshape) -> Result<Resolved, ShapeError> {
    let (dims, sample) = (at.shape.dims(), &reshape.shape.value);
    let elements = dims[1..].iter().product();
    let given = sample.iter().try_fold(1u64, |product, &size| product.checked_mul(size));
    if given != Some(elements) {
        let (path, input, shape) = (at.layer.path.clone(), at.shape.clone(), Shape::new(sample.clone()));
        return Err(ShapeError::Elements { path, input, elements, shape, span: reshape.shape.span });
    }
    let output = [&dims[..1], sample].concat();
    let kind = ShapedKind::Reshape(Shape::new(output.clone()));
    Ok(Resolved { type_name: "reshape", kind, output, feature_map: false })
}

pub(super) fn slice(at: &At<'_>, slice: &Slice, feature_map: bool) -> Result<Resolved, ShapeError> {
    let axis = at.axis_of(slice.axis.unwrap_or(Spanned::new(0, at.layer.type_span)), at.shape)?;
    let mut output = at.shape.dims().to_vec();
    let extent = output[axis];
    let (start, end) = (slice.start.value, slice.end.map_or(extent, |end| end.value));
    if start >= end || end > extent {
        let span = if end > extent { slice.end.unwrap_or(slice.start).span } else { slice.start.span };
        return Err(ShapeError::Slice { path: at.layer.path.clone(), start, end, extent, span });
    }
    output[axis] = end - start;
    Ok(Resolved { type_name: "slice", kind: ShapedKind::Slice { axis, start, end }, output, feature_map })
}

pub(super) fn broadcast(at: &At<'_>, broadcast: &Broadcast) -> Result<Resolved, ShapeError> {
    let (dims, sample) = (at.shape.dims(), &broadcast.shape.value);
    // The input's axes stand at the end of the output's.
    let fits = |new: usize| dims[1..].iter().zip(&sample[new..]).all(|(&from, &to)| from == to || from == 1);
    let Some(new) = sample.len().checked_sub(dims.len() - 1).filter(|&new| fits(new)) else {
        let (path, input, shape) = (at.layer.path.clone(), Shape::new(dims[1..].to_vec()), Shape::new(sample.clone()));
        return Err(ShapeError::Broadcast { path, input, shape, span: broadcast.shape.span });
    };
    let output = [&dims[..1], sample].concat();
    let kept: Vec<usize> = (1..dims.len()).filter(|&axis| dims[axis] == output[axis + new]).collect();
    let axes = [0].into_iter().chain(kept.iter().map(|axis| axis + new)).collect();
    let kept = [0].iter().chain(&kept).map(|&axis| dims[axis]).collect::<Vec<u64>>();
    let kind = ShapedKind::Broadcast { kept: Shape::new(kept), axes, output: Shape::new(output.clone()) };
    Ok(Resolved { type_name: "broadcast", kind, output, feature_map: false })
}

pub(super) fn scale(at: &At<'_>, scale: Scale, feature_map: bool) -> Resolved {
    let output = at.shape.dims().to_vec();
    Resolved { type_name: "scale", kind: ShapedKind::Scale(scale), output, feature_map }
}

pub(super) fn normalize(at: &At<'_>, normalize: &Normalize, feature_map: bool) -> Result<Resolved, ShapeError> {
    let axis = at.axis_of(normalize.axis.unwrap_or(Spanned::new(-1, at.layer.type_span)), at.shape)?;
    let kind = ShapedKind::Normalize { axis, norm: normalize.norm, epsilon: normalize.epsilon };
    Ok(Resolved { type_name: "normalize", kind, output: at.shape.dims().to_vec(), feature_map })
}
