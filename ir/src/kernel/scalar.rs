//! Scalar functions: what a fused kernel does to each element.
//!
//! A [`ScalarFn`] is a straight-line list of instructions in SSA form over values of 32 or 64 bits. Every instruction is exact in
//! the sense of LN1: its result bits are defined for all operand bits (up to the payload of a NaN, which nothing
//! observable may depend on). The instructions come in three groups:
//!
//! - **primitive**: IEEE add, sub, mul, comparisons, select, integer operations, bit casts and conversions;
//! - **exact**: div, sqrt, min, max, rounding and saturating conversion. Their result is fully specified, so a backend
//!   may use an instruction of its device that is known to give it, or expand them with [`crate::numerics::expand`];
//! - **library**: exp, tanh and the rest. Their *definition* is the straight-line program in
//!   [`crate::numerics::library`], for each type its own; every backend expands that same program.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::types::DType;

/// Declares an operation enum once: variants, names, and the list that parsers and tests walk.
macro_rules! operations {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$doc])* $variant),+ }

        impl $name {
            /// Every operation, in declaration order.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The name in text and messages.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }

            /// The operation with this [`name`](Self::name).
            pub fn from_name(name: &str) -> Option<$name> {
                $name::ALL.iter().copied().find(|op| op.name() == name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

operations! {
    /// One operand, result of the same type (but see [`UnaryOp::LeadingZeros`]).
    UnaryOp {
        /// Float: flips the sign bit. Integer: two's complement negation, wrapping.
        Neg = "neg",
        /// Float: clears the sign bit. Signed integer: wrapping absolute value.
        Abs = "abs",
        /// Integer: bitwise complement. Bool: negation.
        Not = "not",
        /// Leading zero bits of a `u32`; 32 for zero.
        LeadingZeros = "leading_zeros",
        /// Largest integer not above; the sign of a zero result is the operand's.
        Floor = "floor",
        /// Smallest integer not below; the sign of a zero result is the operand's.
        Ceil = "ceil",
        /// Nearest integer, ties to even; the sign of a zero result is the operand's.
        Round = "round",
        /// Integer part; the sign of a zero result is the operand's.
        Trunc = "trunc",
        /// Correctly rounded square root.
        Sqrt = "sqrt",
        /// Library: 1/sqrt(x).
        Rsqrt = "rsqrt",
        /// Library: e^x.
        Exp = "exp",
        /// Library: 2^x.
        Exp2 = "exp2",
        /// Library: natural logarithm.
        Log = "log",
        /// Library: logarithm to the base 2.
        Log2 = "log2",
        /// Library: ln(1 + x).
        Log1p = "log1p",
        /// Library: e^x - 1.
        Expm1 = "expm1",
        /// Library: hyperbolic tangent.
        Tanh = "tanh",
        /// Library: 1/(1 + e^-x).
        Sigmoid = "sigmoid",
        /// Library: the error function.
        Erf = "erf",
        /// Library: sine.
        Sin = "sin",
        /// Library: cosine.
        Cos = "cos",
        /// Library: the nearest number of the format f16, as `f32`; too large ones become infinite.
        RoundF16 = "round_f16",
        /// Library: the nearest number of the format bf16, as `f32`; too large ones become infinite.
        RoundBf16 = "round_bf16",
        /// Library: the nearest number of the format f8 (E4M3), as `f32`; too large ones become 448.
        RoundF8 = "round_f8",
        /// Library: the nearest number of the format f4 (E2M1), as `f32`; too large ones become 6, NaN 0.
        RoundF4 = "round_f4",
    }
}

impl UnaryOp {
    /// Whether [`crate::numerics::library`] defines the operation.
    pub const fn is_library(self) -> bool {
        matches!(
            self,
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
                | UnaryOp::RoundF4
        )
    }
}

operations! {
    /// Two operands and a result, all of one type.
    BinaryOp {
        /// IEEE sum, or wrapping integer sum.
        Add = "add",
        /// IEEE difference, or wrapping integer difference.
        Sub = "sub",
        /// IEEE product, or wrapping integer product.
        Mul = "mul",
        /// Correctly rounded quotient. Integer: truncated; x/0 = x and MIN/-1 = MIN.
        Div = "div",
        /// Integer remainder with the dividend's sign; x%0 = 0 and MIN%-1 = 0.
        Rem = "rem",
        /// `if b < a { b } else { a }`.
        Min = "min",
        /// `if a < b { b } else { a }`.
        Max = "max",
        /// Integer or bool: bitwise and.
        And = "and",
        /// Integer or bool: bitwise or.
        Or = "or",
        /// Integer or bool: bitwise exclusive or.
        Xor = "xor",
        /// Integer: left shift by the second operand's low 5 bits, 6 of a type of 64.
        Shl = "shl",
        /// Integer: right shift by the second operand's low 5 bits, 6 of a type of 64; arithmetic for signed ones.
        Shr = "shr",
        /// Library: the first operand to the power of the second.
        Pow = "pow",
    }
}

impl BinaryOp {
    /// Whether [`crate::numerics::library`] defines the operation.
    pub const fn is_library(self) -> bool {
        matches!(self, BinaryOp::Pow)
    }
}

operations! {
    /// Two operands of one type, bool result. A comparison with NaN is false, except `ne`, which is `not eq`.
    CompareOp {
        /// Equal.
        Eq = "eq",
        /// Not equal.
        Ne = "ne",
        /// Less.
        Lt = "lt",
        /// Less or equal.
        Le = "le",
        /// Greater.
        Gt = "gt",
        /// Greater or equal.
        Ge = "ge",
    }
}

/// A value of a [`ScalarFn`]: its parameters come first, then one value an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Value(pub u32);

impl Value {
    /// Position in [`ScalarFn::types`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// One instruction; operands are earlier values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inst {
    /// A constant, by its bits: the low ones, the others are 0. Bool is 0 or 1.
    Const(DType, u64),
    /// One operand.
    Unary(UnaryOp, Value),
    /// Two operands of one type.
    Binary(BinaryOp, Value, Value),
    /// Two operands of one type, bool result.
    Compare(CompareOp, Value, Value),
    /// `if condition { then } else { otherwise }`: condition, then, otherwise.
    Select(Value, Value, Value),
    /// The same bits as another type of the same size. The payload of a NaN read this way is unspecified: a function whose result
    /// would depend on it isn't well defined (see [`crate::numerics`]).
    Bitcast(DType, Value),
    /// Conversion by value. Integer to float rounds to nearest even; float to integer truncates, saturates, and gives 0
    /// for NaN; a float to a narrower one rounds to nearest even; an integer to another wraps, and a signed one extends its
    /// sign; bool gives 0 or 1; to bool is `!= 0`.
    Convert(DType, Value),
}

impl Inst {
    /// The operands, in order.
    pub fn operands(&self) -> impl Iterator<Item = Value> + use<> {
        let list = match *self {
            Inst::Const(..) => [None, None, None],
            Inst::Unary(_, a) | Inst::Bitcast(_, a) | Inst::Convert(_, a) => [Some(a), None, None],
            Inst::Binary(_, a, b) | Inst::Compare(_, a, b) => [Some(a), Some(b), None],
            Inst::Select(c, a, b) => [Some(c), Some(a), Some(b)],
        };
        list.into_iter().flatten()
    }

    /// The same instruction on other operands.
    #[must_use]
    pub fn map_operands(self, mut map: impl FnMut(Value) -> Value) -> Inst {
        match self {
            Inst::Const(..) => self,
            Inst::Unary(op, a) => Inst::Unary(op, map(a)),
            Inst::Bitcast(ty, a) => Inst::Bitcast(ty, map(a)),
            Inst::Convert(ty, a) => Inst::Convert(ty, map(a)),
            Inst::Binary(op, a, b) => {
                let a = map(a);
                Inst::Binary(op, a, map(b))
            }
            Inst::Compare(op, a, b) => {
                let a = map(a);
                Inst::Compare(op, a, map(b))
            }
            Inst::Select(c, a, b) => {
                let c = map(c);
                let a = map(a);
                Inst::Select(c, a, map(b))
            }
        }
    }

    /// The result's type for operands of the types that `type_of` tells, or why there's none.
    pub fn result_type(&self, type_of: impl Fn(Value) -> DType) -> Result<DType, ScalarTypeError> {
        let error = || ScalarTypeError { inst: self.name(), operands: self.operands().map(&type_of).collect() };
        match *self {
            Inst::Const(ty, bits) => {
                if ty == DType::Bool && bits > 1 || !ty.is_wide() && bits > u64::from(u32::MAX) {
                    Err(error())
                } else {
                    Ok(ty)
                }
            }
            Inst::Unary(op, a) => unary_type(op, type_of(a)).ok_or_else(error),
            Inst::Binary(op, a, b) => {
                let ty = type_of(a);
                if ty == type_of(b) && binary_accepts(op, ty) { Ok(ty) } else { Err(error()) }
            }
            Inst::Compare(op, a, b) => {
                let ty = type_of(a);
                let ordered = !matches!(op, CompareOp::Eq | CompareOp::Ne);
                if ty == type_of(b) && !(ordered && ty == DType::Bool) { Ok(DType::Bool) } else { Err(error()) }
            }
            Inst::Select(c, a, b) => {
                if type_of(c) == DType::Bool && type_of(a) == type_of(b) {
                    Ok(type_of(a))
                } else {
                    Err(error())
                }
            }
            Inst::Bitcast(ty, a) => {
                let from = type_of(a);
                if ty != DType::Bool && from != DType::Bool && ty.is_wide() == from.is_wide() {
                    Ok(ty)
                } else {
                    Err(error())
                }
            }
            Inst::Convert(ty, _) => Ok(ty),
        }
    }

    /// The operation's name in text and messages.
    pub fn name(&self) -> String {
        match self {
            Inst::Const(..) => "const".to_string(),
            Inst::Unary(op, _) => op.to_string(),
            Inst::Binary(op, ..) => op.to_string(),
            Inst::Compare(op, ..) => op.to_string(),
            Inst::Select(..) => "select".to_string(),
            Inst::Bitcast(ty, _) => format!("bitcast_{ty}"),
            Inst::Convert(ty, _) => format!("convert_{ty}"),
        }
    }
}

/// The type that a unary operation gives for an operand type, if it takes it.
pub fn unary_type(op: UnaryOp, ty: DType) -> Option<DType> {
    let accepted = match op {
        UnaryOp::Neg | UnaryOp::Abs => ty.is_float() || ty.is_signed(),
        UnaryOp::Not => !ty.is_float(),
        UnaryOp::LeadingZeros => ty == DType::U32,
        UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Trunc | UnaryOp::Sqrt => ty.is_float(),
        _ => ty == DType::F32 || ty == DType::F64 && crate::numerics::library::has_f64(op),
    };
    accepted.then_some(ty)
}

/// Whether a binary operation takes operands of this type.
pub fn binary_accepts(op: BinaryOp, ty: DType) -> bool {
    match op {
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Min | BinaryOp::Max => {
            ty != DType::Bool
        }
        BinaryOp::Rem | BinaryOp::Shl | BinaryOp::Shr => ty.is_integer(),
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => !ty.is_float(),
        BinaryOp::Pow => ty == DType::F32,
    }
}

/// An operation does not take operands of these types.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{inst}` does not take operands of types {operands:?}")]
pub struct ScalarTypeError {
    /// The operation.
    pub inst: String,
    /// The operands' types.
    pub operands: Vec<DType>,
}

/// A straight-line function of scalars with one result.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ScalarFn {
    /// Parameter types: the values `v0 ..`.
    pub params: Vec<DType>,
    /// One value an instruction, after the parameters.
    pub insts: Vec<Inst>,
    /// The value given back.
    pub result: Value,
}

impl ScalarFn {
    /// The function that gives its only parameter back.
    pub fn identity(ty: DType) -> ScalarFn {
        ScalarFn { params: vec![ty], insts: Vec::new(), result: Value(0) }
    }

    /// Whether it is [`ScalarFn::identity`].
    pub fn is_identity(&self) -> bool {
        self.params.len() == 1 && self.insts.is_empty()
    }

    /// The instruction that makes a value; `None` for a parameter.
    pub fn inst(&self, value: Value) -> Option<&Inst> {
        value.index().checked_sub(self.params.len()).and_then(|index| self.insts.get(index))
    }

    /// The value that instruction number `index` makes.
    pub fn value_of(&self, index: usize) -> Value {
        Value((self.params.len() + index) as u32)
    }

    /// The type of every value, parameters first; an error where an instruction takes no such operands or names a value
    /// that isn't an earlier one.
    pub fn types(&self) -> Result<Vec<DType>, ScalarFnError> {
        let mut types = self.params.clone();
        for inst in &self.insts {
            let here = Value(types.len() as u32);
            if let Some(value) = inst.operands().find(|value| value.index() >= types.len()) {
                return Err(ScalarFnError::Forward { inst: here, operand: value });
            }
            let ty = inst
                .result_type(|value| types[value.index()])
                .map_err(|source| ScalarFnError::Type { inst: here, source })?;
            types.push(ty);
        }
        if self.result.index() >= types.len() {
            return Err(ScalarFnError::Forward { inst: self.result, operand: self.result });
        }
        Ok(types)
    }

    /// Whether a value has 64 bits, of a well-typed function.
    pub fn is_wide(&self) -> bool {
        // A value of 64 bits is a parameter, or made of one, or of a constant or a conversion that says so.
        let makes = |inst: &Inst| matches!(*inst, Inst::Const(ty, _) | Inst::Convert(ty, _) if ty.is_wide());
        self.params.iter().any(|ty| ty.is_wide()) || self.insts.iter().any(makes)
    }

    /// The result's type. The function must be well typed.
    pub fn result_type(&self) -> Result<DType, ScalarFnError> {
        Ok(self.types()?[self.result.index()])
    }
}

/// Why a scalar function is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScalarFnError {
    /// An operand that is no earlier value.
    #[error("{inst} uses {operand}, which is not an earlier value")]
    Forward {
        /// The instruction.
        inst: Value,
        /// What it names.
        operand: Value,
    },
    /// Operands of the wrong types.
    #[error("{inst}: {source}")]
    Type {
        /// The instruction.
        inst: Value,
        /// What's wrong.
        source: ScalarTypeError,
    },
}

impl fmt::Display for ScalarFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (index, ty) in self.params.iter().enumerate() {
            write!(f, "{}{}: {ty}", if index > 0 { ", " } else { "" }, Value(index as u32))?;
        }
        f.write_str(") {")?;
        for (index, inst) in self.insts.iter().enumerate() {
            let value = self.value_of(index);
            match *inst {
                Inst::Const(DType::F32, bits) => write!(f, " {value} = f32 {};", FloatBits(bits as u32))?,
                Inst::Const(DType::F64, bits) => write!(f, " {value} = f64 {};", DoubleBits(bits))?,
                Inst::Const(DType::I32, bits) => write!(f, " {value} = i32 {};", bits as i32)?,
                Inst::Const(DType::I64, bits) => write!(f, " {value} = i64 {};", bits as i64)?,
                Inst::Const(ty, bits) => write!(f, " {value} = {ty} {bits};")?,
                _ => {
                    write!(f, " {value} = {}", inst.name())?;
                    for (position, operand) in inst.operands().enumerate() {
                        write!(f, "{}{operand}", if position > 0 { ", " } else { " " })?;
                    }
                    f.write_str(";")?;
                }
            }
        }
        write!(f, " {} }}", self.result)
    }
}

