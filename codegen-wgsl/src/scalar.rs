//! Scalar functions as WGSL statements.
//!
//! A primitive instruction is one line. Exact and library operations without a WGSL spelling that is exact are calls of
//! `loom_…` functions, which a module holds once each: see [`Operations`]. In [`Arithmetic::Soft`] so is every operation
//! on floats, which are `u32` there.

use std::collections::BTreeSet;

use loom_ir::eval::scalar::evaluate;
use loom_ir::kernel::scalar::{BinaryOp, CompareOp, FloatBits, Inst, ScalarFn, UnaryOp, Value};
use loom_ir::numerics::expand::{self, QuickDivision};
use loom_ir::numerics::{library, soft};
use loom_ir::types::DType;

use crate::error::Error;
use crate::target::{Arithmetic, Target};
use crate::text::Text;

/// The bits that an integer or bool instruction gives whatever the arguments. `known` has those of earlier values, and
/// none of a float.
///
/// WGSL computes what is constant when the shader is made, and refuses sums that overflow and any division by zero there;
/// LN1 defines both. So no such expression is left to it.
fn known_integer(inst: &Inst, types: &[DType], known: &[Option<u32>]) -> Option<u32> {
    match *inst {
        Inst::Const(dtype, bits) => return (dtype != DType::F32).then_some(bits as u32),
        Inst::Binary(BinaryOp::Rem, _, b) if known[b.index()] == Some(0) => return Some(0),
        _ => {}
    }
    let args: Vec<u32> = inst.operands().map(|value| known[value.index()]).collect::<Option<_>>()?;
    let params: Vec<DType> = inst.operands().map(|value| types[value.index()]).collect();
    let mut numbers = (0..).map(Value);
    let alone = inst.map_operands(|value| numbers.next().unwrap_or(value));
    let function = ScalarFn { result: Value(params.len() as u32), params, insts: vec![alone] };
    // A conversion to a float is the device's to make.
    let integer = function.result_type().is_ok_and(|dtype| dtype != DType::F32);
    integer.then(|| evaluate(&function, &args, &mut Vec::new()))
}

/// An operation that becomes a function of the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    /// Exact or library, of one `f32`.
    Unary(UnaryOp),
    /// Library, of two `f32`.
    Binary(BinaryOp),
    /// Correctly rounded division.
    Div,
    /// Saturating conversion of an `f32`.
    ToInt(DType),
    /// An operation on the bits of floats.
    Soft(soft::Operation),
}

impl Operation {
    /// The function's name.
    fn name(self) -> String {
        match self {
            Operation::Unary(op) => format!("loom_{op}"),
            Operation::Binary(op) => format!("loom_{op}"),
            Operation::Div => "loom_div".to_string(),
            Operation::ToInt(dtype) => format!("loom_to_{dtype}"),
            Operation::Soft(operation) => format!("loom_{operation}"),
        }
    }

    /// Its straight-line program.
    fn program(self) -> Result<Program, Error> {
        let exact = |function| Ok(Program { function, quick: None, converts_in_range: true });
        let defined = |definition: Option<_>, name: String| match definition {
            Some(function) => Ok(Program { function, quick: None, converts_in_range: false }),
            None => Err(Error::NoDefinition(name)),
        };
        match self {
            Operation::Unary(UnaryOp::Sqrt) => exact(expand::sqrt()),
            Operation::Unary(UnaryOp::Floor) => exact(expand::floor()),
            Operation::Unary(UnaryOp::Ceil) => exact(expand::ceil()),
            Operation::Unary(UnaryOp::Round) => exact(expand::round()),
            Operation::Unary(UnaryOp::Trunc) => exact(expand::trunc()),
            Operation::Div => {
                Ok(Program { function: expand::div(), quick: Some(expand::quick_div()), converts_in_range: true })
            }
            Operation::ToInt(DType::I32) => exact(expand::to_i32()),
            Operation::ToInt(_) => exact(expand::to_u32()),
            Operation::Unary(op) => defined(library::definition(op, DType::F32), op.to_string()),
            Operation::Binary(op) => defined(library::binary_definition(op, DType::F32), op.to_string()),
            Operation::Soft(operation) => defined(operation.program(), operation.to_string()),
        }
    }
}

