//! The softmax layer: its options, and the keys that come with each variant.

use super::context::Reported;
use super::error::{At, ConfigError};
use super::fields::{self, Fields, Read};
use super::layers;
use super::network::LayerKind;
use super::schema::{self, Named};
use super::spanned::Spanned;

/// A distribution along one axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Softmax {
    /// Which distribution.
    pub variant: SoftmaxVariant,
    /// What the input is divided by, more than 0; default 1.
    pub temperature: f64,
    /// The axis, counted from the end where negative; left out, it is the last (-1).
    pub axis: Option<Spanned<i64>>,
}

/// The variants of [`Softmax`].
#[derive(Debug, Clone, PartialEq)]
pub enum SoftmaxVariant {
    /// `standard`, or `temperature`: exponentials divided by their sum.
    Standard,
    /// `grid`: standard along each row of a grid.
    Grid {
        /// Rows of the grid.
        rows: Spanned<u64>,
        /// Elements of a row.
        cols: Spanned<u64>,
    },
    /// `hierarchical`: standard among the children of each node of a tree.
    Hierarchical {
        /// Children of every node, level by level, the root's first.
        levels: Spanned<Vec<u64>>,
    },
    /// `gumbel`: standard, of the input with Gumbel noise.
    Gumbel {
        /// Whether the noise is added; default true.
        noise: bool,
    },
    /// `masked`: standard over some of the elements, 0 for the others.
    Masked {
        /// Which elements take part.
        mask: Spanned<Vec<bool>>,
    },
    /// `sparsemax`, or `sparse`: the nearest point of the simplex.
    Sparsemax,
    /// `entmax`: between standard and sparsemax.
    Entmax {
        /// More than 1 and at most 2; default 1.5.
        alpha: f64,
    },
    /// `adaptive`: a head of frequent classes and clusters of others.
    Adaptive {
        /// How many classes each cluster has, the head's first. In a file, the classes themselves are listed.
        sizes: Spanned<Vec<u64>>,
    },
    /// `mixture`: a weighted mean of several.
    Mixture {
        /// The weight of each, at least 0, not all 0.
        weights: Spanned<Vec<f64>>,
    },
}

const STANDARD: Named<SoftmaxVariant> = Named::plain("standard", &[], |_| Ok(SoftmaxVariant::Standard));
const TEMPERATURE: Named<SoftmaxVariant> = Named::plain("temperature", &[], |_| Ok(SoftmaxVariant::Standard));
const SPARSEMAX: Named<SoftmaxVariant> = Named::plain("sparsemax", &["sparse"], |_| Ok(SoftmaxVariant::Sparsemax));

/// The variants of the softmax layer. The first is the default.
pub(super) const VARIANTS: &[Named<SoftmaxVariant>] = &[
    STANDARD,
    TEMPERATURE,
    Named { name: "grid", aliases: &[], keys: &[schema::SOFTMAX_ROWS, schema::SOFTMAX_COLS], read: grid },
    Named { name: "hierarchical", aliases: &[], keys: &[schema::HIERARCHY_LEVELS], read: hierarchical },
    Named { name: "gumbel", aliases: &[], keys: &[schema::GUMBEL_NOISE], read: gumbel },
    Named { name: "masked", aliases: &[], keys: &[schema::MASK], read: masked },
    SPARSEMAX,
    Named { name: "entmax", aliases: &[], keys: &[schema::ENTMAX_ALPHA], read: entmax },
    Named { name: "adaptive", aliases: &[], keys: &[schema::ADAPTIVE_CLUSTERS], read: adaptive },
    Named { name: "mixture", aliases: &[], keys: &[schema::MIXTURE_WEIGHTS], read: mixture },
];

/// Those that a gate's weights may be: the variants that keep an axis as it is and need nothing to be given.
pub(super) const GATE_VARIANTS: &[Named<SoftmaxVariant>] = &[
    STANDARD,
    TEMPERATURE,
    SPARSEMAX,
    Named::plain("entmax", &[], |_| Ok(SoftmaxVariant::Entmax { alpha: DEFAULT_ALPHA })),
];

