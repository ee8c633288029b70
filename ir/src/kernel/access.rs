//! How a kernel reaches a buffer's elements: affine coordinates with guards.
//!
//! Every view of the graph (transpose, broadcast, slice, padding, sliding window, reshape along whole axes) becomes
//! part of an access; nothing is copied for it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::program::BufferId;
use crate::types::Shape;

/// `offset + Σ coefficients[axis] · axis index`, over a kernel's axes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Affine {
    /// The constant.
    pub offset: i64,
    /// One coefficient a kernel axis.
    pub coefficients: Vec<i64>,
}

impl Affine {
    /// A constant over `axes` axes.
    pub fn constant(offset: i64, axes: usize) -> Affine {
        Affine { offset, coefficients: vec![0; axes] }
    }

    /// The index of one axis.
    pub fn axis(axis: usize, axes: usize) -> Affine {
        let mut affine = Affine::constant(0, axes);
        affine.coefficients[axis] = 1;
        affine
    }

    /// The value at an index, one number an axis. Verified accesses cannot overflow within their kernel's axes.
    pub fn at(&self, index: &[u64]) -> i64 {
        self.coefficients
            .iter()
            .zip(index)
            .fold(self.offset, |sum, (&coefficient, &i)| sum.wrapping_add(coefficient.wrapping_mul(i as i64)))
    }

    /// Smallest and largest value over axes of these extents (all at least 1), or `None` on overflow.
    pub fn range(&self, extents: &[u64]) -> Option<(i64, i64)> {
        let (mut low, mut high) = (self.offset, self.offset);
        for (&coefficient, &extent) in self.coefficients.iter().zip(extents) {
            let last = i64::try_from(extent.checked_sub(1)?).ok()?;
            let reach = coefficient.checked_mul(last)?;
            if reach < 0 {
                low = low.checked_add(reach)?;
            } else {
                high = high.checked_add(reach)?;
            }
        }
        Some((low, high))
    }

    /// `self · factor`. Saturates, like the next two: what comes out is too large for [`Access::check`] then.
    #[must_use]
    pub fn scaled(&self, factor: i64) -> Affine {
        Affine {
            offset: self.offset.saturating_mul(factor),
            coefficients: self.coefficients.iter().map(|coefficient| coefficient.saturating_mul(factor)).collect(),
        }
    }

    /// `self + other`, over the same axes.
    #[must_use]
    pub fn plus(&self, other: &Affine) -> Affine {
        debug_assert_eq!(self.coefficients.len(), other.coefficients.len());
        Affine {
            offset: self.offset.saturating_add(other.offset),
            coefficients: self
                .coefficients
                .iter()
                .zip(&other.coefficients)
                .map(|(a, b)| a.saturating_add(*b))
                .collect(),
        }
    }

    /// `self + offset`.
    #[must_use]
    pub fn shifted(&self, offset: i64) -> Affine {
        Affine { offset: self.offset.saturating_add(offset), coefficients: self.coefficients.clone() }
    }

    /// The same expression with each axis index replaced: `axes[i]` stands for axis `i`, over `count` new axes.
    #[must_use]
    pub fn substitute(&self, axes: &[Affine], count: usize) -> Affine {
        let mut result = Affine::constant(self.offset, count);
        for (&coefficient, axis) in self.coefficients.iter().zip(axes) {
            if coefficient != 0 {
                result = result.plus(&axis.scaled(coefficient));
            }
        }
        result
    }

    /// Whether no number in it is so large that sums and strides of a few could overflow.
    fn is_safe(&self) -> bool {
        [self.offset].iter().chain(&self.coefficients).all(|number| number.unsigned_abs() <= SAFE as u64)
    }

    /// The axis whose bare index this is.
    pub fn as_axis(&self) -> Option<usize> {
        let mut used = self.coefficients.iter().enumerate().filter(|&(_, &coefficient)| coefficient != 0);
        match (self.offset, used.next(), used.next()) {
            (0, Some((axis, 1)), None) => Some(axis),
            _ => None,
        }
    }

    /// The small factor by which this expression's coefficients are the other's; `None` where there's none, or where
    /// neither moves.
    fn multiple_of(&self, other: &Affine) -> Option<i64> {
        let (&own, &base) =
            self.coefficients.iter().zip(&other.coefficients).find(|&(&own, &base)| own != 0 || base != 0)?;
        let factor = own.checked_div(base).filter(|factor| factor.unsigned_abs() < 1 << 20)?;
        let all = self
            .coefficients
            .iter()
            .zip(&other.coefficients)
            .all(|(&own, &base)| base.checked_mul(factor) == Some(own));
        (all && factor != 0).then_some(factor)
    }

