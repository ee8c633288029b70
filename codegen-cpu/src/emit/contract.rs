//! Contractions, in tiles.
//!
//! Rows and columns swap roles freely, since a product's factors do: the *wide* side, whose tiles lie along vectors, is
//! the one along which the output lies in memory; the other is the *narrow* one. One operand is packed whole before the
//! kernel runs, once if it is a weight (the *panels*). The other is packed by the work items themselves, a few tiles at
//! a time, in scratch memory (the *stream*): each of its elements is packed once, not once for each tile of the panels.
//!
//! The panels of a plain weight that is stored in fewer bits keep these ([`crate::stored`]).
//!
//! A work item is one batch, one group of stream tiles and one stretch of panels. Items with the same stream tiles follow
//! one another, so that these are packed again only where a thread begins.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{FuncRef, InstBuilder, Value, types};
use loom_ir::kernel::{BufferKind, Contract, Forms, Kernel, Lambda, Program};
use loom_ir::types::DType;

use super::Gen;
use super::epilogue::Epilogue;
use super::pack::Pack;
use crate::abi::{Factors, KernelLayout, Microkernel, PackTime, PanelsLayout, SCRATCH_ALIGNMENT};
use crate::error::Error;
use crate::functions::Extras;
use crate::level::Level;
use crate::simd;
use crate::stored::StoredPack;
use crate::view::{View, by_output_stride};
use crate::wide::Pool;

/// Bytes of stream tiles that an item packs at once, so that a panel read from memory serves several tiles while both
/// stay in the second-level cache.
const STREAM_BYTES: u64 = 256 << 10;
/// The same where all panels are more than that cache holds, so that they come from further away for each item.
const STREAM_BYTES_FAR: u64 = 1 << 20;
/// Most stream tiles of an item.
const STREAM_TILES: u64 = 16;
/// Panels that are enough items for the threads, where a matrix comes from beyond the second-level cache.
const FEW_PANELS: u64 = 4;
/// Vectors of a tile of one row that are enough for panels from there.
const FEW_VECTORS: u64 = 2;
/// Panels that are enough items for the threads, where those are of stored weights.
const ENOUGH_PANELS: u64 = 16;
/// Items of a batch that are enough for threads.
const ITEMS: u64 = 64;
/// Multiplications worth an item of their own.
const ITEM_WORK: u64 = 1 << 16;

/// Which operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Narrow,
    Wide,
}

#[derive(Debug)]
pub(crate) struct ContractPlan {
    pub narrow: Pack,
    pub wide: Pack,
    /// The side that is packed before the kernel runs.
    pub panels: Side,
    when: PackTime,
    /// Extents of the batch axes; and for each of them whether the panels depend on it.
    batch: Vec<u64>,
    panel_axes: Vec<bool>,
    epilogue: Epilogue,
    length: u64,
    /// Stream tiles in an item, and panels in an item.
    stream_tiles: u64,
    panel_stretch: u64,
    slices: u64,
    /// The panels, where they are a stored weight's.
    stored: Option<StoredPanels>,
}

/// Panels that hold a weight as it is stored.
#[derive(Debug)]
pub(crate) struct StoredPanels {
    pub pack: StoredPack,
    /// The load that reads the weight.
    pub load: u32,
    /// Whether a microkernel widens them, tile by tile, and the address of that; or of what widens a whole panel.
    pub in_registers: bool,
    pub code: *const u8,
}

