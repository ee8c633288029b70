//! Tensors as they are stored: any number format, whole or by scale, read as the numbers that they stand for.
//!
//! A tensor `T` may have two companions in its file. `T.scale` (`F32`) makes it quantised: its elements are codes, and of
//! each group of them one scale says what they stand for ([`loom_ir::numerics::quantise`]). `T.zero_point`, integers of the
//! same shape as the scale, is the code of zero; left out, it's 0. The scale's shape says what a group is: `[]` all elements,
//! `[C]` each index of the first axis, `[C, G]` G equal runs of the elements of each index of the first axis (the last one
//! shorter).
//!
//! The format has no name for two elements in a byte but F4, and none for an odd number of these. So such tensors are `U8`
//! and one-dimensional, and the file's metadata has, under [`PACKED`], a JSON object that gives each its type and shape:
//! `{"T": {"dtype": "i4", "shape": [10, 785]}}`.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod convert;
mod read;

pub use convert::{Conversion, ConvertError, Converted, Granularity, convert, convert_in_memory, name_fits};
pub use loom_ir::numerics::groups::Groups;
pub use read::{StorageError, Stored, StoredFile};

/// The key of the metadata that describes packed tensors.
pub const PACKED: &str = "loom.packed";
pub use loom_ir::numerics::quantise::SCALE;
/// The end of the name of a tensor of zero points.
pub const ZERO_POINT: &str = ".zero_point";
