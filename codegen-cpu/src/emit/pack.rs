//! Pack functions: an operand of a contraction as panels.
//!
//! A panel holds `width` neighbouring rows (or columns) of one batch, k by k: `[k][width]`. Those beyond the operand's
//! last row are +0.0; nothing computed from them is kept. The operand's prologue, windows and padding are applied here, so
//! that microkernels see plain numbers.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value};
use loom_ir::types::DType;

use super::access::At;
use super::bytes;
use super::rows::Rows;
use super::scalar::Lanes;
use super::wide::{Reduced, WideLoop};
use super::{Gen, flags};
use crate::abi::Factors;
use crate::view::{Place, View};
use crate::wide::{Pool, Purpose};

/// Functions of at most this cost are written once for each four rows of a panel.
const LIGHT: u64 = 8;

/// One operand and the shape of its panels.
#[derive(Debug)]
pub(crate) struct Pack {
    /// Groups: batch axes, row (or column) axes, reduced axes. One function.
    pub view: View,
    /// Rows in a panel.
    pub width: u64,
    /// What panels hold.
    pub factors: Factors,
    /// Panels of one row are one stretch of memory.
    pub wide: Option<WideLoop>,
    /// Panels are copies.
    pub rows: Option<Rows>,
}

impl Pack {
    pub fn new(view: View, width: u64, factors: Factors, copies: bool, pool: &mut Pool) -> Pack {
        let extent = view.groups[2].last().copied().unwrap_or(1);
        let axis = view.groups.iter().map(Vec::len).sum::<usize>().wrapping_sub(1);
        let along = !view.groups[2].is_empty() && width == 1 && factors != Factors::I8;
        let mut plan = || WideLoop::plan(&view, &view.functions[0], (axis, extent), Purpose::Map, false, pool);
        let wide = if along { plan() } else { None };
        let plain = copies && factors == Factors::F32 && wide.is_none();
        let rows = if plain { Rows::plan(&view, width) } else { None };
        Pack { view, width, factors, wide, rows }
    }

    /// Panels of one batch.
    pub fn tiles(&self) -> u64 {
        self.view.count(1).div_ceil(self.width)
    }

    /// Panels of all batches.
    pub fn panels(&self) -> u64 {
        self.view.count(0) * self.tiles()
    }

    /// Bytes of a panel.
    pub fn panel_bytes(&self) -> u64 {
        match self.factors {
            Factors::F32 => self.view.count(2) * self.width * 4,
            Factors::I8 => self.view.count(2).next_multiple_of(bytes::TERMS) * self.width,
        }
    }

    /// How many rows of a panel are there.
    pub fn valid(&self, g: &mut Gen<'_>, tile: Value) -> Value {
        let width = g.index(self.width);
        let count = self.view.count(1);
        if count.is_multiple_of(self.width) {
            return width;
        }
        let first = g.b.ins().imul_imm_u(tile, self.width as i64);
        let count = g.index(count);
        let left = g.b.ins().isub(count, first);
        g.least(left, width)
    }

    pub fn cost(&self) -> u64 {
        let terms = self.view.count(0).saturating_mul(self.view.count(1)).saturating_mul(self.view.count(2));
        super::nanoseconds(terms, self.view.functions[0].cost())
    }

    /// Writes panels `begin..end` to `target` onwards.
    pub fn emit(&self, g: &mut Gen<'_>, (begin, end): (Value, Value), target: Value) {
        g.count_up((begin, end), 1, &[target], |g, number, target| {
            let batch_and_tile = g.decode(number, &[self.view.count(0), self.tiles()]);
            let batch = g.decode(batch_and_tile[0], &self.view.groups[0]);
            self.panel(g, &batch, batch_and_tile[1], target[0]);
            vec![g.b.ins().iadd_imm_u(target[0], self.panel_bytes() as i64)]
        });
    }

