//! Scalar functions as CLIF, one value or four lanes at a time.
//!
//! Both forms compute the same bits in every lane. Types: `f32` is `F32` or `F32X4`, integers are `I32` or `I32X4`; a
//! bool is an `I8` of 0 or 1, or an `I32X4` mask of all ones or zeros. Only in memory is it a `u32` of 0 or 1.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{Endianness, InstBuilder, MemFlagsData, Type, Value, types};
use loom_ir::kernel::scalar::{BinaryOp, CompareOp, Inst, ScalarFn, UnaryOp};
use loom_ir::types::DType;

use super::Gen;

/// How many elements a value holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lanes {
    One,
    Four,
}

impl Lanes {
    pub(crate) fn count(self) -> u64 {
        match self {
            Lanes::One => 1,
            Lanes::Four => 4,
        }
    }

    /// The type of a value of this element type as the generated code computes with it.
    pub(crate) fn value_type(self, dtype: DType) -> Type {
        match (self, dtype) {
            (Lanes::One, DType::F32) => types::F32,
            (Lanes::One, DType::Bool) => types::I8,
            (Lanes::One, _) => types::I32,
            (Lanes::Four, DType::F32) => types::F32X4,
            (Lanes::Four, _) => types::I32X4,
        }
    }

    /// The type under which it lies in memory.
    pub(crate) fn memory_type(self, dtype: DType) -> Type {
        match (self, dtype) {
            (_, DType::F32) => self.value_type(dtype),
            (Lanes::One, _) => types::I32,
            (Lanes::Four, _) => types::I32X4,
        }
    }
}

