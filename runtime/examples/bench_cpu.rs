//! How fast the processor runs kernels and small networks, at each level of instructions side by side.
//!
//! ```sh
//! cargo run --release -p loom-runtime --example bench_cpu -- [--rounds N] [--threads N] [--stored] [NAME …]
//! ```
//!
//! With `--stored` it is the best level alone, with weights as `f32`, and as they are stored in fewer bits.
//!
//! The levels take turns in every round, so that what else the machine does meets all of them. Printed are medians with the
//! least in brackets, and of the least how much of the limit the best level reaches. The limits are measured in the same
//! rounds: the arithmetic of an AVX-512 or
//! AVX2 microkernel whose panels lie in the first-level cache, and reading memory.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use loom_codegen_cpu::simd::microkernels;
use loom_codegen_cpu::{Level, Options};
use loom_ir::kernel::{BufferKind, Program, Verified};
use loom_ir::numerics::formats::Storage;
use loom_ir::numerics::quantise::Scheme;
use loom_ir::types::DType;
use loom_ir::{config, graph};
use loom_passes::{PipelineOptions, compile, compile_graph};
use loom_runtime::executor::cpu::{CpuExecutor, CpuOptions};
use loom_runtime::executor::{Executor, WeightBits};
use loom_runtime::storage::{Conversion, Granularity, StoredFile, convert_in_memory};
use loom_runtime::tensors::{Part, Tensor, TensorFile, container};
use loom_runtime::weights::Weights;

/// What is measured: a name, its source, and what bounds it.
struct Case {
    name: &'static str,
    source: Source,
    /// Multiplications and additions of a run.
    flops: f64,
    /// Bytes of weights, inputs and outputs.
    bytes: f64,
}

enum Source {
    Network(&'static str),
    Graph(&'static str),
}
use Source::{Graph, Network};

const MLP_1: &str = r#"{"batch_size": 1, "layers": [{"type": "dense", "input_size": 784, "output_size": 512},
    {"type": "dense", "output_size": 512}, {"type": "dense", "output_size": 10, "activation": "linear"}]}"#;
const MLP_64: &str = r#"{"batch_size": 64, "layers": [{"type": "dense", "input_size": 784, "output_size": 512},
    {"type": "dense", "output_size": 512}, {"type": "dense", "output_size": 10, "activation": "linear"}]}"#;
const LSTM: &str = r#"{"batch_size": 1, "input_shape": [32, 64], "layers": [{"type": "lstm", "hidden_size": 128}]}"#;
const GEMM_256: &str = r#"graph "gemm" {
  %0 = input "a" : f32[256, 256]
  %1 = input "b" : f32[256, 256]
  %2 = contract %0 %1 lhs_batch=[] rhs_batch=[] lhs_reduced=[1] rhs_reduced=[0] : f32[256, 256]
  output "output" %2
}"#;
const GEMM_1024: &str = r#"graph "gemm" {
  %0 = input "a" : f32[1024, 1024]
  %1 = input "b" : f32[1024, 1024]
  %2 = contract %0 %1 lhs_batch=[] rhs_batch=[] lhs_reduced=[1] rhs_reduced=[0] : f32[1024, 1024]
  output "output" %2
}"#;
const MATVEC: &str = r#"{"batch_size": 1, "layers":
    [{"type": "dense", "input_size": 4096, "output_size": 4096, "activation": "linear"}]}"#;
const MATVEC_1024: &str = r#"{"batch_size": 1, "layers":
    [{"type": "dense", "input_size": 1024, "output_size": 1024, "activation": "linear"}]}"#;
const DENSE_64: &str = r#"{"batch_size": 64, "layers":
    [{"type": "dense", "input_size": 1024, "output_size": 1024, "activation": "linear"}]}"#;
const DENSE_8: &str = r#"{"batch_size": 8, "layers":
    [{"type": "dense", "input_size": 4096, "output_size": 4096, "activation": "linear"}]}"#;
