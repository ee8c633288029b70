//! What each scalar instruction computes: the definition that code generators are tested against.

use crate::kernel::scalar::{BinaryOp, CompareOp, Inst, ScalarFn, UnaryOp, Value};
use crate::numerics;
use crate::types::DType;

/// What holds the bits of a value: `u32`, where none has more than 32 of them, or `u64`, with zeros above a narrower one's.
pub trait Word: Copy {
    /// The bits.
    fn widen(self) -> u64;

    /// The low bits.
    fn low(bits: u64) -> Self;
}

impl Word for u32 {
    fn widen(self) -> u64 {
        self.into()
    }

    fn low(bits: u64) -> u32 {
        bits as u32
    }
}

impl Word for u64 {
    fn widen(self) -> u64 {
        self
    }

    fn low(bits: u64) -> u64 {
        bits
    }
}

/// Evaluates a well-typed function on argument bits. Library operations run their definition.
///
/// `values` is scratch space that callers keep between calls. Words of 32 bits are for functions that are not
/// [wide](ScalarFn::is_wide).
pub fn evaluate<W: Word>(function: &ScalarFn, args: &[W], values: &mut Vec<W>) -> W {
    debug_assert_eq!(function.params.len(), args.len());
    debug_assert!(size_of::<W>() == 8 || !function.is_wide());
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
        values.push(W::low(bits));
        types.push(match *inst {
            Inst::Const(ty, _) | Inst::Bitcast(ty, _) | Inst::Convert(ty, _) => ty,
            Inst::Compare(..) => DType::Bool,
            Inst::Unary(_, a) | Inst::Binary(_, a, _) | Inst::Select(_, a, _) => types[a.index()],
        });
    }
    values[function.result.index()]
}

fn instruction<W: Word>(inst: &Inst, types: &[DType], values: &[W]) -> u64 {
    let get = |value: Value| values[value.index()].widen();
    let of = |value: Value| types[value.index()];
    match *inst {
        Inst::Const(_, bits) => bits,
        Inst::Unary(op, a) => unary_bits(op, of(a), get(a)),
        Inst::Binary(op, a, b) => binary_bits(op, of(a), get(a), get(b)),
        Inst::Compare(op, a, b) => u64::from(compare(op, of(a), get(a), get(b))),
        Inst::Select(c, a, b) => {
            if get(c) != 0 {
                get(a)
            } else {
                get(b)
            }
        }
        Inst::Bitcast(_, a) => get(a),
        Inst::Convert(to, a) => convert_bits(of(a), to, get(a)),
    }
}

/// A unary operation on bits of type `ty`.
pub fn unary<W: Word>(op: UnaryOp, ty: DType, a: W) -> W {
    W::low(unary_bits(op, ty, a.widen()))
}

/// A binary operation on bits of type `ty`.
pub fn binary<W: Word>(op: BinaryOp, ty: DType, a: W, b: W) -> W {
    W::low(binary_bits(op, ty, a.widen(), b.widen()))
}

/// A conversion by value.
pub fn convert<W: Word>(from: DType, to: DType, a: W) -> W {
    W::low(convert_bits(from, to, a.widen()))
}

fn unary_bits(op: UnaryOp, ty: DType, a: u64) -> u64 {
    if let Some(definition) = numerics::library::definition(op, ty) {
        return evaluate(definition, &[a], &mut Vec::new());
    }
    match ty {
        DType::F32 => {
            let x = f32::from_bits(a as u32);
            let result = match op {
                // On bits: a NaN's sign changes too, and nothing else of it.
                UnaryOp::Neg => return a ^ 0x8000_0000,
                UnaryOp::Abs => return a & 0x7fff_ffff,
                UnaryOp::Floor => x.floor(),
                UnaryOp::Ceil => x.ceil(),
                UnaryOp::Round => x.round_ties_even(),
                UnaryOp::Trunc => x.trunc(),
                UnaryOp::Sqrt => x.sqrt(),
                _ => ill_typed(op.name(), ty),
            };
            result.to_bits().into()
        }
        DType::F64 => {
            let x = f64::from_bits(a);
            let result = match op {
                UnaryOp::Neg => return a ^ 1 << 63,
                UnaryOp::Abs => return a & !(1 << 63),
                UnaryOp::Floor => x.floor(),
                UnaryOp::Ceil => x.ceil(),
                UnaryOp::Round => x.round_ties_even(),
                UnaryOp::Trunc => x.trunc(),
                UnaryOp::Sqrt => x.sqrt(),
                _ => ill_typed(op.name(), ty),
            };
            result.to_bits()
        }
        DType::Bool => a ^ 1,
        DType::I32 | DType::U32 | DType::I64 | DType::U64 => {
            let result = match op {
                UnaryOp::Neg => a.wrapping_neg(),
                UnaryOp::Abs if ty == DType::I64 => (a as i64).wrapping_abs() as u64,
                UnaryOp::Abs => (a as i32).wrapping_abs() as u64,
                UnaryOp::Not => !a,
                UnaryOp::LeadingZeros => (a as u32).leading_zeros().into(),
                _ => ill_typed(op.name(), ty),
            };
            within(ty, result)
        }
    }
}

