//! Element values that find mistakes.

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