/// Prints an `f32` so that it reads back to the same bits: the shortest decimal, or the bits of a NaN.
pub struct FloatBits(pub u32);

impl fmt::Display for FloatBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = f32::from_bits(self.0);
        if value.is_nan() { write!(f, "nan:{:08x}", self.0) } else { write!(f, "{value:?}") }
    }
}

/// The same for an `f64`.
pub struct DoubleBits(pub u64);

impl fmt::Display for DoubleBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = f64::from_bits(self.0);
        if value.is_nan() { write!(f, "nan:{:016x}", self.0) } else { write!(f, "{value:?}") }
    }
}

/// Builds a [`ScalarFn`]. Equal instructions become one value.
#[derive(Debug, Clone, Default)]
pub struct ScalarFnBuilder {
    types: Vec<DType>,
    params: usize,
    insts: Vec<Inst>,
    known: BTreeMap<Inst, Value>,
}

impl ScalarFnBuilder {
    /// A function without parameters so far.
    pub fn new() -> ScalarFnBuilder {
        ScalarFnBuilder::default()
    }

    /// Adds a parameter. All parameters come before the first instruction.
    pub fn param(&mut self, ty: DType) -> Value {
        assert!(self.insts.is_empty(), "parameters come before instructions");
        self.params += 1;
        self.types.push(ty);
        Value(self.types.len() as u32 - 1)
    }

