//! The typed network: what the user wrote, and nothing that has to be inferred.
//!
//! A size that follows from the shape before it may be left out of a file, and is an `Option` here; an option with a
//! fixed default is resolved. Such a default's span is that of the layer's type, so that a message about it has a
//! place to point to.

use std::fmt;

use super::attention::Attention;
use super::elements::{Broadcast, Normalize, Reshape, Scale, Slice};
use super::kmeans::Kmeans;
use super::parallel::{CombineMode, Parallel};
use super::pooling::{AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d};
use super::precision::{GivenCoding, Precision, Quantisation};
use super::recurrent::Recurrent;
use super::softmax::Softmax;
use super::spanned::Spanned;
use crate::diagnostics::Span;

/// A whole network config.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// A label, without meaning to the compiler.
    pub id: Option<String>,
    /// The number format of layers that don't say which.
    pub precision: Precision,
    /// The codes that the input becomes; without them the input stays as it is.
    pub input_codes: Option<GivenCoding>,
    /// Samples that one run computes.
    pub batch_size: u64,
    /// The shape of one sample, without the batch axis. Left out, it follows from the first layer.
    pub input_shape: Option<Spanned<Vec<u64>>>,
    /// What weights and inputs are drawn from where no file gives them.
    pub seed: u64,
    /// The layers, in the order they run; never empty.
    pub layers: Vec<Layer>,
    /// The object that is the whole config.
    pub span: Span,
}

/// One layer of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Where it stands among the layers; its weights' names start with it.
    pub path: LayerPath,
    /// The name that the user gave it, unique in the network and never `input`.
    pub name: Option<Spanned<String>>,
    /// The number format of its weights and its result; left out, that of the layer around it, or the network's.
    pub precision: Option<Precision>,
    /// How it is quantised, if that number format is one of integers.
    pub quantisation: Quantisation,
    /// What it computes.
    pub kind: LayerKind,
    /// The whole object.
    pub span: Span,
    /// The value of `type`.
    pub type_span: Span,
}

impl Network {
    /// Calls `see` for every layer, each before those inside it.
    pub fn visit<'a>(&'a self, see: &mut dyn FnMut(&'a Layer)) {
        self.layers.iter().for_each(|layer| layer.visit(see));
    }
}

impl Layer {
    fn visit<'a>(&'a self, see: &mut dyn FnMut(&'a Layer)) {
        see(self);
        match &self.kind {
            LayerKind::Sequential(sequential) => sequential.layers.iter().for_each(|layer| layer.visit(see)),
            LayerKind::Parallel(parallel) => {
                parallel.branches.iter().for_each(|layer| layer.visit(see));
                if let CombineMode::Filter(filter) = &parallel.mode {
                    filter.gate.iter().for_each(|gate| gate.visit(see));
                }
            }
            LayerKind::Kmeans(kmeans) => kmeans.attached.iter().for_each(|layer| layer.visit(see)),
            _ => {}
        }
    }
}

/// The place of a layer: `layers.3`, `layers.3.branches.0` for the first layer inside the fourth, and
/// `layers.3.filter_gate` or `layers.3.attached_layer` for one that stands under such a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerPath(Vec<Step>);

/// From a list or a layer to a layer inside it. A path's first step is one into the network's own list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Step {
    Branch(usize),
    Gate,
    Attached,
}

impl LayerPath {
    /// The layer at `index` of the network's own list.
    pub fn top(index: usize) -> LayerPath {
        LayerPath(vec![Step::Branch(index)])
    }

    fn step(&self, step: Step) -> LayerPath {
        LayerPath(self.0.iter().copied().chain([step]).collect())
    }

    /// The layer at `index` of this one's branches.
    #[must_use]
    pub fn branch(&self, index: usize) -> LayerPath {
        self.step(Step::Branch(index))
    }

    /// The gate of this layer's branches.
    #[must_use]
    pub fn gate(&self) -> LayerPath {
        self.step(Step::Gate)
    }

    /// The layer whose output this one clusters.
    #[must_use]
    pub fn attached(&self) -> LayerPath {
        self.step(Step::Attached)
    }

    /// Whether it is a gate.
    pub fn is_gate(&self) -> bool {
        self.0.last() == Some(&Step::Gate)
    }
}

impl fmt::Display for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = ["layers"].into_iter().chain(std::iter::repeat(".branches"));
        lists.zip(&self.0).try_for_each(|(list, step)| match step {
            Step::Branch(index) => write!(f, "{list}.{index}"),
            Step::Gate => f.write_str(".filter_gate"),
            Step::Attached => f.write_str(".attached_layer"),
        })
    }
}

