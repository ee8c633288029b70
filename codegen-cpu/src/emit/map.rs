//! Maps: one result for each index.
//!
//! See [`Sweep`] for the order of the loops.

use cranelift_codegen::ir::{InstBuilder, Value};
use loom_ir::kernel::{Kernel, Lambda, Program};

use super::Gen;
use super::access::At;
use super::scalar::Lanes;
use crate::abi::KernelLayout;
use crate::error::Error;
use crate::view::{View, by_output_stride};

/// Elements of the innermost axis in one work item: enough to hide the cost of an item, few enough to share a long row
/// among threads. A multiple of 4, so that only the last item of a row has a tail.
const STRETCH: u64 = 4096;

/// The loops over some axes, one step an element.
///
/// The innermost axis runs four elements at a time, then one at a time for the rest. A work item is a stretch of that axis.
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

    /// The code for items `begin` to `end`. `element` writes it for an index of the axes; with four lanes, these lie along
    /// the last axis.
    pub(crate) fn emit(
        &self,
        g: &mut Gen<'_>,
        (begin, end): (Value, Value),
        element: &dyn Fn(&mut Gen<'_>, &[Value], Lanes),
    ) {
        // Without any axis there's only one element, and no index.
        let at = |outer: &[Value], index: Value| [outer, &[index]].concat()[..self.axes].to_vec();
        let first = g.decode(begin, &self.items);
        g.count_up((begin, end), 1, &first, |g, _, item| {
            let (outer, stretch) = item.split_at(item.len() - 1);
            let start = g.b.ins().imul_imm_u(stretch[0], STRETCH as i64);
            let inner = g.index(self.inner);
            let stop = g.b.ins().iadd_imm_u(start, STRETCH as i64);
            let stop = if self.inner <= STRETCH { inner } else { g.least(stop, inner) };
            let mut next = start;
            if self.inner >= 4 {
                (next, _) = g.count_up((start, stop), 4, &[], |g, index, _| {
                    element(g, &at(outer, index), Lanes::Four);
                    Vec::new()
                });
            }
            if !self.inner.is_multiple_of(4) {
                g.count_up((next, stop), 1, &[], |g, index, _| {
                    element(g, &at(outer, index), Lanes::One);
                    Vec::new()
                });
            }
            g.advance(item, &self.items)
        });
    }
}

#[derive(Debug)]
pub(crate) struct MapPlan {
    view: View,
    sweep: Sweep,
    slices: u64,
}

impl MapPlan {
    pub(crate) fn new(program: &Program, kernel: &Kernel, lambda: &Lambda) -> Result<MapPlan, Error> {
        let order = by_output_stride(kernel, 0..kernel.axes.len());
        let view = View::new(program, kernel, &[order], &[lambda], true)?;
        let sweep = Sweep::new(&view.groups[0], kernel.in_loop.is_some());
        Ok(MapPlan { sweep, slices: super::slices(kernel), view })
    }

    pub(crate) fn layout(&self) -> KernelLayout {
        let elements = self.view.count(0);
        let cost = elements.saturating_mul(self.view.functions[0].cost());
        KernelLayout { items: self.sweep.items(), slices: self.slices, scratch_bytes: 0, panels: None, cost }
    }

    pub(crate) fn emit(&self, g: &mut Gen<'_>, begin: Value, end: Value) {
        self.sweep.emit(g, (begin, end), &|g, axes, lanes| {
            let at = At::new(axes, axes.len().wrapping_sub(1), lanes);
            let value = g.apply(&self.view, &self.view.functions[0], at, &[]);
            if let Some(output) = self.view.output {
                g.store(&self.view.places[output], at, value);
            }
        });
    }
}
