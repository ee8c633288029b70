//! Weights of every layer in every number format: what is saved is loaded again, and runs as the numbers that it stands for.

use std::path::Path;
use std::sync::Arc;

use loom_codegen_cpu::{Level, Options};
use loom_ir::kernel::Verified;
use loom_ir::numerics::formats::Storage;
use loom_ir::numerics::quantise::Scheme;
use loom_passes::{PipelineOptions, compile};
use loom_runtime::artifact::{Artifact, Target};
use loom_runtime::executor::Executor;
use loom_runtime::executor::cpu::{CpuExecutor, CpuOptions};
use loom_runtime::session::{Device, Session, SessionOptions};
use loom_runtime::storage::{Conversion, Granularity, StoredFile, convert};
use loom_runtime::tensors::{Tensor, TensorFile, write_tensors};
use loom_runtime::weights::{Weights, draw_inputs};

/// Every layer that has weights, alone and in a mixture of experts in a parallel layer in a sequential one.
const NETWORKS: [&str; 14] = [
    r#"{"input_shape": [6], "layers": [{"type": "dense", "output_size": 5}]}"#,
    r#"{"input_shape": [6], "layers": [{"type": "stitch", "output_size": 5}]}"#,
    r#"{"input_shape": [3, 9], "layers": [{"type": "conv1d", "filters": 3, "kernel_size": 3, "groups": 3}]}"#,
    r#"{"input_shape": [2, 5, 5], "layers": [{"type": "conv2d", "filters": 3, "kernel_size": 3}]}"#,
    r#"{"input_shape": [4], "layers": [{"type": "embedding", "vocab_size": 7, "embedding_dim": 3}]}"#,
    r#"{"input_shape": [3, 6], "layers": [{"type": "layer_norm"}, {"type": "rms_norm"}]}"#,
    r#"{"input_shape": [3, 6], "layers": [{"type": "batch_norm"}]}"#,
    r#"{"input_shape": [3, 6], "layers": [{"type": "swiglu", "intermediate_size": 5}]}"#,
    r#"{"input_shape": [3, 6], "layers": [{"type": "rnn", "hidden_size": 4, "initial_state": "learned"}]}"#,
    r#"{"input_shape": [3, 6], "layers": [{"type": "lstm", "hidden_size": 3, "bidirectional": true}]}"#,
    r#"{"input_shape": [3, 6], "layers": [{"type": "gru", "hidden_size": 3, "biases": "single"}]}"#,
    r#"{"input_shape": [3, 8], "layers": [{"type": "multi_head_attention", "num_heads": 2, "num_kv_heads": 1}]}"#,
    r#"{"input_shape": [6], "layers": [{"type": "kmeans", "num_clusters": 3, "attached_layer":
        {"type": "dense", "output_size": 4}}]}"#,
    r#"{"input_shape": [6], "layers": [{"type": "sequential", "branches": [{"type": "parallel", "combine_mode": "add",
        "branches": [{"type": "parallel", "combine_mode": "filter", "filter_gate": {"type": "dense", "output_size": 2},
        "branches": [{"type": "dense", "output_size": 5}, {"type": "dense", "output_size": 5}]},
        {"type": "dense", "output_size": 5}]}]}]}"#,
];

fn program(source: &str) -> Arc<Verified> {
    let network = loom_ir::config::parse(source).unwrap_or_else(|errors| panic!("{errors}\n{source}"));
    Arc::new(compile(&network, &PipelineOptions::default()).unwrap_or_else(|error| panic!("{error}\n{source}")))
}

/// Weights from a seed, none of them zero, as a file.
fn file(program: &Verified) -> TensorFile {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    let weights = Weights::initialise(program, 5).unwrap();
    let tensors = weights.tensors().iter().map(|tensor| {
        let values: Vec<f32> =
            tensor.as_f32().unwrap().iter().enumerate().map(|(i, &x)| x + (i % 13) as f32 * 0.01 + 0.3).collect();
        Tensor::from_f32(tensor.name(), tensor.shape().clone(), &values).unwrap()
    });
    write_tensors(&path, &tensors.collect::<Vec<_>>()).unwrap();
    TensorFile::from_bytes(Path::new("weights"), std::fs::read(&path).unwrap()).unwrap()
}

