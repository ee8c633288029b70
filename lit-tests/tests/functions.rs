//! Every unary function of `f32`, and pow, on interpreter, CPU and GPU, input by input: a sample here, all 2^32 inputs by
//! `cargo test --release -p loom-lit-tests --test functions -- --ignored --nocapture`.
//! `LOOM_FUNCTIONS=exp,tanh` takes these alone.

use std::sync::Arc;
use std::time::Instant;

use loom_ir::eval::batch::{Batch, LANES};
use loom_ir::graph::{Graph, Op, TensorType};
use loom_ir::kernel::Verified;
use loom_ir::kernel::scalar::{BinaryOp, ScalarFnBuilder, UnaryOp, unary_type};
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

/// `output[i] = op(input[i], other[i])`, or of one operand.
fn program(op: Op, count: u64) -> Arc<Verified> {
    let mut graph = Graph::new(op.name());
    let names = if matches!(op, Op::Binary(_)) { &["input", "other"][..] } else { &["input"] };
    let ty = TensorType::new(DType::F32, [count]);
    let inputs: Vec<_> = names.iter().map(|name| graph.add_leaf(Op::Input(name.to_string()), ty.clone(), "")).collect();
    let result = graph.add(op, &inputs, "function").unwrap();
    graph.add_output("output", result);
    Arc::new(compile_graph(graph, &PipelineOptions::default()).unwrap())
}

/// The interpreter's answers, on all the machine's threads.
fn interpret(op: &Op, inputs: &[&[u32]], answers: &mut [u32]) {
    let mut function = ScalarFnBuilder::new();
    let operands: Vec<_> = inputs.iter().map(|_| function.param(DType::F32)).collect();
    let result = match *op {
        Op::Unary(op) => function.unary(op, operands[0]),
        Op::Binary(op) => function.binary(op, operands[0], operands[1]),
        _ => unreachable!("the operations here are scalar"),
    };
    let function = function.finish(result);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = answers.len().div_ceil(threads).next_multiple_of(LANES);
    std::thread::scope(|scope| {
        for (number, answers) in answers.chunks_mut(share).enumerate() {
            let function = &function;
            scope.spawn(move || {
                let mut batch = Batch::new(function);
                for (block, answers) in answers.chunks_mut(LANES).enumerate() {
                    let first = number * share + block * LANES;
                    for (param, input) in inputs.iter().enumerate() {
                        batch.param(param)[..answers.len()].copy_from_slice(&input[first..first + answers.len()]);
                    }
                    let lanes = answers.len();
                    for (answer, &bits) in answers.iter_mut().zip(batch.run(lanes)) {
                        *answer = if f32::from_bits(bits).is_nan() { CANONICAL_NAN } else { bits };
                    }
                }
            });
        }
    });
}

struct Devices {
    op: Op,
    gpu: GpuExecutor,
    cpu: CpuExecutor,
    on_gpu: Vec<u32>,
    on_cpu: Vec<u32>,
    expected: Vec<u32>,
}

impl Devices {
    fn new(gpu: &Arc<GpuDevice>, op: Op, count: usize) -> Devices {
        let program = program(op.clone(), count as u64);
        let weights = Arc::new(Vec::<Vec<u32>>::new());
        Devices {
            op,
            gpu: GpuExecutor::new(Arc::clone(gpu), Arc::clone(&program), weights.clone()).unwrap(),
            cpu: CpuExecutor::new(program, weights, None).unwrap(),
            on_gpu: vec![0; count],
            on_cpu: vec![0; count],
            expected: vec![0; count],
        }
    }

    /// Runs all inputs, given operand by operand, everywhere.
    fn check(&mut self, inputs: &[&[u32]]) {
        self.gpu.run(inputs, &mut [&mut self.on_gpu]).unwrap();
        self.cpu.run(inputs, &mut [&mut self.on_cpu]).unwrap();
        interpret(&self.op, inputs, &mut self.expected);
        for (device, found) in [("GPU", &self.on_gpu), ("CPU", &self.on_cpu)] {
            if *found != self.expected {
                let wrong = |&index: &usize| found[index] != self.expected[index];
                let index = (0..found.len()).find(wrong).unwrap_or_default();
                let operands: Vec<_> = inputs.iter().map(|input| format!("{:08x}", input[index])).collect();
                let (found, expected) = (found[index], self.expected[index]);
                let (name, operands) = (self.op.name(), operands.join(", "));
                panic!("{name}({operands}) is {found:08x} on the {device}, not {expected:08x}");
            }
        }
    }
}

/// Every special value with every other, bases with exponents that make finite results of them, then anything.
fn pairs(count: usize) -> [Vec<u32>; 2] {
    let mut random = Random(11);
    let mut pairs: Vec<[u32; 2]> = SPECIAL.iter().flat_map(|&x| SPECIAL.iter().map(move |&y| [x, y])).collect();
    let integers = (-40..=40).map(|k| (k as f32 * 0.5).to_bits());
    pairs.extend(integers.flat_map(|y| SPECIAL.iter().map(move |&x| [x, y])));
    while pairs.len() < count / 2 {
        let x = f32::from_bits(random.word() as u32 & 0x7fff_ffff);
        // Rust's own functions choose the cases, not what is expected of them.
        let y = (random.word() >> 40) as f32 / (1u64 << 24) as f32 * 282.0 - 153.0;
        pairs.push([x.to_bits(), (y / x.log2()).to_bits()]);
    }
    pairs.resize_with(count, || [random.word() as u32, random.word() as u32]);
    [0, 1].map(|side| pairs.iter().map(|pair| pair[side]).collect())
}

#[test]
fn a_sample_of_every_function() {
    let gpu = GpuDevice::open(&GpuOptions { cache: None, ..GpuOptions::default() }).unwrap();
    let mut random = Random(7);
    let mut inputs = SPECIAL.to_vec();
    // The neighbours of every power of two, then anything.
    inputs.extend(
        (0..512u32).flat_map(|exponent| (0..3).map(move |step| (exponent << 23).wrapping_add(step).wrapping_sub(1))),
    );
    inputs.resize_with(1 << 16, || random.word() as u32);
    for op in functions() {
        Devices::new(&gpu, Op::Unary(op), inputs.len()).check(&[&inputs]);
    }
}

#[test]
fn a_sample_of_powers() {
    let gpu = GpuDevice::open(&GpuOptions::default()).unwrap();
    let [x, y] = pairs(1 << 16);
    Devices::new(&gpu, Op::Binary(BinaryOp::Pow), x.len()).check(&[&x, &y]);
}

#[test]
#[ignore = "all 2^32 inputs of each function take minutes on a real GPU, hours on a software one"]
fn all_inputs_of_every_function() {
    const COUNT: usize = 1 << 24;
    let gpu = GpuDevice::open(&GpuOptions { cache: None, ..GpuOptions::default() }).unwrap();
    println!("{}", gpu.info().adapter.name);
    for op in functions() {
        let begin = Instant::now();
        let mut devices = Devices::new(&gpu, Op::Unary(op), COUNT);
        let mut inputs = vec![0; COUNT];
        for chunk in 0..(1u64 << 32) / COUNT as u64 {
            for (index, input) in inputs.iter_mut().enumerate() {
                *input = (chunk * COUNT as u64) as u32 + index as u32;
            }
            devices.check(&[&inputs]);
        }
        println!("{op}: all 2^32 inputs agree, GPU = CPU = interpreter, {:.1} s", begin.elapsed().as_secs_f64());
    }
}