/// What stands for an operation.
struct Program {
    function: &'static ScalarFn,
    /// What does as well for the operands that are common.
    quick: Option<&'static QuickDivision>,
    /// Whether its conversions to integers only meet values in range, so that the device's own will do.
    converts_in_range: bool,
}

/// The operations that a module calls, and their functions.
#[derive(Debug)]
pub(crate) struct Operations {
    used: BTreeSet<Operation>,
    arithmetic: Arithmetic,
    /// Whether floats that a compiler might know are hidden from it: see [`Quirks`](crate::Quirks).
    hide: bool,
    quick_division: bool,
    converts_in_range: bool,
}

/// What hides a float: exclusive or with a variable that is always 0, which only `main` knows.
const HIDE: &str = "\
var<private> loom_zero: u32; // Always 0, which no compiler must find out.

fn loom_hide(x: f32) -> f32 {
    return bitcast<f32>(bitcast<u32>(x) ^ loom_zero);
}
";
/// The name of that function.
pub(crate) const HIDE_NAME: &str = "loom_hide";

impl Operations {
    /// No operations so far.
    pub fn new(target: &Target) -> Operations {
        let hide = match target.arithmetic {
            Arithmetic::Native => target.quirks.hide_constants,
            Arithmetic::Guarded => true,
            Arithmetic::Soft => false,
        };
        let quick_division = target.shapes.quick_division && target.arithmetic == Arithmetic::Native;
        let arithmetic = target.arithmetic;
        Operations { used: BTreeSet::new(), arithmetic, hide, quick_division, converts_in_range: false }
    }

    /// The type that values of a type have in the text.
    pub fn dtype(&self, dtype: DType) -> DType {
        if self.arithmetic == Arithmetic::Soft { soft::legal_type(dtype) } else { dtype }
    }