    /// Whether the value changes with the axis.
    pub fn depends_on(&self, axis: usize) -> bool {
        self.coefficients.get(axis).is_some_and(|&coefficient| coefficient != 0)
    }
}

impl fmt::Display for Affine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (axis, &coefficient) in self.coefficients.iter().enumerate() {
            if coefficient == 0 {
                continue;
            }
            let sign = match (first, coefficient < 0) {
                (true, false) => "",
                (true, true) => "-",
                (false, false) => " + ",
                (false, true) => " - ",
            };
            f.write_str(sign)?;
            if coefficient.abs() != 1 {
                write!(f, "{}*", coefficient.abs())?;
            }
            write!(f, "i{axis}")?;
            first = false;
        }
        match (first, self.offset) {
            (true, offset) => write!(f, "{offset}"),
            (false, 0) => Ok(()),
            (false, offset) if offset < 0 => write!(f, " - {}", -offset),
            (false, offset) => write!(f, " + {offset}"),
        }
    }
}

/// A condition for touching memory: `0 <= expr < extent`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Guard {
    /// What is compared.
    pub expr: Affine,
    /// The bound, exclusive; at most `i64::MAX`.
    pub extent: u64,
}

/// One element of a buffer for every index of a kernel.
///
/// Where all guards hold, the element is the one at `coords` of the buffer seen as a row-major tensor of `shape`;
/// elsewhere it is `fill`, and the memory isn't touched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Access {
    /// The buffer.
    pub buffer: BufferId,
    /// The extents under which the buffer is addressed; their product is its element count.
    pub shape: Shape,
    /// One coordinate an extent.
    pub coords: Vec<Affine>,
    /// Conditions, all of which must hold. None for an output.
    pub guards: Vec<Guard>,
    /// Bits of the element where a guard does not hold.
    pub fill: u32,
}

impl Access {
    /// The element whose coordinates are the kernel's first axes themselves.
    pub fn identity(buffer: BufferId, shape: Shape, axes: usize) -> Access {
        let coords = (0..shape.rank()).map(|axis| Affine::axis(axis, axes)).collect();
        Access { buffer, shape, coords, guards: Vec::new(), fill: 0 }
    }

    /// The element at an index, by its place in the buffer; `None` where a guard does not hold and it is [`fill`](Self::fill).
    pub fn element(&self, index: &[u64]) -> Option<u64> {
        let inside = |guard: &Guard| u64::try_from(guard.expr.at(index)).is_ok_and(|value| value < guard.extent);
        let place = |place: u64, (coord, &extent): (&Affine, &u64)| {
            place.wrapping_mul(extent).wrapping_add(coord.at(index) as u64)
        };
        self.guards.iter().all(inside).then(|| self.coords.iter().zip(self.shape.dims()).fold(0, place))
    }

    /// The element's position in the buffer: coordinates times row-major strides, as one expression.
    pub fn linear(&self) -> Affine {
        let axes = self.coords.first().map_or(0, |coord| coord.coefficients.len());
        let mut linear = Affine::constant(0, axes);
        for (coord, stride) in self.coords.iter().zip(self.shape.strides()) {
            linear = linear.plus(&coord.scaled(stride as i64));
        }
        linear
    }

    /// [`linear`](Self::linear), or `None` where it overflows. Coordinates must be as many as extents.
    fn checked_linear(&self) -> Option<Affine> {
        let axes = self.coords.first().map_or(0, |coord| coord.coefficients.len());
        let mut linear = Affine::constant(0, axes);
        let add = |sum: i64, term: i64, stride: i64| sum.checked_add(term.checked_mul(stride)?);
        for (coord, stride) in self.coords.iter().zip(self.shape.strides()) {
            let stride = i64::try_from(stride).ok()?;
            linear.offset = add(linear.offset, coord.offset, stride)?;
            for (sum, &coefficient) in linear.coefficients.iter_mut().zip(&coord.coefficients) {
                *sum = add(*sum, coefficient, stride)?;
            }
        }
        Some(linear)
    }

    /// Whether the access reads or writes another element when the axis moves.
    pub fn depends_on(&self, axis: usize) -> bool {
        self.coords.iter().chain(self.guards.iter().map(|guard| &guard.expr)).any(|affine| affine.depends_on(axis))
    }

