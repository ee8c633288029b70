//! Pooling over windows: the layers' keys and their form.

use super::context::Reported;
use super::fields::{self, Fields};
use super::layers;
use super::network::{LayerKind, Pair};
use super::schema;
use super::spanned::Spanned;

/// The largest element of each window of a channel of samples of channels × length.
#[derive(Debug, Clone, PartialEq)]
pub struct MaxPool1d {
    /// Positions of a sample.
    pub input_length: Option<Spanned<u64>>,
    /// Channels of a sample.
    pub input_channels: Option<Spanned<u64>>,
    /// Positions under the window.
    pub kernel_size: Spanned<u64>,
    /// Positions between two windows; default `kernel_size`.
    pub stride: Spanned<u64>,
    /// Positions added at each end, which no window ever picks; default 0.
    pub padding: Spanned<u64>,
    /// Positions between two elements of a window; default 1.
    pub dilation: Spanned<u64>,
}

/// The mean of each window of a channel of samples of channels × length.
#[derive(Debug, Clone, PartialEq)]
pub struct AvgPool1d {
    /// Positions of a sample.
    pub input_length: Option<Spanned<u64>>,
    /// Channels of a sample.
    pub input_channels: Option<Spanned<u64>>,
    /// Positions under the window.
    pub kernel_size: Spanned<u64>,
    /// Positions between two windows; default `kernel_size`.
    pub stride: Spanned<u64>,
    /// Zeros added at each end; default 0.
    pub padding: Spanned<u64>,
    /// Whether the added zeros count as elements of the mean; default true.
    pub count_include_pad: bool,
}

/// The largest element of each window of a channel of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct MaxPool2d {
    /// Rows of a sample.
    pub input_height: Option<Spanned<u64>>,
    /// Columns of a sample.
    pub input_width: Option<Spanned<u64>>,
    /// Channels of a sample.
    pub input_channels: Option<Spanned<u64>>,
    /// Positions under the window.
    pub kernel_size: Spanned<Pair>,
    /// Positions between two windows; default `kernel_size`.
    pub stride: Spanned<Pair>,
    /// Positions added at each end, which no window ever picks; default 0.
    pub padding: Spanned<Pair>,
    /// Positions between two elements of a window; default 1.
    pub dilation: Spanned<Pair>,
}

/// The mean of each window of a channel of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct AvgPool2d {
    /// Rows of a sample.
    pub input_height: Option<Spanned<u64>>,
    /// Columns of a sample.
    pub input_width: Option<Spanned<u64>>,
    /// Channels of a sample.
    pub input_channels: Option<Spanned<u64>>,
    /// Positions under the window.
    pub kernel_size: Spanned<Pair>,
    /// Positions between two windows; default `kernel_size`.
    pub stride: Spanned<Pair>,
    /// Zeros added at each end; default 0.
    pub padding: Spanned<Pair>,
    /// Whether the added zeros count as elements of the mean; default true.
    pub count_include_pad: bool,
}

/// What both layers over a length have in common.
struct Line {
    length: Option<Spanned<u64>>,
    channels: Option<Spanned<u64>>,
    kernel_size: Spanned<u64>,
    stride: Spanned<u64>,
    padding: Spanned<u64>,
}

fn line(fields: &mut Fields<'_, '_>) -> Result<Line, Reported> {
    let length = fields.optional(schema::INPUT_LENGTH, fields::size);
    let channels = fields.optional(schema::INPUT_CHANNELS, fields::size);
    let kernel_size = fields.required(schema::KERNEL_SIZE, fields::size);
    let stride = fields.optional(schema::STRIDE, fields::size);
    let padding = fields.optional_or(schema::PADDING, 0, fields::count);
    let kernel_size = kernel_size?;
    Ok(Line {
        length: length?,
        channels: channels?,
        kernel_size,
        stride: stride?.unwrap_or(kernel_size),
        padding: padding?,
    })
}

pub(super) fn max_pool1d(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    let line = line(fields);
    let dilation = fields.optional_or(schema::DILATION, 1, fields::size);
    let line = line?;
    Ok(LayerKind::MaxPool1d(MaxPool1d {
        input_length: line.length,
        input_channels: line.channels,
        kernel_size: line.kernel_size,
        stride: line.stride,
        padding: line.padding,
        dilation: dilation?,
    }))
}

pub(super) fn avg_pool1d(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    let line = line(fields);
    let count_include_pad = fields.optional_or(schema::COUNT_INCLUDE_PAD, true, fields::boolean);
    let line = line?;
    Ok(LayerKind::AvgPool1d(AvgPool1d {
        input_length: line.length,
        input_channels: line.channels,
        kernel_size: line.kernel_size,
        stride: line.stride,
        padding: line.padding,
        count_include_pad: count_include_pad?.value,
    }))
}

pub(super) fn max_pool2d(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    let image = layers::image(fields);
    let window = layers::window(fields);
    let stride = fields.optional(schema::STRIDE, fields::size_pair);
    let dilation = layers::dilation(fields);
    let (image, window) = (image?, window?);
    Ok(LayerKind::MaxPool2d(MaxPool2d {
        input_height: image.height,
        input_width: image.width,
        input_channels: image.channels,
        kernel_size: window.kernel_size,
        stride: stride?.unwrap_or(window.kernel_size),
        padding: window.padding,
        dilation: dilation?,
    }))
}

pub(super) fn avg_pool2d(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    let image = layers::image(fields);
    let window = layers::window(fields);
    let stride = fields.optional(schema::STRIDE, fields::size_pair);
    let count_include_pad = fields.optional_or(schema::COUNT_INCLUDE_PAD, true, fields::boolean);
    let (image, window) = (image?, window?);
    Ok(LayerKind::AvgPool2d(AvgPool2d {
        input_height: image.height,
        input_width: image.width,
        input_channels: image.channels,
        kernel_size: window.kernel_size,
        stride: stride?.unwrap_or(window.kernel_size),
        padding: window.padding,
        count_include_pad: count_include_pad?.value,
    }))
}
