//! Loops around a body: maps, sums in LN1's order, reductions of integers.
//!
//! Whole vectors run first. What is left runs once more under a mask: lanes beyond the last element are neither loaded nor
//! stored, and leave what is reduced as it is.

use loom_ir::kernel::ReduceOp;
use loom_ir::numerics::reduction::SumSpec;
use loom_ir::types::DType;

use super::allocate::{
    self, At, Frame, POSITION, Place, TABLE, TAIL_MASK, broadcast_register, lane_numbers, tail_vector,
};
use super::encode::{
    Arithmetic, Assembler, Condition, Gpr, Isa, Length, Map, Masking, Mem, Opcode, Operand, Prefix, Vector, opcode,
};
use super::lower::Lowered;
use super::{Feed, Purpose};

/// LN1's order, the only one that the verifier lets pass.
const SPEC: SumSpec = SumSpec { block: 4096, lanes: 32 };

/// The elements left to do.
const COUNT: Gpr = Gpr::Rdx;
/// Where the results go.
const TARGET: Gpr = Gpr::Rsi;
/// Where terms go that are kept.
const TERMS: Gpr = Gpr::R11;
/// Registers for the addresses of the first streams.
const STREAMS: [Gpr; 3] = [Gpr::R8, Gpr::R9, Gpr::R10];
/// Steps of a body that is worth standing side by side with copies of itself, and most of them.
const LONG: usize = 16;
const MOST_COPIES: u32 = 4;
/// The largest frame: a page, so that none is skipped below the stack.
const LARGEST_FRAME: i32 = 4096;

const STORE: Opcode = opcode(Prefix::None, Map::M0F, 0x11);
const FLOAT_ADD: Opcode = opcode(Prefix::None, Map::M0F, 0x58);
const AND: Opcode = opcode(Prefix::P66, Map::M0F, 0xdb);
const XOR: Opcode = opcode(Prefix::P66, Map::M0F, 0xef);

/// The code of a function; `None` if its frame is too large.
pub(super) fn emit(lowered: &Lowered, feeds: &[Feed], purpose: Purpose, isa: Isa) -> Option<Vec<u8>> {
    let sums = match purpose {
        Purpose::Map => 0,
        Purpose::Sum { .. } | Purpose::Integers(..) => (u64::from(SPEC.lanes) / isa.lanes()) as u8,
    };
    let registers = match isa {
        Isa::Avx2 => 16,
        Isa::Avx512 => 32,
    };
    let frame = Frame { places: Vec::new(), spills: 0, most_spills: 0, vectors: registers - sums };
    let keeps_terms = purpose == Purpose::Sum { keep: true };
    let mut writer = Writer { asm: Assembler::new(isa), lowered, frame, isa, sums, keeps_terms };
    let size = writer.prologue(feeds);
    match purpose {
        Purpose::Map => writer.map(),
        Purpose::Sum { .. } => writer.reduce(Combine { opcode: FLOAT_ADD, identity: 0 }),
        Purpose::Integers(op, dtype, identity) => writer.reduce(Combine { opcode: integers(op, dtype), identity }),
    }
    writer.epilogue(size)
}

fn integers(op: ReduceOp, dtype: DType) -> Opcode {
    let (map, number) = match (op, dtype) {
        (ReduceOp::Sum(_), _) => (Map::M0F, 0xfe),
        (ReduceOp::Min, DType::I32) => (Map::M0F38, 0x39),
        (ReduceOp::Min, _) => (Map::M0F38, 0x3b),
        (ReduceOp::Max, DType::I32) => (Map::M0F38, 0x3d),
        (ReduceOp::Max, _) => (Map::M0F38, 0x3f),
    };
    opcode(Prefix::P66, map, number)
}

/// How terms are reduced.
#[derive(Debug, Clone, Copy)]
struct Combine {
    opcode: Opcode,
    /// The bits to begin with.
    identity: u32,
}

struct Writer<'a> {
    asm: Assembler,
    lowered: &'a Lowered,
    frame: Frame,
    isa: Isa,
    /// How many registers, the highest ones, hold partial results.
    sums: u8,
    /// Whether the terms of a reduction are written to [`TERMS`].
    keeps_terms: bool,
}

