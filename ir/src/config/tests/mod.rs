//! Tests of the front end, by the part of the format that they are about.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::string_slice)]
#![allow(clippy::unwrap_used)]

mod activations;
mod composite;
mod elements;
mod errors;
mod layers;
mod limits;
mod never_panics;
mod schema;
mod softmax;
mod syntax;
mod top_level;

use super::{Layer, LayerKind, Network, parse};

/// The layer types that can be built, as messages list them.
const SUPPORTED: &str = "`dense`, `conv1d`, `conv2d`, `max_pool1d`, `avg_pool1d`, `max_pool2d`, `avg_pool2d`, \
    `flatten`, `reshape`, `slice`, `broadcast`, `scale`, `normalize`, `global_max_pool`, \
    `global_avg_pool`, `embedding`, `softmax`, `layer_norm`, `rms_norm`, `batch_norm`, `dropout`, `swiglu`, `stitch`, \
    `multi_head_attention`, `residual`, `sequential`, `parallel`, `kmeans`, `rnn`, `lstm`, `gru`, `activation`, \
    `relu`, `sigmoid`, `tanh`, `gelu`, `swish`, `mish`, \
    `leaky_relu`, `elu`, `selu`, `softplus` and `linear`";

/// The network that `source` is.
fn network(source: &str) -> Network {
    parse(source).unwrap_or_else(|errors| panic!("{source}\n{errors}"))
}

/// A network of these layers, without the brackets around them.
fn with_layers(layers: &str) -> String {
    format!(r#"{{"layers": [{layers}]}}"#)
}

/// The one layer that `layer` is.
fn layer(layer: &str) -> Layer {
    let mut layers = network(&with_layers(layer)).layers;
    assert_eq!(layers.len(), 1);
    layers.remove(0)
}

fn kind(source: &str) -> LayerKind {
    layer(source).kind
}

/// All that is wrong with `source`: a message a line, then the underlined pieces and the help, indented.
fn wrong(source: &str) -> String {
    let Err(errors) = parse(source) else { panic!("no error in {source}") };
    let mut shown = String::new();
    for error in errors.diagnostics() {
        shown += &format!("{}\n", error.message);
        for (span, label) in error.primary.iter().chain(&error.secondary) {
            shown += &format!("  {} <- {label}\n", &source[span.range()]);
        }
        if let Some(help) = &error.help {
            shown += &format!("  help: {help}\n");
        }
    }
    shown
}

/// The messages alone.
fn messages(source: &str) -> Vec<String> {
    let Err(errors) = parse(source) else { panic!("no error in {source}") };
    errors.iter().map(ToString::to_string).collect()
}

/// Checks all that is shown about one layer.
#[track_caller]
fn assert_wrong(layer: &str, expected: &str) {
    assert_eq!(wrong(&with_layers(layer)), expected, "in {layer}");
}
