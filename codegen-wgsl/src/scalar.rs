//! Scalar functions as WGSL statements.
//!
//! A primitive instruction is one line. Exact and library operations without a WGSL spelling that is exact are calls of
//! `loom_…` functions, which a module holds once each: see [`Operations`].

use std::collections::BTreeSet;

use loom_ir::kernel::scalar::{BinaryOp, CompareOp, Inst, ScalarFn, UnaryOp, Value};
use loom_ir::types::DType;

use crate::error::Error;
use crate::text::Text;

/// An operation that becomes a function of the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    /// Exact or library, of one `f32`.
    Unary(UnaryOp),
    /// Correctly rounded division.
    Div,
    /// Saturating conversion of an `f32`.
    ToInt(DType),
}

impl Operation {
    /// The function's name.
    fn name(self) -> String {
        match self {
            Operation::Unary(op) => format!("loom_{op}"),
            Operation::Div => "loom_div".to_string(),
            Operation::ToInt(dtype) => format!("loom_to_{dtype}"),
        }
    }

    /// Its straight-line definition, if it has one; the conversions are written by hand.
    fn definition(self) -> Option<&'static ScalarFn> {
        match self {
            Operation::Unary(op) => loom_ir::numerics::library::definition(op),
            Operation::Div | Operation::ToInt(_) => None,
        }
    }
}

/// The operations that a module calls, and their functions.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    used: BTreeSet<Operation>,
}

impl Operations {
    /// Writes a function for every operation used, and for those that these use, in the order of their names.
    pub fn define(mut self, text: &mut Text) -> Result<(), Error> {
        let mut written = BTreeSet::new();
        while let Some(&operation) = self.used.difference(&written).next() {
            written.insert(operation);
            match operation {
                Operation::ToInt(dtype) => to_int(text, dtype),
                _ => {
                    let definition = operation.definition().ok_or_else(|| {
                        Error::NoDefinition(operation.name().trim_start_matches("loom_").to_string())
                    })?;
                    let params: Vec<String> = (0..definition.params.len()).map(|n| format!("x{n}")).collect();
                    let list: Vec<String> = params.iter().map(|param| format!("{param}: f32")).collect();
                    text.open(format!("fn {}({}) -> f32", operation.name(), list.join(", ")));
                    let result = self.body(text, definition, &params)?;
                    text.line(format!("return {result};"));
                    text.close();
                }
            }
            text.line("");
        }
        Ok(())
    }

    /// Writes a function's instructions, one `let` each, and gives the name of its result.
    pub fn body(&mut self, text: &mut Text, function: &ScalarFn, params: &[String]) -> Result<String, Error> {
        let types = function.types().map_err(|error| Error::Invalid(error.to_string()))?;
        let name = |value: Value| match params.get(value.index()) {
            Some(param) => param.clone(),
            None => value.to_string(),
        };
        for (index, inst) in function.insts.iter().enumerate() {
            let value = name(function.value_of(index));
            match *inst {
                Inst::Const(dtype, bits) => constant(text, &value, dtype, bits),
                _ => {
                    let expression = self.expression(inst, &name, |value| types[value.index()]);
                    text.line(format!("let {value} = {expression};"));
                }
            }
        }
        Ok(name(function.result))
    }

    fn call(&mut self, operation: Operation, args: &[String]) -> String {
        self.used.insert(operation);
        format!("{}({})", operation.name(), args.join(", "))
    }

    fn expression(
        &mut self,
        inst: &Inst,
        name: &impl Fn(Value) -> String,
        type_of: impl Fn(Value) -> DType,
    ) -> String {
        match *inst {
            Inst::Const(..) => unreachable!("constants are statements"),
            Inst::Unary(op, a) => self.unary(op, type_of(a), &name(a)),
            Inst::Binary(op, a, b) => self.binary(op, type_of(a), &name(a), &name(b)),
            Inst::Compare(op, a, b) => compare(op, type_of(a), &name(a), &name(b)),
            Inst::Select(c, a, b) => format!("select({}, {}, {})", name(b), name(a), name(c)),
            Inst::Bitcast(to, a) if to == type_of(a) => name(a),
            Inst::Bitcast(to, a) => format!("bitcast<{to}>({})", name(a)),
            Inst::Convert(to, a) => self.convert(type_of(a), to, &name(a)),
        }
    }

    fn unary(&mut self, op: UnaryOp, ty: DType, a: &str) -> String {
        match (op, ty) {
            // Sign-bit operations (LN1 section 2), not arithmetic: a NaN keeps its place and nothing is flushed.
            (UnaryOp::Neg, DType::F32) => format!("bitcast<f32>(bitcast<u32>({a}) ^ 0x80000000u)"),
            (UnaryOp::Abs, DType::F32) => format!("bitcast<f32>(bitcast<u32>({a}) & 0x7fffffffu)"),
            (UnaryOp::Neg, _) => format!("-{a}"),
            (UnaryOp::Abs, _) => format!("select({a}, -{a}, {a} < 0i)"),
            (UnaryOp::Not, DType::Bool) => format!("!{a}"),
            (UnaryOp::Not, _) => format!("~{a}"),
            (UnaryOp::LeadingZeros, _) => format!("countLeadingZeros({a})"),
            _ => self.call(Operation::Unary(op), &[a.to_string()]),
        }
    }

