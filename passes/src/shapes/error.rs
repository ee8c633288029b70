//! What can be wrong with a network's sizes.

use std::fmt;

use loom_ir::config::{LayerPath, Precision};
use loom_ir::diagnostics::{Diagnostic, Span};
use loom_ir::types::{Shape, ShapeLimit};

/// Which layers multiply integers.
const INTEGER_LAYERS: &str =
    "dense, conv1d, conv2d, rnn, lstm, gru, swiglu, stitch and multi_head_attention layers can";

/// One mistake, with the layer it is in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// Nothing says how large the input is.
    #[error("{path}: the size of the network's input is not known")]
    NoInputShape {
        /// The first layer.
        path: LayerPath,
        /// What the layer would have to say.
        missing: &'static str,
        /// The layer's type.
        span: Span,
    },
    /// A size that is given differs from the one that arrives.
    #[error("{path}: `{key}` is {given}, but its input is {shape}, so it should be {actual}")]
    SizeMismatch {
        /// The layer.
        path: LayerPath,
        /// The key.
        key: &'static str,
        /// Its value.
        given: u64,
        /// The value that fits.
        actual: u64,
        /// The input's shape, batch included.
        shape: Shape,
        /// The key's value.
        span: Span,
        /// The layer that made the input.
        maker: Option<(LayerPath, Span)>,
    },
    /// An input with the wrong number of axes.
    #[error("{path}: takes {expected}, but its input is {shape}")]
    Rank {
        /// The layer.
        path: LayerPath,
        /// What the layer takes.
        expected: &'static str,
        /// The input's shape, batch included.
        shape: Shape,
        /// The layer's type.
        span: Span,
        /// The layer that made the input.
        maker: Option<(LayerPath, Span)>,
    },
    /// A window larger than what it slides over.
    #[error(
        "{path}: a window of {size} (dilation {dilation}) does not fit into an axis of {extent} with padding {padding}"
    )]
    Window {
        /// The layer.
        path: LayerPath,
        /// Its elements.
        size: u64,
        /// Distance of its elements.
        dilation: u64,
        /// The axis.
        extent: u64,
        /// Added at each end.
        padding: u64,
        /// The kernel size.
        span: Span,
    },
    /// A pooling window that could lie in the padding alone.
    #[error("{path}: a pooling layer's padding is at most half its kernel size")]
    PoolPadding {
        /// The layer.
        path: LayerPath,
        /// The padding.
        span: Span,
    },
    /// Channels that do not divide into groups.
    #[error("{path}: {groups} groups do not divide {count} {what}")]
    Groups {
        /// The layer.
        path: LayerPath,
        /// Groups.
        groups: u64,
        /// Channels or filters.
        what: &'static str,
        /// How many.
        count: u64,
        /// The groups.
        span: Span,
    },
    /// An axis that the input does not have.
    #[error("{path}: there is no axis {axis} in {shape}")]
    Axis {
        /// The layer.
        path: LayerPath,
        /// The axis as given.
        axis: i64,
        /// The input's shape without batch.
        shape: Shape,
        /// The axis.
        span: Span,
    },
    /// An axis of another extent than the layer's options ask for.
    #[error("{path}: its axis has {extent} elements, but needs {}: {what}", either(expected))]
    AxisExtent {
        /// The layer.
        path: LayerPath,
        /// What decides the extent.
        what: &'static str,
        /// The extents that fit.
        expected: Vec<u64>,
        /// The axis.
        extent: u64,
        /// The input's shape, batch included.
        shape: Shape,
        /// The option.
        span: Span,
    },
    /// Another number of elements than the input's.
    #[error("{path}: {input} has {elements} elements a sample, {shape} another number")]
    Elements {
        /// The layer.
        path: LayerPath,
        /// The input's shape, batch included.
        input: Shape,
        /// Elements of a sample.
        elements: u64,
        /// The shape asked for, without the batch.
        shape: Shape,
        /// The shape.
        span: Span,
    },
    /// Indices that an axis does not have.
    #[error("{path}: there are no elements {start} to {end} along an axis of {extent}")]
    Slice {
        /// The layer.
        path: LayerPath,
        /// The first index.
        start: u64,
        /// One past the last.
        end: u64,
        /// The axis.
        extent: u64,
        /// The option.
        span: Span,
    },
    /// A shape that the input can't be repeated to.
    #[error("{path}: {input} can't be repeated to {shape}: the last axes must be the input's, or stand for axes of 1")]
    Broadcast {
        /// The layer.
        path: LayerPath,
        /// The input's shape, without the batch.
        input: Shape,
        /// The shape asked for, without the batch.
        shape: Shape,
        /// The shape.
        span: Span,
    },
    /// A mixture whose parts do not divide the axis.
    #[error("{path}: an axis of {extent} elements does not divide into {parts} distributions")]
    Mixture {
        /// The layer.
        path: LayerPath,
        /// How many distributions.
        parts: u64,
        /// The axis.
        extent: u64,
        /// The weights.
        span: Span,
    },
    /// Axes that end before they begin.
    #[error("{path}: the axes from number {first} to number {last}, batch included, are none")]
    AxisOrder {
        /// The layer.
        path: LayerPath,
        /// The first.
        first: usize,
        /// The last.
        last: usize,
        /// The option.
        span: Span,
    },
    /// Branches whose outputs do not go together.
    #[error("{path}: {rule}, but one is {first} and that of {branch} is {shape}")]
    BranchShapes {
        /// The parallel layer.
        path: LayerPath,
        /// What must hold.
        rule: &'static str,
        /// The first branch's output.
        first: Shape,
        /// A branch that does not fit.
        branch: LayerPath,
        /// Its output.
        shape: Shape,
        /// Its type.
        span: Span,
    },
    /// A gate that has not a logit for each branch.
    #[error(
        "{path}: a gate of {experts} branches that give {output} gives {experts} logits, for all of a sample or for each place of its leading axes, but this one gives {gate}"
    )]
    Gate {
        /// The parallel layer.
        path: LayerPath,
        /// How many branches.
        experts: u64,
        /// The gate's output.
        gate: Shape,
        /// The branches' outputs.
        output: Shape,
        /// The gate's type.
        span: Span,
    },
    /// More branches chosen than there are.
    #[error("{path}: {k} branches are to be chosen, there are {experts}")]
    TopK {
        /// The parallel layer.
        path: LayerPath,
        /// Asked.
        k: u64,
        /// There.
        experts: u64,
        /// The number.
        span: Span,
    },
    /// Heads that do not divide what they share.
    #[error("{path}: {heads} heads do not divide {count} {what}")]
    Heads {
        /// The layer.
        path: LayerPath,
        /// How many heads.
        heads: u64,
        /// What they share.
        what: &'static str,
        /// How many of it.
        count: u64,
        /// The number of heads.
        span: Span,
    },
    /// Heads whose halves can't be rotated into each other.
    #[error("{path}: rotary positions need heads of an even size, this one's have {head_dim} elements")]
    OddHead {
        /// The layer.
        path: LayerPath,
        /// Elements of a head.
        head_dim: u64,
        /// The size, or the layer's type.
        span: Span,
    },
    /// A mask for another number of positions.
    #[error("{path}: its mask is for {rows} positions, but there are {length}")]
    AttentionMask {
        /// The layer.
        path: LayerPath,
        /// The mask's rows.
        rows: u64,
        /// Positions.
        length: u64,
        /// The mask.
        span: Span,
    },
    /// A cache for fewer positions than a run has.
    #[error("{path}: keeps {capacity} positions, but its input alone has {length}")]
    CacheCapacity {
        /// The layer.
        path: LayerPath,
        /// Positions kept.
        capacity: u64,
        /// Positions of the input.
        length: u64,
        /// The number kept.
        span: Span,
    },
    /// A cache of something else than the input's positions.
    #[error(
        "{path}: `kv_cache` keeps the positions of the network's input, {input}, but this layer's input is {shape}"
    )]
    CachePositions {
        /// The layer.
        path: LayerPath,
        /// Its input's shape, batch included.
        shape: Shape,
        /// The network's.
        input: Shape,
        /// The layer's type.
        span: Span,
    },
    /// A layer that would begin anew in each run, beside one that goes on.
    #[error("{path}: begins anew with each run, but {keeper} goes on where the last one ended")]
    CacheMissing {
        /// The layer.
        path: LayerPath,
        /// The layer with a cache.
        keeper: LayerPath,
        /// The layer's type.
        span: Span,
    },
    /// An embedding of computed values.
    #[error("{path}: an embedding's ids are the network's input, but these are made by {maker}")]
    EmbeddingInput {
        /// The embedding.
        path: LayerPath,
        /// The layer before.
        maker: LayerPath,
        /// Its type.
        made: Span,
        /// The embedding's type.
        span: Span,
    },
    /// A residual over shapes that differ.
    #[error("{path}: adds {from} to {shape}, the shapes must be equal")]
    ResidualShapes {
        /// The layer.
        path: LayerPath,
        /// The earlier value's shape.
        from: Shape,
        /// The input's shape.
        shape: Shape,
        /// The `from`, or the layer's type.
        span: Span,
    },
    /// A residual from before the list's first layer.
    #[error("{path}: reaches {distance} layer{} back, there are {available} before it", if *distance == 1 { "" } else { "s" })]
    ResidualDistance {
        /// The layer.
        path: LayerPath,
        /// Asked.
        distance: u64,
        /// There.
        available: u64,
        /// The `from`, or the layer's type.
        span: Span,
    },
    /// A residual from a layer that does not come before it.
    #[error("{path}: no layer before it is called `{name}`")]
    ResidualName {
        /// The layer.
        path: LayerPath,
        /// The name.
        name: String,
        /// An earlier layer's name near to it.
        nearest: Option<String>,
        /// The `from`.
        span: Span,
    },
    /// Integers for a layer that has nothing to multiply with weights.
    #[error("{path}: a layer of type `{type_name}` can't be {}: {}", precision.name(), INTEGER_LAYERS)]
    Integers {
        /// The layer.
        path: LayerPath,
        /// What it was to be.
        precision: Precision,
        /// Its type.
        type_name: &'static str,
        /// The layer's type.
        span: Span,
    },
    /// Sums of integers that may leave 32 bits.
    #[error("{path}: sums of {terms} products of integers may not fit 32 bits, those of at most {most} do")]
    Terms {
        /// The layer.
        path: LayerPath,
        /// Terms of a sum.
        terms: u64,
        /// Allowed.
        most: u64,
        /// The layer's type.
        span: Span,
    },
    /// Groups of weights that are smaller than a channel's weights.
    #[error(
        "{path}: a `group_size` of {group_size} is less than the {volume} weights of a channel, which share a scale"
    )]
    GroupSize {
        /// The layer.
        path: LayerPath,
        /// What the layer says.
        group_size: u64,
        /// Weights of a channel.
        volume: u64,
        /// The `group_size`.
        span: Span,
    },
    /// A tensor over the limits.
    #[error("{path}: {what} {source}")]
    Limit {
        /// The layer.
        path: LayerPath,
        /// Which tensor.
        what: &'static str,
        /// What's wrong.
        source: ShapeLimit,
        /// The layer's type.
        span: Span,
    },
}

