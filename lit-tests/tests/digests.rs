//! The published digests of `examples/digests.json`, on every device.
//!
//! A machine without a GPU adapter fails the test of the GPU; software Vulkan is enough.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use loom_codegen_cpu::{Level, ObjectOptions, Options};
use loom_lit_tests::object::ObjectExecutor;
use loom_passes::{PipelineOptions, compile};
use loom_runtime::artifact::{Artifact, NUMERICS, Target};
use loom_runtime::digest::digest;
use loom_runtime::executor::WeightBits;
use loom_runtime::executor::cpu::{CpuExecutor, CpuOptions};
use loom_runtime::executor::gpu::{GpuDevice, GpuExecutor, GpuOptions, Tier};
use loom_runtime::session::{Device, Session, SessionOptions};
use loom_runtime::tensors::{Tensor, TensorFile, read_tensor, write_tensors};
use loom_runtime::weights::{Weights, draw_inputs};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Published {
    schema: u32,
    numerics: String,
    examples: Vec<Example>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    name: String,
    network: PathBuf,
    weights: Option<PathBuf>,
    input: Option<PathBuf>,
    digest: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

fn published() -> Published {
    serde_json::from_str(&fs::read_to_string(folder().join("digests.json")).unwrap()).unwrap()
}

impl Example {
    fn path(&self, file: &Path) -> PathBuf {
        folder().join(&self.name).join(file)
    }

    fn artifact(&self) -> Artifact {
        let text = fs::read_to_string(self.path(&self.network)).unwrap();
        let network = loom_ir::config::parse(&text).unwrap_or_else(|errors| panic!("{}: {errors}", self.name));
        let program = compile(&network, &PipelineOptions::default()).unwrap();
        let weights = match &self.weights {
            Some(file) => Weights::from_file(&self.path(file), &program).unwrap(),
            None => Weights::initialise(&program, network.seed).unwrap(),
        };
        Artifact::new(Arc::new(program), weights, Target::Cpu, Vec::new()).with_seed(network.seed)
    }

    fn inputs(&self, artifact: &Artifact) -> Vec<Tensor> {
        let program = artifact.program();
        match &self.input {
            Some(file) => {
                program.inputs().map(|(_, buffer)| read_tensor(&self.path(file), &buffer.name).unwrap()).collect()
            }
            None => draw_inputs(program, artifact.seed()).unwrap(),
        }
    }

    #[track_caller]
    fn check(&self, on: &str, mut session: Session, inputs: &[Tensor]) {
        let found = digest(&session.run_tensors(inputs).unwrap());
        assert_eq!(found, self.digest, "{} on {on}", self.name);
    }
}

#[test]
fn every_example_is_published() {
    let published = published();
    assert_eq!((published.schema, published.numerics.as_str()), (1, NUMERICS));
    let names: Vec<String> = published.examples.iter().map(|example| example.name.clone()).collect();
    let entries = fs::read_dir(folder()).unwrap().map(Result::unwrap);
    let folders: BTreeSet<String> = entries
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, folders.into_iter().collect::<Vec<_>>(), "digests.json and the folders of examples, by name");
    for example in &published.examples {
        let readme = fs::read_to_string(example.path(Path::new("README.md"))).unwrap();
        assert!(readme.contains(&example.digest), "{}/README.md tells another digest", example.name);
    }
}

#[test]
fn interpreter() {
    for example in published().examples {
        let artifact = example.artifact();
        let session = Session::new(&artifact, SessionOptions::on(Device::Interp)).unwrap();
        example.check("interp", session, &example.inputs(&artifact));
    }
}

/// As a user gets it, and every level and number of threads with all kernels split over them.
#[test]
fn cpu() {
    for example in published().examples {
        let artifact = example.artifact();
        let inputs = example.inputs(&artifact);
        example.check("cpu", Session::new(&artifact, SessionOptions::on(Device::Cpu)).unwrap(), &inputs);
        for level in Level::ALL {
            let Some(codegen) = Options::at(level) else { continue };
            for threads in [1, 2, 5] {
                let options = CpuOptions {
                    threads: Some(threads),
                    worth_threads: 0,
                    codegen: codegen.clone(),
                    ..CpuOptions::default()
                };
                let (program, weights) = (Arc::clone(artifact.program()), artifact.weights().clone());
                let executor = CpuExecutor::with_options(program, weights, &options).unwrap();
                let session = Session::with_executor(&artifact, Device::Cpu, Box::new(executor));
                example.check(&format!("cpu, {level}, {threads} threads"), session, &inputs);
            }
        }
    }
}

