//! Every unary function of `f32`, and pow, on every device and in integers on the GPU, input by input: a sample here, all
//! 2^32 inputs by
//! `cargo test --release -p loom-lit-tests --test functions -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::Instant;

use loom_ir::eval::scalar;
use loom_ir::graph::{Graph, Op, TensorType};
use loom_ir::kernel::Verified;
use loom_ir::kernel::scalar::{BinaryOp, UnaryOp, unary_type};
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

struct Devices {
    op: Op,
    /// In the device's own arithmetic, and in that of integers.
    gpus: [(Arithmetic, GpuExecutor); 2],
    cpu: CpuExecutor,
    on_gpu: Vec<u32>,
    on_cpu: Vec<u32>,
}

impl Devices {
    fn new(gpu: &Arc<GpuDevice>, op: Op, count: usize) -> Devices {
        let program = program(op.clone(), count as u64);
        let weights = Arc::new(Vec::<Vec<u32>>::new());
        let gpus = [Arithmetic::Native, Arithmetic::Soft].map(|arithmetic| {
            let target = gpu.target().clone().with_arithmetic(arithmetic);
            let (gpu, program) = (Arc::clone(gpu), Arc::clone(&program));
            (arithmetic, GpuExecutor::with_target(gpu, program, weights.clone(), &target).unwrap())
        });
        Devices {
            op,
            gpus,
            cpu: CpuExecutor::new(program, weights, None).unwrap(),
            on_gpu: vec![0; count],
            on_cpu: vec![0; count],
        }
    }

    /// Runs all inputs, given operand by operand, on both devices, and every `stride`-th on the interpreter.
    fn check(&mut self, inputs: &[&[u32]], stride: usize) {
        let count = inputs[0].len();
        let at = |index: usize| {
            let operands: Vec<_> = inputs.iter().map(|input| format!("{:08x}", input[index])).collect();
            format!("{}({})", self.op.name(), operands.join(", "))
        };
        self.cpu.run(inputs, &mut [&mut self.on_cpu]).unwrap();
        for (arithmetic, gpu) in &mut self.gpus {
            gpu.run(inputs, &mut [&mut self.on_gpu]).unwrap();
            if let Some(index) = (0..count).find(|&index| self.on_gpu[index] != self.on_cpu[index]) {
                let (found, cpu, name) = (self.on_gpu[index], self.on_cpu[index], arithmetic.name());
                panic!("{} is {found:08x} on the GPU in {name} arithmetic and {cpu:08x} on the CPU", at(index));
            }
        }
        for index in (0..count).step_by(stride) {
            let bits = match self.op {
                Op::Unary(op) => scalar::unary(op, DType::F32, inputs[0][index]),
                Op::Binary(op) => scalar::binary(op, DType::F32, inputs[0][index], inputs[1][index]),
                _ => unreachable!("the operations here are scalar"),
            };
            let expected = if f32::from_bits(bits).is_nan() { CANONICAL_NAN } else { bits };
            let found = self.on_cpu[index];
            assert_eq!(found, expected, "{} is {found:08x}, not {expected:08x}", at(index));
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
    let gpu = GpuDevice::open(&GpuOptions::default()).unwrap();
    let mut random = Random(7);
    let mut inputs = SPECIAL.to_vec();
    // The neighbours of every power of two, then anything.
    inputs.extend(
        (0..512u32).flat_map(|exponent| (0..3).map(move |step| (exponent << 23).wrapping_add(step).wrapping_sub(1))),
    );
    inputs.resize_with(1 << 16, || random.word() as u32);
    for op in functions() {
        Devices::new(&gpu, Op::Unary(op), inputs.len()).check(&[&inputs], 1);
    }
}

#[test]
fn a_sample_of_powers() {
    let gpu = GpuDevice::open(&GpuOptions::default()).unwrap();
    let [x, y] = pairs(1 << 16);
    Devices::new(&gpu, Op::Binary(BinaryOp::Pow), x.len()).check(&[&x, &y], 1);
}

#[test]
#[ignore = "all 2^32 inputs of each function take minutes on a real GPU, hours on a software one"]
fn all_inputs_of_every_function() {
    const COUNT: usize = 1 << 24;
    let gpu = GpuDevice::open(&GpuOptions::default()).unwrap();
    println!("{}", gpu.info().adapter.name);
    for op in functions() {
        let begin = Instant::now();
        let mut devices = Devices::new(&gpu, Op::Unary(op), COUNT);
        let mut inputs = vec![0; COUNT];
        for chunk in 0..(1u64 << 32) / COUNT as u64 {
            for (index, input) in inputs.iter_mut().enumerate() {
                *input = (chunk * COUNT as u64) as u32 + index as u32;
            }
            // A prime, so that all residues of the low bits are met over the chunks.
            devices.check(&[&inputs], 1009);
        }
        println!("{op}: all 2^32 inputs agree, {:.1} s", begin.elapsed().as_secs_f64());
    }
}
