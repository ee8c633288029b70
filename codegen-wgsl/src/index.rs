//! Index arithmetic: affine expressions, guards, and flat indices taken apart.
//!
//! All of it is `u32` and wraps. An element's place is less than 2^31 where its guards hold, so its value modulo 2^32
//! is its value, however large the parts were on the way. A guard's expression is not bounded so, and is checked to
//! fit before it is compared modulo 2^32.

use std::collections::BTreeSet;

use loom_ir::kernel::{Access, Affine, Guard};

use crate::error::Error;
use crate::text::Text;

/// An affine expression modulo 2^32 over the axes that move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    offset: u32,
    /// Axis and coefficient, by axis; none is zero.
    terms: Vec<(usize, u32)>,
}

impl Place {
    fn new(offset: u32, coefficients: &[u32]) -> Place {
        let terms = coefficients.iter().copied().enumerate().filter(|&(_, coefficient)| coefficient != 0).collect();
        Place { offset, terms }
    }

    /// The element's position in its buffer.
    pub fn of(access: &Access, extents: &[u64]) -> Place {
        let mut offset = 0u32;
        let mut coefficients = vec![0u32; extents.len()];
        for (coord, stride) in access.coords.iter().zip(access.shape.strides()) {
            let stride = stride as u32;
            let part = Place::of_affine(coord, extents);
            offset = offset.wrapping_add(part.offset.wrapping_mul(stride));
            for (axis, coefficient) in part.terms {
                coefficients[axis] = coefficients[axis].wrapping_add(coefficient.wrapping_mul(stride));
            }
        }
        Place::new(offset, &coefficients)
    }

    /// The expression over the axes of more than one index: the others are zero.
    fn of_affine(affine: &Affine, extents: &[u64]) -> Place {
        let moving = affine.coefficients.iter().zip(extents);
        let coefficients: Vec<u32> =
            moving.map(|(&coefficient, &extent)| if extent > 1 { coefficient as u32 } else { 0 }).collect();
        Place::new(affine.offset as u32, &coefficients)
    }

    /// The axes it depends on.
    pub fn axes(&self) -> impl Iterator<Item = usize> + '_ {
        self.terms.iter().map(|&(axis, _)| axis)
    }

    /// The value where all axes are 0.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// The coefficient of an axis.
    pub fn coefficient(&self, axis: usize) -> u32 {
        self.terms.iter().find(|&&(term, _)| term == axis).map_or(0, |&(_, coefficient)| coefficient)
    }

    /// The expression, over variables `i0`, `i1`, …
    pub fn text(&self) -> String {
        // Additions first, so that the text need not begin with a minus.
        let (plus, minus): (Vec<_>, Vec<_>) =
            self.terms.iter().partition(|&&(_, coefficient)| coefficient <= i32::MAX as u32);
        let term = |axis: usize, coefficient: u32| match coefficient {
            1 => format!("i{axis}"),
            _ => format!("{coefficient}u * i{axis}"),
        };
        let mut text: Vec<String> = plus.into_iter().map(|&(axis, coefficient)| term(axis, coefficient)).collect();
        let negative_offset = self.offset > i32::MAX as u32 && !text.is_empty();
        if text.is_empty() || (self.offset != 0 && !negative_offset) {
            text.push(format!("{}u", self.offset));
        }
        let mut text = text.join(" + ");
        for &(axis, coefficient) in minus {
            text.push_str(&format!(" - {}", term(axis, coefficient.wrapping_neg())));
        }
        if negative_offset {
            text.push_str(&format!(" - {}u", self.offset.wrapping_neg()));
        }
        text
    }
}

/// What guards come to over a kernel's axes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Guarded {
    /// They always hold.
    Always,
    /// They never all hold.
    Never,
    /// They hold where all of these do: expression and exclusive bound.
    Where(Vec<(Place, u32)>),
}

impl Guarded {
    /// The guards of an access, those that always hold left out.
    pub fn of(kernel: &str, access: &Access, extents: &[u64]) -> Result<Guarded, Error> {
        let mut checks = Vec::new();
        for guard in &access.guards {
            let wide = || Error::IndexRange { kernel: kernel.to_string(), expression: guard.expr.to_string() };
            let (low, high) = range(guard, extents).ok_or_else(wide)?;
            let extent = i128::from(guard.extent);
            if high < 0 || low >= extent {
                return Ok(Guarded::Never);
            }
            if low >= 0 && high < extent {
                continue;
            }
            // Modulo 2^32 a negative value must land at or above the bound, a large one stay what it is.
            let bound = extent.min(high + 1);
            if high >= 1 << 32 || low + (1 << 32) < bound {
                return Err(wide());
            }
            let bound = u32::try_from(bound).map_err(|_| wide())?;
            let check = (Place::of_affine(&guard.expr, extents), bound);
            if !checks.contains(&check) {
                checks.push(check);
            }
        }
        Ok(if checks.is_empty() { Guarded::Always } else { Guarded::Where(checks) })
    }

