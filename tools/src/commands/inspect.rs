//! `loomc inspect`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use loom_ir::kernel::memory::{ARENA_ALIGNMENT, largest_live_set};
use loom_ir::kernel::{Buffer, BufferKind, Program};
use loom_ir::types::Shape;
use loom_passes::shapes::{ShapedKind, ShapedNetwork};
use loom_runtime::artifact::{Artifact, ArtifactError};
use loom_runtime::tensors::TensorFile;
use serde::Serialize;

use crate::cli::Inspect;
use crate::failure::{Failure, printable};
use crate::model::{FileKind, Model, file_kind, no_dialect};
use crate::source::Source;
use crate::{flops, format, stdout, stored};

mod tensors;

/// The fields of `loomc inspect --json` for a network, schema 1.
#[derive(Serialize)]
struct NetworkReport<'a> {
    /// `config` or `artifact`.
    kind: &'static str,
    network: &'a str,
    /// Artifact: the compiler's version.
    version: Option<&'a str>,
    /// Artifact: what it holds code for.
    target: Option<&'static str>,
    /// Artifact: the size of the file.
    bytes: Option<u64>,
    seed: u64,
    inputs: Vec<TensorReport<'a>>,
    outputs: Vec<TensorReport<'a>>,
    /// Config: the layers, in the order of execution.
    layers: Option<Vec<LayerReport<'a>>>,
    weights: Vec<TensorReport<'a>>,
    kernels: Vec<KernelReport<'a>>,
    /// Numbers in the weights.
    parameters: u64,
    memory: MemoryReport,
    /// Float operations of one batch.
    flops: u64,
}

#[derive(Serialize)]
struct TensorReport<'a> {
    name: &'a str,
    dtype: String,
    shape: &'a [u64],
}

#[derive(Serialize)]
struct LayerReport<'a> {
    path: String,
    #[serde(rename = "type")]
    type_name: &'static str,
    input: &'a [u64],
    output: &'a [u64],
    parameters: u64,
}

#[derive(Serialize)]
struct KernelReport<'a> {
    name: &'a str,
    /// `map`, `reduce` or `contract`.
    kind: &'static str,
    axes: &'a [u64],
    output: &'a str,
    flops: u64,
}

/// Bytes.
#[derive(Serialize)]
struct MemoryReport {
    /// As they are kept: fewer than in the program where --weights are stored in fewer bits.
    weights: u64,
    /// The same by format.
    stored: BTreeMap<&'static str, u64>,
    constants: u64,
    /// Temporary buffers, which share one arena.
    arena: u64,
    inputs: u64,
    outputs: u64,
    /// The arena, inputs and outputs: what a run takes beside weights and constants.
    peak: u64,
    /// The least that any plan could take: inputs, outputs and the largest set of temporary buffers that are alive together.
    largest_live_set: u64,
    /// Peak by largest live set; 1 is the best there is.
    ratio: f64,
}

pub fn inspect(args: &Inspect) -> Result<(), Failure> {
    match file_kind(&args.file)? {
        FileKind::Config => {
            let model = Model::compile(&Source::open(&args.file, args.weights.as_deref(), &args.dialect)?)?;
            network(args, &model.artifact, model.shaped.as_ref(), None)
        }
        FileKind::Container => {
            no_dialect(&args.file, &args.dialect)?;
            if args.weights.is_some() {
                return Err(Failure::User(format!("{}: --weights goes with a config", args.file.display())));
            }
            let file = TensorFile::open(&args.file)?;
            match Artifact::from_tensors(&file) {
                Ok(artifact) => network(args, &artifact, None, Some(file.size())),
                Err(ArtifactError::NotAnArtifact { .. }) if !is_artifact_name(&args.file) => {
                    tensors::tensors(args, &file)
                }
                Err(error) => Err(error.into()),
            }
        }
    }
}

fn is_artifact_name(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "loom")
}

fn network(
    args: &Inspect,
    artifact: &Artifact,
    shaped: Option<&ShapedNetwork>,
    bytes: Option<u64>,
) -> Result<(), Failure> {
    let program: &Program = artifact.program();
    let report = NetworkReport {
        kind: if shaped.is_some() { "config" } else { "artifact" },
        network: &program.name,
        version: bytes.map(|_| artifact.version()),
        target: bytes.map(|_| artifact.target().name()),
        bytes,
        seed: artifact.seed(),
        inputs: program.inputs().map(|(_, buffer)| of_buffer(buffer)).collect(),
        outputs: program.outputs().map(|(_, buffer)| of_buffer(buffer)).collect(),
        layers: shaped.map(|shaped| layers(shaped, program)),
        weights: program.weights().map(|(_, buffer)| of_buffer(buffer)).collect(),
        kernels: kernels(program),
        parameters: artifact.weights().parameters(),
        memory: memory(artifact),
        flops: flops::of_program(program),
    };
    if args.json { stdout::json("inspect", &report) } else { stdout::print(&describe(&report)) }
}

fn of_buffer(buffer: &Buffer) -> TensorReport<'_> {
    TensorReport { name: &buffer.name, dtype: buffer.dtype.to_string(), shape: buffer.shape.dims() }
}

