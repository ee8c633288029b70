//! Attention: scores, what their rows become, and the values weighted by that, some rows at a time.
//!
//! What lies between the parts exists for the rows of one work item alone, in scratch memory. The parts themselves are those
//! of other kernels: panels and microkernels for both contractions, a reduction's plan for the rows. Each is planned over a
//! kernel of its own, which the attention's is taken apart into, and which has whole buffers of scores, weights and results of
//! stages. Those buffers are nowhere: the code is given addresses for them such that the item's part of each lies in scratch
//! memory.
//!
//! A work item is one batch and a block of rows. The keys and values of a batch are packed by every thread that comes to it.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{FuncRef, InstBuilder, Value, types};
use loom_ir::kernel::{
    Access, Affine, Arg, Attend, Body, Buffer, BufferId, BufferKind, Contract, Kernel, Lambda, Program, Reduce, Stage,
};
use loom_ir::numerics::reduction::Products;
use loom_ir::types::{DType, Shape};

use super::contract::{of_factors, tile};
use super::epilogue::Epilogue;
use super::pack::Pack;
use super::reduce::ReducePlan;
use super::{Gen, flags};
use crate::abi::{Factors, KernelLayout};
use crate::error::Error;
use crate::functions::Extras;
use crate::view::{View, by_output_stride};
use crate::wide::Pool;

/// Bytes of an item's scores, so that they stay in the second-level cache with the keys' panels.
const SCORE_BYTES: u64 = 256 << 10;
/// Most rows of an item.
const BLOCK_ROWS: u64 = 64;
/// Scratch memory that a thread may need for one batch.
const MOST_SCRATCH: u64 = 1 << 40;

#[derive(Debug)]
pub(crate) struct AttendPlan {
    parts: Parts,
    query: Pack,
    key: Pack,
    score: Epilogue,
    rows: ReducePlan,
    weight: Pack,
    value: Pack,
    result: Epilogue,
    /// Results of stages that a row has.
    stages: u64,
    batches: u64,
    count: Count,
    /// Rows of an item: whole panels of queries and of weights.
    block: u64,
}

#[derive(Debug)]
struct Count {
    rows: u64,
    keys: u64,
    inner: u64,
}

/// A kernel's memory in scratch: offsets in bytes.
struct Scratch {
    keys: u64,
    values: u64,
    queries: u64,
    scores: u64,
    weights: u64,
    weight_panel: u64,
    results: u64,
    tile: u64,
    sums: u64,
    end: u64,
}

