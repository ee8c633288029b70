//! Code as text, from the backends that this build has.

use loom_ir::kernel::Verified;
use loom_runtime::artifact::{KernelText, Target};

use crate::failure::Failure;
use loom_runtime::executor::tier::Tier;

/// What an artifact for a target holds.
pub fn kernel_texts(program: &Verified, target: Target) -> Result<Vec<KernelText>, Failure> {
    match target {
        Target::Cpu => Ok(Vec::new()),
        Target::Wgsl => wgsl_kernels(program),
    }
}

/// All shaders of a program, as one module.
#[cfg(feature = "gpu")]
pub fn wgsl(program: &Verified, tier: Tier) -> Result<String, Failure> {
    use loom_codegen_wgsl::{Arithmetic, Target, generate, listing};
    let arithmetic = match tier {
        Tier::Strict => Arithmetic::Native,
        Tier::Guarded => Arithmetic::Guarded,
        Tier::Soft => Arithmetic::Soft,
    };
    let kernels = generate(program, &Target::portable().with_arithmetic(arithmetic)).map_err(wgsl_failure)?;
    Ok(listing(&kernels))
}

#[cfg(feature = "gpu")]
fn wgsl_kernels(program: &Verified) -> Result<Vec<KernelText>, Failure> {
    let kernels = loom_codegen_wgsl::generate(program, &loom_codegen_wgsl::Target::portable());
    let text = |kernel: loom_codegen_wgsl::WgslKernel| KernelText { name: kernel.name, source: kernel.source };
    Ok(kernels.map_err(wgsl_failure)?.into_iter().map(text).collect())
}

/// The strict SPIR-V of all shaders, eight words a line.
#[cfg(feature = "gpu")]
pub fn spirv(program: &Verified) -> Result<String, Failure> {
    let mut text = String::new();
    for kernel in wgsl_kernels(program)? {
        let words = loom_codegen_wgsl::validate(&kernel.source)
            .and_then(|validated| loom_codegen_wgsl::strict_spirv(&validated))
            .map_err(wgsl_failure)?;
        text.push_str(&format!("; kernel \"{}\", {} words\n", kernel.name, words.len()));
        for line in words.chunks(8) {
            let line: Vec<String> = line.iter().map(|word| format!("{word:08x}")).collect();
            text.push_str(&line.join(" "));
            text.push('\n');
        }
    }
    Ok(text)
}

#[cfg(feature = "gpu")]
fn wgsl_failure(error: loom_codegen_wgsl::Error) -> Failure {
    match error {
        loom_codegen_wgsl::Error::Limit { .. } => Failure::User(error.to_string()),
        _ => Failure::Internal(error.to_string()),
    }
}

#[cfg(not(feature = "gpu"))]
fn wgsl_kernels(_: &Verified) -> Result<Vec<KernelText>, Failure> {
    Err(no_backend("WGSL", "gpu"))
}

/// All shaders of a program, as one module.
#[cfg(not(feature = "gpu"))]
pub fn wgsl(_: &Verified, _: Tier) -> Result<String, Failure> {
    Err(no_backend("WGSL", "gpu"))
}

/// The strict SPIR-V of all shaders, eight words a line.
#[cfg(not(feature = "gpu"))]
pub fn spirv(_: &Verified) -> Result<String, Failure> {
    Err(no_backend("SPIR-V", "gpu"))
}

/// Cranelift's IR.
#[cfg(feature = "cpu")]
pub fn clif(program: &Verified) -> Result<String, Failure> {
    loom_codegen_cpu::emit_clif(program).map_err(|error| cpu_failure(&error))
}

/// Machine code of this processor, as text.
#[cfg(feature = "cpu")]
pub fn asm(program: &Verified) -> Result<String, Failure> {
    loom_codegen_cpu::emit_asm(program, &loom_codegen_cpu::Target::Host).map_err(|error| cpu_failure(&error))
}

#[cfg(feature = "cpu")]
pub fn cpu_failure(error: &loom_codegen_cpu::Error) -> Failure {
    use loom_codegen_cpu::Error;
    match error {
        Error::Target(_) => Failure::NoDevice(error.to_string()),
        Error::Memory { .. } | Error::Prefix(_) | Error::Embedded { .. } => Failure::User(error.to_string()),
        Error::NoDefinition(_) | Error::Weights(_) | Error::Internal { .. } => Failure::Internal(error.to_string()),
    }
}

/// Cranelift's IR.
#[cfg(not(feature = "cpu"))]
pub fn clif(_: &Verified) -> Result<String, Failure> {
    Err(no_backend("CLIF", "cpu"))
}

/// Machine code of this processor, as text.
#[cfg(not(feature = "cpu"))]
pub fn asm(_: &Verified) -> Result<String, Failure> {
    Err(no_backend("assembly", "cpu"))
}

#[cfg(not(all(feature = "cpu", feature = "gpu")))]
pub fn no_backend(what: &str, feature: &str) -> Failure {
    Failure::NoDevice(format!("this build of loomc can't make {what}: it was built without the feature `{feature}`"))
}
