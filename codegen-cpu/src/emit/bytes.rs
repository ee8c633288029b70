//! Panels of bytes: integers of 8 bits, four terms of a row side by side.
//!
//! A panel is `[k / 4][width][4]`. What fills it up, beyond the last term and the last row, is 0.

use cranelift_codegen::ir::{InstBuilder, Value};
use loom_ir::types::DType;

use super::access::At;
use super::pack::Pack;
use super::scalar::Lanes;
use super::{Gen, flags};

/// Terms that lie side by side.
pub(crate) const TERMS: u64 = 4;

impl Pack {
    /// Writes one panel.
    pub(super) fn bytes(&self, g: &mut Gen<'_>, batch: &[Value], tile: Value, target: Value) {
        let (rows, length) = (self.view.count(1), self.view.count(2));
        let first = g.b.ins().imul_imm_u(tile, self.width as i64);
        let count = g.index(rows);
        let left = g.b.ins().isub(count, first);
        let width = g.index(self.width);
        let valid = g.least(left, width);
        if !rows.is_multiple_of(self.width) || !length.is_multiple_of(TERMS) {
            let zero = g.constant(DType::I32, 0, Lanes::One);
            let words = g.index(self.panel_bytes() / 4);
            g.count_to(words, 1, |g, word| {
                let place = g.element(target, word, 4);
                g.b.ins().store(flags(), zero, place, 0);
            });
        }
        g.count_to(valid, 1, |g, lane| {
            let row = g.b.ins().iadd(first, lane);
            let row = g.decode(row, &self.view.groups[1]);
            let place = g.element(target, lane, TERMS);
            self.row_of_bytes(g, batch, &row, place);
        });
    }

    /// All terms of one row, the first at `target`.
    fn row_of_bytes(&self, g: &mut Gen<'_>, batch: &[Value], row: &[Value], target: Value) {
        let view = &self.view;
        let (outer, inner) = match view.groups[2].split_last() {
            Some((&inner, outer)) => (outer, inner),
            None => (&[][..], 1),
        };
        let has_inner = !view.groups[2].is_empty();
        let lane_axis = (batch.len() + row.len()).wrapping_sub(1);
        let (zero, count) = (g.index(0), g.index(outer.iter().product()));
        // The index over the outer axes, and the number of the term.
        let start = vec![zero; outer.len() + 1];
        g.count_up((zero, count), 1, &start, |g, _, carried| {
            let (index, term) = carried.split_at(outer.len());
            let mut next = g.advance(index, outer);
            let inner = g.index(inner);
            let (_, term) = g.count_up((zero, inner), 1, term, |g, k, term| {
                let innermost = if has_inner { &[k][..] } else { &[] };
                let axes = [batch, row, index, innermost].concat();
                let value = g.apply(view, &view.functions[0], At::new(&axes, lane_axis, Lanes::One), &[]);
                let step = g.b.ins().ushr_imm_u(term[0], i64::from(TERMS.trailing_zeros()));
                let within = g.b.ins().band_imm_u(term[0], TERMS as i64 - 1);
                let place = g.element(target, step, self.width * TERMS);
                let place = g.b.ins().iadd(place, within);
                g.b.ins().istore8(flags(), value, place, 0);
                vec![g.b.ins().iadd_imm_u(term[0], 1)]
            });
            next.extend(term);
            next
        });
    }
}
