//! Pack functions whose panels are plain copies, by [`RowsFn`](crate::abi::RowsFn): a call for each stretch of neighbouring
//! lanes and index of the outer reduced axes. What a guard leaves of a stretch is an interval of lanes, since guards are
//! affine; padding costs no branch an element.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AbiParam, InstBuilder, Signature, StackSlot, Value, types};
use loom_ir::kernel::Guard;
use loom_ir::types::DType;

use super::Gen;
use crate::abi::RowsForm;
use crate::view::{Operand, Place, View};

/// Lanes for which a call is worth it.
const WORTH: u64 = 4;

/// How an operand is copied.
#[derive(Debug)]
pub(crate) struct Rows {
    place: usize,
    /// The innermost reduced axis is the rows of a call; else a call has one.
    counted: bool,
}

impl Rows {
    /// The copies of panels of `width` lanes, if the operand is an access and its guards leave an interval of them.
    pub(crate) fn plan(view: &View, width: u64) -> Option<Rows> {
        let function = &view.functions[0];
        let [Operand::Place(place)] = function.operands[..] else { return None };
        let source = &view.places[place];
        let lane_extent = *view.groups[1].last()?;
        let plain = function.body.insts.is_empty() && source.dtype == DType::F32 && !source.never;
        // A row that isn't there is zeros.
        let zeros = source.guards.is_empty() || source.fill == 0;
        let forward = |guard: &Guard| guard.expr.coefficients[lane_axis(view)] >= 0;
        let eligible = plain && zeros && source.guards.iter().all(forward);
        if !eligible || width < WORTH || lane_extent < WORTH {
            return None;
        }
        let inner = view.groups.iter().map(Vec::len).sum::<usize>() - 1;
        let moves = |guard: &Guard| guard.expr.depends_on(inner);
        let counted = !view.groups[2].is_empty() && !source.guards.iter().any(moves);
        Some(Rows { place, counted })
    }

    /// Writes a panel: rows of `width` lanes, of which those from number `first` on are there, `valid` of them.
    pub(crate) fn panel(
        &self,
        g: &mut Gen<'_>,
        (view, width): (&View, u64),
        batch: &[Value],
        (first, valid): (Value, Value),
        target: Value,
    ) {
        let place = &view.places[self.place];
        let lane_axis = lane_axis(view);
        let (outer, count) = match view.groups[2].split_last() {
            Some((&inner, outer)) if self.counted => (outer, inner),
            _ => (&view.groups[2][..], 1),
        };
        let inner_axis = place.linear.coefficients.len() - 1;
        let stride = if self.counted { place.linear.coefficients[inner_axis] } else { 0 };
        let call = Call::new(g, stride, place.linear.coefficients[lane_axis], width);
        let (zero, rows) = (g.index(0), g.index(count));
        g.walk(zero, valid, |g, lane| {
            let number = g.b.ins().iadd(first, lane);
            let row = g.decode(number, &view.groups[1]);
            let (Some(&extent), Some(&index)) = (view.groups[1].last(), row.last()) else { return valid };
            let extent = g.index(extent);
            let (along, left) = (g.b.ins().isub(extent, index), g.b.ins().isub(valid, lane));
            let lanes = g.least(along, left);
            let target = g.element(target, lane, 4);
            let mut start = vec![zero; outer.len()];
            start.push(target);
            let steps = g.index(outer.iter().product());
            g.count_up((zero, steps), 1, &start, |g, _, carried| {
                let (outer_index, target) = carried.split_at(outer.len());
                let inner: &[Value] = if self.counted { &[zero] } else { &[] };
                let axes = [batch, &row, outer_index, inner].concat();
                let read = interval(g, place, (lane_axis, lanes), &axes);
                let source = g.address(place, &axes);
                call.emit(g, (rows, source, target[0]), (lanes, read));
                let mut next = g.advance(outer_index, outer);
                next.push(g.b.ins().iadd_imm_u(target[0], (count * width * 4) as i64));
                next
            });
            g.b.ins().iadd(lane, lanes)
        });
        if !view.count(1).is_multiple_of(width) {
            let (all, rows) = (g.index(width), g.index(view.count(2)));
            let missing = g.b.ins().isub(all, valid);
            let beyond = g.element(target, valid, 4);
            call.emit(g, (rows, beyond, beyond), (missing, (zero, zero)));
        }
    }
}

