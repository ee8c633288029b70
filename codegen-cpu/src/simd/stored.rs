//! Microkernels over panels of stored weights, and the widening of such panels to `f32`s: see [`crate::stored`] for what
//! lies in a panel.
//!
//! A microkernel multiplies what it has widened in registers: with few rows, where memory is what takes time. Where a panel
//! meets many rows it is widened once. Each element becomes `f32(q - z) · s` by the same operations as everywhere, and then
//! takes part in LN1's sum. (The sign of a zero is lost in a difference of codes, as in the definition.)

use crate::level::Level;
use crate::stored::{Code, PanelForm};

/// `tile[i][j] = Σ_k narrow[k][i] · w[k][j]`, as [`crate::abi::MicrokernelFn`] but with a panel of codes as the wide one.
pub type StoredMicrokernelFn = unsafe extern "C" fn(u64, *const f32, *const u8, *mut f32);

/// Writes a panel's `[term][row]` as `f32`s: length, width, panel, target.
pub type WidenFn = unsafe extern "C" fn(u64, u64, *const u8, *mut f32);

/// The microkernel of a level for tiles of `mr` by `nr`, if there is one: for the shapes that tiles of few rows mostly have.
pub fn microkernel(level: Level, (mr, nr): (u64, u64), form: PanelForm) -> Option<StoredMicrokernelFn> {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 if level.is_available() => avx2::microkernel((mr, nr), form),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 if level.is_available() => avx512::microkernel((mr, nr), form),
        _ => None,
    }
}

/// What widens panels of a width, with the instructions of a level.
pub fn widen(level: Level, width: u64, form: PanelForm) -> WidenFn {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 if level.is_available() && width.is_multiple_of(16) => avx512::widen(form),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::Avx512 if level.is_available() && width.is_multiple_of(8) => avx2::widen(form),
        _ => widen_of(form),
    }
}

/// A function for each form, by its constants.
macro_rules! by_form {
    ($form:expr, $function:ident $(, $shape:tt)*) => {
        match ($form.code, $form.zero_points) {
            (Code::Bf16, _) => $function::<$($shape,)* BF16, false>,
            (Code::F16, _) => $function::<$($shape,)* F16, false>,
            (Code::F8, _) => $function::<$($shape,)* F8, false>,
            (Code::F4, _) => $function::<$($shape,)* F4, false>,
            (Code::I16, _) => $function::<$($shape,)* I16, true>,
            (Code::I8, false) => $function::<$($shape,)* I8, false>,
            (Code::I8, true) => $function::<$($shape,)* I8, true>,
            (Code::I4, false) => $function::<$($shape,)* I4, false>,
            (Code::I4, true) => $function::<$($shape,)* I4, true>,
        }
    };
}

/// The codes, as constants of functions.
const BF16: u8 = 0;
const F16: u8 = 1;
const F8: u8 = 2;
const F4: u8 = 3;
const I16: u8 = 4;
const I8: u8 = 5;
const I4: u8 = 6;

const fn code(number: u8) -> Code {
    match number {
        BF16 => Code::Bf16,
        F16 => Code::F16,
        F8 => Code::F8,
        F4 => Code::F4,
        I16 => Code::I16,
        I8 => Code::I8,
        _ => Code::I4,
    }
}

/// The parts of a panel.
#[derive(Clone, Copy)]
struct Panel {
    run: usize,
    scales: *const f32,
    zero_points: *const f32,
    codes: *const u8,
}

impl Panel {
    /// # Safety
    /// A panel of this form, width and length begins there.
    #[inline]
    unsafe fn at<const CODE: u8, const ZERO_POINTS: bool>(panel: *const u8, width: usize, length: usize) -> Panel {
        // SAFETY: the caller's promise; a panel begins with its run.
        let run = unsafe { panel.cast::<u64>().read_unaligned() };
        let form = PanelForm { code: code(CODE), zero_points: ZERO_POINTS };
        let parts = form.layout(width as u64, length as u64, run);
        // SAFETY: the parts lie in the panel.
        unsafe {
            Panel {
                run: run.max(1) as usize,
                scales: panel.add(parts.scales as usize).cast(),
                zero_points: panel.add(parts.zero_points as usize).cast(),
                codes: panel.add(parts.codes as usize),
            }
        }
    }