fn layers<'a>(shaped: &'a ShapedNetwork, program: &Program) -> Vec<LayerReport<'a>> {
    let layer = |(index, layer): (usize, &'a loom_passes::shapes::ShapedLayer)| {
        let path = layer.path.to_string();
        // A weight is the layer's if only its role follows the layer's path.
        let own = |buffer: &&Buffer| buffer.name.rsplit_once('.').is_some_and(|(layer, _)| layer == path);
        let parameters = program.weights().map(|(_, buffer)| buffer).filter(own).map(|buffer| buffer.shape.elements());
        LayerReport {
            type_name: layer.type_name,
            input: shaped.shape(layer.input).dims(),
            output: shaped.shape(shaped.output_of(index)).dims(),
            // A layer whose result becomes codes stands in two rows: its weights are those of the first.
            parameters: if matches!(layer.kind, ShapedKind::Quantise { .. }) { 0 } else { parameters.sum() },
            path,
        }
    };
    shaped.layers.iter().enumerate().map(layer).collect()
}

fn kernels(program: &Program) -> Vec<KernelReport<'_>> {
    let kernels = program.kernels.iter().map(|kernel| KernelReport {
        name: &kernel.name,
        kind: kernel.body.name(),
        axes: &kernel.axes,
        output: &program.buffer(kernel.output.buffer).name,
        flops: flops::of_kernel(kernel),
    });
    kernels.collect()
}

fn memory(artifact: &Artifact) -> MemoryReport {
    let program: &Program = artifact.program();
    let stored = stored::by_format(artifact.weights());
    let bytes = |keep: fn(&BufferKind) -> bool| program.buffers_where(keep).map(|(_, buffer)| buffer.bytes()).sum();
    let side_by_side = || {
        let temporary = program.buffers_where(|kind| matches!(kind, BufferKind::Temp));
        temporary.map(|(_, buffer)| buffer.bytes().next_multiple_of(ARENA_ALIGNMENT)).sum()
    };
    let arena = program.plan.as_ref().map_or_else(side_by_side, |plan| plan.arena_bytes);
    let inputs: u64 = bytes(|kind| matches!(kind, BufferKind::Input));
    let outputs: u64 = bytes(|kind| matches!(kind, BufferKind::Output));
    let (peak, least) = (arena + inputs + outputs, largest_live_set(program) + inputs + outputs);
    MemoryReport {
        weights: stored.values().sum(),
        stored,
        constants: bytes(|kind| matches!(kind, BufferKind::Constant(_))),
        arena,
        inputs,
        outputs,
        peak,
        largest_live_set: least,
        ratio: if least == 0 { 1.0 } else { peak as f64 / least as f64 },
    }
}

fn shape(dims: &[u64]) -> String {
    Shape::new(dims).to_string()
}

fn describe(report: &NetworkReport<'_>) -> String {
    let name = if report.network.is_empty() { "(no name)".to_string() } else { printable(report.network) };
    let mut text = format!("network {name}\n");
    if let (Some(version), Some(target), Some(bytes)) = (report.version, report.target, report.bytes) {
        let _ = writeln!(text, "compiled by loomc {} for {target}, {}", printable(version), format::bytes(bytes));
    }
    for (what, tensors) in [("input", &report.inputs), ("output", &report.outputs)] {
        for tensor in tensors {
            let _ = writeln!(text, "{what} `{}` {} {}", printable(tensor.name), tensor.dtype, shape(tensor.shape));
        }
    }
    let header = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_string()).collect::<Vec<String>>();
    if let Some(layers) = &report.layers {
        let mut rows = vec![header(&["layer", "type", "output", "parameters"])];
        rows.extend(layers.iter().map(|layer| {
            let parameters = if layer.parameters == 0 { String::new() } else { format::count(layer.parameters) };
            vec![layer.path.clone(), layer.type_name.to_string(), shape(layer.output), parameters]
        }));
        let _ = write!(text, "\n{}", format::table(&rows, &[3]));
    }
    let mut rows = vec![header(&["kernel", "kind", "loops", "flops"])];
    rows.extend(report.kernels.iter().map(|kernel| {
        vec![printable(kernel.name), kernel.kind.to_string(), shape(kernel.axes), format::count(kernel.flops)]
    }));
    let _ = write!(text, "\n{}", format::table(&rows, &[3]));
    let memory = &report.memory;
    let _ = writeln!(
        text,
        "\n{} in {}, {}flop a batch\nmemory: weights {} ({}), constants {}, arena {}, input {}, output {}\n\
         peak beside weights and constants: {}, {:.2} times the largest live set, {}",
        format::counted(report.parameters, "parameter"),
        format::counted(report.weights.len() as u64, "tensor"),
        format::rate(report.flops as f64),
        format::bytes(memory.weights),
        stored::describe(&memory.stored),
        format::bytes(memory.constants),
        format::bytes(memory.arena),
        format::bytes(memory.inputs),
        format::bytes(memory.outputs),
        format::bytes(memory.peak),
        memory.ratio,
        format::bytes(memory.largest_live_set),
    );
    text
}
