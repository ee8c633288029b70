//! The names of the format, once: keys, layer types, activations and softmax variants.
//!
//! The parser finds what to do in these tables, messages take their suggestions from them, and documentation can be
//! printed from them, so the three can't drift apart. A key that a type's row doesn't name is an error in a file even
//! if the type's reader asks for it; a test checks the other direction, that every key named here is read.

use super::activation;
use super::context::Reported;
use super::fields::Fields;
use super::layers;
use super::network::{Activation, LayerKind, SoftmaxVariant};

/// A key of an object of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// As it is spelled.
    pub name: &'static str,
    /// What it takes and means, in a line.
    pub doc: &'static str,
}

macro_rules! keys {
    ($($constant:ident = $name:literal, $doc:literal;)*) => {
        $(#[doc = $doc] pub(super) const $constant: Key = Key { name: $name, doc: $doc };)*
    };
}

keys! {
    ID = "id", "a label, without meaning to the compiler";
    DTYPE = "dtype", "the element type: `float32` (or `f32`), the default";
    DIALECT = "dialect", "which Loom's arithmetic the file means: `loom`, the default";
    BATCH_SIZE = "batch_size", "samples that one run computes, at least 1; default 1";
    INPUT_SHAPE = "input_shape", "the shape of one sample, without the batch axis: a list of sizes";
    SEED = "seed", "what weights and inputs are drawn from where no file gives them; default 0";
    LAYERS = "layers", "the layers, in the order they run";
    GRID_ROWS = "grid_rows", "rows of the grid; only checked against the number of layers";
    GRID_COLS = "grid_cols", "columns of the grid; only checked against the number of layers";
    LAYERS_PER_CELL = "layers_per_cell", "layers in a cell of the grid; only checked against the number of layers";

    TYPE = "type", "the layer's type";
    NAME = "name", "a name for the layer, unique in the network and not `input`";

    ACTIVATION = "activation", "the function applied to each element of the result";
    ALPHA = "alpha", "the factor below 0; default 1";
    APPROXIMATE = "approximate", "`none` (the default) or `tanh`";
    AXIS = "axis", "the axis, counted from the end where negative; default -1";
    BIAS = "bias", "whether a bias is added; default true";
    BRANCHES = "branches", "the layers inside, in the order they run; also spelled `layers`";
    COUNT_INCLUDE_PAD = "count_include_pad", "whether padding counts as elements of the mean; default true";
    DILATION = "dilation", "positions between two taps; default 1";
    EPSILON = "epsilon", "what is added under the root; 0 is the default, 1e-5";
    FILTERS = "filters", "channels of the output";
    FROM = "from", "what is added: a layer's name, `input`, or a number of layers back; default 1";
    GROUPS = "groups", "parts that the channels are divided into; default 1";
    HEIGHT = "height", "the output size; wins over `output_size`";
    INPUT_CHANNELS = "input_channels", "channels of the input; inferred if left out";
    INPUT_HEIGHT = "input_height", "rows of the input; inferred if left out";
    INPUT_LENGTH = "input_length", "positions of the input; inferred if left out";
    INPUT_SIZE = "input_size", "elements of the input's last axis; inferred if left out";
    INPUT_WIDTH = "input_width", "columns of the input; inferred if left out";
    KERNEL_SIZE = "kernel_size", "positions under the kernel";
    NEGATIVE_SLOPE = "negative_slope", "the factor below 0; default 0.01";
    NORM_SIZE = "norm_size", "elements of the input's last axis; inferred if left out";
    OUTPUT_HEIGHT = "output_height", "rows of the output; computed, and checked if given";
    OUTPUT_SIZE = "output_size", "elements of the output's last axis";
    OUTPUT_WIDTH = "output_width", "columns of the output; computed, and checked if given";
    PADDING = "padding", "positions added at each end; default 0";
    SOFTMAX_VARIANT = "softmax_variant", "`standard` (the default) or `temperature`";
    STRIDE = "stride", "positions between two outputs; default 1, for a pooling layer `kernel_size`";
    TEMPERATURE = "temperature", "what the input is divided by; 0 is the default, 1";
    WIDTH = "width", "the input size; wins over `input_size`";

    ADAPTIVE_CLUSTERS = "adaptive_clusters", "of the variant `adaptive`";
    ENTMAX_ALPHA = "entmax_alpha", "of the variant `entmax`";
    GUMBEL_NOISE = "gumbel_noise", "of the variant `gumbel`";
    HIERARCHY_LEVELS = "hierarchy_levels", "of the variant `hierarchical`";
    MASK = "mask", "of the variant `masked`";
    MIXTURE_WEIGHTS = "mixture_weights", "of the variant `mixture`";
    SOFTMAX_COLS = "softmax_cols", "of the variant `grid`";
    SOFTMAX_ROWS = "softmax_rows", "of the variant `grid`";
}

/// The keys of the network itself.
pub const NETWORK_KEYS: &[Key] =
    &[ID, BATCH_SIZE, INPUT_SHAPE, SEED, LAYERS, GRID_ROWS, GRID_COLS, LAYERS_PER_CELL, DTYPE, DIALECT];

/// The keys that a layer of any type may have.
pub const LAYER_KEYS: &[Key] = &[TYPE, NAME];

type Reader<T> = fn(&mut Fields<'_, '_>) -> Result<T, Reported>;

/// A type of layer.
#[derive(Debug, Clone, Copy)]
pub struct LayerType {
    /// The spelling that is written.
    pub name: &'static str,
    /// Other spellings that are read.
    pub aliases: &'static [&'static str],
    /// What it computes, in a line.
    pub doc: &'static str,
    /// The keys it may have beside [`LAYER_KEYS`] and those of its activation.
    pub keys: &'static [Key],
    /// None where the format has the layer and this release doesn't build it.
    pub(super) read: Option<Reader<LayerKind>>,
}

