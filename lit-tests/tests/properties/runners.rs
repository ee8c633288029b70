//! Everything that runs a program: devices, and all that a device may choose.

use std::fmt;
use std::sync::{Arc, OnceLock};

use loom_codegen_cpu::{Level, Options};
use loom_ir::kernel::Verified;
use loom_runtime::digest::canonicalise;
use loom_runtime::executor::Executor;
use loom_runtime::executor::cpu::{CpuExecutor, CpuOptions};
use loom_runtime::executor::gpu::{Arithmetic, Class, ContractShape, GpuDevice, GpuExecutor, GpuOptions, Target};
use loom_runtime::executor::interp::InterpExecutor;

use crate::kinds::Tensors;

/// One way to run a program.
#[derive(Debug, Clone)]
pub enum Runner {
    Interp,
    Cpu { name: String, options: CpuOptions },
    Gpu { name: String, target: Box<Target> },
}

impl fmt::Display for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Runner::Interp => f.write_str("interp"),
            Runner::Cpu { name, .. } | Runner::Gpu { name, .. } => f.write_str(name),
        }
    }
}

/// 1, 2, 3 and 7 threads, all kernels split; all levels of this processor, and its own instructions with the generated
/// microkernel.
pub fn cpu_runners() -> Vec<Runner> {
    let runner = |name: &str, threads: usize, codegen: Options| Runner::Cpu {
        name: format!("cpu, {name}, {threads} threads"),
        options: CpuOptions { threads: Some(threads), worth_threads: 0, codegen, ..CpuOptions::default() },
    };
    let levels = Level::ALL.into_iter().filter_map(|level| Some((level.name(), Options::at(level)?)));
    let mut runners: Vec<Runner> = levels.map(|(name, options)| runner(name, 1, options)).collect();
    runners.push(runner("generated", 1, Options::default()));
    runners.extend([2, 3, 7].map(|threads| runner("native", threads, Options::native())));
    runners
}

/// The GPU is opened and probed once for all tests.
fn gpu() -> Arc<GpuDevice> {
    static DEVICE: OnceLock<Arc<GpuDevice>> = OnceLock::new();
    Arc::clone(DEVICE.get_or_init(|| GpuDevice::open(&GpuOptions::default()).unwrap()))
}

/// The shapes of every class of GPU, on the one at hand: for contractions each template, otherwise rows by one
/// invocation and by teams.
pub fn gpu_runners(contracts: bool) -> Vec<Runner> {
    let own = gpu().target().clone();
    let discrete = Target { quirks: own.quirks, ..Target::new(Class::Discrete, own.limits) };
    let runner = |name: String, target: Target| Runner::Gpu { name, target: Box::new(target) };
    if contracts {
        let template = |&shape: &ContractShape| {
            let mut target = discrete.clone();
            target.shapes.contract = vec![shape];
            runner(format!("gpu, {shape:?}"), target)
        };
        let soft = own.clone().with_arithmetic(Arithmetic::Soft);
        let templates = discrete.shapes.contract.iter().map(template);
        return templates.chain([runner("gpu in integers".to_string(), soft)]).collect();
    }
    let rows = |name: &str, serial_terms: u32| {
        let mut target = discrete.clone();
        target.shapes.serial_terms = serial_terms;
        runner(format!("gpu, {name}"), target)
    };
    let soft = own.clone().with_arithmetic(Arithmetic::Soft);
    let soft = runner("gpu in integers".to_string(), soft);
    vec![rows("rows by one invocation", 4096), rows("rows by teams", 0), soft]
}

impl Runner {
    /// The GPU with the shapes that it chooses.
    pub fn gpu() -> Runner {
        Runner::Gpu { name: "gpu".to_string(), target: Box::new(gpu().target().clone()) }
    }

    /// The program's only output.
    pub fn run(&self, program: &Arc<Verified>, tensors: &Tensors) -> Vec<u32> {
        let weights: Vec<Vec<u32>> = program.weights().map(|(_, buffer)| tensors.0[&buffer.name].clone()).collect();
        let weights = Arc::new(weights);
        let executor: Result<Box<dyn Executor>, _> = match self {
            Runner::Interp => {
                InterpExecutor::new(Arc::clone(program), &*weights).map(|executor| Box::new(executor) as _)
            }
            Runner::Cpu { options, .. } => {
                CpuExecutor::with_options(Arc::clone(program), weights, options).map(|executor| Box::new(executor) as _)
            }
            Runner::Gpu { target, .. } => GpuExecutor::with_target(gpu(), Arc::clone(program), weights, target)
                .map(|executor| Box::new(executor) as _),
        };
        let mut executor = executor.unwrap_or_else(|error| panic!("{self}: {error}"));
        let inputs: Vec<&[u32]> = program.inputs().map(|(_, buffer)| tensors.0[&buffer.name].as_slice()).collect();
        let (_, output) = program.outputs().next().unwrap();
        let mut bits = vec![0xdead_beef; output.shape.elements() as usize];
        executor.run(&inputs, &mut [&mut bits]).unwrap_or_else(|error| panic!("{self}: {error}"));
        canonicalise(output.dtype, &mut bits);
        bits
    }
}
