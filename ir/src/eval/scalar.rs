//! What each scalar instruction computes: the definition that code generators are tested against.

use crate::kernel::scalar::{BinaryOp, CompareOp, Inst, ScalarFn, UnaryOp, Value};
use crate::numerics;
use crate::types::DType;

/// Evaluates a well-typed function on argument bits. Library operations run their definition.
///
/// `values` is scratch space that callers keep between calls.
pub fn evaluate(function: &ScalarFn, args: &[u32], values: &mut Vec<u32>) -> u32 {
    debug_assert_eq!(function.params.len(), args.len());
    values.clear();
    values.extend_from_slice(args);
    // Every value's type, since a few operations differ by it. A function without instructions does without.
    let mut types: Vec<DType> = Vec::new();
    if !function.insts.is_empty() {
        types.reserve(function.params.len() + function.insts.len());
        types.extend_from_slice(&function.params);
    }
    for inst in &function.insts {
        let bits = instruction(inst, &types, values);
        values.push(bits);
        types.push(match *inst {
            Inst::Const(ty, _) | Inst::Bitcast(ty, _) | Inst::Convert(ty, _) => ty,
            Inst::Compare(..) => DType::Bool,
            Inst::Unary(_, a) | Inst::Binary(_, a, _) | Inst::Select(_, a, _) => types[a.index()],
        });
    }
    values[function.result.index()]
}

fn instruction(inst: &Inst, types: &[DType], values: &[u32]) -> u32 {
    let get = |value: Value| values[value.index()];
    let of = |value: Value| types[value.index()];
    match *inst {
        Inst::Const(_, bits) => bits,
        Inst::Unary(op, a) => unary(op, of(a), get(a)),
        Inst::Binary(op, a, b) => binary(op, of(a), get(a), get(b)),
        Inst::Compare(op, a, b) => u32::from(compare(op, of(a), get(a), get(b))),
        Inst::Select(c, a, b) => {
            if get(c) != 0 {
                get(a)
            } else {
                get(b)
            }
        }
        Inst::Bitcast(_, a) => get(a),
        Inst::Convert(to, a) => convert(of(a), to, get(a)),
    }
}

/// A unary operation on bits of type `ty`.
pub fn unary(op: UnaryOp, ty: DType, a: u32) -> u32 {
    let x = f32::from_bits(a);
    match op {
        UnaryOp::Neg if ty == DType::F32 => a ^ 0x8000_0000,
        UnaryOp::Neg => a.wrapping_neg(),
        UnaryOp::Abs if ty == DType::F32 => a & 0x7fff_ffff,
        UnaryOp::Abs => (a as i32).wrapping_abs() as u32,
        UnaryOp::Not if ty == DType::Bool => a ^ 1,
        UnaryOp::Not => !a,
        UnaryOp::LeadingZeros => a.leading_zeros(),
        UnaryOp::Floor => x.floor().to_bits(),
        UnaryOp::Ceil => x.ceil().to_bits(),
        UnaryOp::Round => x.round_ties_even().to_bits(),
        UnaryOp::Trunc => x.trunc().to_bits(),
        UnaryOp::Sqrt => x.sqrt().to_bits(),
        _ => match numerics::library::definition(op) {
            Some(definition) => evaluate(definition, &[a], &mut Vec::new()),
            None => unreachable!("every operation is primitive, exact or in the library"),
        },
    }
}

/// A binary operation on bits of type `ty`.
pub fn binary(op: BinaryOp, ty: DType, a: u32, b: u32) -> u32 {
    if let Some(definition) = numerics::library::binary_definition(op) {
        return evaluate(definition, &[a, b], &mut Vec::new());
    }
    match ty {
        DType::F32 => float_binary(op, f32::from_bits(a), f32::from_bits(b)).to_bits(),
        DType::I32 => signed_binary(op, a as i32, b as i32) as u32,
        DType::U32 | DType::Bool => unsigned_binary(op, a, b),
    }
}

