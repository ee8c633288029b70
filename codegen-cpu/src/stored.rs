//! Panels of stored weights: narrow codes and their scales, which are widened where they are multiplied.
//!
//! A contraction's operand that is a plain weight in fewer than 32 bits is packed by [`StoredPack`], not by generated code,
//! and its panels keep the codes. They are widened in registers by a microkernel of [`crate::simd::stored`], or, where
//! several tiles are multiplied with a panel, once into scratch memory for the microkernels of `f32`s. Either way an
//! element becomes the `f32` that `loom_ir::numerics::stored` says.
//!
//! A panel of `width` rows and `length` terms, each part but the first at a multiple of 64 bytes:
//!
//! - the number of terms that share a scale, `run`, in 8 bytes;
//! - if the code has scales, `[run number][row]` of `f32`, and if it has zero points, the same of these, as `f32`s too;
//! - the codes, `[term][row]`; of 4 bits `[term / 2][row]`, the even term in the low half of a byte.

use std::ops::Range;

use loom_ir::kernel::{BufferId, Forms, Kernel};
use loom_ir::numerics::formats::Storage;
use loom_ir::numerics::groups::Groups;
use loom_ir::numerics::stored::{Form, View as StoredView};

use crate::emit::pack::Pack;

/// Parts of a panel lie at multiples of this.
const ALIGNMENT: u64 = 64;
/// Where fewer terms share a scale, and maybe a zero point, panels are hardly smaller than those of `f32`s.
const SHORTEST_RUN: u64 = 4;

/// What a code stands for, before scale and zero point. Unsigned codes are signed ones with another zero point here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// The upper half of an `f32`.
    Bf16,
    /// IEEE 754 binary16.
    F16,
    /// OCP's E4M3, with a scale.
    F8,
    /// OCP's E2M1, with a scale.
    F4,
    /// Two's complement, with a scale and a zero point.
    I16,
    /// Two's complement, with a scale and maybe a zero point.
    I8,
    /// Two's complement, with a scale and maybe a zero point.
    I4,
}

impl Code {
    /// Bits of a code.
    pub const fn bits(self) -> u64 {
        match self {
            Code::Bf16 | Code::F16 | Code::I16 => 16,
            Code::F8 | Code::I8 => 8,
            Code::F4 | Code::I4 => 4,
        }
    }

    /// Whether it has scales.
    pub const fn is_scaled(self) -> bool {
        !matches!(self, Code::Bf16 | Code::F16)
    }

    /// The number that a code stands for; an integer's zero point not yet taken off. Bits above its own are not looked at.
    pub fn widen(self, code: u32) -> f32 {
        match self {
            Code::Bf16 => f32::from_bits(code << 16),
            Code::F16 => minifloat(code, 5, 10, 0x1f),
            // There are no infinities, and one NaN of each sign, which looks like the greatest number's successor.
            Code::F8 if code & 0x7f == 0x7f => f32::NAN,
            Code::F8 => minifloat(code, 4, 3, u32::MAX),
            Code::F4 => F4[(code & 15) as usize],
            Code::I16 => f32::from(code as i16),
            Code::I8 => f32::from(code as i8),
            Code::I4 => I4[(code & 15) as usize],
        }
    }
}

/// A float of few bits. Its exponent `special` is that of infinities and NaNs.
fn minifloat(code: u32, exponent_bits: u32, mantissa_bits: u32, special: u32) -> f32 {
    let bias = (1 << (exponent_bits - 1)) - 1;
    let sign = (code >> (exponent_bits + mantissa_bits) & 1) << 31;
    let magnitude = code & ((1 << (exponent_bits + mantissa_bits)) - 1);
    let exponent = magnitude >> mantissa_bits;
    let shifted = magnitude << (23 - mantissa_bits);
    let bits = if exponent == special {
        shifted | 0x7f80_0000
    } else if exponent > 0 {
        shifted + ((127 - bias) << 23)
    } else {
        // A subnormal number is a multiple of the least one, which is a power of two: exact.
        let least = f32::from_bits((127 + 1 - bias - mantissa_bits) << 23);
        (magnitude as f32 * least).to_bits()
    };
    f32::from_bits(bits | sign)
}

/// What the codes of F4 stand for.
pub(crate) const F4: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];
/// What the codes of I4 stand for.
pub(crate) const I4: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, -8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0];

