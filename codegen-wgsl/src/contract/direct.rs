//! One invocation an output element, looping over the reduced axes in row-major order.

use std::collections::BTreeSet;

use super::Matrices;
use crate::error::Error;
use crate::generate::{Grid, limit};
use crate::index::unflatten;
use crate::lambda::Module;
use crate::target::Target;

/// How often the innermost loop's body may be repeated in the text where a device limits iterations.
const UNROLLINGS: [u64; 4] = [1, 4, 16, 64];

pub(super) fn generate(module: &mut Module<'_>, matrices: &Matrices, target: &Target) -> Result<Grid, Error> {
    let grid = Grid::over_items(module, matrices.batches * matrices.rows * matrices.columns, target)?;
    output(module, matrices, target)?;
    module.text.close();
    Ok(grid)
}

/// The statements for the output that the variable `flat` names.
pub(crate) fn output(module: &mut Module<'_>, matrices: &Matrices, target: &Target) -> Result<(), Error> {
    let operands: BTreeSet<usize> = matrices.lhs.axes.union(&matrices.rhs.axes).copied().collect();
    let used = matrices.output_axes(module).union(&operands).copied().collect();
    unflatten(
        &mut module.text,
        "flat",
        &matrices.extents,
        matrices.axes.batch.start..matrices.axes.reduced.start,
        &used,
    );

    let zero = matrices.zero(module);
    if matrices.terms == 0 {
        module.text.line(format!("let r0 = {zero};"));
    } else {
        let chunked = matrices.terms > matrices.chunk;
        if chunked {
            module.text.line(format!("var total = {zero};"));
            module.text.line("var count = 0u;");
        }
        module.text.line(format!("var sum = {zero};"));
        loops(module, matrices, target, chunked)?;
        let total = if chunked { matrices.add(module, "total", "sum") } else { "sum".to_string() };
        module.text.line(format!("let r0 = {total};"));
    }
    module.store(&matrices.epilogue.call(), matrices.epilogue.result);
    Ok(())
}

/// The nest of loops over the reduced axes that have more than one index.
fn loops(module: &mut Module<'_>, matrices: &Matrices, target: &Target, chunked: bool) -> Result<(), Error> {
    let extents = &matrices.extents;
    let mut axes: Vec<usize> = matrices.axes.reduced.clone().filter(|&axis| extents[axis] > 1).collect();
    let Some(last) = axes.pop() else {
        term(module, matrices, chunked);
        return Ok(());
    };
    let extent = extents[last];
    // Iterations of the outer loops together, then of all, with the innermost taken `unrolling` terms at a time.
    let (outer, nests) = axes.iter().fold((0, 1), |(sum, product), &axis| {
        let product = product * extents[axis];
        (sum + product, product)
    });
    let most = target.quirks.loop_iterations;
    let iterations = |unrolling: u64| outer + nests * (extent / unrolling + extent % unrolling);
    let fits = |&unrolling: &u64| iterations(unrolling) <= most;
    let unrolling = UNROLLINGS.into_iter().find(fits).unwrap_or(UNROLLINGS[UNROLLINGS.len() - 1]);
    limit(module.kernel, "loop iterations", iterations(unrolling), most)?;
    for &axis in &axes {
        let extent = extents[axis];
        module.text.open(format!("for (var i{axis} = 0u; i{axis} < {extent}u; i{axis} += 1u)"));
    }
    let whole = extent - extent % unrolling;
    if unrolling > 1 {
        module.text.open(format!("for (var first = 0u; first < {whole}u; first += {unrolling}u)"));
        for offset in 0..unrolling {
            module.text.open_scope();
            module.text.line(format!("let i{last} = first + {offset}u;"));
            term(module, matrices, chunked);
            module.text.close();
        }
        module.text.close();
    }
    let rest = if unrolling > 1 { whole } else { 0 };
    if rest < extent {
        module.text.open(format!("for (var i{last} = {rest}u; i{last} < {extent}u; i{last} += 1u)"));
        term(module, matrices, chunked);
        module.text.close();
    }
    for _ in &axes {
        module.text.close();
    }
    Ok(())
}

/// Adds one term, and the chunk before it to the total where one is full.
fn term(module: &mut Module<'_>, matrices: &Matrices, chunked: bool) {
    if chunked {
        let (zero, total) = (matrices.zero(module), matrices.add(module, "total", "sum"));
        let text = &mut module.text;
        text.open(format!("if (count == {}u)", matrices.chunk));
        text.line(format!("total = {total};"));
        text.line(format!("sum = {zero};"));
        text.line("count = 0u;");
        text.close();
        text.line("count += 1u;");
    }
    let product = matrices.mul(module, &matrices.lhs.call(), &matrices.rhs.call());
    module.text.line(format!("let product = {product};"));
    let sum = matrices.add(module, "sum", "product");
    module.text.line(format!("sum = {sum};"));
}
