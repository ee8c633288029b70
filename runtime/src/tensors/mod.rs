//! Tensors and the safetensors files that they come from and go to.
//!
//! Files are untrusted: every size is checked, with checked arithmetic, before it is used, and no content of a file makes
//! this module panic. Data is mapped, not read; it is copied only where it does not lie at a multiple of 4 bytes, or where somebody
//! asks for the `f32`s of what is stored in fewer bits.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use loom_ir::numerics::stored::{Form, View};
use loom_ir::types::{DType, Shape};

mod error;
mod file;
mod header;
mod index;
mod mmap;
mod stored;
mod write;

pub use error::TensorError;
pub use file::TensorFile;
pub use header::{FileDType, TensorInfo};
pub use index::{is_index, parse as parse_index, shards};
pub use mmap::FileBytes;
pub(crate) use stored::{StoredBits, StoredScales, widen};
pub use write::{Entry, Part, container, remove_partial_files, stream, write_atomically, write_tensors};

#[cfg(target_endian = "big")]
compile_error!("safetensors data is little-endian and is used where it lies; big-endian hosts are not supported");

/// A named tensor: the bits of its elements in row-major order, 32 bits an element. A bool is the `u32` 0 or 1.
#[derive(Clone)]
pub struct Tensor {
    name: String,
    dtype: DType,
    shape: Shape,
    bits: Bits,
}

#[derive(Clone)]
enum Bits {
    Owned(Arc<Vec<u32>>),
    /// Checked when made: in bounds, aligned, and a multiple of 4 bytes long.
    Mapped(Arc<FileBytes>, Range<usize>),
    /// In their file, in fewer bits.
    Stored(Arc<StoredBits>),
}

impl Tensor {
    /// A tensor in memory. `None` unless there is one element for each index of a legal shape.
    pub fn new(name: impl Into<String>, dtype: DType, shape: Shape, bits: Vec<u32>) -> Option<Tensor> {
        let fits = shape.checked_elements() == Some(bits.len() as u64);
        fits.then(|| Tensor { name: name.into(), dtype, shape, bits: Bits::Owned(Arc::new(bits)) })
    }

    /// A tensor of `f32`. `None` unless there is one element for each index of a legal shape.
    pub fn from_f32(name: impl Into<String>, shape: Shape, values: &[f32]) -> Option<Tensor> {
        let bits: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
        Tensor::new(name, DType::F32, shape, bits)
    }

    /// A tensor of `f32` that stays as it is stored. `None` unless there are as many elements as the shape has.
    pub(crate) fn from_stored(name: &str, shape: Shape, bits: StoredBits) -> Option<Tensor> {
        let fits = shape.checked_elements() == Some(bits.count as u64);
        fits.then(|| Tensor { name: name.to_string(), dtype: DType::F32, shape, bits: Bits::Stored(Arc::new(bits)) })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The extents.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The bits of the elements. Of a tensor that is [stored](Tensor::stored) in fewer bits they are made, and kept, by the
    /// first call; where there's no memory for them there are none.
    pub fn bits(&self) -> &[u32] {
        match &self.bits {
            Bits::Owned(bits) => bits,
            // Neither fallback can happen: `from_map` looked.
            Bits::Mapped(map, range) => {
                map.get(range.clone()).and_then(|bytes| bytemuck::try_cast_slice(bytes).ok()).unwrap_or(&[])
            }
            Bits::Stored(stored) => stored.bits(),
        }
    }

    /// What is stored of a tensor that lies in its file in fewer bits, and its form.
    pub fn stored(&self) -> Option<(View<'_>, Form)> {
        match &self.bits {
            Bits::Stored(stored) => Some((stored.view(), stored.form)),
            Bits::Owned(_) | Bits::Mapped(..) => None,
        }
    }

    /// The elements, if they are `f32`.
    pub fn as_f32(&self) -> Option<&[f32]> {
        (self.dtype == DType::F32).then(|| bytemuck::cast_slice(self.bits()))
    }

    /// The same tensor under another name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Tensor {
        self.name = name.into();
        self
    }

    /// Whether the elements still lie in their file.
    pub fn is_mapped(&self) -> bool {
        matches!(self.bits, Bits::Mapped(..) | Bits::Stored(_))
    }

    /// The elements won't be read soon: of a mapped tensor, memory is given back.
    pub(crate) fn release(&self) {
        match &self.bits {
            Bits::Owned(_) => {}
            Bits::Mapped(map, range) => map.release(range.clone()),
            Bits::Stored(stored) => stored.data.file.release(stored.data.range.clone()),
        }
    }

    /// Elements of 4 bytes where they lie, or copied if they lie askew. `None` if the range isn't `shape`'s bytes.
    fn from_map(name: &str, dtype: DType, shape: Shape, map: &Arc<FileBytes>, range: Range<usize>) -> Option<Tensor> {
        let bytes = map.get(range.clone())?;
        if shape.checked_elements()?.checked_mul(4)? != bytes.len() as u64 {
            return None;
        }
        let bits = match bytemuck::try_cast_slice::<u8, u32>(bytes) {
            Ok(_) => Bits::Mapped(Arc::clone(map), range),
            Err(_) => Bits::Owned(Arc::new(bytes.as_chunks().0.iter().map(|&word| u32::from_le_bytes(word)).collect())),
        };
        Some(Tensor { name: name.to_string(), dtype, shape, bits })
    }
}

impl PartialEq for Tensor {
    fn eq(&self, other: &Tensor) -> bool {
        self.name == other.name && self.dtype == other.dtype && self.shape == other.shape && self.bits() == other.bits()
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({:?} {}{}", self.name, self.dtype, self.shape)?;
        f.write_str(if self.is_mapped() { ", mapped)" } else { ")" })
    }
}

/// Reads one tensor of a file.
pub fn read_tensor(path: &Path, name: &str) -> Result<Tensor, TensorError> {
    TensorFile::open(path)?.tensor(name)
}