impl LayerType {
    const fn planned(name: &'static str, aliases: &'static [&'static str], doc: &'static str) -> LayerType {
        LayerType { name, aliases, doc, keys: &[], read: None }
    }

    /// Whether this release builds the layer. A file with one that it doesn't build is refused.
    pub const fn is_supported(&self) -> bool {
        self.read.is_some()
    }
}

/// The layer types, beside the [`ACTIVATIONS`], each of which is one too (but `softmax`, which is a layer of its own).
pub const LAYER_TYPES: &[LayerType] = &[
    LayerType {
        name: "dense",
        aliases: &[],
        doc: "a matrix product over the last axis, a bias and an activation",
        keys: &[INPUT_SIZE, OUTPUT_SIZE, WIDTH, HEIGHT, INPUT_HEIGHT, OUTPUT_HEIGHT, BIAS, ACTIVATION],
        read: Some(layers::dense),
    },
    LayerType {
        name: "conv1d",
        aliases: &[],
        doc: "a convolution over channels × length",
        keys: &[
            INPUT_LENGTH,
            INPUT_HEIGHT,
            INPUT_CHANNELS,
            FILTERS,
            KERNEL_SIZE,
            STRIDE,
            PADDING,
            DILATION,
            GROUPS,
            BIAS,
            ACTIVATION,
        ],
        read: Some(layers::conv1d),
    },
    LayerType {
        name: "conv2d",
        aliases: &[],
        doc: "a convolution over channels × height × width",
        keys: &[
            INPUT_HEIGHT,
            INPUT_WIDTH,
            INPUT_CHANNELS,
            OUTPUT_HEIGHT,
            OUTPUT_WIDTH,
            FILTERS,
            KERNEL_SIZE,
            STRIDE,
            PADDING,
            DILATION,
            GROUPS,
            BIAS,
            ACTIVATION,
        ],
        read: Some(layers::conv2d),
    },
    LayerType {
        name: "max_pool2d",
        aliases: &["maxpool2d"],
        doc: "the largest element of each window of a channel",
        keys: &[INPUT_HEIGHT, INPUT_WIDTH, INPUT_CHANNELS, KERNEL_SIZE, STRIDE, PADDING, DILATION],
        read: Some(layers::max_pool2d),
    },
    LayerType {
        name: "avg_pool2d",
        aliases: &["avgpool2d"],
        doc: "the mean of each window of a channel",
        keys: &[INPUT_HEIGHT, INPUT_WIDTH, INPUT_CHANNELS, KERNEL_SIZE, STRIDE, PADDING, COUNT_INCLUDE_PAD],
        read: Some(layers::avg_pool2d),
    },
    LayerType {
        name: "flatten",
        aliases: &[],
        doc: "each sample as one axis, in row-major order",
        keys: &[],
        read: Some(layers::flatten),
    },
    LayerType {
        name: "softmax",
        aliases: &[],
        doc: "exponentials divided by their sum, along one axis",
        keys: &[SOFTMAX_VARIANT, TEMPERATURE, AXIS],
        read: Some(layers::softmax),
    },
    LayerType {
        name: "layer_norm",
        aliases: &["layernorm"],
        doc: "the last axis, less its mean, divided by its standard deviation, scaled and shifted",
        keys: &[NORM_SIZE, EPSILON],
        read: Some(layers::layer_norm),
    },
    LayerType {
        name: "rms_norm",
        aliases: &["rmsnorm"],
        doc: "the last axis, divided by its root mean square, scaled",
        keys: &[NORM_SIZE, EPSILON],
        read: Some(layers::rms_norm),
    },
    LayerType {
        name: "residual",
        aliases: &[],
        doc: "an earlier value, added",
        keys: &[FROM],
        read: Some(layers::residual),
    },
    LayerType {
        name: "sequential",
        aliases: &[],
        doc: "layers that stand for one",
        keys: &[BRANCHES, LAYERS],
        read: Some(layers::sequential),
    },
    LayerType {
        name: ACTIVATION_LAYER,
        aliases: &[],
        doc: "an activation as a layer of its own",
        keys: &[ACTIVATION],
        read: Some(layers::activation),
    },
    LayerType::planned("multi_head_attention", &["mha"], "attention"),
    LayerType::planned("rnn", &[], "a simple recurrent network"),
    LayerType::planned("lstm", &[], "a long short-term memory"),
    LayerType::planned("gru", &[], "a gated recurrent unit"),
    LayerType::planned("swiglu", &[], "a gated feed-forward block"),
    LayerType::planned("parallel", &[], "branches that see the same input"),
    LayerType::planned("embedding", &[], "rows of a table"),
    LayerType::planned("kmeans", &[], "soft assignment to learned centres"),
    LayerType::planned("stitch", &[], "a linear map between sizes"),
    LayerType::planned("dropout", &[], "random zeros while training"),
    LayerType::planned("batch_norm", &["batchnorm"], "normalisation by running statistics"),
];

/// The one layer that has to name its activation.
pub(super) const ACTIVATION_LAYER: &str = "activation";

/// An activation.
#[derive(Debug, Clone, Copy)]
pub struct ActivationType {
    /// The spelling that is written.
    pub name: &'static str,
    /// Other spellings that are read.
    pub aliases: &'static [&'static str],
    /// The keys that stand beside it, in the same object.
    pub keys: &'static [Key],
    pub(super) read: Reader<Activation>,
}

