//! One workgroup a tile of the output.
//!
//! In steps of a few terms the workgroup brings a strip of each operand into workgroup memory, then every invocation
//! adds the products of its own outputs, term by term in order. What the next step needs is fetched before the products
//! of this one are computed, so that memory is waited for while there is something to do. An invocation's rows and
//! columns are interleaved with its neighbours', one by one or four by four: neighbours read neighbouring words, and
//! write them. Outside of the matrices both operands are +0.0 (never one alone: LN1 section 3); a step divides the
//! chunk, so no step straddles two.
//!
//! Where there are few outputs of many terms, a workgroup has teams. In a round each team sums a chunk of its own, and
//! then the chunks' sums are added in order. A chunk past the last sums to +0.0, which changes nothing.

use super::Matrices;
use super::strip::Strip;
use crate::error::Error;
use crate::generate::{Grid, limit};
use crate::index::unflatten;
use crate::lambda::Module;
use crate::target::Target;
use crate::tile::Tile;

pub(super) fn generate(
    module: &mut Module<'_>,
    matrices: &Matrices,
    tile: Tile,
    target: &Target,
) -> Result<Grid, Error> {
    let tiled = Tiled::define(module, matrices, tile, target)?;
    let workgroups = matrices.batches * tiled.down * tiled.across;
    let grid = Grid::new(module.kernel, workgroups, tile.invocations(), target)?;
    grid.over_workgroups(module, "number");
    tiled.compute(module);
    module.text.close();
    Ok(grid)
}

/// A tiled contraction whose functions and workgroup memory are written.
pub(crate) struct Tiled<'a> {
    matrices: &'a Matrices,
    strips: [Strip<'a>; 2],
    tile: Tile,
    /// The beginning of a call that stores an output.
    store: String,
    /// Tiles from top to bottom, and side by side.
    down: u64,
    pub(crate) across: u64,
}

impl<'a> Tiled<'a> {
    /// Writes them; the matrices were written for this tile.
    pub(crate) fn define(
        module: &mut Module<'_>,
        matrices: &'a Matrices,
        tile: Tile,
        target: &Target,
    ) -> Result<Tiled<'a>, Error> {
        let storage = target.limits.workgroup_storage;
        limit(module.kernel, "bytes of workgroup memory", tile.storage().into(), storage.into())?;
        // With two buffers a chunk begins in the first.
        assert_eq!(matrices.chunk % u64::from(tile.step * tile.buffers), 0, "steps divide the chunk");
        assert_eq!(tile.step % tile.unrolled, 0, "the text repeats whole terms of a step");
        let strips = Strip::both(module, matrices, tile);
        for strip in &strips {
            strip.define(module, matrices, tile);
        }
        let store = store_function(module, matrices);
        if tile.teams > 1 {
            let (dtype, sums) = (matrices.number(module), tile.teams * tile.outputs());
            module.text.line(format!("var<workgroup> sums: array<{dtype}, {sums}>;"));
            module.text.line("");
        }
        let (down, across) =
            (matrices.rows.div_ceil(tile.height().into()), matrices.columns.div_ceil(tile.width().into()));
        Ok(Tiled { matrices, strips, tile, store, down, across })
    }

    /// The statements for the tile that the variable `number` names, which the whole workgroup makes together.
    pub(crate) fn compute(&self, module: &mut Module<'_>) {
        let Tiled { matrices, ref strips, tile, ref store, down, across } = *self;
        let text = &mut module.text;
        text.line(format!("let first_column = number % {across}u * {}u;", tile.width()));
        text.line(format!("let first_row = number / {across}u % {down}u * {}u;", tile.height()));
        text.line(format!("let batch = number / {}u;", across * down));
        let batched = matrices.output_axes(module).into_iter();
        let batched =
            batched.chain(matrices.lhs.axes.iter().copied()).chain(matrices.rhs.axes.iter().copied()).collect();
        unflatten(&mut module.text, "batch", &module.kernel.axes, matrices.axes.batch.clone(), &batched);
        if tile.teams > 1 {
            module.text.line(format!("let team = local / {}u;", tile.members()));
            module.text.line(format!("let member = local % {}u;", tile.members()));
        } else {
            module.text.line("let member = local;");
        }
        module.text.line(format!("let column = member % {}u;", tile.threads_columns));
        module.text.line(format!("let row = member / {}u;", tile.threads_columns));
        let sums = Sums::of(matrices, tile);
        let zero = matrices.zero(module);
        for total in sums.totals(tile) {
            module.text.line(format!("var {total} = {zero};"));
        }
        let first = if tile.teams > 1 { format!("team * {}u", matrices.chunk) } else { "0u".to_string() };
        strips.iter().for_each(|strip| strip.fetch(module, tile, &first, true));
        if tile.buffers > 1 {
            strips.iter().for_each(|strip| strip.keep(module, tile, "0u"));
            module.text.line("workgroupBarrier();");
        }
        let round = matrices.chunk * u64::from(tile.teams);
        if sums != Sums::Only {
            module.text.open(format!("for (var round = 0u; round < {}u; round += {round}u)", matrices.terms));
        }
        for (row, column) in outputs(tile) {
            module.text.line(format!("var sum_{row}_{column} = {zero};"));
        }
        let span = match sums {
            Sums::Only => format!("{}u", matrices.terms),
            // No team's chunk is longer than the first one's.
            _ => {
                module.text.line(format!("let span = min({}u, {}u - round);", matrices.chunk, matrices.terms));
                "span".to_string()
            }
        };
        module.text.open(format!("for (var offset = 0u; offset < {span}; offset += {}u)", tile.step));
        step(module, matrices, tile, strips, sums);
        module.text.close();
        match sums {
            Sums::Only => {}
            Sums::Own => {
                for (row, column) in outputs(tile) {
                    let total = matrices.add(module, &format!("total_{row}_{column}"), &format!("sum_{row}_{column}"));
                    module.text.line(format!("total_{row}_{column} = {total};"));
                }
                module.text.close();
            }
            Sums::Teams => {
                gather(module, matrices, tile, strips);
                module.text.close();
            }
        }
        match sums {
            Sums::Only => stores(module, matrices, tile, strips, store, "sum"),
            Sums::Own => stores(module, matrices, tile, strips, store, "total"),
            Sums::Teams => stores_of_teams(module, matrices, tile, store),
        }
    }
}

