//! The network of these tests, and what it gives.

use std::sync::Arc;

use loom_ir::config;
use loom_ir::kernel::Verified;
use loom_passes::{PipelineOptions, compile};
use loom_runtime::artifact::{Artifact, KernelText, Target};
use loom_runtime::executor::Executor;
use loom_runtime::executor::cpu::{CpuExecutor, CpuOptions};
use loom_runtime::executor::gpu::{GpuDevice, GpuExecutor, GpuOptions};
use loom_runtime::session::{Device, Session};
use loom_runtime::tensors::Tensor;
use loom_runtime::weights::{Weights, draw_inputs};

/// Every kind of kernel, and numbers that no float has.
const CONFIG: &str = r#"{
  "batch_size": 2, "seed": 11, "input_shape": [3, 12, 10],
  "layers": [
    {"type": "conv2d", "filters": 7, "kernel_size": 3, "padding": 1, "activation": "gelu", "approximate": "tanh"},
    {"type": "avg_pool2d", "kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": false},
    {"type": "dense", "output_size": 70, "activation": "elu", "alpha": 0.7},
    {"type": "layer_norm", "epsilon": 0.001},
    {"type": "dense", "output_size": 70, "activation": "leaky_relu", "negative_slope": 0.1},
    {"type": "residual", "from": 2},
    {"type": "rms_norm", "epsilon": 1e-5},
    {"type": "softmax", "temperature": 0.7}
  ]
}"#;

/// From the text on: config, passes, weights and the kernels' text.
pub fn artifact() -> Artifact {
    let network = config::parse(CONFIG).unwrap();
    let program = compile(&network, &PipelineOptions::default()).unwrap();
    let weights = Weights::initialise(&program, network.seed).unwrap();
    let kernels = kernel_texts(&program);
    Artifact::new(Arc::new(program), weights, Target::Wgsl, kernels).with_seed(network.seed)
}

fn kernel_texts(program: &Verified) -> Vec<KernelText> {
    let kernels = loom_codegen_wgsl::generate(program, &loom_codegen_wgsl::Target::portable()).unwrap();
    kernels.into_iter().map(|kernel| KernelText { name: kernel.name, source: kernel.source }).collect()
}

pub fn bytes(artifact: &Artifact) -> Vec<u8> {
    let mut bytes = Vec::new();
    artifact.write(&mut bytes).unwrap();
    bytes
}

/// Five samples, three slices: numbers from the seed and, scaled down, among them subnormal ones.
pub fn input(artifact: &Artifact) -> Tensor {
    let drawn = draw_inputs(artifact.program(), artifact.seed()).unwrap().remove(0);
    let tiny = |bits: u32| if bits.is_multiple_of(5) { bits & 0x8000_ffff } else { bits };
    let mut bits: Vec<u32> = drawn.bits().iter().map(|&bits| tiny(bits)).collect();
    let sample = bits.len() / 2;
    bits.extend_from_within(..);
    bits.extend_from_within(sample / 2..sample / 2 + sample);
    let shape = loom_ir::types::Shape::from([5, 3, 12, 10]);
    Tensor::new(drawn.name(), drawn.dtype(), shape, bits).unwrap()
}

/// What runs a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runner {
    Interp,
    /// On so many threads, each kernel.
    Cpu(usize),
    Gpu,
}

impl Runner {
    pub const ALL: [Runner; 4] = [Runner::Interp, Runner::Cpu(1), Runner::Cpu(3), Runner::Gpu];

    pub fn device(self) -> Device {
        match self {
            Runner::Interp => Device::Interp,
            Runner::Cpu(_) => Device::Cpu,
            Runner::Gpu => Device::Gpu,
        }
    }

    /// A session with all that belongs to it, the GPU's device included.
    pub fn session(self, artifact: &Artifact) -> Session {
        if self == Runner::Gpu {
            return on_gpu(artifact, GpuDevice::open(&GpuOptions::default()).unwrap());
        }
        let (program, weights) = (Arc::clone(artifact.program()), artifact.weights().clone());
        let executor: Box<dyn Executor> = match self {
            Runner::Interp => {
                Box::new(loom_runtime::executor::interp::InterpExecutor::new(program, &*weights).unwrap())
            }
            Runner::Cpu(threads) => {
                let options = CpuOptions { threads: Some(threads), worth_threads: 0, ..CpuOptions::default() };
                Box::new(CpuExecutor::with_options(program, weights, &options).unwrap())
            }
            Runner::Gpu => unreachable!("above"),
        };
        Session::with_executor(artifact, self.device(), executor)
    }
}

/// A session on a device that is shared.
pub fn on_gpu(artifact: &Artifact, device: Arc<GpuDevice>) -> Session {
    let executor = GpuExecutor::new(device, Arc::clone(artifact.program()), artifact.weights().clone()).unwrap();
    Session::with_executor(artifact, Device::Gpu, Box::new(executor))
}
