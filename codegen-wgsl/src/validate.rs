//! The check of generated text: valid WGSL, and nothing in it that LN1 does not allow.

use std::collections::BTreeSet;

use naga::valid::{Capabilities, FunctionInfo, ModuleInfo, ValidationFlags, Validator};
use naga::{
    BinaryOperator, Block, Expression, Function, Handle, MathFunction, Module, ScalarKind, Statement, UnaryOperator,
};

use crate::error::Error;
use crate::scalar::HIDE_NAME;
use crate::target::Arithmetic;

/// A module that passed [`validate`].
#[derive(Debug)]
pub struct Validated {
    /// The module.
    pub module: Module,
    /// What naga found out about it.
    pub info: ModuleInfo,
}

impl Validated {
    /// Checks that floats are computed as an arithmetic demands: in soft arithmetic no value is one, in guarded
    /// arithmetic every sum, difference and product goes through the function that hides it.
    pub fn check(&self, arithmetic: Arithmetic) -> Result<(), Error> {
        let forbidden = |what: &str| Err(Error::Forbidden(what.to_string()));
        for (function, types) in functions(&self.module, &self.info) {
            let is_float = |handle| is_float(&self.module, types, handle);
            match arithmetic {
                Arithmetic::Native => {}
                Arithmetic::Guarded => {
                    let mut hidden = BTreeSet::new();
                    hidden_values(&self.module, &function.body, &mut hidden);
                    let plain = function.expressions.iter().any(|(handle, expression)| {
                        let arithmetic = |op| {
                            matches!(op, BinaryOperator::Add | BinaryOperator::Subtract | BinaryOperator::Multiply)
                        };
                        matches!(*expression, Expression::Binary { op, .. } if arithmetic(op))
                            && is_float(handle)
                            && !hidden.contains(&handle)
                    });
                    if plain {
                        return forbidden("float arithmetic that compilers may rewrite");
                    }
                }
                Arithmetic::Soft => {
                    if function.expressions.iter().any(|(handle, _)| is_float(handle)) {
                        return forbidden("a float");
                    }
                }
            }
        }
        let float = |(_, ty): (_, &naga::Type)| ty.inner.scalar_kind() == Some(ScalarKind::Float);
        if arithmetic == Arithmetic::Soft && self.module.types.iter().any(float) {
            return forbidden("a type of floats");
        }
        Ok(())
    }
}

/// Every function of a module, the entry points last.
fn functions<'a>(module: &'a Module, info: &'a ModuleInfo) -> impl Iterator<Item = (&'a Function, &'a FunctionInfo)> {
    let functions = module.functions.iter().map(|(handle, function)| (function, &info[handle]));
    let entries = module.entry_points.iter().enumerate();
    functions.chain(entries.map(|(index, entry)| (&entry.function, info.get_entry_point(index))))
}

fn is_float(module: &Module, types: &FunctionInfo, handle: Handle<Expression>) -> bool {
    types[handle].ty.inner_with(&module.types).scalar_kind() == Some(ScalarKind::Float)
}

/// What a block gives to the function that hides floats.
fn hidden_values(module: &Module, block: &Block, hidden: &mut BTreeSet<Handle<Expression>>) {
    for statement in block.iter() {
        match statement {
            Statement::Call { function, arguments, .. }
                if module.functions[*function].name.as_deref() == Some(HIDE_NAME) =>
            {
                hidden.extend(arguments);
            }
            Statement::Block(inner) => hidden_values(module, inner, hidden),
            Statement::If { accept, reject, .. } => {
                hidden_values(module, accept, hidden);
                hidden_values(module, reject, hidden);
            }
            Statement::Loop { body, continuing, .. } => {
                hidden_values(module, body, hidden);
                hidden_values(module, continuing, hidden);
            }
            _ => {}
        }
    }
}

/// Parses and validates WGSL and checks that its float operations are those of the crate's documentation.
///
/// The check is on naga's module rather than on the text: no spelling gets around it.
pub fn validate(source: &str) -> Result<Validated, Error> {
    let module = naga::front::wgsl::parse_str(source).map_err(|error| Error::Invalid(error.emit_to_string(source)))?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::empty())
        .validate(&module)
        .map_err(|error| Error::Invalid(error.emit_to_string(source)))?;
    for (function, types) in functions(&module, &info) {
        check_function(function, |handle| is_float(&module, types, handle))?;
    }
    Ok(Validated { module, info })
}

