//! One workgroup a tile of the output.
//!
//! In steps of a few terms the workgroup brings a strip of each operand into workgroup memory, then every invocation
//! adds the products of its own outputs, term by term in order. An invocation's rows and columns are interleaved with
//! its neighbours': neighbours read neighbouring words, and write them. Outside of the matrices both operands are +0.0
//! (never one alone: LN1 section 3); a step divides the chunk, so no step straddles two.

use std::ops::Range;

use loom_ir::kernel::{Contract, Lambda};
use loom_ir::types::DType;

use super::{CHUNK, Matrices};
use crate::error::Error;
use crate::generate::{Grid, limit};
use crate::index::{Place, unflatten};
use crate::lambda::{Function, Module};
use crate::target::{Target, Tile};

pub(super) fn generate(
    module: &mut Module<'_>,
    contract: &Contract,
    matrices: &Matrices,
    tile: Tile,
    target: &Target,
) -> Result<Grid, Error> {
    let storage = target.limits.workgroup_storage;
    limit(module.kernel, "bytes of workgroup memory", tile.storage().into(), storage.into())?;
    assert_eq!(CHUNK % u64::from(tile.step), 0, "a step divides the chunk");
    let tiles_down = matrices.rows.div_ceil(tile.height().into());
    let tiles_across = matrices.columns.div_ceil(tile.width().into());
    let grid = Grid::new(module.kernel, matrices.batches * tiles_down * tiles_across, tile.invocations(), target)?;

    let store = store_function(module, matrices);
    let dtype = module.dtype(DType::F32);
    module.text.line(format!("var<workgroup> lhs_tile: array<{dtype}, {}>;", tile.height() * tile.step));
    module.text.line(format!("var<workgroup> rhs_tile: array<{dtype}, {}>;", tile.width() * tile.step));
    module.text.line("");

    grid.over_workgroups(module, "number");
    let text = &mut module.text;
    text.line(format!("let first_column = number % {tiles_across}u * {}u;", tile.width()));
    text.line(format!("let first_row = number / {tiles_across}u % {tiles_down}u * {}u;", tile.height()));
    text.line(format!("let batch = number / {}u;", tiles_across * tiles_down));
    let batched = matrices.output_axes(module).into_iter();
    let batched = batched.chain(matrices.lhs.axes.iter().copied()).chain(matrices.rhs.axes.iter().copied()).collect();
    unflatten(&mut module.text, "batch", &module.kernel.axes, matrices.batch_axes.clone(), &batched);
    module.text.line(format!("let column = local % {}u;", tile.threads_columns));
    module.text.line(format!("let row = local / {}u;", tile.threads_columns));
    let chunked = matrices.terms > CHUNK;
    let zero = module.zero();
    if chunked {
        for (row, column) in outputs(tile) {
            module.text.line(format!("var total_{row}_{column} = {zero};"));
        }
        module.text.open(format!("for (var chunk = 0u; chunk < {}u; chunk += {CHUNK}u)", matrices.terms));
    }
    for (row, column) in outputs(tile) {
        module.text.line(format!("var sum_{row}_{column} = {zero};"));
    }
    if chunked {
        module.text.line(format!("let end = min(chunk + {CHUNK}u, {}u);", matrices.terms));
        module.text.open(format!("for (var step = chunk; step < end; step += {}u)", tile.step));
    } else {
        module.text.open(format!("for (var step = 0u; step < {}u; step += {}u)", matrices.terms, tile.step));
    }
    let lhs = Strip {
        array: "lhs_tile",
        first: "first_row",
        function: &matrices.lhs,
        axes: matrices.row_axes.clone(),
        extent: matrices.rows,
        lines: tile.height(),
        along_terms: along_terms(module, matrices, &contract.lhs),
    };
    lhs.write(module, matrices, tile);
    let rhs = Strip {
        array: "rhs_tile",
        first: "first_column",
        function: &matrices.rhs,
        axes: matrices.column_axes.clone(),
        extent: matrices.columns,
        lines: tile.width(),
        along_terms: along_terms(module, matrices, &contract.rhs),
    };
    rhs.write(module, matrices, tile);
    module.text.line("workgroupBarrier();");
    products(module, tile);
    module.text.line("workgroupBarrier();");
    module.text.close();
    if chunked {
        for (row, column) in outputs(tile) {
            let total = module.add(&format!("total_{row}_{column}"), &format!("sum_{row}_{column}"));
            module.text.line(format!("total_{row}_{column} = {total};"));
        }
        module.text.close();
    }
    stores(module, matrices, tile, &store, if chunked { "total" } else { "sum" });
    module.text.close();
    Ok(grid)
}

/// The outputs of an invocation.
fn outputs(tile: Tile) -> impl Iterator<Item = (u32, u32)> {
    (0..tile.rows).flat_map(move |row| (0..tile.columns).map(move |column| (row, column)))
}

/// One operand's strip of a step.
struct Strip<'a> {
    /// Its array in workgroup memory.
    array: &'static str,
    /// The variable that names the tile's first row or column.
    first: &'static str,
    function: &'a Function,
    /// The axes that its rows or columns count through, and their product.
    axes: Range<usize>,
    extent: u64,
    /// Rows or columns of the tile.
    lines: u32,
    /// Whether neighbouring invocations fetch neighbouring terms rather than neighbouring rows or columns.
    along_terms: bool,
}

