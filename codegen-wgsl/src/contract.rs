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
use loom_ir::numerics::reduction::{IntegerSpec, Products};
use loom_ir::types::DType;

use crate::error::Error;
use crate::generate::{Grid, product};
use crate::index::Place;
use crate::lambda::{Function, Module};
use crate::target::Target;
use crate::tile::Tile;

use self::cost::Sizes;
use self::strip::Units;

pub(crate) use self::direct::output;
pub(crate) use self::tiled::Tiled;

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
pub(crate) struct Matrices {
    lhs: Function,
    rhs: Function,
    epilogue: Function,
    /// In what units tiles take the operands.
    units: [Units; 2],
    axes: Axes,
    /// The kernel's axes, of which the last reduced one counts the packed terms.
    extents: Vec<u64>,
    batches: u64,
    rows: u64,
    columns: u64,
    /// Terms of each sum, or packed ones.
    terms: u64,
    /// So many of them in a chunk.
    chunk: u64,
    /// The type of factors and totals.
    dtype: DType,
    /// Whether factors are four codes in a word, and products the sums of the four.
    packed: bool,
}

/// Codes of a packed term.
const PACKED: u64 = 4;

/// The reduced axis along which terms are packed by fours: of integers the last that moves, if it has whole fours. Sums of integers
/// may be added in any order.
fn packing(module: &Module<'_>, contract: &Contract, axes: &Axes) -> Option<usize> {
    let Products::Integer(IntegerSpec { bits: 8 }) = contract.products else { return None };
    let extents = &module.kernel.axes;
    let last = axes.reduced.clone().rev().find(|&axis| extents[axis] > 1)?;
    let alone = [&contract.lhs, &contract.rhs].into_iter().all(|lambda| module.takes_axes_alone(lambda));
    (alone && extents[last].is_multiple_of(PACKED)).then_some(last)
}

pub(crate) fn generate(module: &mut Module<'_>, contract: &Contract, target: &Target) -> Result<Grid, Error> {
    let tile = cost::choose(target, sizes(module, contract, &Axes::of(module, contract)));
    let matrices = Matrices::write(module, contract, tile)?;
    match tile {
        Some(tile) => tiled::generate(module, &matrices, tile, target),
        None => direct::generate(module, &matrices, target),
    }
}

/// What a contraction takes by the template that [`generate`] would choose, in picoseconds.
pub(crate) fn estimate(module: &Module<'_>, contract: &Contract, target: &Target) -> u128 {
    cost::least(target, sizes(module, contract, &Axes::of(module, contract)))
}

impl Axes {
    fn of(module: &Module<'_>, contract: &Contract) -> Axes {
        let row = contract.batch;
        let column = row + contract.rows;
        let reduced = column + contract.columns;
        Axes {
            batch: module.covered(0..row),
            rows: row..column,
            columns: column..reduced,
            reduced: reduced..module.kernel.axes.len(),
        }
    }
}

fn sizes(module: &Module<'_>, contract: &Contract, axes: &Axes) -> Sizes {
    let count = |range: &Range<usize>| product(&module.kernel.axes[range.clone()]);
    let each = if packing(module, contract, axes).is_some() { PACKED } else { 1 };
    Sizes {
        batches: count(&axes.batch),
        rows: count(&axes.rows),
        columns: count(&axes.columns),
        terms: count(&axes.reduced) / each,
        chunk: CHUNK / each,
        apart: apart(module, contract, axes),
    }
}

impl Matrices {
    /// Writes the functions of the operands, as a tile wants them where there is one, and of the results.
    pub(crate) fn write(module: &mut Module<'_>, contract: &Contract, tile: Option<Tile>) -> Result<Matrices, Error> {
        let axes = Axes::of(module, contract);
        let dtype = contract.products.dtype();
        let Sizes { batches, rows, columns, terms, chunk, .. } = sizes(module, contract, &axes);
        let mut extents = module.kernel.axes.clone();
        let packing = packing(module, contract, &axes);
        let (lhs, rhs, units) = match packing {
            // Packing takes the low bits.
            Some(last) => {
                extents[last] /= PACKED;
                let units = [&contract.lhs, &contract.rhs].map(|lambda| Units::numbers(module, lambda, &axes));
                let lhs = module.function("lhs", &contract.lhs, &[])?;
                let rhs = module.function("rhs", &contract.rhs, &[])?;
                let lhs = module.packed(&lhs, &contract.lhs, last)?;
                (lhs, module.packed(&rhs, &contract.rhs, last)?, Some(units))
            }
            None => {
                let factors = contract.factors();
                let [lhs, rhs] = &factors;
                let units = tile.map(|tile| Units::both(module, [lhs, rhs], &axes, tile));
                (module.function("lhs", lhs, &[])?, module.function("rhs", rhs, &[])?, units)
            }
        };
        Ok(Matrices {
            lhs,
            rhs,
            epilogue: module.function("epilogue", &contract.epilogue, &[dtype])?,
            units: units.unwrap_or([Units::Numbers { along_terms: true }; 2]),
            axes,
            extents,
            batches,
            rows,
            columns,
            terms,
            chunk,
            dtype,
            packed: packing.is_some(),
        })
    }

    /// The type of factors in the text.
    fn factor(&self, module: &Module<'_>) -> DType {
        if self.packed { DType::U32 } else { self.number(module) }
    }

    /// The factor that adds nothing.
    fn no_factor(&self, module: &Module<'_>) -> &'static str {
        if self.packed { "0u" } else { self.zero(module) }
    }

    /// The type of totals in the text.
    fn number(&self, module: &Module<'_>) -> DType {
        module.dtype(self.dtype)
    }

    /// What sums begin with.
    fn zero(&self, module: &Module<'_>) -> &'static str {
        if self.dtype == DType::F32 { module.zero() } else { "0i" }
    }

    /// The sum of two totals as an expression. Integers of WGSL wrap.
    fn add(&self, module: &mut Module<'_>, a: &str, b: &str) -> String {
        if self.dtype == DType::F32 { module.add(a, b) } else { format!("{a} + {b}") }
    }

    /// The product of two factors as an expression.
    fn mul(&self, module: &mut Module<'_>, a: &str, b: &str) -> String {
        match self.dtype {
            DType::F32 => module.mul(a, b),
            _ if self.packed => format!("dot4I8Packed({a}, {b})"),
            _ => format!("{a} * {b}"),
        }
    }

    /// The axes that the epilogue and its store need.
    fn output_axes(&self, module: &Module<'_>) -> BTreeSet<usize> {
        module.output_axes().into_iter().chain(self.epilogue.axes.iter().copied()).collect()
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