    /// The axes it depends on.
    pub fn axes(&self) -> impl Iterator<Item = usize> + '_ {
        let checks = match self {
            Guarded::Where(checks) => checks.as_slice(),
            _ => &[],
        };
        checks.iter().flat_map(|(place, _)| place.axes())
    }
}

/// Least and greatest value of a guard's expression; an axis of extent 0 or 1 stands at 0.
fn range(guard: &Guard, extents: &[u64]) -> Option<(i128, i128)> {
    let (mut low, mut high) = (i128::from(guard.expr.offset), i128::from(guard.expr.offset));
    for (&coefficient, &extent) in guard.expr.coefficients.iter().zip(extents) {
        let reach = i128::from(coefficient).checked_mul(i128::from(extent.saturating_sub(1)))?;
        if reach < 0 {
            low = low.checked_add(reach)?;
        } else {
            high = high.checked_add(reach)?;
        }
    }
    Some((low, high))
}

/// Declares `i{axis}` for the axes of `range` from their row-major number, the variable `flat`. Axes of one index are
/// always 0 and never mentioned; those not in `used` are not declared.
pub(crate) fn unflatten(
    text: &mut Text,
    flat: &str,
    extents: &[u64],
    range: std::ops::Range<usize>,
    used: &BTreeSet<usize>,
) {
    let axes: Vec<usize> = range.filter(|&axis| extents[axis] > 1).collect();
    let mut rest = flat.to_string();
    for (position, &axis) in axes.iter().enumerate().rev() {
        let extent = extents[axis];
        let outermost = position == 0;
        if used.contains(&axis) {
            text.line(if outermost {
                format!("let i{axis} = {rest};")
            } else {
                format!("let i{axis} = {rest} % {extent}u;")
            });
        }
        if !axes[..position].iter().any(|axis| used.contains(axis)) {
            break;
        }
        let next = format!("{flat}_{axis}");
        text.line(format!("let {next} = {rest} / {extent}u;"));
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use loom_ir::kernel::BufferId;
    use loom_ir::types::Shape;

    use super::*;

    fn access(offset: i64, coefficients: Vec<i64>, extent: u64) -> Access {
        let coord = Affine { offset, coefficients };
        Access {
            buffer: BufferId(0),
            shape: Shape::from([extent]),
            coords: vec![coord.clone()],
            guards: vec![Guard { expr: coord, extent }],
            fill: 0,
        }
    }

    #[test]
    fn places_wrap_and_read_well() {
        assert_eq!(Place::of(&access(-3, vec![-2, 5, 1], 9), &[4, 4, 1]).text(), "5u * i1 - 2u * i0 - 3u");
        assert_eq!(Place::of(&access(-3, vec![-2], 9), &[4]).text(), "4294967293u - 2u * i0");
        assert_eq!(Place::of(&access(7, vec![], 9), &[]).text(), "7u");
        // The coefficient of an axis that doesn't move may be anything.
        assert_eq!(Place::of(&access(0, vec![i64::MAX, 1], 9), &[1, 9]).text(), "i1");
    }

    #[test]
    fn guards_are_decided_where_they_can_be() {
        let guarded =
            |offset, coefficient, extent, axis| Guarded::of("k", &access(offset, vec![coefficient], extent), &[axis]);
        assert_eq!(guarded(0, 1, 9, 9), Ok(Guarded::Always));
        assert_eq!(guarded(9, 1, 9, 9), Ok(Guarded::Never));
        assert_eq!(guarded(-9, 1, 9, 9), Ok(Guarded::Never));
        assert!(matches!(guarded(-1, 1, 9, 9), Ok(Guarded::Where(_))));
        assert!(matches!(guarded(-(1 << 32), 1 << 31, 9, 9), Err(Error::IndexRange { .. })));
    }

    #[test]
    fn flat_indices_come_apart() {
        let mut text = Text::default();
        unflatten(&mut text, "n", &[4, 1, 5, 6], 0..4, &BTreeSet::from([0, 3]));
        assert_eq!(text.finish(), "let i3 = n % 6u;\nlet n_3 = n / 6u;\nlet n_2 = n_3 / 5u;\nlet i0 = n_2;\n");
    }
}
