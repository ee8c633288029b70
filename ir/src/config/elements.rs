//! Layers that only scale, choose, repeat or rearrange elements: their keys and their form.

use super::context::Reported;
use super::fields::{self, Fields};
use super::network::LayerKind;
use super::schema::{self, Named};
use super::spanned::Spanned;

/// A linear function of each element: factor · x + offset.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// What elements are multiplied by; default 1.
    pub factor: f64,
    /// What is added then; left out, nothing is.
    pub offset: Option<f64>,
}

/// Rows divided by their length: x / max(|x|, epsilon).
#[derive(Debug, Clone, PartialEq)]
pub struct Normalize {
    /// Which length.
    pub norm: NormalizeBy,
    /// The axis, counted without the batch and from the end where negative; left out, it is the last (-1).
    pub axis: Option<Spanned<i64>>,
    /// The least that is divided by, more than 0; default 1e-12.
    pub epsilon: f64,
}

/// What [`Normalize`] divides by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NormalizeBy {
    /// `l2`: the root of the sum of the squares.
    L2,
    /// `l1`: the sum of the magnitudes.
    L1,
}

/// The same elements under another shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Reshape {
    /// The shape of a sample, without the batch.
    pub shape: Spanned<Vec<u64>>,
}

/// The elements from one index to another along an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// The axis, counted without the batch and from the end where negative; left out, it is the first (0).
    pub axis: Option<Spanned<i64>>,
    /// The first index; default 0.
    pub start: Spanned<u64>,
    /// One past the last index; left out, all that follow.
    pub end: Option<Spanned<u64>>,
}

/// Axes of extent 1, and axes that are not there yet, repeated.
#[derive(Debug, Clone, PartialEq)]
pub struct Broadcast {
    /// The shape of a sample, without the batch; its last axes are those of the input.
    pub shape: Spanned<Vec<u64>>,
}

/// The lengths. The first is the default.
pub(super) const NORMS: &[Named<NormalizeBy>] =
    &[Named::plain("l2", &[], |_| Ok(NormalizeBy::L2)), Named::plain("l1", &[], |_| Ok(NormalizeBy::L1))];

pub(super) fn scale(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    let factor = fields.optional_or(schema::FACTOR, 1.0, fields::float);
    let offset = fields.optional(schema::OFFSET, fields::float);
    Ok(LayerKind::Scale(Scale { factor: factor?.value, offset: offset?.map(|offset| offset.value) }))
}

pub(super) fn normalize(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    let norm = fields::read_choice(fields, schema::NORM, "norm", NORMS);
    let axis = fields.optional(schema::AXIS, fields::signed);
    let epsilon = fields.optional_or(schema::LEAST_NORM, 1e-12, fields::positive);
    Ok(LayerKind::Normalize(Normalize { norm: norm?, axis: axis?, epsilon: epsilon?.value }))
}

pub(super) fn reshape(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    Ok(LayerKind::Reshape(Reshape { shape: fields.required(schema::SHAPE, fields::sample_shape)? }))
}

pub(super) fn slice(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    let axis = fields.optional(schema::AXIS, fields::signed);
    let start = fields.optional_or(schema::START, 0, fields::count);
    let end = fields.optional(schema::END, fields::size);
    Ok(LayerKind::Slice(Slice { axis: axis?, start: start?, end: end? }))
}

pub(super) fn broadcast(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    Ok(LayerKind::Broadcast(Broadcast { shape: fields.required(schema::SHAPE, fields::sample_shape)? }))
}
