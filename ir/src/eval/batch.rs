//! A scalar function on many arguments at once: one instruction at a time over a block of lanes, in loops that the
//! compiler vectorises.
//!
//! The same definition as [`super::scalar`], some twenty times as fast, so that all 2^32 arguments of a function are a
//! matter of a minute. A test holds the two together.

use crate::eval::scalar as reference;
use crate::kernel::scalar::{BinaryOp, CompareOp, Inst, ScalarFn, UnaryOp};
use crate::numerics::expand::expand;
use crate::types::DType;

/// Arguments evaluated together: a few dozen live values of this size fit a first-level cache.
pub const LANES: usize = 256;

/// The bits of one value in every lane.
pub type Block = [u32; LANES];

/// A function with a place for every value.
pub struct Batch {
    steps: Vec<Step>,
    blocks: Vec<Block>,
    result: usize,
}

struct Step {
    inst: Inst,
    /// The type of the first operand that is not a condition.
    ty: DType,
    operands: [usize; 3],
    to: usize,
}

impl Batch {
    /// Prepares a function, library operations by their definitions.
    ///
    /// # Panics
    /// If `function` is ill typed.
    pub fn new(function: &ScalarFn) -> Batch {
        let function = &expand(function, &|inst, _| !is_library(inst));
        let types = match function.types() {
            Ok(types) => types,
            Err(error) => panic!("a function to evaluate is well typed: {error}"),
        };
        // A block is used again once its value has been read for the last time.
        let mut last_use = vec![0; types.len()];
        for (index, inst) in function.insts.iter().enumerate() {
            for operand in inst.operands() {
                last_use[operand.index()] = index;
            }
        }
        last_use[function.result.index()] = usize::MAX;
        let params = function.params.len();
        let mut place: Vec<usize> = (0..params).collect();
        let mut free = Vec::new();
        let mut blocks = vec![[0; LANES]; params];
        let mut steps = Vec::new();
        for (index, inst) in function.insts.iter().enumerate() {
            // A constant keeps a block of its own, filled once.
            if let Inst::Const(_, bits) = *inst {
                place.push(blocks.len());
                blocks.push([bits; LANES]);
                continue;
            }
            let to = free.pop().unwrap_or_else(|| {
                blocks.push([0; LANES]);
                blocks.len() - 1
            });
            place.push(to);
            let mut operands = [0; 3];
            let mut ty = DType::Bool;
            for (slot, operand) in operands.iter_mut().zip(inst.operands()) {
                *slot = place[operand.index()];
            }
            if let Some(first) = inst.operands().nth(usize::from(matches!(inst, Inst::Select(..)))) {
                ty = types[first.index()];
            }
            steps.push(Step { inst: *inst, ty, operands, to });
            let ended = inst.operands().filter(|operand| {
                let constant = matches!(function.inst(*operand), Some(Inst::Const(..)));
                !constant && operand.index() >= params && last_use[operand.index()] == index
            });
            free.extend(ended.map(|operand| place[operand.index()]));
            free.sort_unstable();
            free.dedup();
        }
        Batch { steps, blocks, result: place[function.result.index()] }
    }

    /// The block of a parameter, to be filled before [`Batch::run`].
    pub fn param(&mut self, index: usize) -> &mut Block {
        &mut self.blocks[index]
    }

    /// Evaluates the first `lanes` lanes; the others of the result mean nothing.
    pub fn run(&mut self, lanes: usize) -> &Block {
        for step in &self.steps {
            // Taken out of the list while it's written: it isn't among the operands, which are still in use.
            let mut out = std::mem::replace(&mut self.blocks[step.to], [0; LANES]);
            let [a, b, c] = step.operands.map(|index| &self.blocks[index][..lanes]);
            execute(step, a, b, c, &mut out[..lanes]);
            self.blocks[step.to] = out;
        }
        &self.blocks[self.result]
    }
}

fn is_library(inst: &Inst) -> bool {
    match inst {
        Inst::Unary(op, _) => op.is_library(),
        Inst::Binary(op, ..) => op.is_library(),
        _ => false,
    }
}

fn map(a: &[u32], out: &mut [u32], f: impl Fn(u32) -> u32) {
    for (out, &a) in out.iter_mut().zip(a) {
        *out = f(a);
    }
}

