//! Registers for a straight line of instructions, and its encoding, in one pass.
//!
//! A value lives in a register from where it is made to its last use. Where registers run out, the value whose next use
//! is furthest away goes to the stack. Most instructions read it there as their second operand; others load it again.

use super::encode::{Arithmetic, Assembler, Gpr, Isa, Length, Map, Masking, Mem, Operand, Prefix, Vector, opcode};
use super::lower::{Body, Class, Form, Source, Step, Virtual};

/// What a body may use, and where its operands are.
#[derive(Debug)]
pub(super) struct Frame {
    /// By operand: where the address of a stream is kept, the value of one that is the same for all elements, or the first
    /// index of a ramp.
    pub places: Vec<Place>,
    /// Where values on the stack begin.
    pub spills: i32,
    /// How many of them there were at most.
    pub most_spills: u32,
    /// The registers in use outside of bodies, the highest ones: so many are left.
    pub vectors: u8,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// The address is in a register.
    Register(Gpr),
    /// The address is in the table, at this offset.
    Table(i32),
    /// A value or an index, at this offset in the frame.
    Frame(i32),
}

/// Which elements a body is for: from the position in [`POSITION`] on, plus `offset`.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub offset: u64,
    /// Whether only the lanes of the tail's mask are there: [`TAIL_MASK`], or the highest of a body's vectors.
    pub tail: bool,
}

/// The number of the first element.
pub(super) const POSITION: Gpr = Gpr::Rcx;
/// The table of addresses.
pub(super) const TABLE: Gpr = Gpr::Rdi;
const SCRATCH: Gpr = Gpr::Rax;
/// The mask register of AVX-512 that tails use.
pub(super) const TAIL_MASK: u8 = 7;
/// The first mask register that an instruction may choose lanes by.
const FIRST_MASK: u8 = 1;

/// The mask of the tail, with AVX2.
pub(super) fn tail_vector(frame: &Frame) -> u8 {
    frame.vectors - 1
}

/// The indices of a vector's lanes, plus an offset.
pub(super) fn lane_numbers(asm: &mut Assembler, offset: u64) -> Mem {
    let numbers: Vec<u32> = (0..asm.isa().lanes()).map(|lane| (offset + lane) as u32).collect();
    Mem::Pool(asm.constant(&numbers))
}

/// A general register's low half in every lane.
pub(super) fn broadcast_register(asm: &mut Assembler, target: u8, source: Gpr) {
    let (isa, first, masking, immediate) = (asm.isa(), 0, Masking::None, None);
    let length = isa.length();
    let mut emit = |opcode, length, second| {
        asm.vector(&Vector { opcode, length, target, first, second: Operand::Reg(second), masking, immediate });
    };
    match isa {
        Isa::Avx2 => {
            emit(opcode(Prefix::P66, Map::M0F, 0x6e), Length::L128, source as u8);
            emit(opcode(Prefix::P66, Map::M0F38, 0x58), length, target);
        }
        Isa::Avx512 => emit(opcode(Prefix::P66, Map::M0F38, 0x7c), length, source as u8),
    }
}

/// Encodes so many copies of a body, for one vector after another, step by step side by side: a processor looks ahead only
/// so far, and what waits for one vector's step is done for the next one meanwhile. Gives the registers of their results,
/// if the body has one, which hold until the next body.
pub(super) fn emit(asm: &mut Assembler, body: &Body, copies: u32, frame: &mut Frame, at: At) -> Vec<u8> {
    let mut uses = vec![Vec::new(); body.classes.len() * copies as usize];
    let copy_of = |value: Virtual, copy: u32| Virtual(value.0 * copies + copy);
    let steps = || body.steps.iter().flat_map(|step| (0..copies).map(move |copy| (step, copy)));
    for (number, (step, copy)) in steps().enumerate() {
        for used in step.operands() {
            uses[copy_of(used, copy).0 as usize].push(number as u32);
        }
    }
    let results: Vec<Virtual> =
        body.result.iter().flat_map(|&result| (0..copies).map(move |copy| copy_of(result, copy))).collect();
    for result in &results {
        uses[result.0 as usize].push(u32::MAX);
    }
    // The nearest use is the last of the list.
    uses.iter_mut().for_each(|uses| uses.reverse());
    let vectors = if at.tail && asm.isa() == Isa::Avx2 { tail_vector(frame) } else { frame.vectors };
    let mut allocator = Allocator {
        asm,
        body,
        at,
        uses,
        copies,
        homes: vec![Home::default(); body.classes.len() * copies as usize],
        vectors: vec![None; vectors as usize],
        masks: vec![None; (TAIL_MASK - FIRST_MASK) as usize],
        free_spills: Vec::new(),
        spills: 0,
        frame,
    };
    let lanes = allocator.asm.isa().lanes();
    for (step, copy) in steps() {
        let renamed = |value: Option<Virtual>| value.map(|value| copy_of(value, copy));
        let second = match step.second {
            Some(Source::Virtual(value)) => Some(Source::Virtual(copy_of(value, copy))),
            other => other,
        };
        let (target, first, mask) = (renamed(step.target), renamed(step.first), renamed(step.mask));
        allocator.at.offset = at.offset + u64::from(copy) * lanes;
        allocator.step(&Step { target, first, second, mask, ..*step });
    }
    let mut registers = Vec::new();
    for (number, &result) in results.iter().enumerate() {
        registers.push(allocator.in_register(result, &results[..number]));
    }
    registers
}

