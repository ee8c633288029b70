//! Formulas of 32-bit words: each operator adds an instruction to the program under construction.

use std::cell::RefCell;
use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Not, Shl, Shr, Sub};

use crate::kernel::scalar::{BinaryOp, CompareOp, ScalarFn, ScalarFnBuilder, UnaryOp, Value};
use crate::types::DType;

/// A value of type `u32`.
#[derive(Clone, Copy)]
pub(super) struct Word<'a> {
    program: &'a RefCell<ScalarFnBuilder>,
    value: Value,
}

/// A value of type `bool`.
#[derive(Clone, Copy)]
pub(super) struct Flag<'a> {
    program: &'a RefCell<ScalarFnBuilder>,
    value: Value,
}

/// The program of a formula of one word. A parameter or result of another type is the word's bits.
pub(super) fn unary(param: DType, result: DType, formula: for<'a> fn(Word<'a>) -> Word<'a>) -> ScalarFn {
    let program = RefCell::new(ScalarFnBuilder::new());
    let x = parameter(&program, param);
    let value = formula(x).as_type(result);
    program.into_inner().finish(value)
}

/// The program of a formula of two words.
pub(super) fn binary(formula: for<'a> fn(Word<'a>, Word<'a>) -> Word<'a>) -> ScalarFn {
    let program = RefCell::new(ScalarFnBuilder::new());
    let (a, b) = parameters(&program);
    let value = formula(a, b).value;
    program.into_inner().finish(value)
}

/// The program of a relation of two words.
pub(super) fn relation(formula: for<'a> fn(Word<'a>, Word<'a>) -> Flag<'a>) -> ScalarFn {
    let program = RefCell::new(ScalarFnBuilder::new());
    let (a, b) = parameters(&program);
    let value = formula(a, b).value;
    program.into_inner().finish(value)
}

fn parameters(program: &RefCell<ScalarFnBuilder>) -> (Word<'_>, Word<'_>) {
    let value = program.borrow_mut().param(DType::U32);
    let second = program.borrow_mut().param(DType::U32);
    (Word { program, value }, Word { program, value: second })
}

fn parameter(program: &RefCell<ScalarFnBuilder>, ty: DType) -> Word<'_> {
    let mut builder = program.borrow_mut();
    let value = builder.param(ty);
    let value = if ty == DType::U32 { value } else { builder.bitcast(DType::U32, value) };
    drop(builder);
    Word { program, value }
}

/// A word, or the constant that a formula names.
pub(super) trait Operand<'a> {
    /// Its value in a program.
    fn value(self, program: &'a RefCell<ScalarFnBuilder>) -> Value;
}

impl<'a> Operand<'a> for Word<'a> {
    fn value(self, _: &'a RefCell<ScalarFnBuilder>) -> Value {
        self.value
    }
}

impl<'a> Operand<'a> for u32 {
    fn value(self, program: &'a RefCell<ScalarFnBuilder>) -> Value {
        program.borrow_mut().u32(self)
    }
}

macro_rules! operators {
    ($($name:ident $method:ident $op:ident),+) => {
        $(impl<'a, R: Operand<'a>> $name<R> for Word<'a> {
            type Output = Word<'a>;

            fn $method(self, rhs: R) -> Word<'a> {
                self.binary(BinaryOp::$op, rhs)
            }
        })+
    };
}

operators!(Add add Add, Sub sub Sub, Mul mul Mul, Div div Div, Shl shl Shl, Shr shr Shr);
operators!(BitAnd bitand And, BitOr bitor Or, BitXor bitxor Xor);

impl<'a> Not for Word<'a> {
    type Output = Word<'a>;

    fn not(self) -> Word<'a> {
        self.unary(UnaryOp::Not)
    }
}