fn check_function(function: &Function, is_float: impl Fn(Handle<Expression>) -> bool) -> Result<(), Error> {
    let forbidden = |what: String| Err(Error::Forbidden(what));
    for (_, expression) in function.expressions.iter() {
        match *expression {
            Expression::Binary { op, left, right } if is_float(left) || is_float(right) => match op {
                BinaryOperator::Add | BinaryOperator::Subtract | BinaryOperator::Multiply => {}
                BinaryOperator::Less
                | BinaryOperator::LessEqual
                | BinaryOperator::Greater
                | BinaryOperator::GreaterEqual => {}
                BinaryOperator::Equal if left != right => {}
                _ => return forbidden(format!("the float operation {op:?}")),
            },
            Expression::Unary { op: UnaryOperator::Negate, expr } if is_float(expr) => {
                return forbidden("a float negation".to_string());
            }
            Expression::Math { fun, arg, .. } => {
                let integer = matches!(
                    fun,
                    MathFunction::Min
                        | MathFunction::Max
                        | MathFunction::CountLeadingZeros
                        | MathFunction::Dot4I8Packed
                );
                if !integer || is_float(arg) {
                    return forbidden(format!("the builtin {fun:?}"));
                }
            }
            Expression::Derivative { .. } | Expression::Relational { .. } => {
                return forbidden("a builtin on floats".to_string());
            }
            _ => {}
        }
    }
    check_block(&function.body)
}

/// No atomics and no subgroup operations: their order is the device's.
fn check_block(block: &Block) -> Result<(), Error> {
    for statement in block.iter() {
        match statement {
            Statement::Block(inner) => check_block(inner)?,
            Statement::If { accept, reject, .. } => {
                check_block(accept)?;
                check_block(reject)?;
            }
            Statement::Loop { body, continuing, .. } => {
                check_block(body)?;
                check_block(continuing)?;
            }
            Statement::Emit(_)
            | Statement::Break
            | Statement::Continue
            | Statement::Return { .. }
            | Statement::ControlBarrier(_)
            | Statement::Store { .. }
            | Statement::Call { .. } => {}
            other => return Err(Error::Forbidden(format!("the statement {other:?}"))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module whose entry point stores an expression of `a` and `b`.
    fn module(expression: &str) -> String {
        format!(
            "@group(0) @binding(0) var<storage, read> x: array<f32>;
             @group(0) @binding(1) var<storage, read_write> y: array<f32>;
             @compute @workgroup_size(1)
             fn main() {{
                 let a = x[0];
                 let b = x[1];
                 y[0] = {expression};
             }}"
        )
    }

    #[test]
    fn exact_operations_pass() {
        for expression in ["a + b * a - b", "select(a, b, a < b)", "f32(min(u32(a), 3u))", "select(a, b, !(a == b))"] {
            assert!(validate(&module(expression)).is_ok(), "{expression}");
        }
    }

    #[test]
    fn inexact_operations_are_forbidden() {
        for expression in [
            "a / b",
            "a % b",
            "-a",
            "exp(a)",
            "sqrt(a)",
            "fma(a, b, a)",
            "max(a, b)",
            "mix(a, b, a)",
            "dot(vec2(a, b), vec2(b, a))",
            "floor(a)",
            "select(a, b, a != b)",
            "select(a, b, a == a)",
            "(vec2(a, b) / vec2(b, a)).x",
        ] {
            let result = validate(&module(expression));
            assert!(matches!(result, Err(Error::Forbidden(_))), "{expression}: {result:?}");
        }
    }

    #[test]
    fn arithmetic_that_is_not_the_kind_asked_for_is_forbidden() {
        let check = |source: &str, arithmetic| {
            let validated = validate(source).unwrap_or_else(|error| panic!("{error}"));
            validated.check(arithmetic)
        };
        let hide = "fn loom_hide(x: f32) -> f32 { return x; }";
        let of = |expression: &str| format!("{hide} {}", module(expression));
        for hidden in ["a", "loom_hide(a + b)", "loom_hide(b - loom_hide(a * b))", "select(a, b, a < b)"] {
            assert_eq!(check(&of(hidden), Arithmetic::Guarded), Ok(()), "{hidden}");
        }
        for plain in ["a + b", "loom_hide(b - a * b)", "loom_hide(a) * b"] {
            assert_eq!(check(&of(plain), Arithmetic::Native), Ok(()), "{plain}");
            let guarded = check(&of(plain), Arithmetic::Guarded);
            assert!(matches!(guarded, Err(Error::Forbidden(_))), "{plain}: {guarded:?}");
        }
        let integers = module("a + b").replace("f32", "u32");
        assert_eq!(check(&integers, Arithmetic::Soft), Ok(()));
        let cast = integers.replace("a + b", "u32(bitcast<f32>(a) < 1.0)");
        for floats in [of("a"), cast] {
            let soft = check(&floats, Arithmetic::Soft);
            assert!(matches!(soft, Err(Error::Forbidden(_))), "{floats}: {soft:?}");
        }
    }

    #[test]
    fn broken_text_is_invalid() {
        for expression in ["a +", "c", "1u", "1.0 / 0.0"] {
            let result = validate(&module(expression));
            assert!(matches!(result, Err(Error::Invalid(_))), "{expression}: {result:?}");
        }
    }
}