/// How many copies of a body, at most so many, need no registers but those that there are.
pub(super) fn copies(body: &Body, isa: Isa, most: u32) -> u32 {
    let mut last = vec![0; body.classes.len()];
    for (number, step) in body.steps.iter().enumerate() {
        step.operands().for_each(|value| last[value.0 as usize] = number);
    }
    let (mut live, mut largest) = ([0u32; 2], [1u32; 2]);
    for (number, step) in body.steps.iter().enumerate() {
        let class = |value: Virtual| usize::from(body.classes[value.0 as usize] == Class::Mask);
        if let Some(target) = step.target {
            live[class(target)] += 1;
        }
        largest = [0, 1].map(|class| largest[class].max(live[class]));
        let mut ending: Vec<Virtual> = step.operands().filter(|value| last[value.0 as usize] == number).collect();
        ending.dedup();
        ending.into_iter().for_each(|value| live[class(value)] = live[class(value)].saturating_sub(1));
    }
    let registers = match isa {
        // Some hold partial results and the mask of a tail.
        Isa::Avx2 => [11, u32::MAX],
        Isa::Avx512 => [30, u32::from(TAIL_MASK - FIRST_MASK)],
    };
    (registers[0] / largest[0]).min(registers[1] / largest[1]).clamp(1, most)
}

/// Where a value is: perhaps in both.
#[derive(Debug, Clone, Copy, Default)]
struct Home {
    register: Option<u8>,
    spill: Option<u32>,
}

struct Allocator<'a> {
    asm: &'a mut Assembler,
    body: &'a Body,
    copies: u32,
    frame: &'a mut Frame,
    at: At,
    /// By value: the instructions still to come that use it, the nearest last.
    uses: Vec<Vec<u32>>,
    homes: Vec<Home>,
    vectors: Vec<Option<Virtual>>,
    masks: Vec<Option<Virtual>>,
    free_spills: Vec<u32>,
    spills: u32,
}