    fn panel(&self, g: &mut Gen<'_>, batch: &[Value], tile: Value, target: Value) {
        if self.factors == Factors::I8 {
            return self.bytes(g, batch, tile, target);
        }
        let first = g.b.ins().imul_imm_u(tile, self.width as i64);
        let count = g.index(self.view.count(1));
        let left = g.b.ins().isub(count, first);
        let width = g.index(self.width);
        let valid = g.least(left, width);
        if let Some(rows) = &self.rows {
            rows.panel(g, (&self.view, self.width), batch, (first, valid), target);
            return;
        }
        if self.is_side_by_side() {
            // Full panels are read row by row of memory, in which neighbours share cache lines.
            let full = g.b.ins().icmp(IntCC::Equal, valid, width);
            let row = [first];
            let together = |g: &mut Gen<'_>| {
                self.terms(g, batch, &row, Lanes::Four, self.width / 4, target);
                Vec::new()
            };
            let rest = |g: &mut Gen<'_>| {
                self.lanes(g, batch, (first, valid), target);
                Vec::new()
            };
            if self.view.count(1).is_multiple_of(self.width) {
                together(g);
            } else {
                g.branch(full, together, rest);
            }
        } else {
            self.lanes(g, batch, (first, valid), target);
        }
        if !self.view.count(1).is_multiple_of(self.width) {
            g.count_up((valid, width), 1, &[], |g, lane, _| {
                let place = g.element(target, lane, 4);
                let length = g.index(self.view.count(2));
                let zero = g.constant(DType::F32, 0, Lanes::One);
                g.count_to(length, 1, |g, k| {
                    let place = g.element(place, k, self.width * 4);
                    g.b.ins().store(flags(), zero, place, 0);
                });
                Vec::new()
            });
        }
    }

    /// Whether the rows of a panel are neighbours in memory, wherever it begins.
    fn is_side_by_side(&self) -> bool {
        let view = &self.view;
        let ([_], axis) = (&view.groups[1][..], view.groups[0].len()) else { return false };
        let adjacent = |place: &Place| place.never || place.guards.is_empty() && place.linear.coefficients[axis] == 1;
        self.width > 4
            && self.width.is_multiple_of(4)
            && view.functions[0].cost() <= LIGHT
            && view.functions[0].places().all(|place| adjacent(&view.places[place]))
    }

    /// The `valid` rows of a panel from number `first` on, a few at a time.
    fn lanes(&self, g: &mut Gen<'_>, batch: &[Value], (first, valid): (Value, Value), target: Value) {
        let rows = &self.view.groups[1];
        let zero = g.index(0);
        g.walk(zero, valid, |g, lane| {
            let row = g.b.ins().iadd(first, lane);
            let row = g.decode(row, rows);
            let place = g.element(target, lane, 4);
            let next_four = g.b.ins().iadd_imm_u(lane, 4);
            let next_one = g.b.ins().iadd_imm_u(lane, 1);
            let one = |g: &mut Gen<'_>| {
                self.terms(g, batch, &row, Lanes::One, 1, place);
                vec![next_one]
            };
            if self.width < 4 || rows.last().is_none_or(|&extent| extent < 4) {
                return one(g)[0];
            }
            let together = g.four_together(&row, rows, (next_four, valid));
            let four = |g: &mut Gen<'_>| {
                self.terms(g, batch, &row, Lanes::Four, 1, place);
                vec![next_four]
            };
            g.branch(together, four, one)[0]
        });
    }

    /// All terms of one row, or of `fours` times four rows along the innermost row axis.
    fn terms(&self, g: &mut Gen<'_>, batch: &[Value], row: &[Value], lanes: Lanes, fours: u64, target: Value) {
        let view = &self.view;
        let (outer, inner) = match view.groups[2].split_last() {
            Some((&inner, outer)) => (outer, inner),
            None => (&[][..], 1),
        };
        let has_inner = !view.groups[2].is_empty();
        let lane_axis = (batch.len() + row.len()).wrapping_sub(1);
        let (zero, count) = (g.index(0), g.index(outer.iter().product()));
        let mut start = vec![zero; outer.len()];
        start.push(target);
        g.count_up((zero, count), 1, &start, |g, _, carried| {
            let (index, target) = carried.split_at(outer.len());
            let mut next = g.advance(index, outer);
            if let Some(wide) = &self.wide {
                let axes = [batch, row, index, &[zero]].concat();
                let count = g.index(inner);
                let nothing = Reduced::Values(&[]);
                wide.call(g, (view, &view.functions[0]), &axes, nothing, (target[0], count, None));
                next.push(g.b.ins().iadd_imm_u(target[0], inner as i64 * 4));
                return next;
            }
            let inner = g.index(inner);
            let (_, target) = g.count_up((zero, inner), 1, target, |g, k, target| {
                let innermost = if has_inner { &[k][..] } else { &[] };
                let mut axes = [batch, row, index, innermost].concat();
                for number in 0..fours {
                    if number > 0 {
                        axes[lane_axis] = g.b.ins().iadd_imm_u(axes[lane_axis], 4);
                    }
                    let value = g.apply(view, &view.functions[0], At::new(&axes, lane_axis, lanes), &[]);
                    g.b.ins().store(flags(), value, target[0], number as i32 * 16);
                }
                vec![g.b.ins().iadd_imm_u(target[0], self.width as i64 * 4)]
            });
            next.extend(target);
            next
        });
    }
}

impl Gen<'_> {
    /// Whether four rows from here on are neighbours on the innermost row axis: enough lanes are left (`next_four` is
    /// not beyond `valid`), and enough of that axis.
    pub(crate) fn four_together(&mut self, row: &[Value], rows: &[u64], (next_four, valid): (Value, Value)) -> Value {
        let fit = self.b.ins().icmp(IntCC::UnsignedLessThanOrEqual, next_four, valid);
        match (row, rows) {
            // A single axis ends with the lanes.
            ([.., last], [_, .., extent]) => {
                let after = self.b.ins().iadd_imm_u(*last, 4);
                let inside = self.b.ins().icmp_imm_u(IntCC::UnsignedLessThanOrEqual, after, *extent as i64);
                self.b.ins().band(fit, inside)
            }
            _ => fit,
        }
    }
}