impl ActivationType {
    const fn plain(name: &'static str, aliases: &'static [&'static str], read: Reader<Activation>) -> ActivationType {
        ActivationType { name, aliases, keys: &[], read }
    }
}

/// The activations. The first is the default.
pub const ACTIVATIONS: &[ActivationType] = &[
    RELU,
    ActivationType::plain("sigmoid", &[], |_| Ok(Activation::Sigmoid)),
    ActivationType::plain("tanh", &[], |_| Ok(Activation::Tanh)),
    ActivationType::plain(SOFTMAX, &[], |_| Ok(Activation::Softmax)),
    ActivationType { name: "gelu", aliases: &[], keys: &[APPROXIMATE], read: activation::gelu },
    ActivationType::plain("swish", &["silu"], |_| Ok(Activation::Swish)),
    ActivationType::plain("mish", &[], |_| Ok(Activation::Mish)),
    ActivationType { name: "leaky_relu", aliases: &[], keys: &[NEGATIVE_SLOPE], read: activation::leaky_relu },
    ActivationType { name: "elu", aliases: &[], keys: &[ALPHA], read: activation::elu },
    ActivationType::plain("selu", &[], |_| Ok(Activation::Selu)),
    ActivationType::plain("softplus", &[], |_| Ok(Activation::Softplus)),
    ActivationType::plain("linear", &[], |_| Ok(Activation::Linear)),
];

/// What a layer with an activation has if its object names none.
pub(super) const RELU: ActivationType = ActivationType::plain("relu", &[], |_| Ok(Activation::Relu));

const SOFTMAX: &str = "softmax";

/// A variant of the softmax layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct VariantType {
    pub name: &'static str,
    /// The keys it has beside those of the layer.
    pub keys: &'static [Key],
    /// None where the format has it and this release doesn't build it.
    pub variant: Option<SoftmaxVariant>,
}

