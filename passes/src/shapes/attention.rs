//! Multi-head attention: its sizes.

use loom_ir::config::{self, Spanned};
use loom_ir::types::Shape;

use super::error::ShapeError;
use super::infer::{At, Resolved};
use super::{Attention, ShapedKind};

pub(super) fn attention(at: &At<'_>, options: &config::Attention) -> Result<Resolved, ShapeError> {
    let dims = at.shape.dims();
    let &[batch, length, size] = dims else { return Err(at.rank("[batch, positions, d_model]")) };
    for (key, given, actual) in [("d_model", options.d_model, size), ("seq_length", options.seq_length, length)] {
        if let Some(given) = given.filter(|given| given.value != actual) {
            return Err(at.mismatch(key, given, actual));
        }
    }
    let heads = options.num_heads;
    let divides = |parts: Spanned<u64>, count: u64, what: &'static str| {
        let (path, parts, span) = (at.layer.path.clone(), parts.value, parts.span);
        if count.is_multiple_of(parts) {
            Ok(())
        } else {
            Err(ShapeError::Heads { path, heads: parts, what, count, span })
        }
    };
    let head_dim = match options.head_dim {
        Some(given) => given.value,
        None => {
            divides(heads, size, "elements of a position")?;
            size / heads.value
        }
    };
    let kv_heads = options.num_kv_heads.unwrap_or(heads);
    divides(kv_heads, heads.value, "heads")?;
    if options.rope.is_some() && !head_dim.is_multiple_of(2) {
        let span = options.head_dim.map_or(at.layer.type_span, |given| given.span);
        return Err(ShapeError::OddHead { path: at.layer.path.clone(), head_dim, span });
    }
    if let Some(mask) = options.mask.as_ref().filter(|mask| mask.value.len() as u64 != length) {
        let (path, rows, span) = (at.layer.path.clone(), mask.value.len() as u64, mask.span);
        return Err(ShapeError::AttentionMask { path, rows, length, span });
    }
    // Everything that is as large as heads and positions make it.
    let (all, own) = (heads.value.saturating_mul(head_dim), kv_heads.value.saturating_mul(head_dim));
    at.weight(vec![all, size])?;
    at.weight(vec![own, size])?;
    let scores = Shape::checked(vec![batch, heads.value, length, length]);
    scores.map_err(|source| at.limit("the scores:", source))?;
    Shape::checked(vec![batch, length, all]).map_err(|source| at.limit("the queries:", source))?;
    let kind = ShapedKind::Attention(Attention {
        heads: heads.value,
        kv_heads: kv_heads.value,
        head_dim,
        causal: options.causal,
        window: options.sliding_window.map(|window| window.value),
        mask: options.mask.as_ref().map(|mask| mask.value.concat()),
        rope: options.rope,
        bias: options.bias,
        output_bias: options.output_bias,
        output_projection: options.output_projection,
    });
    let width = if options.output_projection { size } else { all };
    Ok(Resolved { type_name: "multi_head_attention", kind, output: vec![batch, length, width], feature_map: false })
}