impl<'a> Word<'a> {
    fn unary(self, op: UnaryOp) -> Word<'a> {
        Word { value: self.program.borrow_mut().unary(op, self.value), ..self }
    }

    fn binary(self, op: BinaryOp, rhs: impl Operand<'a>) -> Word<'a> {
        let rhs = rhs.value(self.program);
        Word { value: self.program.borrow_mut().binary(op, self.value, rhs), ..self }
    }

    /// An operation on the words as two's complement numbers.
    fn signed(self, op: BinaryOp, rhs: impl Operand<'a>) -> Word<'a> {
        let rhs = rhs.value(self.program);
        let mut builder = self.program.borrow_mut();
        let [a, b] = [self.value, rhs].map(|value| builder.bitcast(DType::I32, value));
        let result = builder.binary(op, a, b);
        Word { value: builder.bitcast(DType::U32, result), ..self }
    }

    fn compare(self, op: CompareOp, rhs: impl Operand<'a>) -> Flag<'a> {
        let rhs = rhs.value(self.program);
        Flag { program: self.program, value: self.program.borrow_mut().compare(op, self.value, rhs) }
    }

    fn as_type(self, ty: DType) -> Value {
        if ty == DType::U32 { self.value } else { self.program.borrow_mut().bitcast(ty, self.value) }
    }

    /// A constant of the same program.
    pub fn constant(self, bits: u32) -> Word<'a> {
        Word { value: bits.value(self.program), ..self }
    }

    /// The quotient of two's complement numbers, truncated.
    pub fn div_signed(self, rhs: impl Operand<'a>) -> Word<'a> {
        self.signed(BinaryOp::Div, rhs)
    }

    /// The lesser.
    pub fn min(self, rhs: impl Operand<'a>) -> Word<'a> {
        self.binary(BinaryOp::Min, rhs)
    }

    /// The greater.
    pub fn max(self, rhs: impl Operand<'a>) -> Word<'a> {
        self.binary(BinaryOp::Max, rhs)
    }

    /// The greater of two's complement numbers.
    pub fn max_signed(self, rhs: impl Operand<'a>) -> Word<'a> {
        self.signed(BinaryOp::Max, rhs)
    }

    /// All ones where the top bit is set, else 0.
    pub fn sign_mask(self) -> Word<'a> {
        self.signed(BinaryOp::Shr, 31)
    }

    /// Leading zero bits.
    pub fn leading_zeros(self) -> Word<'a> {
        self.unary(UnaryOp::LeadingZeros)
    }

    /// 1 where any bit is set, else 0.
    pub fn any(self) -> Word<'a> {
        self.min(1)
    }

    /// `==`.
    pub fn eq(self, rhs: impl Operand<'a>) -> Flag<'a> {
        self.compare(CompareOp::Eq, rhs)
    }

    /// `<`.
    pub fn lt(self, rhs: impl Operand<'a>) -> Flag<'a> {
        self.compare(CompareOp::Lt, rhs)
    }

    /// `<=`.
    pub fn le(self, rhs: impl Operand<'a>) -> Flag<'a> {
        self.compare(CompareOp::Le, rhs)
    }

    /// `>`.
    pub fn gt(self, rhs: impl Operand<'a>) -> Flag<'a> {
        self.compare(CompareOp::Gt, rhs)
    }

    /// `>=`.
    pub fn ge(self, rhs: impl Operand<'a>) -> Flag<'a> {
        self.compare(CompareOp::Ge, rhs)
    }

    /// `<` of two's complement numbers.
    pub fn lt_signed(self, rhs: Word<'a>) -> Flag<'a> {
        self.compare_signed(CompareOp::Lt, rhs)
    }

    /// `<=` of two's complement numbers.
    pub fn le_signed(self, rhs: Word<'a>) -> Flag<'a> {
        self.compare_signed(CompareOp::Le, rhs)
    }

    fn compare_signed(self, op: CompareOp, rhs: Word<'a>) -> Flag<'a> {
        let mut builder = self.program.borrow_mut();
        let [a, b] = [self.value, rhs.value].map(|value| builder.bitcast(DType::I32, value));
        Flag { program: self.program, value: builder.compare(op, a, b) }
    }
}

impl<'a> Flag<'a> {
    /// `if self { then } else { otherwise }`.
    pub fn select(self, then: impl Operand<'a>, otherwise: impl Operand<'a>) -> Word<'a> {
        let (then, otherwise) = (then.value(self.program), otherwise.value(self.program));
        Word { program: self.program, value: self.program.borrow_mut().select(self.value, then, otherwise) }
    }

    /// 1 or 0.
    pub fn as_word(self) -> Word<'a> {
        Word { program: self.program, value: self.program.borrow_mut().convert(DType::U32, self.value) }
    }
}

impl<'a> BitAnd for Flag<'a> {
    type Output = Flag<'a>;

    fn bitand(self, rhs: Flag<'a>) -> Flag<'a> {
        Flag { value: self.program.borrow_mut().binary(BinaryOp::And, self.value, rhs.value), ..self }
    }
}

impl<'a> BitOr for Flag<'a> {
    type Output = Flag<'a>;

    fn bitor(self, rhs: Flag<'a>) -> Flag<'a> {
        Flag { value: self.program.borrow_mut().binary(BinaryOp::Or, self.value, rhs.value), ..self }
    }
}
