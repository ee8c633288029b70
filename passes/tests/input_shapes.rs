//! The shape of a network's input, from its first layer: what tells it, and what is said where nothing does.

use loom_ir::config::parse;
use loom_passes::shapes::infer_shapes;

fn of(layer: &str) -> Result<String, String> {
    let network = parse(&format!(r#"{{"batch_size": 2, "layers": [{layer}]}}"#)).unwrap();
    match infer_shapes(&network) {
        Ok(shaped) => Ok(shaped.values[0].to_string()),
        Err(errors) => {
            let [error] = errors.0.as_slice() else { panic!("{errors}") };
            let shown = error.diagnostic();
            assert_eq!(shown.message, "layers.0: the size of the network's input is not known");
            assert!(shown.help.is_some_and(|help| help.contains("input_shape")), "{layer}");
            Err(shown.primary.unwrap().1)
        }
    }
}

#[test]
fn the_first_layer_may_tell_it() {
    for (layer, shape) in [
        (r#"{"type": "dense", "input_size": 5, "output_size": 1}"#, "[2, 5]"),
        (r#"{"type": "stitch", "input_height": 5, "output_size": 1}"#, "[2, 5]"),
        (r#"{"type": "swiglu", "input_size": 5, "intermediate_size": 1}"#, "[2, 5]"),
        (r#"{"type": "layer_norm", "norm_size": 5}"#, "[2, 5]"),
        (r#"{"type": "conv1d", "input_length": 7, "filters": 1, "kernel_size": 1}"#, "[2, 1, 7]"),
        (r#"{"type": "conv1d", "input_length": 7, "input_channels": 3, "filters": 1, "kernel_size": 1}"#, "[2, 3, 7]"),
        (r#"{"type": "max_pool1d", "input_length": 7, "input_channels": 3, "kernel_size": 1}"#, "[2, 3, 7]"),
        (r#"{"type": "avg_pool1d", "input_length": 7, "input_channels": 3, "kernel_size": 1}"#, "[2, 3, 7]"),
        (
            r#"{"type": "conv2d", "input_height": 7, "input_width": 6, "input_channels": 3, "filters": 1, "kernel_size": 1}"#,
            "[2, 3, 7, 6]",
        ),
        (
            r#"{"type": "max_pool2d", "input_height": 7, "input_width": 6, "input_channels": 3, "kernel_size": 1}"#,
            "[2, 3, 7, 6]",
        ),
        (r#"{"type": "gru", "seq_length": 7, "input_size": 3, "hidden_size": 1}"#, "[2, 7, 3]"),
        (r#"{"type": "mha", "seq_length": 7, "d_model": 16}"#, "[2, 7, 16]"),
        (r#"{"type": "kmeans", "num_clusters": 2, "cluster_dim": 5}"#, "[2, 5]"),
        (
            r#"{"type": "kmeans", "num_clusters": 2, "attached_layer": {"type": "dense", "input_size": 5, "output_size": 1}}"#,
            "[2, 5]",
        ),
        (r#"{"type": "sequential", "branches": [{"type": "rms_norm", "norm_size": 5}]}"#, "[2, 5]"),
        (r#"{"type": "parallel", "branches": [{"type": "relu"}, {"type": "rms_norm", "norm_size": 5}]}"#, "[2, 5]"),
    ] {
        assert_eq!(of(layer).as_deref(), Ok(shape), "{layer}");
    }
}

#[test]
fn what_would_have_to_be_told() {
    const LENGTH: &str = "needs input_channels and input_length to tell its input's shape";
    const IMAGE: &str = "needs input_channels, input_height and input_width to tell its input's shape";
    const UNTOLD: &str = "does not tell its input's shape";
    for (layer, missing) in [
        (r#"{"type": "dense", "output_size": 1}"#, "needs input_size to tell its input's shape"),
        (r#"{"type": "stitch", "output_size": 1}"#, "needs input_size to tell its input's shape"),
        (r#"{"type": "swiglu", "intermediate_size": 1}"#, "needs input_size to tell its input's shape"),
        (r#"{"type": "rms_norm"}"#, "needs norm_size to tell its input's shape"),
        (
            r#"{"type": "conv1d", "input_channels": 3, "filters": 1, "kernel_size": 1}"#,
            "needs input_length to tell its input's shape",
        ),
        (r#"{"type": "max_pool1d", "input_length": 7, "kernel_size": 1}"#, LENGTH),
        (r#"{"type": "avg_pool1d", "input_channels": 7, "kernel_size": 1}"#, LENGTH),
        (r#"{"type": "conv2d", "input_height": 7, "input_width": 6, "filters": 1, "kernel_size": 1}"#, IMAGE),
        (r#"{"type": "avg_pool2d", "input_height": 7, "input_channels": 6, "kernel_size": 1}"#, IMAGE),
        (
            r#"{"type": "lstm", "input_size": 3, "hidden_size": 1}"#,
            "needs seq_length and input_size to tell its input's shape",
        ),
        (r#"{"type": "mha", "seq_length": 3}"#, "needs seq_length and d_model to tell its input's shape"),
        (r#"{"type": "kmeans", "num_clusters": 2}"#, "needs cluster_dim to tell its input's shape"),
        (r#"{"type": "kmeans", "num_clusters": 2, "cluster_dim": 2, "attached_layer": {"type": "relu"}}"#, UNTOLD),
        (r#"{"type": "sequential", "branches": []}"#, UNTOLD),
        (r#"{"type": "parallel", "branches": [{"type": "relu"}]}"#, UNTOLD),
        (r#"{"type": "global_max_pool"}"#, UNTOLD),
        (r#"{"type": "flatten"}"#, UNTOLD),
        (r#"{"type": "embedding", "vocab_size": 2, "embedding_dim": 2}"#, UNTOLD),
        (r#"{"type": "softmax"}"#, UNTOLD),
        (r#"{"type": "batch_norm", "num_features": 3}"#, UNTOLD),
        (r#"{"type": "dropout"}"#, UNTOLD),
        (r#"{"type": "residual"}"#, UNTOLD),
        (r#"{"type": "gelu"}"#, UNTOLD),
    ] {
        assert_eq!(of(layer).as_ref().map_err(String::as_str), Err(missing), "{layer}");
    }
}
