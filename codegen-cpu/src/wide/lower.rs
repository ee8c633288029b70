//! Scalar functions as vector instructions over virtual registers.
//!
//! Every element type is 32 bits in a vector's lane. A bool is a mask register of AVX-512, or a vector of all ones and
//! zeros with AVX2; only in memory is it a word of 0 or 1. Constants and values that are the same for all elements are
//! memory operands, which cost no register and hardly any time.

use loom_ir::kernel::scalar::{BinaryOp, CompareOp, Inst, ScalarFn, UnaryOp, Value};
use loom_ir::types::DType;

use super::Feed;
use super::encode::{Isa, Map, Opcode, Prefix, opcode};
use super::idioms;
use Map::{M0F, M0F3A, M0F38};
use Prefix::{None as NP, P66, PF2, PF3};

/// A virtual register, written once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Virtual(pub u32);

/// What kind of register a virtual one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Vector,
    /// A mask register of AVX-512.
    Mask,
}

/// An operand that may be in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Virtual(Virtual),
    /// These bits in every lane.
    Constant(u32),
    /// The parameter of this number, in every lane.
    Value(usize),
}

/// The form of an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `target = op(first, second)`; without a mask all lanes, with one those of `first` (of a blend) or zero elsewhere.
    Vector,
    /// The target is in the place of the first operand; that of the target has an extension of the opcode.
    Extended(u8),
    /// AVX2: the mask is a fourth operand, in the immediate.
    Blend,
    /// Mask registers alone; `true` for the form of two operands.
    Mask(bool),
    /// The elements of a stream at this position.
    Load(usize),
    /// The indices of a ramp at this position.
    Ramp(usize),
    /// The first operand, which is the same in every lane, becomes the parameter of this number.
    Keep(usize),
}

/// One instruction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub form: Form,
    pub opcode: Opcode,
    pub target: Option<Virtual>,
    pub first: Option<Virtual>,
    pub second: Option<Source>,
    pub mask: Option<Virtual>,
    /// Lanes outside of the mask become zero.
    pub zeroing: bool,
    pub immediate: Option<u8>,
}

impl Step {
    /// The registers that it reads.
    pub(crate) fn operands(&self) -> impl Iterator<Item = Virtual> + use<> {
        let second = match self.second {
            Some(Source::Virtual(register)) => Some(register),
            _ => None,
        };
        [self.first, second, self.mask].into_iter().flatten()
    }
}

/// A straight line of vector instructions.
#[derive(Debug)]
pub(crate) struct Body {
    pub steps: Vec<Step>,
    /// By virtual register.
    pub classes: Vec<Class>,
    /// A vector: floats, integers, or words of 0 and 1.
    pub result: Option<Virtual>,
}

/// A function in vector instructions.
#[derive(Debug)]
pub(crate) struct Lowered {
    /// What is the same for all elements, computed once. It has no result but the values it keeps.
    pub once: Body,
    /// How many these are. Their numbers follow those of the parameters.
    pub kept: usize,
    /// What is computed for each vector.
    pub each: Body,
}

/// The function, or `None` if it has an operation that vectors don't.
pub(crate) fn lower(function: &ScalarFn, feeds: &[Feed], isa: Isa) -> Option<Lowered> {
    let dtypes = match function.types() {
        Ok(dtypes) => dtypes,
        Err(error) => unreachable!("verified functions are well typed: {error}"),
    };
    let params = function.params.len();
    let same = same_for_all(function, feeds);
    let is_constant = |value: Value| matches!(function.inst(value), Some(Inst::Const(..)));
    let mut wanted = vec![false; dtypes.len()];
    let varying = function.insts.iter().enumerate().filter(|&(index, _)| !same[params + index]);
    for operand in varying.flat_map(|(_, inst)| inst.operands()).chain([function.result]) {
        wanted[operand.index()] = same[operand.index()] && operand.index() >= params && !is_constant(operand);
    }

    let given: Vec<Held> = feeds.iter().enumerate().map(|(number, &feed)| Held::Feed(number, feed)).collect();
    let mut values = given.clone();
    values.resize(dtypes.len(), Held::Constant(0));
    let mut once = Lower::new(isa);
    let of_once = |index: usize| same[params + index];
    once.insts(function, &dtypes, &mut values, of_once)?;
    let mut kept = 0;
    let kept_values = (0..dtypes.len()).filter(|&value| wanted[value]).map(|value| {
        let held = once.used(&mut values[value], dtypes[value]);
        once.keep(held, dtypes[value], params + kept);
        kept += 1;
        (value, Held::Feed(params + kept - 1, Feed::Value))
    });
    let kept_values: Vec<(usize, Held)> = kept_values.collect();

    values[..params].copy_from_slice(&given);
    for (value, held) in kept_values {
        values[value] = held;
    }
    let mut each = Lower::new(isa);
    let of_each = |index: usize| !same[params + index] || is_constant(function.value_of(index));
    each.insts(function, &dtypes, &mut values, of_each)?;
    let (result, dtype) = (function.result.index(), dtypes[function.result.index()]);
    let result = each.used(&mut values[result], dtype);
    let result = each.words(result, dtype);
    let result = each.register(result);
    Some(Lowered { once: once.finish(None), kept, each: each.finish(Some(result)) })
}

