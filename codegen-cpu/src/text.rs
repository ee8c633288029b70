//! Generated functions as text.

use std::fmt::Write;

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use loom_fp_env::FpEnv;
use loom_ir::kernel::Verified;

use crate::error::Error;
use crate::functions::{self, Extras};
use crate::jit::internal;
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
    let mut module = functions::generate(program, Extras::default(), isa.frontend_config(), true)?;
    module.of_target(isa.as_ref());
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