/// The bits that a type has.
const fn within(ty: DType, bits: u64) -> u64 {
    if ty.is_wide() { bits } else { bits & 0xffff_ffff }
}

fn ill_typed(op: &str, ty: DType) -> ! {
    unreachable!("verified functions are well typed: {op} of {ty}")
}

fn binary_bits(op: BinaryOp, ty: DType, a: u64, b: u64) -> u64 {
    if let Some(definition) = numerics::library::binary_definition(op, ty) {
        return evaluate(definition, &[a, b], &mut Vec::new());
    }
    match ty {
        DType::F32 => float_binary(op, f32::from_bits(a as u32), f32::from_bits(b as u32)).to_bits().into(),
        DType::F64 => float_binary(op, f64::from_bits(a), f64::from_bits(b)).to_bits(),
        DType::I32 => signed_32(op, a as i32, b as i32) as u32 as u64,
        DType::I64 => signed_64(op, a as i64, b as i64) as u64,
        DType::U32 | DType::Bool => unsigned_32(op, a as u32, b as u32).into(),
        DType::U64 => unsigned_64(op, a, b),
    }
}

fn float_binary<T>(op: BinaryOp, a: T, b: T) -> T
where
    T: PartialOrd
        + std::ops::Add<Output = T>
        + std::ops::Sub<Output = T>
        + std::ops::Mul<Output = T>
        + std::ops::Div<Output = T>,
{
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        // Not Rust's min and max: those treat NaN and the sign of zero in their own way (LN1 section 2).
        BinaryOp::Min if b < a => b,
        BinaryOp::Max if a < b => b,
        _ => a,
    }
}

/// The integers of one size; of the signed ones' operations those that the sign does not matter to are the unsigned ones'.
macro_rules! integers {
    ($signed_name:ident, $signed:ty, $unsigned_name:ident, $unsigned:ty) => {
        fn $signed_name(op: BinaryOp, a: $signed, b: $signed) -> $signed {
            match op {
                BinaryOp::Div if b == 0 => a,
                BinaryOp::Div => a.wrapping_div(b),
                BinaryOp::Rem if b == 0 => 0,
                BinaryOp::Rem => a.wrapping_rem(b),
                BinaryOp::Min => a.min(b),
                BinaryOp::Max => a.max(b),
                BinaryOp::Shr => a.wrapping_shr(b as u32),
                _ => $unsigned_name(op, a as $unsigned, b as $unsigned) as $signed,
            }
        }

        fn $unsigned_name(op: BinaryOp, a: $unsigned, b: $unsigned) -> $unsigned {
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
                BinaryOp::Shl => a.wrapping_shl(b as u32),
                BinaryOp::Shr => a.wrapping_shr(b as u32),
                BinaryOp::Pow => unreachable!("verified functions are well typed: integer {op}"),
            }
        }
    };
}

integers!(signed_32, i32, unsigned_32, u32);
integers!(signed_64, i64, unsigned_64, u64);

/// A comparison of bits of type `ty`.
pub fn compare<W: Word>(op: CompareOp, ty: DType, a: W, b: W) -> bool {
    let (a, b) = (a.widen(), b.widen());
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
        DType::F32 => by(op, f32::from_bits(a as u32), f32::from_bits(b as u32)),
        DType::F64 => by(op, f64::from_bits(a), f64::from_bits(b)),
        DType::I32 => by(op, a as i32, b as i32),
        DType::I64 => by(op, a as i64, b as i64),
        DType::U32 | DType::U64 | DType::Bool => by(op, a, b),
    }
}

fn convert_bits(from: DType, to: DType, a: u64) -> u64 {
    // Rust's `as` is LN1's conversion (section 2): of a float to an integer it truncates, saturates and gives 0 for NaN, an
    // integer wraps or is extended, and what becomes a float is rounded to nearest even.
    macro_rules! from {
        ($value:expr) => {{
            let value = $value;
            match to {
                DType::F32 => (value as f32).to_bits().into(),
                DType::F64 => (value as f64).to_bits(),
                DType::I32 => (value as i32) as u32 as u64,
                DType::U32 => (value as u32).into(),
                DType::I64 => (value as i64) as u64,
                DType::U64 => value as u64,
                DType::Bool => unreachable!("converted above"),
            }
        }};
    }
    match (from, to) {
        _ if from == to => a,
        (DType::F32, DType::Bool) => u64::from(f32::from_bits(a as u32) != 0.0),
        (DType::F64, DType::Bool) => u64::from(f64::from_bits(a) != 0.0),
        (_, DType::Bool) => u64::from(a != 0),
        (DType::F32, _) => from!(f32::from_bits(a as u32)),
        (DType::F64, _) => from!(f64::from_bits(a)),
        (DType::I32, _) => from!(a as i32),
        (DType::I64, _) => from!(a as i64),
        (DType::U32 | DType::Bool | DType::U64, _) => from!(a),
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
        for x in 0..2000_u32 {
            assert_eq!(evaluate(&function, &[x], &mut values), x);
        }
        assert!(begin.elapsed().as_secs() < 5, "{:?}", begin.elapsed());
    }
}
