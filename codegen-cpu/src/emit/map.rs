//! Maps: one result for each index.
//!
//! See [`Sweep`] for the order of the loops.

use cranelift_codegen::ir::{InstBuilder, Value};
use loom_ir::kernel::{Kernel, Lambda, Program};

use super::Gen;
use super::access::At;
use super::scalar::Lanes;
use super::wide::{Reduced, WideLoop};
use crate::abi::KernelLayout;
use crate::error::Error;
use crate::view::{View, by_output_stride};
use crate::wide::Pool;

/// Elements of the innermost axis in one work item: enough to hide the cost of an item, few enough to share a long row
/// among threads. A multiple of 4, so that only the last item of a row has a tail.
const STRETCH: u64 = 4096;

/// The loops over some axes, one step an element.
///
/// The innermost axis runs as one wide function, or four elements at a time, then one at a time
/// for the rest. A work item is a stretch of that axis.
#[derive(Debug)]
pub(crate) struct Sweep {
    /// Extents of the outer axes, then how many stretches the inner one has.
    items: Vec<u64>,
    /// Extent of the innermost axis; 1 where there's none.
    inner: u64,
    /// How many axes there are.
    axes: usize,
}

impl Sweep {
    /// A sweep over a kernel's axes of these extents; a loop's axis comes first, and is no innermost one.
    pub(crate) fn new(extents: &[u64], in_loop: bool) -> Sweep {
        let (outer, inner) = match extents.split_last() {
            Some(_) if in_loop && extents.len() == 1 => (extents, 1),
            Some((&inner, outer)) => (outer, inner),
            None => (&[][..], 1),
        };
        let items = outer.iter().copied().chain([inner.div_ceil(STRETCH)]).collect();
        Sweep { items, inner, axes: extents.len() }
    }

    /// How many work items there are.
    pub(crate) fn items(&self) -> u64 {
        self.items.iter().product()
    }

    /// The innermost axis and its extent.
    pub(crate) fn along(&self) -> (usize, u64) {
        (self.axes.wrapping_sub(1), self.inner)
    }

    /// The code for items `begin` to `end`. `element` writes it for an index of the axes; with four lanes, these lie along
    /// the last axis.
    pub(crate) fn emit(&self, g: &mut Gen<'_>, range: (Value, Value), element: &dyn Fn(&mut Gen<'_>, &[Value], Lanes)) {
        self.stretches(g, range, &|g, outer, (start, stop)| {
            let at = |index: Value| self.axes_at(outer, index);
            let mut next = start;
            if self.inner >= 4 {
                (next, _) = g.count_up((start, stop), 4, &[], |g, index, _| {
                    element(g, &at(index), Lanes::Four);
                    Vec::new()
                });
            }
            if !self.inner.is_multiple_of(4) {
                g.count_up((next, stop), 1, &[], |g, index, _| {
                    element(g, &at(index), Lanes::One);
                    Vec::new()
                });
            }
        });
    }

    /// The same, where `stretch` writes the code for a number of neighbouring elements from an index of the axes on.
    pub(crate) fn emit_stretches(
        &self,
        g: &mut Gen<'_>,
        range: (Value, Value),
        stretch: &dyn Fn(&mut Gen<'_>, &[Value], Value),
    ) {
        self.stretches(g, range, &|g, outer, (start, stop)| {
            let count = g.b.ins().isub(stop, start);
            stretch(g, &self.axes_at(outer, start), count);
        });
    }

    /// An index of the axes. Without any axis there's only one element, and no index.
    fn axes_at(&self, outer: &[Value], index: Value) -> Vec<Value> {
        [outer, &[index]].concat()[..self.axes].to_vec()
    }

    fn stretches(&self, g: &mut Gen<'_>, (begin, end): (Value, Value), stretch: Stretch<'_>) {
        let first = g.decode(begin, &self.items);
        g.count_up((begin, end), 1, &first, |g, _, item| {
            let (outer, number) = item.split_at(item.len() - 1);
            let start = g.b.ins().imul_imm_u(number[0], STRETCH as i64);
            let inner = g.index(self.inner);
            let stop = g.b.ins().iadd_imm_u(start, STRETCH as i64);
            let stop = if self.inner <= STRETCH { inner } else { g.least(stop, inner) };
            stretch(g, outer, (start, stop));
            g.advance(item, &self.items)
        });
    }
}

/// The code for the elements from one number to another of the innermost axis, for an index of the others.
type Stretch<'a> = &'a dyn Fn(&mut Gen<'_>, &[Value], (Value, Value));

#[derive(Debug)]
pub(crate) struct MapPlan {
    view: View,
    sweep: Sweep,
    slices: u64,
    wide: Option<WideLoop>,
}

impl MapPlan {
    pub(crate) fn new(program: &Program, kernel: &Kernel, lambda: &Lambda, pool: &mut Pool) -> Result<MapPlan, Error> {
        let order = by_output_stride(kernel, 0..kernel.axes.len());
        let view = View::new(program, kernel, &[order], &[lambda], true)?;
        let sweep = Sweep::new(&view.groups[0], kernel.in_loop.is_some());
        let wide = WideLoop::plan_writes(&view, &view.functions[0], sweep.along(), false, pool);
        Ok(MapPlan { sweep, slices: super::slices(kernel), view, wide })
    }

    pub(crate) fn layout(&self) -> KernelLayout {
        let elements = self.view.count(0);
        let cost = super::nanoseconds(elements, self.view.functions[0].cost());
        KernelLayout { items: self.sweep.items(), slices: self.slices, scratch_bytes: 0, panels: None, cost }
    }

    pub(crate) fn emit(&self, g: &mut Gen<'_>, begin: Value, end: Value) {
        let function = &self.view.functions[0];
        if let Some(wide) = &self.wide {
            self.sweep.emit_stretches(g, (begin, end), &|g, axes, count| {
                wide.write(g, (&self.view, function), axes, Reduced::Values(&[]), count);
            });
            return;
        }
        self.sweep.emit(g, (begin, end), &|g, axes, lanes| {
            let at = At::new(axes, axes.len().wrapping_sub(1), lanes);
            let value = g.apply(&self.view, function, at, &[]);
            if let Some(output) = self.view.output {
                g.store(&self.view.places[output], at, value);
            }
        });
    }
}