fn zip(a: &[u32], b: &[u32], out: &mut [u32], f: impl Fn(u32, u32) -> u32) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out = f(a, b);
    }
}

fn zip_float(a: &[u32], b: &[u32], out: &mut [u32], f: impl Fn(f32, f32) -> f32) {
    zip(a, b, out, |a, b| f(f32::from_bits(a), f32::from_bits(b)).to_bits());
}

fn compare_by<T: PartialOrd>(op: CompareOp, a: &[u32], b: &[u32], out: &mut [u32], as_type: impl Fn(u32) -> T) {
    match op {
        CompareOp::Eq => zip(a, b, out, |a, b| u32::from(as_type(a) == as_type(b))),
        CompareOp::Ne => zip(a, b, out, |a, b| u32::from(as_type(a) != as_type(b))),
        CompareOp::Lt => zip(a, b, out, |a, b| u32::from(as_type(a) < as_type(b))),
        CompareOp::Le => zip(a, b, out, |a, b| u32::from(as_type(a) <= as_type(b))),
        CompareOp::Gt => zip(a, b, out, |a, b| u32::from(as_type(a) > as_type(b))),
        CompareOp::Ge => zip(a, b, out, |a, b| u32::from(as_type(a) >= as_type(b))),
    }
}

/// The hot instructions have loops of their own; the rest goes through the one-by-one definition lane by lane.
fn execute(step: &Step, a: &[u32], b: &[u32], c: &[u32], out: &mut [u32]) {
    match (step.inst, step.ty) {
        (Inst::Const(..), _) => {}
        (Inst::Bitcast(..), _) => out.copy_from_slice(a),
        (Inst::Select(..), _) => {
            for (((out, &condition), &then), &otherwise) in out.iter_mut().zip(a).zip(b).zip(c) {
                *out = if condition != 0 { then } else { otherwise };
            }
        }
        (Inst::Compare(op, ..), DType::F32) => compare_by(op, a, b, out, f32::from_bits),
        (Inst::Compare(op, ..), DType::I32) => compare_by(op, a, b, out, |bits| bits as i32),
        (Inst::Compare(op, ..), _) => compare_by(op, a, b, out, |bits| bits),
        (Inst::Binary(BinaryOp::Add, ..), DType::F32) => zip_float(a, b, out, |a, b| a + b),
        (Inst::Binary(BinaryOp::Sub, ..), DType::F32) => zip_float(a, b, out, |a, b| a - b),
        (Inst::Binary(BinaryOp::Mul, ..), DType::F32) => zip_float(a, b, out, |a, b| a * b),
        (Inst::Binary(BinaryOp::Div, ..), DType::F32) => zip_float(a, b, out, |a, b| a / b),
        (Inst::Binary(BinaryOp::Add, ..), _) => zip(a, b, out, u32::wrapping_add),
        (Inst::Binary(BinaryOp::Sub, ..), _) => zip(a, b, out, u32::wrapping_sub),
        (Inst::Binary(BinaryOp::Mul, ..), _) => zip(a, b, out, u32::wrapping_mul),
        (Inst::Binary(BinaryOp::And, ..), _) => zip(a, b, out, |a, b| a & b),
        (Inst::Binary(BinaryOp::Or, ..), _) => zip(a, b, out, |a, b| a | b),
        (Inst::Binary(BinaryOp::Xor, ..), _) => zip(a, b, out, |a, b| a ^ b),
        (Inst::Binary(BinaryOp::Shl, ..), _) => zip(a, b, out, u32::wrapping_shl),
        (Inst::Binary(BinaryOp::Shr, ..), DType::I32) => zip(a, b, out, |a, b| (a as i32).wrapping_shr(b) as u32),
        (Inst::Binary(BinaryOp::Shr, ..), _) => zip(a, b, out, u32::wrapping_shr),
        (Inst::Unary(UnaryOp::Neg, _), DType::F32) => map(a, out, |a| a ^ 0x8000_0000),
        (Inst::Unary(UnaryOp::Abs, _), DType::F32) => map(a, out, |a| a & 0x7fff_ffff),
        (Inst::Convert(DType::F32, _), DType::I32) => map(a, out, |a| (a as i32 as f32).to_bits()),
        (Inst::Convert(to, _), from) => map(a, out, |a| reference::convert(from, to, a)),
        (Inst::Unary(op, _), ty) => map(a, out, |a| reference::unary(op, ty, a)),
        (Inst::Binary(op, ..), ty) => zip(a, b, out, |a, b| reference::binary(op, ty, a, b)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::scalar::{ScalarFnBuilder, Value, binary_accepts, unary_type};
    use crate::numerics::order::CANONICAL_NAN;

    /// A function of one float, one `i32`, one `u32` and one bool, made from a list of numbers: each adds the operation
    /// that it names on operands of a type that the operation takes.
    fn function(choices: &[(u16, u16, u16, u16)]) -> ScalarFn {
        let types = [DType::F32, DType::I32, DType::U32, DType::Bool];
        let mut b = ScalarFnBuilder::new();
        let mut values: Vec<Value> = types.iter().map(|&ty| b.param(ty)).collect();
        for &(what, x, y, z) in choices {
            let any = |n: u16| values[usize::from(n) % values.len()];
            let like = |b: &ScalarFnBuilder, ty: DType, n: u16| {
                let same: Vec<Value> = values.iter().copied().filter(|&value| b.type_of(value) == ty).collect();
                same[usize::from(n) % same.len()]
            };
            let a = any(x);
            let ty = b.type_of(a);
            let inst = match what % 7 {
                0 => Inst::Unary(UnaryOp::ALL[usize::from(y) % UnaryOp::ALL.len()], a),
                1 | 2 => Inst::Binary(BinaryOp::ALL[usize::from(y) % BinaryOp::ALL.len()], a, like(&b, ty, z)),
                3 => Inst::Compare(CompareOp::ALL[usize::from(y) % CompareOp::ALL.len()], a, like(&b, ty, z)),
                4 => Inst::Select(like(&b, DType::Bool, y), a, like(&b, ty, z)),
                // A bit cast of a float could show a NaN's payload.
                5 if ty != DType::F32 => Inst::Bitcast(types[usize::from(y) % 3], a),
                5 => Inst::Const(DType::F32, one_nan(u32::from(y) << 16 | u32::from(z))),
                _ => Inst::Convert(types[usize::from(y) % 4], a),
            };
            let accepted = match inst {
                Inst::Unary(op, _) => unary_type(op, ty).is_some(),
                Inst::Binary(op, ..) => binary_accepts(op, ty),
                Inst::Compare(op, ..) => ty != DType::Bool || matches!(op, CompareOp::Eq | CompareOp::Ne),
                Inst::Bitcast(..) => ty != DType::Bool,
                _ => true,
            };
            if accepted {
                let value = b.inst(inst);
                values.push(value);
            }
        }
        let result = values[values.len() - 1];
        b.finish(result)
    }

    fn one_nan(bits: u32) -> u32 {
        if f32::from_bits(bits).is_nan() { CANONICAL_NAN } else { bits }
    }

    proptest! {
        #[test]
        fn lanes_agree_with_one_by_one(
            choices in prop::collection::vec(any::<(u16, u16, u16, u16)>(), 1..60),
            args in prop::collection::vec((any::<u32>(), any::<u32>(), any::<u32>(), any::<bool>()), 1..LANES),
        ) {
            let function = function(&choices);
            let float = function.result_type() == Ok(DType::F32);
            let mut batch = Batch::new(&function);
            for (lane, &(x, i, u, p)) in args.iter().enumerate() {
                for (index, bits) in [x, i, u, u32::from(p)].into_iter().enumerate() {
                    batch.param(index)[lane] = bits;
                }
            }
            let results = *batch.run(args.len());
            for (&(x, i, u, p), &found) in args.iter().zip(&results) {
                let expected = reference::evaluate(&function, &[x, i, u, u32::from(p)], &mut Vec::new());
                let same = if float { one_nan(expected) == one_nan(found) } else { expected == found };
                prop_assert!(same, "{function}\n({x:08x}, {i:08x}, {u:08x}, {p}) is {found:08x}, not {expected:08x}");
            }
        }
    }
}
