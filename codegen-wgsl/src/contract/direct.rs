//! One invocation an output element, looping over the reduced axes in row-major order.

use std::collections::BTreeSet;

use super::{CHUNK, Matrices};
use crate::error::Error;
use crate::generate::Grid;
use crate::index::unflatten;
use crate::lambda::Module;
use crate::target::Target;

pub(super) fn generate(module: &mut Module<'_>, matrices: &Matrices, target: &Target) -> Result<Grid, Error> {
    let grid = Grid::over_items(module, matrices.batches * matrices.rows * matrices.columns, target)?;
    let operands: BTreeSet<usize> = matrices.lhs.axes.union(&matrices.rhs.axes).copied().collect();
    let used = matrices.output_axes(module).union(&operands).copied().collect();
    unflatten(&mut module.text, "flat", &module.kernel.axes, 0..matrices.reduced_axes.start, &used);

    let text = &mut module.text;
    if matrices.terms == 0 {
        text.line("let r0 = 0.0;");
    } else {
        let chunked = matrices.terms > CHUNK;
        if chunked {
            text.line("var total = 0.0;");
            text.line("var count = 0u;");
        }
        text.line("var sum = 0.0;");
        let loops: Vec<usize> = matrices.reduced_axes.clone().filter(|&axis| module.kernel.axes[axis] > 1).collect();
        for &axis in &loops {
            let extent = module.kernel.axes[axis];
            text.open(format!("for (var i{axis} = 0u; i{axis} < {extent}u; i{axis} += 1u)"));
        }
        if chunked {
            text.open(format!("if (count == {CHUNK}u)"));
            text.line("total = total + sum;");
            text.line("sum = 0.0;");
            text.line("count = 0u;");
            text.close();
            text.line("count += 1u;");
        }
        text.line(format!("let product = {} * {};", matrices.lhs.call(), matrices.rhs.call()));
        text.line("sum = sum + product;");
        for _ in &loops {
            text.close();
        }
        text.line(if chunked { "let r0 = total + sum;" } else { "let r0 = sum;" });
    }
    module.store(&matrices.epilogue.call(), matrices.epilogue.result);
    module.text.close();
    Ok(grid)
}
