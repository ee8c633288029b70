//! Element types and shapes, shared by every level.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits;

/// The type of a value.
///
/// Tensors have the types of [`DType::ALL`], those of 32 bits; those of 64 bits are of scalar functions alone so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// Two's complement, 32 bits, wrapping.
    I32,
    /// Unsigned, 32 bits, wrapping.
    U32,
    /// `false` or `true`; stored as the `u32` 0 or 1 in a program's buffers.
    Bool,
    /// IEEE 754 binary64.
    F64,
    /// Two's complement, 64 bits, wrapping.
    I64,
    /// Unsigned, 64 bits, wrapping.
    U64,
}

impl DType {
    /// Every type of a tensor's elements, in declaration order.
    pub const ALL: [DType; 4] = [DType::F32, DType::I32, DType::U32, DType::Bool];

    /// Every type of a scalar.
    pub const SCALARS: [DType; 7] =
        [DType::F32, DType::I32, DType::U32, DType::Bool, DType::F64, DType::I64, DType::U64];

    /// Bytes of one element in a program's buffers.
    pub const fn size(self) -> u64 {
        if self.is_wide() { 8 } else { 4 }
    }

    /// Whether it has 64 bits.
    pub const fn is_wide(self) -> bool {
        matches!(self, DType::F64 | DType::I64 | DType::U64)
    }

    /// Whether it is a float.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F64)
    }

    /// Whether it is an integer; a bool is none.
    pub const fn is_integer(self) -> bool {
        matches!(self, DType::I32 | DType::U32 | DType::I64 | DType::U64)
    }

    /// Whether it is an integer with a sign.
    pub const fn is_signed(self) -> bool {
        matches!(self, DType::I32 | DType::I64)
    }

    /// The name in graph text, artifacts and messages.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::I32 => "i32",
            DType::U32 => "u32",
            DType::Bool => "bool",
            DType::F64 => "f64",
            DType::I64 => "i64",
            DType::U64 => "u64",
        }
    }

    /// The tensor's type with this [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<DType> {
        DType::ALL.into_iter().find(|dtype| dtype.name() == name)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The extents of a tensor's axes, outermost first; row-major. Rank 0 is a scalar.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shape(Vec<u64>);

impl Shape {
    /// A shape from its extents. Nothing is checked here: see [`Shape::checked`].
    pub fn new(dims: impl Into<Vec<u64>>) -> Shape {
        Shape(dims.into())
    }

    /// A shape whose rank and element count are within [`limits`].
    pub fn checked(dims: impl Into<Vec<u64>>) -> Result<Shape, ShapeLimit> {
        let shape = Shape(dims.into());
        if shape.rank() > limits::MAX_RANK {
            return Err(ShapeLimit::Rank(shape.rank()));
        }
        match shape.checked_elements() {
            Some(_) => Ok(shape),
            None => Err(ShapeLimit::Elements(shape)),
        }
    }

    /// The extents, outermost first.
    pub fn dims(&self) -> &[u64] {
        &self.0
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The product of the extents, or `None` where it reaches [`limits::MAX_ELEMENTS`]. Where an extent is 0 the product of
    /// the others must stay below the limit all the same, so that strides and parts of the product do.
    pub fn checked_elements(&self) -> Option<u64> {
        let product = self.0.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim.max(1)))?;
        (product < limits::MAX_ELEMENTS).then(|| self.elements())
    }

    /// The product of the extents of a shape that was [`checked`](Self::checked).
    pub fn elements(&self) -> u64 {
        if self.0.contains(&0) { 0 } else { self.0.iter().product() }
    }

    /// Row-major strides in elements: the last axis has stride 1.
    pub fn strides(&self) -> Vec<u64> {
        let mut strides = vec![1u64; self.rank()];
        for axis in (1..self.rank()).rev() {
            // Only a tensor without elements can have extents whose product overflows; it has no element to stride to.
            strides[axis - 1] = strides[axis].saturating_mul(self.0[axis]);
        }
        strides
    }
}

impl From<Vec<u64>> for Shape {
    fn from(dims: Vec<u64>) -> Shape {
        Shape(dims)
    }
}

impl<const N: usize> From<[u64; N]> for Shape {
    fn from(dims: [u64; N]) -> Shape {
        Shape(dims.to_vec())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (axis, dim) in self.0.iter().enumerate() {
            if axis > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{dim}")?;
        }
        f.write_str("]")
    }
}

/// Why a shape is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeLimit {
    /// More than [`limits::MAX_RANK`] axes.
    #[error("a tensor has at most {max} axes, this one has {0}", max = limits::MAX_RANK)]
    Rank(usize),
    /// [`limits::MAX_ELEMENTS`] elements or more, extents of 0 left out.
    #[error("a tensor has fewer than 2^31 elements, {0} has more")]
    Elements(Shape),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn element_limit_is_exact() {
        assert_eq!(Shape::from([limits::MAX_ELEMENTS - 1]).checked_elements(), Some(limits::MAX_ELEMENTS - 1));
        assert_eq!(Shape::from([limits::MAX_ELEMENTS]).checked_elements(), None);
        assert_eq!(Shape::from([u64::MAX, u64::MAX]).checked_elements(), None);
        assert_eq!(Shape::from([u64::MAX, u64::MAX, 0]).checked_elements(), None);
        assert_eq!(Shape::from([limits::MAX_ELEMENTS - 1, 0]).checked_elements(), Some(0));
        assert_eq!(Shape::from([]).checked_elements(), Some(1));
        assert_eq!(Shape::from([u64::MAX, u64::MAX, 0]).elements(), 0);
        assert_eq!(Shape::from([0, u64::MAX, u64::MAX]).strides(), [u64::MAX, u64::MAX, 1]);
    }

    #[test]
    fn rank_limit_is_exact() {
        assert!(Shape::checked(vec![1; limits::MAX_RANK]).is_ok());
        assert_eq!(Shape::checked(vec![1; limits::MAX_RANK + 1]), Err(ShapeLimit::Rank(limits::MAX_RANK + 1)));
    }

    #[test]
    fn strides_are_row_major() {
        assert_eq!(Shape::from([2, 3, 4]).strides(), vec![12, 4, 1]);
        assert_eq!(Shape::from([]).strides(), Vec::<u64>::new());
    }
}