/// What a layer computes.
#[derive(Debug, Clone, PartialEq)]
pub enum LayerKind {
    /// `dense`
    Dense(Dense),
    /// `conv1d`
    Conv1d(Conv1d),
    /// `conv2d`
    Conv2d(Conv2d),
    /// `max_pool1d`
    MaxPool1d(MaxPool1d),
    /// `avg_pool1d`
    AvgPool1d(AvgPool1d),
    /// `max_pool2d`
    MaxPool2d(MaxPool2d),
    /// `avg_pool2d`
    AvgPool2d(AvgPool2d),
    /// `global_max_pool`: the largest element of each channel.
    GlobalMaxPool,
    /// `global_avg_pool`: the mean of each channel.
    GlobalAvgPool,
    /// `flatten`
    Flatten(Flatten),
    /// `reshape`
    Reshape(Reshape),
    /// `slice`
    Slice(Slice),
    /// `broadcast`
    Broadcast(Broadcast),
    /// `scale`
    Scale(Scale),
    /// `normalize`
    Normalize(Normalize),
    /// `embedding`
    Embedding(Embedding),
    /// `softmax`
    Softmax(Softmax),
    /// `layer_norm`
    LayerNorm(Norm),
    /// `rms_norm`
    RmsNorm(Norm),
    /// `batch_norm`
    BatchNorm(BatchNorm),
    /// `dropout`: its input, since networks are only run.
    Dropout(Dropout),
    /// `swiglu`
    Swiglu(Swiglu),
    /// `stitch`
    Stitch(Stitch),
    /// `rnn`, `lstm`, `gru`
    Recurrent(Recurrent),
    /// `multi_head_attention`
    Attention(Attention),
    /// `residual`
    Residual(Residual),
    /// `sequential`
    Sequential(Sequential),
    /// `parallel`
    Parallel(Parallel),
    /// `kmeans`
    Kmeans(Kmeans),
    /// `activation`, or a layer whose type is the activation's name.
    Activation(Activation),
}

/// A matrix product over the last axis, a bias and an activation.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    /// Elements of the last axis of the input.
    pub input_size: Option<Spanned<u64>>,
    /// Elements of the last axis of the output.
    pub output_size: Spanned<u64>,
    /// Whether a bias is added.
    pub bias: bool,
    /// Applied to each element of the result.
    pub activation: Activation,
}

/// A convolution over samples of channels × length.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv1d {
    /// Positions of a sample.
    pub input_length: Option<Spanned<u64>>,
    /// Channels of a sample.
    pub input_channels: Option<Spanned<u64>>,
    /// Channels of the output.
    pub filters: Spanned<u64>,
    /// Positions under the kernel.
    pub kernel_size: Spanned<u64>,
    /// Positions between two outputs; default 1.
    pub stride: Spanned<u64>,
    /// Zeros added at each end; default 0.
    pub padding: Spanned<u64>,
    /// Positions between two taps of the kernel; default 1.
    pub dilation: Spanned<u64>,
    /// Parts that the channels are divided into, each seeing only itself; default 1.
    pub groups: Spanned<u64>,
    /// Whether a bias is added to each channel.
    pub bias: bool,
    /// Applied to each element of the result.
    pub activation: Activation,
}

/// One number for each of an image's axes. In a file, a single number stands for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pair {
    /// Down the rows.
    pub height: u64,
    /// Along a row.
    pub width: u64,
}

impl Pair {
    /// The same number for both axes.
    pub const fn square(side: u64) -> Pair {
        Pair { height: side, width: side }
    }
}

/// A convolution over samples of channels × height × width.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv2d {
    /// Rows of a sample.
    pub input_height: Option<Spanned<u64>>,
    /// Columns of a sample.
    pub input_width: Option<Spanned<u64>>,
    /// Channels of a sample.
    pub input_channels: Option<Spanned<u64>>,
    /// Rows of the output. They follow from the rest; given, they have to agree with it.
    pub output_height: Option<Spanned<u64>>,
    /// Columns of the output. They follow from the rest; given, they have to agree with it.
    pub output_width: Option<Spanned<u64>>,
    /// Channels of the output.
    pub filters: Spanned<u64>,
    /// Positions under the kernel.
    pub kernel_size: Spanned<Pair>,
    /// Positions between two outputs; default 1.
    pub stride: Spanned<Pair>,
    /// Zeros added at each end; default 0.
    pub padding: Spanned<Pair>,
    /// Positions between two taps of the kernel; default 1.
    pub dilation: Spanned<Pair>,
    /// Parts that the channels are divided into, each seeing only itself; default 1.
    pub groups: Spanned<u64>,
    /// Whether a bias is added to each channel.
    pub bias: bool,
    /// Applied to each element of the result.
    pub activation: Activation,
}