    /// The type of a value made by this builder.
    pub fn type_of(&self, value: Value) -> DType {
        self.types[value.index()]
    }

    /// Adds an instruction, or finds the equal one.
    ///
    /// # Panics
    /// Where the operands' types don't fit: the compiler's own mistake.
    pub fn inst(&mut self, inst: Inst) -> Value {
        if let Some(&value) = self.known.get(&inst) {
            return value;
        }
        let ty = match inst.result_type(|value| self.types[value.index()]) {
            Ok(ty) => ty,
            Err(error) => panic!("{error}"),
        };
        self.types.push(ty);
        self.insts.push(inst);
        let value = Value(self.types.len() as u32 - 1);
        self.known.insert(inst, value);
        value
    }

    /// Adds another function's instructions, applied to `args`; gives its result.
    pub fn call(&mut self, function: &ScalarFn, args: &[Value]) -> Value {
        assert_eq!(function.params.len(), args.len(), "one argument a parameter");
        let mut values = args.to_vec();
        for inst in &function.insts {
            let value = self.inst(inst.map_operands(|operand| values[operand.index()]));
            values.push(value);
        }
        values[function.result.index()]
    }

    /// The function that gives `result` back, without the instructions it does not need.
    pub fn finish(self, result: Value) -> ScalarFn {
        let mut needed = vec![false; self.types.len()];
        needed[result.index()] = true;
        for index in (0..self.insts.len()).rev() {
            if needed[self.params + index] {
                for operand in self.insts[index].operands() {
                    needed[operand.index()] = true;
                }
            }
        }
        let mut renamed: Vec<Value> = (0..self.params as u32).map(Value).collect();
        let mut insts = Vec::new();
        for (index, inst) in self.insts.iter().enumerate() {
            renamed.push(Value((self.params + insts.len()) as u32));
            if needed[self.params + index] {
                insts.push(inst.map_operands(|operand| renamed[operand.index()]));
            }
        }
        ScalarFn { params: self.types[..self.params].to_vec(), insts, result: renamed[result.index()] }
    }