impl AttendPlan {
    pub(crate) fn new(
        program: &Program,
        kernel: &Kernel,
        attend: &Attend,
        extras: &Extras<'_>,
        pool: &mut Pool,
    ) -> Result<AttendPlan, Error> {
        let parts = Parts::of(program, kernel, attend);
        let groups = attend.groups(kernel.axes.len());
        let [batches, rows, columns, keys, inner] = groups.map(|group| kernel.axes[group].iter().product::<u64>());
        let microkernels = of_factors(extras.microkernels, Factors::F32);
        let [of_scores, of_values] = [keys, columns].map(|wide| tile(Factors::F32, (rows, wide), &microkernels));

        // Axes of the parts: batch and rows, then keys and what is contracted, or columns and keys.
        let batch: Vec<usize> = (0..attend.batch).collect();
        let row: Vec<usize> = (attend.batch..attend.batch + attend.rows).collect();
        let leading = attend.batch + attend.rows;
        let (first, last) = (&parts.scores, &parts.values);
        let key: Vec<usize> = (leading..leading + attend.keys).collect();
        let contracted: Vec<usize> = (leading + attend.keys..first.axes.len()).collect();
        let column = by_output_stride(last, leading..leading + attend.columns);
        let weighted: Vec<usize> = (leading + attend.columns..last.axes.len()).collect();
        let (scores, values) = (contraction(first), contraction(last));
        let program = &parts.program;
        let mut pack = |kernel: &Kernel, [side, over]: [&Vec<usize>; 2], lambda: &Lambda, width: u64| {
            let groups = [batch.clone(), side.clone(), over.clone()];
            Ok::<_, Error>(Pack::new(
                View::new(program, kernel, &groups, &[lambda], false)?,
                width,
                Factors::F32,
                extras.rows.is_some(),
                pool,
            ))
        };
        let query = pack(first, [&row, &contracted], &scores.lhs, of_scores.0)?;
        let key_pack = pack(first, [&key, &contracted], &scores.rhs, of_scores.1)?;
        let weight = pack(last, [&row, &weighted], &values.lhs, of_values.0)?;
        let value = pack(last, [&column, &weighted], &values.rhs, of_values.1)?;
        let view = |kernel: &Kernel, wide: &[usize], lambda: &Lambda| {
            View::new(program, kernel, &[batch.clone(), row.clone(), wide.to_vec()], &[lambda], true)
        };
        let score = Epilogue::new(view(first, &key, &scores.epilogue)?, (of_scores.1, DType::F32), pool);
        let result = Epilogue::new(view(last, &column, &values.epilogue)?, (of_values.1, DType::F32), pool);
        let Body::Reduce(reduce) = &parts.rows.body else { unreachable!("the rows' part is a reduction") };
        let row_plan = ReducePlan::of_single_rows(program, &parts.rows, reduce, pool)?;

        // Whole panels of both; all widths are powers of two.
        let step = of_scores.0.max(of_values.0);
        let by_cache = SCORE_BYTES / (keys * 4).max(1);
        // Enough items for the threads come before the cache.
        let by_items = if batches >= 8 { rows } else { rows.div_ceil(8) };
        let block = by_cache.min(by_items).min(BLOCK_ROWS).next_multiple_of(step).max(step);
        let plan = AttendPlan {
            stages: attend.stages.len() as u64,
            batches,
            count: Count { rows, keys, inner },
            block,
            query,
            key: key_pack,
            score,
            rows: row_plan,
            weight,
            value,
            result,
            parts,
        };
        plan.check_memory(kernel)?;
        Ok(plan)
    }

    /// Keys and values of a batch are packed whole, by each thread.
    fn check_memory(&self, kernel: &Kernel) -> Result<(), Error> {
        let panels = |pack: &Pack| u128::from(pack.tiles()) * u128::from(pack.panel_bytes());
        let bytes = panels(&self.key) + panels(&self.value) + u128::from(self.block) * u128::from(self.count.keys) * 12;
        if bytes > u128::from(MOST_SCRATCH) {
            let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
            return Err(Error::Memory { kernel: kernel.name.clone(), what: "scratch memory", bytes });
        }
        Ok(())
    }

    /// The shapes of tiles: of scores and of weighted sums.
    pub(crate) fn shapes(&self) -> [(u64, u64); 2] {
        [(self.query.width, self.key.width), (self.weight.width, self.value.width)]
    }

    fn blocks(&self) -> u64 {
        self.count.rows.div_ceil(self.block)
    }

    fn scratch(&self) -> Scratch {
        let mut end = 0;
        let mut take = |bytes: u64| {
            let begin = end;
            end += bytes.next_multiple_of(64);
            begin
        };
        let row = self.count.keys * 4;
        let [scores, values] = self.shapes();
        Scratch {
            keys: take(self.key.tiles() * self.key.panel_bytes()),
            values: take(self.value.tiles() * self.value.panel_bytes()),
            queries: take(self.block / self.query.width * self.query.panel_bytes()),
            scores: take(self.block * row),
            weights: take(self.weight.width * row),
            weight_panel: take(self.weight.panel_bytes()),
            results: take(self.stages * self.weight.width * 4),
            tile: take((scores.0 * scores.1).max(values.0 * values.1) * 4),
            sums: take(self.rows.row_scratch_bytes()),
            end,
        }
    }

