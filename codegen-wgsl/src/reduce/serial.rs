//! One invocation a row: for rows of at most one block.

use super::{LANES, Rows, StageFunction, declare};
use crate::error::Error;
use crate::generate::Grid;
use crate::lambda::Module;
use crate::target::Target;

pub(super) fn generate(module: &mut Module<'_>, rows: &Rows, target: &Target) -> Result<Grid, Error> {
    let grid = Grid::over_items(module, rows.count(module.kernel), target)?;
    rows.row_indices(module, "flat");
    for (number, stage) in rows.stages.iter().enumerate() {
        declare(module, &stage.once);
        if rows.terms == 0 {
            let empty = stage.empty(module);
            module.text.line(format!("let r{number} = {empty};"));
        } else if stage.is_ordered() {
            ordered(module, rows, stage, number);
        } else {
            let terms = rows.terms;
            let name = format!("r{number}_all");
            let combined = stage.combine(module, &name, "term");
            let empty = stage.empty(module);
            module.text.line(format!("var {name} = {empty};"));
            module.text.open(format!("for (var k = 0u; k < {terms}u; k += 1u)"));
            rows.term(module, stage);
            module.text.line(format!("{name} = {combined};"));
            module.text.close();
            module.text.line(format!("let r{number} = {name};"));
        }
    }
    rows.store(module, "0u", 1);
    module.text.close();
    Ok(grid)
}

/// The lanes of the only block, one after another, then their folds. Lanes without a term are left out where a fold by
/// halves begins below them.
fn ordered(module: &mut Module<'_>, rows: &Rows, stage: &StageFunction, number: usize) {
    let terms = rows.terms;
    let lanes = terms.min(LANES.into()).next_power_of_two();
    let name = format!("r{number}_lanes");
    let dtype = module.dtype(stage.input.result);
    module.text.line(format!("var {name}: array<{dtype}, {lanes}>;"));
    module.text.open(format!("for (var lane = 0u; lane < {lanes}u; lane += 1u)"));
    module.text.line(format!("var sum = {};", module.zero()));
    module.text.open(format!("for (var k = lane; k < {terms}u; k += {LANES}u)"));
    rows.term(module, stage);
    let sum = module.add("sum", "term");
    module.text.line(format!("sum = {sum};"));
    module.text.close();
    module.text.line(format!("{name}[lane] = sum;"));
    module.text.close();
    if lanes > 1 {
        module.text.open(format!("for (var width = {}u; width > 0u; width = width >> 1u)", lanes / 2));
        module.text.open("for (var lane = 0u; lane < width; lane += 1u)");
        let folded = module.add(&format!("{name}[lane]"), &format!("{name}[lane + width]"));
        module.text.line(format!("{name}[lane] = {folded};"));
        module.text.close();
        module.text.close();
    }
    module.text.line(format!("let r{number} = {name}[0];"));
}