/// What the code of a panel's elements is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PanelForm {
    /// The code.
    pub code: Code,
    /// Whether there are zero points.
    pub zero_points: bool,
}

impl PanelForm {
    /// Every form that there are microkernels for.
    pub const ALL: [PanelForm; 9] = [
        PanelForm { code: Code::Bf16, zero_points: false },
        PanelForm { code: Code::F16, zero_points: false },
        PanelForm { code: Code::F8, zero_points: false },
        PanelForm { code: Code::F4, zero_points: false },
        PanelForm { code: Code::I16, zero_points: true },
        PanelForm { code: Code::I8, zero_points: false },
        PanelForm { code: Code::I8, zero_points: true },
        PanelForm { code: Code::I4, zero_points: false },
        PanelForm { code: Code::I4, zero_points: true },
    ];

    /// The form of a stored weight's panels, and what is added to its codes, and so to its zero points, to make them signed.
    fn of(form: &Form) -> Option<(PanelForm, i128)> {
        let points = form.zero_points;
        let (code, zero_points, offset) = match form.storage {
            Storage::Bf16 => (Code::Bf16, false, 0),
            Storage::F16 => (Code::F16, false, 0),
            Storage::F8 => (Code::F8, false, 0),
            Storage::F4 => (Code::F4, false, 0),
            Storage::I16 => (Code::I16, true, 0),
            Storage::U16 => (Code::I16, true, -(1 << 15)),
            Storage::I8 => (Code::I8, points, 0),
            Storage::U8 => (Code::I8, true, -(1 << 7)),
            Storage::I4 => (Code::I4, points, 0),
            _ => return None,
        };
        Some((PanelForm { code, zero_points }, offset))
    }

    /// Where the parts of a panel lie.
    pub fn layout(self, width: u64, length: u64, run: u64) -> PanelParts {
        let runs = if self.code.is_scaled() { length.div_ceil(run.max(1)) } else { 0 };
        let numbers = (runs * width * 4).next_multiple_of(ALIGNMENT);
        let scales = ALIGNMENT;
        let zero_points = scales + numbers;
        let codes = zero_points + if self.zero_points { numbers } else { 0 };
        let bytes = codes + (self.rows(length) * self.row_bytes(width)).next_multiple_of(ALIGNMENT);
        PanelParts { scales, zero_points, codes, bytes }
    }

    /// Rows of codes: of 4 bits, two terms lie in one.
    const fn rows(self, length: u64) -> u64 {
        if self.code.bits() == 4 { length.div_ceil(2) } else { length }
    }

    /// Bytes of a row of codes.
    const fn row_bytes(self, width: u64) -> u64 {
        if self.code.bits() == 4 { width } else { width * self.code.bits() / 8 }
    }
}

/// The first bytes of a panel's parts, and its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PanelParts {
    /// Of the scales.
    pub scales: u64,
    /// Of the zero points.
    pub zero_points: u64,
    /// Of the codes.
    pub codes: u64,
    /// Of all.
    pub bytes: u64,
}

/// How the panels of a stored weight are made.
#[derive(Debug, Clone)]
pub struct StoredPack {
    weight: BufferId,
    form: PanelForm,
    code_offset: i128,
    groups: Option<Groups>,
    /// Rows of a panel, terms, and terms that share a scale.
    width: u64,
    length: u64,
    run: u64,
    /// Extents and coefficients of the element's number: of batches, rows and terms.
    axes: [Vec<(u64, i64)>; 3],
    offset: i64,
    batches: u64,
    rows: u64,
}

