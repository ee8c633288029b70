//! Loads that no instruction may take in.
//!
//! Before AVX, an instruction's operand in memory must be aligned to 16 bytes, and ours is to 4. Cranelift 0.135 knows it of all
//! instructions but two: the legacy forms of `cmpps` and `cmppd` are said to take operands anywhere, so that a comparison takes in the
//! load of a vector, and faults. Where there is no AVX, vectors of floats are loaded as vectors of integers and then called floats:
//! no rule takes such a load in. It costs nothing, since none would have been taken in rightly.

use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::ir::{Endianness, Function, InstBuilder, InstructionData, MemFlagsData, Opcode, types};
use cranelift_codegen::isa::TargetIsa;

/// Whether a target is one of x86-64 without AVX.
pub(crate) fn is_needed(isa: &dyn TargetIsa) -> bool {
    isa.isa_flags().iter().any(|flag| flag.name == "has_avx" && flag.as_bool() == Some(false))
}

/// Loads vectors of floats by way of vectors of integers.
pub(crate) fn keep_apart(function: &mut Function) {
    let mut cursor = FuncCursor::new(function);
    while cursor.next_block().is_some() {
        while let Some(inst) = cursor.next_inst() {
            let InstructionData::Load { opcode: Opcode::Load, arg, flags, offset } = cursor.func.dfg.insts[inst] else {
                continue;
            };
            if cursor.func.dfg.ctrl_typevar(inst) != types::F32X4 {
                continue;
            }
            let flags = cursor.func.dfg.mem_flags[flags];
            let bits = cursor.ins().load(types::I32X4, flags, arg, offset);
            let order = MemFlagsData::new().with_endianness(Endianness::Little);
            cursor.func.replace(inst).bitcast(types::F32X4, order, bits);
        }
    }
}
