//! Every unary function of `f32` on every device and in integers on the GPU, input by input: a sample here, all 2^32 inputs by
//! `cargo test --release -p loom-lit-tests --test functions -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::Instant;

use loom_ir::eval::scalar;
use loom_ir::graph::{Graph, Op, TensorType};
use loom_ir::kernel::Verified;
use loom_ir::kernel::scalar::{UnaryOp, unary_type};
use loom_ir::numerics::order::CANONICAL_NAN;
use loom_ir::types::DType;
use loom_lit_tests::values::{Random, SPECIAL};
use loom_passes::{PipelineOptions, compile_graph};
use loom_runtime::executor::Executor;
use loom_runtime::executor::cpu::CpuExecutor;
use loom_runtime::executor::gpu::{Arithmetic, GpuDevice, GpuExecutor, GpuOptions};

fn functions() -> impl Iterator<Item = UnaryOp> {
    UnaryOp::ALL.iter().copied().filter(|&op| unary_type(op, DType::F32) == Some(DType::F32))
}

/// `output[i] = op(input[i])`.
fn program(op: UnaryOp, count: u64) -> Arc<Verified> {
    let mut graph = Graph::new(op.name());
    let input = graph.add_leaf(Op::Input("input".to_string()), TensorType::new(DType::F32, [count]), "");
    let result = graph.add(Op::Unary(op), &[input], "function").unwrap();
    graph.add_output("output", result);
    Arc::new(compile_graph(graph, &PipelineOptions::default()).unwrap())
}

struct Devices {
    /// In the device's own arithmetic, and in that of integers.
    gpus: [(Arithmetic, GpuExecutor); 2],
    cpu: CpuExecutor,
    on_gpu: Vec<u32>,
    on_cpu: Vec<u32>,
}

impl Devices {
    fn new(gpu: &Arc<GpuDevice>, op: UnaryOp, count: usize) -> Devices {
        let program = program(op, count as u64);
        let weights = Arc::new(Vec::<Vec<u32>>::new());
        let gpus = [Arithmetic::Native, Arithmetic::Soft].map(|arithmetic| {
            let target = gpu.target().clone().with_arithmetic(arithmetic);
            let (gpu, program) = (Arc::clone(gpu), Arc::clone(&program));
            (arithmetic, GpuExecutor::with_target(gpu, program, weights.clone(), &target).unwrap())
        });
        Devices {
            gpus,
            cpu: CpuExecutor::new(program, weights, None).unwrap(),
            on_gpu: vec![0; count],
            on_cpu: vec![0; count],
        }
    }

    /// Runs all inputs on both devices, and every `stride`-th on the interpreter.
    fn check(&mut self, op: UnaryOp, inputs: &[u32], stride: usize) {
        self.cpu.run(&[inputs], &mut [&mut self.on_cpu]).unwrap();
        for (arithmetic, gpu) in &mut self.gpus {
            gpu.run(&[inputs], &mut [&mut self.on_gpu]).unwrap();
            if let Some(index) = (0..inputs.len()).find(|&index| self.on_gpu[index] != self.on_cpu[index]) {
                let (x, found, cpu) = (inputs[index], self.on_gpu[index], self.on_cpu[index]);
                let name = arithmetic.name();
                panic!("{op}({x:08x}) is {found:08x} on the GPU in {name} arithmetic and {cpu:08x} on the CPU");
            }
        }
        for index in (0..inputs.len()).step_by(stride) {
            let bits = scalar::unary(op, DType::F32, inputs[index]);
            let expected = if f32::from_bits(bits).is_nan() { CANONICAL_NAN } else { bits };
            let found = self.on_cpu[index];
            assert_eq!(found, expected, "{op}({:08x}) is {found:08x}, not {expected:08x}", inputs[index]);
        }
    }
}

#[test]
fn a_sample_of_every_function() {
    let gpu = GpuDevice::open(&GpuOptions::default()).unwrap();
    let mut random = Random(7);
    let mut inputs = SPECIAL.to_vec();
    // The neighbours of every power of two, then anything.
    inputs.extend(
        (0..512u32).flat_map(|exponent| (0..3).map(move |step| (exponent << 23).wrapping_add(step).wrapping_sub(1))),
    );
    inputs.resize_with(1 << 16, || random.word() as u32);
    for op in functions() {
        Devices::new(&gpu, op, inputs.len()).check(op, &inputs, 1);
    }
}

#[test]
#[ignore = "all 2^32 inputs of each function take minutes on a real GPU, hours on a software one"]
fn all_inputs_of_every_function() {
    const COUNT: usize = 1 << 24;
    let gpu = GpuDevice::open(&GpuOptions::default()).unwrap();
    println!("{}", gpu.info().adapter.name);
    for op in functions() {
        let begin = Instant::now();
        let mut devices = Devices::new(&gpu, op, COUNT);
        let mut inputs = vec![0; COUNT];
        for chunk in 0..(1u64 << 32) / COUNT as u64 {
            for (index, input) in inputs.iter_mut().enumerate() {
                *input = (chunk * COUNT as u64) as u32 + index as u32;
            }
            // A prime, so that all residues of the low bits are met over the chunks.
            devices.check(op, &inputs, 1009);
        }
        println!("{op}: all 2^32 inputs agree, {:.1} s", begin.elapsed().as_secs_f64());
    }
}
