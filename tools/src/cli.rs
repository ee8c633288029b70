//! The arguments.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use loom_ir::config::Precision;
use loom_ir::numerics::formats::Storage;
use loom_runtime::artifact::Target;
use loom_runtime::executor::tier::Tier;
use loom_runtime::session::Device;

/// Compiles neural networks to code that gives the same bits on every device.
#[derive(Debug, Parser)]
#[command(
    name = "loomc",
    version,
    max_term_width = 110,
    after_help = "\
Examples:
  loomc run net.json --digest                  weights and input from its seed
  loomc compile net.json --weights w.safetensors          makes net.loom
  loomc run net.loom --input in.safetensors -o out.safetensors
  loomc verify net.loom --devices cpu,gpu      do both give the same bits?

Exit codes:
  0 fine, 1 the answer is no (verify found a difference),
  2 an argument or a file is wrong, 3 no such device

`loomc COMMAND --help` tells more about a command."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compile a network into one file, or show what a stage of the compiler makes of it
    #[command(after_help = "\
Examples:
  loomc compile net.json                     weights from its seed; net.loom
  loomc compile net.json --weights w.safetensors -o digits.loom
  loomc compile net.json --emit program      the fused kernels as text
  loomc compile net.json --emit wgsl -o kernels.wgsl
  loomc compile net.json --target cpu --emit object --level avx2
                                             net.o, net.h and net.weights, for C
  loomc compile net.json --emit wgsl --gpu-tier soft      without a float
  loomc compile net.json --stop-after lower  what the pass `lower` gives
  loomc compile net.json --print-ir-after all -o /dev/null")]
    Compile(Compile),
    /// Run a network and print, digest or save its output
    #[command(after_help = "\
Without --input, the network runs on one batch of numbers drawn from its seed,
the same everywhere. An input file may hold any number of samples.

Examples:
  loomc run net.json --digest                sha256 of the output's bytes
  loomc run net.loom --input digits.safetensors -o scores.safetensors
  loomc run net.loom --device gpu --json     also how long each part took")]
    Run(Run),
    /// Compare devices bit by bit and name the first kernel that differs
    #[command(after_help = "\
The first device is what the others are compared with. Exits with 1 if any bit
differs, and then writes the kernel at fault with all that it read (weights
too) to NET.difference.safetensors in the current folder, or where --report
says: a file for a bug report, which `loomc replay` runs again.

Examples:
  loomc verify net.json                      every device of this machine
  loomc verify net.loom --input in.safetensors --devices interp,cpu,gpu
  loomc verify net.loom --report /dev/null   write nothing")]
    Verify(Verify),
    /// Run a kernel again that `loomc verify` found to differ
    #[command(after_help = "\
The first device is what the others are compared with. Exits with 1 if any bit
differs.

Examples:
  loomc replay net.difference.safetensors    every device of this machine
  loomc replay net.difference.safetensors --devices interp,gpu --adapter llvm
  loomc replay net.difference.safetensors --lit > lit-tests/files/output/x.lit")]
    Replay(Replay),
    /// List the devices of this machine and how they did in their probes
    #[command(after_help = "\
Every adapter is probed in each tier of exactness, whatever was found before:
  strict   the device's arithmetic, by rules that the driver is held to
  guarded  the device's arithmetic, which only probes show to be exact
  soft     integers alone, exact everywhere, and slow
The device gpu takes the first that holds. What a probe finds is kept in the
user's cache (LOOM_CACHE_DIR names another folder, LOOM_CACHE=off does without).")]
    Devices(Devices),
    /// Tell what is in a network, a compiled network or a file of weights
    #[command(after_help = "\
Examples:
  loomc inspect net.json                     layers, shapes, kernels, memory
  loomc inspect net.loom --json
  loomc inspect weights.safetensors          the tensors of any such file")]
    Inspect(Inspect),
    /// Convert tensors to another number format, or a network of Loom 0.0.8 to one of this Loom
    #[command(after_help = "\
Tensors: IN is a safetensors file. The types are f64 f32 f16 bf16 f8 (e4m3)
f4 (e2m1) i64 i32 i16 i8 i4 u64 u32 u16 u8, or int8, bfloat16 and the like.
Floats are rounded to nearest, ties to even. A float that becomes an integer, f8 or f4 gets a scale, for each index of the
first axis unless --group-size or --per-tensor says otherwise; it stands in the
tensor NAME.scale (and NAME.zero_point) of the new file. With --dtype only
tensors of two axes and more become such; --layer takes any.