    /// The constant +0.0 as an expression.
    pub fn zero(&self) -> &'static str {
        match self.arithmetic {
            Arithmetic::Soft => "0u",
            _ if self.hide => "loom_hide(0.0)",
            _ => "0.0",
        }
    }

    /// The sum of two floats as an expression.
    pub fn add(&mut self, a: &str, b: &str) -> String {
        self.float(BinaryOp::Add, a, b)
    }

    /// The product of two floats as an expression.
    pub fn mul(&mut self, a: &str, b: &str) -> String {
        self.float(BinaryOp::Mul, a, b)
    }

    /// A sum, difference or product of floats.
    fn float(&mut self, op: BinaryOp, a: &str, b: &str) -> String {
        if self.arithmetic == Arithmetic::Soft {
            return self.call(Operation::Soft(soft::Operation::Binary(op)), &[a.to_string(), b.to_string()]);
        }
        let result = match op {
            BinaryOp::Add => format!("{a} + {b}"),
            BinaryOp::Sub => format!("{a} - {}", self.hidden(b.to_string())),
            _ => format!("{a} * {b}"),
        };
        if self.arithmetic == Arithmetic::Guarded { self.hidden(result) } else { result }
    }

    /// The statement that `main` begins with, if any.
    pub fn prologue(&self) -> Option<&'static str> {
        // No dispatch has a third dimension, so the third index is 0; but a compiler cannot know.
        self.hide.then_some("loom_zero = group.z;")
    }

    /// Writes a function for every operation used, and for those that these use.
    pub fn define(mut self, text: &mut Text) -> Result<(), Error> {
        if self.hide {
            for line in HIDE.lines() {
                text.line(line);
            }
            text.line("");
        }
        let mut written = BTreeSet::new();
        while let Some(&operation) = self.used.difference(&written).next() {
            written.insert(operation);
            let Program { function, quick, converts_in_range } = operation.program()?;
            let params: Vec<String> = (0..function.params.len()).map(|n| format!("x{n}")).collect();
            let typed = params.iter().zip(&function.params);
            let list: Vec<String> = typed.map(|(name, &dtype)| format!("{name}: {}", self.dtype(dtype))).collect();
            let result = function.result_type().map_err(|error| Error::Invalid(error.to_string()))?;
            let result = self.dtype(result);
            text.open(format!("fn {}({}) -> {result}", operation.name(), list.join(", ")));
            self.converts_in_range = converts_in_range;
            if let Some(quick) = quick.filter(|_| self.quick_division) {
                text.open_scope();
                let covered = self.body(text, &quick.covers, &params)?;
                text.open(format!("if ({covered})"));
                let result = self.body(text, &quick.div, &params)?;
                text.line(format!("return {result};"));
                text.close();
                text.close();
            }
            let result = self.body(text, function, &params)?;
            text.line(format!("return {result};"));
            text.close();
            text.line("");
        }
        Ok(())
    }

    /// Declares a constant by its bits, behind a `let`: see the crate's documentation.
    pub fn constant(&self, text: &mut Text, name: &str, dtype: DType, bits: u32) {
        match dtype {
            DType::Bool => text.line(format!("let {name} = {};", bits != 0)),
            DType::U32 => text.line(format!("let {name} = {bits}u;")),
            DType::I32 => text.line(format!("let {name} = i32({});", bits as i32)),
            DType::F32 if self.arithmetic == Arithmetic::Soft => {
                text.line(format!("let {name} = 0x{bits:08x}u; // {}", FloatBits(bits)));
            }
            DType::F32 => {
                let value = FloatBits(bits);
                text.line(format!("let {name}_bits = 0x{bits:08x}u;"));
                let float = self.hidden(format!("bitcast<f32>({name}_bits)"));
                text.line(format!("let {name} = {float}; // {value}"));
            }
            DType::F64 | DType::I64 | DType::U64 => unreachable!("verified programs have no values of 64 bits"),
        }
    }

    /// A float expression whose value a compiler might know.
    fn hidden(&self, expression: String) -> String {
        if self.hide { format!("{HIDE_NAME}({expression})") } else { expression }
    }

    /// Writes a function's instructions, one `let` each, and gives the name of its result.
    pub fn body(&mut self, text: &mut Text, function: &ScalarFn, params: &[String]) -> Result<String, Error> {
        let types = function.types().map_err(|error| Error::Invalid(error.to_string()))?;
        let name = |value: Value| match params.get(value.index()) {
            Some(param) => param.clone(),
            None => value.to_string(),
        };
        let mut known: Vec<Option<u32>> = vec![None; function.params.len()];
        for (index, inst) in function.insts.iter().enumerate() {
            let value = function.value_of(index);
            let bits = known_integer(inst, &types, &known);
            known.push(bits);
            match (*inst, bits) {
                (_, Some(bits)) => self.constant(text, &name(value), types[value.index()], bits),
                (Inst::Const(dtype, bits), None) => self.constant(text, &name(value), dtype, bits as u32),
                // x/0 = x; see `known_integer`.
                (Inst::Binary(BinaryOp::Div, a, b), None) if known[b.index()] == Some(0) => {
                    text.line(format!("let {} = {};", name(value), name(a)));
                }
                _ => {
                    let expression = self.expression(inst, &name, |value| types[value.index()]);
                    text.line(format!("let {} = {expression};", name(value)));
                }
            }
        }
        Ok(name(function.result))
    }

    fn call(&mut self, operation: Operation, args: &[String]) -> String {
        self.used.insert(operation);
        format!("{}({})", operation.name(), args.join(", "))
    }

    fn expression(&mut self, inst: &Inst, name: &impl Fn(Value) -> String, type_of: impl Fn(Value) -> DType) -> String {
        if self.arithmetic == Arithmetic::Soft
            && let Some(last) = inst.operands().last()
            && let Some(operation) = soft::operation(inst, type_of(last))
        {
            let args: Vec<String> = inst.operands().map(name).collect();
            return self.call(Operation::Soft(operation), &args);
        }
        match *inst {
            Inst::Const(..) => unreachable!("constants are statements"),
            Inst::Unary(op, a) => self.unary(op, type_of(a), &name(a)),
            Inst::Binary(op, a, b) => self.binary(op, type_of(a), &name(a), &name(b)),
            Inst::Compare(op, a, b) => self.compare(op, type_of(a), &name(a), &name(b)),
            Inst::Select(c, a, b) => format!("select({}, {}, {})", name(b), name(a), name(c)),
            Inst::Bitcast(to, a) if self.dtype(to) == self.dtype(type_of(a)) => name(a),
            Inst::Bitcast(to, a) => {
                let cast = format!("bitcast<{}>({})", self.dtype(to), name(a));
                if to == DType::F32 { self.hidden(cast) } else { cast }
            }
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
            BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul if ty == DType::F32 => self.float(op, a, b),
            BinaryOp::Add => format!("{a} + {b}"),
            BinaryOp::Sub => format!("{a} - {b}"),
            BinaryOp::Mul => format!("{a} * {b}"),
            BinaryOp::Div if ty == DType::F32 => self.call(Operation::Div, &[a.to_string(), b.to_string()]),
            // WGSL defines x/0 = x, x%0 = 0 and MIN/-1 = MIN, as LN1 does.
            BinaryOp::Div => format!("{a} / {b}"),
            BinaryOp::Rem => format!("{a} % {b}"),
            BinaryOp::Min if ty != DType::F32 => format!("min({a}, {b})"),
            BinaryOp::Max if ty != DType::F32 => format!("max({a}, {b})"),
            BinaryOp::Min => format!("select({a}, {b}, {})", self.compare(CompareOp::Lt, ty, b, a)),
            BinaryOp::Max => format!("select({a}, {b}, {})", self.compare(CompareOp::Lt, ty, a, b)),
            BinaryOp::And => format!("{a} & {b}"),
            BinaryOp::Or => format!("{a} | {b}"),
            BinaryOp::Xor if ty == DType::Bool => format!("{a} != {b}"),
            BinaryOp::Xor => format!("{a} ^ {b}"),
            BinaryOp::Shl => format!("{a} << {}", shift()),
            BinaryOp::Shr => format!("{a} >> {}", shift()),
            BinaryOp::Pow => self.call(Operation::Binary(op), &[a.to_string(), b.to_string()]),
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
            (DType::F32, DType::I32 | DType::U32) if self.converts_in_range => format!("{to}({a})"),
            (DType::F32, DType::I32 | DType::U32) => self.call(Operation::ToInt(to), &[a.to_string()]),
            (DType::I32 | DType::U32 | DType::Bool, DType::F32) => self.hidden(format!("f32({a})")),
            (DType::Bool, DType::I32 | DType::U32) => format!("{to}({a})"),
            (DType::I32, DType::U32) | (DType::U32, DType::I32) => format!("bitcast<{to}>({a})"),
            _ => unreachable!("verified programs have no values of 64 bits"),
        }
    }

    fn compare(&self, op: CompareOp, ty: DType, a: &str, b: &str) -> String {
        // A float compared with itself asks whether it is a NaN. Shader compilers answer without looking, so the bits are
        // asked; the rest is the same whatever the value.
        let of_itself = (ty == DType::F32 && a == b).then_some(op);
        match of_itself {
            Some(CompareOp::Eq | CompareOp::Le | CompareOp::Ge) => {
                return format!("(bitcast<u32>({a}) & 0x7fffffffu) <= 0x7f800000u");
            }
            Some(CompareOp::Ne) => return format!("(bitcast<u32>({a}) & 0x7fffffffu) > 0x7f800000u"),
            Some(CompareOp::Lt | CompareOp::Gt) => return "false".to_string(),
            None => {}
        }
        // A choice between operands that are compared looks like a maximum, which treats NaN and zeros in its own way.
        let a = match (self.arithmetic, ty) {
            (Arithmetic::Guarded, DType::F32) => self.hidden(a.to_string()),
            _ => a.to_string(),
        };
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
}