impl StoredPack {
    /// The panels of an operand that is nothing but a stored weight, if they can be such: `None` where anything else happens to
    /// its elements, where too few of its terms share a scale, and where the panels are so small that their parts, each of
    /// which begins at a multiple of [`ALIGNMENT`], are larger than `f32`s.
    pub(crate) fn of(kernel: &Kernel, forms: &Forms, pack: &Pack) -> Option<StoredPack> {
        let [function] = &pack.view.functions[..] else { return None };
        let (true, [place]) = (function.body.insts.is_empty(), &pack.view.places[..]) else { return None };
        if function.operands.len() != 1 || function.places().next().is_none() || place.never || !place.guards.is_empty()
        {
            return None;
        }
        let weight = *kernel.buffers().get(place.slot)?;
        let stored = forms.get(&weight)?;
        let (form, code_offset) = PanelForm::of(stored)?;
        let mut coefficients = place.linear.coefficients.iter().copied();
        let axes = [0, 1, 2].map(|group| {
            let extents = pack.view.groups[group].iter().copied();
            extents.zip(coefficients.by_ref()).collect::<Vec<(u64, i64)>>()
        });
        let length = pack.view.count(2);
        let offset = place.linear.offset;
        let run = match stored.groups {
            None => length.max(1),
            Some(groups) => {
                run(groups, offset, [&axes[0], &axes[1]].into_iter().flatten(), &axes[2])?.min(length).max(1)
            }
        };
        if run < length.min(SHORTEST_RUN) {
            return None;
        }
        let (batches, rows) = (pack.view.count(0), pack.view.count(1));
        let width = pack.width;
        let stored = StoredPack {
            weight,
            form,
            code_offset,
            groups: stored.groups,
            width,
            length,
            run,
            axes,
            offset,
            batches,
            rows,
        };
        (stored.panel_bytes() <= pack.panel_bytes()).then_some(stored)
    }

    /// The same for a kernel that differs from this one's in its buffers alone.
    pub(crate) fn of_alike(&self, own: &Kernel, other: &Kernel) -> StoredPack {
        let place = own.buffers().iter().position(|&buffer| buffer == self.weight);
        let weight = place.and_then(|place| other.buffers().get(place).copied()).unwrap_or(self.weight);
        StoredPack { weight, ..self.clone() }
    }

    /// The weight.
    pub fn weight(&self) -> BufferId {
        self.weight
    }

    /// The form of its panels.
    pub fn form(&self) -> PanelForm {
        self.form
    }

    /// Bytes of a panel.
    pub fn panel_bytes(&self) -> u64 {
        self.form.layout(self.width, self.length, self.run).bytes
    }

    /// Bytes of a panel's `f32`s.
    pub(crate) fn widened_bytes(&self) -> u64 {
        self.width * self.length * 4
    }

    /// How many panels there are.
    pub fn panels(&self) -> u64 {
        self.batches * self.rows.div_ceil(self.width)
    }

    /// Writes some of the panels, `panel_bytes` each, into `out`, which is zero.
    pub fn write(&self, weight: &StoredView<'_>, panels: Range<u64>, out: &mut [u8]) {
        let terms: Vec<i64> = (0..self.length).map(|term| at(&self.axes[2], term)).collect();
        let tiles = self.rows.div_ceil(self.width).max(1);
        for (number, panel) in panels.zip(out.chunks_exact_mut(self.panel_bytes() as usize)) {
            panel[..8].copy_from_slice(&self.run.to_le_bytes());
            let (batch, first) = (number / tiles, number % tiles * self.width);
            let base = self.offset + at(&self.axes[0], batch);
            for lane in 0..self.width.min(self.rows - first) {
                self.write_row(weight, base + at(&self.axes[1], first + lane), &terms, lane as usize, panel);
            }
        }
    }

    fn write_row(&self, weight: &StoredView<'_>, base: i64, terms: &[i64], lane: usize, panel: &mut [u8]) {
        let (width, run) = (self.width as usize, self.run as usize);
        let parts = self.form.layout(self.width, self.length, self.run);
        if self.form.code.is_scaled() {
            for (number, &term) in terms.iter().step_by(run).enumerate() {
                let scales = weight.scales.zip(self.groups);
                let parameters =
                    scales.map(|(scales, groups)| scales.parameters(groups.of_element((base + term) as usize)));
                let (scale, point) = parameters.map_or((1.0, 0), |found| (found.scale, found.zero_point));
                let mut put = |part: u64, value: f32| {
                    let place = part as usize + (number * width + lane) * 4;
                    panel[place..place + 4].copy_from_slice(&value.to_le_bytes());
                };
                put(parts.scales, scale);
                if self.form.zero_points {
                    // A form's zero points are so near that all of this is exact.
                    put(parts.zero_points, (point + self.code_offset) as f32);
                }
            }
        }
        let codes = &mut panel[parts.codes as usize..];
        for (k, &term) in terms.iter().enumerate() {
            let code = weight.code((base + term) as usize).wrapping_add(self.code_offset as u64);
            match self.form.code.bits() {
                4 => codes[k / 2 * width + lane] |= ((code & 15) << (4 * (k % 2))) as u8,
                8 => codes[k * width + lane] = code as u8,
                _ => codes[(k * width + lane) * 2..][..2].copy_from_slice(&(code as u16).to_le_bytes()),
            }
        }
    }
}

