//! Programs as executable memory.

use std::collections::BTreeSet;
use std::sync::Mutex;

use cranelift_codegen::ir::LibCall;
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{FuncId, Linkage, Module as _};
use loom_fp_env::FpEnv;
use loom_ir::kernel::{BufferId, Forms, Verified};

use crate::abi::{KernelFn, KernelLayout, Microkernel, RowsFn};
use crate::emit::contract::StoredForms;
use crate::error::Error;
use crate::functions::{self, Extras, Import, Module, Visibility};
use crate::level::Level;
use crate::parallel;
use crate::simd;
use crate::stored::StoredPack;
use crate::target::{Form, Target, isa, isa_of_level};
use crate::wide::Isa;

/// How to compile.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Microkernels that may stand in for generated ones. The caller answers for their bits, and that this processor
    /// has their instructions.
    pub microkernels: Vec<Microkernel>,
    /// The function that copies rows of panels, in place of generated loops; the same holds for it.
    pub rows: Option<RowsFn>,
    /// What generated code keeps to, on a processor that has it; all that this processor has where there's none given.
    /// The bits are the same.
    pub level: Option<Level>,
    /// How many threads compile; this one alone where it's 0 or 1. The code is the same.
    pub threads: usize,
    /// Vectors for elementwise code of our own, which this processor has.
    pub(crate) wide: Option<Isa>,
}

impl Options {
    /// The fastest code for this processor. Without it, all code comes from Cranelift.
    pub fn native() -> Options {
        let best = Level::best();
        Options { level: None, ..Options::of(best) }
    }

    /// The fastest code of a level, or `None` if this processor does not have it.
    pub fn at(level: Level) -> Option<Options> {
        level.is_available().then(|| Options::of(level))
    }

    fn of(level: Level) -> Options {
        let (microkernels, rows) = (simd::microkernels(level), simd::rows::rows(level));
        Options { microkernels, rows, level: Some(level), threads: 1, wide: level.wide() }
    }

    fn extras<'a>(&'a self, forms: &'a Forms) -> Extras<'a> {
        let level = if self.wide.is_none() { Level::Portable } else { self.level.unwrap_or_else(Level::best) };
        let stored = StoredForms { forms, level };
        Extras { microkernels: &self.microkernels, rows: self.rows, wide: self.wide, stored }
    }
}

/// The code of one kernel. It's valid as long as its [`JitProgram`].
#[derive(Debug, Clone)]
pub struct KernelCode {
    /// How it's called.
    pub layout: KernelLayout,
    /// The kernel.
    pub entry: KernelFn,
    /// The pack function, if there are panels.
    pub pack: Option<KernelFn>,
    /// How the panels are made instead, where they hold a weight as it is stored.
    pub stored: Option<StoredPack>,
}

/// A program's code in memory, one kernel after another. See [`crate::abi`] for how it's called.
pub struct JitProgram {
    kernels: Vec<KernelCode>,
    widened: BTreeSet<BufferId>,
    /// The memory; `None` only while it's dropped.
    module: Mutex<Option<JITModule>>,
}

impl JitProgram {
    /// The kernels, in the program's order.
    pub fn kernels(&self) -> &[KernelCode] {
        &self.kernels
    }

    /// Whether code reads a weight that is stored in fewer bits as `f32`s.
    pub fn reads_widened(&self, weight: BufferId) -> bool {
        self.widened.contains(&weight)
    }
}

impl std::fmt::Debug for JitProgram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JitProgram").field("kernels", &self.kernels).finish_non_exhaustive()
    }
}

impl Drop for JitProgram {
    fn drop(&mut self) {
        let module = match self.module.get_mut() {
            Ok(module) => module.take(),
            Err(poisoned) => poisoned.into_inner().take(),
        };
        if let Some(module) = module {
            // SAFETY: the addresses of the code were given out through `kernels` only, whose documentation ends their
            // life here; calling them is unsafe, and callers hold the program while they run.
            unsafe { module.free_memory() };
        }
    }
}

/// Compiles a program for this processor.
pub fn compile(program: &Verified, options: &Options) -> Result<JitProgram, Error> {
    compile_stored(program, &Forms::new(), options)
}

