//! Maps: one result for each index.
//!
//! The innermost axis, by the output's layout, runs four elements at a time, then one at a time for the rest. A work
//! item is a stretch of that axis.

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

#[derive(Debug)]
pub(crate) struct MapPlan {
    view: View,
    /// Extents of the outer axes, then how many stretches the inner one has.
    items: Vec<u64>,
    /// Extent of the innermost axis; 1 where there's none.
    inner: u64,
    slices: u64,
}

impl MapPlan {
    pub(crate) fn new(program: &Program, kernel: &Kernel, lambda: &Lambda) -> Result<MapPlan, Error> {
        let order = by_output_stride(kernel, 0..kernel.axes.len());
        let view = View::new(program, kernel, &[order], &[lambda], true)?;
        let (outer, inner) = match view.groups[0].split_last() {
            // The only axis is a loop's.
            Some(_) if kernel.in_loop.is_some() && view.groups[0].len() == 1 => (&view.groups[0][..], 1),
            Some((&inner, outer)) => (outer, inner),
            None => (&[][..], 1),
        };
        let items = outer.iter().copied().chain([inner.div_ceil(STRETCH)]).collect();
        Ok(MapPlan { items, inner, slices: super::slices(kernel), view })
    }

    pub(crate) fn layout(&self) -> KernelLayout {
        let items = self.items.iter().product();
        let elements = self.view.count(0);
        let cost = elements.saturating_mul(self.view.functions[0].cost());
        KernelLayout { items, slices: self.slices, scratch_bytes: 0, panels: None, cost }
    }

    pub(crate) fn emit(&self, g: &mut Gen<'_>, begin: Value, end: Value) {
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
                    self.element(g, outer, index, Lanes::Four);
                    Vec::new()
                });
            }
            if !self.inner.is_multiple_of(4) {
                g.count_up((next, stop), 1, &[], |g, index, _| {
                    self.element(g, outer, index, Lanes::One);
                    Vec::new()
                });
            }
            g.advance(item, &self.items)
        });
    }

    fn element(&self, g: &mut Gen<'_>, outer: &[Value], index: Value, lanes: Lanes) {
        let axes = [outer, &[index]].concat();
        // Without any axis there's only one element, and no index.
        let axes = &axes[..self.view.groups[0].len()];
        let at = At::new(axes, axes.len().wrapping_sub(1), lanes);
        let value = g.apply(&self.view, &self.view.functions[0], at, &[]);
        if let Some(output) = self.view.output {
            g.store(&self.view.places[output], at, value);
        }
    }
}
