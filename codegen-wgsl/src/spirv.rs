//! Strict SPIR-V: the form in which LN1's float arithmetic is exact.
//!
//! naga's SPIR-V says nothing of floating point. [`strict_spirv`] adds, word by word,
//!
//! - `NoContraction` on the result of every `OpFAdd`, `OpFSub`, `OpFMul`, `OpFDiv` and `OpFNegate`: no fusing, and, as
//!   compilers read it, no reassociation of what is so marked;
//! - the same on every float comparison: Mesa's optimiser has rules that make its own maximum, without NaN and the order
//!   of zeros, of `select(a, b, a < b)`, and keeps from them where the comparison is marked. No device at hand was seen to
//!   apply them; the mark costs nothing;
//! - the capabilities and execution modes `DenormPreserve 32`, `RoundingModeRTE 32` and `SignedZeroInfNanPreserve 32`
//!   (`SPV_KHR_float_controls`; part of SPIR-V itself from 1.4 on, Vulkan 1.2 accepts them).
//!
//! A software device computes with the CPU's IEEE arithmetic, but may not know the first of the three (no version of
//! lavapipe does), and a module must not ask for what the device lacks: [`Controls`] says which form is made. Whether
//! such a device keeps subnormals is then for the runtime's probe to find out.
//!
//! [`check_strict`] goes over the result, or any other module, and refuses one with an operation left unmarked, a float
//! operation that no mark makes exact, or a mode missing.

use std::collections::BTreeSet;

use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};

use crate::error::Error;
use crate::validate::Validated;

const MAGIC: u32 = 0x0723_0203;
const HEADER_WORDS: usize = 5;
const WIDTH: u32 = 32;

// Opcodes, decorations and the rest, by the SPIR-V specification's numbers.
const OP_EXTENSION: u32 = 10;
const OP_EXT_INST: u32 = 12;
const OP_ENTRY_POINT: u32 = 15;
const OP_EXECUTION_MODE: u32 = 16;
const OP_CAPABILITY: u32 = 17;
const OP_DECORATE: u32 = 71;
const OP_F_NEGATE: u32 = 127;
const OP_F_ADD: u32 = 129;
const OP_F_SUB: u32 = 131;
const OP_F_MUL: u32 = 133;
const OP_F_DIV: u32 = 136;
const OP_F_ORD_EQUAL: u32 = 180;
const OP_F_UNORD_GREATER_THAN_EQUAL: u32 = 191;
/// `OpFRem` to `OpDot`, without the integer operations among them: float operations with no exact meaning.
const INEXACT: [u32; 9] = [140, 141, 142, 143, 144, 145, 146, 147, 148];
const DECORATION_NO_CONTRACTION: u32 = 42;
/// `GLSL.std.450` instructions that naga makes of integer operations and conversions: `FClamp` (before a conversion to
/// an integer), `UMin`, `SMin`, `UMax`, `SMax`, `FindUMsb`.
const EXACT_EXTENDED: [u32; 6] = [43, 38, 39, 41, 42, 75];
const EXTENSION_NAME: &str = "SPV_KHR_float_controls";

/// The float controls that a module asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Controls {
    /// Whether `DenormPreserve` is among them. The others always are.
    pub denorm_preserve: bool,
}

impl Controls {
    /// All of them: what LN1 asks of a device in the strict tier.
    pub const ALL: Controls = Controls { denorm_preserve: true };

    /// The names of the controls, as SPIR-V has them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.iter().map(|control| control.name)
    }

    fn iter(self) -> impl Iterator<Item = &'static Control> {
        CONTROLS.iter().filter(move |control| self.denorm_preserve || control.name != DENORM_PRESERVE)
    }
}

const DENORM_PRESERVE: &str = "DenormPreserve";

/// A float control: its capability and its execution mode.
struct Control {
    name: &'static str,
    capability: u32,
    mode: u32,
}

const CONTROLS: [Control; 3] = [
    Control { name: DENORM_PRESERVE, capability: 4464, mode: 4459 },
    Control { name: "SignedZeroInfNanPreserve", capability: 4466, mode: 4461 },
    Control { name: "RoundingModeRTE", capability: 4467, mode: 4462 },
];

/// SPIR-V 1.3: what Vulkan 1.1 and later accept.
const VERSION: (u8, u8) = (1, 3);

/// The strict SPIR-V of a validated module with the entry point `main`, for any device in the tier strict.
pub fn strict_spirv(validated: &Validated) -> Result<Vec<u32>, Error> {
    strict_spirv_for(validated, Controls::ALL, false)
}

