//! Gathers: one invocation an element, which finds its place along the last axis first.

use loom_ir::kernel::Gather;

use crate::error::Error;
use crate::generate::{Grid, product};
use crate::index::unflatten;
use crate::lambda::Module;
use crate::target::Target;

pub(crate) fn generate(module: &mut Module<'_>, gather: &Gather, target: &Target) -> Result<Grid, Error> {
    let index = module.function("place", &gather.index, &[])?;
    let element = module.function("element", &gather.result, &[])?;
    let last = module.kernel.output_axes();
    let extents = &module.kernel.axes;
    let rows = extents[last];
    let covered = module.covered(0..last);
    let grid = Grid::over_items(module, product(&extents[covered.clone()]), target)?;
    let outer = index.axes.iter().chain(&element.axes).copied().filter(|&axis| axis != last);
    let used = module.output_axes().into_iter().chain(outer).collect();
    unflatten(&mut module.text, "flat", extents, covered, &used);
    module.constant("outside", element.result, 0);
    if rows == 0 {
        module.store("outside", element.result);
    } else {
        // As with guards, the first row is read in place of one that doesn't exist, and dropped.
        module.text.line(format!("let row = {};", index.call()));
        module.text.line(format!("let inside = row < {rows}u;"));
        if element.axes.contains(&last) {
            module.text.line(format!("let i{last} = select(0u, row, inside);"));
        }
        let value = format!("select(outside, {}, inside)", element.call());
        module.store(&value, element.result);
    }
    module.text.close();
    Ok(grid)
}