/// The axis along which the lanes of a panel lie.
fn lane_axis(view: &View) -> usize {
    view.groups[0].len() + view.groups[1].len() - 1
}

/// Which of `lanes` lanes from `axes` on a place's guards leave.
fn interval(g: &mut Gen<'_>, place: &Place, (axis, lanes): (usize, Value), axes: &[Value]) -> (Value, Value) {
    let zero = g.index(0);
    let (mut first, mut last) = (zero, lanes);
    for guard in place.guards.iter().filter(|guard| guard.expr.depends_on(axis)) {
        let value = g.affine(&guard.expr, axes);
        let step = guard.expr.coefficients[axis];
        let extent = g.index(guard.extent);
        let (below, room) = (g.b.ins().ineg(value), g.b.ins().isub(extent, value));
        let (from, until) = (lanes_to(g, below, step), lanes_to(g, room, step));
        first = g.b.ins().umax(first, from);
        last = g.least(last, until);
    }
    let fixed = |guard: &&Guard| !guard.expr.depends_on(axis);
    if let Some(holds) = g.guards(place.guards.iter().filter(fixed), axes) {
        last = g.b.ins().select(holds, last, zero);
    }
    (first, last)
}

/// After how many lanes, each `step` further, a distance is reached: none if it's negative.
fn lanes_to(g: &mut Gen<'_>, distance: Value, step: i64) -> Value {
    let zero = g.index(0);
    let negative = g.b.ins().icmp(IntCC::SignedLessThan, distance, zero);
    let distance = g.b.ins().select(negative, zero, distance);
    if step == 1 {
        return distance;
    }
    let rounded = g.b.ins().iadd_imm_u(distance, step - 1);
    let step = g.index(step as u64);
    g.b.ins().udiv(rounded, step)
}

/// Calls of the function, with a form on the stack.
struct Call {
    form: StackSlot,
}

impl Call {
    fn new(g: &mut Gen<'_>, stride: i64, step: i64, width: u64) -> Call {
        let call = Call { form: g.stack(size_of::<RowsForm>(), 3) };
        for (value, offset) in [
            (stride, std::mem::offset_of!(RowsForm, stride)),
            (step, std::mem::offset_of!(RowsForm, step)),
            (width as i64, std::mem::offset_of!(RowsForm, width)),
        ] {
            let value = g.b.ins().iconst(types::I64, value);
            call.set(g, offset, value);
        }
        call
    }

    fn set(&self, g: &mut Gen<'_>, offset: usize, value: Value) {
        g.b.ins().stack_store(types::I64, value, self.form, offset as i32);
    }

    fn emit(
        &self,
        g: &mut Gen<'_>,
        (rows, source, target): (Value, Value, Value),
        (lanes, (first, last)): (Value, (Value, Value)),
    ) {
        self.set(g, std::mem::offset_of!(RowsForm, lanes), lanes);
        self.set(g, std::mem::offset_of!(RowsForm, first), first);
        self.set(g, std::mem::offset_of!(RowsForm, last), last);
        let mut signature = Signature::new(g.b.func.signature.call_conv);
        signature.params.extend([AbiParam::new(types::I64); 4]);
        let signature = g.b.import_signature(signature);
        let callee = g.import(g.wide.rows, signature, g.wide.colocated);
        let form = g.b.ins().stack_addr(types::I64, self.form, 0);
        g.b.ins().call(callee, &[rows, source, target, form]);
    }
}
