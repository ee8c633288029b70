//! Cranelift on several threads: functions know each other by number only, so each can be compiled alone.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::Function;
use cranelift_codegen::isa::TargetIsa;
use cranelift_module::{FuncId, ModuleReloc};
use loom_fp_env::FpEnv;

use crate::error::Error;
use crate::functions::{Unit, Visibility};
use crate::jit::internal;

/// Functions for each thread: starting one takes as long as compiling a small function.
const WORTH_A_THREAD: usize = 3;

/// A function's code, before it has a place.
pub(crate) struct Compiled {
    pub bytes: Vec<u8>,
    pub alignment: u64,
    pub relocations: Vec<ModuleReloc>,
}

/// A function to compile: its number among the units, and what the module knows it by.
struct Wanted<'a> {
    number: usize,
    name: &'a str,
    function: &'a Function,
    id: FuncId,
}

/// Compiles the functions that are Cranelift's, by number; the others are `None`. The result doesn't depend on how many
/// threads there are.
pub(crate) fn compile(
    isa: &dyn TargetIsa,
    units: &[Unit],
    ids: &[FuncId],
    threads: usize,
) -> Result<Vec<Option<Compiled>>, Error> {
    let is_cranelifts = |unit: &Unit| unit.code.is_none() && !matches!(unit.visibility, Visibility::Imported(_));
    let wanted = units.iter().zip(ids).enumerate().filter(|(_, (unit, _))| is_cranelifts(unit));
    let wanted: Vec<Wanted<'_>> =
        wanted.map(|(number, (unit, &id))| Wanted { number, name: &unit.name, function: &unit.function, id }).collect();
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(wanted.len()));
    let work = || {
        let mut context = Context::new();
        while let Some(wanted) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            let compiled = one(isa, wanted, &mut context);
            done.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((wanted.number, compiled));
        }
    };
    let helpers = threads.min(wanted.len() / WORTH_A_THREAD).saturating_sub(1);
    std::thread::scope(|scope| {
        for _ in 0..helpers {
            // Where no thread can be had, this one does all of it.
            let _ = std::thread::Builder::new().spawn_scoped(scope, || FpEnv::run(work));
        }
        work();
    });
    let mut found: Vec<Option<Compiled>> = units.iter().map(|_| None).collect();
    let mut done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    // Of several errors, the first function's.
    done.sort_by_key(|&(number, _)| number);
    for (number, compiled) in done {
        found[number] = Some(compiled?);
    }
    Ok(found)
}

fn one(isa: &dyn TargetIsa, wanted: &Wanted<'_>, context: &mut Context) -> Result<Compiled, Error> {
    context.clear();
    context.func.clone_from(wanted.function);
    let failed = |error: cranelift_codegen::CompileError<'_>| internal(wanted.name, &error.inner);
    let code = context.compile(isa, &mut ControlPlane::default()).map_err(failed)?;
    let (bytes, alignment) = (code.code_buffer().to_vec(), u64::from(code.buffer.alignment));
    let relocations = match context.compiled_code() {
        Some(code) => {
            code.buffer.relocs().iter().map(|it| ModuleReloc::from_mach_reloc(it, &context.func, wanted.id)).collect()
        }
        None => Vec::new(),
    };
    Ok(Compiled { bytes, alignment, relocations })
}
