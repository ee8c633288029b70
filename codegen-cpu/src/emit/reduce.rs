//! Reductions of rows, stage by stage, then the result.
//!
//! A row is read *along* itself, by wide functions or four terms at a time, where it is one stretch of memory; else *across*: term by term,
//! with four rows side by side where the rows' innermost axis allows it (pooling, sums over leading axes). A work item is
//! a row, or four rows side by side.

use cranelift_codegen::ir::{InstBuilder, Value};
use loom_ir::kernel::terms::of_terms;
use loom_ir::kernel::{Kernel, Program, Reduce, ReduceOp};
use loom_ir::types::DType;

use super::Gen;
use super::access::At;
use super::scalar::Lanes;
use super::sum;
use super::wide::{Reduced, WideLoop};
use crate::abi::KernelLayout;
use crate::error::Error;
use crate::view::{Function, Operand, View, by_output_stride};
use crate::wide::{Pool, Purpose};

/// Rows shorter than this gain nothing from vectors along them.
const SHORTEST_ALONG: u64 = 8;
/// Functions of at most this cost are written once a vector of the 8 that hold LN1's lanes.
const LIGHT: u64 = 16;
/// Most scalar operations of a short row whose terms are written one by one.
const UNROLLED: u64 = 400;

#[derive(Debug)]
pub(crate) struct ReducePlan {
    /// Groups: the rows' axes, the reduced axes. Functions: the stages, then the result.
    view: View,
    ops: Vec<ReduceOp>,
    per_element: bool,
    reading: Reading,
    slices: u64,
    /// By function: the wide one that takes the place of its loop along a row.
    wide: Vec<Option<WideLoop>>,
    reuse: Option<Reuse>,
}

/// A result that is made of a stage's terms: these are kept where the results will be.
#[derive(Debug)]
struct Reuse {
    stage: usize,
    /// The result's function, with the terms as an operand.
    result: Function,
}