impl ContractPlan {
    pub(crate) fn new(
        program: &Program,
        kernel: &Kernel,
        contract: &Contract,
        extras: &Extras<'_>,
        pool: &mut Pool,
    ) -> Result<ContractPlan, Error> {
        let rows = contract.batch..contract.batch + contract.rows;
        let columns = rows.end..rows.end + contract.columns;
        let batch: Vec<usize> = (0..contract.batch).collect();
        let reduced: Vec<usize> = (columns.end..kernel.axes.len()).collect();
        let product = |axes: &[usize]| axes.iter().map(|&axis| kernel.axes[axis]).product::<u64>();
        let (rows, columns) = (by_output_stride(kernel, rows), by_output_stride(kernel, columns));

        let swap = wide_is_rows(kernel, &rows, &columns);
        let dtype = contract.products.dtype();
        let [lhs, rhs] = &contract.factors();
        let (narrow, wide) = if swap { (columns, rows) } else { (rows, columns) };
        let (narrow_operand, wide_operand) = if swap { (rhs, lhs) } else { (lhs, rhs) };

        let fixed = |lambda: &Lambda| depends_on_weights_alone(program, kernel, lambda);
        let panels = match (fixed(narrow_operand), fixed(wide_operand)) {
            (true, false) => Side::Narrow,
            (false, true) | (true, true) => Side::Wide,
            // The smaller one: its panels are what a run writes to memory.
            (false, false) if product(&narrow) <= product(&wide) => Side::Narrow,
            (false, false) => Side::Wide,
        };
        let operand = if panels == Side::Narrow { narrow_operand } else { wide_operand };
        let when = if fixed(operand) { PackTime::Load } else { PackTime::Run };

        // Panels are shared by all batches whose axes the operand doesn't depend on.
        let depends = |axis: usize| {
            operand.args.contains(&loom_ir::kernel::Arg::Index(axis as u32))
                || operand.loads().any(|load| kernel.loads[load as usize].depends_on(axis))
        };
        let panel_axes: Vec<bool> = batch.iter().map(|&axis| depends(axis)).collect();
        let panel_batch: Vec<usize> = batch.iter().copied().filter(|&axis| depends(axis)).collect();

        let factors = if dtype == DType::F32 { Factors::F32 } else { Factors::I8 };
        let microkernels = of_factors(extras.microkernels, factors);
        let shape = tile(factors, (product(&narrow), product(&wide)), &microkernels);
        let (mr, nr) = with_enough_panels(shape, (product(&wide), product(&reduced)), &microkernels);
        let mut pack = |side: Side, axes: &[usize], lambda: &Lambda, width: u64| -> Result<Pack, Error> {
            let batch = if side == panels { panel_batch.clone() } else { batch.clone() };
            let groups = [batch, axes.to_vec(), reduced.clone()];
            Ok(Pack::new(
                View::new(program, kernel, &groups, &[lambda], false)?,
                width,
                factors,
                extras.rows.is_some(),
                pool,
            ))
        };
        let epilogue_groups = [batch.clone(), narrow.clone(), wide.clone()];
        let epilogue = View::new(program, kernel, &epilogue_groups, &[&contract.epilogue], true)?;
        let mut plan = ContractPlan {
            narrow: pack(Side::Narrow, &narrow, narrow_operand, mr)?,
            wide: pack(Side::Wide, &wide, wide_operand, nr)?,
            panels,
            when,
            batch: batch.iter().map(|&axis| kernel.axes[axis]).collect(),
            panel_axes,
            epilogue: Epilogue::new(epilogue, (nr, dtype), pool),
            length: product(&reduced),
            stream_tiles: 1,
            panel_stretch: 1,
            slices: super::slices(kernel),
            stored: None,
        };
        let stream = plan.side(plan.other());
        let tile_work = (mr * nr * plan.length).max(1);
        let all_panels = plan.side(panels).panels().saturating_mul(plan.side(panels).panel_bytes());
        let bytes = if all_panels > STREAM_BYTES_FAR { STREAM_BYTES_FAR } else { STREAM_BYTES };
        let by_cache = (bytes / stream.panel_bytes().max(1)).clamp(1, STREAM_TILES);
        // Enough items for the threads come before the cache.
        let groups = (ITEMS / plan.side(panels).tiles().max(1)).clamp(1, 4);
        plan.stream_tiles = by_cache.min(stream.tiles().div_ceil(groups)).max(1);
        plan.panel_stretch = (ITEM_WORK / (tile_work * plan.stream_tiles)).max(1);
        plan.stored = plan.stored_panels(kernel, operand, extras.stored);
        if plan.stored.is_some() && plan.side(plan.panels).panels() >= ENOUGH_PANELS {
            // A panel is widened once for as many tiles as there is room for.
            let room = (4 * STREAM_BYTES / plan.side(plan.other()).panel_bytes().max(1)).clamp(1, STREAM_TILES);
            plan.stream_tiles = room.min(plan.side(plan.other()).tiles()).max(1);
            plan.panel_stretch = (ITEM_WORK / (tile_work * plan.stream_tiles)).max(1);
        }
        plan.check_memory(kernel)?;
        Ok(plan)
    }

