//! The names of the format, once: keys, layer types, activations and softmax variants.
//!
//! The parser finds what to do in these tables, messages take their suggestions from them, and documentation can be
//! printed from them, so the three can't drift apart. A key that a type's row doesn't name is an error in a file even
//! if the type's reader asks for it; a test checks the other direction, that every key named here is read.

use super::activation;
use super::context::Reported;
use super::fields::Fields;
use super::network::{Activation, LayerKind};
use super::{attention, elements, kmeans, layers, parallel, pooling, recurrent, softmax};

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
    DTYPE = "dtype", "the number format of weights and results: `float32` (the default), `float16`, `bfloat16`, `float8`, `float4`; or of weights that are multiplied as integers: `int8`, `int4`";
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
    GROUP_SIZE = "group_size", "of integers: weights of one output that share a scale, at most; default all";
    INPUT_SCALE = "input_scale", "of integers: the scale of the input's codes; left out, each row has its own, or the codes that arrive are taken";
    INPUT_ZERO_POINT = "input_zero_point", "with `input_scale`: the code of 0, -128 to 127; left out, codes are symmetric";
    OUTPUT_ZERO_POINT = "output_zero_point", "with `output_scale`: the code of 0, -128 to 127; left out, codes are symmetric";
    NETWORK_ZERO_POINT = "input_zero_point", "with `input_scale`: the code of 0, -128 to 127; left out, codes are symmetric";
    INNER_ZERO_POINT = "inner_zero_point", "with `inner_scale`: the code of 0, -128 to 127; left out, codes are symmetric";
    OUTPUT_SCALE = "output_scale", "the result becomes codes of 8 bits with this scale";
    NETWORK_SCALE = "input_scale", "the input becomes codes of 8 bits with this scale";
    INNER_SCALE = "inner_scale", "of integers: the same for what the layer's last product takes, or a recurrent layer's for its state";
    GROUPS = "groups", "parts that the channels are divided into; default 1";
    HEIGHT = "height", "the output size; wins over `output_size`";
    BIASES = "biases", "`both`: one for the input's product and one for the state's, the default; `single` or `none`";
    BIDIRECTIONAL = "bidirectional", "whether a second cell runs from the last step to the first; default false";
    HIDDEN_SIZE = "hidden_size", "elements of the state";
    INITIAL_STATE = "initial_state", "the state before the first step: `zeros` (the default) or `learned`, a weight";
    RETURN_SEQUENCES = "return_sequences", "whether the states of all steps are given; default true";
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
    SOFTMAX_VARIANT = "softmax_variant", "which distribution; default `standard`";
    STRIDE = "stride", "positions between two outputs; default 1, for a pooling layer `kernel_size`";
    TEMPERATURE = "temperature", "what the input is divided by; 0 is the default, 1";
    WIDTH = "width", "the input size; wins over `input_size`";

    ADAPTIVE_CLUSTERS = "adaptive_clusters", "the classes of each cluster, the head first: together 0, 1, 2 and so on";
    ENTMAX_ALPHA = "entmax_alpha", "from 1 (near standard) to 2 (sparsemax); default 1.5";
    GUMBEL_NOISE = "gumbel_noise", "whether noise is added; default true";
    HIERARCHY_LEVELS = "hierarchy_levels", "children of each node of the tree, level by level";
    MASK = "mask", "which elements take part: a list of true and false";
    MIXTURE_WEIGHTS = "mixture_weights", "the weight of each of the distributions";
    SOFTMAX_COLS = "softmax_cols", "elements of a row of the grid";
    SOFTMAX_ROWS = "softmax_rows", "rows of the grid";

    BRANCH_INDEX = "branch_index", "the branch; the position's own place if left out";
    COMBINE_MODE = "combine_mode", "`concat` (the default), `add`, `multiply`, `average`, `grid_scatter` or `filter`";
    FILTER_GATE = "filter_gate", "the layer that gives each branch a logit; without it all weigh the same";
    FILTER_SOFTMAX = "filter_softmax", "how logits become weights: a softmax variant; default `standard`";
    FILTER_TEMPERATURE = "filter_temperature", "what the logits are divided by; 0 is the default, 1";
    FILTER_TOP_K = "filter_top_k", "how many branches have a weight, those of the greatest logits; default all";
    GRID_OUTPUT_COLS = "grid_output_cols", "columns of the output's grid";
    GRID_OUTPUT_LAYERS = "grid_output_layers", "layers of the output's grid; default 1";
    GRID_OUTPUT_ROWS = "grid_output_rows", "rows of the output's grid";
    GRID_POSITIONS = "grid_positions", "the cell of each branch: a list of objects";
    TARGET_COL = "target_col", "the cell's column";
    TARGET_LAYER = "target_layer", "the cell's layer; default 0";
    TARGET_ROW = "target_row", "the cell's row";

    ATTENTION_MASK = "attention_mask", "which positions (columns) each position (a row) may attend to: lists of booleans";
    CAUSAL = "causal", "whether a position attends to none after it; default true";
    D_MODEL = "d_model", "elements of a position; inferred if left out";
    HEAD_DIM = "head_dim", "elements of a head; default `d_model` divided by the heads";
    KV_CACHE = "kv_cache", "positions that keys and values are kept for, from run to run; default none";
    NUM_HEADS = "num_heads", "heads; default 8";
    NUM_KV_HEADS = "num_kv_heads", "heads of keys and values; default as many as heads";
    OUTPUT_BIAS = "output_bias", "whether a bias is added to the output; default as `bias`";
    OUTPUT_PROJECTION = "output_projection", "whether the heads are mapped to elements of a position; default true";
    ROPE = "rope", "whether queries and keys are rotated by their position; default true";
    ROPE_FREQ_BASE = "rope_freq_base", "the base of the rotations' frequencies; 0 is the default, 10000";
    SEQ_LENGTH = "seq_length", "positions or steps of the input; inferred if left out";
    SLIDING_WINDOW = "sliding_window", "how many positions one attends to on either side, itself included; default all";

    FACTOR = "factor", "what elements are multiplied by; default 1";
    LEAST_NORM = "epsilon", "the least that is divided by; default 1e-12";
    NORM = "norm", "`l2` (the default): the root of the sum of squares; `l1`: the sum of magnitudes";
    OFFSET = "offset", "what is added then; nothing if left out";
    SHAPE = "shape", "the shape of a sample, without the batch: a list of sizes";

    ATTACHED_LAYER = "attached_layer", "the layer whose output is clustered; the input itself if left out";
    CLUSTER_DIM = "cluster_dim", "elements of a centre; inferred if left out or 0";
    DISTANCE_METRIC = "distance_metric", "`squared_euclidean` (the default), `euclidean`, `manhattan` or `cosine`";
    EMBEDDING_DIM = "embedding_dim", "elements of a row of the table";
    END = "end", "one past the last index; default all that follow";
    END_AXIS = "end_axis", "the last axis, counted from the end where negative; default -1";
    INTERMEDIATE_SIZE = "intermediate_size", "elements of the axis between; also spelled `output_size`";
    KMEANS_LEARNING_RATE = "kmeans_learning_rate", "of a training; 0 is the default, 0.01";
    KMEANS_OUTPUT_MODE = "kmeans_output_mode", "`probabilities` (the default) or `features`";
    KMEANS_TEMPERATURE = "kmeans_temperature", "the width of the assignment; 0 is the default, 1";
    NUM_CLUSTERS = "num_clusters", "how many centres";
    NUM_FEATURES = "num_features", "channels of the input; inferred if left out";
    RATE = "rate", "the share that a training sets to 0, less than 1; default 0.5";
    START = "start", "the first index; default 0";
    START_AXIS = "start_axis", "the first axis, counted from the end where negative; default 0";
    VOCAB_SIZE = "vocab_size", "rows of the table, at most 2^24";
}

