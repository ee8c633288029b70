//! Calls of wide functions ([`crate::wide`]) from generated loops, in place of an innermost one.
//!
//! A function of a view is computed by one if it walks through memory along the loop's axis: each operand is one element
//! after another, or the same for all of them, or the index; and its guards don't depend
//! on that axis. Else the loop is Cranelift's.

use cranelift_codegen::ir::{InstBuilder, StackSlot, StackSlotData, StackSlotKind, Value, types};
use loom_ir::kernel::scalar::{Inst, ScalarFn, ScalarFnBuilder};
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
    /// The function that copies rows, in a module that has one.
    pub rows: usize,
    pub colocated: bool,
}

/// A function of a view whose loop along an axis is a wide function.
#[derive(Debug)]
pub(crate) struct WideLoop {
    number: usize,
    feeds: Vec<Feed>,
    /// Places whose guards hold for all elements or for none. Whether they do follows the function's own operands.
    guarded: Vec<usize>,
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
        let mut guarded: Vec<usize> = Vec::new();
        let mut feed = |operand: &Operand| match *operand {
            Operand::Place(number) => {
                let place = &view.places[number];
                let feed = feed_of(place, axis)?;
                // Where the guards don't hold, elements are read from where results go.
                if feed == Feed::Stream && !place.guards.is_empty() {
                    guarded.push(number);
                    return (purpose == Purpose::Map).then_some(feed);
                }
                Some(feed)
            }
            Operand::Index(other) => Some(if other == axis { Feed::Ramp } else { Feed::Value }),
            Operand::Reduced(_) if rows => Some(Feed::Stream),
            Operand::Reduced(_) | Operand::Zero => Some(Feed::Value),
        };
        let mut feeds: Vec<Feed> = function.operands.iter().map(&mut feed).collect::<Option<_>>()?;
        let body = if guarded.is_empty() { function.body.clone() } else { with_guards(view, function, &guarded) };
        feeds.extend(guarded.iter().map(|_| Feed::Value));
        let number = pool.add(Wide { function: body, feeds: feeds.clone(), purpose })?;
        Some(WideLoop { number, feeds, guarded })
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
        let mut word = |g: &mut Gen<'_>, bits: Value| {
            g.b.ins().stack_store(types::I64, bits, words, next);
            next += 4;
            g.b.ins().stack_addr(types::I64, words, next - 4)
        };
        let mut table: Vec<Value> = Vec::new();
        for (number, (operand, feed)) in function.operands.iter().zip(&self.feeds).enumerate() {
            let address = match (feed, *operand, reduced) {
                (Feed::Stream, Operand::Place(place), _) => g.stream(&view.places[place], axes, target),
                (Feed::Stream, _, Reduced::Row(row)) => row,
                (Feed::Stream, ..) => unreachable!("streams are places or rows"),
                (Feed::Value | Feed::Ramp, operand, _) => {
                    let value = match (operand, reduced) {
                        (Operand::Reduced(stage), Reduced::Values(values)) => values[stage],
                        _ => g.operand(view, operand, At::one(axes), &[]),
                    };
                    let is_bool = function.body.params[number] == DType::Bool;
                    let bits = if is_bool { g.bool_to_memory(value, Lanes::One) } else { value };
                    word(g, bits)
                }
            };
            table.push(address);
        }
        for &place in &self.guarded {
            if let Some(holds) = g.guards(view.places[place].guards.iter(), axes) {
                let bits = g.bool_to_memory(holds, Lanes::One);
                table.push(word(g, bits));
            }
        }
        for (number, address) in table.into_iter().enumerate() {
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
        1 if !guarded => Some(Feed::Stream),
        _ => None,
    }
}

/// The function with bools as further parameters, one for each guarded place: whether it's read or filled.
fn with_guards(view: &View, function: &Function, guarded: &[usize]) -> ScalarFn {
    let mut builder = ScalarFnBuilder::new();
    let mut values: Vec<_> = function.body.params.iter().map(|&dtype| builder.param(dtype)).collect();
    let holds: Vec<_> = guarded.iter().map(|_| builder.param(DType::Bool)).collect();
    for (value, operand) in values.iter_mut().zip(&function.operands) {
        let Operand::Place(place) = *operand else { continue };
        if let Some(number) = guarded.iter().position(|&other| other == place) {
            let fill = builder.inst(Inst::Const(view.places[place].dtype, view.places[place].fill.into()));
            *value = builder.select(holds[number], *value, fill);
        }
    }
    let result = builder.call(&function.body, &values);
    builder.finish(result)
}

impl Gen<'_> {
    /// The address of the first of a place's elements; where its guards don't hold, of others.
    fn stream(&mut self, place: &Place, axes: &[Value], others: Value) -> Value {
        let address = self.address(place, axes);
        match self.guards(place.guards.iter(), axes) {
            Some(holds) => self.b.ins().select(holds, address, others),
            None => address,
        }
    }

    /// Memory of the function's own.
    pub(crate) fn stack(&mut self, bytes: usize, align_shift: u8) -> StackSlot {
        let data = StackSlotData::new(StackSlotKind::ExplicitSlot, bytes as u32, align_shift);
        self.b.create_sized_stack_slot(data)
    }
}