/// By value: whether it is the same for all elements.
fn same_for_all(function: &ScalarFn, feeds: &[Feed]) -> Vec<bool> {
    let mut same: Vec<bool> = feeds.iter().map(|&feed| feed == Feed::Value).collect();
    for inst in &function.insts {
        let all = inst.operands().all(|operand| same[operand.index()]);
        same.push(all);
    }
    same
}

/// Where a value is.
#[derive(Debug, Clone, Copy)]
enum Held {
    Register(Virtual),
    Constant(u32),
    /// The same for all elements, in memory.
    Value(usize),
    /// A parameter or a kept value that nothing has used so far.
    Feed(usize, Feed),
}

struct Lower {
    isa: Isa,
    steps: Vec<Step>,
    classes: Vec<Class>,
}

// Predicates of float comparisons, which raise nothing for a quiet NaN.
const EQUAL: u8 = 0x00;
const NOT_EQUAL: u8 = 0x04;
const LESS: u8 = 0x11;
const LESS_OR_EQUAL: u8 = 0x12;
const GREATER_OR_EQUAL: u8 = 0x1d;
const GREATER: u8 = 0x1e;
const UNORDERED: u8 = 0x03;
const ORDERED: u8 = 0x07;

const MOVE: Opcode = opcode(NP, M0F, 0x10);
pub(super) const BROADCAST: Opcode = opcode(P66, M0F38, 0x18);
const AND: Opcode = opcode(P66, M0F, 0xdb);
const AND_NOT: Opcode = opcode(P66, M0F, 0xdf);
const OR: Opcode = opcode(P66, M0F, 0xeb);
const XOR: Opcode = opcode(P66, M0F, 0xef);
const ADD: Opcode = opcode(P66, M0F, 0xfe);
const SUBTRACT: Opcode = opcode(P66, M0F, 0xfa);
const MULTIPLY: Opcode = opcode(P66, M0F38, 0x40);
const MIN_SIGNED: Opcode = opcode(P66, M0F38, 0x39);
const MIN_UNSIGNED: Opcode = opcode(P66, M0F38, 0x3b);
const MAX_SIGNED: Opcode = opcode(P66, M0F38, 0x3d);
const MAX_UNSIGNED: Opcode = opcode(P66, M0F38, 0x3f);
const FLOAT_ADD: Opcode = opcode(NP, M0F, 0x58);
const FLOAT_MULTIPLY: Opcode = opcode(NP, M0F, 0x59);
const FLOAT_SUBTRACT: Opcode = opcode(NP, M0F, 0x5c);
const FLOAT_MIN: Opcode = opcode(NP, M0F, 0x5d);
const FLOAT_DIVIDE: Opcode = opcode(NP, M0F, 0x5e);
const FLOAT_MAX: Opcode = opcode(NP, M0F, 0x5f);
const FLOAT_ROOT: Opcode = opcode(NP, M0F, 0x51);
const FLOAT_ROUND: Opcode = opcode(P66, M0F3A, 0x08);
const SCALE: Opcode = opcode(P66, M0F38, 0x2c);
const FLOAT_COMPARE: Opcode = opcode(NP, M0F, 0xc2);
const FLOAT_OF_SIGNED: Opcode = opcode(NP, M0F, 0x5b);
const SIGNED_OF_FLOAT: Opcode = opcode(PF3, M0F, 0x5b);
const ABSOLUTE: Opcode = opcode(P66, M0F38, 0x1e);
/// Shifts by a constant: the extension says which.
const SHIFT: Opcode = opcode(P66, M0F, 0x72);