    /// Where the code of a term's row lies, and of a code of 4 bits by how much it is shifted.
    ///
    /// # Safety
    /// The row is in the panel.
    #[inline(always)]
    unsafe fn code<const CODE: u8>(&self, width: usize, k: usize, row: usize) -> (*const u8, u32) {
        // SAFETY: the caller's promise.
        unsafe {
            match code(CODE).bits() {
                4 => (self.codes.add(k / 2 * width + row), 4 * (k as u32 % 2)),
                8 => (self.codes.add(k * width + row), 0),
                _ => (self.codes.add((k * width + row) * 2), 0),
            }
        }
    }
}

fn widen_of(form: PanelForm) -> WidenFn {
    by_form!(form, widen_each)
}

/// # Safety
/// A panel of this form, width and length, and as many floats at the target that nobody else uses.
unsafe extern "C" fn widen_each<const CODE: u8, const ZERO_POINTS: bool>(
    length: u64,
    width: u64,
    panel: *const u8,
    target: *mut f32,
) {
    let (length, width) = (length as usize, width as usize);
    // SAFETY: the caller's panel; k and row stay in it, and so does the place of a scale.
    unsafe {
        let panel = Panel::at::<CODE, ZERO_POINTS>(panel, width, length);
        for k in 0..length {
            let run = k / panel.run * width;
            for row in 0..width {
                let (place, shift) = panel.code::<CODE>(width, k, row);
                let bits = match code(CODE).bits() {
                    16 => u32::from(place.cast::<u16>().read_unaligned()),
                    _ => u32::from(*place) >> shift,
                };
                let mut value = code(CODE).widen(bits);
                if ZERO_POINTS {
                    value -= *panel.zero_points.add(run + row);
                }
                if code(CODE).is_scaled() {
                    value *= *panel.scales.add(run + row);
                }
                *target.add(k * width + row) = value;
            }
        }
    }
}

