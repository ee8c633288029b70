//! The probe's pinned inputs.

use std::collections::BTreeSet;

use loom_ir::kernel::scalar::{Inst, ScalarFn, UnaryOp};
use loom_ir::numerics::{expand, library};
use loom_ir::types::DType;

/// Values of each input.
pub(crate) const VALUES: usize = 1024;

/// An input of the probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Input {
    /// Floats near 1 of either sign, with extreme ones among them at places where they meet those of `B` and `C`.
    A,
    /// The same, other ones.
    B,
    /// The same, other ones.
    C,
    /// Floats of every size: extreme and rare ones, case boundaries of the library, every exponent, any bits.
    X,
    /// Floats for operations of two: with those of `Q`, all pairs of extreme and rare ones, then any bits.
    P,
    /// The others. A third of them is of nearly the size of those of `P`, so that sums cancel; another third gives powers
    /// of those of `P` that are neither 0 nor infinite.
    Q,
    /// Words: rare integers, any bits.
    M,
    /// The same, other ones; small ones among them, which are shift counts.
    N,
}

impl Input {
    /// Every input.
    pub const ALL: [Input; 8] = [Input::A, Input::B, Input::C, Input::X, Input::P, Input::Q, Input::M, Input::N];

    /// The type of its values.
    pub fn dtype(self) -> DType {
        match self {
            Input::M | Input::N => DType::U32,
            _ => DType::F32,
        }
    }

    /// Its values' bits.
    pub fn values(self) -> Vec<u32> {
        match self {
            Input::A => near_one(0),
            Input::B => near_one(1),
            Input::C => near_one(2),
            Input::X => wide(),
            Input::P => pairs().into_iter().map(|(p, _)| p).collect(),
            Input::Q => pairs().into_iter().map(|(_, q)| q).collect(),
            Input::M => words(0),
            Input::N => words(1),
        }
    }
}

/// The ends of the range. No subnormals: whoever flushes those shall fail what is about subnormals, and not all the rest.
pub(crate) const EXTREME: [u32; 8] = [
    0x0000_0000, // +0
    0x8000_0000, // -0
    0x7f80_0000, // +infinity
    0xff80_0000, // -infinity
    0x7f7f_ffff, // the greatest number
    0xff7f_ffff, // the least
    0x3f80_0000, // 1
    0xbf80_0000, // -1
];

/// Other floats that arithmetic goes wrong on.
pub(crate) const RARE: [u32; 15] = [
    0x7fc0_0000, // NaN
    0x0000_0001, // the least subnormal
    0x807f_ffff, // the greatest, negative
    0x0080_0000, // the least normal number
    0x3f00_0000, // 1/2, a tie of rounding
    0xbf00_0000, // -1/2
    0x3fc0_0000, // 3/2
    0xc020_0000, // -5/2
    0x4b00_0001, // 2^23 + 1, from where on all are integers
    0x4eff_ffff, // the greatest that is an i32
    0x4f00_0000, // 2^31
    0xcf00_0000, // -2^31
    0x4f7f_ffff, // the greatest that is a u32
    0x4f80_0000, // 2^32
    0xbf7f_ffff, // just above -1, which truncates to the u32 0
];

/// A congruential generator with a fixed seed.
pub(crate) struct Random(u32);

impl Random {
    /// The generator of a seed.
    pub fn new(seed: u32) -> Random {
        Random(0x9e37_79b9u32.wrapping_mul(seed + 1) | 1)
    }

    /// The next word; its high bits are the better ones.
    pub fn word(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(0x915f_77f5).wrapping_add(1);
        // The low bits of such a generator have short periods.
        self.0 ^ (self.0 >> 15)
    }
}

fn near_one(seed: u32) -> Vec<u32> {
    let mut random = Random::new(seed);
    (0..VALUES as u32)
        .map(|index| {
            let word = random.word();
            if word >> 29 == 0 || index.is_multiple_of(16) {
                return EXTREME[(((index / 16) >> (2 * seed)) + seed) as usize % EXTREME.len()];
            }
            // An exponent near that of 1, any mantissa: contraction and reassociation then show in the last bits.
            (word & 0x807f_ffff) | ((126 + index % 4) << 23)
        })
        .collect()
}

fn pairs() -> Vec<(u32, u32)> {
    let special = [EXTREME.as_slice(), &RARE].concat();
    let mut pairs: Vec<(u32, u32)> = special.iter().flat_map(|&p| special.iter().map(move |&q| (p, q))).collect();
    let mut random = Random::new(4);
    while pairs.len() < VALUES {
        let (p, q) = (random.word(), random.word());
        pairs.push(match pairs.len() % 3 {
            0 => (p, q),
            // The other sign, and an exponent that differs by -1, 0, 1 or 2.
            1 => (p, (p ^ 0x8000_0000).wrapping_add(q & 0x017f_ffff).wrapping_sub(0x0080_0000)),
            // A positive base and an exponent whose power is a number.
            _ => ((p & 0x03ff_ffff) + 0x3e00_0000, (q & 0x80ff_ffff) + 0x3f80_0000),
        });
    }
    pairs
}

fn wide() -> Vec<u32> {
    let mut values = [EXTREME.as_slice(), &RARE].concat();
    let mut random = Random::new(3);
    // Every exponent, of either sign.
    values.extend((0..512u32).map(|exponent| (exponent << 23) | (random.word() & 0x007f_ffff)));
    values.extend(boundaries());
    values.resize_with(VALUES, || random.word());
    values
}

/// Where the programs of functions of one float change from one case to the next: the constants that they compare with, and the
/// values beside them, of either sign.
pub(crate) fn boundaries() -> BTreeSet<u32> {
    let programs = UnaryOp::ALL.iter().filter_map(|&op| library::definition(op, DType::F32));
    let exact = [expand::floor(), expand::ceil(), expand::round(), expand::trunc(), expand::to_i32(), expand::to_u32()];
    programs
        .chain(exact)
        .flat_map(compared)
        .flat_map(|bits| [bits.wrapping_sub(1), bits, bits.wrapping_add(1)])
        .flat_map(|bits| [bits, bits ^ 0x8000_0000])
        .collect()
}

/// The constants among the operands of a program's comparisons, as bits of floats.
fn compared(program: &ScalarFn) -> impl Iterator<Item = u32> + '_ {
    let compares = program.insts.iter().filter(|inst| matches!(inst, Inst::Compare(..)));
    compares.flat_map(Inst::operands).filter_map(|operand| match program.inst(operand) {
        Some(&Inst::Const(DType::F32 | DType::U32, bits)) => Some(bits as u32),
        _ => None,
    })
}

fn words(seed: u32) -> Vec<u32> {
    const RARE: [u32; 8] = [0, 1, u32::MAX, 1 << 31, i32::MAX as u32, 31, 32, 33];
    let mut random = Random::new(5 + seed);
    (0..VALUES)
        .map(|index| {
            // All pairs of rare values, in either order.
            if index < RARE.len() * RARE.len() {
                return RARE[if seed == 0 { index % RARE.len() } else { index / RARE.len() }];
            }
            let word = random.word();
            // Of any size: conversions round those of more than 24 bits.
            word >> (word % 32)
        })
        .collect()
}
