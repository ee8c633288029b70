//! Code as text, from the backends that this build has.

use loom_ir::kernel::Verified;
use loom_runtime::artifact::{KernelText, Target};

use crate::failure::Failure;

/// What an artifact for a target holds.
pub fn kernel_texts(program: &Verified, target: Target) -> Result<Vec<KernelText>, Failure> {
    match target {
        Target::Cpu => Ok(Vec::new()),
        Target::Wgsl => wgsl_kernels(program),
    }
}

/// All shaders of a program.
pub fn wgsl(program: &Verified) -> Result<String, Failure> {
    let kernels = wgsl_kernels(program)?;
    let texts = kernels.iter().map(|kernel| format!("// kernel \"{}\"\n{}", kernel.name, kernel.source));
    Ok(texts.collect::<Vec<_>>().join("\n"))
}

fn wgsl_kernels(program: &Verified) -> Result<Vec<KernelText>, Failure> {
    let _ = program;
    Err(no_backend("WGSL", "gpu"))
}

/// The strict SPIR-V of all shaders, eight words a line.
pub fn spirv(program: &Verified) -> Result<String, Failure> {
    let _ = program;
    Err(no_backend("SPIR-V", "gpu"))
}

/// Cranelift's IR.
pub fn clif(program: &Verified) -> Result<String, Failure> {
    let _ = program;
    Err(no_backend("CLIF", "cpu"))
}

/// Machine code of this processor, as text.
pub fn asm(program: &Verified) -> Result<String, Failure> {
    let _ = program;
    Err(no_backend("assembly", "cpu"))
}

fn no_backend(what: &str, feature: &str) -> Failure {
    Failure::NoDevice(format!("this build of loomc can't make {what}: it was built without the feature `{feature}`"))
}
