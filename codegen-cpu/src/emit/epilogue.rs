//! What becomes of the totals of a tile: a contraction's epilogue, row by row.

use cranelift_codegen::ir::{InstBuilder, Value};
use loom_ir::types::DType;

use super::access::At;
use super::scalar::Lanes;
use super::wide::{Reduced, WideLoop};
use super::{Gen, flags};
use crate::view::View;
use crate::wide::Pool;

#[derive(Debug)]
pub(crate) struct Epilogue {
    /// Groups: batch, narrow, wide. One function and the output.
    pub view: View,
    /// Columns of a tile, and the type of its totals.
    width: u64,
    totals: DType,
    /// The epilogue of a tile's row.
    wide: Option<WideLoop>,
}

impl Epilogue {
    pub fn new(view: View, (width, totals): (u64, DType), pool: &mut Pool) -> Epilogue {
        let mut plan = || {
            let [extent] = view.groups[2][..] else { return None };
            let axis = view.groups[0].len() + view.groups[1].len();
            WideLoop::plan_writes(&view, &view.functions[0], (axis, extent.min(width)), true, pool)
        };
        let wide = plan();
        Epilogue { view, width, totals, wide }
    }

    /// A rough count of scalar operations for one element.
    pub fn cost(&self) -> u64 {
        self.view.functions[0].cost()
    }

    /// Writes the elements of a tile that are there: so many rows and columns from the first ones on. `batch` is the index
    /// over the view's batch axes.
    pub fn finish(
        &self,
        g: &mut Gen<'_>,
        batch: &[Value],
        (first_row, rows): (Value, Value),
        (first_column, columns): (Value, Value),
        tile: Value,
    ) {
        let extents = &self.view.groups[2];
        let zero = g.index(0);
        g.count_to(rows, 1, |g, i| {
            let row = g.b.ins().iadd(first_row, i);
            let row = g.decode(row, &self.view.groups[1]);
            let totals = g.element(tile, i, self.width * 4);
            if let Some(wide) = &self.wide {
                let axes = [batch, &row, &[first_column]].concat();
                let function = &self.view.functions[0];
                wide.write(g, (&self.view, function), &axes, Reduced::Row(totals), columns);
                return;
            }
            g.walk(zero, columns, |g, j| {
                let column = g.b.ins().iadd(first_column, j);
                let column = g.decode(column, extents);
                let axes = [batch, &row, &column].concat();
                let total = g.element(totals, j, 4);
                let next_four = g.b.ins().iadd_imm_u(j, 4);
                let next_one = g.b.ins().iadd_imm_u(j, 1);
                let write = |g: &mut Gen<'_>, lanes: Lanes, next: Value| {
                    self.write(g, &axes, lanes, total);
                    vec![next]
                };
                if extents.last().is_none_or(|&extent| extent < 4) {
                    return write(g, Lanes::One, next_one)[0];
                }
                let together = g.four_together(&column, extents, (next_four, columns));
                g.branch(together, |g| write(g, Lanes::Four, next_four), |g| write(g, Lanes::One, next_one))[0]
            });
        });
    }

    fn write(&self, g: &mut Gen<'_>, axes: &[Value], lanes: Lanes, total: Value) {
        let view = &self.view;
        let total = g.b.ins().load(lanes.value_type(self.totals), flags(), total, 0);
        let at = At::new(axes, axes.len().wrapping_sub(1), lanes);
        let value = g.apply(view, &view.functions[0], at, &[total]);
        if let Some(output) = view.output {
            g.store(&view.places[output], at, value);
        }
    }
}
