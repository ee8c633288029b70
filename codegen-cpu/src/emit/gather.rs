//! Gathers: for each element its place along the last axis first, then the value there.
//!
//! Where the place does not move along the innermost axis (rows of a table), four elements are read at a time; else one by
//! one.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use loom_ir::kernel::{Gather, Kernel, Program};

use super::Gen;
use super::access::At;
use super::map::Sweep;
use super::scalar::Lanes;
use crate::abi::KernelLayout;
use crate::error::Error;
use crate::view::{Operand, View, by_output_stride};

#[derive(Debug)]
pub(crate) struct GatherPlan {
    /// The output's axes, and the axis of the place in a group of its own. Functions: the place, then the value.
    view: View,
    sweep: Sweep,
    slices: u64,
    rows: u64,
    /// Whether four elements along the innermost axis have one place.
    shared: bool,
}

impl GatherPlan {
    pub(crate) fn new(program: &Program, kernel: &Kernel, gather: &Gather) -> Result<GatherPlan, Error> {
        let last = kernel.output_axes();
        let groups = [by_output_stride(kernel, 0..last), vec![last]];
        let view = View::new(program, kernel, &groups, &[&gather.index, &gather.result], true)?;
        // The indices of a loop are never side by side.
        let inner = view.groups[0].len().checked_sub(1 + usize::from(kernel.in_loop.is_some() && last == 1));
        let moves = |operand: &Operand| match *operand {
            Operand::Place(place) => {
                let place = &view.places[place];
                inner.is_some_and(|axis| {
                    place.linear.depends_on(axis) || place.guards.iter().any(|guard| guard.expr.depends_on(axis))
                })
            }
            Operand::Index(axis) => inner == Some(axis),
            Operand::Zero | Operand::Reduced(_) => false,
        };
        let shared = !view.functions[0].operands.iter().any(moves);
        let sweep = Sweep::new(&view.groups[0], kernel.in_loop.is_some());
        Ok(GatherPlan { sweep, slices: super::slices(kernel), rows: kernel.axes[last], shared, view })
    }

    pub(crate) fn layout(&self) -> KernelLayout {
        let each = self.view.functions.iter().map(|function| function.cost()).sum();
        // One by one, or a few.
        let cost = super::nanoseconds(self.view.count(0).saturating_mul(16), each);
        KernelLayout { items: self.sweep.items(), slices: self.slices, scratch_bytes: 0, panels: None, cost }
    }

    pub(crate) fn emit(&self, g: &mut Gen<'_>, begin: Value, end: Value) {
        self.sweep.emit(g, (begin, end), &|g, axes, lanes| {
            if lanes == Lanes::One || self.shared {
                self.elements(g, axes, lanes);
                return;
            }
            let (outer, inner) = axes.split_at(axes.len() - 1);
            for lane in 0..4 {
                let index = g.b.ins().iadd_imm_u(inner[0], lane);
                self.elements(g, &[outer, &[index]].concat(), Lanes::One);
            }
        });
    }

    /// One element, or four that have one place.
    fn elements(&self, g: &mut Gen<'_>, axes: &[Value], lanes: Lanes) {
        let row = g.apply(&self.view, &self.view.functions[0], At::one(axes), &[]);
        let row = g.b.ins().uextend(types::I64, row);
        let rows = g.index(self.rows);
        let inside = g.b.ins().icmp(IntCC::UnsignedLessThan, row, rows);
        // As with guards, the first row is read in place of one that doesn't exist, and dropped.
        let first = g.index(0);
        let row = g.b.ins().select(inside, row, first);
        // The last group is empty where there's only one row.
        let all = [axes, &[row]].concat();
        let all = &all[..axes.len() + self.view.groups[1].len()];
        let at = At::new(all, axes.len().wrapping_sub(1), lanes);
        let function = &self.view.functions[1];
        let value = g.apply(&self.view, function, at, &[]);
        let zero = g.constant(function.result, 0, lanes);
        let value = g.b.ins().select(inside, value, zero);
        if let Some(output) = self.view.output {
            g.store(&self.view.places[output], at, value);
        }
    }
}
