//! Which processors code is generated for.
//!
//! This processor, if it's an x86-64, must have SSE4.1 (vector rounding and integer minima are single instructions from
//! there on); code for any processor of that architecture is for one of its levels, of which x86-64-v2 is the lowest.
//! AArch64 needs nothing. Vectors of 128 bits are Cranelift's widest. Whatever else a processor has changes speed, never
//! bits: Cranelift doesn't contract a product and a sum.

use cranelift_codegen::isa::{Builder, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use target_lexicon::{Architecture, Triple};

use crate::error::Error;
use crate::level::Level;

/// What code is generated for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Target {
    /// This processor, with all that it has.
    #[default]
    Host,
    /// Any processor of this target triple: of x86-64 those of level x86-64-v2, which has SSE4.2 and no AVX. Text and
    /// objects made for a triple don't depend on the machine that made them.
    Triple(String),
}

/// Where the code goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Jit,
    Object,
}

pub(crate) fn isa(target: &Target, form: Form) -> Result<OwnedTargetIsa, Error> {
    match target {
        Target::Host => finish(cranelift_native::builder().map_err(|error| fail(&error))?, form),
        Target::Triple(triple) => isa_of_level(triple, Level::Portable, form),
    }
}

/// A triple's processors that have a level.
pub(crate) fn isa_of_level(triple: &str, level: Level, form: Form) -> Result<OwnedTargetIsa, Error> {
    let parsed: Triple = triple.parse().map_err(|error| Error::Target(format!("`{triple}`: {error}")))?;
    let is_x86_64 = parsed.architecture == Architecture::X86_64;
    let mut builder = cranelift_codegen::isa::lookup(parsed)
        .map_err(|error| Error::Target(format!("`{triple}`, in this build of Loom: {error}")))?;
    let preset = match level {
        Level::Portable if is_x86_64 => Some("x86-64-v2"),
        Level::Portable => None,
        Level::Avx2 | Level::Avx512 if !is_x86_64 => {
            return Err(Error::Target(format!("the level {level} is one of x86-64, not of `{triple}`")));
        }
        Level::Avx2 => Some("x86-64-v3"),
        Level::Avx512 => Some("x86-64-v4"),
    };
    if matches!(level, Level::Avx2 | Level::Avx512) {
        // Cranelift's presets have AVX2 and no AVX, without which it writes the old forms of instructions.
        builder.enable("has_avx").map_err(|error| fail(&error))?;
    }
    if let Some(preset) = preset {
        builder.enable(preset).map_err(|error| fail(&error))?;
    }
    finish(builder, form)
}

fn fail(error: &dyn std::fmt::Display) -> Error {
    Error::Target(error.to_string())
}

fn finish(builder: Builder, form: Form) -> Result<OwnedTargetIsa, Error> {
    let mut flags = settings::builder();
    let options = [
        ("opt_level", "speed"),
        ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
        // Nothing unwinds through generated code, and its frames are small.
        ("unwind_info", "false"),
        ("enable_probestack", "false"),
        ("is_pic", if form == Form::Object { "true" } else { "false" }),
    ];
    for (name, value) in options {
        flags.set(name, value).map_err(|error| fail(&error))?;
    }
    let isa = builder.finish(settings::Flags::new(flags)).map_err(|error| fail(&error))?;
    if isa.pointer_bits() != 64 {
        return Err(Error::Target("64-bit addresses are needed".to_string()));
    }
    let lacks_sse41 = isa.isa_flags().iter().any(|flag| flag.name == "has_sse41" && flag.as_bool() == Some(false));
    if lacks_sse41 {
        return Err(Error::Target("SSE4.1 is needed".to_string()));
    }
    Ok(isa)
}