const SOFTMAX: &str = r#"{"batch_size": 512, "input_shape": [4096], "layers": [{"type": "softmax"}]}"#;
const LAYER_NORM: &str = r#"{"batch_size": 512, "layers": [{"type": "layer_norm", "norm_size": 1024}]}"#;
/// Attention without its projections' weights in the way: of 16 sequences of 128, and of one of 1024.
const ATTENTION_128: &str = r#"graph "attention" {
  %0 = input "q" : f32[128, 128, 64]
  %1 = input "k" : f32[128, 128, 64]
  %2 = input "v" : f32[128, 128, 64]
  %3 = contract %0 %1 lhs_batch=[0] rhs_batch=[0] lhs_reduced=[2] rhs_reduced=[2] : f32[128, 128, 128]
  %4 = reduce %3 op=max axes=[2] : f32[128, 128]
  %5 = broadcast %4 shape=[128, 128, 128] axes=[0, 1] : f32[128, 128, 128]
  %6 = sub %3 %5 : f32[128, 128, 128]
  %7 = exp %6 : f32[128, 128, 128]
  %8 = reduce %7 op=sum axes=[2] : f32[128, 128]
  %9 = contract %7 %2 lhs_batch=[0] rhs_batch=[0] lhs_reduced=[2] rhs_reduced=[1] : f32[128, 128, 64]
  %10 = broadcast %8 shape=[128, 128, 64] axes=[0, 1] : f32[128, 128, 64]
  %11 = div %9 %10 : f32[128, 128, 64]
  output "output" %11
}"#;
const ATTENTION_1024: &str = r#"graph "attention" {
  %0 = input "q" : f32[8, 1024, 64]
  %1 = input "k" : f32[8, 1024, 64]
  %2 = input "v" : f32[8, 1024, 64]
  %3 = contract %0 %1 lhs_batch=[0] rhs_batch=[0] lhs_reduced=[2] rhs_reduced=[2] : f32[8, 1024, 1024]
  %4 = reduce %3 op=max axes=[2] : f32[8, 1024]
  %5 = broadcast %4 shape=[8, 1024, 1024] axes=[0, 1] : f32[8, 1024, 1024]
  %6 = sub %3 %5 : f32[8, 1024, 1024]
  %7 = exp %6 : f32[8, 1024, 1024]
  %8 = reduce %7 op=sum axes=[2] : f32[8, 1024]
  %9 = contract %7 %2 lhs_batch=[0] rhs_batch=[0] lhs_reduced=[2] rhs_reduced=[1] : f32[8, 1024, 64]
  %10 = broadcast %8 shape=[8, 1024, 64] axes=[0, 1] : f32[8, 1024, 64]
  %11 = div %9 %10 : f32[8, 1024, 64]
  output "output" %11
}"#;
const GELU: &str = r#"{"batch_size": 1024, "input_shape": [1024], "layers": [{"type": "gelu"}]}"#;

const CASES: [Case; 15] = [
    Case { name: "gemm 256", source: Graph(GEMM_256), flops: 33.6e6, bytes: 0.8e6 },
    Case { name: "gemm 1024", source: Graph(GEMM_1024), flops: 2147.5e6, bytes: 12.6e6 },
    Case { name: "matvec 4096", source: Network(MATVEC), flops: 33.6e6, bytes: 67.1e6 },
    Case { name: "matvec 1024", source: Network(MATVEC_1024), flops: 2.1e6, bytes: 4.2e6 },
    Case { name: "dense 4096, 8 samples", source: Network(DENSE_8), flops: 268.4e6, bytes: 67.4e6 },
    Case { name: "dense 1024, 64 samples", source: Network(DENSE_64), flops: 134.2e6, bytes: 4.7e6 },
    Case { name: "softmax 512x4096", source: Network(SOFTMAX), flops: 0.0, bytes: 16.8e6 },
    Case { name: "layer norm 512x1024", source: Network(LAYER_NORM), flops: 0.0, bytes: 4.2e6 },
    Case { name: "attention, 16 of 128", source: Graph(ATTENTION_128), flops: 536.9e6, bytes: 16.8e6 },
    Case { name: "attention, 1 of 1024", source: Graph(ATTENTION_1024), flops: 2147.5e6, bytes: 8.4e6 },
    Case { name: "gelu 1 Mi", source: Network(GELU), flops: 0.0, bytes: 8.4e6 },
    Case { name: "mlp, 1 sample", source: Network(MLP_1), flops: 1.34e6, bytes: 2.7e6 },
    Case { name: "mlp, 64 samples", source: Network(MLP_64), flops: 85.6e6, bytes: 2.9e6 },
    Case { name: "lstm 64 to 128, 32 steps", source: Network(LSTM), flops: 6.3e6, bytes: 0.4e6 },
    Case { name: "conv 3x3, 64 channels", source: Network(CONV), flops: 231.2e6, bytes: 1.8e6 },
];
const CONV: &str = r#"{"batch_size": 1, "input_shape": [64, 56, 56], "layers": [{"type": "conv2d", "filters": 64,
    "kernel_size": 3, "padding": 1, "activation": "linear"}]}"#;

