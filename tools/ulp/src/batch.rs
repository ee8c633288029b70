//! Evaluates a scalar function on many arguments at once: one instruction at a time over a block of lanes, in loops
//! that the compiler vectorises.

use loom_ir::eval::scalar as reference;
use loom_ir::kernel::scalar::{BinaryOp, CompareOp, Inst, ScalarFn, UnaryOp};
use loom_ir::types::DType;

/// Arguments evaluated together: a few dozen live values of this size fit a first-level cache.
pub const LANES: usize = 256;

/// The bits of one value in every lane.
pub type Block = [u32; LANES];

/// A function with a place for every value.
pub struct Batch {
    steps: Vec<Step>,
    blocks: Vec<Block>,
    params: Vec<usize>,
    result: usize,
}

struct Step {
    inst: Inst,
    /// The type of the first operand.
    ty: DType,
    operands: [usize; 3],
    to: usize,
}

impl Batch {
    /// Prepares a well-typed function. A block is used again once its value has been read for the last time.
    pub fn new(function: &ScalarFn) -> Batch {
        let types = function.types().expect("the function is well typed");
        let mut last_use = vec![0; types.len()];
        for (index, inst) in function.insts.iter().enumerate() {
            for operand in inst.operands() {
                last_use[operand.index()] = index;
            }
        }
        last_use[function.result.index()] = usize::MAX;
        let mut place: Vec<usize> = (0..function.params.len()).collect();
        let mut free = Vec::new();
        let mut count = place.len();
        let mut blocks = vec![[0; LANES]; count];
        let mut steps = Vec::new();
        for (index, inst) in function.insts.iter().enumerate() {
            // A constant keeps a block of its own, filled once.
            let constant = matches!(inst, Inst::Const(..));
            let to = match free.pop() {
                Some(to) if !constant => to,
                other => {
                    free.extend(other);
                    count += 1;
                    blocks.push([0; LANES]);
                    count - 1
                }
            };
            place.push(to);
            if let Inst::Const(_, bits) = *inst {
                blocks[to] = [bits; LANES];
                continue;
            }
            let mut operands = [0; 3];
            for (slot, operand) in operands.iter_mut().zip(inst.operands()) {
                *slot = place[operand.index()];
            }
            let first = inst.operands().next().expect("only constants have no operand");
            let ty = match inst {
                Inst::Select(_, a, _) => types[a.index()],
                _ => types[first.index()],
            };
            steps.push(Step { inst: *inst, ty, operands, to });
            let mut ended: Vec<_> = inst.operands().filter(|o| last_use[o.index()] == index).collect();
            ended.dedup();
            for operand in ended {
                let constant = matches!(function.inst(operand), Some(Inst::Const(..)));
                if !constant && operand.index() >= function.params.len() {
                    free.push(place[operand.index()]);
                }
            }
            free.sort_unstable();
            free.dedup();
        }
        Batch { steps, blocks, params: (0..function.params.len()).collect(), result: place[function.result.index()] }
    }

    /// The block of a parameter, to be filled before [`Batch::run`].
    pub fn param(&mut self, index: usize) -> &mut Block {
        &mut self.blocks[self.params[index]]
    }

    /// Evaluates all lanes.
    pub fn run(&mut self) -> &Block {
        for step in &self.steps {
            // Taken out of the list while it's written: it isn't among the operands, which are still in use.
            let mut out = std::mem::replace(&mut self.blocks[step.to], [0; LANES]);
            let [a, b, c] = step.operands.map(|index| &self.blocks[index]);
            execute(step, a, b, c, &mut out);
            self.blocks[step.to] = out;
        }
        &self.blocks[self.result]
    }
}

fn map(a: &Block, out: &mut Block, f: impl Fn(u32) -> u32) {
    for (out, &a) in out.iter_mut().zip(a) {
        *out = f(a);
    }
}

fn zip(a: &Block, b: &Block, out: &mut Block, f: impl Fn(u32, u32) -> u32) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out = f(a, b);
    }
}

fn zip_float(a: &Block, b: &Block, out: &mut Block, f: impl Fn(f32, f32) -> f32) {
    zip(a, b, out, |a, b| f(f32::from_bits(a), f32::from_bits(b)).to_bits());
}

fn compare_by<T: PartialOrd>(op: CompareOp, a: &Block, b: &Block, out: &mut Block, as_type: impl Fn(u32) -> T) {
    match op {
        CompareOp::Eq => zip(a, b, out, |a, b| u32::from(as_type(a) == as_type(b))),
        CompareOp::Ne => zip(a, b, out, |a, b| u32::from(as_type(a) != as_type(b))),
        CompareOp::Lt => zip(a, b, out, |a, b| u32::from(as_type(a) < as_type(b))),
        CompareOp::Le => zip(a, b, out, |a, b| u32::from(as_type(a) <= as_type(b))),
        CompareOp::Gt => zip(a, b, out, |a, b| u32::from(as_type(a) > as_type(b))),
        CompareOp::Ge => zip(a, b, out, |a, b| u32::from(as_type(a) >= as_type(b))),
    }
}

/// The hot instructions have loops of their own; the rest goes through the interpreter's definition lane by lane.
fn execute(step: &Step, a: &Block, b: &Block, c: &Block, out: &mut Block) {
    match (step.inst, step.ty) {
        (Inst::Const(..), _) => {}
        (Inst::Bitcast(..), _) => *out = *a,
        (Inst::Select(..), _) => {
            for (index, out) in out.iter_mut().enumerate() {
                *out = if a[index] != 0 { b[index] } else { c[index] };
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
