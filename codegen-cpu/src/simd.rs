//! Microkernels with wider vectors than Cranelift has, written with `std::arch` and chosen when a program is loaded.
//!
//! They read the same panels as the generated microkernel and give the same bits: each lane is one element of the tile,
//! and its products and sums are rounded one by one in the same order. See [`Microkernel`] for the contract.

use crate::abi::Microkernel;

/// The microkernels that this processor can run, the best first; none where the generated one is the best there is.
pub fn microkernels() -> Vec<Microkernel> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        return vec![Microkernel { mr: x86::MR as u32, nr: x86::NR as u32, code: x86::avx2_4x16 }];
    }
    Vec::new()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, _mm256_add_ps, _mm256_broadcast_ss, _mm256_loadu_ps, _mm256_mul_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    };

    pub const MR: usize = 4;
    pub const NR: usize = 16;
    /// Vectors in a row of the tile.
    const VECTORS: usize = NR / 8;
    /// LN1's chunk.
    const CHUNK: usize = 256;

    /// 8 accumulators: with the latency of an addition at 4 cycles and two additions a cycle, enough to never wait.
    ///
    /// # Safety
    /// The processor has AVX2; `narrow` leads to `length · 4` floats, `wide` to `length · 16`, and `tile` to 64 that
    /// nobody else uses.
    #[target_feature(enable = "avx2")]
    pub unsafe extern "C" fn avx2_4x16(length: u64, narrow: *const f32, wide: *const f32, tile: *mut f32) {
        let length = length as usize;
        let mut begin = 0;
        loop {
            let end = length.min(begin + CHUNK);
            let mut sums = [[_mm256_setzero_ps(); VECTORS]; MR];
            for k in begin..end {
                // SAFETY: k < length.
                unsafe { step(&mut sums, narrow.add(k * MR), wide.add(k * NR)) };
            }
            // SAFETY: the tile's 64 floats. The first chunk's sums are the tile, also where there's no term at all.
            unsafe { finish(&sums, tile, begin == 0) };
            begin = end;
            if begin >= length {
                return;
            }
        }
    }

    /// `sums + narrow · wide`, product and sum rounded: there's no fused operation in AVX2, and Rust never makes one.
    ///
    /// # Safety
    /// The pointers lead to 4 and 16 floats.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn step(sums: &mut [[__m256; VECTORS]; MR], narrow: *const f32, wide: *const f32) {
        // SAFETY: the caller's promise.
        let vectors = unsafe { [_mm256_loadu_ps(wide), _mm256_loadu_ps(wide.add(8))] };
        for (i, row) in sums.iter_mut().enumerate() {
            // SAFETY: i < 4.
            let factor = _mm256_broadcast_ss(unsafe { &*narrow.add(i) });
            for (sum, vector) in row.iter_mut().zip(vectors) {
                *sum = _mm256_add_ps(*sum, _mm256_mul_ps(factor, vector));
            }
        }
    }

    /// # Safety
    /// The tile has 64 floats.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn finish(sums: &[[__m256; VECTORS]; MR], tile: *mut f32, first: bool) {
        for (i, &sum) in sums.iter().flatten().enumerate() {
            // SAFETY: the place is i · 8 < 64, the caller's promise.
            unsafe {
                let place = tile.add(i * 8);
                let total = if first { sum } else { _mm256_add_ps(_mm256_loadu_ps(place), sum) };
                _mm256_storeu_ps(place, total);
            }
        }
    }
}

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
        for kernel in microkernels() {
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
                    assert!(same, "{i} {j} of length {length}: {found}, not {expected}");
                }
            }
        }
    }
}
