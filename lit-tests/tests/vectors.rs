//! The meaning of the layers, against results of others.
//!
//! `vectors/loom-v0.0.8` holds what Go Loom 0.0.8 computes (where it is odd, what the layer's name promises, recomputed
//! in float64), `vectors/pytorch` what PyTorch computes in float64. Only here does a tolerance decide, as each set
//! states it: between Loom's own devices nothing but equality counts.
//!
//! Of Go Loom's cases those are here whose layers exist. Where its dialect differs, the network is put into ours: see
//! [`Dialect`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use loom_ir::eval::program::{self, Memory};
use loom_ir::kernel::{BufferKind, Verified};
use loom_passes::{PipelineOptions, compile};
use safetensors::SafeTensors;

type Tensors = BTreeMap<String, (Vec<u64>, Vec<f32>)>;

fn read(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter().map(|(name, view)| {
        let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        (name, (view.shape().iter().map(|&dim| dim as u64).collect(), values.collect()))
    });
    tensors.collect()
}

fn vectors(set: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(set)
}

fn config(folder: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join("net.json")).unwrap()).unwrap()
}

/// Compiles a case's network for the shape of its input.
fn compiled(folder: &Path, mut config: serde_json::Value, input_shape: &[u64]) -> Verified {
    // Some of these configs leave the sample's shape to the caller.
    config["input_shape"] = input_shape[1..].into();
    let network = loom_ir::config::parse(&config.to_string()).unwrap_or_else(|errors| panic!("{folder:?}: {errors}"));
    compile(&network, &PipelineOptions::default()).unwrap_or_else(|error| panic!("{folder:?}: {error}"))
}

/// What Go Loom's names mean in a network, and how its weights lie. Its leaky_relu has a slope of 0.1, its relu is
/// max(0, 1.1 x), which is relu of weights and biases 1.1 times as large, and a gate's activation is never applied.
#[derive(Default)]
struct Dialect {
    /// Layers with a relu.
    scaled: BTreeSet<String>,
    /// Layers whose weight is as its shape says. Those of others are [in][out] under a header that says [out, in].
    plain: BTreeSet<String>,
}

impl Dialect {
    /// Puts the layer at `path`, and those inside it, into ours.
    fn translate(&mut self, layer: &mut serde_json::Value, path: String) {
        let layer = layer.as_object_mut().unwrap();
        let activation = layer.get("activation").and_then(|name| name.as_str());
        let has_one = matches!(layer["type"].as_str(), Some("dense" | "conv1d" | "conv2d"));
        if path.ends_with(".filter_gate") {
            layer.remove("activation");
            self.plain.insert(path.clone());
        } else if activation == Some("leaky_relu") {
            layer.insert("negative_slope".to_string(), 0.1.into());
        } else if has_one && activation.unwrap_or("relu") == "relu" {
            self.scaled.insert(path.clone());
        }
        if matches!(layer["type"].as_str(), Some("embedding" | "kmeans")) {
            self.plain.insert(path.clone());
        }
        for key in ["filter_gate", "attached_layer"] {
            if let Some(inner) = layer.get_mut(key) {
                self.translate(inner, format!("{path}.{key}"));
            }
        }
        let branches = layer.get_mut("branches").and_then(|branches| branches.as_array_mut());
        for (index, branch) in branches.into_iter().flatten().enumerate() {
            self.translate(branch, format!("{path}.branches.{index}"));
        }
    }

    fn of(config: &mut serde_json::Value) -> Dialect {
        let mut dialect = Dialect::default();
        for (index, layer) in config["layers"].as_array_mut().unwrap().iter_mut().enumerate() {
            dialect.translate(layer, format!("layers.{index}"));
        }
        dialect
    }

    fn weight(&self, name: &str, dims: &[u64], file: &Tensors) -> Vec<f32> {
        let (path, _) = name.rsplit_once('.').unwrap();
        let (_, values) = &file[&name.replace("attached_layer", "attached.0")];
        let values = match *dims {
            [outputs, inputs] if !self.plain.contains(path) => {
                let at = |index: u64| values[(index % inputs * outputs + index / inputs) as usize];
                (0..outputs * inputs).map(at).collect()
            }
            _ => values.clone(),
        };
        let factor = if self.scaled.contains(path) { 1.1 } else { 1.0 };
        values.into_iter().map(|value| (f64::from(value) * factor) as f32).collect()
    }
}

fn run(program: &Verified, input: &[f32], weight: impl Fn(&str, &[u64]) -> Vec<f32>) -> Vec<f32> {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
    let mut memory = Memory::new(program);
    for (id, buffer) in program.buffers_where(|kind| matches!(kind, BufferKind::Input | BufferKind::Weight)) {
        memory.buffers[id.index()] = match buffer.kind {
            BufferKind::Input => bits(input),
            _ => bits(&weight(&buffer.name, buffer.shape.dims())),
        };
        assert_eq!(memory.buffers[id.index()].len() as u64, buffer.shape.elements(), "{}", buffer.name);
    }
    program::run(program, &mut memory);
    let (output, _) = program.outputs().next().unwrap();
    memory.buffers[output.index()].iter().map(|&bits| f32::from_bits(bits)).collect()
}

fn assert_close(case: &str, found: &[f32], expected: &[f64], rtol: f64, atol: f64) {
    assert_eq!(found.len(), expected.len(), "{case}");
    for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        assert!(error <= atol + rtol * expected.abs(), "{case}[{index}]: {found} is not {expected}");
    }
}

#[test]
fn go_loom() {
    let set = vectors("loom-v0.0.8");
    let index: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(set.join("index.json")).unwrap()).unwrap();
    let cases = index.as_array().unwrap();
    assert_eq!(cases.len(), 77);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let shape: Vec<u64> = case["input_shape"].as_array().unwrap().iter().map(|dim| dim.as_u64().unwrap()).collect();
        let folder = set.join(name);
        let mut config = config(&folder);
        let dialect = Dialect::of(&mut config);
        let program = compiled(&folder, config, &shape);
        let weights = folder.join("weights.safetensors");
        let weights = if weights.exists() { read(&weights) } else { Tensors::new() };
        let io = read(&folder.join("io.safetensors"));
        let expected = &io[case["compare"].as_str().unwrap()].1;
        let expected: Vec<f64> = expected.iter().map(|&value| f64::from(value)).collect();
        let found = run(&program, &io["input"].1, |name, dims| dialect.weight(name, dims, &weights));
        assert_close(name, &found, &expected, case["rtol"].as_f64().unwrap(), case["atol"].as_f64().unwrap());
    }
}

#[test]
fn pytorch() {
    for name in ["n2_cnn", "n3_conv_block", "n4_block_rope"] {
        let folder = vectors("pytorch").join(name);
        let bytes = std::fs::read(folder.join("io.safetensors")).unwrap();
        let io = SafeTensors::deserialize(&bytes).unwrap();
        let expected = io.tensor("output_f64").unwrap();
        let expected: Vec<f64> =
            expected.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect();
        let input = &read(&folder.join("io.safetensors"))["input"];
        let program = compiled(&folder, config(&folder), &input.0);
        let weights = read(&folder.join("weights.safetensors"));
        let found = run(&program, &input.1, |name, _| weights[name].1.clone());
        // PyTorch's own f32 result is up to 2.2e-6 off on values up to 6.6.
        assert_close(name, &found, &expected, 1e-5, 5e-6);
    }
}