/// The keys of the network itself.
pub const NETWORK_KEYS: &[Key] = &[
    ID,
    BATCH_SIZE,
    INPUT_SHAPE,
    SEED,
    LAYERS,
    GRID_ROWS,
    GRID_COLS,
    LAYERS_PER_CELL,
    DTYPE,
    NETWORK_SCALE,
    NETWORK_ZERO_POINT,
    DIALECT,
];

/// The keys that a layer of any type may have.
pub const LAYER_KEYS: &[Key] = &[TYPE, NAME, DTYPE, OUTPUT_SCALE, OUTPUT_ZERO_POINT];

/// The keys of a position in a grid.
pub(super) const POSITION_KEYS: &[Key] = &[BRANCH_INDEX, TARGET_ROW, TARGET_COL, TARGET_LAYER];

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
    pub(super) read: Reader<LayerKind>,
}

/// The layer types, beside the [`ACTIVATIONS`], each of which is one too (but `softmax`, which is a layer of its own).
pub const LAYER_TYPES: &[LayerType] = &[
    LayerType {
        name: "dense",
        aliases: &[],
        doc: "a matrix product over the last axis, a bias and an activation",
        keys: &[
            INPUT_SIZE,
            OUTPUT_SIZE,
            WIDTH,
            HEIGHT,
            INPUT_HEIGHT,
            OUTPUT_HEIGHT,
            BIAS,
            ACTIVATION,
            GROUP_SIZE,
            INPUT_SCALE,
            INPUT_ZERO_POINT,
        ],
        read: layers::dense,
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
            GROUP_SIZE,
            INPUT_SCALE,
            INPUT_ZERO_POINT,
        ],
        read: layers::conv1d,
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
            GROUP_SIZE,
            INPUT_SCALE,
            INPUT_ZERO_POINT,
        ],
        read: layers::conv2d,
    },
    LayerType {
        name: "max_pool1d",
        aliases: &["maxpool1d"],
        doc: "the largest element of each window of a channel, over channels × length",
        keys: &[INPUT_LENGTH, INPUT_CHANNELS, KERNEL_SIZE, STRIDE, PADDING, DILATION],
        read: pooling::max_pool1d,
    },
    LayerType {
        name: "avg_pool1d",
        aliases: &["avgpool1d"],
        doc: "the mean of each window of a channel, over channels × length",
        keys: &[INPUT_LENGTH, INPUT_CHANNELS, KERNEL_SIZE, STRIDE, PADDING, COUNT_INCLUDE_PAD],
        read: pooling::avg_pool1d,
    },
    LayerType {
        name: "max_pool2d",
        aliases: &["maxpool2d"],
        doc: "the largest element of each window of a channel, over channels × height × width",
        keys: &[INPUT_HEIGHT, INPUT_WIDTH, INPUT_CHANNELS, KERNEL_SIZE, STRIDE, PADDING, DILATION],
        read: pooling::max_pool2d,
    },
    LayerType {
        name: "avg_pool2d",
        aliases: &["avgpool2d"],
        doc: "the mean of each window of a channel, over channels × height × width",
        keys: &[INPUT_HEIGHT, INPUT_WIDTH, INPUT_CHANNELS, KERNEL_SIZE, STRIDE, PADDING, COUNT_INCLUDE_PAD],
        read: pooling::avg_pool2d,
    },
    LayerType {
        name: "flatten",
        aliases: &[],
        doc: "neighbouring axes as one, in row-major order",
        keys: &[START_AXIS, END_AXIS],
        read: layers::flatten,
    },
    LayerType {
        name: "reshape",
        aliases: &[],
        doc: "the same elements under another shape",
        keys: &[SHAPE],
        read: elements::reshape,
    },
    LayerType {
        name: "slice",
        aliases: &[],
        doc: "the elements from one index to another along an axis",
        keys: &[AXIS, START, END],
        read: elements::slice,
    },
    LayerType {
        name: "broadcast",
        aliases: &[],
        doc: "elements repeated along axes of extent 1 and along new ones",
        keys: &[SHAPE],
        read: elements::broadcast,
    },
    LayerType {
        name: "scale",
        aliases: &[],
        doc: "a factor times each element, and an offset",
        keys: &[FACTOR, OFFSET],
        read: elements::scale,
    },
    LayerType {
        name: "normalize",
        aliases: &[],
        doc: "rows divided by their length",
        keys: &[NORM, AXIS, LEAST_NORM],
        read: elements::normalize,
    },
    LayerType {
        name: "global_max_pool",
        aliases: &["global_max_pool2d"],
        doc: "the largest element of each channel",
        keys: &[],
        read: layers::global_max_pool,
    },
    LayerType {
        name: "global_avg_pool",
        aliases: &["global_avg_pool2d"],
        doc: "the mean of each channel",
        keys: &[],
        read: layers::global_avg_pool,
    },
    LayerType {
        name: "embedding",
        aliases: &[],
        doc: "rows of a table, by their numbers",
        keys: &[VOCAB_SIZE, EMBEDDING_DIM],
        read: layers::embedding,
    },
    LayerType {
        name: "softmax",
        aliases: &[],
        doc: "exponentials divided by their sum, along one axis",
        keys: &[SOFTMAX_VARIANT, TEMPERATURE, AXIS],
        read: softmax::softmax,
    },
    LayerType {
        name: "layer_norm",
        aliases: &["layernorm"],
        doc: "the last axis, less its mean, divided by its standard deviation, scaled and shifted",
        keys: &[NORM_SIZE, EPSILON],
        read: layers::layer_norm,
    },
    LayerType {
        name: "rms_norm",
        aliases: &["rmsnorm"],
        doc: "the last axis, divided by its root mean square, scaled",
        keys: &[NORM_SIZE, EPSILON],
        read: layers::rms_norm,
    },
    LayerType {
        name: "batch_norm",
        aliases: &["batchnorm"],
        doc: "each channel, less its mean, divided by its standard deviation, both of them weights; scaled and shifted",
        keys: &[NUM_FEATURES, EPSILON],
        read: layers::batch_norm,
    },
    LayerType {
        name: "dropout",
        aliases: &[],
        doc: "its input: what a training would set to 0 at random",
        keys: &[RATE],
        read: layers::dropout,
    },
    LayerType {
        name: "swiglu",
        aliases: &[],
        doc: "a gated feed-forward block",
        keys: &[
            INPUT_SIZE,
            INPUT_HEIGHT,
            INTERMEDIATE_SIZE,
            OUTPUT_SIZE,
            OUTPUT_HEIGHT,
            BIAS,
            GROUP_SIZE,
            INPUT_SCALE,
            INPUT_ZERO_POINT,
            INNER_SCALE,
            INNER_ZERO_POINT,
        ],
        read: layers::swiglu,
    },
    LayerType {
        name: "stitch",
        aliases: &[],
        doc: "a linear map of the last axis to another size",
        keys: &[
            INPUT_SIZE,
            OUTPUT_SIZE,
            WIDTH,
            HEIGHT,
            INPUT_HEIGHT,
            OUTPUT_HEIGHT,
            BIAS,
            GROUP_SIZE,
            INPUT_SCALE,
            INPUT_ZERO_POINT,
        ],
        read: layers::stitch,
    },
    LayerType {
        name: "multi_head_attention",
        aliases: &["mha"],
        doc: "each position's mean of the values that it attends to, in several heads",
        keys: &[
            D_MODEL,
            SEQ_LENGTH,
            NUM_HEADS,
            NUM_KV_HEADS,
            HEAD_DIM,
            CAUSAL,
            SLIDING_WINDOW,
            KV_CACHE,
            ATTENTION_MASK,
            ROPE,
            ROPE_FREQ_BASE,
            BIAS,
            OUTPUT_BIAS,
            OUTPUT_PROJECTION,
            GROUP_SIZE,
            INPUT_SCALE,
            INPUT_ZERO_POINT,
            INNER_SCALE,
            INNER_ZERO_POINT,
        ],
        read: attention::attention,
    },
    LayerType { name: "residual", aliases: &[], doc: "an earlier value, added", keys: &[FROM], read: layers::residual },
    LayerType {
        name: "sequential",
        aliases: &[],
        doc: "layers that stand for one",
        keys: &[BRANCHES, LAYERS],
        read: layers::sequential,
    },
    LayerType {
        name: "parallel",
        aliases: &[],
        doc: "layers that see the same input, and one value made of what they give",
        keys: &[BRANCHES, LAYERS, COMBINE_MODE],
        read: parallel::parallel,
    },
    LayerType {
        name: "kmeans",
        aliases: &[],
        doc: "soft assignment to learned centres",
        keys: &[
            NUM_CLUSTERS,
            CLUSTER_DIM,
            ATTACHED_LAYER,
            KMEANS_OUTPUT_MODE,
            DISTANCE_METRIC,
            KMEANS_TEMPERATURE,
            KMEANS_LEARNING_RATE,
        ],
        read: kmeans::kmeans,
    },
    LayerType {
        name: "rnn",
        aliases: &[],
        doc: "a simple recurrent network",
        keys: &[
            INPUT_SIZE,
            HIDDEN_SIZE,
            SEQ_LENGTH,
            BIASES,
            BIDIRECTIONAL,
            RETURN_SEQUENCES,
            INITIAL_STATE,
            ACTIVATION,
            GROUP_SIZE,
            INPUT_SCALE,
            INPUT_ZERO_POINT,
            INNER_SCALE,
            INNER_ZERO_POINT,
        ],
        read: recurrent::rnn,
    },
    LayerType {
        name: "lstm",
        aliases: &[],
        doc: "a long short-term memory",
        keys: RECURRENT_KEYS,
        read: recurrent::lstm,
    },
    LayerType { name: "gru", aliases: &[], doc: "a gated recurrent unit", keys: RECURRENT_KEYS, read: recurrent::gru },
    LayerType {
        name: ACTIVATION_LAYER,
        aliases: &[],
        doc: "an activation as a layer of its own",
        keys: &[ACTIVATION],
        read: layers::activation,
    },
];