/// Microkernels and widening over one kind of vector, of which the module has `load`, the codes of `LANES` rows as floats.
#[cfg(target_arch = "x86_64")]
macro_rules! stored_over {
    (
        $vector:ident of $lanes:literal with $feature:literal,
        $zero:ident, $splat:ident, $load:ident, $store:ident, $add:ident, $sub:ident, $mul:ident,
        shapes $(($mr:literal, $vectors:literal)),+
    ) => {
        use crate::simd::stored::*;

        const LANES: usize = $lanes;
        /// LN1's chunk.
        const CHUNK: usize = 256;
        /// Bytes of codes that are asked for ahead.
        const AHEAD: usize = 1024;

        pub fn microkernel((mr, nr): (u64, u64), form: PanelForm) -> Option<StoredMicrokernelFn> {
            match (mr, nr / LANES as u64, nr % LANES as u64) {
                $(($mr, $vectors, 0) => Some(by_form!(form, tile, $mr, $vectors)),)+
                _ => None,
            }
        }

        pub fn widen(form: PanelForm) -> WidenFn {
            by_form!(form, widen_all)
        }

        /// The scales and zero points of the rows of `V` vectors.
        #[derive(Clone, Copy)]
        struct Group<const V: usize> {
            scales: [$vector; V],
            zero_points: [$vector; V],
        }

        impl<const V: usize> Group<V> {
            /// # Safety
            /// The term is in the panel, and so are `V` vectors from the row on.
            #[target_feature(enable = $feature)]
            #[inline]
            unsafe fn of<const CODE: u8, const ZERO_POINTS: bool>(
                panel: &Panel,
                width: usize,
                (k, row): (usize, usize),
            ) -> Group<V> {
                let mut group = Group { scales: [$zero(); V], zero_points: [$zero(); V] };
                let first = k / panel.run * width + row;
                for j in 0..V {
                    // SAFETY: the caller's promise.
                    unsafe {
                        if code(CODE).is_scaled() {
                            group.scales[j] = $load(panel.scales.add(first + j * LANES));
                        }
                        if ZERO_POINTS {
                            group.zero_points[j] = $load(panel.zero_points.add(first + j * LANES));
                        }
                    }
                }
                group
            }

            /// The numbers of the vector `j` from the row on.
            ///
            /// # Safety
            /// As for `of`, with a vector of the group's.
            #[target_feature(enable = $feature)]
            #[inline]
            unsafe fn widened<const CODE: u8, const ZERO_POINTS: bool>(
                &self,
                panel: &Panel,
                width: usize,
                (k, row): (usize, usize),
                j: usize,
            ) -> $vector {
                // SAFETY: the caller's promise.
                let (place, shift) = unsafe { panel.code::<CODE>(width, k, row + j * LANES) };
                // SAFETY: there are `LANES` codes.
                let mut value = unsafe { load::<CODE>(place, shift) };
                if ZERO_POINTS {
                    value = $sub(value, self.zero_points[j]);
                }
                if code(CODE).is_scaled() {
                    value = $mul(value, self.scales[j]);
                }
                value
            }
        }

        /// # Safety
        /// The processor has the feature; `narrow` leads to `length · MR` floats, `panel` to a panel of this form, of
        /// `V · LANES` rows and `length` terms, and `tile` to `MR · V · LANES` floats that nobody else uses.
        #[target_feature(enable = $feature)]
        unsafe extern "C" fn tile<const MR: usize, const V: usize, const CODE: u8, const ZERO_POINTS: bool>(
            length: u64,
            narrow: *const f32,
            panel: *const u8,
            tile: *mut f32,
        ) {
            let (length, width) = (length as usize, V * LANES);
            // SAFETY: the caller's panel.
            let panel = unsafe { Panel::at::<CODE, ZERO_POINTS>(panel, width, length) };
            let mut begin = 0;
            loop {
                let end = length.min(begin + CHUNK);
                let mut sums = [[$zero(); V]; MR];
                let mut k = begin;
                while k < end {
                    let stop = end.min((k / panel.run + 1) * panel.run);
                    // SAFETY: k < length.
                    let group = unsafe { Group::<V>::of::<CODE, ZERO_POINTS>(&panel, width, (k, 0)) };
                    while k < stop {
                        let mut vectors = [$zero(); V];
                        for (j, vector) in vectors.iter_mut().enumerate() {
                            // SAFETY: k < length, j < V.
                            *vector = unsafe { group.widened::<CODE, ZERO_POINTS>(&panel, width, (k, 0), j) };
                        }
                        // As for panels of floats: with one row, loads go straight through memory by themselves.
                        if MR > 1 {
                            let bytes = width * code(CODE).bits() as usize / 8;
                            let later = panel.codes.wrapping_add(k * bytes + AHEAD);
                            _mm_prefetch::<_MM_HINT_T0>(later.cast());
                        }
                        for (i, row) in sums.iter_mut().enumerate() {
                            // SAFETY: k < length, i < MR.
                            let factor = $splat(unsafe { *narrow.add(k * MR + i) });
                            for (sum, vector) in row.iter_mut().zip(vectors) {
                                *sum = $add(*sum, $mul(factor, vector));
                            }
                        }
                        k += 1;
                    }
                }
                for (i, &sum) in sums.iter().flatten().enumerate() {
                    // SAFETY: i < MR · V. The first chunk's sums are the tile, also where there's no term at all.
                    unsafe {
                        let place = tile.add(i * LANES);
                        $store(place, if begin == 0 { sum } else { $add($load(place), sum) });
                    }
                }
                begin = end;
                if begin >= length {
                    return;
                }
            }
        }

        /// # Safety
        /// The processor has the feature; there is a panel of this form, width and length, a whole number of vectors wide, and
        /// as many floats at the target that nobody else uses.
        #[target_feature(enable = $feature)]
        unsafe extern "C" fn widen_all<const CODE: u8, const ZERO_POINTS: bool>(
            length: u64,
            width: u64,
            panel: *const u8,
            target: *mut f32,
        ) {
            let (length, width) = (length as usize, width as usize);
            // SAFETY: the caller's panel.
            let panel = unsafe { Panel::at::<CODE, ZERO_POINTS>(panel, width, length) };
            for row in (0..width).step_by(LANES) {
                let mut k = 0;
                while k < length {
                    let stop = length.min((k / panel.run + 1) * panel.run);
                    // SAFETY: k < length; a vector from the row on is in the panel, and in the target.
                    unsafe {
                        let group = Group::<1>::of::<CODE, ZERO_POINTS>(&panel, width, (k, row));
                        while k < stop {
                            let value = group.widened::<CODE, ZERO_POINTS>(&panel, width, (k, row), 0);
                            $store(target.add(k * width + row), value);
                            k += 1;
                        }
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    stored_over!(
        __m256 of 8 with "avx2,f16c",
        _mm256_setzero_ps, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps, _mm256_sub_ps, _mm256_mul_ps,
        shapes (4, 2), (2, 4), (1, 8), (1, 4), (1, 2), (1, 1)
    );

    /// # Safety
    /// There are 8 codes at the place; of 4 bits those `shift` bits up in 8 bytes.
    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    unsafe fn load<const CODE: u8>(place: *const u8, shift: u32) -> __m256 {
        // SAFETY: the caller's promise: 16 or 8 bytes.
        unsafe {
            let words = || _mm_loadu_si128(place.cast());
            let bytes = || _mm_loadl_epi64(place.cast());
            match CODE {
                BF16 => _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(words()))),
                F16 => _mm256_cvtph_ps(words()),
                F8 => {
                    // As binary16, whose exponents are greater by 8; all ones become a NaN's.
                    let signed = _mm_slli_epi16::<7>(_mm_cvtepi8_epi16(bytes()));
                    let magnitude = _mm_and_si128(signed, _mm_set1_epi16(0x3f80));
                    let nan = _mm_cmpeq_epi16(magnitude, _mm_set1_epi16(0x3f80));
                    let half = _mm_and_si128(signed, _mm_set1_epi16(0xbfff_u16 as i16));
                    let half = _mm_or_si128(half, _mm_and_si128(nan, _mm_set1_epi16(0x7c00)));
                    _mm256_mul_ps(_mm256_cvtph_ps(half), _mm256_set1_ps(256.0))
                }
                I16 => _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(words())),
                I8 => _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes())),
                _ => {
                    let table = if CODE == F4 { &crate::stored::F4 } else { &crate::stored::I4 };
                    let index = _mm256_srl_epi32(_mm256_cvtepu8_epi32(bytes()), _mm_cvtsi32_si128(shift as i32));
                    let low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table.as_ptr()), index);
                    let high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table.as_ptr().add(8)), index);
                    _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(index)))
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    stored_over!(
        __m512 of 16 with "avx512f,f16c",
        _mm512_setzero_ps, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps, _mm512_sub_ps, _mm512_mul_ps,
        shapes (8, 2), (4, 2), (2, 4), (1, 8), (1, 4), (1, 2), (1, 1)
    );

    /// # Safety
    /// There are 16 codes at the place; of 4 bits those `shift` bits up in 16 bytes.
    #[target_feature(enable = "avx512f,f16c")]
    #[inline]
    unsafe fn load<const CODE: u8>(place: *const u8, shift: u32) -> __m512 {
        // SAFETY: the caller's promise: 32 or 16 bytes.
        unsafe {
            let words = || _mm256_loadu_si256(place.cast());
            let bytes = || _mm_loadu_si128(place.cast());
            match CODE {
                BF16 => _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(words()))),
                F16 => _mm512_cvtph_ps(words()),
                F8 => {
                    // As binary16, whose exponents are greater by 8; all ones become a NaN's.
                    let signed = _mm256_slli_epi16::<7>(_mm256_cvtepi8_epi16(bytes()));
                    let magnitude = _mm256_and_si256(signed, _mm256_set1_epi16(0x3f80));
                    let nan = _mm256_cmpeq_epi16(magnitude, _mm256_set1_epi16(0x3f80));
                    let half = _mm256_and_si256(signed, _mm256_set1_epi16(0xbfff_u16 as i16));
                    let half = _mm256_or_si256(half, _mm256_and_si256(nan, _mm256_set1_epi16(0x7c00)));
                    _mm512_mul_ps(_mm512_cvtph_ps(half), _mm512_set1_ps(256.0))
                }
                I16 => _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(words())),
                I8 => _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes())),
                _ => {
                    let table = if CODE == F4 { &crate::stored::F4 } else { &crate::stored::I4 };
                    // A permutation looks at the low 4 bits of its indices.
                    let index = _mm512_srl_epi32(_mm512_cvtepu8_epi32(bytes()), _mm_cvtsi32_si128(shift as i32));
                    _mm512_permutexvar_ps(index, _mm512_loadu_ps(table.as_ptr()))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loom_ir::numerics::reduction::{ContractSpec, contract};

    /// Codes of all kinds, scales of all sizes: against the definition, and LN1's sum of what it gives.
    #[test]
    fn panels_are_widened_and_multiplied_as_defined() {
        let mut state = 7u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        for form in PanelForm::ALL {
            for (length, run) in [(0, 1), (1, 1), (5, 16), (257, 257), (300, 16), (600, 300)] {
                for width in [1, 2, 4, 8, 16, 32, 64, 128] {
                    let parts = form.layout(width, length, run);
                    let mut panel: Vec<u8> = (0..parts.bytes).map(|_| random() as u8).collect();
                    panel[..8].copy_from_slice(&run.to_le_bytes());
                    for place in (parts.scales..parts.zero_points).step_by(4) {
                        // Scales of any size, so that products overflow, and are subnormal.
                        let scale = f32::from_bits((random() << 7) % 0x7f80_0000 + 1);
                        panel[place as usize..][..4].copy_from_slice(&scale.to_le_bytes());
                    }
                    for place in (parts.zero_points..parts.codes).step_by(4) {
                        let point = (random() % 512) as f32 - 256.0;
                        panel[place as usize..][..4].copy_from_slice(&point.to_le_bytes());
                    }
                    check(form, (length, width, run), &panel, &mut random);
                }
            }
        }
    }

    fn check(form: PanelForm, (length, width, run): (u64, u64, u64), panel: &[u8], random: &mut impl FnMut() -> u32) {
        let parts = form.layout(width, length, run);
        let float = |part: u64, k: u64, row: u64| {
            let place = part + (k / run * width + row) * 4;
            f32::from_le_bytes(panel[place as usize..][..4].try_into().unwrap())
        };
        let expected: Vec<f32> = (0..length * width)
            .map(|element| {
                let (k, row) = (element / width, element % width);
                let at = |index: u64| u32::from(panel[(parts.codes + index) as usize]);
                let code = match form.code.bits() {
                    4 => at(k / 2 * width + row) >> (4 * (k % 2)) & 15,
                    8 => at(element),
                    _ => at(2 * element) | at(2 * element + 1) << 8,
                };
                let code = form.code.widen(code);
                let point = if form.zero_points { float(parts.zero_points, k, row) } else { 0.0 };
                let difference = if form.zero_points { code - point } else { code };
                if form.code.is_scaled() { difference * float(parts.scales, k, row) } else { difference }
            })
            .collect();
        let same = |one: f32, other: f32| one.to_bits() == other.to_bits() || (one.is_nan() && other.is_nan());
        for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
            let mut found = vec![1f32; (length * width) as usize];
            // SAFETY: the processor has the level; the panel and the target have these sizes.
            unsafe { widen(level, width, form)(length, width, panel.as_ptr(), found.as_mut_ptr()) };
            let all = found.iter().zip(&expected).all(|(&found, &expected)| same(found, expected));
            assert!(all, "{form:?} {length} x {width} at {level}");
            for mr in [1, 2, 4, 8] {
                let Some(code) = microkernel(level, (mr, width), form) else { continue };
                let narrow: Vec<f32> =
                    (0..length * mr).map(|_| f32::from_bits((random() << 9) & 0x807f_ffff | 0x3f80_0000)).collect();
                let mut tile = vec![f32::MAX; (mr * width) as usize];
                // SAFETY: as above.
                unsafe { code(length, narrow.as_ptr(), panel.as_ptr(), tile.as_mut_ptr()) };
                for (place, &found) in (0..).zip(&tile) {
                    let (i, j) = (place / width, place % width);
                    let pairs =
                        (0..length).map(|k| (narrow[(k * mr + i) as usize], expected[(k * width + j) as usize]));
                    let expected = contract(pairs, ContractSpec::default());
                    assert!(same(found, expected), "{form:?} {mr} x {width} at {level}: {found}, not {expected}");
                }
            }
        }
    }
}
