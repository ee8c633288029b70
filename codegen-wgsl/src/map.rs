//! Maps: one invocation an element.

use loom_ir::kernel::Lambda;

use crate::error::Error;
use crate::generate::{Grid, product};
use crate::index::unflatten;
use crate::lambda::Module;
use crate::target::Target;

pub(crate) fn generate(module: &mut Module<'_>, lambda: &Lambda, target: &Target) -> Result<Grid, Error> {
    let function = module.function("element", lambda, &[])?;
    let extents = &module.kernel.axes;
    let covered = module.covered(0..extents.len());
    let grid = Grid::over_items(module, product(&extents[covered.clone()]), target)?;
    let used = module.output_axes().into_iter().chain(function.axes.iter().copied()).collect();
    unflatten(&mut module.text, "flat", extents, covered, &used);
    module.store(&function.call(), function.result);
    module.text.close();
    Ok(grid)
}
