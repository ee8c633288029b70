//! Contractions: `Σ_k lhs · rhs` in the order of LN1 section 3.
//!
//! An output's terms are added in order, from +0.0, within chunks of 256; then the chunks' sums are added in order. No
//! chunk's sum is ever -0.0 (it begins at +0.0, and round-to-nearest makes no -0.0 out of that), so beginning the total
//! at +0.0 as well, or adding a chunk without terms, changes nothing.
//!
//! Templates: [`direct`] gives every output to one invocation, [`tiled`] computes tiles through workgroup memory.

mod direct;
mod tiled;

use std::collections::BTreeSet;
use std::ops::Range;

use loom_ir::kernel::Contract;
use loom_ir::types::DType;

use crate::error::Error;
use crate::generate::{Grid, product};
use crate::lambda::{Function, Module};
use crate::target::{ContractShape, Target};

/// Terms of a chunk: the only spec that the verifier lets through.
const CHUNK: u64 = 256;

/// A contraction with its functions written.
struct Matrices {
    lhs: Function,
    rhs: Function,
    epilogue: Function,
    batch_axes: Range<usize>,
    row_axes: Range<usize>,
    column_axes: Range<usize>,
    reduced_axes: Range<usize>,
    batches: u64,
    rows: u64,
    columns: u64,
    /// Terms of each sum.
    terms: u64,
}

pub(crate) fn generate(module: &mut Module<'_>, contract: &Contract, target: &Target) -> Result<Grid, Error> {
    let axes = &module.kernel.axes;
    let row = contract.batch;
    let column = row + contract.rows;
    let reduced = column + contract.columns;
    let matrices = Matrices {
        lhs: module.function("lhs", &contract.lhs, &[])?,
        rhs: module.function("rhs", &contract.rhs, &[])?,
        epilogue: module.function("epilogue", &contract.epilogue, &[DType::F32])?,
        batch_axes: module.covered(0..row),
        row_axes: row..column,
        column_axes: column..reduced,
        reduced_axes: reduced..axes.len(),
        batches: product(&axes[module.covered(0..row)]),
        rows: product(&axes[row..column]),
        columns: product(&axes[column..reduced]),
        terms: product(&axes[reduced..]),
    };
    let fits = |shape: &&ContractShape| match shape {
        ContractShape::Direct => true,
        ContractShape::Tiled { least, .. } => {
            matrices.rows >= *least && matrices.columns >= *least && matrices.terms > 0
        }
    };
    match target.shapes.contract.iter().find(fits) {
        Some(ContractShape::Tiled { tile, .. }) => tiled::generate(module, contract, &matrices, *tile, target),
        _ => direct::generate(module, &matrices, target),
    }
}

impl Matrices {
    /// The axes that the epilogue and its store need.
    fn output_axes(&self, module: &Module<'_>) -> BTreeSet<usize> {
        module.output_axes().into_iter().chain(self.epilogue.axes.iter().copied()).collect()
    }
}
