//! Convolution and pooling: the input as channels and positions, and the output's shape.

use loom_ir::config::{Pair, Spanned};
use loom_ir::diagnostics::Span;
use loom_ir::graph::Window;
use loom_ir::types::Shape;

use super::SpatialWindow;
use super::error::ShapeError;
use super::infer::At;

/// What a layer says of its input: the channels, then each spatial axis, with the keys' names.
pub(super) type Declared = Vec<(&'static str, Option<Spanned<u64>>)>;

/// The window of a 1-D layer.
pub(super) fn of_length(size: u64, stride: u64, padding: u64, dilation: u64) -> SpatialWindow {
    SpatialWindow { size: vec![size], stride: vec![stride], padding: vec![padding], dilation: vec![dilation] }
}

/// The window of a 2-D layer.
pub(super) fn of_pairs(size: Pair, stride: Pair, padding: Pair, dilation: Pair) -> SpatialWindow {
    let list = |pair: Pair| vec![pair.height, pair.width];
    SpatialWindow { size: list(size), stride: list(stride), padding: list(padding), dilation: list(dilation) }
}

/// The shape under which the layer reads its input: `[batch, channels, positions…]`.
pub(super) fn input_shape(at: &At<'_>, shape: &Shape, declared: &Declared) -> Result<Shape, ShapeError> {
    let batch = shape.dims()[0];
    let sample = &shape.dims()[1..];
    if sample.len() == declared.len() {
        for ((key, given), &actual) in declared.iter().zip(sample) {
            if let Some(given) = given.filter(|given| given.value != actual) {
                return Err(at.mismatch(key, given, actual));
            }
        }
        return Ok(shape.clone());
    }
    // A flat value becomes channels and positions where the config says how many of each.
    let sizes: Option<Vec<u64>> = declared.iter().map(|(_, given)| given.map(|given| given.value)).collect();
    if let Some(sizes) = sizes {
        let reshaped = Shape::new([vec![batch], sizes].concat());
        if reshaped.checked_elements() == shape.checked_elements() {
            return Ok(reshaped);
        }
    }
    Err(at.rank(match declared.len() {
        2 => "[batch, channels, length], or input_channels and input_length that make up a sample",
        _ => "[batch, channels, height, width], or input_channels, input_height and input_width that make up a sample",
    }))
}

/// The extents of window positions. The padded input is limited as a tensor is.
pub(super) fn positions(
    at: &At<'_>,
    input: &Shape,
    window: &SpatialWindow,
    span: Span,
) -> Result<Vec<u64>, ShapeError> {
    let positions: Result<Vec<u64>, ShapeError> = (0..window.size.len())
        .map(|axis| {
            let extent = input.dims()[axis + 2];
            let (size, dilation, padding) = (window.size[axis], window.dilation[axis], window.padding[axis]);
            Window::positions(extent, size, window.stride[axis], dilation, padding, padding).ok_or_else(|| {
                ShapeError::Window { path: at.layer.path.clone(), size, dilation, extent, padding, span }
            })
        })
        .collect();
    let positions = positions?;
    let mut padded = input.dims().to_vec();
    for (extent, padding) in padded[2..].iter_mut().zip(&window.padding) {
        *extent = extent.saturating_add(padding.saturating_mul(2));
    }
    Shape::checked(padded).map_err(|source| at.limit("the padded input:", source))?;
    Ok(positions)
}