/// The same for a device that has only some of the float controls, and maybe `SPV_KHR_integer_dot_product`: without it dot products
/// of four codes are made of other integer operations.
pub fn strict_spirv_for(validated: &Validated, controls: Controls, packed_dot: bool) -> Result<Vec<u32>, Error> {
    let mut capabilities = vec![spv::Capability::Shader];
    if packed_dot {
        capabilities.extend([spv::Capability::DotProduct, spv::Capability::DotProductInput4x8BitPacked]);
    }
    let options = spv::Options {
        lang_version: VERSION,
        flags: spv::WriterFlags::empty(),
        // Every access was proved in bounds by the verifier of programs.
        bounds_check_policies: BoundsCheckPolicies {
            index: BoundsCheckPolicy::Unchecked,
            buffer: BoundsCheckPolicy::Unchecked,
            image_load: BoundsCheckPolicy::Unchecked,
            binding_array: BoundsCheckPolicy::Unchecked,
        },
        // Kernels write workgroup memory before they read it, and their loops end.
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        fake_missing_bindings: false,
        capabilities: Some(capabilities.into_iter().collect()),
        binding_map: bindings(validated),
        ..spv::Options::default()
    };
    let pipeline = spv::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: "main".to_string() };
    let words = spv::write_vec(&validated.module, &validated.info, &options, Some(&pipeline))
        .map_err(|error| Error::NotStrict(error.to_string()))?;
    let strict = make_strict(&words, controls)?;
    check_strict(&strict, controls)?;
    Ok(strict)
}

/// Every binding under the number that the text gives it.
fn bindings(validated: &Validated) -> spv::BindingMap {
    let bindings = validated.module.global_variables.iter().filter_map(|(_, variable)| variable.binding);
    bindings
        .map(|binding| {
            let info =
                spv::BindingInfo { descriptor_set: binding.group, binding: binding.binding, binding_array_size: None };
            (binding, info)
        })
        .collect()
}

/// One instruction: opcode and operand words.
struct Instruction<'a> {
    opcode: u32,
    operands: &'a [u32],
    /// All its words.
    words: &'a [u32],
}

/// The instructions of a module.
fn instructions(words: &[u32]) -> Result<Vec<Instruction<'_>>, Error> {
    let broken = || Error::NotStrict("the module is cut short".to_string());
    if words.first() != Some(&MAGIC) {
        return Err(Error::NotStrict("not a SPIR-V module".to_string()));
    }
    let mut rest = words.get(HEADER_WORDS..).ok_or_else(broken)?;
    let mut list = Vec::new();
    while let Some(&first) = rest.first() {
        let (count, opcode) = ((first >> 16) as usize, first & 0xffff);
        let all = rest.get(..count).filter(|all| !all.is_empty()).ok_or_else(broken)?;
        list.push(Instruction { opcode, operands: &all[1..], words: all });
        rest = &rest[count..];
    }
    Ok(list)
}

/// Whether an instruction belongs before the annotations' end: capabilities to decorations, in the specification's
/// order of a module.
fn is_preamble(opcode: u32) -> bool {
    // Source to MemberName and String, Extension to Capability, ModuleProcessed, decorations, ExecutionModeId.
    matches!(opcode, 2..=7 | 10 | 11 | 14..=17 | 71..=75 | 330..=332 | 5632 | 5633)
}

/// Arithmetic, and the float comparisons, which are numbered in a row.
fn is_marked_operation(opcode: u32) -> bool {
    matches!(
        opcode,
        OP_F_NEGATE | OP_F_ADD | OP_F_SUB | OP_F_MUL | OP_F_DIV | OP_F_ORD_EQUAL..=OP_F_UNORD_GREATER_THAN_EQUAL
    )
}

/// An instruction's words.
fn encode(opcode: u32, operands: &[u32]) -> Vec<u32> {
    let mut words = vec![((operands.len() as u32 + 1) << 16) | opcode];
    words.extend_from_slice(operands);
    words
}

/// A string's words: zero-terminated UTF-8, little-endian, padded.
fn encode_string(text: &str) -> Vec<u32> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(bytes.len() / 4 * 4 + 4, 0);
    bytes.chunks_exact(4).map(|chunk| u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]])).collect()
}

