//! Rows of panels, copied with wide vectors: see [`RowsFn`] for what is copied.
//!
//! This moves bits only, so there is nothing to round. Neighbouring lanes are one masked load, every second element two and a
//! permutation, lanes that are stretches of memory are transposed in registers, and any others are gathered.

use crate::abi::RowsFn;
use crate::level::Level;

/// The function of a level, where there is one that is better than generated loops.
pub fn rows(level: Level) -> Option<RowsFn> {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 if level.is_available() => Some(avx2::rows),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 if level.is_available() => Some(avx512::rows),
        _ => None,
    }
}

/// The function, over the vectors of the module that it's in: its `LANES`, `mask`, `places`, `load`, `evens`,
/// `gather`, `store`.
#[cfg(target_arch = "x86_64")]
macro_rules! rows_with {
    ($feature:literal) => {
        /// # Safety
        /// The processor has the feature; the rest is the contract of [`RowsForm`].
        #[target_feature(enable = $feature)]
        pub unsafe extern "C" fn rows(count: u64, source: *const f32, target: *mut f32, form: *const RowsForm) {
            // SAFETY: the caller's promise.
            let form = unsafe { &*form };
            let whole = form.first == 0 && form.last >= form.lanes && form.lanes.is_multiple_of(4);
            if form.stride == 1 && form.step != 1 && whole {
                // SAFETY: the caller's promise.
                return unsafe { super::transpose(count, source, target, form) };
            }
            let places = places(form.step);
            for lane in (0..form.lanes).step_by(LANES as usize) {
                let last = form.last.min(form.lanes);
                let (read, written) = (mask(lane, form.first, last), mask(lane, 0, form.lanes));
                // With a step of 2: from the first to the last that is read, all between them too.
                let pairs = |from: u64| mask(from, 2 * form.first, (2 * last).saturating_sub(1));
                let pairs = [pairs(2 * lane), pairs(2 * lane + LANES)];
                let mut from = source.wrapping_offset(lane as isize * form.step as isize);
                let mut to = target.wrapping_add(lane as usize);
                for _ in 0..count {
                    // SAFETY: masks keep within what the form reads and writes of a row.
                    unsafe {
                        let vector = match form.step {
                            1 => load(read, from),
                            2 => evens(load(pairs[0], from), load(pairs[1], from.wrapping_add(LANES as usize))),
                            _ => gather(read, places, from),
                        };
                        store(to, written, vector);
                    }
                    from = from.wrapping_offset(form.stride as isize);
                    to = to.wrapping_add(form.width as usize);
                }
            }
        }
    };
}

