//! A scalar function on many arguments at once: one instruction at a time over a block of lanes, in loops that the
//! compiler vectorises.
//!
//! The same definition as [`super::scalar`], some twenty times as fast, so that all 2^32 arguments of a function are a
//! matter of a minute. A test holds the two together.

use crate::eval::scalar::{self as reference, Word};
use crate::kernel::scalar::{BinaryOp, CompareOp, Inst, ScalarFn, UnaryOp};
use crate::numerics::expand::expand;
use crate::types::DType;

/// Arguments evaluated together: a few dozen live values of this size fit a first-level cache.
pub const LANES: usize = 256;

/// The bits of one value in every lane.
pub type Block<W = u32> = [W; LANES];

/// A function with a place for every value: in words of 32 bits, or of 64 where the function is
/// [wide](ScalarFn::is_wide).
pub struct Batch<W = u32> {
    steps: Vec<Step>,
    blocks: Vec<Block<W>>,
    result: usize,
}

/// A word with the loops for the instructions on it.
pub trait Lane: Word {
    /// One instruction on lanes of operands.
    #[doc(hidden)]
    fn execute(step: &Step, operands: [&[Self]; 3], out: &mut [Self]);
}

/// An instruction with the places of its values.
pub struct Step {
    inst: Inst,
    /// The type of the first operand that is not a condition.
    ty: DType,
    operands: [usize; 3],
    to: usize,
}

