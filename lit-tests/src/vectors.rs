//! Results of others, which Loom's are compared with. Only here does a tolerance decide: between Loom's own devices
//! nothing but equality counts, and whatever runs here has to be the same on interpreter and CPU.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use loom_ir::kernel::Verified;
use loom_passes::{PipelineOptions, compile};
use loom_runtime::tensors::TensorFile;
use loom_testing::oracles::run::{Given, compiled, interpreted};
use serde_json::Value as Json;

/// Tensors by name: extents and elements.
pub type Tensors = BTreeMap<String, (Vec<u64>, Vec<f32>)>;

/// One case of `vectors/loom-v0.0.8`: what Go Loom 0.0.8 computes.
#[derive(Debug)]
pub struct Case {
    /// The folder's name.
    pub name: String,
    /// Where its files are.
    pub folder: PathBuf,
    /// Samples of a batch.
    pub batch: u64,
    /// The input's shape; its first extent is the batch, or there is one sample.
    pub input_shape: Vec<u64>,
    /// The tensor with what Go gives, if that can be compared.
    pub faithful: Option<String>,
    /// The tensor with what the layers' names promise.
    pub intended: Option<String>,
    /// Whether Go needed a field to be set by code.
    pub set_by_code: bool,
    /// What came of saving and loading the network in Go.
    pub round_trip: String,
}

/// A set of vectors.
pub fn folder(set: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(set)
}

/// The cases of Go Loom's set.
pub fn go_loom() -> Vec<Case> {
    let set = folder("loom-v0.0.8");
    let index: Json = serde_json::from_str(&text(&set.join("index.json"))).unwrap();
    let string = |value: &Json| value.as_str().map(str::to_string);
    let case = |case: &Json| Case {
        name: string(&case["name"]).unwrap(),
        folder: set.join(case["name"].as_str().unwrap()),
        batch: case["batch"].as_u64().unwrap(),
        input_shape: case["input_shape"].as_array().unwrap().iter().map(|dim| dim.as_u64().unwrap()).collect(),
        faithful: string(&case["faithful"]),
        intended: string(&case["intended"]),
        set_by_code: case["set_by_code"].as_bool().unwrap(),
        round_trip: string(&case["round_trip"]).unwrap(),
    };
    index.as_array().unwrap().iter().map(case).collect()
}

impl Case {
    /// The config.
    pub fn config(&self) -> Json {
        serde_json::from_str(&text(&self.folder.join("net.json"))).unwrap()
    }

    /// Go's weights.
    pub fn weights(&self) -> Tensors {
        read(&self.folder.join("weights.safetensors"))
    }

    /// A tensor of the results.
    pub fn values(&self, name: &str) -> Vec<f32> {
        read(&self.folder.join("io.safetensors"))[name].1.clone()
    }

    /// The shape of one sample.
    pub fn sample(&self) -> Vec<u64> {
        let skipped = usize::from(self.input_shape[0] == self.batch && self.input_shape.len() > 1);
        self.input_shape[skipped..].to_vec()
    }
}

/// A file as text.
pub fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All tensors of a file, which are of 32-bit floats.
pub fn read(path: &Path) -> Tensors {
    let file = TensorFile::open(path).unwrap();
    let tensor = |(name, _): (&str, _)| {
        let tensor = file.tensor(name).unwrap();
        (name.to_string(), (tensor.shape().dims().to_vec(), tensor.as_f32().unwrap().to_vec()))
    };
    file.tensors().map(tensor).collect()
}

/// Compiles a config.
pub fn program(case: &str, config: &str) -> Arc<Verified> {
    let network = loom_ir::config::parse(config).unwrap_or_else(|errors| panic!("{case}: {errors}\n{config}"));
    let program = compile(&network, &PipelineOptions::default());
    Arc::new(program.unwrap_or_else(|error| panic!("{case}: {error}\n{config}")))
}

/// Runs a program in the interpreter and on the CPU, which agree.
pub fn run(case: &str, program: &Arc<Verified>, input: &[f32], weight: impl Fn(&str, &[u64]) -> Vec<f32>) -> Vec<f32> {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
    let weights = program.weights().map(|(_, buffer)| {
        let values = weight(&buffer.name, buffer.shape.dims());
        assert_eq!(values.len() as u64, buffer.shape.elements(), "{case}: {}", buffer.name);
        bits(&values)
    });
    let given = Given { inputs: vec![bits(input)], weights: weights.collect() };
    let found = interpreted(program, &given).unwrap();
    assert!(found == compiled(program, &given, 2).unwrap(), "{case}: interpreter and CPU differ");
    found[0].iter().map(|&bits| f32::from_bits(bits)).collect()
}

/// Whether all elements are within the tolerance; in words where one isn't.
pub fn close(found: &[f32], expected: &[f64], rtol: f64, atol: f64) -> Result<(), String> {
    if found.len() != expected.len() {
        return Err(format!("{} elements are not {}", found.len(), expected.len()));
    }
    for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        if error.is_nan() || error > atol + rtol * expected.abs() {
            return Err(format!("[{index}]: {found} is not {expected}"));
        }
    }
    Ok(())
}

/// The same with the tolerance of Go Loom's set.
pub fn close_to_go(found: &[f32], expected: &[f32]) -> Result<(), String> {
    let expected: Vec<f64> = expected.iter().map(|&value| f64::from(value)).collect();
    close(found, &expected, 1e-5, 2e-6)
}
