//! Microkernels with wider vectors than Cranelift has, written with `std::arch` and chosen when a program is loaded.
//!
//! They read the same panels as the generated microkernel and give the same bits: each lane is one element of the tile,
//! and its products and sums are rounded one by one in the same order. See [`Microkernel`] for the contract. Which of a
//! level's shapes a contraction takes is decided in `emit::contract`.

pub mod rows;
pub mod stored;

use crate::abi::Microkernel;
use crate::level::Level;

mod bytes;

/// The microkernels of a level; none where the generated one is the best there is.
pub fn microkernels(level: Level) -> Vec<Microkernel> {
    if !level.is_available() {
        return Vec::new();
    }
    [of_floats(level), bytes::microkernels(level)].concat()
}

fn of_floats(level: Level) -> Vec<Microkernel> {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => avx2::microkernels(),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => avx512::microkernels(),
        _ => Vec::new(),
    }
}

/// The microkernels over one kind of vector.
#[cfg(target_arch = "x86_64")]
macro_rules! microkernels_over {
    (
        $module:ident: $vector:ident of $lanes:literal with $feature:literal,
        $zero:ident, $splat:ident, $load:ident, $store:ident, $add:ident, $mul:ident,
        shapes $(($mr:literal, $vectors:literal)),+
    ) => {
        mod $module {
            use std::arch::x86_64::{
                $add, $load, $mul, $splat, $store, $vector, $zero, _MM_HINT_T0, _mm_prefetch,
            };

            use crate::abi::{Factors, Microkernel};

            const LANES: usize = $lanes;
            /// LN1's chunk.
            const CHUNK: usize = 256;
            /// Steps of `k` that a wide panel is asked for ahead: a long one comes from the second-level cache or beyond, and
            /// what fetches on its own there is late (a tenth of the time, measured).
            const AHEAD: usize = 12;

            pub fn microkernels() -> Vec<Microkernel> {
                vec![$(Microkernel {
                    factors: Factors::F32,
                    mr: $mr,
                    nr: $vectors * $lanes,
                    lanes: $lanes,
                    code: tile::<$mr, $vectors>,
                }),+]
            }

            /// # Safety
            /// The processor has the feature; `narrow` leads to `length · MR` floats, `wide` to `length · V · LANES`, and
            /// `tile` to `MR · V · LANES` that nobody else uses.
            #[target_feature(enable = $feature)]
            unsafe extern "C" fn tile<const MR: usize, const V: usize>(
                length: u64,
                narrow: *const f32,
                wide: *const f32,
                tile: *mut f32,
            ) {
                let length = length as usize;
                let mut begin = 0;
                loop {
                    let end = length.min(begin + CHUNK);
                    let mut sums = [[$zero(); V]; MR];
                    for k in begin..end {
                        // SAFETY: k < length.
                        unsafe { step(&mut sums, narrow.add(k * MR), wide.add(k * V * LANES)) };
                    }
                    // SAFETY: the caller's tile. The first chunk's sums are the tile, also where there's no term at all.
                    unsafe { finish(&sums, tile, begin == 0) };
                    begin = end;
                    if begin >= length {
                        return;
                    }
                }
            }

            /// `sums + narrow · wide`, product and sum rounded: Rust never fuses them.
            ///
            /// # Safety
            /// The pointers lead to `MR` and `V · LANES` floats.
            #[target_feature(enable = $feature)]
            #[inline]
            unsafe fn step<const MR: usize, const V: usize>(
                sums: &mut [[$vector; V]; MR],
                narrow: *const f32,
                wide: *const f32,
            ) {
                let mut vectors = [$zero(); V];
                for (j, vector) in vectors.iter_mut().enumerate() {
                    // SAFETY: j < V, the caller's promise.
                    *vector = unsafe { $load(wide.add(j * LANES)) };
                    // With one row, loads are what there is most of, and they go straight through memory.
                    if MR > 1 {
                        let later = wide.wrapping_add((AHEAD * V + j) * LANES);
                        _mm_prefetch::<_MM_HINT_T0>(later.cast());
                    }
                }
                for (i, row) in sums.iter_mut().enumerate() {
                    // SAFETY: i < MR, the caller's promise.
                    let factor = $splat(unsafe { *narrow.add(i) });
                    for (sum, vector) in row.iter_mut().zip(vectors) {
                        *sum = $add(*sum, $mul(factor, vector));
                    }
                }
            }

            /// # Safety
            /// The tile has `MR · V · LANES` floats.
            #[target_feature(enable = $feature)]
            #[inline]
            unsafe fn finish<const MR: usize, const V: usize>(
                sums: &[[$vector; V]; MR],
                tile: *mut f32,
                first: bool,
            ) {
                for (i, &sum) in sums.iter().flatten().enumerate() {
                    // SAFETY: i < MR · V, the caller's promise.
                    unsafe {
                        let place = tile.add(i * LANES);
                        let total = if first { sum } else { $add($load(place), sum) };
                        $store(place, total);
                    }
                }
            }
        }
    };
}

// The largest shape keeps its sums, one row of the wide panel and a product in the 16 registers of AVX2, or the 32 of
// AVX-512, and has enough sums to hide the latency of an addition.
#[cfg(target_arch = "x86_64")]
microkernels_over!(
    avx2: __m256 of 8 with "avx2",
    _mm256_setzero_ps, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps, _mm256_mul_ps,
    shapes (4, 2), (4, 1), (2, 4), (2, 1), (1, 8), (1, 4), (1, 2), (1, 1)
);
#[cfg(target_arch = "x86_64")]
microkernels_over!(
    avx512: __m512 of 16 with "avx512f",
    _mm512_setzero_ps, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps, _mm512_mul_ps,
    shapes (8, 2), (8, 1), (4, 4), (4, 2), (4, 1), (2, 4), (2, 2), (2, 1), (1, 8), (1, 4), (1, 2), (1, 1)
);

#[cfg(test)]
mod tests {
    use super::*;
    use loom_ir::numerics::reduction::{ContractSpec, contract};

    /// Against LN1's definition, over lengths around the chunk, with special values.
    #[test]
    fn tiles_are_ln1s() {
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            match state >> 27 {
                0 => f32::from_bits(state & 0x8000_0001),
                1 => f32::from_bits(0x7f80_0000 | (state & 0x8000_0000)),
                _ => f32::from_bits((state & 0x807f_ffff) | (120 + (state >> 24) % 12) << 23),
            }
        };
        for kernel in Level::ALL.into_iter().filter(|level| level.is_available()).flat_map(of_floats) {
            let (mr, nr) = (kernel.mr as usize, kernel.nr as usize);
            for length in [0, 1, 2, 5, 255, 256, 257, 512, 600] {
                let narrow: Vec<f32> = (0..length * mr).map(|_| random()).collect();
                let wide: Vec<f32> = (0..length * nr).map(|_| random()).collect();
                let mut tile = vec![f32::MAX; mr * nr];
                // SAFETY: the processor was asked, and the lengths are the kernel's.
                unsafe { (kernel.code)(length as u64, narrow.as_ptr(), wide.as_ptr(), tile.as_mut_ptr()) };
                for (place, found) in tile.iter().enumerate() {
                    let (i, j) = (place / nr, place % nr);
                    let pairs = (0..length).map(|k| (narrow[k * mr + i], wide[k * nr + j]));
                    let expected = contract(pairs, ContractSpec::default());
                    let same = found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan());
                    assert!(same, "{mr}x{nr}, {i} {j} of length {length}: {found}, not {expected}");
                }
            }
        }
    }
}