/// A part of an element's number: that of the index with a row-major number.
fn at(axes: &[(u64, i64)], mut number: u64) -> i64 {
    let mut sum = 0;
    for &(extent, coefficient) in axes.iter().rev() {
        sum += (number % extent.max(1)) as i64 * coefficient;
        number /= extent.max(1);
    }
    sum
}

/// How many terms in a row share a scale, in every row of every batch; `None` where that isn't seen.
fn run<'a>(
    groups: Groups,
    offset: i64,
    mut rows: impl Iterator<Item = &'a (u64, i64)>,
    terms: &[(u64, i64)],
) -> Option<u64> {
    let length: u64 = terms.iter().map(|&(extent, _)| extent).product();
    if groups.is_whole() {
        return Some(length);
    }
    // Every row begins at the same place of its channel, and its terms stay in it.
    let channel = i64::try_from(groups.channel()).ok().filter(|&channel| channel > 0)?;
    let begin = offset.rem_euclid(channel);
    let reach: i64 = terms.iter().map(|&(extent, coefficient)| (extent as i64 - 1).max(0) * coefficient).sum();
    let forward = terms.iter().all(|&(_, coefficient)| coefficient >= 0);
    if !rows.all(|&(_, coefficient)| coefficient % channel == 0) || !forward || begin + reach >= channel {
        return None;
    }
    match (groups.per_channel(), terms) {
        (1, _) => Some(length),
        (_, []) => Some(1),
        (_, &[(_, 1)]) if (begin as usize).is_multiple_of(groups.group()) => Some(groups.group() as u64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loom_ir::types::Shape;

    #[test]
    fn codes_stand_for_what_storage_says() {
        let pairs = [
            (Code::Bf16, Storage::Bf16),
            (Code::F16, Storage::F16),
            (Code::F8, Storage::F8),
            (Code::F4, Storage::F4),
            (Code::I16, Storage::I16),
            (Code::I8, Storage::I8),
            (Code::I4, Storage::I4),
        ];
        for (code, storage) in pairs {
            assert_eq!(code.bits(), u64::from(storage.bits()));
            for bits in 0..1u32 << storage.bits() {
                let expected = Storage::F32.narrow(storage.widen(bits.into())) as u32;
                let found = code.widen(bits);
                let same = found.to_bits() == expected || (found.is_nan() && f32::from_bits(expected).is_nan());
                assert!(same, "{storage} {bits:x}: {found}");
            }
        }
    }

    #[test]
    fn runs_are_of_terms_that_share_a_scale() {
        let shape = Shape::from([6, 20]);
        let rows = [(6, 20)];
        let of = |groups: Groups, offset: i64, rows: &[(u64, i64)], terms: &[(u64, i64)]| {
            run(groups, offset, rows.iter(), terms)
        };
        let (tensor, channels, eights) = (Groups::tensor(&shape), Groups::channels(&shape), Groups::of_size(&shape, 5));
        assert_eq!(of(tensor, 3, &[(20, 1)], &[(6, 20)]), Some(6), "a transposed one has one scale too");
        assert_eq!(of(channels, 0, &rows, &[(20, 1)]), Some(20));
        assert_eq!(of(channels, 0, &rows, &[(5, 1), (4, 5)]), Some(20), "any order within a channel");
        assert_eq!(of(channels, 45, &rows, &[(15, 1)]), Some(15), "a part of each row");
        assert_eq!(of(channels, 45, &rows, &[(16, 1)]), None, "into the next row");
        assert_eq!(of(channels, 0, &[(20, 1)], &[(6, 20)]), None);
        assert_eq!(of(eights, 0, &rows, &[(20, 1)]), Some(5));
        assert_eq!(of(eights, 10, &rows, &[(10, 1)]), Some(5));
        assert_eq!(of(eights, 3, &rows, &[(10, 1)]), None, "across groups");
        assert_eq!(of(eights, 0, &rows, &[(10, 2)]), None);
    }
}