    /// The same access seen from other axes: see [`Affine::substitute`].
    #[must_use]
    pub fn substitute(&self, axes: &[Affine], count: usize) -> Access {
        Access {
            buffer: self.buffer,
            shape: self.shape.clone(),
            coords: self.coords.iter().map(|coord| coord.substitute(axes, count)).collect(),
            guards: self
                .guards
                .iter()
                .map(|guard| Guard { expr: guard.expr.substitute(axes, count), extent: guard.extent })
                .collect(),
            fill: self.fill,
        }
    }

    /// Checks that every element touched over axes of these extents lies in a buffer of `elements` elements.
    ///
    /// A coordinate is in bounds if its range over the axes is, or if guards on an expression that it is a multiple of, but
    /// for a constant, cut the range down to the bounds. This is what lets backends generate code without bounds checks.
    pub fn check(&self, extents: &[u64], elements: u64) -> Result<(), AccessError> {
        if self.shape.checked_elements() != Some(elements) {
            return Err(AccessError::Shape { shape: self.shape.clone(), elements });
        }
        if self.coords.len() != self.shape.rank() {
            return Err(AccessError::Rank { coords: self.coords.len(), rank: self.shape.rank() });
        }
        let all = self.coords.iter().chain(self.guards.iter().map(|guard| &guard.expr));
        if let Some(affine) = all.clone().find(|affine| affine.coefficients.len() != extents.len()) {
            return Err(AccessError::Rank { coords: affine.coefficients.len(), rank: extents.len() });
        }
        // An axis of extent 1 hides a coefficient of any size from the range, so the numbers themselves are bounded.
        if !all.clone().all(Affine::is_safe) {
            return Err(AccessError::Overflow);
        }
        let linear = self.checked_linear().filter(Affine::is_safe).ok_or(AccessError::Overflow)?;
        if extents.contains(&0) {
            return Ok(());
        }
        for affine in all.chain([&linear]) {
            if affine.range(extents).is_none_or(|(low, high)| low < -SAFE || high > SAFE) {
                return Err(AccessError::Overflow);
            }
        }
        // What a guard always forbids is never touched: padding alone, or a buffer without elements.
        let forbidden = |guard: &Guard| {
            let disjoint = |(low, high): (i64, i64)| high < 0 || (low >= 0 && low as u64 >= guard.extent);
            guard.extent == 0 || guard.expr.range(extents).is_some_and(disjoint)
        };
        if self.guards.iter().any(forbidden) {
            return Ok(());
        }
        for (coord, &dim) in self.coords.iter().zip(self.shape.dims()) {
            let (mut low, mut high) = coord.range(extents).ok_or(AccessError::Overflow)?;
            for guard in &self.guards {
                let Some(factor) = coord.multiple_of(&guard.expr) else { continue };
                // coord = factor · expr + difference, and the guard says 0 <= expr < extent.
                let extent = i64::try_from(guard.extent).map_err(|_| AccessError::Overflow)?.clamp(1, SAFE);
                let difference = coord.offset - factor * guard.expr.offset;
                let ends = [difference, difference + factor * (extent - 1)];
                low = low.max(ends[0].min(ends[1]));
                high = high.min(ends[0].max(ends[1]));
            }
            // An empty range (low above high) is never touched.
            if low <= high && (low < 0 || high >= dim as i64) {
                return Err(AccessError::OutOfBounds { coord: coord.to_string(), low, high, extent: dim });
            }
        }
        Ok(())
    }
}

/// Bound on every index expression, so that sums of a few of them cannot overflow `i64`, and generated code for
/// verified programs needs no wider arithmetic.
const SAFE: i64 = 1 << 40;

