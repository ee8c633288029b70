//! What a program costs, known before it runs.
//!
//! The verifier bounds what a program may touch, not how long it takes: a file of a few hundred bytes can name loops
//! that no machine ends. Whoever runs programs of strangers compares these numbers with what it can afford.

use crate::kernel::scalar::{Inst, ScalarFn};
use crate::kernel::{Body, Kernel, Lambda, Program};
use crate::numerics;
use crate::types::DType;

use super::program::scratch_bytes;

/// The costs of a program. All saturate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Scalar operations of one run, library functions counted by their definitions.
    pub steps: u64,
    /// Scalar operations in the text of all kernels: what a code generator goes through.
    pub instructions: u64,
    /// Bytes of all buffers and of the kernel that needs most for its terms.
    pub bytes: u64,
}

/// The costs of a program, which must be verified.
pub fn cost(program: &Program) -> Cost {
    let mut cost = Cost::default();
    let mut scratch = 0;
    for kernel in &program.kernels {
        cost.steps = cost.steps.saturating_add(steps(kernel));
        let text = kernel.lambdas().into_iter().map(size).fold(0, u64::saturating_add);
        cost.instructions = cost.instructions.saturating_add(text);
        scratch = scratch.max(scratch_bytes(kernel).unwrap_or(u64::MAX));
    }
    cost.bytes = program.buffers.iter().fold(scratch, |sum, buffer| sum.saturating_add(buffer.bytes()));
    cost
}

/// Scalar operations of one run of a kernel.
fn steps(kernel: &Kernel) -> u64 {
    let count = |axes: &[u64]| axes.iter().fold(1u64, |product, &extent| product.saturating_mul(extent));
    let all = |times: u64, lambda: &Lambda| times.saturating_mul(size(lambda));
    match &kernel.body {
        Body::Map(lambda) => all(count(&kernel.axes), lambda),
        Body::Reduce(reduce) => {
            let (rows, reduced) = kernel.axes.split_at(kernel.axes.len() - reduce.reduced);
            let terms = count(rows).saturating_mul(count(reduced));
            let results = if reduce.per_element { terms } else { count(rows) };
            let stages = reduce.stages.iter().map(|stage| all(terms, &stage.input));
            stages.fold(all(results, &reduce.result), u64::saturating_add)
        }
        Body::Gather(gather) => {
            let results = count(&kernel.axes[..kernel.output_axes()]);
            all(results, &gather.index).saturating_add(all(results, &gather.result))
        }
        Body::Contract(contract) => {
            let (batch, rows, columns, reduced) = contract.split(&kernel.axes);
            let results = count(&[batch, rows, columns].concat());
            [
                all(count(&[batch, rows, reduced].concat()), &contract.lhs),
                all(count(&[batch, columns, reduced].concat()), &contract.rhs),
                // A product and a sum a term.
                results.saturating_mul(count(reduced)).saturating_mul(2),
                all(results, &contract.epilogue),
            ]
            .into_iter()
            .fold(0, u64::saturating_add)
        }
        Body::Attend(attend) => {
            let groups = attend.groups(kernel.axes.len());
            let [batch, rows, columns, keys, inner] = groups.map(|group| count(&kernel.axes[group]));
            let times = |counts: &[u64]| counts.iter().fold(1, |product: u64, &count| product.saturating_mul(count));
            let (row, results) = (times(&[batch, rows, keys]), times(&[batch, rows, columns]));
            let stages = attend.stages.iter().map(|stage| all(row, &stage.input));
            [
                all(times(&[batch, rows, inner]), &attend.query),
                all(times(&[batch, keys, inner]), &attend.key),
                all(times(&[batch, columns, keys]), &attend.value),
                row.saturating_mul(inner.saturating_add(columns)).saturating_mul(2),
                all(row, &attend.score),
                all(row, &attend.weight),
                all(results, &attend.result),
            ]
            .into_iter()
            .chain(stages)
            .fold(0, u64::saturating_add)
        }
    }
}

/// Operations of one evaluation; its arguments count as one each, the call itself as one.
fn size(lambda: &Lambda) -> u64 {
    1 + lambda.args.len() as u64 + operations(&lambda.function)
}

fn operations(function: &ScalarFn) -> u64 {
    function.insts.iter().map(operations_of).sum()
}

/// Scalar operations of one instruction: of a library function those of its definition on `f32`, and about those on `f64`.
pub fn operations_of(inst: &Inst) -> u64 {
    let definition = match *inst {
        Inst::Unary(op, _) => numerics::library::definition(op, DType::F32),
        Inst::Binary(op, ..) => numerics::library::binary_definition(op, DType::F32),
        _ => None,
    };
    definition.map_or(1, |program| program.insts.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::scalar::{ScalarFnBuilder, UnaryOp};
    use crate::kernel::{Access, Affine, Arg, Buffer, BufferId, BufferKind};
    use crate::types::Shape;

    fn program(extent: u64) -> Program {
        let buffer = |name: &str, shape: Shape, kind| Buffer { name: name.to_string(), dtype: DType::F32, shape, kind };
        let mut b = ScalarFnBuilder::new();
        let x = b.param(DType::F32);
        let y = b.unary(UnaryOp::Neg, x);
        let coords = vec![Affine::constant(0, 1)];
        let one = Access { buffer: BufferId(0), shape: Shape::from([1]), coords, guards: Vec::new(), fill: 0 };
        Program {
            name: String::new(),
            buffers: vec![
                buffer("x", Shape::from([1]), BufferKind::Input),
                buffer("y", Shape::from([extent]), BufferKind::Output),
            ],
            kernels: vec![Kernel {
                name: "map".to_string(),
                axes: vec![extent],
                loads: vec![one],
                body: Body::Map(Lambda { args: vec![Arg::Load(0)], function: b.finish(y) }),
                output: Access::identity(BufferId(1), Shape::from([extent]), 1),
                in_loop: None,
            }],
            plan: None,
        }
    }

    #[test]
    fn costs_follow_extents_and_functions() {
        assert_eq!(cost(&program(10)), Cost { steps: 30, instructions: 3, bytes: 44 });
        let mut library = program(10);
        let Body::Map(lambda) = &mut library.kernels[0].body else { unreachable!() };
        lambda.function.insts[0] = Inst::Unary(UnaryOp::Exp, crate::kernel::scalar::Value(0));
        assert!(cost(&library).steps > 200, "a library function counts by its definition");
    }

    #[test]
    fn endless_loops_saturate() {
        let mut bomb = program(1);
        bomb.kernels[0].axes = vec![u64::MAX, u64::MAX];
        assert_eq!(cost(&bomb).steps, u64::MAX);
    }
}
