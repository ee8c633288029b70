//! Element values that find mistakes.

use loom_ir::types::DType;

use crate::choices::Choices;

/// Bits of floats at every edge: zeros, subnormals, ones, halves, the largest, infinities and NaNs of three payloads.
pub const SPECIAL: [u32; 20] = [
    0x0000_0000,
    0x8000_0000,
    0x0000_0001,
    0x8000_0001,
    0x007f_ffff,
    0x807f_ffff,
    0x0080_0000,
    0x8080_0000,
    0x3f80_0000,
    0xbf80_0000,
    0x3f00_0000,
    0x4b00_0000,
    0x7f7f_ffff,
    0xff7f_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
    0xffc0_0001,
    0x7f80_0001,
    0x3eaa_aaab,
];

/// Integers at every edge: of the signed and unsigned ranges, of shift counts, of exact floats.
pub const SPECIAL_INTEGERS: [u32; 12] =
    [0, 1, 2, 3, 31, 32, 0x00ff_ffff, 0x0100_0001, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, u32::MAX];

/// The bits of any element of a type, often a special one.
pub fn any(dtype: DType, choices: &mut Choices<'_>) -> u32 {
    match (dtype, choices.below(4)) {
        (DType::Bool, _) => choices.below(2) as u32,
        (DType::F32, 0) => choices.one_of(&SPECIAL),
        (DType::F32, 1 | 2) => (choices.below(2001) as f32 / 64.0 - 15.0).to_bits(),
        (DType::I32 | DType::U32, 0 | 1) => choices.one_of(&SPECIAL_INTEGERS),
        (DType::I32, 2) => (choices.below(41) as i32 - 20) as u32,
        (DType::U32, 2) => choices.below(41) as u32,
        _ => choices.word() as u32,
    }
}

/// The elements of a tensor. One draw decides which sort of values it holds, a second one all of them, so that a fuzzer's
/// bytes are not spent on elements.
pub fn tensor(dtype: DType, count: usize, choices: &mut Choices<'_>) -> Vec<u32> {
    let sort = choices.below(4);
    let mut random = Random(choices.word());
    if dtype == DType::F32 && sort == 0 {
        return random.floats(count, 0);
    }
    let mut drawn = Choices::from_seed(random.word());
    match (dtype, sort) {
        (DType::F32, 1) => random.floats(count, 7),
        // Arbitrary bits: every exponent is as likely.
        (DType::F32, 2) => (0..count).map(|_| random.word() as u32).collect(),
        _ => (0..count).map(|_| any(dtype, &mut drawn)).collect(),
    }
}

/// A small generator (SplitMix64), so that a test's values follow from its seed alone.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.word() % bound
    }

    /// `count` floats in [-1, 1), one in `special` of them from [`SPECIAL`] (0: none).
    pub fn floats(&mut self, count: usize, special: u64) -> Vec<u32> {
        (0..count)
            .map(|_| {
                if special > 0 && self.below(special) == 0 {
                    return SPECIAL[self.below(SPECIAL.len() as u64) as usize];
                }
                ((self.word() >> 40) as f32 / (1u64 << 23) as f32 - 1.0).to_bits()
            })
            .collect()
    }
}
