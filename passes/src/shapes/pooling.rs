//! Pooling over windows.

use loom_ir::config::{AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d, Pair};
use loom_ir::diagnostics::Span;

use super::error::ShapeError;
use super::infer::{At, Resolved};
use super::window::{self, Declared};
use super::{PoolKind, ShapedKind, SpatialWindow};

pub(super) fn max_pool1d(at: &At<'_>, pool: &MaxPool1d) -> Result<Resolved, ShapeError> {
    let declared: Declared = vec![("input_channels", pool.input_channels), ("input_length", pool.input_length)];
    let padding = pool.padding;
    let window = window::of_length(pool.kernel_size.value, pool.stride.value, padding.value, pool.dilation.value);
    pooling(at, &declared, "max_pool1d", PoolKind::Max, window, (pool.kernel_size.span, padding.span))
}

pub(super) fn avg_pool1d(at: &At<'_>, pool: &AvgPool1d) -> Result<Resolved, ShapeError> {
    let declared: Declared = vec![("input_channels", pool.input_channels), ("input_length", pool.input_length)];
    let padding = pool.padding;
    let window = window::of_length(pool.kernel_size.value, pool.stride.value, padding.value, 1);
    let kind = PoolKind::Average { count_include_pad: pool.count_include_pad };
    pooling(at, &declared, "avg_pool1d", kind, window, (pool.kernel_size.span, padding.span))
}

pub(super) fn max_pool2d(at: &At<'_>, pool: &MaxPool2d) -> Result<Resolved, ShapeError> {
    let declared: Declared = vec![
        ("input_channels", pool.input_channels),
        ("input_height", pool.input_height),
        ("input_width", pool.input_width),
    ];
    let padding = pool.padding;
    let window = window::of_pairs(pool.kernel_size.value, pool.stride.value, padding.value, pool.dilation.value);
    pooling(at, &declared, "max_pool2d", PoolKind::Max, window, (pool.kernel_size.span, padding.span))
}

pub(super) fn avg_pool2d(at: &At<'_>, pool: &AvgPool2d) -> Result<Resolved, ShapeError> {
    let declared: Declared = vec![
        ("input_channels", pool.input_channels),
        ("input_height", pool.input_height),
        ("input_width", pool.input_width),
    ];
    let padding = pool.padding;
    let window = window::of_pairs(pool.kernel_size.value, pool.stride.value, padding.value, Pair::square(1));
    let kind = PoolKind::Average { count_include_pad: pool.count_include_pad };
    pooling(at, &declared, "avg_pool2d", kind, window, (pool.kernel_size.span, padding.span))
}

fn pooling(
    at: &At<'_>,
    declared: &Declared,
    type_name: &'static str,
    kind: PoolKind,
    window: SpatialWindow,
    (kernel_span, padding_span): (Span, Span),
) -> Result<Resolved, ShapeError> {
    let input = window::input_shape(at, at.shape, declared)?;
    if window.padding.iter().zip(&window.size).any(|(&padding, &size)| padding > size / 2) {
        return Err(ShapeError::PoolPadding { path: at.layer.path.clone(), span: padding_span });
    }
    let mut output = input.dims()[..2].to_vec();
    output.extend(window::positions(at, &input, &window, kernel_span)?);
    Ok(Resolved { type_name, kind: ShapedKind::Pool { input, kind, window }, output, feature_map: true })
}