    /// The panels of a stored weight: widened in registers where each meets one tile, and else once for all tiles.
    fn stored_panels(&self, kernel: &Kernel, operand: &Lambda, forms: StoredForms<'_>) -> Option<StoredPanels> {
        let load = operand.loads().next()?;
        let pack = StoredPack::of(kernel, forms.forms, self.side(self.panels))?;
        let alone = self.panels == Side::Wide && self.side(self.other()).tiles() == 1;
        let microkernel = simd::stored::microkernel(forms.level, self.shape(), pack.form()).filter(|_| alone);
        let width = self.side(self.panels).width;
        let code = match microkernel {
            Some(microkernel) => microkernel as *const u8,
            None => simd::stored::widen(forms.level, width, pack.form()) as *const u8,
        };
        Some(StoredPanels { pack, load, in_registers: microkernel.is_some(), code })
    }

    /// The panels, where they are a stored weight's.
    pub(crate) fn stored(&self) -> Option<&StoredPanels> {
        self.stored.as_ref()
    }

    /// Bytes of one of the panels.
    fn panel_bytes(&self) -> u64 {
        self.stored.as_ref().map_or(self.side(self.panels).panel_bytes(), |stored| stored.pack.panel_bytes())
    }

    /// Bytes of scratch memory for a widened panel.
    fn widened_bytes(&self) -> u64 {
        let widened = self.stored.as_ref().filter(|stored| !stored.in_registers);
        widened.map_or(0, |stored| stored.pack.widened_bytes().next_multiple_of(SCRATCH_ALIGNMENT as u64))
    }

    /// The shape of tiles.
    pub(crate) fn shape(&self) -> (u64, u64) {
        (self.narrow.width, self.wide.width)
    }

    /// What the panels hold.
    pub(crate) fn factors(&self) -> Factors {
        self.wide.factors
    }

    pub(crate) fn side(&self, side: Side) -> &Pack {
        match side {
            Side::Narrow => &self.narrow,
            Side::Wide => &self.wide,
        }
    }

    /// The side that is streamed.
    pub(crate) fn other(&self) -> Side {
        match self.panels {
            Side::Narrow => Side::Wide,
            Side::Wide => Side::Narrow,
        }
    }

    /// Batches, groups of stream tiles, stretches of panels.
    fn items(&self) -> [u64; 3] {
        let groups = self.side(self.other()).tiles().div_ceil(self.stream_tiles);
        let stretches = self.side(self.panels).tiles().div_ceil(self.panel_stretch);
        [self.batch.iter().product(), groups, stretches]
    }

    fn tile_bytes(&self) -> u64 {
        self.narrow.width * self.wide.width * 4
    }

    fn scratch_bytes(&self) -> u64 {
        self.tile_bytes() + self.widened_bytes() + self.stream_tiles * self.side(self.other()).panel_bytes()
    }

    /// Packed copies are a constant factor larger than the buffers they come from, except for windows, which repeat
    /// elements; those are limited here, before anything is multiplied in generated code.
    fn check_memory(&self, kernel: &Kernel) -> Result<(), Error> {
        const LIMIT: u128 = 1 << 40;
        for (what, side, panels) in [
            ("packed operands", self.panels, u128::from(self.side(self.panels).panels())),
            ("scratch memory", self.other(), u128::from(self.stream_tiles)),
        ] {
            let bytes = panels * u128::from(self.side(side).panel_bytes());
            if bytes > LIMIT {
                let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
                return Err(Error::Memory { kernel: kernel.name.clone(), what, bytes });
            }
        }
        Ok(())
    }