impl Lower {
    fn new(isa: Isa) -> Lower {
        Lower { isa, steps: Vec::new(), classes: Vec::new() }
    }

    /// The instructions whose results are used.
    fn finish(mut self, result: Option<Virtual>) -> Body {
        let mut needed = vec![false; self.classes.len()];
        result.into_iter().for_each(|value| needed[value.0 as usize] = true);
        let mut used = Vec::new();
        while let Some(step) = self.steps.pop() {
            if step.target.is_none_or(|target| needed[target.0 as usize]) {
                step.operands().for_each(|value| needed[value.0 as usize] = true);
                used.push(step);
            }
        }
        used.reverse();
        Body { steps: used, classes: self.classes, result }
    }

    /// Those of a function's instructions that are chosen, by number.
    fn insts(
        &mut self,
        function: &ScalarFn,
        dtypes: &[DType],
        values: &mut [Held],
        chosen: impl Fn(usize) -> bool,
    ) -> Option<()> {
        for (index, inst) in function.insts.iter().enumerate().filter(|&(index, _)| chosen(index)) {
            for operand in inst.operands() {
                self.used(&mut values[operand.index()], dtypes[operand.index()]);
            }
            let get = |value: Value| values[value.index()];
            let ty = |value: Value| dtypes[value.index()];
            let value = match *inst {
                Inst::Const(DType::Bool, bits) => self.truth(bits != 0),
                Inst::Const(_, bits) => Held::Constant(bits as u32),
                Inst::Unary(op, a) => self.unary(op, ty(a), get(a))?,
                Inst::Binary(op, a, b) => match self.scaled(function, index, (values, &chosen)) {
                    Some(product) => product,
                    None => self.binary(op, ty(a), get(a), get(b))?,
                },
                Inst::Compare(op, a, b) => match idioms::is_nan(function, inst) {
                    Some(float) => {
                        let float = self.used(&mut values[float.index()], DType::U32);
                        self.predicate(FLOAT_COMPARE, float, float, UNORDERED)
                    }
                    None => self.compare(op, ty(a), get(a), get(b)),
                },
                Inst::Select(c, a, b) if ty(a) == DType::F32 => match idioms::extremum(function, c, a, b) {
                    // These leave the second operand where the comparison is false.
                    Some(BinaryOp::Max) => self.two(FLOAT_MAX, get(a), get(b)),
                    Some(_) => self.two(FLOAT_MIN, get(a), get(b)),
                    None => self.select(ty(a), get(c), get(a), get(b)),
                },
                Inst::Select(c, a, b) => self.select(ty(a), get(c), get(a), get(b)),
                Inst::Bitcast(_, a) => get(a),
                Inst::Convert(to, a) => self.convert(ty(a), to, get(a)),
            };
            values[function.value_of(index).index()] = value;
        }
        Some(())
    }

    /// A product that is `m · 2^n`, by one instruction of AVX-512.
    fn scaled(
        &mut self,
        function: &ScalarFn,
        index: usize,
        (values, chosen): (&[Held], &impl Fn(usize) -> bool),
    ) -> Option<Held> {
        if !self.has_masks() {
            return None;
        }
        let (m, n) = idioms::scaled(function, index)?;
        // Both are computed in this body: what is not is known only where an instruction asks for it.
        let is_here = |value: Value| chosen(value.index() - function.params.len());
        (is_here(m) && is_here(n)).then(|| self.two(SCALE, values[m.index()], values[n.index()]))
    }

    /// A value that is used now: a parameter is loaded at its first use.
    fn used(&mut self, value: &mut Held, dtype: DType) -> Held {
        if let Held::Feed(number, feed) = *value {
            *value = self.feed(number, feed, dtype);
        }
        *value
    }

    /// A bool as words of 0 and 1.
    fn words(&mut self, held: Held, dtype: DType) -> Held {
        if dtype == DType::Bool { self.chosen(held, 1) } else { held }
    }

    /// Keeps a value, as the parameter of this number.
    fn keep(&mut self, held: Held, dtype: DType, number: usize) {
        let words = self.words(held, dtype);
        let first = Some(self.register(words));
        let form = Form::Keep(number);
        let (target, second, mask) = (None, None, None);
        self.steps.push(Step { form, opcode: MOVE, target, first, second, mask, zeroing: false, immediate: None });
    }