A network takes weights in any float of up to 32 bits, and quantised ones.

Networks: IN is a config or a bundle of Loom 0.0.8; its weights are what that
saves as safetensors, or in the bundle. What was found is told on standard
error: each quirk, which becomes ordinary layers, and what a file leaves open.
docs/dialect.md lists them. The other commands do the same in memory with
--dialect loom-0.0.8.

Examples:
  loomc convert w.safetensors w8.safetensors --dtype int8
  loomc convert w.safetensors w4.safetensors --dtype f4 --group-size 32
  loomc convert w.safetensors w.half --dtype f16 --layer 'layers.0.*=f32'
  loomc convert w8.safetensors w.safetensors --dtype f32
  loomc convert old.json --weights old.safetensors -o net.json --weights-out w.safetensors
  loomc convert bundle.json --model digits -o net.json --weights-out w.safetensors
  loomc convert old.json                     the config on the standard output")]
    Convert(Convert),
    /// Measure the inputs of layers of integers on samples, and write their scales into the config
    #[command(after_help = "\
The network runs in floats; of what each layer with an integer dtype multiplies
with its weights the sizes are measured. The new config is the old one with
`input_scale` and `inner_scale` for those layers (docs/layers.md), and with
--affine their zero points, which a config that has some keeps. A network in
which no layer has such a dtype becomes one of --dtype. A dtype of floats that
the network says stays for what has no integers, and is measured in float32.

Examples:
  loomc calibrate net.json --weights w.safetensors --input samples.safetensors -o net.int8.json
  loomc calibrate net.json --weights w.safetensors --input samples.safetensors \\
      --method percentile --percentile 99.9 -o net.int8.json")]
    Calibrate(Calibrate),
    /// Measure how long a run takes
    #[command(after_help = "\
Without --runs: at least 10 runs, for about a second. The first is not counted.
Of the device gpu it tells the time of each kernel too, by the GPU's own clock:
float operations a second, and bytes that it must move at least a second.

Examples:
  loomc bench net.loom
  loomc bench net.loom --device gpu --runs 100 --json
  loomc bench net.json --device gpu --check --peak-tflops 33.5 --peak-gbs 3000")]
    Bench(Bench),
    /// Classify labelled samples: accuracy, confusions, a few samples drawn as text
    #[command(after_help = "\
The class of a sample is the index of its largest output. Labels are whole
numbers, the tensor `labels`.

Example, in examples/mnist:
  loomc eval net.json --weights weights.safetensors \\
      --input digits.safetensors --labels labels.safetensors")]
    Eval(Eval),
    /// Print a completion script for a shell
    #[command(after_help = "\
Example:
  loomc completions bash > ~/.local/share/bash-completion/completions/loomc")]
    Completions(Completions),
}

/// A network and its weights.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// A network's config, or a compiled network
    #[arg(value_name = "NET.json|X.loom")]
    pub network: PathBuf,
    /// The weights of a config's network; without it they are drawn from its seed
    #[arg(long, value_name = "W.safetensors")]
    pub weights: Option<PathBuf>,
    #[command(flatten)]
    pub dialect: DialectArgs,
}

/// What a config means.
#[derive(Debug, Default, Args)]
pub struct DialectArgs {
    /// The dialect of the config and its weights; without it, what the config says, or loom
    #[arg(long, value_enum)]
    pub dialect: Option<Dialect>,
    /// Which model of a bundle of Loom 0.0.8, if there are several
    #[arg(long, value_name = "ID")]
    pub model: Option<String>,
    /// The number format of weights and results: float32, float16, bfloat16, float8, float4, int8 or int4 of the whole network, or
    /// PATTERN=TYPE of layers, such as 'layers.0.*=f16'; `*` stands for anything, the first that fits counts
    #[arg(long, value_name = "[PATTERN=]TYPE", value_parser = precision)]
    pub precision: Vec<(Option<String>, Precision)>,
}

/// Where to run.
#[derive(Debug, Args)]
pub struct DeviceArgs {
    /// What runs the network
    #[arg(long, default_value_t = Device::default(), value_parser = device())]
    pub device: Device,
    #[command(flatten)]
    pub details: DeviceDetails,
}

