//! Random numbers: Philox 4x32-10, a counter hashed under a key (LN1 section 7).
//!
//! There is no state. Number `index` of a stream is a function of the seed, the stream's name and the index, so any
//! part of a tensor can be made anywhere, in any order, with the same bits.

use sha2::{Digest, Sha256};

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// What is added to the key between two rounds: the golden ratio and √3 - 1.
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// The four words at a counter.
pub const fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    let mut round = 0;
    while round < ROUNDS {
        let a = MULTIPLIERS[0] as u64 * counter[0] as u64;
        let b = MULTIPLIERS[1] as u64 * counter[2] as u64;
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        round += 1;
    }
    counter
}

/// The random words of one tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    key: [u32; 2],
    high: [u32; 2],
}

impl Stream {
    /// The stream of a layer's tensor: `path` is the layer's (`layers.0`), `role` what the tensor is to it (`weight`).
    ///
    /// The key is the seed, its low word first. The upper half of the counter is the first 8 bytes of the SHA-256 of
    /// `path/role`, read as a little-endian number, its low word first.
    pub fn new(seed: u64, path: &str, role: &str) -> Stream {
        let mut hash = Sha256::new();
        hash.update(path);
        hash.update("/");
        hash.update(role);
        let hash = hash.finalize();
        Stream {
            key: [seed as u32, (seed >> 32) as u32],
            high: [
                u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]]),
                u32::from_le_bytes([hash[4], hash[5], hash[6], hash[7]]),
            ],
        }
    }

    /// Words `4 · block` to `4 · block + 3`.
    pub const fn block(&self, block: u64) -> [u32; 4] {
        philox4x32([block as u32, (block >> 32) as u32, self.high[0], self.high[1]], self.key)
    }

    /// Word number `index`.
    pub const fn word(&self, index: u64) -> u32 {
        self.block(index / 4)[(index % 4) as usize]
    }

    /// All words in order.
    pub fn words(self) -> impl Iterator<Item = u32> {
        (0..=u64::MAX / 4).flat_map(move |block| self.block(block))
    }
}

/// A word as a number of [0, 1): `(word >> 8) · 2^-24`, exactly.
pub const fn uniform(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// A word as a number of [-1, 1): `2 · uniform - 1`, exactly.
pub const fn symmetric(word: u32) -> f32 {
    2.0 * uniform(word) - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers published with Random123 (`kat_vectors`, philox4x32 with 10 rounds).
    #[test]
    fn known_answers() {
        let same = |word: u32| philox4x32([word; 4], [word; 2]);
        assert_eq!(same(0), [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8]);
        assert_eq!(same(u32::MAX), [0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD]);
        assert_eq!(
            philox4x32([0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344], [0xA409_3822, 0x299F_31D0]),
            [0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1]
        );
    }

    #[test]
    fn words_follow_their_index() {
        let stream = Stream::new(0x0123_4567_89AB_CDEF, "layers.0", "weight");
        let words: Vec<u32> = stream.words().take(11).collect();
        for (index, &word) in words.iter().enumerate() {
            assert_eq!(word, stream.word(index as u64));
        }
        assert_ne!(words[0], Stream::new(0x0123_4567_89AB_CDEF, "layers.0", "bias").word(0));
        assert_ne!(words[0], Stream::new(0x0123_4567_89AB_CDEE, "layers.0", "weight").word(0));
    }

    /// Where a stream lies is part of the contract. Made once with Python's `hashlib` and a second implementation.
    #[test]
    fn streams_are_pinned() {
        let stream = Stream::new(42, "layers.0", "weight");
        assert_eq!(stream.high, [0x4D22_79B3, 0xCE46_89E7]);
        assert_eq!(stream.block(0), [0xA7BC_A3F8, 0xD639_59F4, 0x205A_C103, 0xD73B_743B]);
        assert_eq!(stream.block(1), [0xEFFA_A873, 0xE288_BB80, 0x6E2F_7795, 0x0010_04F9]);
    }

    #[test]
    fn uniform_is_exact() {
        assert_eq!(uniform(0).to_bits(), 0);
        assert_eq!(uniform(u32::MAX), 1.0 - f32::EPSILON / 2.0);
        assert_eq!(symmetric(0), -1.0);
        assert_eq!(symmetric(u32::MAX), 1.0 - f32::EPSILON);
        assert_eq!(symmetric(0x8000_0000), 0.0);
    }
}