    pub(crate) fn layout(&self) -> KernelLayout {
        let rows = self.batches * self.count.rows;
        let (keys, columns) = (self.count.keys, self.value.view.count(1));
        // Some 48 products in a nanosecond, as in other contractions.
        let products = rows.saturating_mul(keys).saturating_mul(self.count.inner.saturating_add(columns)) / 48;
        let elements = super::nanoseconds(rows.saturating_mul(keys), self.score.cost() + self.rows.cost());
        let results = super::nanoseconds(rows.saturating_mul(columns), self.result.cost());
        KernelLayout {
            items: if columns == 0 { 0 } else { self.batches * self.blocks() },
            slices: 1,
            scratch_bytes: self.scratch().end,
            panels: None,
            cost: products.saturating_add(elements).saturating_add(results),
        }
    }

    /// Writes the kernel, whose buffers are in `g`. The microkernels are those of the shapes.
    pub(crate) fn emit(&self, g: &mut Gen<'_>, (begin, end): (Value, Value), scratch: Value, micro: [FuncRef; 2]) {
        let at = self.scratch();
        let real = std::mem::take(&mut g.buffers);
        let items = [self.batches, self.blocks()];
        let place = |g: &mut Gen<'_>, offset: u64| g.b.ins().iadd_imm_u(scratch, offset as i64);
        let mut carried = g.decode(begin, &items);
        carried.push(g.b.ins().iconst(types::I64, -1));
        g.count_up((begin, end), 1, &carried, |g, _, carried| {
            let (batch, block, ready) = (carried[0], carried[1], carried[2]);
            let row_number = |g: &mut Gen<'_>, row: Value| {
                let rows = g.b.ins().imul_imm_u(batch, self.count.rows as i64);
                g.b.ins().iadd(rows, row)
            };
            let first = g.b.ins().imul_imm_u(block, self.block as i64);
            let count = g.index(self.count.rows);
            let last = g.b.ins().iadd_imm_u(first, self.block as i64);
            let last = g.least(last, count);

            let zero = g.index(0);
            self.parts.enter(g, Part::Values, &real, &self.nowhere(zero));
            let same = g.b.ins().icmp(IntCC::Equal, batch, ready);
            let pack_all = |g: &mut Gen<'_>, pack: &Pack, offset: u64| {
                let from = g.b.ins().imul_imm_u(batch, pack.tiles() as i64);
                let to = g.b.ins().iadd_imm_u(from, pack.tiles() as i64);
                let target = place(g, offset);
                pack.emit(g, (from, to), target);
            };
            g.branch(
                same,
                |_| Vec::new(),
                |g| {
                    pack_all(g, &self.value, at.values);
                    self.parts.enter(g, Part::Scores, &real, &self.nowhere(zero));
                    pack_all(g, &self.key, at.keys);
                    Vec::new()
                },
            );

            // The scores of the block.
            let first_row = row_number(g, first);
            let window = place(g, at.scores);
            let row_bytes = self.count.keys as i64 * 4;
            let before = g.b.ins().imul_imm_u(first_row, row_bytes);
            let scores = g.b.ins().isub(window, before);
            let virtuals = Virtuals { scores, ..self.nowhere(zero) };
            self.parts.enter(g, Part::Scores, &real, &virtuals);
            self.scores(g, (batch, first, last), scratch, micro[0]);

            // Their rows, then the weighted sums, a panel of weights at a time.
            g.count_all((first, last), self.weight.width, |g, row| {
                let stop = g.b.ins().iadd_imm_u(row, self.weight.width as i64);
                let stop = g.least(stop, last);
                let number = row_number(g, row);
                let before = g.b.ins().imul_imm_u(number, row_bytes);
                let window = place(g, at.weights);
                let weights = g.b.ins().isub(window, before);
                let stages: Vec<Value> = (0..self.stages)
                    .map(|stage| {
                        let window = place(g, at.results + stage * self.weight.width * 4);
                        let before = g.b.ins().ishl_imm_u(number, 2);
                        g.b.ins().isub(window, before)
                    })
                    .collect();
                let virtuals = Virtuals { scores, weights, stages };
                self.parts.enter(g, Part::Rows, &real, &virtuals);
                let sums = place(g, at.sums);
                g.count_up((row, stop), 1, &[], |g, row, _| {
                    let number = row_number(g, row);
                    let results = self.rows.single_row(g, number, sums);
                    for (&result, &address) in results.iter().zip(&virtuals.stages) {
                        let place = g.element(address, number, 4);
                        g.b.ins().store(flags(), result, place, 0);
                    }
                    Vec::new()
                });
                self.parts.enter(g, Part::Values, &real, &virtuals);
                self.weighted(g, (batch, row, stop), scratch, micro[1]);
            });
            let mut next = g.advance(&carried[..2], &items);
            next.push(batch);
            next
        });
    }

    /// Addresses for code that uses none of them.
    fn nowhere(&self, zero: Value) -> Virtuals {
        Virtuals { scores: zero, weights: zero, stages: vec![zero; self.stages as usize] }
    }

    /// The scores of rows `first..last`, the first of a block.
    fn scores(&self, g: &mut Gen<'_>, (batch, first, last): (Value, Value, Value), scratch: Value, micro: FuncRef) {
        let at = self.scratch();
        let (mr, nr) = self.shapes()[0];
        let (queries, keys) = (at.queries as i64, at.keys as i64);
        let queries = g.b.ins().iadd_imm_u(scratch, queries);
        let keys = g.b.ins().iadd_imm_u(scratch, keys);
        let tile = g.b.ins().iadd_imm_u(scratch, at.tile as i64);
        let length = g.index(self.count.inner);
        let divided = |g: &mut Gen<'_>, rows: Value| {
            let width = g.index(mr);
            g.b.ins().udiv(rows, width)
        };
        let from = divided(g, first);
        let rounded = g.b.ins().iadd_imm_u(last, mr as i64 - 1);
        let to = divided(g, rounded);
        let before = g.b.ins().imul_imm_u(batch, self.query.tiles() as i64);
        let (begin, end) = (g.b.ins().iadd(before, from), g.b.ins().iadd(before, to));
        self.query.emit(g, (begin, end), queries);
        let index = g.decode(batch, &self.score.view.groups[0]);
        let panels = g.index(self.key.tiles());
        g.count_to(panels, 1, |g, panel| {
            let wide = g.element(keys, panel, self.key.panel_bytes());
            let columns = self.key.valid(g, panel);
            let column = g.b.ins().imul_imm_u(panel, nr as i64);
            g.count_up((from, to), 1, &[queries], |g, query, narrow| {
                g.b.ins().call(micro, &[length, narrow[0], wide, tile]);
                let row = g.b.ins().imul_imm_u(query, mr as i64);
                let left = g.b.ins().isub(last, row);
                let width = g.index(mr);
                let rows = g.least(left, width);
                self.score.finish(g, &index, (row, rows), (column, columns), tile);
                vec![g.b.ins().iadd_imm_u(narrow[0], self.query.panel_bytes() as i64)]
            });
        });
    }

    /// The weighted sums of rows `first..last`, a panel of weights.
    fn weighted(&self, g: &mut Gen<'_>, (batch, first, last): (Value, Value, Value), scratch: Value, micro: FuncRef) {
        let at = self.scratch();
        let (mr, nr) = self.shapes()[1];
        let narrow = g.b.ins().iadd_imm_u(scratch, at.weight_panel as i64);
        let values = g.b.ins().iadd_imm_u(scratch, at.values as i64);
        let tile = g.b.ins().iadd_imm_u(scratch, at.tile as i64);
        let length = g.index(self.count.keys);
        let width = g.index(mr);
        let panel = g.b.ins().udiv(first, width);
        let before = g.b.ins().imul_imm_u(batch, self.weight.tiles() as i64);
        let panel = g.b.ins().iadd(before, panel);
        let next = g.b.ins().iadd_imm_u(panel, 1);
        self.weight.emit(g, (panel, next), narrow);
        let rows = g.b.ins().isub(last, first);
        let index = g.decode(batch, &self.result.view.groups[0]);
        let panels = g.index(self.value.tiles());
        g.count_to(panels, 1, |g, panel| {
            let wide = g.element(values, panel, self.value.panel_bytes());
            g.b.ins().call(micro, &[length, narrow, wide, tile]);
            let columns = self.value.valid(g, panel);
            let column = g.b.ins().imul_imm_u(panel, nr as i64);
            self.result.finish(g, &index, (first, rows), (column, columns), tile);
        });
    }
}

