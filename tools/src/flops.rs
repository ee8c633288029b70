//! How many float operations a program does.

use loom_ir::kernel::scalar::{Inst, ScalarFn};
use loom_ir::kernel::{Body, Kernel, Program};
use loom_ir::types::DType;

/// Float operations of a run: additions, multiplications, divisions, comparisons for maxima and the like. A function
/// such as exp counts as one.
pub fn of_program(program: &Program) -> u64 {
    program.kernels.iter().map(of_kernel).fold(0, u64::saturating_add)
}

/// Float operations of one kernel.
pub fn of_kernel(kernel: &Kernel) -> u64 {
    let product = |axes: &[u64]| axes.iter().fold(1u64, |product, &extent| product.saturating_mul(extent));
    let all = product(&kernel.axes);
    match &kernel.body {
        Body::Map(lambda) => all.saturating_mul(of_function(&lambda.function)),
        Body::Reduce(reduce) => {
            let rows = product(&kernel.axes[..kernel.axes.len() - reduce.reduced]);
            // Each term is computed, then combined with the others.
            let terms: u64 = reduce.stages.iter().map(|stage| of_function(&stage.input.function) + 1).sum();
            let results = if reduce.per_element { all } else { rows };
            let result = results.saturating_mul(of_function(&reduce.result.function));
            all.saturating_mul(terms).saturating_add(result)
        }
        Body::Gather(gather) => {
            let outputs = product(&kernel.axes[..kernel.output_axes()]);
            outputs.saturating_mul(of_function(&gather.index.function) + of_function(&gather.result.function))
        }
        Body::Contract(contract) => {
            let outputs = product(&kernel.axes[..kernel.output_axes()]);
            all.saturating_mul(2).saturating_add(outputs.saturating_mul(of_function(&contract.epilogue.function)))
        }
        Body::Attend(attend) => {
            let groups = attend.groups(kernel.axes.len());
            let [batch, rows, columns, keys, inner] = groups.map(|group| product(&kernel.axes[group]));
            let scores = batch.saturating_mul(rows).saturating_mul(keys);
            let stages: u64 = attend.stages.iter().map(|stage| of_function(&stage.input.function) + 1).sum();
            let each = of_function(&attend.score.function) + stages + of_function(&attend.weight.function);
            let results = batch.saturating_mul(rows).saturating_mul(columns);
            let products = scores.saturating_mul(inner.saturating_add(columns)).saturating_mul(2);
            let rest = results.saturating_mul(of_function(&attend.result.function));
            products.saturating_add(scores.saturating_mul(each)).saturating_add(rest)
        }
    }
}

fn of_function(function: &ScalarFn) -> u64 {
    let Ok(types) = function.types() else { return 0 };
    let first = function.params.len();
    let float = |index: usize| types.get(first + index) == Some(&DType::F32);
    let arithmetic = |inst: &Inst| matches!(inst, Inst::Unary(..) | Inst::Binary(..));
    function.insts.iter().enumerate().filter(|&(index, inst)| arithmetic(inst) && float(index)).count() as u64
}