impl Writer<'_> {
    fn vector(&mut self, opcode: Opcode, length: Length, (target, first, second): (u8, u8, Operand), masking: Masking) {
        self.asm.vector(&Vector { opcode, length, target, first, second, masking, immediate: None });
    }

    /// Makes the frame, and fills in what stays the same. Gives the place of the frame's size.
    fn prologue(&mut self, feeds: &[Feed]) -> usize {
        self.asm.move_register(Gpr::Rax, Gpr::Rsp);
        self.asm.arithmetic(Arithmetic::And, Gpr::Rsp, -64);
        let size = self.asm.arithmetic(Arithmetic::Sub, Gpr::Rsp, 0);
        self.asm.store(Mem::Base(Gpr::Rsp, 0), Gpr::Rax);
        let mut streams = STREAMS.into_iter();
        if self.keeps_terms {
            self.asm.move_register(TERMS, Gpr::Rcx);
        }
        // Behind the stack pointer: values and first indices.
        let mut offset = 64;
        for (number, feed) in feeds.iter().enumerate() {
            let place = match feed {
                Feed::Stream => {
                    let entry = number as i32 * 8;
                    match streams.next() {
                        Some(register) => {
                            self.asm.load(register, Mem::Base(TABLE, entry));
                            Place::Register(register)
                        }
                        None => Place::Table(entry),
                    }
                }
                Feed::Value | Feed::Ramp => {
                    let place = Mem::Base(Gpr::Rsp, offset);
                    self.asm.load(Gpr::Rax, Mem::Base(TABLE, number as i32 * 8));
                    let vector = *feed == Feed::Value && self.isa == Isa::Avx2;
                    if vector {
                        let value = Operand::Mem(Mem::Base(Gpr::Rax, 0));
                        self.vector(super::lower::BROADCAST, Length::L256, (0, 0, value), Masking::None);
                        self.vector(STORE, Length::L256, (0, 0, Operand::Mem(place)), Masking::None);
                    } else {
                        self.asm.load_word(Gpr::Rax, Mem::Base(Gpr::Rax, 0));
                        self.asm.store_word(place, Gpr::Rax);
                    }
                    let at = offset;
                    offset += if vector { 32 } else { 4 };
                    Place::Frame(at)
                }
            };
            self.frame.places.push(place);
        }
        for _ in 0..self.lowered.kept {
            self.frame.places.push(Place::Frame(offset));
            offset += if self.isa == Isa::Avx2 { 32 } else { 4 };
        }
        // Each vector on the stack lies within a cache line.
        self.frame.spills = (offset as u32).next_multiple_of(64) as i32;
        self.asm.arithmetic_register(Arithmetic::Xor, POSITION, POSITION);
        allocate::emit(&mut self.asm, &self.lowered.once, 1, &mut self.frame, At { offset: 0, tail: false });
        size
    }

    fn epilogue(mut self, size: usize) -> Option<Vec<u8>> {
        self.asm.zero_upper();
        self.asm.load(Gpr::Rsp, Mem::Base(Gpr::Rsp, 0));
        self.asm.return_();
        let bytes = self.frame.spills + (self.frame.most_spills * self.isa.bytes()).next_multiple_of(64) as i32;
        self.asm.patch(size, bytes);
        (bytes <= LARGEST_FRAME).then(|| self.asm.finish())
    }

    /// Runs `body` for every whole run of `step` elements; then leaves how many are left in [`COUNT`].
    fn whole(&mut self, step: u64, body: impl FnOnce(&mut Self)) {
        let (again, done) = (self.asm.label(), self.asm.label());
        self.asm.arithmetic(Arithmetic::Sub, COUNT, step as i32);
        self.asm.jump_if(Condition::Less, done);
        self.asm.bind(again);
        body(self);
        self.asm.arithmetic(Arithmetic::Add, POSITION, step as i32);
        self.asm.arithmetic(Arithmetic::Sub, COUNT, step as i32);
        self.asm.jump_if(Condition::GreaterOrEqual, again);
        self.asm.bind(done);
        self.asm.arithmetic(Arithmetic::Add, COUNT, step as i32);
    }

    /// The mask of the lanes whose number, plus `offset`, is below [`COUNT`].
    fn tail_mask(&mut self, offset: u64) {
        let length = self.isa.length();
        let numbers = Operand::Mem(lane_numbers(&mut self.asm, offset));
        match self.isa {
            Isa::Avx2 => {
                let mask = tail_vector(&self.frame);
                broadcast_register(&mut self.asm, mask, COUNT);
                let above = opcode(Prefix::P66, Map::M0F, 0x66);
                self.vector(above, length, (mask, mask, numbers), Masking::None);
            }
            Isa::Avx512 => {
                broadcast_register(&mut self.asm, 0, COUNT);
                let (opcode, immediate) = (opcode(Prefix::P66, Map::M0F3A, 0x1f), Some(6));
                let masking = Masking::None;
                let (target, first, second) = (TAIL_MASK, 0, numbers);
                self.asm.vector(&Vector { opcode, length, target, first, second, masking, immediate });
            }
        }
    }

    fn map(&mut self) {
        let lanes = self.isa.lanes();
        let place = |copy: u64| Mem::Element(TARGET, POSITION, (copy * lanes * 4) as i32);
        let most = self.copies();
        for copies in [most, 1].into_iter().skip(usize::from(most == 1)) {
            self.whole(u64::from(copies) * lanes, |writer| {
                for (copy, result) in writer.bodies(copies, 0, false).into_iter().enumerate() {
                    writer.store(result, place(copy as u64), false);
                }
            });
        }
        let done = self.asm.label();
        self.asm.arithmetic(Arithmetic::Compare, COUNT, 0);
        self.asm.jump_if(Condition::Equal, done);
        self.tail_mask(0);
        for result in self.bodies(1, 0, true) {
            self.store(result, place(0), true);
        }
        self.asm.bind(done);
    }

    /// How many copies of what is computed for each vector stand side by side. A short one has little that waits.
    fn copies(&self) -> u32 {
        let body = &self.lowered.each;
        if body.steps.len() < LONG { 1 } else { allocate::copies(body, self.isa, MOST_COPIES) }
    }

    /// The results of so many vectors from `offset` on.
    fn bodies(&mut self, copies: u32, offset: u64, tail: bool) -> Vec<u8> {
        allocate::emit(&mut self.asm, &self.lowered.each, copies, &mut self.frame, At { offset, tail })
    }

    /// Writes a vector; of a tail, the lanes that are there.
    fn store(&mut self, register: u8, place: Mem, tail: bool) {
        let (length, place) = (self.isa.length(), Operand::Mem(place));
        match self.isa {
            _ if !tail => self.vector(STORE, length, (register, 0, place), Masking::None),
            Isa::Avx2 => {
                let mask = tail_vector(&self.frame);
                let masked = opcode(Prefix::P66, Map::M0F38, 0x2e);
                self.vector(masked, length, (register, mask, place), Masking::None);
            }
            Isa::Avx512 => self.vector(STORE, length, (register, 0, place), Masking::Merge(TAIL_MASK)),
        }
    }

    /// The terms of so many vectors from `offset` on.
    fn terms(&mut self, copies: u32, offset: u64, tail: bool) -> Vec<u8> {
        let terms = self.bodies(copies, offset, tail);
        if self.keeps_terms {
            for (copy, &terms) in (0..).zip(&terms) {
                let offset = (offset + copy * self.isa.lanes()) as i32 * 4;
                self.store(terms, Mem::Element(TERMS, POSITION, offset), tail);
            }
        }
        terms
    }

    /// The registers of partial results. LN1's lane `l` is in number `l / lanes`.
    fn partial(&self, number: u8) -> u8 {
        self.frame.vectors + number
    }

    fn reduce(&mut self, combine: Combine) {
        let (length, lanes) = (self.isa.length(), self.isa.lanes());
        for number in 0..self.sums {
            let target = self.partial(number);
            let identity = self.identity(combine);
            self.vector(super::lower::BROADCAST, length, (target, 0, identity), Masking::None);
        }
        // A divisor of the partial results, which are a power of two.
        let copies = self.copies().min(u32::from(self.sums));
        let copies = 1 << copies.ilog2();
        self.whole(u64::from(SPEC.lanes), |writer| {
            for first in (0..writer.sums).step_by(copies as usize) {
                let terms = writer.terms(copies, u64::from(first) * lanes, false);
                for (number, term) in (first..).zip(terms) {
                    let target = writer.partial(number);
                    writer.vector(combine.opcode, length, (target, target, Operand::Reg(term)), Masking::None);
                }
            }
        });
        let done = self.asm.label();
        for number in 0..self.sums {
            let offset = u64::from(number) * lanes;
            self.asm.arithmetic(Arithmetic::Compare, COUNT, offset as i32);
            self.asm.jump_if(Condition::LessOrEqual, done);
            self.tail_mask(offset);
            let target = self.partial(number);
            for term in self.terms(1, offset, true) {
                match self.isa {
                    Isa::Avx512 => {
                        let masking = Masking::Merge(TAIL_MASK);
                        self.vector(combine.opcode, length, (target, target, Operand::Reg(term)), masking);
                    }
                    // The other lanes' terms become the identity; of a sum +0.0, which changes no lane: none is -0.0.
                    Isa::Avx2 => {
                        self.keep_lanes(term, combine);
                        self.vector(combine.opcode, length, (target, target, Operand::Reg(term)), Masking::None);
                    }
                }
            }
        }
        self.asm.bind(done);
        self.fold(combine);
    }

    fn identity(&mut self, combine: Combine) -> Operand {
        let words = [combine.identity; 8];
        let words = if self.isa == Isa::Avx2 { &words[..] } else { &words[..1] };
        Operand::Mem(Mem::Pool(self.asm.constant(words)))
    }

    /// AVX2: `register = tail ? register : identity`, as `((register ^ identity) & tail) ^ identity`.
    fn keep_lanes(&mut self, register: u8, combine: Combine) {
        let length = self.isa.length();
        let identity = self.identity(combine);
        let mask = Operand::Reg(tail_vector(&self.frame));
        for (opcode, second) in [(XOR, identity), (AND, mask), (XOR, identity)] {
            self.vector(opcode, length, (register, register, second), Masking::None);
        }
    }

    /// Folds the lanes by halves, as LN1 asks, and stores the result.
    fn fold(&mut self, combine: Combine) {
        let length = self.isa.length();
        let mut left = self.sums;
        while left > 1 {
            left /= 2;
            for number in 0..left {
                let (low, high) = (self.partial(number), self.partial(number + left));
                self.vector(combine.opcode, length, (low, low, Operand::Reg(high)), Masking::None);
            }
        }
        let (sum, other) = (self.partial(0), 0);
        if self.isa == Isa::Avx512 {
            // The upper 8 lanes.
            self.extract(opcode(Prefix::P66, Map::M0F3A, 0x1b), Length::L512, other, sum);
            self.vector(combine.opcode, Length::L256, (sum, sum, Operand::Reg(other)), Masking::None);
        }
        // The upper 4.
        self.extract(opcode(Prefix::P66, Map::M0F3A, 0x19), Length::L256, other, sum);
        self.vector(combine.opcode, Length::L128, (sum, sum, Operand::Reg(other)), Masking::None);
        // Lanes 2 and 3, then lane 1, in the place of lane 0.
        for order in [0b1110, 0b01] {
            let (opcode, length) = (opcode(Prefix::P66, Map::M0F, 0x70), Length::L128);
            let (masking, immediate, second) = (Masking::None, Some(order), Operand::Reg(sum));
            self.asm.vector(&Vector { opcode, length, target: other, first: 0, second, masking, immediate });
            self.vector(combine.opcode, Length::L128, (sum, sum, Operand::Reg(other)), Masking::None);
        }
        let lowest = opcode(Prefix::P66, Map::M0F, 0x7e);
        let place = Operand::Mem(Mem::Base(TARGET, 0));
        self.vector(lowest, Length::L128, (sum, 0, place), Masking::None);
    }

    /// `target` = the upper half of `source`, a vector of this length.
    fn extract(&mut self, opcode: Opcode, length: Length, target: u8, source: u8) {
        let (masking, immediate) = (Masking::None, Some(1));
        // What is written is in the place of an operand.
        let second = Operand::Reg(target);
        self.asm.vector(&Vector { opcode, length, target: source, first: 0, second, masking, immediate });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_ln1s() {
        assert_eq!(SPEC, SumSpec::default());
    }
}
