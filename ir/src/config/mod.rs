//! The JSON front end: a network config as text, to a typed [`Network`].
//!
//! # What it takes
//!
//! One JSON object. Its `layers` are objects whose `type` decides which other keys they have. The names of all of them
//! are in [`NETWORK_KEYS`], [`LAYER_KEYS`], [`LAYER_TYPES`] and [`ACTIVATIONS`].
//!
//! # What it promises
//!
//! - **Strict.** An unknown key, a key given twice, a value of the wrong type or a name that means nothing is an error
//!   and never a default. Names are compared exactly, case included. `2.0` is no integer and `null` is no value.
//! - **All at once.** Everything that is wrong in a file is reported, in the file's order, each with the bytes it is
//!   about; at most [`MAX_CONFIG_ERRORS`](crate::limits::MAX_CONFIG_ERRORS), and then how many more. Not looked at is
//!   only what nothing can be said about: the rest of a file with a syntax error, too much nesting or another dialect,
//!   and the keys of a layer whose type is unknown or not built yet, its name and its `branches` apart.
//! - **Only what is written.** No size is inferred and no shape is checked here: that is for the lowering, which has
//!   the spans to point to.
//! - **No panic, whatever the input.** Size, nesting, keys of an object and layers are bounded by [`limits`], and the
//!   lints below keep the usual causes of panics out.
//!
//! # Example
//!
//! ```
//! use loom_ir::config::{self, LayerKind};
//!
//! let network = config::parse(r#"{"layers": [{"type": "dense", "input_size": 4, "output_size": 2}]}"#)?;
//! assert_eq!(network.batch_size, 1);
//! assert_eq!(network.layers[0].path.to_string(), "layers.0");
//! assert!(matches!(&network.layers[0].kind, LayerKind::Dense(dense) if dense.output_size.value == 2));
//!
//! let errors = config::parse(r#"{"layers": [{"type": "dnse", "output_size": -1}], "sed": 7}"#).unwrap_err();
//! assert_eq!(errors.to_string(), "unknown layer type `dnse`\nthe network has no key `sed`");
//! assert_eq!(errors.diagnostics()[0].help.as_deref(), Some("did you mean `dense`?"));
//! # Ok::<(), config::ConfigErrors>(())
//! ```
//!
//! [`limits`]: crate::limits

#![deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unreachable,
    clippy::unwrap_used
)]

mod activation;
mod attention;
mod context;
mod document;
mod elements;
mod error;
mod fields;
pub mod json;
mod kmeans;
mod layers;
mod network;
mod parallel;
mod pooling;
mod precision;
mod recurrent;
mod schema;
mod softmax;
mod spanned;
mod top_level;

#[cfg(test)]
mod tests;

use loom_fp_env::FpEnv;

use crate::limits;

pub use attention::Attention;
pub use elements::{Broadcast, Normalize, NormalizeBy, Reshape, Scale, Slice};
pub use error::{At, ConfigError, ConfigErrors, Owner};
pub use kmeans::{Kmeans, KmeansMetric, KmeansOutput};
pub use network::{
    Activation, BatchNorm, Conv1d, Conv2d, Dense, Dropout, Embedding, Flatten, GeluApproximation, Layer, LayerKind,
    LayerPath, Network, Norm, Pair, Residual, ResidualFrom, Sequential, Stitch, Swiglu,
};
pub use parallel::{CombineMode, Filter, GridScatter, Parallel};
pub use pooling::{AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d};
pub use precision::{GivenCoding, Precision, Quantisation};
pub use recurrent::{Cell, CellBiases, Recurrent};
pub use schema::{ACTIVATIONS, ActivationType, Key, LAYER_KEYS, LAYER_TYPES, LayerType, NETWORK_KEYS};
pub use softmax::{Softmax, SoftmaxVariant};
pub use spanned::Spanned;

/// Reads a network config.
///
/// # Errors
///
/// All the mistakes that are found in it.
pub fn parse(source: &str) -> Result<Network, ConfigErrors> {
    // Reading a number rounds.
    FpEnv::run(|| {
        document::check(source, limits::MAX_CONFIG_BYTES)?;
        let document = spanned::Value::document(source)?;
        let mut context = context::Context::default();
        let network = top_level::read(&mut context, document);
        context.finish(network)
    })
}
