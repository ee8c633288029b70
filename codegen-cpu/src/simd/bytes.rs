//! Microkernels of 8-bit integers: see [`Microkernel`] for the panels.
//!
//! Each gives the sums of products exactly, modulo 2^32, so that it can't be seen which of them ran.
//!
//! - `avx512` and `avx_vnni` have an instruction that adds four products of unsigned and signed bytes to a sum. The wide
//!   operand becomes unsigned by adding 128, and 128 times the sum of the narrow one is taken away at the end.
//! - `avx2` widens bytes to 16 bits and adds products of these in pairs, of which none leaves 32 bits.

use crate::abi::Microkernel;
use crate::level::Level;

/// The microkernels that a level and this processor have.
pub fn microkernels(level: Level) -> Vec<Microkernel> {
    match level {
        Level::Portable => Vec::new(),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 if is_x86_feature_detected!("avx512vnni") => avx512::microkernels(),
        #[cfg(target_arch = "x86_64")]
        _ if is_x86_feature_detected!("avxvnni") => avx_vnni::microkernels(),
        #[cfg(target_arch = "x86_64")]
        _ => avx2::microkernels(),
        #[cfg(not(target_arch = "x86_64"))]
        _ => Vec::new(),
    }
}

/// The microkernels over one kind of vector with the instruction for four products.
#[cfg(target_arch = "x86_64")]
macro_rules! four_products {
    (
        $module:ident of $lanes:literal with $feature:literal,
        $zero:ident, $splat:ident, $load:ident, $store:ident, $sub:ident, $xor:ident, $dot:ident,
        shapes $(($mr:literal, $vectors:literal)),+
    ) => {
        mod $module {
            use std::arch::x86_64::{$dot, $load, $splat, $store, $sub, $xor, $zero};

            use crate::abi::{Factors, Microkernel};

            const LANES: usize = $lanes;
            /// 128 in each byte: as unsigned numbers, and what turns a signed byte into one 128 greater.
            const OFFSETS: i32 = 0x8080_8080_u32 as i32;

            pub fn microkernels() -> Vec<Microkernel> {
                vec![$(Microkernel {
                    factors: Factors::I8,
                    mr: $mr,
                    nr: $vectors * $lanes,
                    lanes: $lanes,
                    code: tile::<$mr, $vectors>,
                }),+]
            }

            /// # Safety
            /// The processor has the feature; `narrow` leads to `ceil(length / 4) · MR` words, `wide` to as many times
            /// `V · LANES`, and `tile` to `MR · V · LANES` that nobody else uses.
            #[target_feature(enable = $feature)]
            unsafe extern "C" fn tile<const MR: usize, const V: usize>(
                length: u64,
                narrow: *const f32,
                wide: *const f32,
                tile: *mut f32,
            ) {
                let (narrow, wide, tile) = (narrow.cast::<i32>(), wide.cast::<i32>(), tile.cast::<i32>());
                let offset = $splat(OFFSETS);
                let mut sums = [[$zero(); V]; MR];
                let mut surplus = [$zero(); MR];
                for step in 0..(length as usize).div_ceil(4) {
                    let mut vectors = [$zero(); V];
                    for (j, vector) in vectors.iter_mut().enumerate() {
                        // SAFETY: the caller's panel has a vector for each step and j.
                        let codes = unsafe { $load(wide.add((step * V + j) * LANES).cast()) };
                        *vector = $xor(codes, offset);
                    }
                    for i in 0..MR {
                        // SAFETY: the caller's panel has a word for each step and i.
                        let factor = $splat(unsafe { narrow.add(step * MR + i).read_unaligned() });
                        surplus[i] = $dot(surplus[i], offset, factor);
                        for (sum, vector) in sums[i].iter_mut().zip(vectors) {
                            *sum = $dot(*sum, vector, factor);
                        }
                    }
                }
                for (i, row) in sums.iter().enumerate() {
                    for (j, &sum) in row.iter().enumerate() {
                        // SAFETY: the caller's tile has a vector for each i and j.
                        unsafe { $store(tile.add((i * V + j) * LANES).cast(), $sub(sum, surplus[i])) };
                    }
                }
            }
        }
    };
}

