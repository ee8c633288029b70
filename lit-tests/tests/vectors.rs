//! The meaning of the layers, against results of others.
//!
//! `vectors/loom-v0.0.8` holds what Go Loom 0.0.8 computes; where that is odd, also what the layer's name promises,
//! recomputed in float64, and that is what is compared here. (What it really computes is for `dialect.rs`.) No dialect
//! is read here: a config is changed only where Go's spelling means something else, or nothing, in ours. `vectors/pytorch`
//! holds what PyTorch computes in float64.

use std::collections::BTreeSet;

use loom_lit_tests::vectors::{Case, Tensors, close, close_to_go, folder, go_loom, program, read, run, text};
use safetensors::SafeTensors;
use serde_json::{Value as Json, json};

/// Cases without a meaning of their own, beside those that hold none to be compared.
const EXCEPTIONS: [(&str, &str); 5] = [
    ("dense_no_weights", "weights that are not there are zeros for Go, and an error here"),
    ("softmax_unknown_variant", "a name that means nothing is a plain softmax for Go, and an error here"),
    ("softmax_entmax_alpha0_is_softmax", "entmax without an alpha is a plain softmax for Go, and 1.5-entmax here"),
    ("softmax_entmax_1.2_b2", "what the set has for it is a blend of softmax and sparsemax, which is no entmax"),
    ("kmeans_metric_ignored", "Go ignores the distance metric, which is what the case is about"),
];

/// How Go's network is spelled here, and where its weights are.
#[derive(Default)]
struct Ours {
    /// Layers with a relu, which is max(0, 1.1 x): that of weights and biases 1.1 times as large.
    scaled: BTreeSet<String>,
    /// Layers whose weight is as its shape says. Those of others are [in][out] under a header that says [out, in].
    plain: BTreeSet<String>,
    /// Beginnings of names, ours and Go's, for layers that moved.
    moved: Vec<(&'static str, &'static str)>,
}

impl Ours {
    /// Spells a network.
    fn of(case: &Case, config: &mut Json) -> Ours {
        let mut ours = Ours::default();
        config["input_shape"] = case.sample().into();
        for (index, layer) in config["layers"].as_array_mut().unwrap().iter_mut().enumerate() {
            ours.spell(layer, format!("layers.{index}"));
        }
        let layers = config["layers"].as_array_mut().unwrap();
        let reshaped = |shape: [u64; 2], layer: &Json| json!({"type": "sequential", "branches": [{"type": "reshape", "shape": shape}, layer]});
        match case.name.as_str() {
            // Go ignores the temperature.
            "softmax_adaptive_is_standard" => drop(layers[0].as_object_mut().unwrap().remove("temperature")),
            // Go reads the channels' numbers as they lie, where a feature map is a sequence of positions here.
            "net_conv1d_lstm_dense" => {
                layers[1] = reshaped([8, 4], &layers[1]);
                ours.moved.push(("layers.1.branches.1.", "layers.1."));
            }
            // A norm over a part of an axis.
            "parallel_mixed_types" => {
                let branch = &mut layers[0]["branches"][4];
                *branch = reshaped([2, 4], branch);
                ours.moved.push(("layers.0.branches.4.branches.1.", "layers.0.branches.4."));
            }
            // Go adds what it does not say: the input of each norm to the output of the layer after it.
            "net_transformer_block" => {
                layers.insert(2, json!({"type": "residual", "from": 2}));
                layers.push(json!({"type": "residual", "from": 2}));
                config["layers_per_cell"] = 6.into();
                ours.moved.extend([("layers.3.", "layers.2."), ("layers.4.", "layers.3.")]);
            }
            _ => {}
        }
        ours
    }

