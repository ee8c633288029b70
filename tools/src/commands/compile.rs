//! `loomc compile`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use loom_ir::kernel::Verified;
use loom_runtime::artifact::Artifact;
use loom_runtime::executor::tier::Tier;
use loom_runtime::tensors::write_atomically;

use crate::cli::{Compile, Emit};
use crate::failure::Failure;
use crate::model::keep_sources;
use crate::pipeline::Hooks;
use crate::source::Source;
use crate::{codegen, stdout};

mod object;

pub fn compile(args: &Compile) -> Result<(), Failure> {
    if args.gpu_tier != Tier::Strict && args.emit != Emit::Wgsl {
        return Err(Failure::User("`--gpu-tier` chooses what `--emit wgsl` prints".to_string()));
    }
    let object = &args.object;
    let of_object =
        object.level.is_some() || object.triple.is_some() || object.prefix.is_some() || object.embed_weights;
    if of_object && args.emit != Emit::Object {
        let options = "`--level`, `--triple`, `--prefix` and `--embed-weights`";
        return Err(Failure::User(format!("{options} say what `--emit object` makes")));
    }
    let path = &args.network;
    for output in outputs(args) {
        keep_sources(&output, &[Some(path), args.weights.as_deref()])?;
    }
    let source = Source::open(path, args.weights.as_deref(), &args.dialect)?;
    let hooks = Hooks { print_after: args.print_ir_after.as_deref(), stop_after: args.stop_after.as_deref() };
    let compiled = source.compile(&hooks)?;
    if let Some(ir) = compiled.stopped {
        return write_text(args.output.as_deref(), &ir.to_string());
    }
    let (Some(program), Some(graph)) = (compiled.program, compiled.graph) else {
        return Err(Failure::Internal("the passes gave no program".to_string()));
    };
    // Text holds no weights, but those that are given must be right all the same.
    if !matches!(args.emit, Emit::Artifact | Emit::Object) && args.weights.is_some() {
        source.weights(&program)?;
    }
    match args.emit {
        Emit::Graph => write_text(args.output.as_deref(), &graph.to_string()),
        Emit::Program => write_text(args.output.as_deref(), &program.to_string()),
        Emit::Wgsl => write_text(args.output.as_deref(), &codegen::wgsl(&program, args.gpu_tier)?),
        Emit::Spirv => write_text(args.output.as_deref(), &codegen::spirv(&program)?),
        Emit::Clif => write_text(args.output.as_deref(), &codegen::clif(&program)?),
        Emit::Asm => write_text(args.output.as_deref(), &codegen::asm(&program)?),
        Emit::Object => object::write(&object_path(args), object, &program, &source.weights(&program)?),
        Emit::Artifact => artifact(args, program, &source),
    }
}

fn artifact(args: &Compile, program: Verified, source: &Source) -> Result<(), Failure> {
    let (weights, seed) = (source.weights(&program)?, source.network.seed);
    let kernels = codegen::kernel_texts(&program, args.target)?;
    let artifact = Artifact::new(Arc::new(program), weights, args.target, kernels).with_seed(seed);
    Ok(artifact.save(&artifact_path(args))?)
}

fn artifact_path(args: &Compile) -> PathBuf {
    args.output.clone().unwrap_or_else(|| args.network.with_extension("loom"))
}

fn object_path(args: &Compile) -> PathBuf {
    args.output.clone().unwrap_or_else(|| args.network.with_extension("o"))
}

/// The files that are written.
fn outputs(args: &Compile) -> Vec<PathBuf> {
    match args.emit {
        _ if args.stop_after.is_some() => args.output.iter().cloned().collect(),
        Emit::Artifact => vec![artifact_path(args)],
        Emit::Object => object::written(&object_path(args), &args.object),
        _ => args.output.iter().cloned().collect(),
    }
}

fn write_text(path: Option<&Path>, text: &str) -> Result<(), Failure> {
    match path {
        Some(path) => Ok(write_atomically(path, |file| file.write_all(text.as_bytes()))?),
        None => stdout::print(text),
    }
}
