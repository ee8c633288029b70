//! Multi-head attention: its sizes.

use loom_ir::config::{self, Spanned};
use loom_ir::types::Shape;

use super::error::ShapeError;
use super::infer::{At, Resolved, Value};
use super::{Attention, ShapedKind, ShapedLayer};

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
    if let Some(cache) = options.kv_cache.filter(|cache| cache.value < length) {
        let (path, capacity, span) = (at.layer.path.clone(), cache.value, cache.span);
        return Err(ShapeError::CacheCapacity { path, capacity, length, span });
    }
    let positions = options.kv_cache.map_or(length, |cache| cache.value);
    if let Some(mask) = options.mask.as_ref().filter(|mask| mask.value.len() as u64 != positions) {
        let (path, rows, span) = (at.layer.path.clone(), mask.value.len() as u64, mask.span);
        return Err(ShapeError::AttentionMask { path, rows, length: positions, span });
    }
    // Everything that is as large as heads and positions make it.
    let (all, own) = (heads.value.saturating_mul(head_dim), kv_heads.value.saturating_mul(head_dim));
    at.weight(vec![all, size])?;
    at.weight(vec![own, size])?;
    let scores = Shape::checked(vec![batch, heads.value, length, positions]);
    scores.map_err(|source| at.limit("the scores:", source))?;
    Shape::checked(vec![batch, positions, own]).map_err(|source| at.limit("the keys:", source))?;
    Shape::checked(vec![batch, length, all]).map_err(|source| at.limit("the queries:", source))?;
    let kind = ShapedKind::Attention(Attention {
        heads: heads.value,
        kv_heads: kv_heads.value,
        head_dim,
        causal: options.causal,
        window: options.sliding_window.map(|window| window.value),
        mask: options.mask.as_ref().map(|mask| mask.value.concat()),
        cache: options.kv_cache.map(|cache| cache.value),
        rope: options.rope,
        bias: options.bias,
        output_bias: options.output_bias,
        output_projection: options.output_projection,
    });
    let width = if options.output_projection { size } else { all };
    Ok(Resolved { type_name: "multi_head_attention", kind, output: vec![batch, length, width], feature_map: false })
}

/// What a network with caches must not have, since runs of a few positions each would not be what a run of all is:
/// layers that know the positions of a run alone, and caches of other positions than those of the network's input.
pub(super) fn check_caches(layers: &[ShapedLayer], values: &[Value]) -> Vec<ShapeError> {
    let cached = |layer: &ShapedLayer| matches!(&layer.kind, ShapedKind::Attention(options) if options.cache.is_some());
    let Some(keeper) = layers.iter().find(|layer| cached(layer)) else { return Vec::new() };
    let positions = values[0].shape.dims().get(1);
    let mut errors = Vec::new();
    for (layer, made) in layers.iter().zip(&values[1..]) {
        let Some((_, span)) = made.maker else { continue };
        let path = layer.path.clone();
        let shape = &values[layer.input.0].shape;
        if cached(layer) && shape.dims().get(1) != positions {
            errors.push(ShapeError::CachePositions {
                path,
                shape: shape.clone(),
                input: values[0].shape.clone(),
                span,
            });
        } else if !cached(layer) && matches!(layer.kind, ShapedKind::Attention(_) | ShapedKind::Recurrent(_)) {
            errors.push(ShapeError::CacheMissing { path, keeper: keeper.path.clone(), span });
        }
    }
    errors
}