impl Gen<'_> {
    /// The result of a function without library operations. Arguments and result are values of `lanes`.
    pub(crate) fn scalar_fn(&mut self, function: &ScalarFn, args: &[Value], lanes: Lanes) -> Value {
        let mut values = args.to_vec();
        let mut dtypes = function.params.clone();
        for inst in &function.insts {
            let dtype = match inst.result_type(|value| dtypes[value.index()]) {
                Ok(dtype) => dtype,
                Err(error) => unreachable!("verified functions are well typed: {error}"),
            };
            let operand = |value: loom_ir::kernel::scalar::Value| (values[value.index()], dtypes[value.index()]);
            let value = match *inst {
                Inst::Const(dtype, bits) => self.constant(dtype, bits as u32, lanes),
                Inst::Unary(op, a) => {
                    let (a, dtype) = operand(a);
                    self.unary(op, dtype, a, lanes)
                }
                Inst::Binary(op, a, b) => {
                    let constant = match function.inst(b) {
                        Some(&Inst::Const(_, bits)) => Some(bits as u32),
                        _ => None,
                    };
                    let ((a, dtype), (b, _)) = (operand(a), operand(b));
                    self.binary(op, dtype, a, b, constant, lanes)
                }
                Inst::Compare(op, a, b) => {
                    let ((a, dtype), (b, _)) = (operand(a), operand(b));
                    self.compare(op, dtype, a, b)
                }
                Inst::Select(c, a, b) => {
                    let ((c, _), (a, dtype), (b, _)) = (operand(c), operand(a), operand(b));
                    self.select(c, a, b, lanes.value_type(dtype), lanes)
                }
                Inst::Bitcast(to, a) => {
                    let (a, _) = operand(a);
                    self.bitcast(lanes.value_type(to), a)
                }
                Inst::Convert(to, a) => {
                    let (a, from) = operand(a);
                    self.convert(from, to, a, lanes)
                }
            };
            values.push(value);
            dtypes.push(dtype);
        }
        values[function.result.index()]
    }

    /// A constant by its bits.
    pub(crate) fn constant(&mut self, dtype: DType, bits: u32, lanes: Lanes) -> Value {
        match (lanes, dtype) {
            (Lanes::One, DType::F32) => {
                self.b.ins().f32const(cranelift_codegen::ir::immediates::Ieee32::with_bits(bits))
            }
            (Lanes::One, DType::Bool) => self.b.ins().iconst(types::I8, i64::from(bits != 0)),
            (Lanes::One, _) => self.b.ins().iconst(types::I32, i64::from(bits)),
            (Lanes::Four, _) => {
                let bits = if dtype == DType::Bool && bits != 0 { u32::MAX } else { bits };
                self.vector_constant(lanes.value_type(dtype), [bits; 4])
            }
        }
    }

    pub(crate) fn vector_constant(&mut self, ty: Type, lanes: [u32; 4]) -> Value {
        let bytes: Vec<u8> = lanes.iter().flat_map(|lane| lane.to_le_bytes()).collect();
        let handle = self.b.func.dfg.constants.insert(bytes.into());
        self.b.ins().vconst(ty, handle)
    }

    fn unary(&mut self, op: UnaryOp, dtype: DType, a: Value, lanes: Lanes) -> Value {
        let float = dtype == DType::F32;
        match op {
            UnaryOp::Neg if float => self.b.ins().fneg(a),
            UnaryOp::Neg => self.b.ins().ineg(a),
            UnaryOp::Abs if float => self.b.ins().fabs(a),
            UnaryOp::Abs => self.b.ins().iabs(a),
            // A bool of one lane is 0 or 1, whose complement isn't.
            UnaryOp::Not if dtype == DType::Bool && lanes == Lanes::One => self.b.ins().bxor_imm_u(a, 1),
            UnaryOp::Not => self.b.ins().bnot(a),
            UnaryOp::LeadingZeros => self.each_lane(lanes, &[a], |g, a| g.b.ins().clz(a[0])),
            UnaryOp::Floor => self.b.ins().floor(a),
            UnaryOp::Ceil => self.b.ins().ceil(a),
            UnaryOp::Round => self.b.ins().nearest(a),
            UnaryOp::Trunc => self.b.ins().trunc(a),
            UnaryOp::Sqrt => self.b.ins().sqrt(a),
            UnaryOp::Rsqrt
            | UnaryOp::Exp
            | UnaryOp::Exp2
            | UnaryOp::Log
            | UnaryOp::Log2
            | UnaryOp::Log1p
            | UnaryOp::Expm1
            | UnaryOp::Tanh
            | UnaryOp::Sigmoid
            | UnaryOp::Erf
            | UnaryOp::Sin
            | UnaryOp::Cos
            | UnaryOp::RoundF16
            | UnaryOp::RoundBf16
            | UnaryOp::RoundF8
            | UnaryOp::RoundF4 => unreachable!("library operations are expanded before"),
        }
    }

    /// `constant` is the second operand's bits where they are known.
    fn binary(&mut self, op: BinaryOp, dtype: DType, a: Value, b: Value, constant: Option<u32>, lanes: Lanes) -> Value {
        match dtype {
            DType::F32 => self.float_binary(op, a, b, lanes),
            DType::Bool => self.bit_binary(op, a, b),
            _ => self.integer_binary(op, dtype == DType::I32, a, b, constant, lanes),
        }
    }

    fn float_binary(&mut self, op: BinaryOp, a: Value, b: Value, lanes: Lanes) -> Value {
        let ty = lanes.value_type(DType::F32);
        match op {
            BinaryOp::Add => self.b.ins().fadd(a, b),
            BinaryOp::Sub => self.b.ins().fsub(a, b),
            BinaryOp::Mul => self.b.ins().fmul(a, b),
            BinaryOp::Div => self.b.ins().fdiv(a, b),
            // LN1's definition word for word, not fmin and fmax, which treat NaN and the sign of zero in their own way.
            BinaryOp::Min => {
                let less = self.compare(CompareOp::Lt, DType::F32, b, a);
                self.select(less, b, a, ty, lanes)
            }
            BinaryOp::Max => {
                let less = self.compare(CompareOp::Lt, DType::F32, a, b);
                self.select(less, b, a, ty, lanes)
            }
            BinaryOp::Pow => unreachable!("library operations are expanded before"),
            _ => unreachable!("verified functions are well typed: float {op}"),
        }
    }

    fn bit_binary(&mut self, op: BinaryOp, a: Value, b: Value) -> Value {
        match op {
            BinaryOp::And => self.b.ins().band(a, b),
            BinaryOp::Or => self.b.ins().bor(a, b),
            BinaryOp::Xor => self.b.ins().bxor(a, b),
            _ => unreachable!("verified functions are well typed: bitwise {op}"),
        }
    }

    fn integer_binary(
        &mut self,
        op: BinaryOp,
        signed: bool,
        a: Value,
        b: Value,
        constant: Option<u32>,
        lanes: Lanes,
    ) -> Value {
        match op {
            BinaryOp::Add => self.b.ins().iadd(a, b),
            BinaryOp::Sub => self.b.ins().isub(a, b),
            BinaryOp::Mul => self.b.ins().imul(a, b),
            BinaryOp::Div => self.each_lane(lanes, &[a, b], |g, v| g.divide(signed, v[0], v[1])),
            BinaryOp::Rem => self.each_lane(lanes, &[a, b], |g, v| g.remainder(signed, v[0], v[1])),
            BinaryOp::Min if signed => self.b.ins().smin(a, b),
            BinaryOp::Min => self.b.ins().umin(a, b),
            BinaryOp::Max if signed => self.b.ins().smax(a, b),
            BinaryOp::Max => self.b.ins().umax(a, b),
            BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => self.bit_binary(op, a, b),
            BinaryOp::Shl | BinaryOp::Shr => match constant {
                // CLIF shifts all lanes by one scalar, taken modulo the width as LN1 asks.
                Some(amount) => {
                    let amount = self.b.ins().iconst(types::I32, i64::from(amount & 31));
                    self.shift(op, signed, a, amount)
                }
                None => self.each_lane(lanes, &[a, b], |g, v| g.shift(op, signed, v[0], v[1])),
            },
            BinaryOp::Pow => unreachable!("verified functions are well typed: integer {op}"),
        }
    }

    fn shift(&mut self, op: BinaryOp, signed: bool, a: Value, amount: Value) -> Value {
        match op {
            BinaryOp::Shl => self.b.ins().ishl(a, amount),
            _ if signed => self.b.ins().sshr(a, amount),
            _ => self.b.ins().ushr(a, amount),
        }
    }

    /// x/0 = x and MIN/-1 = MIN: division by 1 and by negation, since the instruction traps there.
    fn divide(&mut self, signed: bool, a: Value, b: Value) -> Value {
        let (safe, minus_one) = self.safe_divisor(signed, b);
        match minus_one {
            Some(minus_one) => {
                let quotient = self.b.ins().sdiv(a, safe);
                let negated = self.b.ins().ineg(a);
                self.b.ins().select(minus_one, negated, quotient)
            }
            None => self.b.ins().udiv(a, safe),
        }
    }

    /// x%0 = 0 and x%-1 = 0, both of which x%1 gives.
    fn remainder(&mut self, signed: bool, a: Value, b: Value) -> Value {
        let (safe, _) = self.safe_divisor(signed, b);
        if signed { self.b.ins().srem(a, safe) } else { self.b.ins().urem(a, safe) }
    }

    /// The divisor with 0 (and -1, if signed) replaced by 1, and whether it was -1.
    fn safe_divisor(&mut self, signed: bool, b: Value) -> (Value, Option<Value>) {
        let one = self.b.ins().iconst(types::I32, 1);
        let zero = self.b.ins().icmp_imm_u(IntCC::Equal, b, 0);
        if !signed {
            return (self.b.ins().select(zero, one, b), None);
        }
        let minus_one = self.b.ins().icmp_imm_s(IntCC::Equal, b, -1);
        let special = self.b.ins().bor(zero, minus_one);
        (self.b.ins().select(special, one, b), Some(minus_one))
    }

    fn compare(&mut self, op: CompareOp, dtype: DType, a: Value, b: Value) -> Value {
        if dtype == DType::F32 {
            let condition = match op {
                CompareOp::Eq => FloatCC::Equal,
                // CLIF's NotEqual is true for NaN, as LN1's is.
                CompareOp::Ne => FloatCC::NotEqual,
                CompareOp::Lt => FloatCC::LessThan,
                CompareOp::Le => FloatCC::LessThanOrEqual,
                CompareOp::Gt => FloatCC::GreaterThan,
                CompareOp::Ge => FloatCC::GreaterThanOrEqual,
            };
            return self.b.ins().fcmp(condition, a, b);
        }
        let signed = dtype == DType::I32;
        let condition = match op {
            CompareOp::Eq => IntCC::Equal,
            CompareOp::Ne => IntCC::NotEqual,
            CompareOp::Lt if signed => IntCC::SignedLessThan,
            CompareOp::Lt => IntCC::UnsignedLessThan,
            CompareOp::Le if signed => IntCC::SignedLessThanOrEqual,
            CompareOp::Le => IntCC::UnsignedLessThanOrEqual,
            CompareOp::Gt if signed => IntCC::SignedGreaterThan,
            CompareOp::Gt => IntCC::UnsignedGreaterThan,
            CompareOp::Ge if signed => IntCC::SignedGreaterThanOrEqual,
            CompareOp::Ge => IntCC::UnsignedGreaterThanOrEqual,
        };
        self.b.ins().icmp(condition, a, b)
    }

    fn select(&mut self, condition: Value, a: Value, b: Value, ty: Type, lanes: Lanes) -> Value {
        match lanes {
            Lanes::One => self.b.ins().select(condition, a, b),
            Lanes::Four => {
                let mask = self.bitcast(ty, condition);
                self.b.ins().bitselect(mask, a, b)
            }
        }
    }

    /// The same bits as another type of the same size.
    pub(crate) fn bitcast(&mut self, ty: Type, value: Value) -> Value {
        if self.b.func.dfg.value_type(value) == ty {
            return value;
        }
        // Between vectors of equal lanes the byte order doesn't matter, but CLIF asks for one.
        let flags = MemFlagsData::new().with_endianness(Endianness::Little);
        let flags = if ty.is_vector() { flags } else { MemFlagsData::new() };
        self.b.ins().bitcast(ty, flags, value)
    }

    fn convert(&mut self, from: DType, to: DType, a: Value, lanes: Lanes) -> Value {
        match (from, to) {
            (from, to) if from == to => a,
            (DType::F32, DType::Bool) => {
                let zero = self.constant(DType::F32, 0, lanes);
                self.b.ins().fcmp(FloatCC::NotEqual, a, zero)
            }
            (_, DType::Bool) => self.nonzero(a, lanes),
            (DType::Bool, to) => {
                let integer = self.bool_to_memory(a, lanes);
                if to == DType::F32 { self.convert(DType::I32, DType::F32, integer, lanes) } else { integer }
            }
            // The saturating forms are LN1's: truncation, the type's own limits, 0 for NaN.
            (DType::F32, DType::I32) => self.b.ins().fcvt_to_sint_sat(lanes.value_type(to), a),
            (DType::F32, DType::U32) => self.b.ins().fcvt_to_uint_sat(lanes.value_type(to), a),
            (DType::I32, DType::F32) => self.b.ins().fcvt_from_sint(lanes.value_type(to), a),
            (DType::U32, DType::F32) => self.b.ins().fcvt_from_uint(lanes.value_type(to), a),
            _ => a,
        }
    }

    /// Integers that are not zero, as bools.
    pub(crate) fn nonzero(&mut self, a: Value, lanes: Lanes) -> Value {
        let zero = self.constant(DType::U32, 0, lanes);
        self.b.ins().icmp(IntCC::NotEqual, a, zero)
    }

    /// Bools as integers of 0 and 1.
    pub(crate) fn bool_to_memory(&mut self, a: Value, lanes: Lanes) -> Value {
        match lanes {
            Lanes::One => self.b.ins().uextend(types::I32, a),
            Lanes::Four => {
                let one = self.constant(DType::U32, 1, lanes);
                self.b.ins().band(a, one)
            }
        }
    }

    /// An integer operation that CLIF or the processor lacks on vectors: lane by lane.
    fn each_lane(&mut self, lanes: Lanes, operands: &[Value], op: impl Fn(&mut Self, &[Value]) -> Value) -> Value {
        if lanes == Lanes::One {
            return op(self, operands);
        }
        let mut results = [operands[0]; 4];
        for (lane, result) in results.iter_mut().enumerate() {
            let scalars: Vec<Value> =
                operands.iter().map(|&operand| self.b.ins().extractlane(operand, lane as u8)).collect();
            *result = op(self, &scalars);
        }
        self.gather(results)
    }

    /// Four scalars as a vector.
    pub(crate) fn gather(&mut self, scalars: [Value; 4]) -> Value {
        let ty = self.b.func.dfg.value_type(scalars[0]).by(4).unwrap_or(types::I32X4);
        let mut vector = self.b.ins().scalar_to_vector(ty, scalars[0]);
        for (lane, &scalar) in scalars.iter().enumerate().skip(1) {
            vector = self.b.ins().insertlane(vector, scalar, lane as u8);
        }
        vector
    }
}