impl Reuse {
    fn find(view: &View, ops: &[ReduceOp], reading: Reading) -> Option<Reuse> {
        let output = view.output.filter(|&output| view.places[output].dtype == DType::F32)?;
        // What is read along memory is kept along memory.
        if reading == Reading::Along && view.places[output].linear.coefficients[view.groups[0].len()] != 1 {
            return None;
        }
        let stages = ops.iter().zip(&view.functions).enumerate();
        let mut sums = stages.filter(|(_, (op, terms))| matches!(op, ReduceOp::Sum(_)) && terms.result == DType::F32);
        let result = &view.functions[ops.len()];
        sums.find_map(|(stage, (_, terms))| {
            let (own, of) = ((&result.operands[..], &result.body), (&terms.operands[..], &terms.body));
            let (operands, body) = of_terms(own, of, Operand::Place(output))?;
            Some(Reuse { stage, result: Function { operands, body, result: result.result } })
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Along,
    Across(Lanes),
}

impl ReducePlan {
    pub(crate) fn new(
        program: &Program,
        kernel: &Kernel,
        reduce: &Reduce,
        pool: &mut Pool,
    ) -> Result<ReducePlan, Error> {
        let rows = kernel.axes.len() - reduce.reduced;
        let groups = [by_output_stride(kernel, 0..rows), (rows..kernel.axes.len()).collect()];
        let view = View::new(program, kernel, &groups, &kernel.lambdas(), true)?;
        let ops: Vec<ReduceOp> = reduce.stages.iter().map(|stage| stage.op).collect();
        let reading = choose_reading(&view, kernel.in_loop.is_some());
        Ok(ReducePlan::of(view, ops, reading, (reduce.per_element, super::slices(kernel)), pool))
    }

    /// The plan for rows one by one, whose elements are another kernel's business.
    pub(crate) fn of_single_rows(
        program: &Program,
        kernel: &Kernel,
        reduce: &Reduce,
        pool: &mut Pool,
    ) -> Result<ReducePlan, Error> {
        let rows = kernel.axes.len() - reduce.reduced;
        let groups = [(0..rows).collect(), (rows..kernel.axes.len()).collect()];
        let view = View::new(program, kernel, &groups, &kernel.lambdas(), true)?;
        let ops: Vec<ReduceOp> = reduce.stages.iter().map(|stage| stage.op).collect();
        let along = view.groups[1].len() == 1 && view.count(1) >= SHORTEST_ALONG;
        let reading = if along { Reading::Along } else { Reading::Across(Lanes::One) };
        Ok(ReducePlan::of(view, ops, reading, (reduce.per_element, 1), pool))
    }

    fn of(
        view: View,
        ops: Vec<ReduceOp>,
        reading: Reading,
        (per_element, slices): (bool, u64),
        pool: &mut Pool,
    ) -> ReducePlan {
        let reuse = if per_element { Reuse::find(&view, &ops, reading) } else { None };
        let mut plan = ReducePlan { view, ops, per_element, reading, slices, wide: Vec::new(), reuse };
        plan.widen(pool);
        plan
    }

    /// Chooses wide functions for the loops along a row.
    fn widen(&mut self, pool: &mut Pool) {
        let view = &self.view;
        if self.reading != Reading::Along {
            return;
        }
        let along = (view.groups[0].len(), view.count(1));
        let stages = self.ops.iter().zip(&view.functions).enumerate().map(|(stage, (&op, function))| {
            let purpose = match op {
                ReduceOp::Sum(_) if function.result == DType::F32 => Purpose::Sum { keep: self.keeps(stage) },
                _ => Purpose::Integers(op, function.result, identity(op, function.result)),
            };
            WideLoop::plan(view, function, along, purpose, false, pool)
        });
        let mut wide: Vec<Option<WideLoop>> = stages.collect();
        let result = self.per_element.then(|| WideLoop::plan_writes(view, self.result(), along, false, pool));
        wide.push(result.flatten());
        self.wide = wide;
    }

    /// Whether a stage's terms are kept where the results will be.
    fn keeps(&self, stage: usize) -> bool {
        self.reuse.as_ref().is_some_and(|reuse| reuse.stage == stage)
    }

    /// Keeps the terms of a stage at an index.
    fn keep(&self, g: &mut Gen<'_>, at: At<'_>, terms: Value) {
        if let Some(output) = self.view.output {
            g.store(&self.view.places[output], at, terms);
        }
    }

    fn items(&self) -> Vec<u64> {
        let mut items = self.view.groups[0].clone();
        if let (Reading::Across(Lanes::Four), Some(last)) = (self.reading, items.last_mut()) {
            *last = last.div_ceil(4);
        }
        items
    }

    pub(crate) fn layout(&self) -> KernelLayout {
        let terms = self.view.count(1);
        let lanes = match self.reading {
            Reading::Along => Lanes::One,
            Reading::Across(lanes) => lanes,
        };
        let row: u64 = self.view.functions.iter().map(Function::cost).sum::<u64>().saturating_mul(terms.max(1));
        // An empty per-element output has nothing to write, although there are rows.
        let items = if self.per_element && terms == 0 { 0 } else { self.items().iter().product() };
        KernelLayout {
            items,
            slices: self.slices,
            scratch_bytes: sum::scratch_bytes(terms, lanes),
            panels: None,
            cost: super::nanoseconds(self.view.count(0), row),
        }
    }

    pub(crate) fn emit(&self, g: &mut Gen<'_>, begin: Value, end: Value, scratch: Value) {
        let items = self.items();
        let first = g.decode(begin, &items);
        g.count_up((begin, end), 1, &first, |g, _, item| {
            match self.reading {
                Reading::Along => drop(self.row_along(g, item, scratch)),
                Reading::Across(Lanes::One) => drop(self.row_across(g, item, Lanes::One, scratch)),
                Reading::Across(Lanes::Four) => self.four_rows(g, item, scratch),
            }
            g.advance(item, &items)
        });
    }

    /// Up to four rows from a multiple of four on.
    fn four_rows(&self, g: &mut Gen<'_>, item: &[Value], scratch: Value) {
        let (outer, last) = item.split_at(item.len() - 1);
        let extent = self.view.groups[0][outer.len()];
        let start = g.b.ins().ishl_imm_u(last[0], 2);
        let limit = g.index(extent);
        let stop = g.b.ins().iadd_imm_u(start, 4);
        let stop = g.least(stop, limit);
        let (next, _) = g.count_up((start, stop), 4, &[], |g, index, _| {
            self.row_across(g, &[outer, &[index]].concat(), Lanes::Four, scratch);
            Vec::new()
        });
        if !extent.is_multiple_of(4) {
            g.count_up((next, stop), 1, &[], |g, index, _| {
                self.row_across(g, &[outer, &[index]].concat(), Lanes::One, scratch);
                Vec::new()
            });
        }
    }

    fn result(&self) -> &Function {
        self.reuse.as_ref().map_or(&self.view.functions[self.ops.len()], |reuse| &reuse.result)
    }

    /// Bytes of scratch memory for a row by itself.
    pub(crate) fn row_scratch_bytes(&self) -> u64 {
        sum::scratch_bytes(self.view.count(1), Lanes::One)
    }

    /// A rough count of scalar operations for one element of a row.
    pub(crate) fn cost(&self) -> u64 {
        self.view.functions.iter().map(Function::cost).sum()
    }

    /// The row of this number, by itself; gives the results of the stages.
    pub(crate) fn single_row(&self, g: &mut Gen<'_>, number: Value, scratch: Value) -> Vec<Value> {
        let row = g.decode(number, &self.view.groups[0]);
        match self.reading {
            Reading::Along => self.row_along(g, &row, scratch),
            Reading::Across(_) => self.row_across(g, &row, Lanes::One, scratch),
        }
    }

    fn row_along(&self, g: &mut Gen<'_>, row: &[Value], scratch: Value) -> Vec<Value> {
        let view = &self.view;
        let n = view.count(1);
        let mut reduced: Vec<Value> = Vec::new();
        let mut splat: Vec<Value> = Vec::new();
        for (stage, (op, function)) in self.ops.iter().zip(&view.functions).enumerate() {
            let mut term = |g: &mut Gen<'_>, k: Value, lanes: Lanes| {
                let axes = [row, &[k]].concat();
                let earlier = if lanes == Lanes::One { &reduced } else { &splat };
                let at = At::new(&axes, row.len(), lanes);
                let terms = g.apply(view, function, at, earlier);
                if self.keeps(stage) {
                    self.keep(g, at, terms);
                }
                terms
            };
            let run_wide = |g: &mut Gen<'_>, wide: &WideLoop, (begin, end): (Value, Value)| {
                let count = g.b.ins().isub(end, begin);
                wide.reduce(g, (view, function), &[row, &[begin]].concat(), &reduced, (count, self.keeps(stage)))
            };
            let value = match (op, &self.wide[stage]) {
                (ReduceOp::Sum(_), Some(wide)) if function.result == DType::F32 => {
                    g.sum_blocks(n, scratch, &mut |g, range| run_wide(g, wide, range))
                }
                (_, Some(wide)) => {
                    let all = (g.index(0), g.index(n));
                    run_wide(g, wide, all)
                }
                (ReduceOp::Sum(_), None) if function.result == DType::F32 => {
                    g.sum_along(n, scratch, function.cost() <= LIGHT, &mut term)
                }
                _ => integers_along(g, *op, function.result, n, &mut term),
            };
            reduced.push(value);
            splat.push(g.b.ins().splat(Lanes::Four.value_type(function.result), value));
        }
        if !self.per_element {
            let axes = [row, &[g.index(0)]].concat();
            self.write(g, At::one(&axes), &reduced);
            return reduced;
        }
        let (zero, end) = (g.index(0), g.index(n));
        if let Some(wide) = &self.wide[self.ops.len()] {
            let axes = [row, &[zero]].concat();
            wide.write(g, (view, self.result()), &axes, Reduced::Values(&reduced), end);
            return reduced;
        }
        let (next, _) = g.count_up((zero, end), 4, &[], |g, k, _| {
            let axes = [row, &[k]].concat();
            self.write(g, At::four(&axes, row.len()), &splat);
            Vec::new()
        });
        if !n.is_multiple_of(4) {
            g.count_up((next, end), 1, &[], |g, k, _| {
                let axes = [row, &[k]].concat();
                self.write(g, At::one(&axes), &reduced);
                Vec::new()
            });
        }
        reduced
    }

    /// One row, or four along the rows' innermost axis.
    fn row_across(&self, g: &mut Gen<'_>, row: &[Value], lanes: Lanes, scratch: Value) -> Vec<Value> {
        let view = &self.view;
        let extents = &view.groups[1];
        let n = view.count(1);
        let lane_axis = row.len().wrapping_sub(1);
        let mut reduced: Vec<Value> = Vec::new();
        for (stage, (op, function)) in self.ops.iter().zip(&view.functions).enumerate() {
            let mut term = |g: &mut Gen<'_>, _: Value, index: &[Value]| {
                let axes = [row, index].concat();
                let at = At::new(&axes, lane_axis, lanes);
                let terms = g.apply(view, function, at, &reduced);
                if self.keeps(stage) {
                    self.keep(g, at, terms);
                }
                terms
            };
            let value = match op {
                ReduceOp::Sum(_) if function.result == DType::F32 => {
                    let unrolled = n.saturating_mul(function.cost()) <= UNROLLED;
                    g.sum_across(extents, lanes, scratch, unrolled, &mut term)
                }
                _ => integers_across(g, *op, function.result, lanes, extents, &mut term),
            };
            reduced.push(value);
        }
        let start = vec![g.index(0); extents.len()];
        if !self.per_element {
            let axes = [row, &start].concat();
            self.write(g, At::new(&axes, lane_axis, lanes), &reduced);
            return reduced;
        }
        let (zero, end) = (g.index(0), g.index(n));
        g.count_up((zero, end), 1, &start, |g, _, index| {
            let axes = [row, index].concat();
            self.write(g, At::new(&axes, lane_axis, lanes), &reduced);
            g.advance(index, extents)
        });
        reduced
    }

