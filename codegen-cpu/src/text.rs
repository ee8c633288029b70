//! Generated functions as text, and as object files.

use std::fmt::Write;

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_object::{ObjectBuilder, ObjectModule};
use loom_fp_env::FpEnv;
use loom_ir::kernel::Verified;

use crate::error::Error;
use crate::functions::{self, Extras, Visibility};
use crate::jit::{define, internal, libcall_name};
use crate::target::{Form, Target, isa};

/// All functions of a program in Cranelift's IR, before its optimiser. The text depends on the program alone.
pub fn emit_clif(program: &Verified) -> Result<String, Error> {
    let module = functions::generate(program, Extras::default(), functions::neutral_config(), true)?;
    let mut text = String::new();
    for (number, unit) in module.units.iter().enumerate() {
        let gap = if number > 0 { "\n" } else { "" };
        let _ = writeln!(text, "{gap}; u0:{number} {}", unit.comment);
        let _ = write!(text, "{}", unit.function.display());
    }
    Ok(text)
}

/// All functions of a program in the target's assembly, for people: Cranelift's notation before registers are renamed
/// to an assembler's. The text depends on the program and the target alone.
pub fn emit_asm(program: &Verified, target: &Target) -> Result<String, Error> {
    // Cranelift folds arithmetic on constants with the processor's own.
    FpEnv::run(|| assembly(program, target))
}

fn assembly(program: &Verified, target: &Target) -> Result<String, Error> {
    let isa = isa(target, Form::Object)?;
    let module = functions::generate(program, Extras::default(), isa.frontend_config(), true)?;
    let mut text = format!("; {}\n", isa.triple());
    for (number, unit) in module.units.iter().enumerate() {
        let _ = writeln!(text, "\n; u0:{number} {}\n{}:", unit.comment, unit.name);
        let mut context = Context::for_function(unit.function.clone());
        context.set_disasm(true);
        let code = context
            .compile(isa.as_ref(), &mut ControlPlane::default())
            .map_err(|error| internal(&unit.name, &error.inner))?;
        text.push_str(code.vcode.as_deref().unwrap_or_default());
    }
    Ok(text)
}

/// The program as an object file: a symbol `loom_kernel_<n>` for the n-th kernel and, for kernels with panels,
/// `loom_kernel_<n>_pack_narrow` or `…_pack_wide`, called as [`crate::abi`] says. Work items, scratch memory and panels
/// of each are those of [`crate::layouts`].
pub fn emit_object(program: &Verified, target: &Target) -> Result<Vec<u8>, Error> {
    FpEnv::run(|| object(program, target))
}

fn object(program: &Verified, target: &Target) -> Result<Vec<u8>, Error> {
    let isa = isa(target, Form::Object)?;
    let module = functions::generate(program, Extras::default(), isa.frontend_config(), true)?;
    debug_assert!(
        module.units.iter().all(|unit| !matches!(unit.visibility, Visibility::Imported(_) | Visibility::Stored(_)))
    );
    let builder =
        ObjectBuilder::new(isa, "loom", Box::new(libcall_name)).map_err(|error| internal("(module)", &error))?;
    let mut object = ObjectModule::new(builder);
    define(&mut object, &module)?;
    object.finish().emit().map_err(|error| internal("(module)", &error))
}
