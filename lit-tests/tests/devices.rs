//! Interpreter, processor and GPU give the same bits: random networks, special values, any number of threads, every tier of
//! GPUs that the device is fit for.
//!
//! A machine without a GPU adapter fails these tests; software Vulkan is enough.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use loom_codegen_cpu::{Level, ObjectOptions, Options};
use loom_ir::kernel::BufferKind;
use loom_ir::kernel::ids::rows_named;
use loom_ir::numerics::quantise::{SCALE, SUM};
use loom_ir::types::DType;
use loom_lit_tests::network::random_network;
use loom_lit_tests::object::ObjectExecutor;
use loom_lit_tests::values::Random;
use loom_passes::{PipelineOptions, compile};
use loom_runtime::artifact::{Artifact, Target};
use loom_runtime::executor::cpu::{CpuExecutor, CpuOptions};
use loom_runtime::executor::gpu::{GpuDevice, GpuExecutor, GpuOptions, Tier};
use loom_runtime::session::{Device, Session, SessionOptions};
use loom_runtime::tensors::{Tensor, TensorFile};
use loom_runtime::weights::Weights;
use loom_runtime::{compare, tensors};

/// A compiled random network whose weights hold special values too: one element in `special` (0: none). Those that become
/// codes are finite.
fn artifact(source: &str, seed: u64, special: u64) -> Artifact {
    let network = loom_ir::config::parse(source).unwrap_or_else(|errors| panic!("{errors}\n{source}"));
    let program = compile(&network, &PipelineOptions::default()).unwrap_or_else(|error| panic!("{error}\n{source}"));
    let mut random = Random(seed);
    let coded: Vec<String> =
        program.weights().filter(|(_, b)| b.kind != BufferKind::Weight).map(|(_, b)| b.name.clone()).collect();
    let is_made = |name: &str| {
        let of = name.strip_suffix(SCALE).or_else(|| name.strip_suffix(SUM));
        of.is_some_and(|of| coded.iter().any(|name| name == of))
    };
    let weights: Vec<Tensor> = program
        .weights()
        .filter(|(_, buffer)| !is_made(&buffer.name))
        .map(|(_, buffer)| {
            let special = if coded.contains(&buffer.name) { 0 } else { special };
            let bits = random.floats(buffer.shape.elements() as usize, special);
            Tensor::new(&buffer.name, DType::F32, buffer.shape.clone(), bits).unwrap()
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    tensors::write_tensors(&path, &weights).unwrap();
    let file = TensorFile::from_bytes(Path::new("weights"), std::fs::read(&path).unwrap()).unwrap();
    let weights = Weights::from_tensors(&file, &program).unwrap();
    Artifact::new(Arc::new(program), weights, Target::Cpu, Vec::new())
}

fn input(artifact: &Artifact, samples: u64, seed: u64, special: u64) -> Tensor {
    let (id, buffer) = artifact.program().inputs().next().unwrap();
    let mut dims = buffer.shape.dims().to_vec();
    dims[0] = samples;
    let shape = loom_ir::types::Shape::from(dims);
    let mut random = Random(seed ^ 0x5eed);
    let count = shape.elements() as usize;
    let bits = match rows_named(artifact.program()).get(&id) {
        Some(&rows) => (0..count).map(|_| (random.below(rows) as f32).to_bits()).collect(),
        None => random.floats(count, special),
    };
    Tensor::new(&buffer.name, buffer.dtype, shape, bits).unwrap()
}

/// The GPU is opened and probed once for all tests.
fn gpu() -> Arc<GpuDevice> {
    static DEVICE: OnceLock<Arc<GpuDevice>> = OnceLock::new();
    Arc::clone(DEVICE.get_or_init(|| GpuDevice::open(&GpuOptions { cache: None, ..GpuOptions::default() }).unwrap()))
}

fn session(artifact: &Artifact, options: &SessionOptions) -> Session {
    if options.device != Device::Gpu {
        return Session::new(artifact, options.clone()).unwrap();
    }
    let weights = artifact.weights().clone();
    let executor = GpuExecutor::new(gpu(), Arc::clone(artifact.program()), weights).unwrap();
    Session::with_executor(artifact, Device::Gpu, Box::new(executor))
}

fn run(artifact: &Artifact, options: SessionOptions, input: &Tensor) -> Vec<u32> {
    let mut session = session(artifact, &options);
    session.run_tensors(std::slice::from_ref(input)).unwrap()[0].bits().to_vec()
}

fn run_on(device: &Arc<GpuDevice>, artifact: &Artifact, input: &Tensor) -> Vec<u32> {
    let (program, weights) = (Arc::clone(artifact.program()), artifact.weights().clone());
    let executor = GpuExecutor::new(Arc::clone(device), program, weights).unwrap();
    let mut session = Session::with_executor(artifact, Device::Gpu, Box::new(executor));
    session.run_tensors(std::slice::from_ref(input)).unwrap()[0].bits().to_vec()
}

fn cases(default: u64) -> u64 {
    std::env::var("LOOM_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(default)
}

#[test]
fn every_device_gives_the_same_bits() {
    for seed in 0..cases(60) {
        let special = if seed % 2 == 0 { 0 } else { 7 };
        let source = random_network(seed, 5, 2);
        let artifact = artifact(&source, seed, special);
        let input = input(&artifact, 3, seed, special);
        let expected = run(&artifact, SessionOptions::on(Device::Interp), &input);
        for (name, options) in [
            ("cpu, 1 thread", SessionOptions { threads: Some(1), ..SessionOptions::on(Device::Cpu) }),
            ("cpu, 2 threads", SessionOptions { threads: Some(2), ..SessionOptions::on(Device::Cpu) }),
            ("gpu", SessionOptions::on(Device::Gpu)),
        ] {
            if run(&artifact, options.clone(), &input) != expected {
                let devices = [SessionOptions::on(Device::Interp), options];
                let comparison = compare::verify(&artifact, &devices, std::slice::from_ref(&input)).unwrap();
                panic!("{name} differs: {comparison:?}\n{source}");
            }
        }
    }
}

/// Linked into C programs: few, since each is built by a C compiler.
#[test]
fn objects_give_the_same_bits() {
    // The last compares rows that begin anywhere: without AVX a comparison may not take in their load.
    for seed in (3000..3000 + cases(12)).chain([3142]) {
        let special = if seed % 2 == 0 { 0 } else { 7 };
        let source = random_network(seed, 5, 2);
        let artifact = artifact(&source, seed, special);
        let input = input(&artifact, 3, seed, special);
        let expected = run(&artifact, SessionOptions::on(Device::Interp), &input);
        for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
            let options = ObjectOptions { level, ..ObjectOptions::portable("net") };
            let executor = ObjectExecutor::new(Arc::clone(artifact.program()), artifact.weights(), &options);
            let mut session = Session::with_executor(&artifact, Device::Cpu, Box::new(executor));
            let found = session.run_tensors(std::slice::from_ref(&input)).unwrap();
            assert_eq!(found[0].bits(), expected, "{level}, seed {seed}\n{source}");
            // The same code, made when it is run.
            let options = CpuOptions { codegen: Options::at(level).unwrap(), ..CpuOptions::default() };
            let (program, weights) = (Arc::clone(artifact.program()), artifact.weights().clone());
            let executor = CpuExecutor::with_options(program, weights, &options).unwrap();
            let mut session = Session::with_executor(&artifact, Device::Cpu, Box::new(executor));
            let found = session.run_tensors(std::slice::from_ref(&input)).unwrap();
            assert_eq!(found[0].bits(), expected, "{level}, seed {seed}\n{source}");
        }
    }
}

/// Networks that the test above has not, since what is slow here is to compile them.
fn in_tier(device: &Arc<GpuDevice>, seeds: std::ops::Range<u64>, depth: u64) {
    for seed in seeds {
        let special = if seed % 2 == 0 { 0 } else { 7 };
        let source = random_network(seed, depth, 2);
        let artifact = artifact(&source, seed, special);
        let input = input(&artifact, 2, seed, special);
        let expected = run(&artifact, SessionOptions::on(Device::Interp), &input);
        assert_eq!(run_on(device, &artifact, &input), expected, "tier {}, seed {seed}\n{source}", device.tier());
    }
}

/// Nothing but integers: every device is fit for it.
#[test]
fn networks_in_integers() {
    let device = GpuDevice::open(&GpuOptions { tier: Some(Tier::Soft), cache: None, ..GpuOptions::default() }).unwrap();
    in_tier(&device, 1000..1000 + cases(12), 3);
}

/// Which devices are fit for the tier guarded, and why others are not, is a test of `runtime/tests/gpu_kernels`. A cache of
/// its own keeps the kernels' trials in the test.
#[test]
fn networks_in_guarded_arithmetic() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Some(folder.path().to_path_buf());
    let Ok(device) = GpuDevice::open(&GpuOptions { tier: Some(Tier::Guarded), cache, ..GpuOptions::default() }) else {
        return;
    };
    in_tier(&device, 2000..2000 + cases(20), 4);
}

#[test]
fn the_batch_size_changes_no_row() {
    for seed in 0..cases(40) {
        let alone = artifact(&random_network(seed, 6, 1), seed, 9);
        let batched = artifact(&random_network(seed, 6, 4), seed, 9);
        let input = input(&alone, 6, seed, 9);
        for device in Device::ALL {
            let rows = run(&alone, SessionOptions::on(device), &input);
            assert_eq!(rows, run(&batched, SessionOptions::on(device), &input), "seed {seed} on {device}");
        }
    }
}
