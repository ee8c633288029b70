//! The meaning of the layers, against PyTorch and entmax in float64: `vectors/own/make.py` made the numbers with their own
//! modules and functions. As in `vectors.rs`, a tolerance decides here and nowhere else.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use loom_ir::eval::program::{self, Memory};
use loom_passes::{PipelineOptions, compile};
use safetensors::SafeTensors;
use serde_json::Value;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/own").join(name)
}

/// The bits of an f32 tensor.
fn bits(vectors: &SafeTensors<'_>, name: &str) -> Vec<u32> {
    let tensor = vectors.tensor(name).unwrap();
    tensor.data().chunks_exact(4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

fn check(vectors: &SafeTensors<'_>, network: &Value) {
    let case = network["id"].as_str().unwrap();
    let parsed = loom_ir::config::parse(&network.to_string()).unwrap_or_else(|errors| panic!("{case}: {errors}"));
    let program = compile(&parsed, &PipelineOptions::default()).unwrap_or_else(|error| panic!("{case}: {error}"));
    let mut memory = Memory::new(&program);
    let mut used = BTreeSet::from([format!("{case}/output")]);
    for (id, buffer) in program.buffers_where(|kind| kind.is_input() || kind.is_weight()) {
        let name = format!("{case}/{}", buffer.name);
        memory.buffers[id.index()] = bits(vectors, &name);
        assert_eq!(memory.buffers[id.index()].len() as u64, buffer.shape.elements(), "{name}");
        used.insert(name);
    }
    let given: BTreeSet<String> =
        vectors.names().into_iter().filter(|name| name.starts_with(&format!("{case}/"))).map(str::to_string).collect();
    assert_eq!(given, used);
    program::run(&program, &mut memory);
    let (output, _) = program.outputs().next().unwrap();
    let found = memory.buffers[output.index()].iter().map(|&bits| f64::from(f32::from_bits(bits)));
    let expected = vectors.tensor(&format!("{case}/output")).unwrap();
    let expected: Vec<f64> =
        expected.data().chunks_exact(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap())).collect();
    assert_eq!(found.len(), expected.len(), "{case}");
    for (index, (found, expected)) in found.zip(expected).enumerate() {
        // Numbers here are some units large, and sums have no more than some fifty terms.
        let error = (found - expected).abs();
        assert!(error <= 2e-6 + 2e-6 * expected.abs(), "{case}[{index}]: {found} is not {expected}");
    }
}

#[test]
fn pytorch() {
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(file("cases.json")).unwrap()).unwrap();
    assert_eq!(cases.len(), 35);
    let bytes = std::fs::read(file("vectors.safetensors")).unwrap();
    let vectors = SafeTensors::deserialize(&bytes).unwrap();
    for network in &cases {
        check(&vectors, network);
    }
}