/// Adds marks, capabilities and modes to a module that has none of them.
fn make_strict(words: &[u32], controls: Controls) -> Result<Vec<u32>, Error> {
    let list = instructions(words)?;
    let entry = list.iter().find(|instruction| instruction.opcode == OP_ENTRY_POINT);
    let entry = entry.and_then(|entry| entry.operands.get(1).copied());
    let entry = entry.ok_or_else(|| Error::NotStrict("the module has no entry point".to_string()))?;

    let mut capabilities: Vec<u32> = Vec::new();
    let mut modes: Vec<u32> = Vec::new();
    for control in controls.iter() {
        capabilities.extend(encode(OP_CAPABILITY, &[control.capability]));
        modes.extend(encode(OP_EXECUTION_MODE, &[entry, control.mode, WIDTH]));
    }
    // A result's number is the second operand, after its type.
    let marks: Vec<u32> = list
        .iter()
        .filter(|instruction| is_marked_operation(instruction.opcode))
        .filter_map(|instruction| instruction.operands.get(1))
        .flat_map(|&result| encode(OP_DECORATE, &[result, DECORATION_NO_CONTRACTION]))
        .collect();

    let last = |opcodes: &[u32]| list.iter().rposition(|instruction| opcodes.contains(&instruction.opcode));
    let after_capabilities = last(&[OP_CAPABILITY]);
    let after_extensions = last(&[OP_EXTENSION]).or(after_capabilities);
    let after_modes = last(&[OP_EXECUTION_MODE, OP_ENTRY_POINT]);
    let first_of_body = list.iter().position(|instruction| !is_preamble(instruction.opcode));

    let mut strict = words[..HEADER_WORDS].to_vec();
    for (index, instruction) in list.iter().enumerate() {
        if Some(index) == first_of_body {
            strict.extend(&marks);
        }
        strict.extend(instruction.words);
        if Some(index) == after_capabilities {
            strict.extend(&capabilities);
        }
        if Some(index) == after_extensions {
            strict.extend(encode(OP_EXTENSION, &encode_string(EXTENSION_NAME)));
        }
        if Some(index) == after_modes {
            strict.extend(&modes);
        }
    }
    Ok(strict)
}