/// Addresses of the buffers that are nowhere.
struct Virtuals {
    scores: Value,
    weights: Value,
    stages: Vec<Value>,
}

#[derive(Debug, Clone, Copy)]
enum Part {
    Scores,
    Rows,
    Values,
}

/// An attention as kernels of its parts, over the program's buffers and more.
#[derive(Debug)]
struct Parts {
    /// The buffers without what is in them, then the scores, the weights and the stages' results. No kernels.
    program: Program,
    /// The kernel's own buffers, in its order.
    own: Vec<BufferId>,
    scores: Kernel,
    rows: Kernel,
    values: Kernel,
}

impl Parts {
    fn of(program: &Program, kernel: &Kernel, attend: &Attend) -> Parts {
        let [batch, rows, columns, keys, inner] = attend.groups(kernel.axes.len());
        let mut buffers: Vec<Buffer> = program
            .buffers
            .iter()
            .map(|buffer| {
                let kind = if buffer.kind.is_written() { buffer.kind.clone() } else { BufferKind::Input };
                Buffer { name: buffer.name.clone(), dtype: buffer.dtype, shape: buffer.shape.clone(), kind }
            })
            .collect();
        let leading: Vec<usize> = batch.chain(rows).collect();
        let row_axes: Vec<usize> = leading.iter().copied().chain(keys.clone()).collect();
        let extents = |axes: &[usize]| Shape::from(axes.iter().map(|&axis| kernel.axes[axis]).collect::<Vec<_>>());
        let mut add = |dtype: DType, axes: &[usize]| {
            buffers.push(Buffer { name: String::new(), dtype, shape: extents(axes), kind: BufferKind::Temp });
            BufferId(buffers.len() as u32 - 1)
        };
        let (scores, weights) = (add(DType::F32, &row_axes), add(DType::F32, &row_axes));
        let stages: Vec<BufferId> = attend
            .stages
            .iter()
            .map(|stage| match stage.input.function.result_type() {
                Ok(dtype) => add(dtype, &leading),
                Err(error) => unreachable!("verified functions are well typed: {error}"),
            })
            .collect();

        let parts = |axes: Vec<usize>| Taken { kernel, axes };
        let first = parts(row_axes.iter().copied().chain(inner).collect());
        let contract = Contract {
            batch: attend.batch,
            rows: attend.rows,
            columns: attend.keys,
            lhs: first.lambda(&attend.query, |arg| arg),
            rhs: first.lambda(&attend.key, |arg| arg),
            products: Products::Float(attend.spec),
            epilogue: first.lambda(&attend.score, |arg| arg),
        };
        let scores_kernel = first.kernel(Body::Contract(contract), first.whole(scores, row_axes.len()), Vec::new());

        let second = parts(row_axes.clone());
        let score = Arg::Load(kernel.loads.len() as u32);
        let of_row = |arg| match arg {
            Arg::Reduced(0) => score,
            Arg::Reduced(stage) => Arg::Reduced(stage - 1),
            other => other,
        };
        let row_stages =
            attend.stages.iter().map(|stage| Stage { input: second.lambda(&stage.input, of_row), op: stage.op });
        let reduce = Reduce {
            reduced: attend.keys,
            stages: row_stages.collect(),
            result: second.lambda(&attend.weight, of_row),
            per_element: true,
        };
        let own = vec![second.whole(scores, row_axes.len())];
        let rows_kernel = second.kernel(Body::Reduce(reduce), second.whole(weights, row_axes.len()), own);

        let third = parts(leading.iter().copied().chain(columns.clone()).chain(keys).collect());
        let weight = Arg::Load(kernel.loads.len() as u32);
        let of_result = |arg| match arg {
            Arg::Reduced(stage) if stage > 0 => Arg::Load(kernel.loads.len() as u32 + stage),
            other => other,
        };
        let contract = Contract {
            batch: attend.batch,
            rows: attend.rows,
            columns: attend.columns,
            lhs: Lambda::identity(weight, DType::F32),
            rhs: third.lambda(&attend.value, |arg| arg),
            products: Products::Float(attend.spec),
            epilogue: third.lambda(&attend.result, of_result),
        };
        let mut coords: Vec<usize> = (0..leading.len()).collect();
        coords.extend(leading.len() + columns.len()..third.axes.len());
        let mut own = vec![third.access(weights, &coords)];
        own.extend(stages.iter().map(|&stage| third.whole(stage, leading.len())));
        let values_kernel = third.kernel(Body::Contract(contract), third.moved(&kernel.output), own);
        Parts {
            program: Program { name: String::new(), buffers, kernels: Vec::new(), plan: None },
            own: kernel.buffers(),
            scores: scores_kernel,
            rows: rows_kernel,
            values: values_kernel,
        }
    }

