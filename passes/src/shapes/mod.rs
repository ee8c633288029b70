//! `infer-shapes`: from a network as written to layers whose every size is known.
//!
//! Sizes that follow from the layer before need not be given; those that are given must agree with it. All mistakes of
//! a network are reported at once, each with the layer's path, both shapes and the rule; where a layer's output can be
//! told in spite of a mistake, the layers after it are checked too.
//!
//! Nested lists become one list in the order of execution. Values are numbered: 0 is the network's input, `n + 1` the
//! output of layer number `n` of that list.
//!
//! A value that comes out of a convolution or pooling layer is a *feature map*: channels first, then positions. A dense
//! layer works on the last axis of its input, but takes a feature map flattened in (channel, row, column) order.

// The errors carry all that a message needs, and a network makes a handful of them.
#![allow(clippy::result_large_err)]

mod attention;
mod combine;
mod elements;
mod error;
mod infer;
mod input;
mod pooling;
mod quantised;
mod small;
mod softmax;
mod window;

use std::fmt;

use loom_ir::config::{
    Activation, Cell, CellBiases, KmeansMetric, KmeansOutput, LayerPath, Network, NormalizeBy, Precision, Scale,
};
use loom_ir::numerics::quantise::{CodeFormat, Coding};
use loom_ir::types::Shape;

pub use error::{ShapeError, ShapeErrors};
pub(crate) use quantised::{channel_groups, groups_of};

/// A network with all sizes known.
#[derive(Debug, Clone, PartialEq)]
pub struct ShapedNetwork {
    /// The network's name; empty where the config has none.
    pub name: String,
    /// Leading extent of every value.
    pub batch_size: u64,
    /// Seed of weights that no file gives.
    pub seed: u64,
    /// The codes that the input becomes, if it does.
    pub input_codes: Option<Coding>,
    /// The shapes of all values, batch included; the first is the input's.
    pub values: Vec<Shape>,
    /// The layers in the order of execution.
    pub layers: Vec<ShapedLayer>,
    /// The value that is the network's output.
    pub output: ValueId,
}

/// The number of a value: see the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub usize);

/// A layer with all sizes known.
#[derive(Debug, Clone, PartialEq)]
pub struct ShapedLayer {
    /// Where the layer stands in the config; its weights' names begin with it.
    pub path: LayerPath,
    /// The type's name, for messages and listings.
    pub type_name: &'static str,
    /// What it reads.
    pub input: ValueId,
    /// The number format of its weights and its result.
    pub precision: Precision,
    /// How it multiplies integers, if it does.
    pub quantised: Option<Quantised>,
    /// What it computes.
    pub kind: ShapedKind,
}

/// How a layer multiplies integers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantised {
    /// The format of its weights' codes.
    pub format: CodeFormat,
    /// Weights of one output that share a scale, at most.
    pub group_size: Option<u64>,
    /// The input's codes; without them each row has a scale of its own.
    pub input: Option<Coding>,
    /// The same for the input of the last product, or a recurrent layer's state.
    pub inner: Option<Coding>,
}

