//! Panels of bytes: integers of 8 bits, four terms of a row side by side.
//!
//! A panel is `[k / 4][width][4]`. What fills it up, beyond the last term and the last row, is 0.

use cranelift_codegen::ir::types::{I32, I32X4};
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
        let fours = self.width >= 4 && self.view.groups[1].last().is_some_and(|&extent| extent >= 4);
        // Where the terms of a word are not next to each other along the last axis, each is put into what is there.
        let put = fours && !self.whole_words();
        if put || !rows.is_multiple_of(self.width) || !length.is_multiple_of(TERMS) {
            let zero = g.constant(DType::I32, 0, Lanes::One);
            let words = g.index(self.panel_bytes() / 4);
            g.count_to(words, 1, |g, word| {
                let place = g.element(target, word, 4);
                g.b.ins().store(flags(), zero, place, 0);
            });
        }
        let zero = g.index(0);
        g.walk(zero, valid, |g, lane| {
            let row = g.b.ins().iadd(first, lane);
            let row = g.decode(row, &self.view.groups[1]);
            let place = g.element(target, lane, TERMS);
            let next_four = g.b.ins().iadd_imm_u(lane, 4);
            let next_one = g.b.ins().iadd_imm_u(lane, 1);
            let one = |g: &mut Gen<'_>| {
                self.row_of_bytes(g, batch, &row, place);
                vec![next_one]
            };
            if !fours {
                return one(g)[0];
            }
            let together = g.four_together(&row, &self.view.groups[1], (next_four, valid));
            let four = |g: &mut Gen<'_>| {
                self.four_rows_of_bytes(g, batch, &row, place);
                vec![next_four]
            };
            g.branch(together, four, one)[0]
        });
    }

    /// Whether the terms of a word are neighbours along the last axis.
    fn whole_words(&self) -> bool {
        self.view.groups[2].last().is_some_and(|extent| extent.is_multiple_of(TERMS))
    }

    /// All terms of four rows along the innermost row axis, the first at `target`: a word has four terms of a row, a vector four
    /// rows.
    fn four_rows_of_bytes(&self, g: &mut Gen<'_>, batch: &[Value], row: &[Value], target: Value) {
        let view = &self.view;
        let (outer, inner) = match view.groups[2].split_last() {
            Some((&inner, outer)) => (outer, inner),
            None => (&[][..], 1),
        };
        let has_inner = !view.groups[2].is_empty();
        let lane_axis = (batch.len() + row.len()).wrapping_sub(1);
        let at_once = if self.whole_words() { TERMS } else { 1 };
        let low = g.constant(DType::I32, 0xff, Lanes::Four);
        let (zero, count) = (g.index(0), g.index(outer.iter().product()));
        let start = vec![zero; outer.len() + 1];
        g.count_up((zero, count), 1, &start, |g, _, carried| {
            let (index, term) = carried.split_at(outer.len());
            let mut next = g.advance(index, outer);
            let inner = g.index(inner);
            let (_, term) = g.count_up((zero, inner), at_once, term, |g, k, term| {
                let value = |g: &mut Gen<'_>, k: Value| {
                    let innermost = if has_inner { &[k][..] } else { &[] };
                    let axes = [batch, row, index, innermost].concat();
                    let value = g.apply(view, &view.functions[0], At::new(&axes, lane_axis, Lanes::Four), &[]);
                    g.b.ins().band(value, low)
                };
                let step = g.b.ins().ushr_imm_u(term[0], i64::from(TERMS.trailing_zeros()));
                let place = g.element(target, step, self.width * TERMS);
                let words = if at_once == TERMS {
                    let mut words = value(g, k);
                    for number in 1..TERMS {
                        let k = g.b.ins().iadd_imm_u(k, number as i64);
                        let (value, bits) = (value(g, k), g.b.ins().iconst(I32, 8 * number as i64));
                        let value = g.b.ins().ishl(value, bits);
                        words = g.b.ins().bor(words, value);
                    }
                    words
                } else {
                    let within = g.b.ins().band_imm_u(term[0], TERMS as i64 - 1);
                    let bits = g.b.ins().ishl_imm_u(within, 3);
                    let bits = g.b.ins().ireduce(I32, bits);
                    let value = value(g, k);
                    let value = g.b.ins().ishl(value, bits);
                    let there = g.b.ins().load(I32X4, flags(), place, 0);
                    g.b.ins().bor(there, value)
                };
                g.b.ins().store(flags(), words, place, 0);
                vec![g.b.ins().iadd_imm_u(term[0], at_once as i64)]
            });
            next.extend(term);
            next
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
