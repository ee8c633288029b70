//! Maps: an invocation has one element, or several.

use loom_ir::kernel::Lambda;

use crate::error::Error;
use crate::generate::{Grid, product};
use crate::index::unflatten;
use crate::lambda::Module;
use crate::target::Target;

/// Instructions of a function that waits for memory rather than computes. A longer one gains nothing from several elements
/// an invocation, and compilers would have it several times.
const SMALL: usize = 32;

pub(crate) fn generate(module: &mut Module<'_>, lambda: &Lambda, target: &Target) -> Result<Grid, Error> {
    let function = module.function("element", lambda, &[])?;
    let extents = &module.kernel.axes;
    let covered = module.covered(0..extents.len());
    let used = module.output_axes().into_iter().chain(function.axes.iter().copied()).collect();
    let items = product(&extents[covered.clone()]);
    let small = lambda.function.insts.len() <= SMALL;
    let several = if small { target.shapes.elements } else { 1 };
    Grid::over_several_items(module, items, several, target, |module| {
        unflatten(&mut module.text, "flat", extents, covered.clone(), &used);
        module.store(&function.call(), function.result);
    })
}