/// What a layer computes, sizes resolved.
#[derive(Debug, Clone, PartialEq)]
pub enum ShapedKind {
    /// What the layer before says of its result: codes of 8 bits, and what they stand for.
    Quantise {
        /// Which.
        coding: Coding,
    },
    /// A matrix product over the last axis.
    Dense {
        /// Whether each sample is flattened first.
        flatten: bool,
        /// Elements of the contracted axis.
        input_size: u64,
        /// Elements of the new last axis.
        output_size: u64,
        /// Whether a bias is added.
        bias: bool,
        /// What follows.
        activation: Activation,
    },
    /// A convolution of any number of spatial axes.
    Conv {
        /// The shape under which the input is read, batch included: it is reshaped where the config says so.
        input: Shape,
        /// Output channels.
        filters: u64,
        /// Groups of channels.
        groups: u64,
        /// The sliding window.
        window: SpatialWindow,
        /// Whether a bias is added.
        bias: bool,
        /// What follows.
        activation: Activation,
    },
    /// A pooling of any number of spatial axes.
    Pool {
        /// The shape under which the input is read.
        input: Shape,
        /// How.
        kind: PoolKind,
        /// The sliding window.
        window: SpatialWindow,
    },
    /// The greatest element of each channel.
    GlobalMaxPool,
    /// The mean of each channel.
    GlobalAvgPool,
    /// The same elements under another shape, batch included.
    Reshape(Shape),
    /// The elements from one index to another along an axis.
    Slice {
        /// The axis.
        axis: usize,
        /// The first index.
        start: u64,
        /// One past the last.
        end: u64,
    },
    /// Elements repeated.
    Broadcast {
        /// The input's shape without the axes that are repeated.
        kept: Shape,
        /// Where the axes of `kept` are in the output.
        axes: Vec<usize>,
        /// The output's shape.
        output: Shape,
    },
    /// A linear function of each element.
    Scale(Scale),
    /// Rows divided by their length.
    Normalize {
        /// The rows' axis.
        axis: usize,
        /// Which length.
        norm: NormalizeBy,
        /// The least that is divided by.
        epsilon: f64,
    },
    /// The input.
    Identity,
    /// A distribution along an axis.
    Softmax {
        /// The shape under which the input is read.
        input: Shape,
        /// The axis of that shape.
        axis: usize,
        /// What the input is divided by.
        temperature: f64,
        /// Which distribution.
        distribution: Distribution,
        /// The output's shape.
        output: Shape,
    },
    /// Rows of a table.
    Embedding {
        /// How many rows.
        vocab_size: u64,
        /// Elements of a row.
        dim: u64,
    },
    /// Normalisation of the channels by statistics that are weights.
    BatchNorm {
        /// Added to the variance.
        epsilon: f64,
    },
    /// The gated feed-forward block.
    Swiglu {
        /// Elements of the last axis.
        input_size: u64,
        /// Elements between.
        intermediate_size: u64,
        /// Whether biases are added.
        bias: bool,
    },
    /// A cell run over a sequence.
    Recurrent(ShapedRecurrent),
    /// Multi-head attention over `[batch, positions, elements]`.
    Attention(Attention),
    /// One value made of the outputs of branches.
    Combine {
        /// How.
        combination: Combination,
        /// The outputs, in the order in which they are combined.
        branches: Vec<ValueId>,
    },
    /// Soft assignment to centres.
    Kmeans {
        /// What is assigned.
        features: ValueId,
        /// How many centres.
        clusters: u64,
        /// The distance.
        metric: KmeansMetric,
        /// What comes out.
        output: KmeansOutput,
        /// The width.
        temperature: f64,
    },
    /// Layer normalisation over the axes from `first_axis` on.
    LayerNorm {
        /// The first axis that is normalised.
        first_axis: usize,
        /// Added to the variance.
        epsilon: f64,
    },
    /// Root mean square normalisation over the axes from `first_axis` on.
    RmsNorm {
        /// The first axis that is normalised.
        first_axis: usize,
        /// Added to the mean square.
        epsilon: f64,
    },
    /// Adds an earlier value.
    Residual {
        /// The value.
        from: ValueId,
    },
    /// An activation as a layer.
    Activation(Activation),
}

/// A recurrent layer, sizes resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct ShapedRecurrent {
    /// What a step computes.
    pub cell: Cell,
    /// How the sequence lies in the input.
    pub input: SequenceInput,
    /// How many steps there are, at least one.
    pub steps: u64,
    /// Elements of a step.
    pub input_size: u64,
    /// Elements of the state.
    pub hidden_size: u64,
    /// What is added to the products.
    pub biases: CellBiases,
    /// Whether a second cell runs from the last step to the first.
    pub bidirectional: bool,
    /// Whether the states of all steps are given.
    pub return_sequences: bool,
    /// Whether the state before the first step is a weight.
    pub learned_start: bool,
}

/// How a sequence lies in the input of a recurrent layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SequenceInput {
    /// `[batch, steps, elements]`.
    Sequence,
    /// `[batch, elements, steps]`: a feature map.
    ChannelsFirst,
    /// Step after step, under another shape.
    Flat,
}

