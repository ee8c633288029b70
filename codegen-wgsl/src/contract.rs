//! Contractions: `Σ_k lhs · rhs` in the order of LN1 section 3.
//!
//! An output's terms are added in order, from +0.0, within chunks of 256; then the chunks' sums are added in order. No
//! chunk's sum is ever -0.0 (it begins at +0.0, and round-to-nearest makes no -0.0 out of that), so beginning the total
//! at +0.0 as well, or adding a chunk without terms, changes nothing.
//!
//! Templates: [`direct`] gives every output to one invocation, [`tiled`] computes tiles through workgroup memory.

mod cost;
mod direct;
mod strip;
mod tiled;

use std::collections::BTreeSet;
use std::ops::Range;

use loom_ir::kernel::Contract;
use loom_ir::types::DType;

use crate::error::Error;
use crate::generate::{Grid, product};
use crate::index::Place;
use crate::lambda::{Function, Module};
use crate::target::Target;

use self::cost::Sizes;
use self::strip::Units;

/// Terms of a chunk: the only spec that the verifier lets through.
pub(crate) const CHUNK: u64 = 256;

/// The axes of a contraction by their parts.
struct Axes {
    /// Those that a dispatch covers.
    batch: Range<usize>,
    rows: Range<usize>,
    columns: Range<usize>,
    reduced: Range<usize>,
}

/// A contraction with its functions written.
struct Matrices {
    lhs: Function,
    rhs: Function,
    epilogue: Function,
    axes: Axes,
    batches: u64,
    rows: u64,
    columns: u64,
    /// Terms of each sum.
    terms: u64,
}

pub(crate) fn generate(module: &mut Module<'_>, contract: &Contract, target: &Target) -> Result<Grid, Error> {
    let extents = &module.kernel.axes;
    let row = contract.batch;
    let column = row + contract.rows;
    let reduced = column + contract.columns;
    let axes = Axes {
        batch: module.covered(0..row),
        rows: row..column,
        columns: column..reduced,
        reduced: reduced..extents.len(),
    };
    let count = |range: &Range<usize>| product(&extents[range.clone()]);
    let (batches, rows, columns) = (count(&axes.batch), count(&axes.rows), count(&axes.columns));
    let terms = count(&axes.reduced);
    let apart = apart(module, contract, &axes);
    let tile = cost::choose(target, Sizes { batches, rows, columns, terms, apart });
    let tiled = tile.map(|tile| (tile, Units::both(module, contract, &axes, tile)));
    let matrices = Matrices {
        lhs: module.function("lhs", &contract.lhs, &[])?,
        rhs: module.function("rhs", &contract.rhs, &[])?,
        epilogue: module.function("epilogue", &contract.epilogue, &[DType::F32])?,
        axes,
        batches,
        rows,
        columns,
        terms,
    };
    match tiled {
        Some((tile, units)) => tiled::generate(module, &matrices, units, tile, target),
        None => direct::generate(module, &matrices, target),
    }
}

/// Whether the operands of neighbouring outputs lie far from each other in memory: further than a few elements.
fn apart(module: &Module<'_>, contract: &Contract, axes: &Axes) -> bool {
    const FEW: u32 = 4;
    let extents = &module.kernel.axes;
    let outputs = axes.batch.start..axes.reduced.start;
    let Some(last) = outputs.rev().find(|&axis| extents[axis] > 1) else { return false };
    let mut loads = contract.lhs.loads().chain(contract.rhs.loads());
    loads.any(|load| Place::of(&module.kernel.loads[load as usize], extents).coefficient(last) > FEW)
}

impl Matrices {
    /// The axes that the epilogue and its store need.
    fn output_axes(&self, module: &Module<'_>) -> BTreeSet<usize> {
        module.output_axes().into_iter().chain(self.epilogue.axes.iter().copied()).collect()
    }
}
