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

mod error;
mod infer;
mod input;
mod window;

use std::fmt;

use loom_ir::config::{Activation, LayerPath, Network};
use loom_ir::types::Shape;

pub use error::{ShapeError, ShapeErrors};

/// A network with all sizes known.
#[derive(Debug, Clone, PartialEq)]
pub struct ShapedNetwork {
    /// The network's name; empty where the config has none.
    pub name: String,
    /// Leading extent of every value.
    pub batch_size: u64,
    /// Seed of weights that no file gives.
    pub seed: u64,
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
    /// What it computes.
    pub kind: ShapedKind,
}

/// What a layer computes, sizes resolved.
#[derive(Debug, Clone, PartialEq)]
pub enum ShapedKind {
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
    /// One axis a sample.
    Flatten,
    /// Softmax of x / temperature along one axis (of the shape with batch).
    Softmax {
        /// The axis.
        axis: usize,
        /// The divisor.
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