/// Neighbouring axes as one, in row-major order. Axes are counted without the batch, from the end where negative.
#[derive(Debug, Clone, PartialEq)]
pub struct Flatten {
    /// The first of them; left out, it is 0.
    pub start_axis: Option<Spanned<i64>>,
    /// The last of them; left out, it is -1.
    pub end_axis: Option<Spanned<i64>>,
}

/// Rows of a table, by their numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// Rows of the table, at most 2^24, so that every number of one is a 32-bit float.
    pub vocab_size: Spanned<u64>,
    /// Elements of a row.
    pub embedding_dim: Spanned<u64>,
}

/// The options of a normalisation over the last axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Norm {
    /// Elements of the last axis.
    pub norm_size: Option<Spanned<u64>>,
    /// What keeps the root away from 0, more than 0; default 1e-5.
    pub epsilon: f64,
}

/// A normalisation of each channel by statistics that are weights.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNorm {
    /// Channels: the first axis after the batch.
    pub num_features: Option<Spanned<u64>>,
    /// What keeps the root away from 0, more than 0; default 1e-5.
    pub epsilon: f64,
}

/// What a training would set to zero at random.
#[derive(Debug, Clone, PartialEq)]
pub struct Dropout {
    /// The share of elements, at least 0 and less than 1; default 0.5. It changes nothing that is computed.
    pub rate: f64,
}

/// The gated feed-forward block of transformers: down(silu(gate(x)) · up(x)).
#[derive(Debug, Clone, PartialEq)]
pub struct Swiglu {
    /// Elements of the last axis, of the input and of the output.
    pub input_size: Option<Spanned<u64>>,
    /// Elements between.
    pub intermediate_size: Spanned<u64>,
    /// Whether the three products each add a bias.
    pub bias: bool,
}

/// A linear map of the last axis to another size.
#[derive(Debug, Clone, PartialEq)]
pub struct Stitch {
    /// Elements of the last axis of the input.
    pub input_size: Option<Spanned<u64>>,
    /// Elements of the last axis of the output.
    pub output_size: Spanned<u64>,
    /// Whether a bias is added.
    pub bias: bool,
}

/// Adds an earlier value to the one before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Residual {
    /// Which earlier value; left out, it is [`ResidualFrom::Distance`] 1.
    pub from: Option<Spanned<ResidualFrom>>,
}

/// The value that a [`Residual`] adds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ResidualFrom {
    /// Counted in layers back from the residual's own input, at least 1: 1 is the input of the layer before it.
    Distance(u64),
    /// The output of the layer with this name, or the network's input where it is `input`. Whether there is such a
    /// layer is not checked here.
    Name(String),
}

/// Layers that stand for one.
#[derive(Debug, Clone, PartialEq)]
pub struct Sequential {
    /// The layers, in the order they run. With none, the output is the input.
    pub layers: Vec<Layer>,
}

/// A function of each element; softmax, of each row of the last axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// max(0, x)
    Relu,
    /// 1 / (1 + e^-x)
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// Exponentials divided by their sum.
    Softmax,
    /// x · Φ(x), Φ the distribution function of the normal distribution.
    Gelu {
        /// How Φ is computed.
        approximate: GeluApproximation,
    },
    /// x · sigmoid(x)
    Swish,
    /// x · tanh(softplus(x))
    Mish,
    /// x, or `negative_slope` · x below 0.
    LeakyRelu {
        /// Default 0.01.
        negative_slope: f64,
    },
    /// x, or `alpha` · (e^x - 1) below 0.
    Elu {
        /// Default 1.
        alpha: f64,
    },
    /// Elu with the two fixed factors that keep mean and variance.
    Selu,
    /// ln(1 + e^x)
    Softplus,
    /// x
    Linear,
}

/// How [`Activation::Gelu`] is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GeluApproximation {
    /// `none`: with the error function.
    None,
    /// `tanh`: 0.5 · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))
    Tanh,
}