    fn write(&self, g: &mut Gen<'_>, at: At<'_>, reduced: &[Value]) {
        let value = g.apply(&self.view, self.result(), at, reduced);
        if let Some(output) = self.view.output {
            g.store(&self.view.places[output], at, value);
        }
    }
}

/// Along or across, by which needs fewer loads of single elements.
fn choose_reading(view: &View, in_loop: bool) -> Reading {
    let rows = view.groups[0].len();
    let along = view.groups[1].len() == 1 && view.count(1) >= SHORTEST_ALONG;
    // The indices of a loop are never side by side.
    let side_by_side = &view.groups[0][usize::from(in_loop)..];
    let across = side_by_side.last().is_some_and(|&extent| extent >= 4);
    let gathers = |axis: usize| {
        let uses = view.functions.iter().flat_map(Function::places);
        uses.filter(|&place| !matches!(view.places[place].linear.coefficients[axis], 0 | 1)).count()
    };
    match (along, across) {
        (true, true) if gathers(rows) <= gathers(rows - 1) => Reading::Along,
        (true, false) => Reading::Along,
        (_, true) => Reading::Across(Lanes::Four),
        (false, false) => Reading::Across(Lanes::One),
    }
}

/// The bits of an empty reduction of integers.
fn identity(op: ReduceOp, dtype: DType) -> u32 {
    let signed = dtype == DType::I32;
    match op {
        ReduceOp::Sum(_) => 0,
        ReduceOp::Max => {
            if signed {
                i32::MIN as u32
            } else {
                0
            }
        }
        ReduceOp::Min => {
            if signed {
                i32::MAX as u32
            } else {
                u32::MAX
            }
        }
    }
}