    /// The slots of the table that are read for the panels and for nothing else.
    fn only_packed(&self) -> u32 {
        let slots = |view: &View| view.places.iter().fold(0u32, |slots, place| slots | 1 << place.slot);
        let others = slots(&self.side(self.other()).view) | slots(&self.epilogue.view);
        slots(&self.side(self.panels).view) & !others
    }

    pub(crate) fn layout(&self) -> KernelLayout {
        let panels = self.side(self.panels);
        let totals = self.narrow.view.count(1) * self.wide.view.count(1) * self.items()[0];
        // Some 48 products in a nanosecond, or 40 bytes of panels from a cache.
        let products = totals.saturating_mul(self.length) / 48;
        let reading = panels.tiles().saturating_mul(self.panel_bytes()).saturating_mul(self.items()[0]) / 40;
        let epilogues = super::nanoseconds(totals, self.epilogue.cost());
        KernelLayout {
            items: self.items().iter().product(),
            slices: self.slices,
            scratch_bytes: self.scratch_bytes(),
            panels: Some(PanelsLayout {
                panels: panels.panels(),
                panel_bytes: self.panel_bytes(),
                when: self.when,
                slices: if self.panel_axes.first() == Some(&true) { self.slices } else { 1 },
                only_packed: self.only_packed(),
            }),
            cost: products.max(reading).saturating_add(epilogues).saturating_add(self.side(self.other()).cost()),
        }
    }

    /// Writes the kernel. `table` is the table of buffers, `panels` the packed operand.
    pub(crate) fn emit(
        &self,
        g: &mut Gen<'_>,
        (table, panels): (Value, Value),
        (begin, end): (Value, Value),
        scratch: Value,
        functions: Functions,
    ) {
        let items = self.items();
        let stream = self.side(self.other());
        let widened = g.b.ins().iadd_imm_u(scratch, self.tile_bytes() as i64);
        let packed = g.b.ins().iadd_imm_u(widened, self.widened_bytes() as i64);
        let mut carried = g.decode(begin, &items);
        let none = g.b.ins().iconst(types::I64, -1);
        carried.push(none);
        g.count_up((begin, end), 1, &carried, |g, _, carried| {
            let (item, ready) = (&carried[..3], carried[3]);
            let [batch, group, stretch] = [item[0], item[1], item[2]];
            let tiles = g.index(stream.tiles());
            let first = g.b.ins().imul_imm_u(group, self.stream_tiles as i64);
            let last = g.b.ins().iadd_imm_u(first, self.stream_tiles as i64);
            let last = g.least(last, tiles);

            let groups = g.b.ins().imul_imm_u(batch, items[1] as i64);
            let wanted = g.b.ins().iadd(groups, group);
            let same = g.b.ins().icmp(IntCC::Equal, wanted, ready);
            g.branch(
                same,
                |_| Vec::new(),
                |g| {
                    let base = g.b.ins().imul_imm_u(batch, stream.tiles() as i64);
                    let (from, to) = (g.b.ins().iadd(base, first), g.b.ins().iadd(base, last));
                    g.b.ins().call(functions.pack, &[table, from, to, packed]);
                    Vec::new()
                },
            );

            let here = self.panels_of(g, batch, panels);
            let batch_index = g.decode(batch, &self.batch_of_epilogue());
            let count = g.index(self.side(self.panels).tiles());
            let panel = g.b.ins().imul_imm_u(stretch, self.panel_stretch as i64);
            let panel_end = g.b.ins().iadd_imm_u(panel, self.panel_stretch as i64);
            let panel_end = g.least(panel_end, count);
            g.count_up((panel, panel_end), 1, &[], |g, panel, _| {
                let mut fixed = g.element(here, panel, self.panel_bytes());
                if let Some(widen) = functions.widen {
                    let (length, width) = (g.index(self.length), g.index(self.side(self.panels).width));
                    g.b.ins().call(widen, &[length, width, fixed, widened]);
                    fixed = widened;
                }
                g.count_up((first, last), 1, &[packed], |g, tile, streamed| {
                    let length = g.index(self.length);
                    let sides = match self.panels {
                        Side::Narrow => [(fixed, panel), (streamed[0], tile)],
                        Side::Wide => [(streamed[0], tile), (fixed, panel)],
                    };
                    g.b.ins().call(functions.microkernel, &[length, sides[0].0, sides[1].0, scratch]);
                    self.finish_tile(g, &batch_index, (sides[0].1, sides[1].1), scratch);
                    vec![g.b.ins().iadd_imm_u(streamed[0], stream.panel_bytes() as i64)]
                });
                Vec::new()
            });
            let mut next = g.advance(item, &items);
            next.push(wanted);
            next
        });
    }

