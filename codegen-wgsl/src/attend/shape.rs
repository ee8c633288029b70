//! How a workgroup divides an attention.

use loom_ir::types::DType;

use super::KEYS;
use crate::reduce::LANES;
use crate::target::{Arithmetic, Class, Target};

/// Terms of a vector of keys.
pub(super) const VECTOR: u32 = 4;
/// Columns of an invocation, at most.
pub(super) const COLUMNS: u64 = 4;

/// The sizes of an attention that its shape hangs on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub rows: u64,
    pub columns: u64,
    pub keys: u64,
    pub inner: u64,
}

impl Sizes {
    /// Columns of an invocation, in as many goes through the keys as there must be.
    pub fn own_columns(&self) -> u64 {
        self.columns.div_ceil(KEYS).min(COLUMNS)
    }
}

/// How a workgroup divides its tile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Rows of an invocation.
    pub own: u32,
    /// Invocations side by side in rows.
    pub groups: u32,
    /// Terms of the scores' products at a time.
    pub step: u32,
    /// Blocks of keys whose scores stay in workgroup memory: all of them, or none.
    pub kept: u32,
    /// Columns of each invocation whose values are brought to workgroup memory: all of them, or none.
    pub staged: u32,
}

impl Shape {
    /// Rows of the workgroup.
    pub fn rows(self) -> u32 {
        self.own * self.groups
    }

    /// Invocations of the workgroup.
    pub fn invocations(self) -> u32 {
        self.groups * LANES
    }

    /// Bytes of workgroup memory.
    pub fn storage(self) -> u32 {
        let vectors = self.own * (self.step + LANES) * self.stride();
        let keys = LANES * (self.step + VECTOR);
        4 * (vectors + keys + self.kept * self.own * self.invocations() + LANES * self.width())
    }

    /// Values of a key in workgroup memory.
    pub fn width(self) -> u32 {
        LANES * self.staged
    }

    /// From one term or key to the next among vectors of rows. One is left free: neighbours then lie in different banks.
    pub fn stride(self) -> u32 {
        self.groups + 1
    }

    /// From one key to the next among vectors of terms.
    pub fn key_stride(self) -> u32 {
        self.step / VECTOR + 1
    }

    /// The type of a number for each of an invocation's rows.
    pub fn vector(self, dtype: DType) -> String {
        if self.own == 1 { dtype.to_string() } else { format!("vec{}<{dtype}>", self.own) }
    }

    /// The number of one of the rows in a vector of them.
    pub fn part(self, vector: &str, row: u32) -> String {
        if self.own == 1 { vector.to_string() } else { format!("{vector}[{row}]") }
    }

    /// The vector of what the rows have.
    pub fn gathered(self, dtype: DType, of_row: impl Fn(u32) -> String) -> String {
        let rows: Vec<String> = (0..self.own).map(of_row).collect();
        format!("{}({})", self.vector(dtype), rows.join(", "))
    }

    /// The largest shape that the device has room for. Scores stay where they are, and values come to workgroup memory, if
    /// that takes no more than half of the rows.
    pub fn choose(sizes: Sizes, target: &Target) -> Shape {
        let blocks = u32::try_from(sizes.keys.div_ceil(KEYS)).unwrap_or(u32::MAX);
        let columns = sizes.own_columns() as u32;
        let plain = Shape::largest(sizes, 0, 0, target);
        // A group alone would read values as often as it wrote them.
        let choices = if plain.groups > 1 { [(blocks, columns), (0, columns)] } else { [(blocks, 0), (0, 0)] };
        let shapes = choices.into_iter().map(|(kept, staged)| Shape::largest(sizes, kept, staged, target));
        shapes.into_iter().find(|shape| shape.fits(target) && 2 * shape.groups >= plain.groups).unwrap_or(plain)
    }

    fn fits(self, target: &Target) -> bool {
        let invocations = self.invocations() <= target.limits.invocations_per_workgroup;
        // A block has some bytes of every row: more of them than this overflow no number here.
        let few = self.kept <= target.limits.workgroup_storage / 256;
        few && invocations && self.storage() <= target.limits.workgroup_storage
    }

    /// The largest shape that the device has room for, or the least of all. Rows side by side share the keys that are brought
    /// to workgroup memory; a step that has all of a product brings the queries there once.
    fn largest(sizes: Sizes, kept: u32, staged: u32, target: &Target) -> Shape {
        // Of a CPU that plays a GPU few invocations wait for each other. A GPU with its own memory waits less for it the more
        // of them there are.
        let (own, most) = match target.class {
            _ if target.arithmetic == Arithmetic::Soft => (1, if target.class == Class::Software { 1 } else { 8 }),
            Class::Software => (4, 1),
            Class::Integrated => (4, 4),
            Class::Discrete if target.limits.invocations_per_workgroup < 16 * LANES => (4, 8),
            Class::Discrete => (2, 16),
        };
        let groups = sizes.rows.div_ceil(own.into()).next_power_of_two().min(most) as u32;
        let step = sizes.inner.next_power_of_two().clamp(VECTOR.into(), 64) as u32;
        let mut shape = Shape { own, groups, step, kept, staged };
        while !shape.fits(target) && (shape.groups > 1 || shape.step > VECTOR) {
            let halve_step = shape.step > 2 * VECTOR && shape.groups <= 4 || shape.groups == 1;
            if halve_step {
                shape.step /= 2;
            } else {
                shape.groups /= 2;
            }
        }
        shape
    }
}