    /// From here on code is that of a part: its buffers are the kernel's own, or these.
    fn enter(&self, g: &mut Gen<'_>, part: Part, own: &[Value], virtuals: &Virtuals) {
        let kernel = match part {
            Part::Scores => &self.scores,
            Part::Rows => &self.rows,
            Part::Values => &self.values,
        };
        let first = self.program.buffers.len() - 2 - virtuals.stages.len();
        let address = |buffer: BufferId| match buffer.index().checked_sub(first) {
            Some(0) => virtuals.scores,
            Some(1) => virtuals.weights,
            Some(stage) => virtuals.stages[stage - 2],
            None => own[self.own.iter().position(|&other| other == buffer).unwrap_or(0)],
        };
        g.buffers = kernel.buffers().into_iter().map(address).collect();
    }
}

/// A part's axes among those of the whole kernel.
struct Taken<'a> {
    kernel: &'a Kernel,
    axes: Vec<usize>,
}

impl Taken<'_> {
    /// An access of the whole kernel that depends on no other axis.
    fn moved(&self, access: &Access) -> Access {
        let place = |axis: usize| match self.axes.iter().position(|&own| own == axis) {
            Some(place) => Affine::axis(place, self.axes.len()),
            None => Affine::constant(0, self.axes.len()),
        };
        let places: Vec<Affine> = (0..self.kernel.axes.len()).map(place).collect();
        access.substitute(&places, self.axes.len())
    }

    fn lambda(&self, lambda: &Lambda, rename: impl Fn(Arg) -> Arg) -> Lambda {
        let args = lambda.args.iter().map(|&arg| match arg {
            Arg::Index(axis) => {
                let place = self.axes.iter().position(|&own| own == axis as usize);
                Arg::Index(place.unwrap_or_default() as u32)
            }
            other => rename(other),
        });
        Lambda { args: args.collect(), function: lambda.function.clone() }
    }

    /// A new buffer at the first axes of the part.
    fn whole(&self, buffer: BufferId, axes: usize) -> Access {
        self.access(buffer, &(0..axes).collect::<Vec<_>>())
    }

    /// A new buffer at axes of the part.
    fn access(&self, buffer: BufferId, axes: &[usize]) -> Access {
        let shape: Vec<u64> = axes.iter().map(|&axis| self.kernel.axes[self.axes[axis]]).collect();
        let coords = axes.iter().map(|&axis| Affine::axis(axis, self.axes.len())).collect();
        Access { buffer, shape: Shape::from(shape), coords, guards: Vec::new(), fill: 0 }
    }

    /// The part's kernel: the loads of the whole one, then others.
    fn kernel(&self, body: Body, output: Access, others: Vec<Access>) -> Kernel {
        Kernel {
            name: self.kernel.name.clone(),
            axes: self.axes.iter().map(|&axis| self.kernel.axes[axis]).collect(),
            loads: self.kernel.loads.iter().map(|access| self.moved(access)).chain(others).collect(),
            body,
            output,
            in_loop: None,
        }
    }
}

fn contraction(kernel: &Kernel) -> &Contract {
    match &kernel.body {
        Body::Contract(contract) => contract,
        _ => unreachable!("scores and weighted sums are contractions"),
    }
}