fn float_binary(op: BinaryOp, a: f32, b: f32) -> f32 {
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        // Not f32::min and max: those treat NaN and the sign of zero in their own way (LN1 section 2).
        BinaryOp::Min if b < a => b,
        BinaryOp::Max if a < b => b,
        _ => a,
    }
}

fn signed_binary(op: BinaryOp, a: i32, b: i32) -> i32 {
    match op {
        BinaryOp::Div if b == 0 => a,
        BinaryOp::Div => a.wrapping_div(b),
        BinaryOp::Rem if b == 0 => 0,
        BinaryOp::Rem => a.wrapping_rem(b),
        BinaryOp::Min => a.min(b),
        BinaryOp::Max => a.max(b),
        BinaryOp::Shr => a.wrapping_shr(b as u32),
        _ => unsigned_binary(op, a as u32, b as u32) as i32,
    }
}

fn unsigned_binary(op: BinaryOp, a: u32, b: u32) -> u32 {
    match op {
        BinaryOp::Add => a.wrapping_add(b),
        BinaryOp::Sub => a.wrapping_sub(b),
        BinaryOp::Mul => a.wrapping_mul(b),
        BinaryOp::Div => a.checked_div(b).unwrap_or(a),
        BinaryOp::Rem => a.checked_rem(b).unwrap_or(0),
        BinaryOp::Min => a.min(b),
        BinaryOp::Max => a.max(b),
        BinaryOp::And => a & b,
        BinaryOp::Or => a | b,
        BinaryOp::Xor => a ^ b,
        BinaryOp::Shl => a.wrapping_shl(b),
        BinaryOp::Shr => a.wrapping_shr(b),
        BinaryOp::Pow => unreachable!("verified functions are well typed: integer {op}"),
    }
}

/// A comparison of bits of type `ty`.
pub fn compare(op: CompareOp, ty: DType, a: u32, b: u32) -> bool {
    fn by<T: PartialOrd>(op: CompareOp, a: T, b: T) -> bool {
        match op {
            CompareOp::Eq => a == b,
            CompareOp::Ne => a != b,
            CompareOp::Lt => a < b,
            CompareOp::Le => a <= b,
            CompareOp::Gt => a > b,
            CompareOp::Ge => a >= b,
        }
    }
    match ty {
        DType::F32 => by(op, f32::from_bits(a), f32::from_bits(b)),
        DType::I32 => by(op, a as i32, b as i32),
        DType::U32 | DType::Bool => by(op, a, b),
    }
}

/// A conversion by value.
pub fn convert(from: DType, to: DType, a: u32) -> u32 {
    match (from, to) {
        (DType::F32, DType::Bool) => u32::from(f32::from_bits(a) != 0.0),
        (_, DType::Bool) => u32::from(a != 0),
        // Rust's `as` truncates, saturates and gives 0 for NaN, just as LN1 section 2 asks.
        (DType::F32, DType::I32) => f32::from_bits(a) as i32 as u32,
        (DType::F32, DType::U32) => f32::from_bits(a) as u32,
        (DType::I32, DType::F32) => (a as i32 as f32).to_bits(),
        (DType::U32 | DType::Bool, DType::F32) => (a as f32).to_bits(),
        _ => a,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    #[test]
    fn the_longest_chain_is_evaluated_in_proportion_to_its_length() {
        let insts: Vec<Inst> =
            (0..limits::MAX_SCALAR_OPS).map(|k| Inst::Unary(UnaryOp::Neg, Value(k as u32))).collect();
        let result = Value(insts.len() as u32);
        let function = ScalarFn { params: vec![DType::F32], insts, result };
        let mut values = Vec::new();
        // Eight million instructions; looking for each type along the chain took 16 thousand million steps.
        let begin = std::time::Instant::now();
        for x in 0..2000 {
            assert_eq!(evaluate(&function, &[x], &mut values), x);
        }
        assert!(begin.elapsed().as_secs() < 5, "{:?}", begin.elapsed());
    }
}