    fn batch_of_epilogue(&self) -> Vec<u64> {
        self.epilogue.view.groups[0].clone()
    }

    /// The panels of a batch.
    fn panels_of(&self, g: &mut Gen<'_>, batch: Value, panels: Value) -> Value {
        let bytes = self.side(self.panels).tiles() * self.panel_bytes();
        if !self.panel_axes.contains(&true) {
            return panels;
        }
        let index = g.decode(batch, &self.batch);
        let mut number = g.index(0);
        for (axis, &value) in index.iter().enumerate() {
            if self.panel_axes[axis] {
                let scaled = g.b.ins().imul_imm_u(number, self.batch[axis] as i64);
                number = g.b.ins().iadd(scaled, value);
            }
        }
        g.element(panels, number, bytes)
    }

    /// The epilogue of the tile's elements that are there.
    fn finish_tile(&self, g: &mut Gen<'_>, batch: &[Value], (narrow, wide): (Value, Value), tile: Value) {
        let (mr, nr) = self.shape();
        let rows = self.narrow.valid(g, narrow);
        let columns = self.wide.valid(g, wide);
        let first_row = g.b.ins().imul_imm_u(narrow, mr as i64);
        let first_column = g.b.ins().imul_imm_u(wide, nr as i64);
        self.epilogue.finish(g, batch, (first_row, rows), (first_column, columns), tile);
    }
}

/// The functions that a kernel calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Functions {
    pub pack: FuncRef,
    pub microkernel: FuncRef,
    /// What widens a panel, where that is done before its tiles are computed.
    pub widen: Option<FuncRef>,
}

/// Which weights are stored in fewer bits, and the instructions that widen them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredForms<'a> {
    pub forms: &'a Forms,
    pub level: Level,
}

/// Whether rows take the wide side: a side of one row is narrow; else the one along which the output lies is wide.
fn wide_is_rows(kernel: &Kernel, rows: &[usize], columns: &[usize]) -> bool {
    let product = |axes: &[usize]| axes.iter().map(|&axis| kernel.axes[axis]).product::<u64>();
    if product(rows) == 1 || product(columns) == 1 {
        return product(columns) == 1;
    }
    let linear = kernel.output.linear();
    let adjacent = |axis: &usize| kernel.axes[*axis] > 1 && linear.coefficients.get(*axis) == Some(&1);
    rows.iter().any(adjacent)
}

/// The microkernels for panels that hold these.
pub(crate) fn of_factors(microkernels: &[Microkernel], factors: Factors) -> Vec<Microkernel> {
    microkernels.iter().copied().filter(|kernel| kernel.factors == factors).collect()
}