fn combine(g: &mut Gen<'_>, op: ReduceOp, dtype: DType, a: Value, b: Value) -> Value {
    let signed = dtype == DType::I32;
    match op {
        ReduceOp::Sum(_) => g.b.ins().iadd(a, b),
        ReduceOp::Max if signed => g.b.ins().smax(a, b),
        ReduceOp::Max => g.b.ins().umax(a, b),
        ReduceOp::Min if signed => g.b.ins().smin(a, b),
        ReduceOp::Min => g.b.ins().umin(a, b),
    }
}

/// Integer reductions have no order to keep: four partial results, combined at the end.
fn integers_along(g: &mut Gen<'_>, op: ReduceOp, dtype: DType, n: u64, term: sum::AlongTerm<'_>) -> Value {
    let (zero, end) = (g.index(0), g.index(n));
    let start = g.constant(dtype, identity(op, dtype), Lanes::Four);
    let (next, partial) = g.count_up((zero, end), 4, &[start], |g, k, partial| {
        let value = term(g, k, Lanes::Four);
        vec![combine(g, op, dtype, partial[0], value)]
    });
    let mut total = g.b.ins().extractlane(partial[0], 0);
    for lane in 1..4u8 {
        let value = g.b.ins().extractlane(partial[0], lane);
        total = combine(g, op, dtype, total, value);
    }
    if n.is_multiple_of(4) {
        return total;
    }
    let (_, total) = g.count_up((next, end), 1, &[total], |g, k, total| {
        let value = term(g, k, Lanes::One);
        vec![combine(g, op, dtype, total[0], value)]
    });
    total[0]
}

fn integers_across(
    g: &mut Gen<'_>,
    op: ReduceOp,
    dtype: DType,
    lanes: Lanes,
    extents: &[u64],
    term: sum::AcrossTerm<'_>,
) -> Value {
    let n = extents.iter().product();
    let (zero, end) = (g.index(0), g.index(n));
    let mut carried = vec![g.constant(dtype, identity(op, dtype), lanes)];
    carried.extend(vec![zero; extents.len()]);
    let (_, carried) = g.count_up((zero, end), 1, &carried, |g, k, carried| {
        let (total, index) = carried.split_at(1);
        let value = term(g, k, index);
        let mut next = vec![combine(g, op, dtype, total[0], value)];
        next.extend(g.advance(index, extents));
        next
    });
    carried[0]
}
