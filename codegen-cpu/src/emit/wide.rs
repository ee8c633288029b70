//! Calls of wide functions ([`crate::wide`]) from generated loops, in place of an innermost one.
//!
//! A function of a view is computed by one if it walks through memory along the loop's axis: each operand is one element
//! after another, or the same for all of them, or the index. Else the loop is Cranelift's.

use cranelift_codegen::ir::{InstBuilder, StackSlot, StackSlotData, StackSlotKind, Value, types};
use loom_ir::types::DType;

use super::access::At;
use super::scalar::Lanes;
use super::{Gen, flags};
use crate::functions::wide_signature;
use crate::view::{Function, Operand, Place, View};
use crate::wide::{Feed, Pool, Purpose, Wide};

/// Elements for which a call is always worth it.
const WORTH: u64 = 16;
/// For fewer of them, the scalar operations of all.
const WORTH_OPERATIONS: u64 = 192;

/// Where the module's wide functions are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WideFunctions {
    pub first: usize,
    pub colocated: bool,
}

/// A function of a view whose loop along an axis is a wide function.
#[derive(Debug)]
pub(crate) struct WideLoop {
    number: usize,
    feeds: Vec<Feed>,
}

/// Where results of earlier stages are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reduced<'a> {
    /// One value for each stage, the same for all elements.
    Values(&'a [Value]),
    /// One value for each element, in a row at this address.
    Row(Value),
}

impl WideLoop {
    /// The loop for `extent` elements along `axis`, if there can be one that's worth it. With `rows`, earlier results are a
    /// value for each element.
    pub(crate) fn plan(
        view: &View,
        function: &Function,
        (axis, extent): (usize, u64),
        purpose: Purpose,
        rows: bool,
        pool: &mut Pool,
    ) -> Option<WideLoop> {
        if extent < WORTH && (extent < 4 || extent.saturating_mul(function.cost()) < WORTH_OPERATIONS) {
            return None;
        }
        let feed = |operand: &Operand| match *operand {
            Operand::Place(place) => feed_of(&view.places[place], axis),
            Operand::Index(other) => Some(if other == axis { Feed::Ramp } else { Feed::Value }),
            Operand::Reduced(_) if rows => Some(Feed::Stream),
            Operand::Reduced(_) | Operand::Zero => Some(Feed::Value),
        };
        let feeds: Vec<Feed> = function.operands.iter().map(feed).collect::<Option<_>>()?;
        let number = pool.add(Wide { function: function.body.clone(), feeds: feeds.clone(), purpose })?;
        Some(WideLoop { number, feeds })
    }

    /// The same where results are written to the view's output: only if they lie one after another there.
    pub(crate) fn plan_writes(
        view: &View,
        function: &Function,
        along: (usize, u64),
        rows: bool,
        pool: &mut Pool,
    ) -> Option<WideLoop> {
        let output = &view.places[view.output?];
        let adjacent = output.linear.coefficients.get(along.0) == Some(&1) && output.guards.is_empty();
        adjacent.then(|| WideLoop::plan(view, function, along, Purpose::Map, rows, pool))?
    }

    /// Runs the loop over `count` elements from `axes` on, with results at `target`.
    pub(crate) fn call(
        &self,
        g: &mut Gen<'_>,
        (view, function): (&View, &Function),
        axes: &[Value],
        reduced: Reduced<'_>,
        (target, count, terms): (Value, Value, Option<Value>),
    ) {
        let values = self.feeds.iter().filter(|&&feed| feed != Feed::Stream).count();
        let (addresses, words) = (g.stack(8 * self.feeds.len(), 3), g.stack(4 * values, 2));
        let mut next = 0;
        for (number, (operand, feed)) in function.operands.iter().zip(&self.feeds).enumerate() {
            let address = match (feed, *operand, reduced) {
                (Feed::Stream, Operand::Place(place), _) => g.address(&view.places[place], axes),
                (Feed::Stream, _, Reduced::Row(row)) => row,
                (Feed::Stream, ..) => unreachable!("streams are places or rows"),
                (Feed::Value | Feed::Ramp, operand, _) => {
                    let at = At::one(axes);
                    let value = match (operand, reduced) {
                        (Operand::Reduced(stage), Reduced::Values(values)) => values[stage],
                        _ => g.operand(view, operand, at, &[]),
                    };
                    let bits = match function.body.params[number] {
                        DType::Bool => g.bool_to_memory(value, Lanes::One),
                        _ => value,
                    };
                    g.b.ins().stack_store(types::I64, bits, words, next);
                    next += 4;
                    g.b.ins().stack_addr(types::I64, words, next - 4)
                }
            };
            g.b.ins().stack_store(types::I64, address, addresses, number as i32 * 8);
        }
        let signature = g.b.import_signature(wide_signature());
        let wide = g.wide;
        let callee = g.import(wide.first + self.number, signature, wide.colocated);
        let table = g.b.ins().stack_addr(types::I64, addresses, 0);
        let terms = terms.unwrap_or_else(|| g.index(0));
        g.b.ins().call(callee, &[table, target, count, terms]);
    }

    /// The same where results are written to the view's output.
    pub(crate) fn write(
        &self,
        g: &mut Gen<'_>,
        (view, function): (&View, &Function),
        axes: &[Value],
        reduced: Reduced<'_>,
        count: Value,
    ) {
        if let Some(output) = view.output {
            let target = g.address(&view.places[output], axes);
            self.call(g, (view, function), axes, reduced, (target, count, None));
        }
    }

    /// A reduction of `count` elements, whose terms may be kept in the view's output.
    pub(crate) fn reduce(
        &self,
        g: &mut Gen<'_>,
        (view, function): (&View, &Function),
        axes: &[Value],
        reduced: &[Value],
        (count, keep): (Value, bool),
    ) -> Value {
        let result = g.stack(4, 2);
        let target = g.b.ins().stack_addr(types::I64, result, 0);
        let terms = view.output.filter(|_| keep).map(|output| g.address(&view.places[output], axes));
        self.call(g, (view, function), axes, Reduced::Values(reduced), (target, count, terms));
        g.b.ins().load(Lanes::One.memory_type(function.result), flags(), target, 0)
    }
}

/// How a place's elements lie along an axis.
fn feed_of(place: &Place, axis: usize) -> Option<Feed> {
    let step = if place.never { 0 } else { place.linear.coefficients[axis] };
    let guarded = place.guards.iter().any(|guard| guard.expr.depends_on(axis));
    match step {
        0 if !guarded => Some(Feed::Value),
        1 if place.guards.is_empty() => Some(Feed::Stream),
        _ => None,
    }
}

impl Gen<'_> {
    /// Memory of the function's own.
    fn stack(&mut self, bytes: usize, align_shift: u8) -> StackSlot {
        let data = StackSlotData::new(StackSlotKind::ExplicitSlot, bytes as u32, align_shift);
        self.b.create_sized_stack_slot(data)
    }
}
