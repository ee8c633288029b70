//! An encoder for the x86-64 instructions that wide functions consist of.
//!
//! Vector instructions come in the VEX form (AVX2, 16 registers) or the EVEX form (AVX-512, 32 registers and masks); an
//! [`Opcode`] names both, since the forms share prefix, map and number. See the Intel manual, volume 2, chapter 2.
//! Memory operands always have a displacement of 32 bits, which spares EVEX's scaled one.

/// Instructions for vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Isa {
    /// VEX, vectors of 8.
    Avx2,
    /// EVEX, vectors of 16, with masks.
    Avx512,
}

impl Isa {
    /// Elements of a vector.
    pub(crate) const fn lanes(self) -> u64 {
        match self {
            Isa::Avx2 => 8,
            Isa::Avx512 => 16,
        }
    }

    /// Bytes of a vector.
    pub(crate) const fn bytes(self) -> u32 {
        self.lanes() as u32 * 4
    }

    /// Its whole vectors.
    pub(crate) const fn length(self) -> Length {
        match self {
            Isa::Avx2 => Length::L256,
            Isa::Avx512 => Length::L512,
        }
    }
}

/// How much of a vector register an instruction works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    L128 = 0,
    L256 = 1,
    L512 = 2,
}

/// The mandatory prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prefix {
    None = 0,
    P66 = 1,
    PF3 = 2,
    PF2 = 3,
}

/// The opcode map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Map {
    M0F = 1,
    M0F38 = 2,
    M0F3A = 3,
}

/// A vector instruction's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opcode {
    pub prefix: Prefix,
    pub map: Map,
    pub number: u8,
}

/// Shorthand for the tables of opcodes.
pub(crate) const fn opcode(prefix: Prefix, map: Map, number: u8) -> Opcode {
    Opcode { prefix, map, number }
}

/// A 64-bit general register that needs no saving in the System V convention, or the stack pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gpr {
    Rax = 0,
    Rcx = 1,
    Rdx = 2,
    Rsp = 4,
    Rsi = 6,
    Rdi = 7,
    R8 = 8,
    R9 = 9,
    R10 = 10,
    R11 = 11,
}

/// A place in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mem {
    /// `[base + offset]`.
    Base(Gpr, i32),
    /// `[base + 4 · index + offset]`.
    Element(Gpr, Gpr, i32),
    /// In the function's constants, by offset.
    Pool(u32),
}

/// An operand that may be in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operand {
    Reg(u8),
    Mem(Mem),
    /// One element of memory, for every lane. EVEX only.
    Splat(Mem),
}

/// What an EVEX instruction does by mask register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Masking {
    None,
    /// Lanes whose bit is not set stay as they are; or, of a blend, are those of the first operand.
    Merge(u8),
    /// Lanes whose bit is not set become zero.
    Zero(u8),
}

/// A vector instruction: `target = first op second`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vector {
    pub opcode: Opcode,
    pub length: Length,
    /// The register in the place named `reg`: the target, of most.
    pub target: u8,
    /// The one in the place named `vvvv`; 0 where there's none.
    pub first: u8,
    pub second: Operand,
    pub masking: Masking,
    pub immediate: Option<u8>,
}

/// Conditions of jumps, after a comparison of signed numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Equal = 0x4,
    Less = 0xc,
    GreaterOrEqual = 0xd,
    LessOrEqual = 0xe,
}

/// A place in the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label(usize);

/// What [`Assembler::arithmetic`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add = 0,
    And = 4,
    Sub = 5,
    Xor = 6,
    Compare = 7,
}