    fn virtual_(&mut self, class: Class) -> Virtual {
        self.classes.push(class);
        Virtual(self.classes.len() as u32 - 1)
    }

    fn has_masks(&self) -> bool {
        self.isa == Isa::Avx512
    }

    fn push(
        &mut self,
        class: Class,
        form: Form,
        opcode: Opcode,
        first: Option<Virtual>,
        second: Option<Source>,
    ) -> Held {
        let target = self.virtual_(class);
        let (mask, immediate) = (None, None);
        self.steps.push(Step { form, opcode, target: Some(target), first, second, mask, zeroing: false, immediate });
        Held::Register(target)
    }

    /// Changes the instruction just written.
    fn last(&mut self, change: impl FnOnce(&mut Step)) {
        if let Some(step) = self.steps.last_mut() {
            change(step);
        }
    }

    fn source(&mut self, held: Held) -> Source {
        match held {
            Held::Register(register) => Source::Virtual(register),
            Held::Constant(bits) => Source::Constant(bits),
            Held::Value(number) => Source::Value(number),
            Held::Feed(..) => unreachable!("parameters are loaded before they are used"),
        }
    }

    /// The value in a register.
    fn register(&mut self, held: Held) -> Virtual {
        let source = self.source(held);
        let Source::Virtual(register) = source else {
            let Held::Register(register) = self.push(Class::Vector, Form::Vector, BROADCAST, None, Some(source)) else {
                unreachable!("an instruction's result is in a register")
            };
            return register;
        };
        register
    }

    fn feed(&mut self, number: usize, feed: Feed, dtype: DType) -> Held {
        let words = match feed {
            Feed::Value => Held::Value(number),
            Feed::Stream => self.push(Class::Vector, Form::Load(number), MOVE, None, None),
            Feed::Ramp => self.push(Class::Vector, Form::Ramp(number), MOVE, None, None),
        };
        if dtype == DType::Bool { self.nonzero(words) } else { words }
    }

    /// `op(a)`
    fn one(&mut self, op: Opcode, a: Held) -> Held {
        let a = self.source(a);
        self.push(Class::Vector, Form::Vector, op, None, Some(a))
    }

    /// `op(a, b)`
    fn two(&mut self, op: Opcode, a: Held, b: Held) -> Held {
        let (a, b) = (self.register(a), self.source(b));
        self.push(Class::Vector, Form::Vector, op, Some(a), Some(b))
    }

    /// The same where the operands may swap.
    fn commuting(&mut self, op: Opcode, a: Held, b: Held) -> Held {
        if matches!(a, Held::Register(_)) { self.two(op, a, b) } else { self.two(op, b, a) }
    }

    /// A comparison by an immediate predicate: a mask with AVX-512, else a vector.
    fn predicate(&mut self, op: Opcode, a: Held, b: Held, predicate: u8) -> Held {
        let class = if self.has_masks() { Class::Mask } else { Class::Vector };
        let (a, b) = (self.register(a), self.source(b));
        let result = self.push(class, Form::Vector, op, Some(a), Some(b));
        self.last(|step| step.immediate = Some(predicate));
        result
    }

    fn shift(&mut self, extension: u8, a: Held, amount: u8) -> Held {
        let a = self.register(a);
        let result = self.push(Class::Vector, Form::Extended(extension), SHIFT, None, Some(Source::Virtual(a)));
        self.last(|step| step.immediate = Some(amount));
        result
    }

    /// A bool that is known.
    fn truth(&mut self, truth: bool) -> Held {
        if !self.has_masks() {
            return Held::Constant(if truth { u32::MAX } else { 0 });
        }
        // Any register compared with itself; `ne` and `eq` of integers.
        let zero = Held::Constant(0);
        self.integer_predicate(if truth { CompareOp::Eq } else { CompareOp::Ne }, false, zero, zero)
    }

    /// Words that are not zero, as bools.
    fn nonzero(&mut self, words: Held) -> Held {
        self.compare(CompareOp::Ne, DType::U32, words, Held::Constant(0))
    }

    /// These bits where a bool is true, else zero.
    fn chosen(&mut self, condition: Held, bits: u32) -> Held {
        if !self.has_masks() {
            return self.commuting(AND, condition, Held::Constant(bits));
        }
        let mask = self.register(condition);
        let result = self.one(BROADCAST, Held::Constant(bits));
        self.last(|step| (step.mask, step.zeroing) = (Some(mask), true));
        result
    }

