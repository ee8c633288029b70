//! Weights of every layer in every number format: what is saved is loaded again, and runs as the numbers that it stands for.

use std::path::Path;
use std::sync::Arc;

use loom_codegen_cpu::{Level, Options};
use loom_ir::kernel::Verified;
use loom_ir::numerics::formats::Storage;
use loom_ir::numerics::quantise::Scheme;
use loom_ir::types::DType;
use loom_passes::{PipelineOptions, compile};
use loom_runtime::artifact::{self, Artifact};
use loom_runtime::digest::canonicalise;
use loom_runtime::executor::Executor;
use loom_runtime::executor::cpu::{CpuExecutor, CpuOptions};
use loom_runtime::executor::gpu::{Arithmetic, Class, ContractShape, GpuDevice, GpuExecutor, GpuOptions, Target};
use loom_runtime::session::{Device, Session, SessionOptions};
use loom_runtime::storage::{Conversion, Granularity, StoredFile, convert};
use loom_runtime::tensors::{Tensor, TensorFile, write_tensors};
use loom_runtime::weights::{Weights, draw_inputs};

/// Every layer that has weights (dense ones with one row, of several chunks, and with many rows and panels), alone and in a mixture of experts in a parallel layer in a sequential one.
const NETWORKS: [&str; 16] = [
    r#"{"input_shape": [6], "layers": [{"type": "dense", "output_size": 5}]}"#,
    r#"{"input_shape": [300], "layers": [{"type": "dense", "output_size": 33}]}"#,
    r#"{"batch_size": 35, "input_shape": [21], "layers": [{"type": "dense", "output_size": 530}]}"#,
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
    let artifact = Artifact::new(Arc::clone(program), weights, artifact::Target::Cpu, Vec::new());
    let mut session =
        Session::new(&artifact, SessionOptions { threads: Some(1), ..SessionOptions::on(device) }).unwrap();
    session.run_tensors(&draw_inputs(program, 3).unwrap()).unwrap()[0].bits().to_vec()
}

/// On the processor with the instructions of a level.
fn output_at(program: &Arc<Verified>, weights: &Weights, level: Level) -> Vec<u32> {
    let codegen = Options::at(level).unwrap();
    let options = CpuOptions { threads: Some(1), codegen, ..CpuOptions::default() };
    run(&mut CpuExecutor::with_options(Arc::clone(program), Arc::new(weights.clone()), &options).unwrap())
}

/// The first output for drawn inputs.
fn run(executor: &mut dyn Executor) -> Vec<u32> {
    let inputs = draw_inputs(executor.program(), 3).unwrap();
    let inputs: Vec<&[u32]> = inputs.iter().map(Tensor::bits).collect();
    let outputs = executor.program().outputs();
    let dtypes: Vec<DType> = executor.program().outputs().map(|(_, buffer)| buffer.dtype).collect();
    let mut outputs: Vec<Vec<u32>> = outputs.map(|(_, buffer)| vec![0; buffer.shape.elements() as usize]).collect();
    let mut slices: Vec<&mut [u32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    executor.run(&inputs, &mut slices).unwrap();
    canonicalise(dtypes[0], &mut outputs[0]);
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

/// A contraction for every template, windows, rows, maps and gathers of weights, of sizes that vectors and tiles divide and
/// of others.
const KINDS: [&str; 6] = [
    r#"{"batch_size": 5, "input_shape": [72], "layers": [{"type": "dense", "output_size": 40}]}"#,
    r#"{"batch_size": 3, "input_shape": [301], "layers": [{"type": "dense", "output_size": 7}]}"#,
    r#"{"input_shape": [4, 6, 6], "layers": [{"type": "conv2d", "filters": 8, "kernel_size": 3, "padding": 1}]}"#,
    r#"{"input_shape": [5], "layers": [{"type": "embedding", "vocab_size": 9, "embedding_dim": 12}, {"type": "rms_norm"},
        {"type": "layer_norm"}]}"#,
    r#"{"input_shape": [3, 8], "layers": [{"type": "gru", "hidden_size": 4}]}"#,
    r#"{"input_shape": [3, 8], "layers": [{"type": "rnn", "hidden_size": 4, "initial_state": "learned"}]}"#,
];