/// Checks that a module is in the strict form: see the module's documentation.
pub fn check_strict(words: &[u32], controls: Controls) -> Result<(), Error> {
    let list = instructions(words)?;
    let not = |what: String| Err(Error::NotStrict(what));
    let marked: BTreeSet<u32> = list
        .iter()
        .filter(|instruction| instruction.opcode == OP_DECORATE)
        .filter(|instruction| instruction.operands.get(1) == Some(&DECORATION_NO_CONTRACTION))
        .filter_map(|instruction| instruction.operands.first().copied())
        .collect();
    for instruction in &list {
        let opcode = instruction.opcode;
        if is_marked_operation(opcode) {
            let result = instruction.operands.get(1).copied().unwrap_or(0);
            if !marked.contains(&result) {
                return not(format!("the result %{result} of opcode {opcode} is not marked NoContraction"));
            }
        }
        if INEXACT.contains(&opcode) {
            return not(format!("opcode {opcode} has no exact meaning"));
        }
        if opcode == OP_EXT_INST {
            let number = instruction.operands.get(3).copied().unwrap_or(0);
            if !EXACT_EXTENDED.contains(&number) {
                return not(format!("extended instruction {number} has no exact meaning"));
            }
        }
    }
    for control in controls.iter() {
        let capability = |instruction: &&Instruction<'_>| {
            instruction.opcode == OP_CAPABILITY && instruction.operands == [control.capability]
        };
        let mode = |instruction: &&Instruction<'_>| {
            instruction.opcode == OP_EXECUTION_MODE && instruction.operands.get(1..) == Some(&[control.mode, WIDTH])
        };
        if list.iter().find(capability).is_none() || list.iter().find(mode).is_none() {
            return not(format!("{} is missing", control.name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::validate;

    const SOURCE: &str = "
        @group(0) @binding(0) var<storage, read> x: array<f32>;
        @group(0) @binding(1) var<storage, read_write> y: array<f32>;
        fn sum(a: f32, b: f32) -> f32 { return a * b + a; }
        @compute @workgroup_size(1)
        fn main() {
            let a = x[0];
            y[0] = select(sum(a, x[1]), a, a < x[2]) - a;
        }";

    fn strict(controls: Controls) -> Vec<u32> {
        let validated = validate(SOURCE).unwrap_or_else(|error| panic!("{error}"));
        strict_spirv_for(&validated, controls, false).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The preamble that the pass adds to, as the specification's assembler would write it.
    fn preamble(words: &[u32]) -> Vec<String> {
        let list = instructions(words).unwrap_or_else(|error| panic!("{error}"));
        let mut lines = Vec::new();
        for instruction in list {
            let operands = instruction.operands;
            match instruction.opcode {
                OP_CAPABILITY => lines.push(format!("OpCapability {}", operands[0])),
                OP_EXTENSION => {
                    let bytes: Vec<u8> = operands.iter().flat_map(|word| word.to_le_bytes()).collect();
                    let text = String::from_utf8_lossy(&bytes);
                    lines.push(format!("OpExtension {}", text.trim_end_matches('\0')));
                }
                OP_EXECUTION_MODE => lines.push(format!("OpExecutionMode {:?}", &operands[1..])),
                OP_DECORATE if operands[1] == DECORATION_NO_CONTRACTION => lines.push("NoContraction".to_string()),
                opcode if is_marked_operation(opcode) => lines.push(format!("operation {opcode}")),
                _ => {}
            }
        }
        lines
    }

    #[test]
    fn the_strict_form_looks_like_this() {
        let expected = [
            "OpCapability 1",
            "OpCapability 4464",
            "OpCapability 4466",
            "OpCapability 4467",
            "OpExtension SPV_KHR_float_controls",
            "OpExecutionMode [17, 1, 1, 1]",
            "OpExecutionMode [4459, 32]",
            "OpExecutionMode [4461, 32]",
            "OpExecutionMode [4462, 32]",
            "NoContraction",
            "NoContraction",
            "NoContraction",
            "NoContraction",
            "operation 133",
            "operation 129",
            "operation 184",
            "operation 131",
        ];
        assert_eq!(preamble(&strict(Controls::ALL)), expected);
        let without = preamble(&strict(Controls { denorm_preserve: false }));
        let left: Vec<&str> =
            expected.into_iter().filter(|line| !line.contains("4464") && !line.contains("4459")).collect();
        assert_eq!(without, left);
    }

    /// Packed dot products are an instruction where there is one, and sums of products of extracted bits where there isn't.
    #[test]
    fn packed_dot_products_are_asked_for_where_they_are() {
        const OP_S_DOT: u32 = 4450;
        const OP_BIT_FIELD_S_EXTRACT: u32 = 202;
        let source = "
            @group(0) @binding(0) var<storage, read> x: array<u32>;
            @group(0) @binding(1) var<storage, read_write> y: array<i32>;
            @compute @workgroup_size(1)
            fn main() { y[0] = dot4I8Packed(x[0], x[1]); }";
        let validated = validate(source).unwrap_or_else(|error| panic!("{error}"));
        for (packed_dot, there, absent) in
            [(true, OP_S_DOT, OP_BIT_FIELD_S_EXTRACT), (false, OP_BIT_FIELD_S_EXTRACT, OP_S_DOT)]
        {
            let words =
                strict_spirv_for(&validated, Controls::ALL, packed_dot).unwrap_or_else(|error| panic!("{error}"));
            let list = instructions(&words).unwrap_or_else(|error| panic!("{error}"));
            let has = |opcode: u32| list.iter().any(|instruction| instruction.opcode == opcode);
            assert!(has(there) && !has(absent), "{packed_dot}");
            let extension = preamble(&words).contains(&"OpExtension SPV_KHR_integer_dot_product".to_string());
            assert_eq!(extension, packed_dot);
        }
    }

    #[test]
    fn whatever_is_missing_is_noticed() {
        let words = strict(Controls::ALL);
        assert_eq!(check_strict(&words, Controls::ALL), Ok(()));
        let list = instructions(&words).unwrap_or_else(|error| panic!("{error}"));
        let added = list.iter().enumerate().filter(|(_, instruction)| match instruction.opcode {
            OP_CAPABILITY => instruction.operands[0] > 4000,
            OP_EXECUTION_MODE => instruction.operands[1] > 4000,
            OP_DECORATE => instruction.operands[1] == DECORATION_NO_CONTRACTION,
            _ => false,
        });
        let mut count = 0;
        for (dropped, _) in added {
            let mut less = words[..HEADER_WORDS].to_vec();
            for (index, instruction) in list.iter().enumerate() {
                if index != dropped {
                    less.extend(instruction.words);
                }
            }
            let result = check_strict(&less, Controls::ALL);
            assert!(matches!(result, Err(Error::NotStrict(_))), "{result:?}");
            count += 1;
        }
        assert_eq!(count, 3 + 3 + 4);
    }

    #[test]
    fn modules_that_are_none_are_refused() {
        let words = strict(Controls::ALL);
        for broken in [&words[..0], &words[1..], &words[..3], &words[..HEADER_WORDS + 1]] {
            let result = check_strict(broken, Controls::ALL);
            assert!(matches!(result, Err(Error::NotStrict(_))), "{result:?}");
        }
        let mut zero_length = words.clone();
        zero_length[HEADER_WORDS] &= 0xffff;
        assert!(check_strict(&zero_length, Controls::ALL).is_err());
    }
}