/// Why an access is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The view does not have the buffer's element count.
    #[error("a buffer of {elements} elements is addressed as {shape}")]
    Shape {
        /// The view.
        shape: Shape,
        /// The buffer's elements.
        elements: u64,
    },
    /// A list of the wrong length.
    #[error("an access has {coords} coordinates where {rank} are needed")]
    Rank {
        /// Found.
        coords: usize,
        /// Needed.
        rank: usize,
    },
    /// An index expression too large to compute with.
    #[error("an index expression overflows")]
    Overflow,
    /// An element outside the buffer.
    #[error("the coordinate {coord} runs from {low} to {high} over an extent of {extent}")]
    OutOfBounds {
        /// The expression.
        coord: String,
        /// Its least value.
        low: i64,
        /// Its greatest value.
        high: i64,
        /// What it must stay below.
        extent: u64,
    },
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.buffer)?;
        f.write_str("[")?;
        for (position, coord) in self.coords.iter().enumerate() {
            write!(f, "{}{coord}", if position > 0 { ", " } else { "" })?;
        }
        f.write_str("]")?;
        for (position, guard) in self.guards.iter().enumerate() {
            write!(f, "{} 0 <= {} < {}", if position > 0 { " and" } else { " if" }, guard.expr, guard.extent)?;
        }
        if !self.guards.is_empty() {
            write!(f, " else 0x{:08x}", self.fill)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(offset: i64, guarded: bool) -> Access {
        // x[i0*2 + i1 + offset] over a row of 8.
        let coord = Affine { offset, coefficients: vec![2, 1] };
        let guards = if guarded { vec![Guard { expr: coord.clone(), extent: 8 }] } else { vec![] };
        Access { buffer: BufferId(0), shape: Shape::from([8]), coords: vec![coord], guards, fill: 0 }
    }

    #[test]
    fn bounds_are_proved_or_refused() {
        assert_eq!(window(0, false).check(&[3, 4], 8), Ok(()));
        assert!(matches!(window(0, false).check(&[4, 3], 8), Err(AccessError::OutOfBounds { high: 8, .. })));
        assert!(matches!(window(-1, false).check(&[3, 3], 8), Err(AccessError::OutOfBounds { low: -1, .. })));
        assert_eq!(window(-1, true).check(&[4, 3], 8), Ok(()));
        assert!(matches!(window(0, true).check(&[3, 3], 9), Err(AccessError::Shape { .. })));
        let mut doubled = window(0, true);
        doubled.coords[0] = doubled.coords[0].scaled(2).shifted(1);
        assert!(doubled.check(&[4, 3], 8).is_err(), "2x + 1 reaches 15 for x < 8");
        doubled.guards[0].extent = 4;
        assert_eq!(doubled.check(&[4, 3], 8), Ok(()));
        let mut shifted = window(-1, true);
        shifted.guards[0].expr.offset = 0;
        assert!(shifted.check(&[4, 3], 8).is_err(), "a guard on something else does not help");
    }

    #[test]
    fn what_is_never_touched_is_in_bounds() {
        // Padding alone: no axis moves the coordinate, and its guard never holds.
        let mut padding = window(-1, true);
        padding.coords[0].coefficients = vec![0, 0];
        padding.guards[0].expr.coefficients = vec![0, 0];
        assert_eq!(padding.check(&[3, 3], 8), Ok(()));
        padding.guards.clear();
        assert!(padding.check(&[3, 3], 8).is_err());
        // A buffer without elements.
        let mut empty = window(-1, true);
        empty.shape = Shape::from([0]);
        empty.guards[0].extent = 0;
        assert_eq!(empty.check(&[3, 3], 0), Ok(()));
    }

    #[test]
    fn huge_expressions_are_refused() {
        let mut access = window(0, true);
        access.coords[0].coefficients = vec![i64::MAX, 1];
        access.guards[0].expr.coefficients = vec![i64::MAX, 1];
        assert_eq!(access.check(&[3, 3], 8), Err(AccessError::Overflow));
        access.coords[0] = Affine { offset: i64::MIN, coefficients: vec![0, 0] };
        assert_eq!(access.check(&[3, 3], 8), Err(AccessError::Overflow));
        let mut access = window(0, true);
        access.coords[0].coefficients = vec![i64::MAX, 1];
        assert_eq!(access.check(&[1, 3], 8), Err(AccessError::Overflow), "an axis of extent 1 does not hide it");
        assert_eq!(access.check(&[0, 3], 8), Err(AccessError::Overflow), "nor does an empty one");
        access.shape = Shape::from([1, 1 << 30]);
        access.coords = vec![Affine { offset: 0, coefficients: vec![1 << 39, 0] }, Affine::axis(1, 2)];
        access.guards = vec![Guard { expr: access.coords[0].clone(), extent: 1 }];
        assert_eq!(access.check(&[2, 3], 1 << 30), Err(AccessError::Overflow), "times its stride it is too large");
    }

    #[test]
    fn substitution_composes() {
        // i0 := j1, i1 := 3*j0 + 1
        let axes = [Affine::axis(1, 2), Affine { offset: 1, coefficients: vec![3, 0] }];
        let composed = window(-1, true).substitute(&axes, 2);
        assert_eq!(composed.to_string(), "b0[3*i0 + 2*i1] if 0 <= 3*i0 + 2*i1 < 8 else 0x00000000");
    }
}