/// "6", or "6 or 8".
fn either(sizes: &[u64]) -> String {
    let mut sizes = sizes.to_vec();
    sizes.dedup();
    sizes.iter().map(u64::to_string).collect::<Vec<_>>().join(" or ")
}

impl ShapeError {
    /// The message with its place.
    pub fn diagnostic(&self) -> Diagnostic {
        let message = Diagnostic::new(self.to_string());
        let made = |diagnostic: Diagnostic, maker: &Option<(LayerPath, Span)>| match maker {
            Some((path, span)) => diagnostic.also(*span, format!("{path} makes this input")),
            None => diagnostic,
        };
        match self {
            ShapeError::NoInputShape { missing, span, .. } => message
                .at(*span, missing.to_string())
                .help("add \"input_shape\": [...] at the top, the shape of one sample without the batch"),
            ShapeError::SizeMismatch { actual, span, maker, .. } => {
                made(message.at(*span, format!("should be {actual}")), maker)
            }
            ShapeError::Rank { span, maker, expected, .. } => {
                made(message.at(*span, format!("takes {expected}")), maker)
            }
            ShapeError::Window { span, .. } => message.at(*span, "larger than the axis"),
            ShapeError::PoolPadding { span, .. } => message.at(*span, "too much"),
            ShapeError::Groups { span, what, count, .. } => {
                message.at(*span, format!("does not divide {count} {what}"))
            }
            ShapeError::Axis { span, .. } => {
                message.at(*span, "no such axis").help("axes are counted without the batch, negative ones from the end")
            }
            ShapeError::AxisExtent { span, shape, .. } => message.at(*span, format!("the input is {shape}")),
            ShapeError::Elements { span, elements, .. } => {
                message.at(*span, format!("should have {elements} elements"))
            }
            ShapeError::Slice { span, .. } => message.at(*span, "outside the axis"),
            ShapeError::Broadcast { span, .. } => message.at(*span, "does not end in the input's axes"),
            ShapeError::Mixture { span, .. } => message.at(*span, "one weight a distribution"),
            ShapeError::AxisOrder { span, .. } => message.at(*span, "ends before it begins"),
            ShapeError::BranchShapes { span, shape, .. } => message.at(*span, format!("gives {shape}")),
            ShapeError::Gate { span, gate, .. } => message.at(*span, format!("gives {gate}")),
            ShapeError::TopK { span, .. } => message.at(*span, "too many"),
            ShapeError::Heads { span, what, count, .. } => message.at(*span, format!("does not divide {count} {what}")),
            ShapeError::OddHead { span, .. } => {
                message.at(*span, "odd").help("`\"rope\": false` turns rotary positions off")
            }
            ShapeError::AttentionMask { span, length, .. } => message.at(*span, format!("should have {length} rows")),
            ShapeError::CacheCapacity { span, length, .. } => message.at(*span, format!("should be at least {length}")),
            ShapeError::CachePositions { span, .. } => message.at(*span, "other positions"),
            ShapeError::CacheMissing { span, .. } => {
                let message = message.at(*span, "keeps nothing");
                message.help("all attention layers of a network have a `kv_cache` or none; recurrent layers have none")
            }
            ShapeError::Integers { span, .. } => message
                .at(*span, "not of integers")
                .help("without a `dtype` of its own it is float32 in a network of integers"),
            ShapeError::Terms { span, most, .. } => message
                .at(*span, "too long a sum")
                .help(format!("`group_size`, at most {most}, makes several sums of it")),
            ShapeError::GroupSize { span, volume, .. } => message.at(*span, format!("at least {volume}")),
            ShapeError::EmbeddingInput { span, made, maker, .. } => {
                message.at(*span, "takes ids").also(*made, format!("{maker} makes this input"))
            }
            ShapeError::ResidualShapes { span, from, .. } => message.at(*span, format!("this value is {from}")),
            ShapeError::ResidualDistance { span, .. } => message.at(*span, "too far back"),
            ShapeError::ResidualName { span, nearest, .. } => {
                let message = message.at(*span, "not an earlier layer");
                match nearest {
                    Some(name) => message.help(format!("did you mean `{name}`?")),
                    None => message,
                }
            }
            ShapeError::Limit { span, .. } => message.at(*span, "too large"),
        }
    }
}

/// All mistakes of a network, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapeErrors(pub Vec<ShapeError>);

impl ShapeErrors {
    /// The messages with their places.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        self.0.iter().map(ShapeError::diagnostic).collect()
    }
}

impl fmt::Display for ShapeErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if index > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for ShapeErrors {}
