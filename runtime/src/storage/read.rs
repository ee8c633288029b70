//! Stored tensors, read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use loom_ir::limits;
use loom_ir::numerics::formats::{Number, Storage};
use loom_ir::numerics::stored::{Scales, View};
use loom_ir::types::{DType, Shape, ShapeLimit};
use serde::Deserialize;

use super::{Groups, PACKED, SCALE, ZERO_POINT};
use crate::tensors::{FileDType, StoredBits, StoredScales, Tensor, TensorFile, widen};

/// A file's tensors with their companions found.
#[derive(Debug)]
pub struct StoredFile<'a> {
    file: &'a TensorFile,
    tensors: BTreeMap<&'a str, Stored<'a>>,
}

/// A tensor in a file: its format, its bytes, and its scales where it is quantised.
#[derive(Debug, Clone)]
pub struct Stored<'a> {
    /// Its format; `None` for what holds no numbers of ours, such as `BOOL` or `C64`.
    pub storage: Option<Storage>,
    /// The type in the file's header.
    pub dtype: FileDType,
    /// The extents.
    pub shape: Shape,
    data: &'a [u8],
    scales: Option<(Shape, Scales<'a>)>,
}

/// What can be wrong with the companions of tensors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The metadata about packed tensors can't be read.
    #[error("{}: metadata `{PACKED}`: {reason}", path.display())]
    Packed {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// What the metadata says of a tensor is not what lies there.
    #[error("{}: metadata `{PACKED}`: `{tensor}` would be {dtype} {shape}, which is not the file's tensor", path.display())]
    PackedSize {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type according to the metadata.
        dtype: String,
        /// Its shape according to the metadata.
        shape: String,
    },
    /// A shape over the limits.
    #[error("{}: tensor `{tensor}`: {source}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The limit.
        source: ShapeLimit,
    },
    /// Scales or zero points of another type or shape than the tensor's.
    #[error("{}: `{companion}` {found} does not belong to `{tensor}`: {rule}", path.display())]
    Companion {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its companion.
        companion: String,
        /// The companion's type and shape, and the tensor's shape.
        found: String,
        /// What must hold.
        rule: &'static str,
    },
    /// A scale that is zero, negative, infinite or NaN.
    #[error("{}: `{companion}`: scale {index} is {value}: a scale is finite and more than 0", path.display())]
    Scale {
        /// The file.
        path: PathBuf,
        /// The tensor of scales.
        companion: String,
        /// Which.
        index: usize,
        /// It.
        value: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Packed {
    dtype: String,
    shape: Vec<u64>,
}

impl<'a> StoredFile<'a> {
    /// Finds each tensor's companions and checks that they belong to it.
    pub fn of(file: &'a TensorFile) -> Result<StoredFile<'a>, StorageError> {
        let mut packed = match file.metadata().get(PACKED) {
            Some(json) => serde_json::from_str::<BTreeMap<String, Packed>>(json)
                .map_err(|error| StorageError::Packed { path: file.path().to_path_buf(), reason: error.to_string() })?,
            None => BTreeMap::new(),
        };
        let mut tensors = BTreeMap::new();
        for (name, info) in file.tensors() {
            let (storage, shape) = match packed.remove(name) {
                Some(packed) => {
                    let (storage, shape) = unpacked(file, name, &packed)?;
                    (Some(storage), shape)
                }
                None => (info.dtype.storage(), info.shape.clone()),
            };
            let data = file.data(name).unwrap_or_default();
            tensors.insert(name, Stored { storage, dtype: info.dtype, shape, data, scales: None });
        }
        if let Some(name) = packed.into_keys().next() {
            let reason = format!("there is no tensor `{name}`");
            return Err(StorageError::Packed { path: file.path().to_path_buf(), reason });
        }
        let companions: Vec<&str> = tensors.keys().copied().filter(|name| name.ends_with(SCALE)).collect();
        for companion in companions {
            let owner = companion.strip_suffix(SCALE).unwrap_or(companion);
            let (Some(tensor), Some(scale)) = (tensors.get(owner), tensors.get(companion)) else { continue };
            if !tensor.storage.is_some_and(is_code) {
                continue;
            }
            let zero_point = tensors.get_key_value(format!("{owner}{ZERO_POINT}").as_str());
            let scales =
                scales(file, (owner, tensor), (companion, scale), zero_point.map(|(name, stored)| (*name, stored)))?;
            if zero_point.is_some() {
                let name = format!("{owner}{ZERO_POINT}");
                tensors.remove(name.as_str());
            }
            tensors.remove(companion);
            if let Some(tensor) = tensors.get_mut(owner) {
                tensor.scales = Some(scales);
            }
        }
        Ok(StoredFile { file, tensors })
    }

    /// All tensors as they are, of which none is a companion of another: those of an artifact.
    pub fn plain(file: &'a TensorFile) -> StoredFile<'a> {
        let tensors = file.tensors().map(|(name, info)| {
            let (storage, shape) = (info.dtype.storage(), info.shape.clone());
            let data = file.data(name).unwrap_or_default();
            (name, Stored { storage, dtype: info.dtype, shape, data, scales: None })
        });
        StoredFile { file, tensors: tensors.collect() }
    }

    /// The file.
    pub fn file(&self) -> &'a TensorFile {
        self.file
    }

    /// All tensors but the companions, by name.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = (&'a str, &Stored<'a>)> {
        self.tensors.iter().map(|(name, stored)| (*name, stored))
    }

    /// A tensor.
    pub fn get(&self, name: &str) -> Option<&Stored<'a>> {
        self.tensors.get(name)
    }

    /// A tensor as `f32`, where its numbers are exact or defined as such: [`Stored::is_f32`]. Its data stays where it lies, in
    /// the bits in which it is stored, but for what devices can't widen themselves ([`View::form`]).
    pub fn tensor_f32(&self, name: &str) -> Option<Tensor> {
        let stored = self.get(name).filter(|stored| stored.is_f32())?;
        if stored.storage == Some(Storage::F32) {
            return self.file.tensor(name).ok();
        }
        let Some(form) = stored.view()?.form() else {
            return Tensor::new(name, DType::F32, stored.shape.clone(), stored.to_f32()?);
        };
        let scales = match &stored.scales {
            None => None,
            Some((_, scales)) => Some(StoredScales {
                groups: scales.groups,
                scale: self.file.span(&format!("{name}{SCALE}"))?,
                zero_point: match scales.zero_point {
                    Some((storage, _)) => Some((storage, self.file.span(&format!("{name}{ZERO_POINT}"))?)),
                    None => None,
                },
            }),
        };
        let (data, count) = (self.file.span(name)?, stored.shape.elements() as usize);
        let bits = StoredBits { form, count, data, scales, widened: OnceLock::new() };
        Tensor::from_stored(name, stored.shape.clone(), bits)
    }
}