/// Details of devices. None changes a bit of the result.
#[derive(Debug, Args)]
pub struct DeviceDetails {
    /// Threads of the device cpu; without it, one for each processor
    #[arg(long, value_name = "N", value_parser = threads())]
    pub threads: Option<usize>,
    /// A part of the name of the adapter for the device gpu
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
    /// What the exactness of the device gpu shall rest on; without it, the first that holds
    #[arg(long, value_name = "TIER", value_parser = tier())]
    pub gpu_tier: Option<Tier>,
}

/// `loomc compile`.
#[derive(Debug, Args)]
pub struct Compile {
    /// A network's config
    #[arg(value_name = "NET.json")]
    pub network: PathBuf,
    /// The network's weights; without it they are drawn from the config's seed
    #[arg(long, value_name = "W.safetensors")]
    pub weights: Option<PathBuf>,
    /// What the artifact holds code for
    #[arg(long, default_value_t = Target::Wgsl, value_parser = target())]
    pub target: Target,
    /// Where to write; without it an artifact goes to NET.loom and an object to NET.o beside the config, text to the
    /// standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// What to make
    #[arg(long, value_enum, default_value_t = Emit::Artifact)]
    pub emit: Emit,
    #[command(flatten)]
    pub object: ObjectArgs,
    /// The arithmetic of --emit wgsl: the device's own, the same behind guards, or integers
    #[arg(long, value_name = "TIER", default_value_t = Tier::Strict, value_parser = tier())]
    pub gpu_tier: Tier,
    /// Print what a pass gives, or each of them, to the standard error
    #[arg(long, value_name = "PASS|all")]
    pub print_ir_after: Option<String>,
    /// Stop after a pass and print what it gives
    #[arg(long, value_name = "PASS")]
    pub stop_after: Option<String>,
    #[command(flatten)]
    pub dialect: DialectArgs,
}

/// What an object is made for.
#[derive(Debug, Args)]
pub struct ObjectArgs {
    /// Of --emit object: what its processors have, beyond what all of the architecture have: portable, avx2 or avx512;
    /// without it portable. No level changes a bit
    #[arg(long, value_name = "LEVEL")]
    pub level: Option<String>,
    /// Of --emit object: the target triple; without it this machine's
    #[arg(long, value_name = "TRIPLE")]
    pub triple: Option<String>,
    /// Of --emit object: what the names of its functions begin with; without it the network's id, or else the name of
    /// the output
    #[arg(long, value_name = "NAME")]
    pub prefix: Option<String>,
    /// Of --emit object: put the weights into the object, not into a file beside it
    #[arg(long)]
    pub embed_weights: bool,
}

/// What `loomc compile` makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Emit {
    /// The tensor operations after simplification, as text
    Graph,
    /// The kernels, as text
    Program,
    /// The kernels' shaders, as text
    Wgsl,
    /// The shaders with exact float controls, as words in hexadecimal
    Spirv,
    /// The kernels in Cranelift's IR, as text
    Clif,
    /// The kernels' machine code for this processor, as text
    Asm,
    /// Machine code to be linked into other programs, with a C header and a file of weights beside it
    Object,
    /// The file that `loomc run` takes
    Artifact,
}

/// A dialect of configs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// This compiler's
    #[value(name = "loom")]
    Loom,
    /// That of Loom 0.0.8: see `loomc convert --help`
    #[value(name = "loom-0.0.8")]
    Loom008,
}

/// `loomc run`.
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub model: ModelArgs,
    /// A file with the tensor `input`
    #[arg(long, value_name = "IN.safetensors")]
    pub input: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Write the output here
    #[arg(short, long, value_name = "OUT.safetensors")]
    pub output: Option<PathBuf>,
    /// Of a network with a `kv_cache`: go on from the state in this file, as --save-state wrote it
    #[arg(long, value_name = "STATE.safetensors")]
    pub state: Option<PathBuf>,
    /// Write the state after the run here: the keys and values of all positions so far
    #[arg(long, value_name = "STATE.safetensors")]
    pub save_state: Option<PathBuf>,
    /// Print the digest of the output's bytes instead of numbers
    #[arg(long)]
    pub digest: bool,
    /// Print shapes, digest and times as JSON
    #[arg(long)]
    pub json: bool,
}