/// What becomes of a chunk's sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sums {
    /// There is one chunk.
    Only,
    /// The invocation that made it adds it to a total of its own.
    Own,
    /// The workgroup adds those of all teams in order.
    Teams,
}

impl Sums {
    fn of(matrices: &Matrices, tile: Tile) -> Sums {
        match tile.teams {
            1 if matrices.terms <= matrices.chunk => Sums::Only,
            1 => Sums::Own,
            _ => Sums::Teams,
        }
    }

    /// The names of an invocation's totals.
    fn totals(self, tile: Tile) -> Vec<String> {
        match self {
            Sums::Only => Vec::new(),
            Sums::Own => outputs(tile).map(|(row, column)| format!("total_{row}_{column}")).collect(),
            Sums::Teams => shares(tile).map(|(share, _)| format!("total_{share}")).collect(),
        }
    }
}

/// The outputs that an invocation adds up where there are teams: every so many of the tile's, row-major, each with the
/// condition under which there is one.
fn shares(tile: Tile) -> impl Iterator<Item = (u32, String)> {
    let (outputs, invocations) = (tile.outputs(), tile.invocations());
    (0..outputs.div_ceil(invocations))
        .map(move |share| (share, format!("if (local + {}u < {outputs}u)", share * invocations)))
}

/// Adds the sums of all teams to the totals, in the order of the chunks. A barrier before the next sums follows in every
/// step.
fn gather(module: &mut Module<'_>, matrices: &Matrices, tile: Tile, strips: &[Strip<'_>; 2]) {
    let (width, all) = (tile.width(), tile.outputs());
    for (row, column) in outputs(tile) {
        let (down, across) = (strips[0].own_line(row), strips[1].own_line(column));
        module.text.line(format!("sums[team * {all}u + ({down}) * {width}u + {across}] = sum_{row}_{column};"));
    }
    module.text.line("workgroupBarrier();");
    for (share, condition) in shares(tile) {
        let place = format!("local + {}u", share * tile.invocations());
        module.text.open(condition);
        module.text.open(format!("for (var other = 0u; other < {}u; other += 1u)", tile.teams));
        let total = matrices.add(module, &format!("total_{share}"), &format!("sums[other * {all}u + {place}]"));
        module.text.line(format!("total_{share} = {total};"));
        module.text.close();
        module.text.close();
    }
}

/// Stores the totals of the outputs that lie inside the matrices, where there are teams.
fn stores_of_teams(module: &mut Module<'_>, matrices: &Matrices, tile: Tile, store: &str) {
    let text = &mut module.text;
    for (share, condition) in shares(tile) {
        let place = format!("local + {}u", share * tile.invocations());
        text.open(condition);
        text.line(format!("let row = first_row + ({place}) / {}u;", tile.width()));
        text.line(format!("let column = first_column + ({place}) % {}u;", tile.width()));
        text.open(format!("if ((row < {}u) & (column < {}u))", matrices.rows, matrices.columns));
        text.line(format!("{store}row, column, total_{share});"));
        text.close();
        text.close();
    }
}

