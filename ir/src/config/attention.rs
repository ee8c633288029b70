//! Multi-head attention: its options.

use super::context::Reported;
use super::error::ConfigError;
use super::fields::{self, Fields, Read};
use super::network::LayerKind;
use super::schema;
use super::spanned::Spanned;

/// Each position's mean of the values at the positions that it attends to, in several heads.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Elements of a position.
    pub d_model: Option<Spanned<u64>>,
    /// Positions.
    pub seq_length: Option<Spanned<u64>>,
    /// Heads; default 8.
    pub num_heads: Spanned<u64>,
    /// Heads of keys and values, each for as many heads of queries; left out, as many as heads.
    pub num_kv_heads: Option<Spanned<u64>>,
    /// Elements of a head; left out, `d_model` divided by the heads.
    pub head_dim: Option<Spanned<u64>>,
    /// Whether a position attends to none after it; default true.
    pub causal: bool,
    /// How many positions one attends to on either side, itself included; left out, all.
    pub sliding_window: Option<Spanned<u64>>,
    /// Which positions (columns) each position (a row) may attend to; left out, all.
    pub mask: Option<Spanned<Vec<Vec<bool>>>>,
    /// The base of rotary position embeddings, at least 1; none where there are none. Default 10000.
    pub rope: Option<f64>,
    /// For how many positions keys and values are kept from run to run; left out, a run knows its own alone.
    pub kv_cache: Option<Spanned<u64>>,
    /// Whether queries, keys and values have biases; default true.
    pub bias: bool,
    /// Whether the output has; default as `bias`.
    pub output_bias: bool,
    /// Whether the heads are mapped to elements of a position, rather than given as they are; default true.
    pub output_projection: bool,
}

pub(super) fn attention(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    let d_model = fields.optional(schema::D_MODEL, fields::size);
    let seq_length = fields.optional(schema::SEQ_LENGTH, fields::size);
    let num_heads = fields.optional_or(schema::NUM_HEADS, 8, fields::size);
    let num_kv_heads = fields.optional(schema::NUM_KV_HEADS, fields::size);
    let head_dim = fields.optional(schema::HEAD_DIM, fields::size);
    let causal = fields.optional_or(schema::CAUSAL, true, fields::boolean);
    let kv_cache = kv_cache(fields, &causal);
    let sliding_window = fields.optional(schema::SLIDING_WINDOW, fields::size);
    let mask = mask(fields);
    let rope = rope(fields);
    let bias = fields.optional_or(schema::BIAS, true, fields::boolean);
    let output_bias = fields.optional(schema::OUTPUT_BIAS, fields::boolean);
    let output_projection = fields.optional_or(schema::OUTPUT_PROJECTION, true, fields::boolean);
    let (bias, output_bias, output_projection) = (bias?.value, output_bias?, output_projection?.value);
    if let Some(given) = output_bias.filter(|given| given.value && !output_projection) {
        let at = fields.object.at(Some(schema::OUTPUT_BIAS.name.to_owned()));
        let rule = "without an output projection there is nothing to add a bias to";
        return Err(fields.report(ConfigError::Rule { at, rule, span: given.span }));
    }
    Ok(LayerKind::Attention(Attention {
        d_model: d_model?,
        seq_length: seq_length?,
        num_heads: num_heads?,
        num_kv_heads: num_kv_heads?,
        head_dim: head_dim?,
        causal: causal?.value,
        sliding_window: sliding_window?,
        mask: mask?,
        kv_cache: kv_cache?,
        rope: rope?,
        bias,
        output_bias: output_bias.map_or(bias, |given| given.value),
        output_projection,
    }))
}

/// A position's keys and values are kept once and for all, so nothing that comes later may have a part in them.
fn kv_cache(
    fields: &mut Fields<'_, '_>,
    causal: &Result<Spanned<bool>, Reported>,
) -> Result<Option<Spanned<u64>>, Reported> {
    let given = fields.optional(schema::KV_CACHE, fields::size)?;
    match (given, causal) {
        (Some(given), Ok(causal)) if !causal.value => {
            let at = fields.object.at(Some(schema::KV_CACHE.name.to_owned()));
            let rule = "`kv_cache` needs `causal`: a kept position can't attend to one that is still to come";
            Err(fields.report(ConfigError::Rule { at, rule, span: given.span }))
        }
        _ => Ok(given),
    }
}

fn mask(fields: &mut Fields<'_, '_>) -> Result<Option<Spanned<Vec<Vec<bool>>>>, Reported> {
    const ROW: Read<Vec<bool>> = |value, at| fields::list(value, at, fields::boolean);
    const READ: Read<Vec<Vec<bool>>> = |value, at| {
        let rows = fields::list(value, at, ROW)?;
        let rule = "the mask has as many columns as rows";
        let square = rows.iter().all(|row| row.len() == rows.len());
        if square { Ok(rows) } else { Err(ConfigError::Rule { at: at(), rule, span: value.span() }) }
    };
    fields.optional(schema::ATTENTION_MASK, READ)
}

/// The base, or none: `"rope": false` turns the embeddings off. As the predecessor wrote a 0 where nothing was chosen, a
/// base of 0 is the default.
fn rope(fields: &mut Fields<'_, '_>) -> Result<Option<f64>, Reported> {
    let rope = fields.optional_or(schema::ROPE, true, fields::boolean);
    let base = fields.optional(schema::ROPE_FREQ_BASE, fields::rope_base);
    let (rope, base) = (rope?.value, base?.map(|base| base.value));
    Ok(rope.then(|| base.filter(|&base| base > 0.0).unwrap_or(10_000.0)))
}