impl Strip<'_> {
    /// Brings the strip into workgroup memory, terms outermost.
    fn write(&self, module: &mut Module<'_>, matrices: &Matrices, tile: Tile) {
        let (lines, step) = (self.lines, tile.step);
        let zero = module.zero();
        let text = &mut module.text;
        text.open(format!("for (var word = local; word < {}u; word += {}u)", lines * step, tile.invocations()));
        let (own_line, own_term) = if self.along_terms {
            (format!("word / {step}u"), format!("word % {step}u"))
        } else {
            (format!("word % {lines}u"), format!("word / {lines}u"))
        };
        text.line(format!("let own_line = {own_line};"));
        text.line(format!("let own_term = {own_term};"));
        text.line(format!("let line = {} + own_line;", self.first));
        text.line("let k = step + own_term;");
        let mut inside = Vec::new();
        if !self.extent.is_multiple_of(u64::from(lines)) {
            inside.push(format!("(line < {}u)", self.extent));
        }
        if !matrices.terms.is_multiple_of(u64::from(step)) {
            inside.push(format!("(k < {}u)", matrices.terms));
        }
        if !inside.is_empty() {
            text.line(format!("var value = {zero};"));
            text.open(format!("if ({})", inside.join(" & ")));
        }
        let used = &self.function.axes;
        unflatten(text, "line", &module.kernel.axes, self.axes.clone(), used);
        unflatten(text, "k", &module.kernel.axes, matrices.reduced_axes.clone(), used);
        if inside.is_empty() {
            text.line(format!("let value = {};", self.function.call()));
        } else {
            text.line(format!("value = {};", self.function.call()));
            text.close();
        }
        text.line(format!("{}[own_term * {lines}u + own_line] = value;", self.array));
        text.close();
    }
}

/// Whether an operand's terms lie closer together in memory than its rows or columns: the last reduced axis moves its
/// first load by one element.
fn along_terms(module: &Module<'_>, matrices: &Matrices, lambda: &Lambda) -> bool {
    let extents = &module.kernel.axes;
    let first = lambda.loads().next().map(|load| Place::of(&module.kernel.loads[load as usize], extents));
    let last = matrices.reduced_axes.clone().rev().find(|&axis| extents[axis] > 1);
    matches!((first, last), (Some(place), Some(axis)) if place.coefficient(axis) == 1)
}

/// The products of a step, for every output of the invocation.
fn products(module: &mut Module<'_>, tile: Tile) {
    let text = &mut module.text;
    text.open(format!("for (var k = 0u; k < {}u; k += 1u)", tile.step));
    for row in 0..tile.rows {
        let place = format!("k * {}u + row + {}u", tile.height(), row * tile.threads_rows);
        text.line(format!("let lhs_{row} = lhs_tile[{place}];"));
    }
    for column in 0..tile.columns {
        let place = format!("k * {}u + column + {}u", tile.width(), column * tile.threads_columns);
        text.line(format!("let rhs_{column} = rhs_tile[{place}];"));
    }
    for (row, column) in outputs(tile) {
        let product = module.mul(&format!("lhs_{row}"), &format!("rhs_{column}"));
        let sum = module.add(&format!("sum_{row}_{column}"), &product);
        module.text.line(format!("sum_{row}_{column} = {sum};"));
    }
    module.text.close();
}

/// Stores the totals of the outputs that lie inside the matrices.
fn stores(module: &mut Module<'_>, matrices: &Matrices, tile: Tile, store: &str, total: &str) {
    let text = &mut module.text;
    let ragged_rows = !matrices.rows.is_multiple_of(u64::from(tile.height()));
    let ragged_columns = !matrices.columns.is_multiple_of(u64::from(tile.width()));
    for row in 0..tile.rows {
        text.line(format!("let row_{row} = first_row + row + {}u;", row * tile.threads_rows));
    }
    for column in 0..tile.columns {
        text.line(format!("let column_{column} = first_column + column + {}u;", column * tile.threads_columns));
    }
    for (row, column) in outputs(tile) {
        let mut inside = Vec::new();
        if ragged_rows {
            inside.push(format!("(row_{row} < {}u)", matrices.rows));
        }
        if ragged_columns {
            inside.push(format!("(column_{column} < {}u)", matrices.columns));
        }
        let call = format!("{store}row_{row}, column_{column}, {total}_{row}_{column});");
        if inside.is_empty() {
            text.line(call);
        } else {
            text.open(format!("if ({})", inside.join(" & ")));
            text.line(call);
            text.close();
        }
    }
}

/// Writes the function that stores one output; gives the beginning of a call, up to the row's number.
fn store_function(module: &mut Module<'_>, matrices: &Matrices) -> String {
    let used = matrices.output_axes(module);
    let batch: Vec<usize> = matrices.batch_axes.clone().filter(|axis| used.contains(axis)).collect();
    let params: String = batch.iter().map(|axis| format!("i{axis}: u32, ")).collect();
    let dtype = module.dtype(DType::F32);
    module.text.open(format!("fn store({params}row: u32, column: u32, r0: {dtype})"));
    unflatten(&mut module.text, "row", &module.kernel.axes, matrices.row_axes.clone(), &used);
    unflatten(&mut module.text, "column", &module.kernel.axes, matrices.column_axes.clone(), &used);
    module.store(&matrices.epilogue.call(), matrices.epilogue.result);
    module.text.close();
    module.text.line("");
    let args: String = batch.iter().map(|axis| format!("i{axis}, ")).collect();
    format!("store({args}")
}