/// `loomc verify`.
#[derive(Debug, Args)]
pub struct Verify {
    #[command(flatten)]
    pub model: ModelArgs,
    /// A file with the tensor `input`
    #[arg(long, value_name = "IN.safetensors")]
    pub input: Option<PathBuf>,
    /// The devices; without it, interp and every device of this machine
    #[arg(long, value_delimiter = ',', value_parser = device())]
    pub devices: Vec<Device>,
    #[command(flatten)]
    pub details: DeviceDetails,
    /// Where to write the kernel that differs; without it NET.difference.safetensors in the current folder
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// `loomc replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// What `loomc verify` wrote
    #[arg(value_name = "X.difference.safetensors")]
    pub file: PathBuf,
    /// The devices; without it, interp and every device of this machine
    #[arg(long, value_delimiter = ',', value_parser = device())]
    pub devices: Vec<Device>,
    #[command(flatten)]
    pub details: DeviceDetails,
    /// Run nothing and print the kernel and what it reads as a golden file of Loom's tests
    #[arg(long, conflicts_with = "json")]
    pub lit: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// `loomc devices`.
#[derive(Debug, Args)]
pub struct Devices {
    /// Probe this tier alone
    #[arg(long, value_name = "TIER", value_parser = tier())]
    pub gpu_tier: Option<Tier>,
    /// Print the list as JSON
    #[arg(long)]
    pub json: bool,
}

/// `loomc inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// A network's config, a compiled network or any safetensors file
    #[arg(value_name = "NET.json|X.loom|W.safetensors")]
    pub file: PathBuf,
    /// The weights of a config: how much memory they take
    #[arg(long, value_name = "W.safetensors")]
    pub weights: Option<PathBuf>,
    #[command(flatten)]
    pub dialect: DialectArgs,
    /// Print everything as JSON
    #[arg(long)]
    pub json: bool,
}

/// `loomc convert`.
#[derive(Debug, Args)]
pub struct Convert {
    /// A safetensors file, or a config or a bundle of Loom 0.0.8
    #[arg(value_name = "IN.safetensors|OLD.json")]
    pub input: PathBuf,
    /// Where the result goes: -o is the same
    #[arg(value_name = "OUT", conflicts_with = "output")]
    pub out: Option<PathBuf>,
    /// Where the result goes; a config without it to the standard output
    #[arg(short, long, value_name = "OUT")]
    pub output: Option<PathBuf>,
    /// Networks: the weights; those in a bundle are read without it
    #[arg(long, value_name = "OLD.safetensors")]
    pub weights: Option<PathBuf>,
    /// Networks: which model of a bundle, if there are several
    #[arg(long, value_name = "ID")]
    pub model: Option<String>,
    /// Networks: where to write the weights; without it they are not written
    #[arg(long, value_name = "W.safetensors")]
    pub weights_out: Option<PathBuf>,
    /// Tensors: the type of all tensors that no --layer names
    #[arg(long, value_name = "TYPE", value_parser = storage)]
    pub dtype: Option<Storage>,
    /// Tensors: the type of the tensors whose names are like this; `*` stands for anything, the first that fits counts
    #[arg(long = "layer", value_name = "PATTERN=TYPE", value_parser = rule)]
    pub layers: Vec<(String, Storage)>,
    /// Tensors: one scale for so many elements, at most, of an index of the first axis
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "per_tensor")]
    pub group_size: Option<u64>,
    /// Tensors: one scale a tensor
    #[arg(long)]
    pub per_tensor: bool,
    /// Tensors: integers with a zero point, so that least and greatest number become least and greatest code; unsigned always
    #[arg(long)]
    pub affine: bool,
    /// Tensors: no scales: floats are cut off towards zero, or rounded to f8 and f4 as they are
    #[arg(long, conflicts_with_all = ["group_size", "per_tensor", "affine"])]
    pub no_scale: bool,
    /// Tensors: print what was done as JSON
    #[arg(long)]
    pub json: bool,
}

impl Convert {
    /// Where the result goes.
    pub fn output(&self) -> Option<&Path> {
        self.out.as_deref().or(self.output.as_deref())
    }
}

