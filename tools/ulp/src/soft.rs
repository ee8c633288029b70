//! The programs of floats as integers against the processor's instructions.

use loom_ir::eval::scalar;
use loom_ir::kernel::scalar::{BinaryOp, CompareOp, UnaryOp};
use loom_ir::numerics::soft::{Operation, legalise};
use loom_ir::types::DType;

use crate::batch::{Block, LANES};
use crate::expansions::{all_floats, compare, division_pairs, is, scramble};
use crate::{print_disagreements, with_progress};

const OPERATIONS: [(&str, Operation); 19] = [
    ("add", Operation::Binary(BinaryOp::Add)),
    ("sub", Operation::Binary(BinaryOp::Sub)),
    ("mul", Operation::Binary(BinaryOp::Mul)),
    ("div", Operation::Binary(BinaryOp::Div)),
    ("min", Operation::Binary(BinaryOp::Min)),
    ("max", Operation::Binary(BinaryOp::Max)),
    ("eq", Operation::Compare(CompareOp::Eq)),
    ("lt", Operation::Compare(CompareOp::Lt)),
    ("le", Operation::Compare(CompareOp::Le)),
    ("sqrt", Operation::Unary(UnaryOp::Sqrt)),
    ("floor", Operation::Unary(UnaryOp::Floor)),
    ("ceil", Operation::Unary(UnaryOp::Ceil)),
    ("round", Operation::Unary(UnaryOp::Round)),
    ("trunc", Operation::Unary(UnaryOp::Trunc)),
    ("to_i32", Operation::To(DType::I32)),
    ("to_u32", Operation::To(DType::U32)),
    ("to_bool", Operation::To(DType::Bool)),
    ("from_i32", Operation::From(DType::I32)),
    ("from_u32", Operation::From(DType::U32)),
];

/// Whether all agree.
pub fn check(millions: u64, threads: u64) -> bool {
    let mut agree = true;
    for (name, operation) in OPERATIONS {
        let Some(program) = operation.program().map(legalise) else { continue };
        let of_two = program.params.len() == 2;
        let count = if of_two { millions * 1_000_000 } else { 1 << 32 };
        let blocks = count / LANES as u64;
        let found = with_progress(name, blocks, |progress| {
            let operands = |block: u64, operands: &mut [Block]| match (of_two, operation) {
                (false, _) => all_floats(block, operands),
                (true, Operation::Binary(BinaryOp::Div)) => division_pairs(block, operands),
                (true, _) => pairs(block, operands),
            };
            compare(&program, blocks, threads, progress, operands, |operands, got| agrees(operation, operands, got))
        });
        agree &= print_disagreements(name, &program, &found);
    }
    agree
}

/// Whether a result is what the processor makes of the operands.
fn agrees(operation: Operation, operands: &[u32], got: u32) -> bool {
    let float = |bits| is(got, f32::from_bits(bits));
    match (operation, operands) {
        (Operation::Unary(op), &[x]) => float(scalar::unary(op, DType::F32, x)),
        (Operation::Binary(op), &[x, y]) => float(scalar::binary(op, DType::F32, x, y)),
        (Operation::Compare(op), &[x, y]) => got == u32::from(scalar::compare(op, DType::F32, x, y)),
        (Operation::To(ty), &[x]) => got == scalar::convert(DType::F32, ty, x),
        (Operation::From(ty), &[x]) => float(scalar::convert(ty, DType::F32, x)),
        _ => false,
    }
}

/// Pairs in which every pair of signs and exponents comes up, again and again, most of them with exponents that make
/// a difference to a sum: the second within 32 of the first. Mantissas are anything, or few bits at either end.
fn pairs(block: u64, operands: &mut [Block]) {
    let [first, second] = operands else { unreachable!("a pair has two operands") };
    for (lane, (a, b)) in first.iter_mut().zip(second).enumerate() {
        let number = block * LANES as u64 + lane as u64;
        let random = scramble(number);
        let (exponent, other) = ((number & 0xff) as u32, (number >> 8 & 0xff) as u32);
        let near = exponent.wrapping_add(other % 65).wrapping_sub(32) & 0xff;
        let exponents = [exponent, if random >> 61 < 6 { near } else { other }];
        let mantissas = [random as u32, (random >> 23) as u32].map(|bits| bits & 0x7f_ffff);
        let kinds = [random >> 46 & 0xff, random >> 54 & 0x7f];
        let [x, y] = [0, 1].map(|index| {
            let (mantissa, low) = (mantissas[index], kinds[index] as u32 / 4 % 24);
            let mantissa = match kinds[index] % 4 {
                0 => (1u32 << low).wrapping_add(mantissa % 3).wrapping_sub(1),
                1 => (0x7f_ffffu32 << low).wrapping_add(mantissa % 3).wrapping_sub(1),
                _ => mantissa,
            };
            exponents[index] << 23 | mantissa & 0x7f_ffff
        });
        *a = x | (scramble(random) as u32 & 1) << 31;
        *b = y | (scramble(random) as u32 & 2) << 30;
    }
}