/// A distribution along one axis; see `docs/layers.md`.
#[derive(Debug, Clone, PartialEq)]
pub enum Distribution {
    /// Exponentials divided by their sum.
    Standard,
    /// Standard, after Gumbel noise is added.
    Gumbel,
    /// Standard over those elements for which the mask holds.
    Masked {
        /// One an element.
        mask: Vec<bool>,
    },
    /// The nearest point of the simplex.
    Sparsemax,
    /// Tsallis' family, for an alpha between 1 and 2.
    Entmax {
        /// More than 1, less than 2.
        alpha: f64,
    },
    /// The leaves of a tree all of whose nodes have logits, level by level.
    Tree {
        /// Children of every node of a level.
        levels: Vec<u64>,
    },
    /// A head, then a logit for each cluster, then the clusters' classes.
    Adaptive {
        /// Classes of the head and of each cluster.
        sizes: Vec<u64>,
    },
    /// The weighted mean of equal parts of the axis, each distributed by itself.
    Mixture {
        /// One a part; they need not add up to 1.
        weights: Vec<f64>,
    },
}

impl Distribution {
    /// Whether its formula compares each element with each other one.
    pub fn compares_pairs(&self) -> bool {
        // Any other alpha than 1.5 is found by bisection.
        matches!(self, Distribution::Sparsemax) || matches!(self, Distribution::Entmax { alpha } if *alpha == 1.5)
    }
}

/// Multi-head attention with all sizes known.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Heads of queries.
    pub heads: u64,
    /// Heads of keys and values; they divide the heads.
    pub kv_heads: u64,
    /// Elements of a head.
    pub head_dim: u64,
    /// Whether a position attends to none after it.
    pub causal: bool,
    /// How many positions one attends to on either side, itself included.
    pub window: Option<u64>,
    /// Which positions each one may attend to, row-major.
    pub mask: Option<Vec<bool>>,
    /// For how many positions keys and values are kept; the run's own positions follow those that are.
    pub cache: Option<u64>,
    /// The base of rotary position embeddings.
    pub rope: Option<f64>,
    /// Whether queries, keys and values have biases.
    pub bias: bool,
    /// Whether the output has.
    pub output_bias: bool,
    /// Whether the heads are mapped to elements of a position.
    pub output_projection: bool,
}

/// How outputs of branches become one value.
#[derive(Debug, Clone, PartialEq)]
pub enum Combination {
    /// One after another along an axis of the shape with batch; each sample flattened first where there is none.
    Concat {
        /// The axis.
        axis: Option<usize>,
    },
    /// The sum.
    Add,
    /// The product.
    Multiply,
    /// The sum divided by the number of branches.
    Average,
    /// The sum of the outputs, each times its weight.
    Filter {
        /// What the weights are made of; without it they are all the same.
        gate: Option<Gate>,
    },
}

/// Logits for branches: the last axis has one for each, the others are the leading axes of the branches' outputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// The logits.
    pub value: ValueId,
    /// How they become weights.
    pub distribution: Distribution,
    /// What they are divided by.
    pub temperature: f64,
    /// How many branches have a weight, if not all.
    pub top_k: Option<u64>,
}

/// How a pooling layer sums up a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolKind {
    /// The greatest element.
    Max,
    /// The mean.
    Average {
        /// Whether padding counts as elements.
        count_include_pad: bool,
    },
}

/// A window over the spatial axes; one number an axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpatialWindow {
    /// Elements.
    pub size: Vec<u64>,
    /// Distance of windows.
    pub stride: Vec<u64>,
    /// Elements added at each end.
    pub padding: Vec<u64>,
    /// Distance of a window's elements.
    pub dilation: Vec<u64>,
}

/// Finds every size of a network.
pub fn infer_shapes(network: &Network) -> Result<ShapedNetwork, ShapeErrors> {
    infer::infer(network)
}

impl ShapedNetwork {
    /// The shape of a value.
    pub fn shape(&self, value: ValueId) -> &Shape {
        &self.values[value.0]
    }

    /// The value that a layer, by its number in [`Self::layers`], gives.
    pub fn output_of(&self, layer: usize) -> ValueId {
        ValueId(layer + 1)
    }
}

/// A table of layers and shapes.
impl fmt::Display for ShapedNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "network {:?} input {} {{", self.name, self.values[0])?;
        for (index, layer) in self.layers.iter().enumerate() {
            let (input, output) = (self.shape(layer.input), self.shape(self.output_of(index)));
            writeln!(f, "  {} {}: {input} -> {output}", layer.path, layer.type_name)?;
        }
        writeln!(f, "}}")
    }
}