    fn unary(&mut self, op: UnaryOp, dtype: DType, a: Held) -> Option<Held> {
        let float = dtype == DType::F32;
        Some(match op {
            UnaryOp::Neg if float => self.commuting(XOR, a, Held::Constant(0x8000_0000)),
            UnaryOp::Neg => self.two(SUBTRACT, Held::Constant(0), a),
            UnaryOp::Abs if float => self.commuting(AND, a, Held::Constant(0x7fff_ffff)),
            UnaryOp::Abs => self.one(ABSOLUTE, a),
            UnaryOp::Not => self.not(dtype, a),
            UnaryOp::LeadingZeros => self.leading_zeros(a),
            // Bit 3 keeps the inexact exception quiet.
            UnaryOp::Round => self.round(a, 8),
            UnaryOp::Floor => self.round(a, 8 | 1),
            UnaryOp::Ceil => self.round(a, 8 | 2),
            UnaryOp::Trunc => self.round(a, 8 | 3),
            UnaryOp::Sqrt => self.one(FLOAT_ROOT, a),
            // Library operations are expanded before.
            _ => return None,
        })
    }

    fn round(&mut self, a: Held, mode: u8) -> Held {
        let result = self.one(FLOAT_ROUND, a);
        self.last(|step| step.immediate = Some(mode));
        result
    }

    fn not(&mut self, dtype: DType, a: Held) -> Held {
        if dtype == DType::Bool && self.has_masks() {
            let a = self.register(a);
            return self.push(Class::Mask, Form::Mask(false), opcode(NP, M0F, 0x44), None, Some(Source::Virtual(a)));
        }
        self.commuting(XOR, a, Held::Constant(u32::MAX))
    }

    fn leading_zeros(&mut self, a: Held) -> Held {
        if self.has_masks() {
            return self.one(opcode(P66, M0F38, 0x44), a);
        }
        // With at most the highest of neighbouring bits, rounding keeps the exponent of the conversion to a float. A
        // number with bit 31 becomes a negative one, whose exponent with its sign is beyond all others.
        let a = Held::Register(self.register(a));
        let half = self.shift(2, a, 1);
        let highest = self.two(AND_NOT, half, a);
        let float = self.one(FLOAT_OF_SIGNED, highest);
        let exponent = self.shift(2, float, 23);
        let zeros = self.two(SUBTRACT, Held::Constant(158), exponent);
        let zeros = self.two(MAX_SIGNED, zeros, Held::Constant(0));
        self.two(MIN_SIGNED, zeros, Held::Constant(32))
    }

    fn binary(&mut self, op: BinaryOp, dtype: DType, a: Held, b: Held) -> Option<Held> {
        let signed = dtype == DType::I32;
        Some(match (dtype, op) {
            (DType::F32, BinaryOp::Add) => self.commuting(FLOAT_ADD, a, b),
            (DType::F32, BinaryOp::Sub) => self.two(FLOAT_SUBTRACT, a, b),
            (DType::F32, BinaryOp::Mul) => self.commuting(FLOAT_MULTIPLY, a, b),
            (DType::F32, BinaryOp::Div) => self.two(FLOAT_DIVIDE, a, b),
            // `first < second ? first : second`, the second if one is NaN or both are zero: LN1's with swapped operands.
            (DType::F32, BinaryOp::Min) => self.two(FLOAT_MIN, b, a),
            (DType::F32, BinaryOp::Max) => self.two(FLOAT_MAX, b, a),
            (DType::F32, _) => return None,
            (DType::Bool, _) => self.truths(op, a, b)?,
            (_, BinaryOp::Add) => self.commuting(ADD, a, b),
            (_, BinaryOp::Sub) => self.two(SUBTRACT, a, b),
            (_, BinaryOp::Mul) => self.commuting(MULTIPLY, a, b),
            (_, BinaryOp::And) => self.commuting(AND, a, b),
            (_, BinaryOp::Or) => self.commuting(OR, a, b),
            (_, BinaryOp::Xor) => self.commuting(XOR, a, b),
            (_, BinaryOp::Min) => self.commuting(if signed { MIN_SIGNED } else { MIN_UNSIGNED }, a, b),
            (_, BinaryOp::Max) => self.commuting(if signed { MAX_SIGNED } else { MAX_UNSIGNED }, a, b),
            (_, BinaryOp::Shl | BinaryOp::Shr) => {
                let (extension, number) = match (op, signed) {
                    (BinaryOp::Shl, _) => (6, 0x47),
                    (_, false) => (2, 0x45),
                    (_, true) => (4, 0x46),
                };
                if let Held::Constant(amount) = b {
                    return Some(self.shift(extension, a, (amount & 31) as u8));
                }
                let amount = self.commuting(AND, b, Held::Constant(31));
                self.two(opcode(P66, M0F38, number), a, amount)
            }
            // There are no such instructions.
            (_, BinaryOp::Div | BinaryOp::Rem | BinaryOp::Pow) => return None,
        })
    }