/// Peters, Niculae and Martins, "Sparse Sequence-to-Sequence Models" (ACL 2019), use this one.
const DEFAULT_ALPHA: f64 = 1.5;

pub(super) fn softmax(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    let variant = fields::read_choice(fields, schema::SOFTMAX_VARIANT, "softmax variant", VARIANTS);
    let temperature = layers::or_default(fields, schema::TEMPERATURE, 1.0);
    let axis = fields.optional(schema::AXIS, fields::signed);
    Ok(LayerKind::Softmax(Softmax { variant: variant?, temperature: temperature?, axis: axis? }))
}

fn grid(fields: &mut Fields<'_, '_>) -> Result<SoftmaxVariant, Reported> {
    let rows = fields.required(schema::SOFTMAX_ROWS, fields::size);
    let cols = fields.required(schema::SOFTMAX_COLS, fields::size);
    Ok(SoftmaxVariant::Grid { rows: rows?, cols: cols? })
}

fn hierarchical(fields: &mut Fields<'_, '_>) -> Result<SoftmaxVariant, Reported> {
    const READ: Read<Vec<u64>> = |value, at| fields::list(value, at, fields::size);
    Ok(SoftmaxVariant::Hierarchical { levels: fields.required(schema::HIERARCHY_LEVELS, READ)? })
}

fn gumbel(fields: &mut Fields<'_, '_>) -> Result<SoftmaxVariant, Reported> {
    Ok(SoftmaxVariant::Gumbel { noise: fields.optional_or(schema::GUMBEL_NOISE, true, fields::boolean)?.value })
}

fn masked(fields: &mut Fields<'_, '_>) -> Result<SoftmaxVariant, Reported> {
    const READ: Read<Vec<bool>> = |value, at| fields::list(value, at, fields::boolean);
    Ok(SoftmaxVariant::Masked { mask: fields.required(schema::MASK, READ)? })
}

fn entmax(fields: &mut Fields<'_, '_>) -> Result<SoftmaxVariant, Reported> {
    let alpha = fields.optional_or(schema::ENTMAX_ALPHA, DEFAULT_ALPHA, fields::entmax_alpha)?.value;
    Ok(SoftmaxVariant::Entmax { alpha })
}

fn adaptive(fields: &mut Fields<'_, '_>) -> Result<SoftmaxVariant, Reported> {
    const CLUSTER: Read<Vec<u64>> = |value, at| fields::list(value, at, fields::count);
    const READ: Read<Vec<u64>> = |value, at| {
        let clusters = fields::list(value, at, CLUSTER)?;
        let in_order = clusters.iter().flatten().zip(0u64..).all(|(&class, place)| class == place);
        let rule = "the clusters together list the classes 0, 1, 2 and so on, in order";
        let error = || ConfigError::Rule { at: at(), rule, span: value.span() };
        if in_order { Ok(clusters.iter().map(|cluster| cluster.len() as u64).collect()) } else { Err(error()) }
    };
    Ok(SoftmaxVariant::Adaptive { sizes: fields.required(schema::ADAPTIVE_CLUSTERS, READ)? })
}

fn mixture(fields: &mut Fields<'_, '_>) -> Result<SoftmaxVariant, Reported> {
    const WEIGHT: Read<f64> = |value, at| fields::at_least_zero(value, at);
    const READ: Read<Vec<f64>> = |value, at: &dyn Fn() -> At| {
        let weights = fields::list(value, at, WEIGHT)?;
        let sum: f64 = weights.iter().sum();
        let rule = "the weights have a sum that is more than 0 and within the range of a 64-bit float";
        let error = || ConfigError::Rule { at: at(), rule, span: value.span() };
        if sum > 0.0 && sum.is_finite() { Ok(weights) } else { Err(error()) }
    };
    Ok(SoftmaxVariant::Mixture { weights: fields.required(schema::MIXTURE_WEIGHTS, READ)? })
}