/// The shape of tiles for an output of `narrow` by `wide`: that of the microkernel which takes the least time for all of
/// them; of equals, the one whose panels have the least padding, then the first.
pub(crate) fn tile(factors: Factors, (narrow, wide): (u64, u64), microkernels: &[Microkernel]) -> (u64, u64) {
    let padded = |(mr, nr): (u64, u64)| (narrow.next_multiple_of(mr), wide.next_multiple_of(nr));
    let shapes =
        microkernels.iter().map(|kernel| (u64::from(kernel.mr), u64::from(kernel.nr), u64::from(kernel.lanes)));
    let best = shapes.min_by_key(|&(mr, nr, lanes)| {
        let (rows, columns) = padded((mr, nr));
        let tiles = (rows / mr).saturating_mul(columns / nr);
        (tiles.saturating_mul(step_cycles(mr, nr / lanes)), rows.saturating_add(columns))
    });
    if let Some((mr, nr, _)) = best {
        return (mr, nr);
    }
    // The generated microkernel: 8 vectors of sums where the sides are long enough, which leaves half of the 16 registers of
    // x86-64 for operands. Four columns are one of floats, and two of integers.
    let columns = if factors == Factors::F32 { 32 } else { 16 };
    let mr = match narrow {
        0 | 1 => 1,
        2 => 2,
        _ => 4,
    };
    let nr = columns / mr;
    (mr, nr.min(wide.next_multiple_of(4)).max(4))
}

/// The shape of tiles of one row, over `length` terms, so that there are panels for several threads: a large matrix by a vector
/// waits for memory, and narrower panels take no longer.
fn with_enough_panels((mr, nr): (u64, u64), (wide, length): (u64, u64), microkernels: &[Microkernel]) -> (u64, u64) {
    let far = wide.saturating_mul(length).saturating_mul(4) > STREAM_BYTES_FAR;
    if mr != 1 || !far || wide.div_ceil(nr) >= FEW_PANELS {
        return (mr, nr);
    }
    let narrower = microkernels.iter().filter(|kernel| {
        let width = u64::from(kernel.nr);
        kernel.mr == 1 && (FEW_VECTORS * u64::from(kernel.lanes)..nr).contains(&width)
    });
    let widths = || narrower.clone().map(|kernel| u64::from(kernel.nr));
    let enough = widths().filter(|&width| wide.div_ceil(width) >= FEW_PANELS).max();
    (mr, enough.or_else(|| widths().min()).unwrap_or(nr))
}

/// About how many half cycles a microkernel of `mr` rows of `vectors` vectors takes for a step of `k`, on a processor that
/// does two operations and two loads in a cycle, and takes four for an addition.
fn step_cycles(mr: u64, vectors: u64) -> u64 {
    let (arithmetic, loads, latency) = (2 * mr * vectors, mr + vectors, 8);
    arithmetic.max(loads).max(latency)
}

fn depends_on_weights_alone(program: &Program, kernel: &Kernel, lambda: &Lambda) -> bool {
    lambda.loads().all(|load| {
        let buffer = program.buffer(kernel.loads[load as usize].buffer);
        buffer.kind.is_weight() || matches!(buffer.kind, BufferKind::Constant(_))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody calls it.
    unsafe extern "C" fn no_code(_: u64, _: *const f32, _: *const f32, _: *mut f32) {}

    #[test]
    fn a_large_matrix_by_a_vector_has_panels_for_several_threads() {
        let of_width = |nr| Microkernel { factors: Factors::F32, mr: 1, nr, lanes: 16, code: no_code };
        let microkernels = [128, 64, 32, 16].map(of_width);
        let shape = |wide, length| {
            let shape = tile(Factors::F32, (1, wide), &microkernels);
            with_enough_panels(shape, (wide, length), &microkernels).1
        };
        assert_eq!(shape(4096, 4096), 128);
        assert_eq!(shape(256, 8192), 64);
        assert_eq!(shape(128, 8192), 32);
        // As many as there can be, of two vectors at least.
        assert_eq!(shape(64, 8192), 32);
        // From a near cache wide panels are faster.
        assert_eq!(shape(128, 512), 128);
    }
}