// As many sums as hide the instruction's latency and fit the registers, beside a row of the wide panel and what is to be
// taken away from each row.
#[cfg(target_arch = "x86_64")]
four_products!(
    avx512 of 16 with "avx512f,avx512bw,avx512vnni",
    _mm512_setzero_si512, _mm512_set1_epi32, _mm512_loadu_si512, _mm512_storeu_si512, _mm512_sub_epi32,
    _mm512_xor_si512, _mm512_dpbusd_epi32,
    shapes (8, 2), (8, 1), (4, 4), (4, 2), (4, 1), (2, 4), (2, 2), (2, 1), (1, 8), (1, 4), (1, 2), (1, 1)
);
#[cfg(target_arch = "x86_64")]
four_products!(
    avx_vnni of 8 with "avx2,avxvnni",
    _mm256_setzero_si256, _mm256_set1_epi32, _mm256_loadu_si256, _mm256_storeu_si256, _mm256_sub_epi32,
    _mm256_xor_si256, _mm256_dpbusd_avx_epi32,
    shapes (4, 2), (4, 1), (2, 4), (2, 1), (1, 8), (1, 4), (1, 2), (1, 1)
);

/// The microkernels for processors without that instruction.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m128i, __m256i, _mm_loadu_si128, _mm_set1_epi32, _mm256_add_epi32, _mm256_cvtepi8_epi16, _mm256_hadd_epi32,
        _mm256_madd_epi16, _mm256_permute4x64_epi64, _mm256_setzero_si256, _mm256_storeu_si256,
    };

    use crate::abi::{Factors, Microkernel};

    const LANES: usize = 8;

    pub fn microkernels() -> Vec<Microkernel> {
        let of = |mr: u32, vectors: u32, code| Microkernel {
            factors: Factors::I8,
            mr,
            nr: vectors * LANES as u32,
            lanes: LANES as u32,
            code,
        };
        vec![
            of(4, 1, tile::<4, 1>),
            of(2, 2, tile::<2, 2>),
            of(2, 1, tile::<2, 1>),
            of(1, 4, tile::<1, 4>),
            of(1, 2, tile::<1, 2>),
            of(1, 1, tile::<1, 1>),
        ]
    }

    /// # Safety
    /// The processor has the feature; `narrow` leads to `ceil(length / 4) · MR` words, `wide` to as many times `V · LANES`,
    /// and `tile` to `MR · V · LANES` that nobody else uses.
    #[target_feature(enable = "avx2")]
    unsafe extern "C" fn tile<const MR: usize, const V: usize>(
        length: u64,
        narrow: *const f32,
        wide: *const f32,
        tile: *mut f32,
    ) {
        let (narrow, wide, tile) = (narrow.cast::<i32>(), wide.cast::<i32>(), tile.cast::<i32>());
        // Of each of four columns two sums, of the even and the odd pair of terms: two vectors for eight columns.
        let mut sums = [[[_mm256_setzero_si256(); 2]; V]; MR];
        for step in 0..(length as usize).div_ceil(4) {
            let mut factors = [_mm256_setzero_si256(); MR];
            for (i, factor) in factors.iter_mut().enumerate() {
                // SAFETY: the caller's panel has a word for each step and i.
                let word = unsafe { narrow.add(step * MR + i).read_unaligned() };
                *factor = _mm256_cvtepi8_epi16(_mm_set1_epi32(word));
            }
            for j in 0..V {
                for half in 0..2 {
                    let place = (step * V + j) * LANES + half * LANES / 2;
                    // SAFETY: the caller's panel has eight words for each step and j.
                    let codes = unsafe { _mm_loadu_si128(wide.add(place).cast::<__m128i>()) };
                    let codes = _mm256_cvtepi8_epi16(codes);
                    for (row, &factor) in sums.iter_mut().zip(&factors) {
                        row[j][half] = _mm256_add_epi32(row[j][half], _mm256_madd_epi16(codes, factor));
                    }
                }
            }
        }
        for (i, row) in sums.iter().enumerate() {
            for (j, &[low, high]) in row.iter().enumerate() {
                // Columns 0 1 4 5 2 3 6 7, since each half of a vector is added up by itself.
                let totals = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(low, high));
                // SAFETY: the caller's tile has a vector for each i and j.
                unsafe { _mm256_storeu_si256(tile.add((i * V + j) * LANES).cast::<__m256i>(), totals) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Factors;
    use loom_ir::numerics::reduction::{IntegerSpec, Products};

    /// Every microkernel of this processor, whichever it would take.
    fn all() -> Vec<Microkernel> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if Level::Avx2.is_available() {
                all.extend(avx2::microkernels());
            }
            if Level::Avx2.is_available() && is_x86_feature_detected!("avxvnni") {
                all.extend(avx_vnni::microkernels());
            }
            if Level::Avx512.is_available() && is_x86_feature_detected!("avx512vnni") {
                all.extend(avx512::microkernels());
            }
        }
        all
    }

    /// A panel of these elements, `[k][width]`.
    fn panel(elements: &[i8], length: usize, width: usize) -> Vec<u32> {
        let mut bytes = vec![[0u8; 4]; length.div_ceil(4) * width];
        for (place, &element) in elements.iter().enumerate() {
            let (k, lane) = (place / width, place % width);
            bytes[k / 4 * width + lane][k % 4] = element as u8;
        }
        bytes.into_iter().map(u32::from_le_bytes).collect()
    }

    /// Against the definition, with numbers at the ends, at which saturating instructions would saturate.
    #[test]
    fn tiles_are_exact() {
        let mut state = 1u32;
        let mut random = |extreme: bool| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let any = (state >> 24) as i8;
            if extreme { [-128, 127, -128, -127][(state >> 30) as usize] } else { any }
        };
        let products = Products::Integer(IntegerSpec::default());
        for kernel in all() {
            assert_eq!(kernel.factors, Factors::I8);
            let (mr, nr) = (kernel.mr as usize, kernel.nr as usize);
            for length in [0, 1, 2, 3, 4, 5, 63, 64, 257, 1030] {
                for (left, right) in [(false, false), (true, true), (true, false), (false, true)] {
                    let narrow: Vec<i8> = (0..length * mr).map(|_| random(left)).collect();
                    let wide: Vec<i8> = (0..length * nr).map(|_| random(right)).collect();
                    let panels = [panel(&narrow, length, mr), panel(&wide, length, nr)];
                    let mut tile = vec![u32::MAX; mr * nr];
                    let [narrow_panel, wide_panel] = panels.each_ref().map(|panel| panel.as_ptr().cast());
                    // SAFETY: the processor was asked, and the lengths are the kernel's.
                    unsafe { (kernel.code)(length as u64, narrow_panel, wide_panel, tile.as_mut_ptr().cast()) };
                    for (place, &found) in tile.iter().enumerate() {
                        let (i, j) = (place / nr, place % nr);
                        let pairs = (0..length).map(|k| (narrow[k * mr + i] as u32, wide[k * nr + j] as u32));
                        assert_eq!(found, products.total(pairs), "{mr}x{nr}, {i} {j} of length {length}");
                    }
                }
            }
        }
    }

    /// The longest sum whose value fits, at the ends of the codes.
    #[test]
    fn the_longest_sums_are_exact() {
        let length = IntegerSpec::MOST_TERMS as usize;
        for kernel in all() {
            let (mr, nr) = (kernel.mr as usize, kernel.nr as usize);
            let [narrow, wide] = [mr, nr].map(|width| vec![0x8080_8080u32; length.div_ceil(4) * width]);
            let mut tile = vec![0u32; mr * nr];
            // SAFETY: the processor was asked, and the lengths are the kernel's.
            unsafe {
                (kernel.code)(length as u64, narrow.as_ptr().cast(), wide.as_ptr().cast(), tile.as_mut_ptr().cast());
            }
            // The last step is full here: one term more than fits, so that the sum wraps once.
            assert!(tile.iter().all(|&total| total as i32 == i32::MIN), "{mr}x{nr}");
        }
    }
}