    /// The layer that Go has at `path`, and those inside it.
    fn spell(&mut self, layer: &mut Json, path: String) {
        let layer = layer.as_object_mut().unwrap();
        let activation = layer.get("activation").and_then(Json::as_str);
        let has_one = matches!(layer["type"].as_str(), Some("dense" | "conv1d" | "conv2d"));
        if path.ends_with(".filter_gate") {
            // Never applied.
            layer.remove("activation");
            self.plain.insert(path.clone());
        } else if activation == Some("leaky_relu") {
            layer.insert("negative_slope".to_string(), 0.1.into());
        } else if activation == Some("none") {
            layer.insert("activation".to_string(), "linear".into());
        } else if has_one && activation.unwrap_or("relu") == "relu" {
            self.scaled.insert(path.clone());
        }
        if matches!(layer["type"].as_str(), Some("rnn" | "lstm")) {
            layer.insert("biases".to_string(), "single".into());
        }
        if matches!(layer["type"].as_str(), Some("embedding" | "kmeans" | "rnn" | "lstm")) {
            self.plain.insert(path.clone());
        }
        for key in ["filter_gate", "attached_layer"] {
            if let Some(inner) = layer.get_mut(key) {
                self.spell(inner, format!("{path}.{key}"));
            }
        }
        let branches = layer.get_mut("branches").and_then(Json::as_array_mut);
        for (index, branch) in branches.into_iter().flatten().enumerate() {
            self.spell(branch, format!("{path}.branches.{index}"));
        }
    }

    fn weight(&self, name: &str, dims: &[u64], file: &Tensors) -> Vec<f32> {
        let moved = self.moved.iter().find_map(|(ours, go)| Some(format!("{go}{}", name.strip_prefix(ours)?)));
        let name = moved.unwrap_or_else(|| name.to_string());
        let (path, _) = name.rsplit_once('.').unwrap();
        let values = gates(&name.replace("attached_layer", "attached.0"), file);
        let values = match *dims {
            [outputs, inputs] if !self.plain.contains(path) => {
                let at = |index: u64| values[(index % inputs * outputs + index / inputs) as usize];
                (0..outputs * inputs).map(at).collect()
            }
            _ => values,
        };
        let factor = if self.scaled.contains(path) { 1.1 } else { 1.0 };
        values.into_iter().map(|value| (f64::from(value) * factor) as f32).collect()
    }
}

/// A tensor; where the file has one for each gate of an lstm, these one after another. An rnn's one bias is `bias_h`.
fn gates(name: &str, file: &Tensors) -> Vec<f32> {
    let one = file.get(name).or_else(|| file.get(&format!("{name}_h")));
    match one {
        Some((_, values)) => values.clone(),
        None => ["i", "f", "g", "o"].into_iter().flat_map(|gate| file[&format!("{name}_{gate}")].1.clone()).collect(),
    }
}

#[test]
fn go_loom_as_intended() {
    let mut compared = 0;
    for case in go_loom() {
        let Some(tensor) = &case.intended else { continue };
        if EXCEPTIONS.iter().any(|(name, _)| *name == case.name) {
            continue;
        }
        let mut config = case.config();
        let ours = Ours::of(&case, &mut config);
        let program = program(&case.name, &config.to_string());
        let weights = case.weights();
        let found = run(&case.name, &program, &case.values("input"), |name, dims| ours.weight(name, dims, &weights));
        close_to_go(&found, &case.values(tensor)).unwrap_or_else(|what| panic!("{}{what}", case.name));
        compared += 1;
    }
    assert_eq!(compared, 91);
}

#[test]
fn pytorch() {
    for name in ["n2_cnn", "n3_conv_block", "n4_block_rope", "n5_lstm"] {
        let folder = folder("pytorch").join(name);
        let bytes = std::fs::read(folder.join("io.safetensors")).unwrap();
        let io = SafeTensors::deserialize(&bytes).unwrap();
        let expected = io.tensor("output_f64").unwrap();
        let expected: Vec<f64> =
            expected.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect();
        let input = io.tensor("input").unwrap();
        let shape: Vec<u64> = input.shape().iter().map(|&dim| dim as u64).collect();
        let input: Vec<f32> = input.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let mut config: Json = serde_json::from_str(&text(&folder.join("net.json"))).unwrap();
        config["input_shape"] = shape[1..].into();
        if name == "n5_lstm" {
            config["layers"][0]["biases"] = "single".into();
        }
        let weights = read(&folder.join("weights.safetensors"));
        let found = run(name, &program(name, &config.to_string()), &input, |name, _| gates(name, &weights));
        // PyTorch's own f32 result is up to 2.2e-6 off on values up to 6.6.
        close(&found, &expected, 1e-5, 5e-6).unwrap_or_else(|what| panic!("{name}{what}"));
    }
}