const RECURRENT_KEYS: &[Key] = &[
    INPUT_SIZE,
    HIDDEN_SIZE,
    SEQ_LENGTH,
    BIASES,
    BIDIRECTIONAL,
    RETURN_SEQUENCES,
    INITIAL_STATE,
    GROUP_SIZE,
    INPUT_SCALE,
    INPUT_ZERO_POINT,
    INNER_SCALE,
    INNER_ZERO_POINT,
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
    TANH,
    ActivationType::plain(SOFTMAX, &[], |_| Ok(Activation::Softmax)),
    ActivationType { name: "gelu", aliases: &[], keys: &[APPROXIMATE], read: activation::gelu },
    ActivationType::plain("swish", &["silu"], |_| Ok(Activation::Swish)),
    ActivationType::plain("mish", &[], |_| Ok(Activation::Mish)),
    ActivationType { name: "leaky_relu", aliases: &[], keys: &[NEGATIVE_SLOPE], read: activation::leaky_relu },
    ActivationType { name: "elu", aliases: &[], keys: &[ALPHA], read: activation::elu },
    ActivationType::plain("selu", &[], |_| Ok(Activation::Selu)),
    ActivationType::plain("softplus", &[], |_| Ok(Activation::Softplus)),
    LINEAR,
];

/// What a layer with an activation has if its object names none.
pub(super) const RELU: ActivationType = ActivationType::plain("relu", &[], |_| Ok(Activation::Relu));