impl Allocator<'_> {
    fn class(&self, value: Virtual) -> Class {
        self.body.classes[(value.0 / self.copies) as usize]
    }

    fn home(&mut self, value: Virtual) -> &mut Home {
        &mut self.homes[value.0 as usize]
    }

    /// The registers of a class, the first of which has the number that is given too.
    fn file(&mut self, class: Class) -> (&mut Vec<Option<Virtual>>, u8) {
        match class {
            Class::Vector => (&mut self.vectors, 0),
            Class::Mask => (&mut self.masks, FIRST_MASK),
        }
    }

    fn step(&mut self, step: &Step) {
        let mut kept: Vec<Virtual> = Vec::new();
        let mut in_register = |allocator: &mut Self, value: Option<Virtual>| {
            value.map(|value| {
                let register = allocator.in_register(value, &kept);
                kept.push(value);
                register
            })
        };
        let first = in_register(self, step.first);
        let mask = in_register(self, step.mask);
        let second = match step.second {
            Some(Source::Virtual(value)) => {
                let home = *self.home(value);
                // Extended instructions have no memory operand with AVX2, nor have those on masks.
                let from_memory = matches!(step.form, Form::Vector | Form::Blend);
                match (home.register, home.spill) {
                    (None, Some(spill)) if from_memory => Some(Operand::Mem(self.spill_place(spill))),
                    _ => in_register(self, Some(value)).map(Operand::Reg),
                }
            }
            Some(source) => Some(self.memory(step, source)),
            None => None,
        };
        for value in step.operands() {
            self.uses[value.0 as usize].pop();
        }
        for value in step.operands() {
            self.release(value);
        }
        let target = step.target.map_or(0, |value| {
            let target = self.any_register(self.class(value), &kept);
            self.occupy(value, target);
            target
        });
        self.encode(step, target, first, mask, second);
        if let Some(value) = step.target {
            self.release(value);
        }
    }

    /// A constant or a value that is the same in every lane.
    fn memory(&mut self, step: &Step, source: Source) -> Operand {
        let isa = self.asm.isa();
        let mem = match source {
            Source::Constant(bits) if isa == Isa::Avx512 => Mem::Pool(self.asm.constant(&[bits])),
            Source::Constant(bits) => Mem::Pool(self.asm.constant(&[bits; 8])),
            Source::Value(number) => match self.frame.places[number] {
                Place::Frame(offset) => Mem::Base(Gpr::Rsp, offset),
                _ => unreachable!("values are in the frame"),
            },
            Source::Virtual(_) => unreachable!("in a register or on the stack"),
        };
        // A broadcast reads one element of itself.
        if isa == Isa::Avx2 || step.opcode == super::lower::BROADCAST { Operand::Mem(mem) } else { Operand::Splat(mem) }
    }

    /// Gives the places of a value back after its last use.
    fn release(&mut self, value: Virtual) {
        if !self.uses[value.0 as usize].is_empty() {
            return;
        }
        let home = std::mem::take(self.home(value));
        if let Some(register) = home.register {
            let (file, first) = self.file(self.class(value));
            file[(register - first) as usize] = None;
        }
        self.free_spills.extend(home.spill);
    }

    fn occupy(&mut self, value: Virtual, register: u8) {
        let (file, first) = self.file(self.class(value));
        file[(register - first) as usize] = Some(value);
        self.home(value).register = Some(register);
    }

    /// The value in a register, loaded if it was on the stack only. Those `kept` stay in theirs.
    fn in_register(&mut self, value: Virtual, kept: &[Virtual]) -> u8 {
        if let Some(register) = self.home(value).register {
            return register;
        }
        let Some(spill) = self.home(value).spill else { unreachable!("a value is in a register or on the stack") };
        let class = self.class(value);
        let register = self.any_register(class, kept);
        self.occupy(value, register);
        let place = self.spill_place(spill);
        self.transfer(class, register, place, false);
        register
    }

    /// A register that is free, or is made free.
    fn any_register(&mut self, class: Class, kept: &[Virtual]) -> u8 {
        let (file, first) = self.file(class);
        if let Some(free) = file.iter().position(Option::is_none) {
            return free as u8 + first;
        }
        let candidates: Vec<Virtual> = file.iter().flatten().copied().filter(|value| !kept.contains(value)).collect();
        let next_use = |value: &Virtual| self.uses[value.0 as usize].last().copied();
        let Some(&furthest) = candidates.iter().max_by_key(|&value| next_use(value)) else {
            unreachable!("an instruction has fewer operands than there are registers")
        };
        let Some(register) = self.home(furthest).register.take() else { unreachable!("it holds a register") };
        if self.home(furthest).spill.is_none() {
            let spill = self.free_spills.pop().unwrap_or_else(|| {
                self.spills += 1;
                self.spills - 1
            });
            self.frame.most_spills = self.frame.most_spills.max(self.spills);
            self.home(furthest).spill = Some(spill);
            let place = self.spill_place(spill);
            self.transfer(class, register, place, true);
        }
        let (file, first) = self.file(class);
        file[(register - first) as usize] = None;
        register
    }

    fn spill_place(&self, spill: u32) -> Mem {
        Mem::Base(Gpr::Rsp, self.frame.spills + (spill * self.asm.isa().bytes()) as i32)
    }

    /// Between a register and the stack.
    fn transfer(&mut self, class: Class, register: u8, place: Mem, store: bool) {
        let second = Operand::Mem(place);
        match class {
            Class::Vector => {
                let opcode = opcode(Prefix::None, Map::M0F, if store { 0x11 } else { 0x10 });
                self.vector(opcode, register, 0, second, Masking::None, None);
            }
            Class::Mask => {
                let opcode = opcode(Prefix::None, Map::M0F, if store { 0x91 } else { 0x90 });
                self.asm.mask(opcode, false, register, 0, second);
            }
        }
    }

    fn vector(
        &mut self,
        opcode: super::encode::Opcode,
        target: u8,
        first: u8,
        second: Operand,
        masking: Masking,
        immediate: Option<u8>,
    ) {
        let length = self.asm.isa().length();
        self.asm.vector(&Vector { opcode, length, target, first, second, masking, immediate });
    }

    fn encode(&mut self, step: &Step, target: u8, first: Option<u8>, mask: Option<u8>, second: Option<Operand>) {
        let none = Operand::Reg(0);
        let (vvvv, second) = (first.unwrap_or(0), second.unwrap_or(none));
        match step.form {
            Form::Vector => {
                let masking = match mask {
                    Some(mask) if step.zeroing => Masking::Zero(mask),
                    Some(mask) => Masking::Merge(mask),
                    None => Masking::None,
                };
                self.vector(step.opcode, target, vvvv, second, masking, step.immediate);
            }
            Form::Extended(extension) => {
                self.vector(step.opcode, extension, target, second, Masking::None, step.immediate);
            }
            Form::Blend => {
                self.vector(step.opcode, target, vvvv, second, Masking::None, Some(mask.unwrap_or(0) << 4));
            }
            Form::Mask(two) => self.asm.mask(step.opcode, two, target, vvvv, second),
            Form::Load(number) => self.load(number, target),
            Form::Ramp(number) => self.ramp(number, target),
            Form::Keep(number) => self.keep(number, vvvv),
        }
    }

    fn keep(&mut self, number: usize, register: u8) {
        let Place::Frame(offset) = self.frame.places[number] else { unreachable!("values are in the frame") };
        let place = Operand::Mem(Mem::Base(Gpr::Rsp, offset));
        match self.asm.isa() {
            Isa::Avx2 => {
                self.vector(opcode(Prefix::None, Map::M0F, 0x11), register, 0, place, Masking::None, None);
            }
            // One element, as all values are kept.
            Isa::Avx512 => {
                let (opcode, length) = (opcode(Prefix::P66, Map::M0F, 0x7e), Length::L128);
                let (masking, immediate) = (Masking::None, None);
                let inst = Vector { opcode, length, target: register, first: 0, second: place, masking, immediate };
                self.asm.vector(&inst);
            }
        }
    }

    fn load(&mut self, number: usize, target: u8) {
        let base = match self.frame.places[number] {
            Place::Register(register) => register,
            Place::Table(offset) => {
                self.asm.load(SCRATCH, Mem::Base(TABLE, offset));
                SCRATCH
            }
            Place::Frame(_) => unreachable!("streams are in memory"),
        };
        let elements = Operand::Mem(Mem::Element(base, POSITION, self.at.offset as i32 * 4));
        let whole = opcode(Prefix::None, Map::M0F, 0x10);
        match self.asm.isa() {
            _ if !self.at.tail => self.vector(whole, target, 0, elements, Masking::None, None),
            Isa::Avx512 => self.vector(whole, target, 0, elements, Masking::Zero(TAIL_MASK), None),
            Isa::Avx2 => {
                let mask = tail_vector(self.frame);
                let masked = opcode(Prefix::P66, Map::M0F38, 0x2c);
                self.vector(masked, target, mask, elements, Masking::None, None);
            }
        }
    }

    fn ramp(&mut self, number: usize, target: u8) {
        let Place::Frame(offset) = self.frame.places[number] else { unreachable!("first indices are in the frame") };
        self.asm.load_word(SCRATCH, Mem::Base(Gpr::Rsp, offset));
        self.asm.arithmetic_register(Arithmetic::Add, SCRATCH, POSITION);
        broadcast_register(self.asm, target, SCRATCH);
        let numbers = Operand::Mem(lane_numbers(self.asm, self.at.offset));
        self.vector(opcode(Prefix::P66, Map::M0F, 0xfe), target, target, numbers, Masking::None, None);
    }
}