fn converted(file: &TensorFile, conversion: &Conversion) -> (Vec<u8>, TensorFile) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    convert(&StoredFile::of(file).unwrap(), &path, conversion, &mut |_, _| {})
        .unwrap_or_else(|error| panic!("{error}"));
    let bytes = std::fs::read(&path).unwrap();
    (bytes.clone(), TensorFile::from_bytes(Path::new("out"), bytes).unwrap())
}

fn output(program: &Arc<Verified>, weights: Weights, device: Device) -> Vec<u32> {
    let artifact = Artifact::new(Arc::clone(program), weights, Target::Cpu, Vec::new());
    let mut session =
        Session::new(&artifact, SessionOptions { threads: Some(1), ..SessionOptions::on(device) }).unwrap();
    session.run_tensors(&draw_inputs(program, 3).unwrap()).unwrap()[0].bits().to_vec()
}

/// On the processor with the instructions of a level.
fn output_at(program: &Arc<Verified>, weights: &Weights, level: Level) -> Vec<u32> {
    let codegen = Options::at(level).unwrap();
    let options = CpuOptions { threads: Some(1), codegen, ..CpuOptions::default() };
    let mut executor = CpuExecutor::with_options(Arc::clone(program), Arc::new(weights.clone()), &options).unwrap();
    let inputs = draw_inputs(program, 3).unwrap();
    let inputs: Vec<&[u32]> = inputs.iter().map(Tensor::bits).collect();
    let mut outputs: Vec<Vec<u32>> =
        program.outputs().map(|(_, buffer)| vec![0; buffer.shape.elements() as usize]).collect();
    let mut slices: Vec<&mut [u32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    executor.run(&inputs, &mut slices).unwrap();
    outputs.swap_remove(0)
}

#[test]
fn every_layer_in_every_format() {
    for source in NETWORKS {
        let program = program(source);
        let original = file(&program);
        let schemes = [
            (Scheme::Affine, Granularity::Group(4)),
            (Scheme::Symmetric, Granularity::Channel),
            (Scheme::Affine, Granularity::Tensor),
        ];
        for (storage, (scheme, granularity)) in
            Storage::ALL.into_iter().flat_map(|storage| schemes.map(|scheme| (storage, scheme)))
        {
            // Also what the default leaves alone: biases and norms.
            let conversion = Conversion {
                default: None,
                rules: vec![("*".to_string(), storage)],
                scaled: true,
                scheme,
                granularity,
            };
            let (bytes, stored) = converted(&original, &conversion);
            let unchanged = Conversion { rules: Vec::new(), ..conversion.clone() };
            assert!(converted(&stored, &unchanged).0 == bytes, "saved and loaded again, {storage}\n{source}");
            if storage == Storage::F64 {
                assert!(Weights::from_tensors(&stored, &program).is_err(), "f64 is not rounded unasked");
                continue;
            }
            // What it stands for, written down as f32, is the same network.
            let (_, spelled) =
                converted(&stored, &Conversion { rules: vec![("*".to_string(), Storage::F32)], ..conversion });
            let weights = Weights::from_tensors(&stored, &program).unwrap();
            let spelled = Weights::from_tensors(&spelled, &program).unwrap();
            assert_eq!(weights.tensors(), spelled.tensors(), "{storage}\n{source}");
            let expected = output(&program, weights.clone(), Device::Interp);
            for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
                let found = output_at(&program, &weights, level);
                assert_eq!(found, expected, "{storage} {scheme:?} {granularity:?} at {level}\n{source}");
            }
        }
    }
}