/// A dense layer of one sample, of a size and with these keys.
fn dense(size: u64, keys: &str) -> String {
    format!(
        r#"{{"batch_size": 1, "layers": [{{"type": "dense", "input_size": {size}, "output_size": {size},
            "activation": "linear"{keys}}}]}}"#
    )
}

/// Seconds that one measurement lasts at least.
const SHORTEST: f64 = 2e-3;

fn main() -> ExitCode {
    match arguments(std::env::args().skip(1)) {
        Ok(Arguments { rounds, threads, stored, names }) => {
            if stored {
                measure_stored(rounds, threads, &names)
            } else {
                measure(rounds, threads, &names)
            }
            if !stored && (names.is_empty() || names.iter().any(|name| name == "int8")) {
                measure_integers(rounds, threads);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

struct Arguments {
    rounds: usize,
    threads: usize,
    stored: bool,
    names: Vec<String>,
}

fn arguments(mut args: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let (mut rounds, mut threads, mut stored, mut names) = (21, 1, false, Vec::new());
    while let Some(arg) = args.next() {
        let mut number = || {
            let value = args.next().and_then(|value| value.parse().ok()).filter(|&value| value > 0);
            value.ok_or_else(|| format!("`{arg}` needs a number above 0"))
        };
        match arg.as_str() {
            "--rounds" => rounds = number()?,
            "--threads" => threads = number()?,
            "--stored" => stored = true,
            option if option.starts_with('-') => return Err(format!("there is no option `{option}`")),
            _ => names.push(arg),
        }
    }
    Ok(Arguments { rounds, threads, stored, names })
}

fn measure(rounds: usize, threads: usize, names: &[String]) {
    let levels: Vec<Level> = Level::ALL.into_iter().filter(|level| level.is_available()).collect();
    print!("| case |");
    levels.iter().for_each(|level| print!(" {level}, µs |"));
    println!(" first / last | GFLOP/s | of arithmetic | GB/s | of reading memory |");
    println!("|---|{}", "---|".repeat(levels.len() + 5));
    let chosen = |case: &&Case| names.is_empty() || names.iter().any(|name| case.name.contains(name.as_str()));
    for case in CASES.iter().filter(chosen) {
        let program = Arc::new(program(&case.source));
        let mut runs: Vec<Run> = levels.iter().map(|&level| Run::new(&program, level, threads)).collect();
        let mut times = vec![Vec::new(); levels.len()];
        let (mut peaks, mut reads) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            for (run, times) in runs.iter_mut().zip(&mut times) {
                times.push(run.seconds());
            }
            peaks.push(arithmetic());
            reads.push(reading());
        }
        let times: Vec<(f64, f64)> = times.into_iter().map(|times| (median(times.clone()), least(times))).collect();
        print!("| {} |", case.name);
        times.iter().for_each(|(median, least)| print!(" {:.1} ({:.1}) |", median * 1e6, least * 1e6));
        let last = times[times.len() - 1].1;
        print!(" {:.2} |", times[0].1 / last);
        let share = |amount: f64, limit: f64| {
            let rate = amount / last / 1e9;
            if amount > 0.0 { print!(" {rate:.1} | {:.0} % |", 100.0 * rate / limit) } else { print!(" | |") }
        };
        share(case.flops, most(peaks) * threads as f64);
        share(case.bytes, most(reads));
        println!();
    }
}

/// Dense layers that multiply integers, beside the same of floats, at each level.
fn measure_integers(rounds: usize, threads: usize) {
    println!(
        "\n| dense, 1 sample | level | f32, µs | int8, µs | int8 with a given scale, µs | f32 / int8 | f32 / given |"
    );
    println!("|---|---|---|---|---|---|---|");
    for size in [1024, 4096] {
        for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
            let keys = ["", r#", "dtype": "int8""#, r#", "dtype": "int8", "input_scale": 0.25"#];
            let mut runs = keys.map(|keys| Run::new(&Arc::new(network(&dense(size, keys))), level, threads));
            let mut times = [const { Vec::new() }; 3];
            for _ in 0..rounds {
                for (run, times) in runs.iter_mut().zip(&mut times) {
                    times.push(run.seconds());
                }
            }
            let [floats, own, given] = times.map(|times| (median(times.clone()) * 1e6, least(times) * 1e6));
            print!("| {size}x{size} | {level} |");
            [floats, own, given].iter().for_each(|(median, least)| print!(" {median:.1} ({least:.1}) |"));
            println!(" {:.2} | {:.2} |", floats.1 / own.1, floats.1 / given.1);
        }
    }
}

/// The formats of weights that [`measure_stored`] compares, and the groups that share a scale.
const STORED: [(&str, Option<(Storage, Granularity)>); 7] = [
    ("f32", None),
    ("bf16", Some((Storage::Bf16, Granularity::Channel))),
    ("f16", Some((Storage::F16, Granularity::Channel))),
    ("int8", Some((Storage::I8, Granularity::Channel))),
    ("f8", Some((Storage::F8, Granularity::Channel))),
    ("int4, groups of 32", Some((Storage::I4, Granularity::Group(32)))),
    ("f4, groups of 32", Some((Storage::F4, Granularity::Group(32)))),
];

fn measure_stored(rounds: usize, threads: usize, names: &[String]) {
    print!("| case |");
    STORED.iter().for_each(|(name, _)| print!(" {name}, µs |"));
    println!(" f32 / each |");
    println!("|---|{}", "---|".repeat(STORED.len() + 1));
    let chosen = |case: &&Case| names.is_empty() || names.iter().any(|name| case.name.contains(name.as_str()));
    for case in CASES.iter().filter(chosen) {
        let program = Arc::new(program(&case.source));
        if program.weights().next().is_none() {
            continue;
        }
        let mut runs: Vec<Run> = STORED
            .iter()
            .map(|&(_, form)| Run::with_weights(&program, Level::best(), threads, stored(&program, form)))
            .collect();
        let mut times = vec![Vec::new(); runs.len()];
        for _ in 0..rounds {
            for (run, times) in runs.iter_mut().zip(&mut times) {
                times.push(run.seconds());
            }
        }
        print!("| {} |", case.name);
        let times: Vec<(f64, f64)> = times.into_iter().map(|times| (median(times.clone()), least(times))).collect();
        times.iter().for_each(|(median, least)| print!(" {:.1} ({:.1}) |", median * 1e6, least * 1e6));
        let gains: Vec<String> = times[1..].iter().map(|time| format!("{:.2}", times[0].1 / time.1)).collect();
        println!(" {} |", gains.join(" "));
    }
}

/// Weights in a file of a format. The file is in memory.
fn stored(program: &Verified, form: Option<(Storage, Granularity)>) -> Arc<dyn WeightBits> {
    let floats = tensors(program, BufferKind::is_weight);
    let Some((storage, granularity)) = form else { return Arc::new(floats) };
    let all: Vec<Tensor> = program
        .weights()
        .zip(floats)
        .map(|((_, buffer), bits)| Tensor::new(&buffer.name, buffer.dtype, buffer.shape.clone(), bits))
        .collect::<Option<_>>()
        .expect("they are the program's");
    let mut bytes = Vec::new();
    let parts: Vec<Part<'_>> = all.iter().map(Part::from).collect();
    container(&mut bytes, &BTreeMap::new(), &parts).expect("memory can be written");
    let file = |bytes| TensorFile::from_bytes(Path::new("weights"), bytes).expect("it was just written");
    let scheme = Scheme::Symmetric;
    let conversion = Conversion { default: Some(storage), rules: Vec::new(), scaled: true, scheme, granularity };
    let bytes = convert_in_memory(&StoredFile::of(&file(bytes)).expect("no scales"), &conversion);
    let weights = Weights::from_tensors(&file(bytes.expect("the numbers are finite")), program);
    Arc::new(weights.expect("they are the program's"))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn least(values: Vec<f64>) -> f64 {
    values.into_iter().fold(f64::INFINITY, f64::min)
}

fn most(values: Vec<f64>) -> f64 {
    values.into_iter().fold(0.0, f64::max)
}

fn program(source: &Source) -> Verified {
    match source {
        Network(text) => network(text),
        Graph(text) => {
            let graph = graph::parse::parse(text).expect("the graphs of this program are right");
            compile_graph(graph, &PipelineOptions::default()).expect("they compile")
        }
    }
}

fn network(text: &str) -> Verified {
    let network = config::parse(text).expect("the configs of this program are right");
    compile(&network, &PipelineOptions::default()).expect("they compile")
}

/// A program ready to run, with its tensors.
struct Run {
    executor: CpuExecutor,
    inputs: Vec<Vec<u32>>,
    outputs: Vec<Vec<u32>>,
    /// How often it runs in one measurement.
    repeats: u32,
}

impl Run {
    fn new(program: &Arc<Verified>, level: Level, threads: usize) -> Run {
        Run::with_weights(program, level, threads, Arc::new(tensors(program, BufferKind::is_weight)))
    }

    fn with_weights(program: &Arc<Verified>, level: Level, threads: usize, weights: Arc<dyn WeightBits>) -> Run {
        let inputs = tensors(program, BufferKind::is_input);
        let outputs = program.outputs().map(|(_, buffer)| vec![0; buffer.shape.elements() as usize]).collect();
        let codegen = Options::at(level).expect("the level was asked for");
        let options = CpuOptions { threads: Some(threads), codegen, ..CpuOptions::default() };
        let executor = CpuExecutor::with_options(program.clone(), weights, &options);
        let executor = executor.expect("there is memory");
        let mut run = Run { executor, inputs, outputs, repeats: 1 };
        run.seconds();
        run.repeats = (SHORTEST / run.seconds()).ceil().clamp(1.0, 1e6) as u32;
        run
    }

    /// What one run takes.
    fn seconds(&mut self) -> f64 {
        let inputs: Vec<&[u32]> = self.inputs.iter().map(Vec::as_slice).collect();
        let mut outputs: Vec<&mut [u32]> = self.outputs.iter_mut().map(Vec::as_mut_slice).collect();
        let mut run = || self.executor.run(&inputs, &mut outputs).expect("the tensors are those of the program");
        // What others have left in the caches goes first.
        run();
        let begun = Instant::now();
        (0..self.repeats).for_each(|_| run());
        begun.elapsed().as_secs_f64() / f64::from(self.repeats)
    }
}

/// Numbers of many sizes around 1, for all buffers of a kind.
fn tensors(program: &Program, wanted: fn(&BufferKind) -> bool) -> Vec<Vec<u32>> {
    let mut state = 88_172_645_463_325_252u64;
    let mut bits = |dtype: DType| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let bits = (state >> 16) as u32;
        match dtype {
            DType::F32 => (bits & 0x807f_ffff) | (121 + bits % 6) << 23,
            DType::I32 => bits as i8 as u32,
            _ => bits & 1,
        }
    };
    let buffers = program.buffers_where(wanted);
    buffers.map(|(_, buffer)| (0..buffer.shape.elements()).map(|_| bits(buffer.dtype)).collect()).collect()
}

/// GFLOP/s of the largest microkernel of the best level, where nothing waits for memory.
fn arithmetic() -> f64 {
    let kernels = microkernels(Level::best());
    let Some(kernel) = kernels.first() else { return f64::NAN };
    let (mr, nr, length, repeats) = (kernel.mr as usize, kernel.nr as usize, 128, 2000);
    let (narrow, wide, mut tile) = (vec![1f32; mr * length], vec![1f32; nr * length], vec![0f32; mr * nr]);
    let begun = Instant::now();
    for _ in 0..repeats {
        // SAFETY: the processor has the best level; panels and tile have the kernel's sizes.
        unsafe { (kernel.code)(length as u64, narrow.as_ptr(), wide.as_ptr(), black_box(tile.as_mut_ptr())) };
    }
    let flops = 2 * mr * nr * length * repeats;
    black_box(&tile);
    flops as f64 / begun.elapsed().as_secs_f64() / 1e9
}

/// GB/s of reading memory that is in no cache of the core.
fn reading() -> f64 {
    thread_local! {
        static MEMORY: Vec<u64> = vec![1; 8 << 20];
    }
    MEMORY.with(|memory| {
        let begun = Instant::now();
        let mut sums = [0u64; 64];
        for chunk in memory.chunks_exact(64) {
            for (sum, &word) in sums.iter_mut().zip(chunk) {
                *sum = sum.wrapping_add(word);
            }
        }
        black_box(sums);
        size_of_val(&memory[..]) as f64 / begun.elapsed().as_secs_f64() / 1e9
    })
}