/// Code that grows, with its constants.
#[derive(Debug)]
pub(crate) struct Assembler {
    isa: Isa,
    bytes: Vec<u8>,
    pool: Vec<u8>,
    /// Places of displacements to constants: where, the end of the instruction, which constant.
    fixups: Vec<(usize, usize, u32)>,
    labels: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    pub(crate) fn new(isa: Isa) -> Assembler {
        let (bytes, pool, fixups) = (Vec::new(), Vec::new(), Vec::new());
        Assembler { isa, bytes, pool, fixups, labels: Vec::new(), jumps: Vec::new() }
    }

    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// Constants in the pool, once each; their offset, a multiple of their size.
    pub(crate) fn constant(&mut self, words: &[u32]) -> u32 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let known = self.pool.chunks_exact(bytes.len()).position(|known| known == bytes);
        let offset = match known {
            Some(position) => position * bytes.len(),
            None => {
                self.pool.resize(self.pool.len().next_multiple_of(bytes.len()), 0);
                self.pool.extend_from_slice(&bytes);
                self.pool.len() - bytes.len()
            }
        };
        offset as u32
    }

    /// The finished code, its constants behind it at a multiple of 64.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        for (place, label) in std::mem::take(&mut self.jumps) {
            let Some(target) = self.labels[label.0] else { unreachable!("every label is bound") };
            self.patch(place, target as i32 - (place as i32 + 4));
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(64), 0xcc);
        let pool = self.bytes.len();
        for (place, end, offset) in std::mem::take(&mut self.fixups) {
            self.patch(place, pool as i32 + offset as i32 - end as i32);
        }
        self.bytes.extend_from_slice(&self.pool);
        self.bytes
    }

    /// Writes 32 bits over earlier ones.
    pub(crate) fn patch(&mut self, place: usize, value: i32) {
        self.bytes[place..place + 4].copy_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The label is here.
    pub(crate) fn bind(&mut self, label: Label) {
        self.labels[label.0] = Some(self.bytes.len());
    }

    pub(crate) fn jump_if(&mut self, condition: Condition, label: Label) {
        self.bytes.extend_from_slice(&[0x0f, 0x80 | condition as u8, 0, 0, 0, 0]);
        self.jumps.push((self.bytes.len() - 4, label));
    }

    /// ModRM, SIB and displacement. `trailing` is the number of bytes between these and the instruction's end.
    fn address(&mut self, reg: u8, operand: Operand, trailing: usize) {
        let reg = (reg & 7) << 3;
        let mem = match operand {
            Operand::Reg(register) => return self.bytes.push(0xc0 | reg | (register & 7)),
            Operand::Mem(mem) | Operand::Splat(mem) => mem,
        };
        match mem {
            Mem::Base(Gpr::Rsp, offset) => {
                self.bytes.extend_from_slice(&[0x80 | reg | 4, 0x24]);
                self.bytes.extend_from_slice(&offset.to_le_bytes());
            }
            Mem::Base(base, offset) => {
                self.bytes.push(0x80 | reg | (base as u8 & 7));
                self.bytes.extend_from_slice(&offset.to_le_bytes());
            }
            Mem::Element(base, index, offset) => {
                self.bytes.extend_from_slice(&[0x80 | reg | 4, 0x80 | (index as u8 & 7) << 3 | (base as u8 & 7)]);
                self.bytes.extend_from_slice(&offset.to_le_bytes());
            }
            Mem::Pool(offset) => {
                self.bytes.push(reg | 5);
                let place = self.bytes.len();
                self.bytes.extend_from_slice(&[0; 4]);
                self.fixups.push((place, place + 4 + trailing, offset));
            }
        }
    }

    /// A vector instruction, in the form of this assembler's kind.
    pub(crate) fn vector(&mut self, inst: &Vector) {
        match self.isa {
            Isa::Avx2 => {
                debug_assert!(!matches!(inst.second, Operand::Splat(_)) && inst.masking == Masking::None);
                self.vex(inst.opcode, inst.length == Length::L256, inst.target, inst.first, inst.second);
            }
            Isa::Avx512 => self.evex(inst),
        }
        self.address(inst.target, inst.second, usize::from(inst.immediate.is_some()));
        self.bytes.extend(inst.immediate);
    }

    /// An instruction on mask registers, whose form is VEX. `long` has the meaning of a vector length.
    pub(crate) fn mask(&mut self, opcode: Opcode, long: bool, target: u8, first: u8, second: Operand) {
        self.vex(opcode, long, target, first, second);
        self.address(target, second, 0);
    }

    /// The prefix and the opcode.
    fn vex(&mut self, opcode: Opcode, long: bool, target: u8, first: u8, second: Operand) {
        debug_assert!(target < 16 && first < 16);
        let (index, base) = extension(second);
        let inverted = |bit: u8, place: u8| u8::from(bit == 0) << place;
        let reg = inverted(target >> 3, 7);
        let rest = (!first & 15) << 3 | u8::from(long) << 2 | opcode.prefix as u8;
        if (index, base, opcode.map) == (0, 0, Map::M0F) {
            self.bytes.extend_from_slice(&[0xc5, reg | rest, opcode.number]);
        } else {
            let extensions = reg | inverted(index, 6) | inverted(base, 5);
            self.bytes.extend_from_slice(&[0xc4, extensions | opcode.map as u8, rest, opcode.number]);
        }
    }

    fn evex(&mut self, inst: &Vector) {
        let (index, base) = match inst.second {
            // The fifth bit of a register takes the place of the index's fourth.
            Operand::Reg(register) => (register >> 4, register >> 3 & 1),
            memory => extension(memory),
        };
        let inverted = |bit: u8, place: u8| u8::from(bit & 1 == 0) << place;
        let (register, zero) = match inst.masking {
            Masking::None => (0, false),
            Masking::Merge(register) => (register, false),
            Masking::Zero(register) => (register, true),
        };
        let splat = matches!(inst.second, Operand::Splat(_));
        self.bytes.extend_from_slice(&[
            0x62,
            inverted(inst.target >> 3, 7)
                | inverted(index, 6)
                | inverted(base, 5)
                | inverted(inst.target >> 4, 4)
                | inst.opcode.map as u8,
            (!inst.first & 15) << 3 | 4 | inst.opcode.prefix as u8,
            u8::from(zero) << 7
                | (inst.length as u8) << 5
                | u8::from(splat) << 4
                | inverted(inst.first >> 4, 3)
                | register,
            inst.opcode.number,
        ]);
    }

    /// `target = [source]`, of 64 bits.
    pub(crate) fn load(&mut self, target: Gpr, source: Mem) {
        self.general(0x8b, true, target as u8, Operand::Mem(source), 0);
    }

    /// `target = [source]`, of 32 bits, the others zero.
    pub(crate) fn load_word(&mut self, target: Gpr, source: Mem) {
        self.general(0x8b, false, target as u8, Operand::Mem(source), 0);
    }

    /// `[target] = source`, of 64 bits.
    pub(crate) fn store(&mut self, target: Mem, source: Gpr) {
        self.general(0x89, true, source as u8, Operand::Mem(target), 0);
    }

    /// `[target] = source`, of 32 bits.
    pub(crate) fn store_word(&mut self, target: Mem, source: Gpr) {
        self.general(0x89, false, source as u8, Operand::Mem(target), 0);
    }

    pub(crate) fn move_register(&mut self, target: Gpr, source: Gpr) {
        self.general(0x89, true, source as u8, Operand::Reg(target as u8), 0);
    }

    /// `target op= value`, of 64 bits. Gives the place of the value, to be patched.
    pub(crate) fn arithmetic(&mut self, op: Arithmetic, target: Gpr, value: i32) -> usize {
        self.general(0x81, true, op as u8, Operand::Reg(target as u8), 4);
        let place = self.bytes.len();
        self.bytes.extend_from_slice(&value.to_le_bytes());
        place
    }

    /// `target op= source`, of 64 bits.
    pub(crate) fn arithmetic_register(&mut self, op: Arithmetic, target: Gpr, source: Gpr) {
        self.general((op as u8) << 3 | 1, true, source as u8, Operand::Reg(target as u8), 0);
    }

    /// An instruction on general registers.
    fn general(&mut self, number: u8, long: bool, reg: u8, operand: Operand, trailing: usize) {
        let (index, base) = extension(operand);
        let rex = 0x40 | u8::from(long) << 3 | (reg >> 3) << 2 | index << 1 | base;
        if rex != 0x40 {
            self.bytes.push(rex);
        }
        self.bytes.push(number);
        self.address(reg, operand, trailing);
    }

    /// Leaves no upper halves behind that would slow down instructions of other forms.
    pub(crate) fn zero_upper(&mut self) {
        self.bytes.extend_from_slice(&[0xc5, 0xf8, 0x77]);
    }

    pub(crate) fn return_(&mut self) {
        self.bytes.push(0xc3);
    }
}

/// The fourth bits of an operand's index and base registers.
fn extension(operand: Operand) -> (u8, u8) {
    match operand {
        Operand::Reg(register) => (0, register >> 3),
        Operand::Mem(mem) | Operand::Splat(mem) => match mem {
            Mem::Base(base, _) => (0, base as u8 >> 3),
            Mem::Element(base, index, _) => (index as u8 >> 3, base as u8 >> 3),
            Mem::Pool(_) => (0, 0),
        },
    }
}

#[cfg(test)]
mod tests;