    /// An `f32` constant.
    pub fn f32(&mut self, value: f32) -> Value {
        self.inst(Inst::Const(DType::F32, value.to_bits().into()))
    }

    /// A `u32` constant.
    pub fn u32(&mut self, value: u32) -> Value {
        self.inst(Inst::Const(DType::U32, value.into()))
    }

    /// An `i32` constant.
    pub fn i32(&mut self, value: i32) -> Value {
        self.inst(Inst::Const(DType::I32, (value as u32).into()))
    }

    /// An `f64` constant.
    pub fn f64(&mut self, value: f64) -> Value {
        self.inst(Inst::Const(DType::F64, value.to_bits()))
    }

    /// A `u64` constant.
    pub fn u64(&mut self, value: u64) -> Value {
        self.inst(Inst::Const(DType::U64, value))
    }

    /// An `i64` constant.
    pub fn i64(&mut self, value: i64) -> Value {
        self.inst(Inst::Const(DType::I64, value as u64))
    }

    /// A unary operation.
    pub fn unary(&mut self, op: UnaryOp, a: Value) -> Value {
        self.inst(Inst::Unary(op, a))
    }

    /// A binary operation.
    pub fn binary(&mut self, op: BinaryOp, a: Value, b: Value) -> Value {
        self.inst(Inst::Binary(op, a, b))
    }

