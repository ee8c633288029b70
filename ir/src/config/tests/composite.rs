//! Layers with many options: parallel, kmeans, attention.

use super::{kind, messages, with_layers};
use crate::config::{
    Activation, Attention, CombineMode, GridScatter, Kmeans, KmeansMetric, KmeansOutput, LayerKind, Parallel,
    SoftmaxVariant,
};

const TWO: &str = r#""branches": [{"type": "flatten"}, {"type": "tanh"}]"#;

fn parallel(keys: &str) -> Parallel {
    match kind(&format!(r#"{{"type": "parallel", {keys}}}"#)) {
        LayerKind::Parallel(parallel) => parallel,
        other => panic!("{other:?}"),
    }
}

fn parallel_messages(keys: &str) -> Vec<String> {
    messages(&with_layers(&format!(r#"{{"type": "parallel", {keys}}}"#)))
}

#[test]
fn modes() {
    let two = parallel(TWO);
    let paths: Vec<String> = two.branches.iter().map(|branch| branch.path.to_string()).collect();
    assert_eq!(paths, ["layers.0.branches.0", "layers.0.branches.1"]);
    assert_eq!(two.mode, CombineMode::Concat { axis: None });
    for (name, mode) in [
        ("add", CombineMode::Add),
        ("multiply", CombineMode::Multiply),
        ("average", CombineMode::Average),
        ("avg", CombineMode::Average),
    ] {
        assert_eq!(parallel(&format!(r#"{TWO}, "combine_mode": "{name}""#)).mode, mode);
    }
    let along = parallel(&format!(r#"{TWO}, "combine_mode": "concat", "axis": -1"#)).mode;
    assert!(matches!(along, CombineMode::Concat { axis: Some(axis) } if axis.value == -1));
    assert_eq!(
        parallel_messages(&format!(r#"{TWO}, "combine_mode": "add", "axis": 0"#)),
        ["layers.0 (`parallel` with `add`) has no key `axis`"]
    );
    assert_eq!(parallel_messages(&format!(r#"{TWO}, "combine_mode": "sum""#)), ["unknown combine mode `sum`"]);
    assert_eq!(
        parallel_messages(r#""branches": []"#),
        ["`layers.0.branches`: a parallel layer has at least one branch"]
    );
    assert_eq!(parallel_messages(r#""combine_mode": "add""#), ["layers.0 (`parallel`) needs `branches`"]);
}

#[test]
fn grids() {
    let scatter = |positions: &str| {
        let grid = r#""combine_mode": "grid_scatter", "grid_output_rows": 2, "grid_output_cols": 2"#;
        format!(r#"{TWO}, {grid}, "grid_positions": [{positions}]"#)
    };
    let first = r#"{"target_row": 1, "target_col": 0}"#;
    let order = |positions: &str| match parallel(&scatter(positions)).mode {
        CombineMode::GridScatter(GridScatter { order }) => order,
        other => panic!("{other:?}"),
    };
    assert_eq!(order(&format!(r#"{first}, {{"target_row": 0, "target_col": 1, "target_layer": 0}}"#)), [1, 0]);
    let swapped = r#"{"target_row": 1, "target_col": 0, "branch_index": 1},
                     {"target_row": 0, "target_col": 1, "branch_index": 0}"#;
    assert_eq!(order(swapped), [0, 1]);
    for (second, message) in [
        ("", "`layers.0.grid_positions`: the list has one position for each branch"),
        (r#", {"target_row": 0}"#, "layers.0 (`parallel`) needs `target_col`"),
        (r#", {"target_row": 0, "target_col": 0, "row": 0}"#, "layers.0 (`parallel`) has no key `row`"),
        (
            r#", {"target_row": 0, "target_col": 2}"#,
            "`layers.0.grid_positions.1.target_col` is 2, which is not less than `grid_output_cols`, 2",
        ),
        (
            r#", {"target_row": 0, "target_col": 1, "target_layer": 1}"#,
            "`layers.0.grid_positions.1.target_layer` is 1, which is not less than `grid_output_layers`, 1",
        ),
        (
            r#", {"target_row": 1, "target_col": 0}"#,
            "`layers.0.grid_positions.1`: each cell takes one branch, this one has another",
        ),
        (
            r#", {"target_row": 0, "target_col": 0, "branch_index": 0}"#,
            "`layers.0.grid_positions.1`: each branch has one position, this one's has another",
        ),
        (
            r#", {"target_row": 0, "target_col": 0, "branch_index": 2}"#,
            "`layers.0.grid_positions.1`: `branch_index` is less than the number of positions",
        ),
        (r#", 3"#, "`layers.0.grid_positions.1`: expected an object, found a number"),
        (
            r#", {"target_row": -1, "target_col": 0}"#,
            "`layers.0.grid_positions.1.target_row` must be at least 0, found -1",
        ),
    ] {
        assert_eq!(parallel_messages(&scatter(&format!("{first}{second}"))), [message]);
    }
}

#[test]
fn filters() {
    let filter = |keys: &str| match parallel(&format!(r#"{TWO}, "combine_mode": "filter"{keys}"#)).mode {
        CombineMode::Filter(filter) => filter,
        other => panic!("{other:?}"),
    };
    let plain = filter("");
    assert_eq!(
        (plain.gate, plain.softmax, plain.temperature, plain.top_k),
        (None, SoftmaxVariant::Standard, 1.0, None)
    );
    let gated = filter(
        r#", "filter_gate": {"type": "dense", "output_size": 2}, "filter_softmax": "sparse",
            "filter_temperature": 0.5, "filter_top_k": 1"#,
    );
    let gate = gated.gate.unwrap();
    assert_eq!(gate.path.to_string(), "layers.0.filter_gate");
    // Logits are not to be cut off at 0.
    assert!(matches!(gate.kind, LayerKind::Dense(dense) if dense.activation == Activation::Linear));
    let top_k = gated.top_k.map(|k| k.value);
    assert_eq!((gated.softmax, gated.temperature, top_k), (SoftmaxVariant::Sparsemax, 0.5, Some(1)));
    let messages = |keys: &str| parallel_messages(&format!(r#"{TWO}, "combine_mode": "filter"{keys}"#));
    assert_eq!(
        messages(r#", "filter_top_k": 1"#),
        ["`layers.0.filter_top_k`: the greatest are chosen by a `filter_gate`"]
    );
    assert_eq!(messages(r#", "filter_softmax": "grid""#), ["unknown softmax variant of a gate `grid`"]);
    assert_eq!(
        messages(r#", "filter_gate": {"type": "dense"}"#),
        ["layers.0.filter_gate (`dense`) needs `output_size`"]
    );
}

#[test]
fn kmeans() {
    let kmeans = |keys: &str| match kind(&format!(r#"{{"type": "kmeans", "num_clusters": 3{keys}}}"#)) {
        LayerKind::Kmeans(kmeans) => kmeans,
        other => panic!("{other:?}"),
    };
    let plain = kmeans(r#", "cluster_dim": 0"#);
    assert_eq!(plain.num_clusters.value, 3);
    let Kmeans { cluster_dim: None, attached: None, output, metric, temperature, learning_rate, .. } = plain else {
        panic!("{plain:?}")
    };
    assert_eq!((output, metric), (KmeansOutput::Probabilities, KmeansMetric::SquaredEuclidean));
    assert_eq!((temperature, learning_rate), (1.0, 0.01));
    let nested = kmeans(
        r#", "kmeans_output_mode": "features", "distance_metric": "cosine", "cluster_dim": 2, "attached_layer":
            {"type": "kmeans", "num_clusters": 2, "attached_layer": {"type": "dense", "output_size": 4}}"#,
    );
    assert_eq!((nested.output, nested.metric), (KmeansOutput::Features, KmeansMetric::Cosine));
    let LayerKind::Kmeans(inner) = nested.attached.unwrap().kind else { panic!("another layer") };
    assert_eq!(inner.attached.unwrap().path.to_string(), "layers.0.attached_layer.attached_layer");
    for (keys, message) in [
        (r#""num_clusters": 0"#, "`layers.0.num_clusters` must be at least 1, found 0"),
        (r#""num_clusters": 1, "distance_metric": "hamming""#, "unknown distance metric `hamming`"),
        (r#""num_clusters": 1, "kmeans_output_mode": "labels""#, "unknown output mode `labels`"),
        (
            r#""num_clusters": 1, "kmeans_temperature": -1"#,
            "`layers.0.kmeans_temperature` must be more than 0, found -1",
        ),
        (r#""cluster_dim": 1"#, "layers.0 (`kmeans`) needs `num_clusters`"),
    ] {
        assert_eq!(messages(&with_layers(&format!(r#"{{"type": "kmeans", {keys}}}"#))), [message]);
    }
}

#[test]
fn attention() {
    let attention = |keys: &str| match kind(&format!(r#"{{"type": "mha"{keys}}}"#)) {
        LayerKind::Attention(attention) => attention,
        other => panic!("{other:?}"),
    };
    let plain = attention("");
    assert_eq!(plain.num_heads.value, 8);
    let Attention { d_model: None, seq_length: None, num_kv_heads: None, head_dim: None, .. } = plain else {
        panic!("{plain:?}")
    };
    assert_eq!((plain.causal, plain.rope, plain.bias, plain.output_bias), (true, Some(10_000.0), true, true));
    assert_eq!((plain.sliding_window, plain.mask, plain.kv_cache), (None, None, None));
    assert_eq!(attention(r#", "kv_cache": 9, "causal": true"#).kv_cache.unwrap().value, 9);
    assert_eq!(attention(r#", "rope_freq_base": 0"#).rope, Some(10_000.0));
    assert_eq!(attention(r#", "rope_freq_base": 5e5"#).rope, Some(500_000.0));
    assert_eq!(attention(r#", "rope_freq_base": 5e5, "rope": false"#).rope, None);
    let qwen = attention(r#", "num_kv_heads": 2, "head_dim": 4, "output_bias": false, "sliding_window": 3"#);
    assert_eq!((qwen.bias, qwen.output_bias), (true, false));
    assert!(!attention(r#", "bias": false"#).output_bias);
    assert!(qwen.output_projection);
    assert!(!attention(r#", "output_projection": false"#).output_projection);
    let mask = attention(r#", "attention_mask": [[true, false], [true, true]]"#).mask.unwrap();
    assert_eq!(mask.value, [[true, false], [true, true]]);
    for (keys, message) in [
        (r#""num_heads": 0"#, "`layers.0.num_heads` must be at least 1, found 0"),
        (r#""rope_freq_base": 0.5"#, "`layers.0.rope_freq_base` must be at least 1 and at most 10^12, found 0.5"),
        (r#""rope_freq_base": 1e13"#, "`layers.0.rope_freq_base` must be at least 1 and at most 10^12, found 1e13"),
        (r#""attention_mask": [[true], [true]]"#, "`layers.0.attention_mask`: the mask has as many columns as rows"),
        (r#""attention_mask": [true]"#, "`layers.0.attention_mask.0`: expected a list, found a boolean"),
        (r#""kv_cache": 0"#, "`layers.0.kv_cache` must be at least 1, found 0"),
        (
            r#""kv_cache": 4, "causal": false"#,
            "`layers.0.kv_cache`: `kv_cache` needs `causal`: a kept position can't attend to one that is still to come",
        ),
        (
            r#""output_projection": false, "output_bias": true"#,
            "`layers.0.output_bias`: without an output projection there is nothing to add a bias to",
        ),
        (r#""sliding_window": 0"#, "`layers.0.sliding_window` must be at least 1, found 0"),
    ] {
        assert_eq!(messages(&with_layers(&format!(r#"{{"type": "multi_head_attention", {keys}}}"#))), [message]);
    }
}
