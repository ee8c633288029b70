//! The check of generated text: valid WGSL, and nothing in it that LN1 does not allow.

use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{BinaryOperator, Expression, Function, MathFunction, Module, ScalarKind, Statement, UnaryOperator};

use crate::error::Error;

/// A module that passed [`validate`].
#[derive(Debug)]
pub struct Validated {
    /// The module.
    pub module: Module,
    /// What naga found out about it.
    pub info: ModuleInfo,
}

/// Parses and validates WGSL and checks that its float operations are those of the crate's documentation.
///
/// The check is on naga's module rather than on the text: no spelling gets around it.
pub fn validate(source: &str) -> Result<Validated, Error> {
    let module = naga::front::wgsl::parse_str(source).map_err(|error| Error::Invalid(error.emit_to_string(source)))?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::empty())
        .validate(&module)
        .map_err(|error| Error::Invalid(error.emit_to_string(source)))?;
    let functions = module.functions.iter().map(|(handle, function)| (function, &info[handle]));
    let entries = module.entry_points.iter().enumerate();
    let entries = entries.map(|(index, entry)| (&entry.function, info.get_entry_point(index)));
    for (function, types) in functions.chain(entries) {
        check_function(function, |handle| {
            types[handle].ty.inner_with(&module.types).scalar_kind() == Some(ScalarKind::Float)
        })?;
    }
    Ok(Validated { module, info })
}

fn check_function(function: &Function, is_float: impl Fn(naga::Handle<Expression>) -> bool) -> Result<(), Error> {
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
                let integer = matches!(fun, MathFunction::Min | MathFunction::Max | MathFunction::CountLeadingZeros);
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
fn check_block(block: &naga::Block) -> Result<(), Error> {
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
    fn broken_text_is_invalid() {
        for expression in ["a +", "c", "1u", "1.0 / 0.0"] {
            let result = validate(&module(expression));
            assert!(matches!(result, Err(Error::Invalid(_))), "{expression}: {result:?}");
        }
    }
}
