//! The C header of an object.

use std::fmt::Write;

use loom_ir::kernel::states::States;
use loom_ir::kernel::{Buffer, BufferId, Program};
use loom_ir::types::DType;

use super::places::{Flat, Places};
use super::{ObjectOptions, names};
use crate::abi::SCRATCH_ALIGNMENT;

pub(super) struct Header<'a> {
    pub program: &'a Program,
    pub options: &'a ObjectOptions<'a>,
    pub places: &'a Places,
    pub flat: &'a Flat,
}

impl Header<'_> {
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let ObjectOptions { triple, level, prefix, .. } = self.options;
        let version = env!("CARGO_PKG_VERSION");
        let takes_weights = self.options.weights.is_none() && !self.flat.offsets.is_empty();
        writeln!(
            text,
            "\
/* The network `{name}`, compiled by loomc {version} for {triple}, level {level}. Numerics: LN1.

   Use: call {prefix}_prepare once, then {prefix}_run for each batch. Nothing is allocated, and nothing is kept
   between calls: any number of threads may run at once, each in a workspace of its own, over the same prepared
   memory. Both functions set the floating-point environment that LN1 asks for and restore the caller's.

   Both blocks of memory begin at a multiple of {prefix}_ALIGNMENT bytes. Tensors are row-major, and begin at a multiple
   of 4 bytes. No memory that is written may overlap any other. */
#ifndef LOOM_{prefix}_H
#define LOOM_{prefix}_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern \"C\" {{
#endif

#define {prefix}_ALIGNMENT {SCRATCH_ALIGNMENT}
/* What {prefix}_prepared_bytes(), {prefix}_workspace_bytes() and {prefix}_weights_bytes() give, for memory of a fixed
   size. */
#define {prefix}_PREPARED_BYTES {prepared}
#define {prefix}_WORKSPACE_BYTES {workspace}
#define {prefix}_WEIGHTS_BYTES {weights}
",
            name = comment(&self.program.name),
            prepared = self.places.prepared_bytes,
            workspace = self.places.workspace_bytes,
            weights = self.flat.bytes,
        )?;
        self.tensors(text, "inputs", "What a run reads. All are needed.", "const ", &mut self.program.inputs())?;
        self.tensors(text, "outputs", "What a run writes. All are needed.", "", &mut self.program.outputs())?;
        self.states(text)?;
        if takes_weights {
            let words = "The weights. They are read by the preparation only.";
            self.tensors(text, "weights", words, "const ", &mut self.program.weights())?;
            self.flat_weights(text)?;
        }
        let (parameter, told) = match takes_weights {
            true => (format!("const {prefix}_weights *weights, "), "the weights"),
            false => (String::new(), "the weights, which the object holds,"),
        };
        writeln!(
            text,
            "\
/* Bytes of the prepared memory, of the workspace, and of the flat file of weights. */
size_t {prefix}_prepared_bytes(void);
size_t {prefix}_workspace_bytes(void);
size_t {prefix}_weights_bytes(void);

/* Packs {told} into the prepared memory, in the order in which the code reads them. It holds no
   addresses: it may be moved, or kept in a file for this object. */
void {prefix}_prepare({parameter}void *prepared);

/* Runs one batch. The workspace's contents before and after mean nothing. */
void {prefix}_run(const void *prepared, const {prefix}_inputs *inputs, const {prefix}_outputs *outputs, void *workspace);

#ifdef __cplusplus
}}
#endif

#endif"
        )
    }

    fn tensors(
        &self,
        text: &mut String,
        kind: &str,
        words: &str,
        constant: &str,
        buffers: &mut dyn Iterator<Item = (BufferId, &Buffer)>,
    ) -> std::fmt::Result {
        let buffers: Vec<&Buffer> = buffers.map(|(_, buffer)| buffer).collect();
        let members = names::members(buffers.iter().map(|buffer| &*buffer.name));
        writeln!(text, "/* {words} */\ntypedef struct {{")?;
        for (buffer, member) in buffers.iter().zip(&members) {
            let (element, note) = element(buffer.dtype);
            let (name, dtype, shape) = (comment(&buffer.name), buffer.dtype, &buffer.shape);
            writeln!(text, "    {constant}{element} *{member}; /* {name}: {dtype}, {shape}{note} */")?;
        }
        if buffers.is_empty() {
            // C has no structs without members.
            writeln!(text, "    const void *none;")?;
        }
        writeln!(text, "}} {}_{kind};\n", self.options.prefix)
    }

    fn states(&self, text: &mut String) -> std::fmt::Result {
        let Some(states) = States::of(self.program) else { return Ok(()) };
        let inputs = names::members(self.program.inputs().map(|(_, buffer)| &*buffer.name));
        let outputs = names::members(self.program.outputs().map(|(_, buffer)| &*buffer.name));
        writeln!(
            text,
            "\
/* What is carried from run to run: these outputs are the next run's inputs. They begin as zeros. There is room for
   {} positions, {} a run.",
            states.capacity, states.step
        )?;
        for (input, output) in &states.pairs {
            let number = |mut all: Box<dyn Iterator<Item = (BufferId, &Buffer)> + '_>, id| {
                all.position(|(other, _)| other == id).unwrap_or(0)
            };
            let from = &outputs[number(Box::new(self.program.outputs()), *output)];
            let to = &inputs[number(Box::new(self.program.inputs()), *input)];
            writeln!(text, "     {from} -> {to}")?;
        }
        writeln!(text, "*/\n")
    }

    fn flat_weights(&self, text: &mut String) -> std::fmt::Result {
        let prefix = &self.options.prefix;
        let members = names::members(self.program.weights().map(|(_, buffer)| &*buffer.name));
        writeln!(
            text,
            "\
/* The weights in the flat file that loomc writes beside the object: little-endian, each at a multiple of
   {SCRATCH_ALIGNMENT} bytes. `file` is its first byte, at a multiple of 4 bytes. */
static inline void {prefix}_weights_in({prefix}_weights *weights, const void *file)
{{"
        )?;
        for (((_, buffer), member), offset) in self.program.weights().zip(&members).zip(&self.flat.offsets) {
            let (element, _) = element(buffer.dtype);
            writeln!(
                text,
                "    weights->{member} = (const {element} *)(const void *)((const char *)file + {offset});"
            )?;
        }
        writeln!(text, "}}\n")
    }
}

/// An element's type in C, and what a reader must know besides.
fn element(dtype: DType) -> (&'static str, &'static str) {
    match dtype {
        DType::F32 => ("float", ""),
        DType::I32 => ("int32_t", ""),
        DType::U32 => ("uint32_t", ""),
        DType::Bool => ("uint32_t", ", each 0 or 1"),
        DType::F64 => ("double", ""),
        DType::I64 => ("int64_t", ""),
        DType::U64 => ("uint64_t", ""),
    }
}

/// A name that can't end a comment.
fn comment(name: &str) -> String {
    name.chars().map(|c| if c.is_control() || matches!(c, '*' | '/' | '\\' | '?') { '_' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::comment;

    #[test]
    fn names_stay_inside_comments() {
        assert_eq!(comment("a*/ int x; /*\n\\??/"), "a__ int x; _______");
    }
}