/// The same where some weights are stored in fewer bits. Contractions take these as they are where they can; other code
/// reads them as `f32`s: [`JitProgram::reads_widened`].
pub fn compile_stored(program: &Verified, forms: &Forms, options: &Options) -> Result<JitProgram, Error> {
    // Cranelift folds arithmetic on constants with the processor's own.
    FpEnv::run(|| compile_here(program, forms, options))
}

fn compile_here(program: &Verified, forms: &Forms, options: &Options) -> Result<JitProgram, Error> {
    let isa = match options.level {
        None => isa(&Target::Host, Form::Jit)?,
        Some(level) => isa_of_level(&target_lexicon::Triple::host().to_string(), level, Form::Jit)?,
    };
    // Not colocated: memory for code comes in pieces that may lie further apart than a near call reaches.
    let mut module = functions::generate(program, options.extras(forms), isa.frontend_config(), false)?;
    module.of_target(isa.as_ref());
    let mut builder = JITBuilder::with_isa(isa, Box::new(libcall_name));
    for unit in &module.units {
        let Visibility::Imported(import) = unit.visibility else { continue };
        let address = match import {
            Import::Microkernel(number) => Some(options.microkernels[number].code as *const u8),
            Import::Rows => options.rows.map(|rows| rows as *const u8),
            Import::Stored(code) => Some(code),
        };
        if let Some(address) = address {
            builder.symbol(&unit.name, address);
        }
    }
    let mut jit = JITModule::new(builder);
    let ids = define(&mut jit, &module, options.threads)?;
    jit.finalize_definitions().map_err(|error| internal("(module)", &error))?;
    let code = |unit: usize| {
        let address = jit.get_finalized_function(ids[unit]);
        // SAFETY: the address is that of a finished function which takes four 64-bit arguments in registers by the
        // host's C convention and gives nothing back: the signature of `KernelFn`.
        unsafe { std::mem::transmute::<*const u8, KernelFn>(address) }
    };
    let kernels = module
        .kernels
        .iter()
        .map(|kernel| KernelCode {
            layout: kernel.layout.clone(),
            entry: code(kernel.entry),
            pack: kernel.pack.map(code),
            stored: kernel.stored.clone(),
        })
        .collect();
    let widened = module.widened.clone();
    Ok(JitProgram { kernels, widened, module: Mutex::new(Some(jit)) })
}

/// Declares and compiles every function.
pub(crate) fn define(
    target: &mut dyn cranelift_module::Module,
    module: &Module,
    threads: usize,
) -> Result<Vec<FuncId>, Error> {
    let mut ids = Vec::new();
    for (position, unit) in module.units.iter().enumerate() {
        let linkage = match unit.visibility {
            Visibility::Exported => Linkage::Export,
            Visibility::Local => Linkage::Local,
            Visibility::Imported(_) => Linkage::Import,
        };
        let id = target
            .declare_function(&unit.name, linkage, &unit.function.signature)
            .map_err(|error| internal(&unit.name, &error))?;
        // Functions call each other by position.
        if id.as_u32() as usize != position {
            return Err(internal(&unit.name, &"declared out of order"));
        }
        ids.push(id);
    }
    let compiled = parallel::compile(target.isa(), &module.units, &ids, threads)?;
    for ((unit, &id), compiled) in module.units.iter().zip(&ids).zip(compiled) {
        // An empty one is never called.
        let own = |code: &[u8]| if code.is_empty() { vec![0xcc] } else { code.to_vec() };
        let (bytes, alignment, relocations) = match (compiled, &unit.code) {
            (Some(compiled), _) => (compiled.bytes, compiled.alignment, compiled.relocations),
            (None, Some(code)) => (own(code), 64, Vec::new()),
            (None, None) => continue,
        };
        let alignment = alignment.max(u64::from(target.isa().function_alignment().minimum));
        target
            .define_function_bytes(id, alignment, &bytes, &relocations)
            .map_err(|error| internal(&unit.name, &error))?;
    }
    Ok(ids)
}

pub(crate) fn internal(function: &str, message: &dyn std::fmt::Display) -> Error {
    // The alternate form has the whole chain of causes.
    Error::Internal { function: function.to_string(), message: format!("{message:#}") }
}

/// Generated code calls nothing outside: should Cranelift ever want to, no such symbol is found.
pub(crate) fn libcall_name(call: LibCall) -> String {
    format!("loom has no {call}")
}
