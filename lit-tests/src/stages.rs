//! The stages behind the passes, as text.

use loom_ir::kernel::Verified;

/// The text of a stage for a program.
pub fn render(stage: &str, program: &Verified) -> Result<String, String> {
    match stage {
        "clif" => loom_codegen_cpu::emit_clif(program).map_err(|error| error.to_string()),
        _ => Err(format!("there is no stage `{stage}`")),
    }
}