/// What an rnn has if its object names none.
pub(super) const TANH: ActivationType = ActivationType::plain("tanh", &[], |_| Ok(Activation::Tanh));

const SOFTMAX: &str = "softmax";

pub(super) const LINEAR: ActivationType = ActivationType::plain("linear", &[], |_| Ok(Activation::Linear));

/// One of the things that a key names: a softmax variant, a way to combine branches.
#[derive(Debug)]
pub(super) struct Named<T: 'static> {
    /// The spelling that is written.
    pub name: &'static str,
    /// Other spellings that are read.
    pub aliases: &'static [&'static str],
    /// The keys that come with it, beside those of the layer.
    pub keys: &'static [Key],
    pub read: Reader<T>,
}

impl<T> Named<T> {
    /// One without keys of its own.
    pub const fn plain(name: &'static str, aliases: &'static [&'static str], read: Reader<T>) -> Named<T> {
        Named { name, aliases, keys: &[], read }
    }

    /// Every spelling.
    pub fn spellings(&self) -> impl Iterator<Item = &'static str> + use<T> {
        [self.name].into_iter().chain(self.aliases.iter().copied())
    }
}

/// The row of this name.
pub(super) fn named<T>(rows: &'static [Named<T>], name: &str) -> Option<&'static Named<T>> {
    rows.iter().find(|row| row.spellings().any(|spelling| spelling == name))
}

/// The layer type of this name, an activation's apart.
pub(super) fn layer_type(name: &str) -> Option<&'static LayerType> {
    LAYER_TYPES.iter().find(|row| row.name == name || row.aliases.contains(&name))
}

/// The activation of this name.
pub(super) fn activation_type(name: &str) -> Option<&'static ActivationType> {
    ACTIVATIONS.iter().find(|row| row.name == name || row.aliases.contains(&name))
}

/// The names that `type` may have, aliases apart.
pub(super) fn layer_names() -> impl Iterator<Item = &'static str> {
    let layers = LAYER_TYPES.iter().map(|row| row.name);
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
    let variants = softmax::VARIANTS.iter().filter(|row| has(row.keys)).map(|row| row.name);
    let modes = parallel::MODES.iter().filter(|row| has(row.keys)).map(|row| row.name);
    let network = has(NETWORK_KEYS).then_some(NETWORK);
    network.into_iter().chain(layers).chain(activations).chain(variants).chain(modes).collect()
}