impl VariantType {
    const fn planned(name: &'static str, keys: &'static [Key]) -> VariantType {
        VariantType { name, keys, variant: None }
    }
}

/// The variants of the softmax layer. The first is the default.
pub(super) const SOFTMAX_VARIANTS: &[VariantType] = &[
    VariantType { name: "standard", keys: &[], variant: Some(SoftmaxVariant::Standard) },
    VariantType { name: "temperature", keys: &[], variant: Some(SoftmaxVariant::Temperature) },
    VariantType::planned("grid", &[SOFTMAX_ROWS, SOFTMAX_COLS]),
    VariantType::planned("hierarchical", &[HIERARCHY_LEVELS]),
    VariantType::planned("gumbel", &[GUMBEL_NOISE]),
    VariantType::planned("masked", &[MASK]),
    VariantType::planned("sparse", &[]),
    VariantType::planned("sparsemax", &[]),
    VariantType::planned("entmax", &[ENTMAX_ALPHA]),
    VariantType::planned("adaptive", &[ADAPTIVE_CLUSTERS]),
    VariantType::planned("mixture", &[MIXTURE_WEIGHTS]),
];

/// The layer type of this name, an activation's apart.
pub(super) fn layer_type(name: &str) -> Option<&'static LayerType> {
    LAYER_TYPES.iter().find(|row| row.name == name || row.aliases.contains(&name))
}

/// The activation of this name.
pub(super) fn activation_type(name: &str) -> Option<&'static ActivationType> {
    ACTIVATIONS.iter().find(|row| row.name == name || row.aliases.contains(&name))
}

/// The softmax variant of this name.
pub(super) fn softmax_variant(name: &str) -> Option<&'static VariantType> {
    SOFTMAX_VARIANTS.iter().find(|row| row.name == name)
}

/// The names that `type` may have in a file that this release builds, aliases apart.
pub(super) fn supported_layer_names() -> impl Iterator<Item = &'static str> {
    let layers = LAYER_TYPES.iter().filter(|row| row.is_supported()).map(|row| row.name);
    layers.chain(ACTIVATIONS.iter().map(|row| row.name).filter(|&name| name != SOFTMAX))
}

/// Every spelling of every layer type, activations included.
pub(super) fn all_layer_names() -> impl Iterator<Item = &'static str> {
    let layers = LAYER_TYPES.iter().flat_map(|row| [row.name].into_iter().chain(row.aliases.iter().copied()));
    layers.chain(all_activation_names())
}

/// Every spelling of every activation.
pub(super) fn all_activation_names() -> impl Iterator<Item = &'static str> {
    ACTIVATIONS.iter().flat_map(|row| [row.name].into_iter().chain(row.aliases.iter().copied()))
}

/// What [`owners_of`] calls the network itself.
pub(super) const NETWORK: &str = "the network";

/// Where a key is at home: what to tell someone who wrote it elsewhere.
pub(super) fn owners_of(key: &str) -> Vec<&'static str> {
    let has = |keys: &[Key]| keys.iter().any(|known| known.name == key);
    let layers = LAYER_TYPES.iter().filter(|row| has(row.keys)).map(|row| row.name);
    let activations = ACTIVATIONS.iter().filter(|row| has(row.keys)).map(|row| row.name);
    let variants = SOFTMAX_VARIANTS.iter().filter(|row| has(row.keys)).map(|row| row.name);
    let network = has(NETWORK_KEYS).then_some(NETWORK);
    network.into_iter().chain(layers).chain(activations).chain(variants).collect()
}
