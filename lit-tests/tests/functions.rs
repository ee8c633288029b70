//! Every unary function of `f32` on interpreter, CPU and GPU, input by input: a sample here, all 2^32 inputs by
//! `cargo test --release -p loom-lit-tests --test functions -- --ignored --nocapture`.
//! `LOOM_FUNCTIONS=exp,tanh` takes these alone.

use std::sync::Arc;
use std::time::Instant;

use loom_ir::eval::batch::{Batch, LANES};
use loom_ir::graph::{Graph, Op, TensorType};
use loom_ir::kernel::Verified;
use loom_ir::kernel::scalar::{ScalarFnBuilder, UnaryOp, unary_type};
use loom_ir::numerics::order::CANONICAL_NAN;
use loom_ir::types::DType;
use loom_lit_tests::values::{Random, SPECIAL};
use loom_passes::{PipelineOptions, compile_graph};
use loom_runtime::executor::Executor;
use loom_runtime::executor::cpu::CpuExecutor;
use loom_runtime::executor::gpu::{GpuDevice, GpuExecutor, GpuOptions};

fn functions() -> impl Iterator<Item = UnaryOp> {
    let chosen = std::env::var("LOOM_FUNCTIONS").ok();
    let chosen: Option<Vec<UnaryOp>> = chosen.map(|list| {
        list.split(',').map(|name| UnaryOp::from_name(name).unwrap_or_else(|| panic!("no function `{name}`"))).collect()
    });
    let unary = UnaryOp::ALL.iter().copied().filter(|&op| unary_type(op, DType::F32) == Some(DType::F32));
    unary.filter(move |op| chosen.as_ref().is_none_or(|chosen| chosen.contains(op)))
}

/// `output[i] = op(input[i])`.
fn program(op: UnaryOp, count: u64) -> Arc<Verified> {
    let mut graph = Graph::new(op.name());
    let input = graph.add_leaf(Op::Input("input".to_string()), TensorType::new(DType::F32, [count]), "");
    let result = graph.add(Op::Unary(op), &[input], "function").unwrap();
    graph.add_output("output", result);
    Arc::new(compile_graph(graph, &PipelineOptions::default()).unwrap())
}

/// The interpreter's answers, on all the machine's threads.
fn interpret(op: UnaryOp, inputs: &[u32], answers: &mut [u32]) {
    let mut function = ScalarFnBuilder::new();
    let x = function.param(DType::F32);
    let y = function.unary(op, x);
    let function = function.finish(y);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = inputs.len().div_ceil(threads).next_multiple_of(LANES);
    std::thread::scope(|scope| {
        for (inputs, answers) in inputs.chunks(share).zip(answers.chunks_mut(share)) {
            scope.spawn(|| {
                let mut batch = Batch::new(&function);
                for (inputs, answers) in inputs.chunks(LANES).zip(answers.chunks_mut(LANES)) {
                    batch.param(0)[..inputs.len()].copy_from_slice(inputs);
                    for (answer, &bits) in answers.iter_mut().zip(batch.run(inputs.len())) {
                        *answer = if f32::from_bits(bits).is_nan() { CANONICAL_NAN } else { bits };
                    }
                }
            });
        }
    });
}

struct Devices {
    gpu: GpuExecutor,
    cpu: CpuExecutor,
    on_gpu: Vec<u32>,
    on_cpu: Vec<u32>,
    expected: Vec<u32>,
}

impl Devices {
    fn new(gpu: &Arc<GpuDevice>, op: UnaryOp, count: usize) -> Devices {
        let program = program(op, count as u64);
        let weights = Arc::new(Vec::<Vec<u32>>::new());
        Devices {
            gpu: GpuExecutor::new(Arc::clone(gpu), Arc::clone(&program), weights.clone()).unwrap(),
            cpu: CpuExecutor::new(program, weights, None).unwrap(),
            on_gpu: vec![0; count],
            on_cpu: vec![0; count],
            expected: vec![0; count],
        }
    }

    /// Runs all inputs everywhere.
    fn check(&mut self, op: UnaryOp, inputs: &[u32]) {
        self.gpu.run(&[inputs], &mut [&mut self.on_gpu]).unwrap();
        self.cpu.run(&[inputs], &mut [&mut self.on_cpu]).unwrap();
        interpret(op, inputs, &mut self.expected);
        for (device, found) in [("GPU", &self.on_gpu), ("CPU", &self.on_cpu)] {
            if *found != self.expected {
                let wrong = |&index: &usize| found[index] != self.expected[index];
                let index = (0..inputs.len()).find(wrong).unwrap_or_default();
                let (input, found, expected) = (inputs[index], found[index], self.expected[index]);
                panic!("{op}({input:08x}) is {found:08x} on the {device}, not {expected:08x}");
            }
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
        Devices::new(&gpu, op, inputs.len()).check(op, &inputs);
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
            devices.check(op, &inputs);
        }
        println!("{op}: all 2^32 inputs agree, GPU = CPU = interpreter, {:.1} s", begin.elapsed().as_secs_f64());
    }
}