/// Targets with one template of contractions each, the device's own, and that in integers.
fn templates(device: &GpuDevice) -> Vec<Target> {
    let own = device.target().clone();
    let discrete = Target { quirks: own.quirks, ..Target::new(Class::Discrete, own.limits) };
    let template = |&shape: &ContractShape| {
        let mut target = discrete.clone();
        target.shapes.contract = vec![shape];
        target
    };
    let mut targets: Vec<Target> = discrete.shapes.contract.iter().map(template).collect();
    targets.push(own.clone().with_arithmetic(Arithmetic::Soft));
    targets.push(own);
    targets
}

/// Codes of layers of integers lie four a word on a GPU. Needs a Vulkan adapter.
#[test]
fn codes_in_every_template() {
    let device = GpuDevice::open(&GpuOptions::default()).unwrap();
    for source in [
        r#"{"dtype": "int8", "batch_size": 5, "input_shape": [71], "layers": [{"type": "dense", "output_size": 40}]}"#,
        r#"{"dtype": "int4", "batch_size": 3, "input_shape": [301], "layers": [
            {"type": "dense", "output_size": 7, "group_size": 24}]}"#,
        r#"{"dtype": "int8", "input_shape": [3, 6, 6], "layers": [
            {"type": "conv2d", "filters": 8, "kernel_size": 3, "padding": 1}]}"#,
    ] {
        let program = program(source);
        let weights = Weights::initialise(&program, 7).unwrap();
        let expected = output(&program, weights.clone(), Device::Interp);
        for target in templates(&device) {
            let what = format!("{:?} {:?}", target.arithmetic, target.shapes.contract);
            let weights = Arc::new(weights.clone());
            let executor = GpuExecutor::with_target(Arc::clone(&device), Arc::clone(&program), weights, &target);
            let mut executor = executor.unwrap_or_else(|error| panic!("{what}: {error}\n{source}"));
            assert_eq!(run(&mut executor), expected, "{what}\n{source}");
        }
    }
}

/// Needs a Vulkan adapter.
#[test]
fn every_format_in_every_template() {
    let device = GpuDevice::open(&GpuOptions::default()).unwrap();
    let targets = templates(&device);
    let formats = [
        (Storage::Bf16, Scheme::Symmetric, Granularity::Tensor),
        (Storage::F16, Scheme::Symmetric, Granularity::Tensor),
        (Storage::F8, Scheme::Symmetric, Granularity::Channel),
        (Storage::F4, Scheme::Symmetric, Granularity::Group(24)),
        (Storage::I4, Scheme::Affine, Granularity::Group(5)),
        (Storage::I8, Scheme::Symmetric, Granularity::Channel),
        (Storage::U8, Scheme::Affine, Granularity::Tensor),
        (Storage::I16, Scheme::Affine, Granularity::Channel),
        (Storage::U16, Scheme::Affine, Granularity::Group(24)),
    ];
    for source in KINDS {
        let program = program(source);
        let original = file(&program);
        for (number, (storage, scheme, granularity)) in formats.into_iter().enumerate() {
            let rules = vec![("*".to_string(), storage)];
            let conversion = Conversion { default: None, rules, scaled: true, scheme, granularity };
            let weights = Weights::from_tensors(&converted(&original, &conversion).1, &program).unwrap();
            assert!(weights.tensors().iter().all(|tensor| tensor.stored().is_some()), "{storage}");
            let expected = output(&program, weights.clone(), Device::Interp);
            // The templates in turn: every kind meets each of them with one format at least.
            let target = &targets[number % targets.len()];
            let what = format!("{storage} {granularity:?}, {:?} {:?}", target.arithmetic, target.shapes.contract);
            let weights = Arc::new(weights.clone());
            let executor = GpuExecutor::with_target(Arc::clone(&device), Arc::clone(&program), weights, target);
            let mut executor = executor.unwrap_or_else(|error| panic!("{what}: {error}\n{source}"));
            assert_eq!(run(&mut executor), expected, "{what}\n{source}");
        }
    }
}