    fn truths(&mut self, op: BinaryOp, a: Held, b: Held) -> Option<Held> {
        let (vector, mask) = match op {
            BinaryOp::And => (AND, 0x41),
            BinaryOp::Or => (OR, 0x45),
            BinaryOp::Xor => (XOR, 0x47),
            _ => return None,
        };
        Some(if self.has_masks() { self.masks(mask, a, b) } else { self.commuting(vector, a, b) })
    }

    /// An instruction on two mask registers.
    fn masks(&mut self, number: u8, a: Held, b: Held) -> Held {
        let (a, b) = (self.register(a), self.register(b));
        self.push(Class::Mask, Form::Mask(true), opcode(NP, M0F, number), Some(a), Some(Source::Virtual(b)))
    }

    fn compare(&mut self, op: CompareOp, dtype: DType, a: Held, b: Held) -> Held {
        match dtype {
            DType::F32 => {
                let predicate = match op {
                    CompareOp::Eq => EQUAL,
                    CompareOp::Ne => NOT_EQUAL,
                    CompareOp::Lt => LESS,
                    CompareOp::Le => LESS_OR_EQUAL,
                    CompareOp::Gt => GREATER,
                    CompareOp::Ge => GREATER_OR_EQUAL,
                };
                self.predicate(FLOAT_COMPARE, a, b, predicate)
            }
            DType::Bool => {
                let differs = if self.has_masks() { self.masks(0x47, a, b) } else { self.commuting(XOR, a, b) };
                if op == CompareOp::Eq { self.not(DType::Bool, differs) } else { differs }
            }
            _ => self.integer_predicate(op, dtype == DType::I32, a, b),
        }
    }

    fn integer_predicate(&mut self, op: CompareOp, signed: bool, a: Held, b: Held) -> Held {
        if self.has_masks() {
            let predicate = match op {
                CompareOp::Eq => 0,
                CompareOp::Lt => 1,
                CompareOp::Le => 2,
                CompareOp::Ne => 4,
                CompareOp::Ge => 5,
                CompareOp::Gt => 6,
            };
            return self.predicate(opcode(P66, M0F3A, if signed { 0x1f } else { 0x1e }), a, b, predicate);
        }
        const SAME: Opcode = opcode(P66, M0F, 0x76);
        const ABOVE: Opcode = opcode(P66, M0F, 0x66);
        let (min, max) = if signed { (MIN_SIGNED, MAX_SIGNED) } else { (MIN_UNSIGNED, MAX_UNSIGNED) };
        let negated = matches!(op, CompareOp::Ne) || !signed && matches!(op, CompareOp::Lt | CompareOp::Gt);
        let result = match op {
            CompareOp::Eq | CompareOp::Ne => self.commuting(SAME, a, b),
            CompareOp::Gt if signed => self.two(ABOVE, a, b),
            CompareOp::Lt if signed => self.two(ABOVE, b, a),
            // `a <= b` where a is the least of both; and there are no unsigned comparisons but these.
            CompareOp::Le | CompareOp::Gt => {
                let a = Held::Register(self.register(a));
                let least = self.two(min, a, b);
                self.two(SAME, least, a)
            }
            CompareOp::Ge | CompareOp::Lt => {
                let a = Held::Register(self.register(a));
                let greatest = self.two(max, a, b);
                self.two(SAME, greatest, a)
            }
        };
        if negated { self.not(DType::Bool, result) } else { result }
    }

