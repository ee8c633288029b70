//! Tensors as they are stored: the bytes of their elements, the scales of their groups, and the numbers that these stand
//! for (LN1, "Storage").
//!
//! A weight is an `f32` buffer to a program. What a device keeps of it may be a [`View`]'s bytes: then its code widens each
//! element where it uses it, to the bits that [`View::bits`] gives.

use super::formats::{Number, Storage};
use super::groups::Groups;
use super::quantise::Parameters;

/// How a tensor's elements are stored, without the elements: what generated code depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// The format of an element.
    pub storage: Storage,
    /// The elements that share a scale; `None` where there are no scales.
    pub groups: Option<Groups>,
    /// Whether a zero point is taken from an element before its scale is applied.
    pub zero_points: bool,
}

/// A stored tensor.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The format of an element.
    pub storage: Storage,
    /// The elements, packed and little-endian.
    pub data: &'a [u8],
    /// The scales, where it is quantised.
    pub scales: Option<Scales<'a>>,
}

/// The scales of a quantised tensor.
#[derive(Debug, Clone, Copy)]
pub struct Scales<'a> {
    /// The elements that share one.
    pub groups: Groups,
    /// One `f32` a group.
    pub scale: &'a [u8],
    /// One integer a group, where codes have a zero point.
    pub zero_point: Option<(Storage, &'a [u8])>,
}

impl Scales<'_> {
    /// How many groups there are.
    pub fn count(&self) -> usize {
        self.scale.len() / 4
    }

    /// What a group's codes stand for.
    pub fn parameters(&self, group: usize) -> Parameters {
        let scale = f32::from_bits(Storage::F32.read(self.scale, group) as u32);
        let zero_point = self.zero_point.map_or(0, |(storage, data)| match storage.widen(storage.read(data, group)) {
            Number::Integer(code) => code,
            Number::Float(_) => 0,
        });
        Parameters { scale, zero_point }
    }
}

impl View<'_> {
    /// The zero points of codes up to this size are integers that an `f32` holds, and so is the difference of a code of up to
    /// 16 bits.
    const GREATEST_ZERO_POINT: u128 = 1 << 23;

    /// Its form, if devices keep such tensors as they are: elements of at most 16 bits that are floats, or have a scale and a
    /// zero point near enough that `f32(q) - f32(z)` is exact. All else is widened for them.
    pub fn form(&self) -> Option<Form> {
        let Form { storage, groups, zero_points } = self.full_form();
        let near = |scales: Scales<'_>| {
            let points = (0..scales.count()).map(|group| scales.parameters(group).zero_point);
            points.into_iter().all(|point| point.unsigned_abs() <= Self::GREATEST_ZERO_POINT)
        };
        let number = storage.float().is_some() || groups.is_some();
        let fits = storage.bits() <= 16 && number && (!zero_points || self.scales.is_some_and(near));
        fits.then_some(Form { storage, groups, zero_points })
    }

    fn full_form(&self) -> Form {
        // The codes of a float format have no zero point (`Parameters::dequantise`).
        let zero_points =
            self.storage.float().is_none() && self.scales.is_some_and(|scales| scales.zero_point.is_some());
        Form { storage: self.storage, groups: self.scales.map(|scales| scales.groups), zero_points }
    }

    /// The bits of an element as they are stored.
    pub fn code(&self, index: usize) -> u64 {
        self.storage.read(self.data, index)
    }

    /// The number that an element stands for.
    pub fn number(&self, index: usize) -> Number {
        match &self.scales {
            Some(scales) => {
                let parameters = scales.parameters(scales.groups.of_element(index));
                let value = parameters.dequantise(self.storage, self.code(index));
                Storage::F32.widen(value.to_bits().into())
            }
            None => self.storage.widen(self.code(index)),
        }
    }

    /// The bits of the `f32` that an element stands for. (Products are the processor's: its rounding must be LN1's.)
    pub fn bits(&self, index: usize) -> u32 {
        Storage::F32.narrow(self.number(index)) as u32
    }

    /// Bytes of the elements, the scales and the zero points.
    pub fn bytes(&self) -> u64 {
        let scales = self.scales.as_ref();
        let companions =
            scales.map_or(0, |scales| scales.scale.len() + scales.zero_point.map_or(0, |(_, data)| data.len()));
        (self.data.len() + companions) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Shape;

    #[test]
    fn elements_are_what_their_groups_say() {
        let groups = Groups::channels(&Shape::from([2, 2]));
        let scale: Vec<u8> = [0.5f32, 2.0].iter().flat_map(|scale| scale.to_le_bytes()).collect();
        let scales = Scales { groups, scale: &scale, zero_point: Some((Storage::I16, &[1, 0, 0xff, 0xff])) };
        let view = View { storage: Storage::I8, data: &[1, 2, 0x80, 127], scales: Some(scales) };
        let values: Vec<f32> = (0..4).map(|index| f32::from_bits(view.bits(index))).collect();
        assert_eq!(values, [0.0, 0.5, -254.0, 256.0]);
        assert_eq!(view.form(), Some(Form { storage: Storage::I8, groups: Some(groups), zero_points: true }));
        assert_eq!(view.bytes(), 16);
    }

    #[test]
    fn forms_are_those_that_devices_have() {
        let plain = |storage| View { storage, data: &[], scales: None }.form().is_some();
        let floats: Vec<Storage> = Storage::ALL.into_iter().filter(|&storage| plain(storage)).collect();
        assert_eq!(floats, [Storage::F16, Storage::Bf16, Storage::F8, Storage::F4]);
        let groups = Groups::tensor(&Shape::from([0]));
        let one = 1f32.to_le_bytes();
        let coded = |storage, point: i64| {
            let point = point.to_le_bytes();
            let scales = Scales { groups, scale: &one, zero_point: Some((Storage::I64, &point)) };
            View { storage, data: &[], scales: Some(scales) }.form()
        };
        assert!(coded(Storage::I16, 1 << 23).is_some_and(|form| form.zero_points));
        assert!(coded(Storage::F8, i64::MIN).is_some_and(|form| !form.zero_points), "floats have no zero point");
        assert_eq!(coded(Storage::I16, -(1 << 23) - 1), None);
        assert_eq!(coded(Storage::I32, 0), None);
    }
}