/// Whether elements of this format may be codes.
pub(super) fn is_code(storage: Storage) -> bool {
    storage.float().is_none() || storage.bits() <= 8
}

fn unpacked(file: &TensorFile, name: &str, packed: &Packed) -> Result<(Storage, Shape), StorageError> {
    let path = || file.path().to_path_buf();
    let shape = Shape::checked(packed.shape.clone()).map_err(|source| StorageError::Shape {
        path: path(),
        tensor: name.to_string(),
        source,
    })?;
    let storage = Storage::from_name(&packed.dtype).filter(|storage| storage.bits() == 4);
    let fits = |storage: &Storage| {
        let bytes = storage.bytes(shape.elements());
        file.info(name).is_some_and(|info| {
            info.dtype.storage() == Some(Storage::U8) && info.shape.rank() == 1 && Some(info.shape.elements()) == bytes
        })
    };
    match storage.filter(fits) {
        Some(storage) => Ok((storage, shape)),
        None => Err(StorageError::PackedSize {
            path: path(),
            tensor: name.to_string(),
            dtype: packed.dtype.clone(),
            shape: shape.to_string(),
        }),
    }
}

fn scales<'a>(
    file: &TensorFile,
    (owner, tensor): (&str, &Stored<'a>),
    (companion, scale): (&str, &Stored<'a>),
    zero_point: Option<(&str, &Stored<'a>)>,
) -> Result<(Shape, Scales<'a>), StorageError> {
    let wrong = |name: &str, stored: &Stored<'_>, rule| StorageError::Companion {
        path: file.path().to_path_buf(),
        tensor: owner.to_string(),
        companion: name.to_string(),
        found: format!("{} {} beside {}", stored.dtype, stored.shape, tensor.shape),
        rule,
    };
    if scale.storage != Some(Storage::F32) {
        return Err(wrong(companion, scale, "scales are f32"));
    }
    let rule =
        "a scale is of all elements, [], of each index of the first axis, [C], or of equal runs of these, [C, G]";
    let groups = Groups::of_scales(&tensor.shape, &scale.shape).ok_or_else(|| wrong(companion, scale, rule))?;
    for index in 0..scale.shape.elements() as usize {
        let value = f32::from_bits(Storage::F32.read(scale.data, index) as u32);
        if !(value > 0.0 && value.is_finite()) {
            let (path, companion) = (file.path().to_path_buf(), companion.to_string());
            return Err(StorageError::Scale { path, companion, index, value: value.to_string() });
        }
    }
    let zero_point = match zero_point {
        Some((name, points)) => {
            let integers = points.storage.filter(|storage| storage.float().is_none());
            let storage = integers.ok_or_else(|| wrong(name, points, "zero points are integers"))?;
            if points.shape != scale.shape {
                return Err(wrong(name, points, "there is one zero point for each scale"));
            }
            Some((storage, points.data))
        }
        None => None,
    };
    Ok((scale.shape.clone(), Scales { groups, scale: scale.data, zero_point }))
}

impl<'a> Stored<'a> {
    /// Whether it has scales.
    pub fn is_quantised(&self) -> bool {
        self.scales.is_some()
    }

    /// The shape of its scales.
    pub fn scale_shape(&self) -> Option<&Shape> {
        self.scales.as_ref().map(|(shape, _)| shape)
    }

    /// The scale of an element's group, where codes have no zero point.
    pub fn symmetric_scale(&self, index: usize) -> Option<f32> {
        let (_, scales) = self.scales.as_ref().filter(|(_, scales)| scales.zero_point.is_none())?;
        Some(f32::from_bits(Storage::F32.read(scales.scale, scales.groups.of_element(index)) as u32))
    }

    /// Whether two elements share a byte, of a type that only the metadata knows.
    pub(super) fn is_packed(&self) -> bool {
        self.storage.is_some() && self.storage != self.dtype.storage()
    }

    /// The bytes of its elements.
    pub(super) fn data(&self) -> &[u8] {
        self.data
    }

    /// Its companions: the end of the name, type, shape, bytes.
    pub(super) fn companions(&self) -> impl Iterator<Item = (&'static str, FileDType, &Shape, &[u8])> {
        self.scales.iter().flat_map(|(shape, scales)| {
            let typed = |storage| FileDType::of_storage(storage).unwrap_or(FileDType::BYTES);
            let scale = (SCALE, typed(Storage::F32), shape, scales.scale);
            let points = scales.zero_point.map(|(storage, data)| (ZERO_POINT, typed(storage), shape, data));
            [Some(scale), points].into_iter().flatten()
        })
    }

    /// What it stores, if that is numbers.
    pub(super) fn view(&self) -> Option<View<'a>> {
        let scales = self.scales.as_ref().map(|(_, scales)| *scales);
        self.storage.map(|storage| View { storage, data: self.data, scales })
    }

    /// Bytes that it takes in the file, companions included.
    pub fn bytes(&self) -> u64 {
        self.view().map_or(self.data.len() as u64, |view| view.bytes())
    }

    /// Whether its numbers are `f32`s: floats of at most 32 bits, exactly, or codes with a scale, as defined.
    pub fn is_f32(&self) -> bool {
        self.is_quantised() || self.storage.is_some_and(|storage| storage.float().is_some() && storage.bits() <= 32)
    }

    /// The bits of an element as they lie in the file.
    pub fn code(&self, index: usize) -> u64 {
        self.view().map_or(0, |view| view.code(index))
    }

    /// The number that an element stands for; of a tensor that holds no numbers 0.
    pub fn number(&self, index: usize) -> Number {
        self.view().map_or(Number::Float(0.0), |view| view.number(index))
    }

    /// The bits of all elements as `f32`, if they are such numbers.
    pub fn to_f32(&self) -> Option<Vec<u32>> {
        if !self.is_f32() || self.shape.elements() > limits::MAX_ELEMENTS {
            return None;
        }
        widen(&self.view()?, self.shape.elements() as usize)
    }
}