impl<W: Lane> Batch<W> {
    /// Prepares a function, library operations by their definitions.
    ///
    /// # Panics
    /// If `function` is ill typed, or wide and the words are not.
    pub fn new(function: &ScalarFn) -> Batch<W> {
        assert!(size_of::<W>() == 8 || !function.is_wide(), "values of 64 bits need words of 64");
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
        let mut blocks = vec![[W::low(0); LANES]; params];
        let mut steps = Vec::new();
        for (index, inst) in function.insts.iter().enumerate() {
            // A constant keeps a block of its own, filled once.
            if let Inst::Const(_, bits) = *inst {
                place.push(blocks.len());
                blocks.push([W::low(bits); LANES]);
                continue;
            }
            let to = free.pop().unwrap_or_else(|| {
                blocks.push([W::low(0); LANES]);
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
    pub fn param(&mut self, index: usize) -> &mut Block<W> {
        &mut self.blocks[index]
    }

    /// Evaluates the first `lanes` lanes; the others of the result mean nothing.
    pub fn run(&mut self, lanes: usize) -> &Block<W> {
        for step in &self.steps {
            // Taken out of the list while it's written: it isn't among the operands, which are still in use.
            let mut out = std::mem::replace(&mut self.blocks[step.to], [W::low(0); LANES]);
            let operands = step.operands.map(|index| &self.blocks[index][..lanes]);
            W::execute(step, operands, &mut out[..lanes]);
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

fn map<W: Lane>(a: &[W], out: &mut [W], f: impl Fn(W) -> W) {
    for (out, &a) in out.iter_mut().zip(a) {
        *out = f(a);
    }
}

fn zip<W: Lane>(a: &[W], b: &[W], out: &mut [W], f: impl Fn(W, W) -> W) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out = f(a, b);
    }
}

fn select<W: Lane>([a, b, c]: [&[W]; 3], out: &mut [W]) {
    for (((out, &condition), &then), &otherwise) in out.iter_mut().zip(a).zip(b).zip(c) {
        *out = if condition.widen() != 0 { then } else { otherwise };
    }
}

fn compare_by<W: Lane, T: PartialOrd>(op: CompareOp, a: &[W], b: &[W], out: &mut [W], as_type: impl Fn(W) -> T) {
    let truth = |truth: bool| W::low(truth.into());
    match op {
        CompareOp::Eq => zip(a, b, out, |a, b| truth(as_type(a) == as_type(b))),
        CompareOp::Ne => zip(a, b, out, |a, b| truth(as_type(a) != as_type(b))),
        CompareOp::Lt => zip(a, b, out, |a, b| truth(as_type(a) < as_type(b))),
        CompareOp::Le => zip(a, b, out, |a, b| truth(as_type(a) <= as_type(b))),
        CompareOp::Gt => zip(a, b, out, |a, b| truth(as_type(a) > as_type(b))),
        CompareOp::Ge => zip(a, b, out, |a, b| truth(as_type(a) >= as_type(b))),
    }
}

/// What has no loop of its own: the one-by-one definition, lane by lane.
fn one_by_one<W: Lane>(step: &Step, [a, b, c]: [&[W]; 3], out: &mut [W]) {
    let ty = step.ty;
    match step.inst {
        Inst::Const(..) => {}
        Inst::Bitcast(..) => out.copy_from_slice(a),
        Inst::Select(..) => select([a, b, c], out),
        Inst::Compare(op, ..) => {
            zip(a, b, out, |a, b| W::low(reference::compare(op, ty, a, b).into()));
        }
        Inst::Convert(to, _) => map(a, out, |a| reference::convert(ty, to, a)),
        Inst::Unary(op, _) => map(a, out, |a| reference::unary(op, ty, a)),
        Inst::Binary(op, ..) => zip(a, b, out, |a, b| reference::binary(op, ty, a, b)),
    }
}

fn float(f: impl Fn(f32, f32) -> f32) -> impl Fn(u32, u32) -> u32 {
    move |a, b| f(f32::from_bits(a), f32::from_bits(b)).to_bits()
}

fn double(f: impl Fn(f64, f64) -> f64) -> impl Fn(u64, u64) -> u64 {
    move |a, b| f(f64::from_bits(a), f64::from_bits(b)).to_bits()
}

/// The hot instructions have loops of their own.
impl Lane for u32 {
    fn execute(step: &Step, [a, b, c]: [&[u32]; 3], out: &mut [u32]) {
        match (step.inst, step.ty) {
            (Inst::Compare(op, ..), DType::F32) => compare_by(op, a, b, out, f32::from_bits),
            (Inst::Compare(op, ..), DType::I32) => compare_by(op, a, b, out, |bits| bits as i32),
            (Inst::Compare(op, ..), _) => compare_by(op, a, b, out, |bits| bits),
            (Inst::Binary(BinaryOp::Add, ..), DType::F32) => zip(a, b, out, float(|a, b| a + b)),
            (Inst::Binary(BinaryOp::Sub, ..), DType::F32) => zip(a, b, out, float(|a, b| a - b)),
            (Inst::Binary(BinaryOp::Mul, ..), DType::F32) => zip(a, b, out, float(|a, b| a * b)),
            (Inst::Binary(BinaryOp::Div, ..), DType::F32) => zip(a, b, out, float(|a, b| a / b)),
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
            _ => one_by_one(step, [a, b, c], out),
        }
    }
}

/// The types of 64 bits have such loops too.
impl Lane for u64 {
    fn execute(step: &Step, [a, b, c]: [&[u64]; 3], out: &mut [u64]) {
        match (step.inst, step.ty) {
            (Inst::Compare(op, ..), DType::F64) => compare_by(op, a, b, out, f64::from_bits),
            (Inst::Compare(op, ..), DType::I64) => compare_by(op, a, b, out, |bits| bits as i64),
            (Inst::Compare(op, ..), DType::U64) => compare_by(op, a, b, out, |bits| bits),
            (Inst::Binary(BinaryOp::Add, ..), DType::F64) => zip(a, b, out, double(|a, b| a + b)),
            (Inst::Binary(BinaryOp::Sub, ..), DType::F64) => zip(a, b, out, double(|a, b| a - b)),
            (Inst::Binary(BinaryOp::Mul, ..), DType::F64) => zip(a, b, out, double(|a, b| a * b)),
            (Inst::Binary(BinaryOp::Div, ..), DType::F64) => zip(a, b, out, double(|a, b| a / b)),
            (Inst::Binary(BinaryOp::Add, ..), DType::I64 | DType::U64) => zip(a, b, out, u64::wrapping_add),
            (Inst::Binary(BinaryOp::Sub, ..), DType::I64 | DType::U64) => zip(a, b, out, u64::wrapping_sub),
            (Inst::Binary(BinaryOp::Mul, ..), DType::I64 | DType::U64) => zip(a, b, out, u64::wrapping_mul),
            (Inst::Binary(BinaryOp::And, ..), _) => zip(a, b, out, |a, b| a & b),
            (Inst::Binary(BinaryOp::Or, ..), _) => zip(a, b, out, |a, b| a | b),
            (Inst::Binary(BinaryOp::Xor, ..), _) => zip(a, b, out, |a, b| a ^ b),
            (Inst::Binary(BinaryOp::Shl, ..), DType::I64 | DType::U64) => {
                zip(a, b, out, |a, b| a.wrapping_shl(b as u32));
            }
            (Inst::Binary(BinaryOp::Shr, ..), DType::I64) => {
                zip(a, b, out, |a, b| (a as i64).wrapping_shr(b as u32) as u64);
            }
            (Inst::Binary(BinaryOp::Shr, ..), DType::U64) => zip(a, b, out, |a, b| a.wrapping_shr(b as u32)),
            (Inst::Unary(UnaryOp::Neg, _), DType::F64) => map(a, out, |a| a ^ 1 << 63),
            (Inst::Unary(UnaryOp::Abs, _), DType::F64) => map(a, out, |a| a & !(1 << 63)),
            _ => one_by_one(step, [a, b, c], out),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::scalar::{ScalarFnBuilder, Value, binary_accepts, unary_type};
    use crate::numerics::order::CANONICAL_NAN;

    /// A function of one value of each type, made from a list of numbers: each adds the operation that it names on operands
    /// of a type that the operation takes.
    fn function(types: &[DType], choices: &[(u16, u16, u16, u16)]) -> ScalarFn {
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
                5 if !ty.is_float() => Inst::Bitcast(types[usize::from(y) % types.len()], a),
                5 => {
                    let bits = u64::from(y) << 16 | u64::from(z);
                    Inst::Const(ty, one_nan(ty, if ty.is_wide() { bits.rotate_right(19) } else { bits }))
                }
                _ => Inst::Convert(types[usize::from(y) % types.len()], a),
            };
            let accepted = match inst {
                Inst::Unary(op, _) => unary_type(op, ty).is_some(),
                Inst::Binary(op, ..) => binary_accepts(op, ty),
                Inst::Compare(op, ..) => ty != DType::Bool || matches!(op, CompareOp::Eq | CompareOp::Ne),
                Inst::Bitcast(to, _) => ty != DType::Bool && to != DType::Bool && to.is_wide() == ty.is_wide(),
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

    fn one_nan(ty: DType, bits: u64) -> u64 {
        match ty {
            DType::F32 if f32::from_bits(bits as u32).is_nan() => CANONICAL_NAN.into(),
            DType::F64 if f64::from_bits(bits).is_nan() => f64::NAN.to_bits(),
            _ => bits,
        }
    }

    /// Lanes and the one-by-one definition on arguments of `types`, which lie at the front of each list.
    fn compare<W: Lane>(
        types: &[DType],
        choices: &[(u16, u16, u16, u16)],
        args: &[[u64; DType::SCALARS.len()]],
    ) -> Result<(), TestCaseError> {
        let function = function(types, choices);
        let ty = function.result_type().expect("well typed");
        let mut batch = Batch::<W>::new(&function);
        let of = |args: &[u64; DType::SCALARS.len()]| -> Vec<W> {
            let bits = |(&ty, &bits): (&DType, &u64)| match ty {
                DType::Bool => bits & 1,
                _ if ty.is_wide() => one_nan(ty, bits),
                _ => one_nan(ty, bits & 0xffff_ffff),
            };
            types.iter().zip(args).map(bits).map(W::low).collect()
        };
        for (lane, args) in args.iter().enumerate() {
            for (index, bits) in of(args).into_iter().enumerate() {
                batch.param(index)[lane] = bits;
            }
        }
        let results = *batch.run(args.len());
        for (args, found) in args.iter().zip(&results) {
            let args = of(args);
            let expected = one_nan(ty, reference::evaluate(&function, &args, &mut Vec::new()).widen());
            let found = one_nan(ty, found.widen());
            let args: Vec<u64> = args.into_iter().map(Word::widen).collect();
            prop_assert!(expected == found, "{function}\n{args:x?} is {found:x}, not {expected:x}");
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn lanes_agree_with_one_by_one(
            choices in prop::collection::vec(any::<(u16, u16, u16, u16)>(), 1..60),
            args in prop::collection::vec(any::<[u64; DType::SCALARS.len()]>(), 1..LANES),
        ) {
            compare::<u32>(&DType::ALL, &choices, &args)?;
            compare::<u64>(&DType::SCALARS, &choices, &args)?;
        }
    }
}