    fn select(&mut self, dtype: DType, condition: Held, a: Held, b: Held) -> Held {
        let mask = self.register(condition);
        if dtype == DType::Bool && self.has_masks() {
            let condition = Held::Register(mask);
            let then = self.masks(0x41, condition, a);
            let otherwise = self.masks(0x42, condition, b);
            return self.masks(0x45, then, otherwise);
        }
        // The second operand's lanes are those where the mask is set.
        let (b, a) = (self.register(b), self.source(a));
        let (form, op) = if self.has_masks() {
            (Form::Vector, opcode(P66, M0F38, 0x65))
        } else {
            (Form::Blend, opcode(P66, M0F3A, 0x4a))
        };
        let result = self.push(Class::Vector, form, op, Some(b), Some(a));
        self.last(|step| step.mask = Some(mask));
        result
    }

    fn convert(&mut self, from: DType, to: DType, a: Held) -> Held {
        match (from, to) {
            (from, to) if from == to => a,
            (DType::F32, DType::Bool) => self.compare(CompareOp::Ne, DType::F32, a, Held::Constant(0)),
            (_, DType::Bool) => self.nonzero(a),
            (DType::Bool, DType::F32) => self.chosen(a, 1f32.to_bits()),
            (DType::Bool, _) => self.chosen(a, 1),
            (DType::F32, DType::I32) => self.signed_of_float(a),
            (DType::F32, DType::U32) => self.unsigned_of_float(a),
            (DType::I32, DType::F32) => self.one(FLOAT_OF_SIGNED, a),
            (DType::U32, DType::F32) => self.float_of_unsigned(a),
            _ => a,
        }
    }

    /// `a` where a comparison of floats holds, else zero.
    fn where_(&mut self, predicate: u8, compared: (Held, Held), a: Held) -> Held {
        let condition = self.predicate(FLOAT_COMPARE, compared.0, compared.1, predicate);
        if !self.has_masks() {
            return self.commuting(AND, condition, a);
        }
        let mask = self.register(condition);
        let result = self.one(MOVE, a);
        self.last(|step| (step.mask, step.zeroing) = (Some(mask), true));
        result
    }

    /// Truncated, saturated, 0 for NaN.
    fn signed_of_float(&mut self, a: Held) -> Held {
        let a = Held::Register(self.register(a));
        // What is out of range becomes the least number; above the range its complement is the greatest.
        let integer = self.one(SIGNED_OF_FLOAT, a);
        let number = self.where_(ORDERED, (a, a), integer);
        let limit = Held::Constant(0x4f00_0000);
        let above = self.predicate(FLOAT_COMPARE, a, limit, GREATER_OR_EQUAL);
        let ones = self.chosen(above, u32::MAX);
        self.two(XOR, number, ones)
    }

    fn unsigned_of_float(&mut self, a: Held) -> Held {
        let a = Held::Register(self.register(a));
        let zero = Held::Constant(0);
        if self.has_masks() {
            // What is out of range becomes the greatest number.
            let integer = self.one(opcode(NP, M0F, 0x78), a);
            return self.where_(GREATER, (a, zero), integer);
        }
        let positive = self.where_(GREATER, (a, zero), a);
        let half = Held::Constant(0x4f00_0000);
        let low = self.one(SIGNED_OF_FLOAT, positive);
        // From 2^31 on the low part is that number; what is above comes from the rest, and is too much from 2^32 on.
        let rest = self.two(FLOAT_SUBTRACT, positive, half);
        let high = self.one(SIGNED_OF_FLOAT, rest);
        let high = self.where_(GREATER_OR_EQUAL, (positive, half), high);
        let sum = self.two(OR, low, high);
        let ones = Held::Constant(u32::MAX);
        let limit = Held::Constant(0x4f80_0000);
        let above = self.predicate(FLOAT_COMPARE, positive, limit, GREATER_OR_EQUAL);
        let ones = self.commuting(AND, above, ones);
        self.two(OR, sum, ones)
    }

    fn float_of_unsigned(&mut self, a: Held) -> Held {
        if self.has_masks() {
            return self.one(opcode(PF2, M0F, 0x7a), a);
        }
        // Halves as the mantissas of 2^23 and 2^39: their difference from these is exact, so that only the sum rounds.
        let a = Held::Register(self.register(a));
        let low = self.two(AND, a, Held::Constant(0xffff));
        let low = self.two(OR, low, Held::Constant(0x4b00_0000));
        let high = self.shift(2, a, 16);
        let high = self.two(OR, high, Held::Constant(0x5300_0000));
        let high = self.two(FLOAT_SUBTRACT, high, Held::Constant(0x5300_0080));
        self.two(FLOAT_ADD, high, low)
    }
}
