//! Loads and stores through affine accesses, and functions applied to them.
//!
//! Memory is touched only where the guards hold. A single element is loaded without a branch: where a guard fails the
//! address is that of the buffer's first element, and the value is replaced. (A place whose guards never hold has no
//! such element; it's a constant.) Four elements that lie one after another are one vector load if the guards hold for
//! the first and the last of them, and so, being affine, for all; else they are loaded one by one.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use loom_ir::kernel::{Affine, Guard};
use loom_ir::types::DType;

use super::scalar::Lanes;
use super::{Gen, flags};
use crate::view::{Function, Operand, Place, View};

/// Where in a view's axes the code stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    /// The index of every axis; of lane 0 on the lane axis.
    pub axes: &'a [Value],
    pub lanes: Lanes,
    /// With four lanes: the axis on which lane `l` is `l` further. `None` if all lanes are the same index.
    pub lane_axis: Option<usize>,
}

impl<'a> At<'a> {
    /// A single index.
    pub(crate) fn one(axes: &'a [Value]) -> At<'a> {
        At { axes, lanes: Lanes::One, lane_axis: None }
    }

    /// Four indices along an axis.
    pub(crate) fn four(axes: &'a [Value], lane_axis: usize) -> At<'a> {
        At { axes, lanes: Lanes::Four, lane_axis: Some(lane_axis) }
    }

    pub(crate) fn new(axes: &'a [Value], lane_axis: usize, lanes: Lanes) -> At<'a> {
        match lanes {
            Lanes::One => At::one(axes),
            Lanes::Four => At::four(axes, lane_axis),
        }
    }
}

impl Gen<'_> {
    /// A function's result at an index. `reduced` holds earlier results, of the lanes of `at`.
    pub(crate) fn apply(&mut self, view: &View, function: &Function, at: At<'_>, reduced: &[Value]) -> Value {
        let args: Vec<Value> =
            function.operands.iter().map(|&operand| self.operand(view, operand, at, reduced)).collect();
        self.scalar_fn(&function.body, &args, at.lanes)
    }

    pub(crate) fn operand(&mut self, view: &View, operand: Operand, at: At<'_>, reduced: &[Value]) -> Value {
        match operand {
            Operand::Place(place) => self.load(&view.places[place], at),
            Operand::Index(axis) => self.index_value(axis, at),
            Operand::Zero => self.constant(DType::U32, 0, at.lanes),
            Operand::Reduced(stage) => reduced[stage],
        }
    }

    /// The address of the element that an access without guards reads or writes.
    pub(crate) fn address(&mut self, place: &Place, axes: &[Value]) -> Value {
        let number = self.affine(&place.linear, axes);
        self.element(self.buffers[place.slot], number, 4)
    }

    fn index_value(&mut self, axis: usize, at: At<'_>) -> Value {
        let index = self.b.ins().ireduce(types::I32, at.axes[axis]);
        if at.lanes == Lanes::One {
            return index;
        }
        let first = self.b.ins().splat(types::I32X4, index);
        if at.lane_axis != Some(axis) {
            return first;
        }
        let lane = self.vector_constant(types::I32X4, [0, 1, 2, 3]);
        self.b.ins().iadd(first, lane)
    }

    /// The value of an affine expression.
    pub(crate) fn affine(&mut self, affine: &Affine, axes: &[Value]) -> Value {
        // Outer axes first, so that what doesn't move with an inner loop can be moved out of it.
        let mut sum: Option<Value> = None;
        for (&coefficient, &axis) in affine.coefficients.iter().zip(axes) {
            if coefficient == 0 {
                continue;
            }
            let term = if coefficient == 1 { axis } else { self.b.ins().imul_imm_s(axis, coefficient) };
            sum = Some(match sum {
                Some(sum) => self.b.ins().iadd(sum, term),
                None => term,
            });
        }
        match (sum, affine.offset) {
            (Some(sum), 0) => sum,
            (Some(sum), offset) => self.b.ins().iadd_imm_s(sum, offset),
            (None, offset) => self.b.ins().iconst(types::I64, offset),
        }
    }

    /// Whether all guards hold.
    pub(crate) fn guards<'g>(&mut self, guards: impl Iterator<Item = &'g Guard>, axes: &[Value]) -> Option<Value> {
        let mut all: Option<Value> = None;
        for guard in guards {
            let value = self.affine(&guard.expr, axes);
            let extent = self.index(guard.extent);
            // One unsigned comparison: a negative value is a large one.
            let holds = self.b.ins().icmp(IntCC::UnsignedLessThan, value, extent);
            all = Some(match all {
                Some(all) => self.b.ins().band(all, holds),
                None => holds,
            });
        }
        all
    }

    /// The value of an access.
    pub(crate) fn load(&mut self, place: &Place, at: At<'_>) -> Value {
        let raw = self.load_bits(place, at);
        if place.dtype == DType::Bool { self.nonzero(raw, at.lanes) } else { raw }
    }

    /// The same, a bool still being an integer.
    fn load_bits(&mut self, place: &Place, at: At<'_>) -> Value {
        if place.never {
            let bits = if place.dtype == DType::Bool { DType::U32 } else { place.dtype };
            return self.constant(bits, place.fill, at.lanes);
        }
        if at.lanes == Lanes::One {
            return self.load_scalar(place, at.axes);
        }
        let ty = Lanes::Four.memory_type(place.dtype);
        let moves = |affine: &Affine| at.lane_axis.is_some_and(|axis| affine.depends_on(axis));
        let step = at.lane_axis.map_or(0, |axis| place.linear.coefficients[axis]);
        let guarded = place.guards.iter().any(|guard| moves(&guard.expr));
        if step == 0 && !guarded {
            let scalar = self.load_scalar(place, at.axes);
            return self.b.ins().splat(ty, scalar);
        }
        if step != 1 {
            return self.load_each(place, at);
        }
        let vector = |g: &mut Self| {
            let number = g.affine(&place.linear, at.axes);
            let address = g.element(g.buffers[place.slot], number, 4);
            g.b.ins().load(ty, flags(), address, 0)
        };
        let Some(first) = self.guards(place.guards.iter(), at.axes) else { return vector(self) };
        let last_axes = self.lane(at, 3);
        let last = self.guards(place.guards.iter().filter(|guard| moves(&guard.expr)), &last_axes);
        let all = match last {
            Some(last) => self.b.ins().band(first, last),
            None => first,
        };
        self.branch(all, |g| vec![vector(g)], |g| vec![g.load_each(place, at)])[0]
    }

    /// The axes of one lane.
    fn lane(&mut self, at: At<'_>, lane: u64) -> Vec<Value> {
        let mut axes = at.axes.to_vec();
        if let (Some(axis), 1..) = (at.lane_axis, lane) {
            axes[axis] = self.b.ins().iadd_imm_u(axes[axis], lane as i64);
        }
        axes
    }

    fn load_each(&mut self, place: &Place, at: At<'_>) -> Value {
        let lanes = [0, 1, 2, 3].map(|lane| {
            let axes = self.lane(at, lane);
            self.load_scalar(place, &axes)
        });
        self.gather(lanes)
    }

    fn load_scalar(&mut self, place: &Place, axes: &[Value]) -> Value {
        let number = self.affine(&place.linear, axes);
        let holds = self.guards(place.guards.iter(), axes);
        let ty = Lanes::One.memory_type(place.dtype);
        let Some(holds) = holds else {
            let address = self.element(self.buffers[place.slot], number, 4);
            return self.b.ins().load(ty, flags(), address, 0);
        };
        let first = self.index(0);
        let number = self.b.ins().select(holds, number, first);
        let address = self.element(self.buffers[place.slot], number, 4);
        let loaded = self.b.ins().load(ty, flags(), address, 0);
        let bits = if place.dtype == DType::Bool { DType::U32 } else { place.dtype };
        let fill = self.constant(bits, place.fill, Lanes::One);
        self.b.ins().select(holds, loaded, fill)
    }

    /// Writes a value to the output. Its place has no guards.
    pub(crate) fn store(&mut self, place: &Place, at: At<'_>, value: Value) {
        let value = if place.dtype == DType::Bool { self.bool_to_memory(value, at.lanes) } else { value };
        let number = self.affine(&place.linear, at.axes);
        let address = self.element(self.buffers[place.slot], number, 4);
        let step = at.lane_axis.map_or(0, |axis| place.linear.coefficients[axis]);
        if at.lanes == Lanes::One || step == 1 {
            self.b.ins().store(flags(), value, address, 0);
            return;
        }
        for lane in 0..4u8 {
            let element = self.b.ins().extractlane(value, lane);
            let address = self.b.ins().iadd_imm_s(address, i64::from(lane) * step * 4);
            self.b.ins().store(flags(), element, address, 0);
        }
    }
}