    /// A comparison.
    pub fn compare(&mut self, op: CompareOp, a: Value, b: Value) -> Value {
        self.inst(Inst::Compare(op, a, b))
    }

    /// `if condition { then } else { otherwise }`.
    pub fn select(&mut self, condition: Value, then: Value, otherwise: Value) -> Value {
        self.inst(Inst::Select(condition, then, otherwise))
    }

    /// The same bits as another type.
    pub fn bitcast(&mut self, ty: DType, a: Value) -> Value {
        self.inst(Inst::Bitcast(ty, a))
    }

    /// Conversion by value.
    pub fn convert(&mut self, ty: DType, a: Value) -> Value {
        self.inst(Inst::Convert(ty, a))
    }

    /// Sum.
    pub fn add(&mut self, a: Value, b: Value) -> Value {
        self.binary(BinaryOp::Add, a, b)
    }

    /// Difference.
    pub fn sub(&mut self, a: Value, b: Value) -> Value {
        self.binary(BinaryOp::Sub, a, b)
    }

    /// Product.
    pub fn mul(&mut self, a: Value, b: Value) -> Value {
        self.binary(BinaryOp::Mul, a, b)
    }

    /// Quotient.
    pub fn div(&mut self, a: Value, b: Value) -> Value {
        self.binary(BinaryOp::Div, a, b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_instructions_are_one_and_dead_ones_go() {
        let mut b = ScalarFnBuilder::new();
        let x = b.param(DType::F32);
        let one = b.f32(1.0);
        let sum = b.add(x, one);
        let _dead = b.mul(sum, sum);
        let again = b.add(x, one);
        assert_eq!(sum, again);
        let f = b.finish(again);
        assert_eq!(f.to_string(), "(v0: f32) { v1 = f32 1.0; v2 = add v0, v1; v2 }");
        assert_eq!(f.result_type(), Ok(DType::F32));
    }

    #[test]
    fn ill_typed_functions_are_refused() {
        let f = ScalarFn {
            params: vec![DType::F32, DType::U32],
            insts: vec![Inst::Binary(BinaryOp::Add, Value(0), Value(1))],
            result: Value(2),
        };
        assert!(matches!(f.types(), Err(ScalarFnError::Type { .. })));
        let g = ScalarFn { params: vec![], insts: vec![Inst::Unary(UnaryOp::Neg, Value(0))], result: Value(0) };
        assert!(matches!(g.types(), Err(ScalarFnError::Forward { .. })));
        // A constant has no bits beyond its type's, and a bit cast keeps the size.
        let one = |params: Vec<DType>, inst| ScalarFn { result: Value(params.len() as u32), params, insts: vec![inst] };
        for dtype in DType::SCALARS {
            let constant = one(vec![], Inst::Const(dtype, 1 << 32)).types();
            assert_eq!(constant.is_ok(), dtype.is_wide(), "{dtype}");
            let cast = one(vec![DType::F64], Inst::Bitcast(dtype, Value(0))).types();
            assert_eq!(cast.is_ok(), dtype.is_wide(), "{dtype}");
        }
    }

    #[test]
    fn names_round_trip() {
        assert!(UnaryOp::ALL.iter().all(|&op| UnaryOp::from_name(op.name()) == Some(op)));
        assert!(BinaryOp::ALL.iter().all(|&op| BinaryOp::from_name(op.name()) == Some(op)));
        assert!(CompareOp::ALL.iter().all(|&op| CompareOp::from_name(op.name()) == Some(op)));
    }
}