/// As C programs, of every level, with the weights beside the object; and with those in it.
#[test]
fn objects() {
    for example in published().examples {
        let artifact = example.artifact();
        let inputs = example.inputs(&artifact);
        let (program, weights) = (artifact.program(), artifact.weights());
        let arrays = (0..program.weights().count()).map(|index| weights.bits(index)).collect();
        let portable = ObjectOptions::portable("net");
        let mut all = vec![("embedded".to_string(), ObjectOptions { weights: Some(arrays), ..portable.clone() })];
        let available = Level::ALL.into_iter().filter(|level| level.is_available());
        all.extend(available.map(|level| (level.to_string(), ObjectOptions { level, ..portable.clone() })));
        for (name, options) in all {
            let executor = ObjectExecutor::new(Arc::clone(program), weights, &options);
            let session = Session::with_executor(&artifact, Device::Cpu, Box::new(executor));
            example.check(&format!("an object, {name}"), session, &inputs);
        }
    }
}

/// In the tier that the GPU is in of itself.
#[test]
fn gpu() {
    on_gpu(None);
}

#[test]
fn gpu_in_integers() {
    on_gpu(Some(Tier::Soft));
}

fn on_gpu(tier: Option<Tier>) {
    let device = GpuDevice::open(&GpuOptions { tier, ..GpuOptions::default() }).unwrap();
    for example in published().examples {
        let artifact = example.artifact();
        let (program, weights) = (Arc::clone(artifact.program()), artifact.weights().clone());
        let executor = GpuExecutor::new(Arc::clone(&device), program, weights).unwrap();
        let session = Session::with_executor(&artifact, Device::Gpu, Box::new(executor));
        example.check(
            &format!("{}, {}", device.info().adapter.name, device.tier()),
            session,
            &example.inputs(&artifact),
        );
    }
}

/// Written, read back, and run.
#[test]
fn compiled_artifacts() {
    for example in published().examples {
        let artifact = example.artifact();
        let inputs = example.inputs(&artifact);
        let file = tempfile::Builder::new().suffix(".loom").tempfile().unwrap();
        artifact.write(&mut file.as_file()).unwrap();
        let loaded = Artifact::load(file.path()).unwrap();
        example.check("its artifact", Session::new(&loaded, SessionOptions::on(Device::Cpu)).unwrap(), &inputs);
        if example.input.is_none() {
            let drawn = draw_inputs(loaded.program(), loaded.seed()).unwrap();
            assert_eq!(drawn[0].bits(), inputs[0].bits(), "{}: the artifact keeps the seed", example.name);
        }
    }
}

/// One bit of one weight, in the middle of its mantissa: of the largest in the last matrix, since others may meet only
/// pixels that are always 0, or what a relu lets through for no sample.
#[test]
fn a_flipped_weight_bit_changes_the_digest() {
    for example in published().examples {
        let artifact = example.artifact();
        let inputs = example.inputs(&artifact);
        let mut weights: Vec<(String, Vec<u32>)> = Vec::new();
        for (index, (_, buffer)) in artifact.program().weights().enumerate() {
            weights.push((buffer.name.clone(), artifact.weights().bits(index).to_vec()));
        }
        let (_, bits) = weights.iter_mut().rfind(|(name, _)| name.ends_with(".weight")).unwrap();
        let largest = bits.iter_mut().max_by_key(|bits| **bits & 0x7fff_ffff).unwrap();
        *largest ^= 1 << 12;
        let shapes = artifact.program().weights().map(|(_, buffer)| (buffer.dtype, buffer.shape.clone()));
        let tensors = weights.into_iter().zip(shapes);
        let weights: Vec<Tensor> =
            tensors.map(|((name, bits), (dtype, shape))| Tensor::new(name, dtype, shape, bits).unwrap()).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        write_tensors(file.path(), &weights).unwrap();
        let file = TensorFile::open(file.path()).unwrap();
        let weights = Weights::from_tensors(&file, artifact.program()).unwrap();
        let flipped = Artifact::new(Arc::clone(artifact.program()), weights, Target::Cpu, Vec::new());
        let mut session = Session::new(&flipped, SessionOptions::on(Device::Cpu)).unwrap();
        assert_ne!(digest(&session.run_tensors(&inputs).unwrap()), example.digest, "{}", example.name);
    }
}