/// Lanes four by four, each of which is a stretch of memory: four elements of four stretches become four rows.
///
/// # Safety
/// As for [`RowsForm`], whose lanes are all read, and a multiple of four. [`RowsForm`]: crate::abi::RowsForm
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn transpose(count: u64, source: *const f32, target: *mut f32, form: &crate::abi::RowsForm) {
    use std::arch::x86_64::{_MM_TRANSPOSE4_PS, _mm_loadu_ps, _mm_storeu_ps};
    let (count, width, step) = (count as usize, form.width as usize, form.step as isize);
    for lane in (0..form.lanes as usize).step_by(4) {
        let stretches = [0, 1, 2, 3].map(|number| source.wrapping_offset((lane as isize + number) * step));
        let target = target.wrapping_add(lane);
        let mut row = 0;
        while row + 4 <= count {
            // SAFETY: four of `count` rows from `row` on, of four of the form's lanes.
            unsafe {
                let [mut a, mut b, mut c, mut d] = stretches.map(|stretch| _mm_loadu_ps(stretch.add(row)));
                _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
                for (number, vector) in [a, b, c, d].into_iter().enumerate() {
                    _mm_storeu_ps(target.add((row + number) * width), vector);
                }
            }
            row += 4;
        }
        for row in row..count {
            for (number, stretch) in stretches.into_iter().enumerate() {
                // SAFETY: one of `count` rows, and one of the form's lanes.
                unsafe { *target.add(row * width + number) = *stretch.add(row) };
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m512, __m512i, __mmask16, _mm512_mask_i32gather_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
        _mm512_mullo_epi32, _mm512_permutex2var_ps, _mm512_set1_epi32, _mm512_setr_epi32, _mm512_setzero_ps,
    };

    use crate::abi::RowsForm;

    const LANES: u64 = 16;

    rows_with!("avx512f");

    /// Which lanes of the vector from `lane` on are in `begin..end`.
    fn mask(lane: u64, begin: u64, end: u64) -> __mmask16 {
        let below = |end: u64| (1u32 << end.saturating_sub(lane).min(LANES)) - 1;
        (below(end) & !below(begin)) as __mmask16
    }

    /// Where the lanes of a vector are. Elements of a buffer are fewer than 2^31; what is further away isn't read.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn places(step: i64) -> __m512i {
        let numbers = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        _mm512_mullo_epi32(numbers, _mm512_set1_epi32(step as i32))
    }

    /// # Safety
    /// The masked lanes are there.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn load(mask: __mmask16, from: *const f32) -> __m512 {
        // SAFETY: the caller's promise; other lanes aren't touched.
        unsafe { _mm512_maskz_loadu_ps(mask, from) }
    }

    /// The elements of two vectors that have even numbers.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn evens(low: __m512, high: __m512) -> __m512 {
        let numbers = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        _mm512_permutex2var_ps(low, numbers, high)
    }

    /// # Safety
    /// The masked lanes are there.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn gather(mask: __mmask16, places: __m512i, from: *const f32) -> __m512 {
        // SAFETY: as in `load`.
        unsafe { _mm512_mask_i32gather_ps::<4>(_mm512_setzero_ps(), mask, places, from) }
    }

    /// # Safety
    /// The masked lanes are there, and the caller's alone.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn store(to: *mut f32, mask: __mmask16, vector: __m512) {
        // SAFETY: as in `load`.
        unsafe { _mm512_mask_storeu_ps(to, mask, vector) };
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256, __m256i, _mm256_andnot_si256, _mm256_castpd_ps, _mm256_castps_pd, _mm256_castsi256_ps,
        _mm256_cmpgt_epi32, _mm256_mask_i32gather_ps, _mm256_maskload_ps, _mm256_maskstore_ps, _mm256_mullo_epi32,
        _mm256_permute4x64_pd, _mm256_set1_epi32, _mm256_setr_epi32, _mm256_setzero_ps, _mm256_shuffle_ps,
    };

    use crate::abi::RowsForm;

    const LANES: u64 = 8;

    rows_with!("avx2");

    #[target_feature(enable = "avx2")]
    #[inline]
    fn numbers() -> __m256i {
        _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)
    }

    /// Which lanes of the vector from `lane` on are in `begin..end`.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn mask(lane: u64, begin: u64, end: u64) -> __m256i {
        let below = |end: u64| {
            let end = _mm256_set1_epi32(end.saturating_sub(lane).min(LANES) as i32);
            _mm256_cmpgt_epi32(end, numbers())
        };
        _mm256_andnot_si256(below(begin), below(end))
    }

    /// Where the lanes of a vector are. Elements of a buffer are fewer than 2^31; what is further away isn't read.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn places(step: i64) -> __m256i {
        _mm256_mullo_epi32(numbers(), _mm256_set1_epi32(step as i32))
    }

    /// # Safety
    /// The masked lanes are there.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn load(mask: __m256i, from: *const f32) -> __m256 {
        // SAFETY: the caller's promise; other lanes aren't touched.
        unsafe { _mm256_maskload_ps(from, mask) }
    }

    /// The elements of two vectors that have even numbers.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn evens(low: __m256, high: __m256) -> __m256 {
        // In halves of 128 bits: 0 2 8 10, 4 6 12 14.
        let mixed = _mm256_shuffle_ps::<0b10_00_10_00>(low, high);
        _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(_mm256_castps_pd(mixed)))
    }

    /// # Safety
    /// The masked lanes are there.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn gather(mask: __m256i, places: __m256i, from: *const f32) -> __m256 {
        let mask = _mm256_castsi256_ps(mask);
        // SAFETY: as in `load`.
        unsafe { _mm256_mask_i32gather_ps::<4>(_mm256_setzero_ps(), from, places, mask) }
    }

    /// # Safety
    /// The masked lanes are there, and the caller's alone.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn store(to: *mut f32, mask: __m256i, vector: __m256) {
        // SAFETY: as in `load`.
        unsafe { _mm256_maskstore_ps(to, mask, vector) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::RowsForm;

    /// Against the definition, for every kind of step and stretches of lanes around those of vectors. Only lanes that are
    /// read lie in memory.
    #[test]
    fn rows_are_what_the_form_says() {
        for rows in Level::ALL.into_iter().filter_map(rows) {
            for (stride, step) in [(1, 1), (40, 1), (1, 50), (3, 0), (7, 2), (70, 2), (200, 3), (-1, 5), (90, -2)] {
                for (lanes, first, last) in [
                    (1, 0, 1),
                    (4, 0, 4),
                    (8, 0, 8),
                    (12, 0, 12),
                    (15, 3, 9),
                    (32, 0, 32),
                    (33, 16, 31),
                    (64, 1, 70),
                    (20, 9, 4),
                ] {
                    check(rows, RowsForm { stride, step, width: 70, lanes, first, last });
                }
            }
        }
    }

    fn check(rows: RowsFn, form: RowsForm) {
        let count = 7;
        let read = form.first..form.last.min(form.lanes);
        let place = |row: i64, lane: u64| row * form.stride + lane as i64 * form.step;
        let all = || (0..count).flat_map(|row| read.clone().map(move |lane| (row, lane)));
        let places: Vec<i64> = all().map(|(row, lane)| place(row, lane)).collect();
        let (least, most) = (places.iter().min().copied().unwrap_or(0), places.iter().max().copied().unwrap_or(-1));
        // Exactly what is read, so that a tool which watches memory sees any other access.
        let source: Vec<f32> = (least..=most).map(|number| number as f32).collect();
        let mut target = vec![f32::MAX; count as usize * form.width as usize];
        let origin = source.as_ptr().wrapping_offset(-least as isize);
        // SAFETY: the source holds all that is read, the target all that is written.
        unsafe { rows(count as u64, origin, target.as_mut_ptr(), &form) };
        for row in 0..count {
            for lane in 0..form.width {
                let found = target[row as usize * form.width as usize + lane as usize];
                let expected = match lane {
                    _ if lane >= form.lanes => f32::MAX,
                    _ if read.contains(&lane) => place(row, lane) as f32,
                    _ => 0.0,
                };
                assert_eq!(found, expected, "row {row}, lane {lane} of {form:?}");
            }
        }
    }
}
