//! The stages behind the passes, as text.

use std::fmt::Write;

use loom_codegen_wgsl::{Arithmetic, Target, generate, strict_spirv, validate};
use loom_ir::kernel::Verified;

/// The text of a stage for a program.
pub fn render(stage: &str, program: &Verified) -> Result<String, String> {
    match stage {
        "clif" => loom_codegen_cpu::emit_clif(program).map_err(|error| error.to_string()),
        "wgsl" => wgsl(program, Arithmetic::Native),
        "wgsl guarded" => wgsl(program, Arithmetic::Guarded),
        "wgsl soft" => wgsl(program, Arithmetic::Soft),
        _ => Err(format!("there is no stage `{stage}`")),
    }
}

/// What no shader may hold: arithmetic that a device rounds as it likes, and comparisons that compilers fold.
const ABSENT: [&str; 14] = [
    "fma(",
    "dot(",
    "mix(",
    "pow(",
    " exp(",
    " log(",
    " tanh(",
    " sqrt(",
    "inverseSqrt(",
    "length(",
    "normalize(",
    "smoothstep(",
    "!= f",
    "%f",
];

/// Every kernel for the portable target, accepted by naga and free of what LN1 forbids.
fn wgsl(program: &Verified, arithmetic: Arithmetic) -> Result<String, String> {
    let mut text = String::new();
    let target = Target::portable().with_arithmetic(arithmetic);
    for kernel in generate(program, &target).map_err(|error| error.to_string())? {
        let validated = validate(&kernel.source).map_err(|error| format!("{error}\n{}", kernel.source))?;
        validated.check(arithmetic).map_err(|error| error.to_string())?;
        strict_spirv(&validated).map_err(|error| error.to_string())?;
        if let Some(found) = ABSENT.iter().find(|pattern| kernel.source.contains(**pattern)) {
            return Err(format!("`{found}` must not be in\n{}", kernel.source));
        }
        let _ = write!(text, "// kernel {:?}, workgroups {:?}\n{}", kernel.name, kernel.workgroups, kernel.source);
    }
    Ok(text)
}