    fn binary(&mut self, op: BinaryOp, ty: DType, a: &str, b: &str) -> String {
        let shift = || match ty {
            DType::I32 => format!("(bitcast<u32>({b}) & 31u)"),
            _ => format!("({b} & 31u)"),
        };
        match op {
            BinaryOp::Add => format!("{a} + {b}"),
            BinaryOp::Sub => format!("{a} - {b}"),
            BinaryOp::Mul => format!("{a} * {b}"),
            BinaryOp::Div if ty == DType::F32 => self.call(Operation::Div, &[a.to_string(), b.to_string()]),
            // WGSL defines x/0 = x, x%0 = 0 and MIN/-1 = MIN, as LN1 does.
            BinaryOp::Div => format!("{a} / {b}"),
            BinaryOp::Rem => format!("{a} % {b}"),
            BinaryOp::Min => format!("select({a}, {b}, {b} < {a})"),
            BinaryOp::Max => format!("select({a}, {b}, {a} < {b})"),
            BinaryOp::And => format!("{a} & {b}"),
            BinaryOp::Or => format!("{a} | {b}"),
            BinaryOp::Xor if ty == DType::Bool => format!("{a} != {b}"),
            BinaryOp::Xor => format!("{a} ^ {b}"),
            BinaryOp::Shl => format!("{a} << {}", shift()),
            BinaryOp::Shr => format!("{a} >> {}", shift()),
        }
    }

    fn convert(&mut self, from: DType, to: DType, a: &str) -> String {
        match (from, to) {
            (DType::F32, DType::F32) | (DType::I32, DType::I32) => a.to_string(),
            (DType::U32, DType::U32) | (DType::Bool, DType::Bool) => a.to_string(),
            // On the bits: a float `!=` is not to be had (naga makes it an ordered one).
            (DType::F32, DType::Bool) => format!("(bitcast<u32>({a}) & 0x7fffffffu) != 0u"),
            (DType::I32, DType::Bool) => format!("{a} != 0i"),
            (DType::U32, DType::Bool) => format!("{a} != 0u"),
            (DType::F32, DType::I32 | DType::U32) => self.call(Operation::ToInt(to), &[a.to_string()]),
            (DType::I32 | DType::U32 | DType::Bool, DType::F32) => format!("f32({a})"),
            (DType::Bool, DType::I32 | DType::U32) => format!("{to}({a})"),
            (DType::I32, DType::U32) | (DType::U32, DType::I32) => format!("bitcast<{to}>({a})"),
        }
    }
}

/// Declares a constant by its bits, behind a `let`: see the crate's documentation.
pub(crate) fn constant(text: &mut Text, name: &str, dtype: DType, bits: u32) {
    match dtype {
        DType::Bool => text.line(format!("let {name} = {};", bits != 0)),
        DType::U32 => text.line(format!("let {name} = {bits}u;")),
        DType::I32 => text.line(format!("let {name} = i32({});", bits as i32)),
        DType::F32 => {
            let value = loom_ir::kernel::scalar::FloatBits(bits);
            text.line(format!("let {name}_bits = 0x{bits:08x}u;"));
            text.line(format!("let {name} = bitcast<f32>({name}_bits); // {value}"));
        }
    }
}

fn compare(op: CompareOp, ty: DType, a: &str, b: &str) -> String {
    match op {
        CompareOp::Eq => format!("{a} == {b}"),
        CompareOp::Ne if ty == DType::F32 => format!("!({a} == {b})"),
        CompareOp::Ne => format!("{a} != {b}"),
        CompareOp::Lt => format!("{a} < {b}"),
        CompareOp::Le => format!("{a} <= {b}"),
        CompareOp::Gt => format!("{a} > {b}"),
        CompareOp::Ge => format!("{a} >= {b}"),
    }
}

/// The saturating conversion: the device's conversion sees only what it converts exactly, the rest is decided on the
/// bits. 0 stands in for what is out of range, NaN among it: compared as integers, NaN lies above infinity.
fn to_int(text: &mut Text, dtype: DType) {
    let (bits_of_bound, low, high) = match dtype {
        // 2^31 and 2^32.
        DType::I32 => ("0x4f000000u", "-2147483647i - 1i", "2147483647i"),
        _ => ("0x4f800000u", "0u", "4294967295u"),
    };
    text.open(format!("fn loom_to_{dtype}(x: f32) -> {dtype}"));
    text.line("let bits = bitcast<u32>(x);");
    text.line("let magnitude = bits & 0x7fffffffu;");
    text.line("let negative = bits > 0x7fffffffu;");
    match dtype {
        DType::I32 => text.line(format!("let inside = magnitude < {bits_of_bound};")),
        _ => text.line(format!("let inside = (magnitude < {bits_of_bound}) & !negative;")),
    }
    text.line(format!("let inner = {dtype}(select(0.0, x, inside));"));
    text.line(format!("let outer = select({dtype}({high}), {dtype}({low}), negative);"));
    text.line("let nan = magnitude > 0x7f800000u;");
    text.line(format!("return select(select(outer, {dtype}(0), nan), inner, inside);"));
    text.close();
}