/// The outputs of an invocation.
fn outputs(tile: Tile) -> impl Iterator<Item = (u32, u32)> {
    (0..tile.rows).flat_map(move |row| (0..tile.columns).map(move |column| (row, column)))
}

/// One step: its strips are in workgroup memory, or with one buffer in registers, and those of the next step are there
/// after it.
fn step(module: &mut Module<'_>, matrices: &Matrices, tile: Tile, strips: &[Strip<'_>; 2], sums: Sums) {
    let after = format!("offset + {}u", tile.step);
    let (next, more) = match sums {
        Sums::Only => (after.clone(), format!("{after} < {}u", matrices.terms)),
        Sums::Own => (format!("round + {after}"), format!("round + {after} < {}u", matrices.terms)),
        Sums::Teams => {
            let chunk = matrices.chunk;
            let others = chunk * u64::from(tile.teams - 1);
            module.text.line(format!("let leap = select(0u, {others}u, {after} >= {chunk}u);"));
            let more = format!("({after} < span) | (round + {}u < {}u)", chunk * u64::from(tile.teams), matrices.terms);
            (format!("round + team * {chunk}u + leap + {after}"), more)
        }
    };
    module.text.line(format!("let more = {more};"));
    let fetch = |module: &mut Module<'_>| {
        module.text.open("if (more)");
        strips.iter().for_each(|strip| strip.fetch(module, tile, &next, false));
        module.text.close();
    };
    if tile.buffers > 1 {
        module.text.line(format!("let now = offset / {}u % 2u;", tile.step));
        fetch(module);
        products(module, matrices, tile, strips, "now");
        module.text.open("if (more)");
        strips.iter().for_each(|strip| strip.keep(module, tile, "(1u - now)"));
        module.text.close();
    } else {
        strips.iter().for_each(|strip| strip.keep(module, tile, "0u"));
        module.text.line("workgroupBarrier();");
        fetch(module);
        products(module, matrices, tile, strips, "0u");
    }
    module.text.line("workgroupBarrier();");
}

/// The products of a step, for every output of the invocation.
fn products(module: &mut Module<'_>, matrices: &Matrices, tile: Tile, strips: &[Strip<'_>; 2], buffer: &str) {
    for strip in strips {
        strip.begin(module, tile, buffer);
    }
    module.text.open(format!("for (var k = 0u; k < {}u; k += {}u)", tile.step, tile.unrolled));
    for term in 0..tile.unrolled {
        for strip in strips {
            strip.operands(module, term);
        }
        for (row, column) in outputs(tile) {
            let [lhs, rhs] = [strips[0].operand(row, term), strips[1].operand(column, term)];
            let product = matrices.mul(module, &lhs, &rhs);
            let sum = matrices.add(module, &format!("sum_{row}_{column}"), &product);
            module.text.line(format!("sum_{row}_{column} = {sum};"));
        }
    }
    module.text.close();
}

/// Stores the totals of the outputs that lie inside the matrices.
fn stores(module: &mut Module<'_>, matrices: &Matrices, tile: Tile, strips: &[Strip<'_>; 2], store: &str, total: &str) {
    let text = &mut module.text;
    let ragged_rows = !matrices.rows.is_multiple_of(u64::from(tile.height()));
    let ragged_columns = !matrices.columns.is_multiple_of(u64::from(tile.width()));
    for row in 0..tile.rows {
        text.line(format!("let row_{row} = first_row + {};", strips[0].own_line(row)));
    }
    for column in 0..tile.columns {
        text.line(format!("let column_{column} = first_column + {};", strips[1].own_line(column)));
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
    let batch: Vec<usize> = matrices.axes.batch.clone().filter(|axis| used.contains(axis)).collect();
    let params: String = batch.iter().map(|axis| format!("i{axis}: u32, ")).collect();
    let dtype = matrices.number(module);
    module.text.open(format!("fn store({params}row: u32, column: u32, r0: {dtype})"));
    module.turn();
    unflatten(&mut module.text, "row", &module.kernel.axes, matrices.axes.rows.clone(), &used);
    unflatten(&mut module.text, "column", &module.kernel.axes, matrices.axes.columns.clone(), &used);
    module.store(&matrices.epilogue.call(), matrices.epilogue.result);
    module.text.close();
    module.text.line("");
    let args: String = batch.iter().map(|axis| format!("i{axis}, ")).collect();
    format!("store({args}")
}