/// `loomc bench`.
#[derive(Debug, Args)]
pub struct Bench {
    #[command(flatten)]
    pub model: ModelArgs,
    /// A file with the tensor `input`; without it one batch is drawn
    #[arg(long, value_name = "IN.safetensors")]
    pub input: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// How many runs are measured
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: Option<u32>,
    /// The device's limit of arithmetic, in 10^12 float operations a second: kernels are told as shares of it
    #[arg(long, value_name = "T", value_parser = positive)]
    pub peak_tflops: Option<f64>,
    /// The device's limit of memory, in 10^9 bytes a second: kernels are told as shares of it
    #[arg(long, value_name = "G", value_parser = positive)]
    pub peak_gbs: Option<f64>,
    /// Compare the output with that of the device cpu, or of interp for the device cpu; exit with 1 if a bit differs
    #[arg(long)]
    pub check: bool,
    /// Print the times as JSON
    #[arg(long)]
    pub json: bool,
}

/// `loomc eval`.
#[derive(Debug, Args)]
pub struct Eval {
    #[command(flatten)]
    pub model: ModelArgs,
    /// A file with the tensor `input`
    #[arg(long, value_name = "IN.safetensors")]
    pub input: PathBuf,
    /// A file with the tensor `labels`, one whole number a sample
    #[arg(long, value_name = "L.safetensors")]
    pub labels: PathBuf,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// How many samples to draw, where they are images of one channel: right ones and up to half of them mistakes
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub show: usize,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// `loomc calibrate`.
#[derive(Debug, Args)]
pub struct Calibrate {
    /// A network's config
    #[arg(value_name = "NET.json")]
    pub network: PathBuf,
    /// The network's weights; without it they are drawn from its seed
    #[arg(long, value_name = "W.safetensors")]
    pub weights: Option<PathBuf>,
    /// A file with the tensor `input`: the samples
    #[arg(long, value_name = "IN.safetensors")]
    pub input: PathBuf,
    /// What the greatest code stands for: the greatest size, or one that few elements exceed
    #[arg(long, value_enum, default_value = "min-max")]
    pub method: Method,
    /// With --method percentile: how many of a hundred elements are at most of that size, or with --affine within each end
    #[arg(long, value_name = "P", default_value_t = 99.9, value_parser = percentile)]
    pub percentile: f64,
    /// Zero points too: codes from the least element to the greatest, as suits what is never negative
    #[arg(long)]
    pub affine: bool,
    /// What a network becomes that says nothing of integers
    #[arg(long, value_enum, default_value = "int8")]
    pub dtype: Integers,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// The config to write
    #[arg(short, long, value_name = "NET.json")]
    pub output: PathBuf,
}

/// How sizes are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// The greatest
    MinMax,
    /// A percentile
    Percentile,
}

/// A number format of integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Integers {
    /// 8 bits
    Int8,
    /// 4 bits, of weights alone
    Int4,
}

/// `loomc completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

fn storage(name: &str) -> Result<Storage, String> {
    Storage::from_name(name).ok_or_else(|| {
        let known: Vec<&str> = Storage::ALL.iter().map(|storage| storage.name()).collect();
        format!("there is no type `{name}`, only {}", known.join(", "))
    })
}

fn percentile(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=100.0).contains(number) && *number > 0.0);
    number.ok_or_else(|| format!("`{text}` is not more than 0 and at most 100"))
}

fn precision(text: &str) -> Result<(Option<String>, Precision), String> {
    let (pattern, name) = match text.rsplit_once('=') {
        Some((pattern, name)) => (Some(pattern.to_string()), name),
        None => (None, text),
    };
    let precision = Precision::from_name(name).ok_or_else(|| {
        let known = Precision::ALL.map(Precision::name).join(", ");
        format!("a network computes in no type `{name}`, only {known}")
    })?;
    Ok((pattern, precision))
}

fn rule(text: &str) -> Result<(String, Storage), String> {
    let (pattern, name) = text.rsplit_once('=').ok_or("a rule is PATTERN=TYPE")?;
    Ok((pattern.to_string(), storage(name)?))
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "not a number above 0".to_string())
}

fn device() -> impl TypedValueParser<Value = Device> {
    PossibleValuesParser::new(Device::ALL.map(Device::name)).try_map(|name| name.parse::<Device>())
}

fn tier() -> impl TypedValueParser<Value = Tier> {
    PossibleValuesParser::new(Tier::ALL.map(Tier::name)).try_map(|name| name.parse::<Tier>())
}

fn target() -> impl TypedValueParser<Value = Target> {
    PossibleValuesParser::new([Target::Wgsl, Target::Cpu].map(Target::name)).try_map(|name| name.parse::<Target>())
}

/// More threads than any machine has processors are a slip of the fingers.
fn threads() -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u16).range(1..=1024).map(usize::from)
}
