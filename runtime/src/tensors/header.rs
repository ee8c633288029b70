//! The JSON header of a safetensors file.
//!
//! The format: 8 bytes of length, little-endian; as many bytes of JSON, an object that gives each tensor's type, shape
//! and place, and strings about the file under `__metadata__`; then the tensors' data, in the order of their places,
//! without holes. The header is read here rather than by the `safetensors` crate, which adds up the places of a lying
//! file without looking for overflow, and lets a name stand twice. The crate is what the tests compare with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::path::Path;

use loom_ir::limits;
use loom_ir::numerics::formats::Storage;
use loom_ir::types::{DType, Shape};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::error::TensorError;

/// The key of the strings about the file.
pub(super) const METADATA: &str = "__metadata__";

/// An element type of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileDType {
    name: &'static str,
    bits: u64,
}

/// Every type of the format, by name, with the bits of an element.
const DTYPES: [FileDType; 22] = {
    const fn of(name: &'static str, bits: u64) -> FileDType {
        FileDType { name, bits }
    }
    [
        of("BOOL", 8),
        of("F4", 4),
        of("F6_E2M3", 6),
        of("F6_E3M2", 6),
        of("U8", 8),
        of("I8", 8),
        of("F8_E5M2", 8),
        of("F8_E4M3", 8),
        of("F8_E8M0", 8),
        of("F8_E4M3FNUZ", 8),
        of("F8_E5M2FNUZ", 8),
        of("I16", 16),
        of("U16", 16),
        of("F16", 16),
        of("BF16", 16),
        of("I32", 32),
        of("U32", 32),
        of("F32", 32),
        of("C64", 64),
        of("F64", 64),
        of("I64", 64),
        of("U64", 64),
    ]
};

impl FileDType {
    /// `U8`: for what the format has no type for.
    pub const BYTES: FileDType = FileDType { name: "U8", bits: 8 };

    /// The type of this name.
    pub fn from_name(name: &str) -> Option<FileDType> {
        DTYPES.into_iter().find(|dtype| dtype.name == name)
    }

    /// The name in files.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// The same type in programs, if this release computes with it.
    pub fn dtype(self) -> Option<DType> {
        DType::ALL.into_iter().find(|dtype| FileDType::of(*dtype) == self)
    }

    /// How a type of programs is stored.
    pub const fn of(dtype: DType) -> FileDType {
        match dtype {
            DType::F32 => FileDType { name: "F32", bits: 32 },
            DType::I32 => FileDType { name: "I32", bits: 32 },
            DType::U32 => FileDType { name: "U32", bits: 32 },
            DType::Bool => FileDType { name: "BOOL", bits: 8 },
            DType::F64 => FileDType { name: "F64", bits: 64 },
            DType::I64 => FileDType { name: "I64", bits: 64 },
            DType::U64 => FileDType { name: "U64", bits: 64 },
        }
    }

    /// The number format of its elements, if it is one of ours.
    pub fn storage(self) -> Option<Storage> {
        Storage::ALL.into_iter().find(|storage| FileDType::of_storage(*storage) == Some(self))
    }

    /// How a number format is called in files; `None` for one that they don't have.
    pub fn of_storage(storage: Storage) -> Option<FileDType> {
        FileDType::from_name(match storage {
            Storage::F64 => "F64",
            Storage::F32 => "F32",
            Storage::F16 => "F16",
            Storage::Bf16 => "BF16",
            Storage::F8 => "F8_E4M3",
            Storage::F4 => "F4",
            Storage::I64 => "I64",
            Storage::I32 => "I32",
            Storage::I16 => "I16",
            Storage::I8 => "I8",
            Storage::I4 => return None,
            Storage::U64 => "U64",
            Storage::U32 => "U32",
            Storage::U16 => "U16",
            Storage::U8 => "U8",
        })
    }

    /// Bytes of so many elements; `None` if they overflow or do not fill a byte.
    pub fn bytes(self, elements: u64) -> Option<u64> {
        let bits = elements.checked_mul(self.bits)?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }
}

impl fmt::Display for FileDType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dtype() {
            Some(dtype) => dtype.fmt(f),
            None => f.write_str(&self.name.to_lowercase()),
        }
    }
}

/// What a file says of a tensor, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The element type.
    pub dtype: FileDType,
    /// The extents, within [`limits`].
    pub shape: Shape,
    /// The bytes of the file.
    pub(super) range: Range<usize>,
}

/// A checked header.
#[derive(Debug)]
pub(super) struct Header {
    pub metadata: BTreeMap<String, String>,
    /// In the order of their places.
    pub tensors: Vec<(String, TensorInfo)>,
}

/// Reads and checks the header at the beginning of a file's bytes.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Header, TensorError> {
    let size = bytes.len() as u64;
    let (length, rest) = bytes
        .split_first_chunk::<8>()
        .ok_or_else(|| TensorError::TooShort { path: path.to_path_buf(), bytes: size })?;
    let claimed = u64::from_le_bytes(*length);
    if claimed > limits::MAX_SAFETENSORS_HEADER_BYTES {
        return Err(TensorError::HeaderTooLarge { path: path.to_path_buf(), claimed });
    }
    let (json, data) = usize::try_from(claimed)
        .ok()
        .and_then(|claimed| rest.split_at_checked(claimed))
        .ok_or_else(|| TensorError::HeaderTruncated { path: path.to_path_buf(), claimed, bytes: size })?;
    let header = |reason: String| TensorError::Header { path: path.to_path_buf(), reason };
    let json = std::str::from_utf8(json).map_err(|error| header(error.to_string()))?;
    // serde_json counts the depth of nesting and stops at 128.
    let raw: RawHeader = serde_json::from_str(json).map_err(|error| header(error.to_string()))?;
    let begin = bytes.len() - data.len();
    Ok(Header { metadata: raw.metadata, tensors: check(path, raw.tensors, begin, data.len() as u64)? })
}

/// Checks that the tensors fill the data, `length` bytes that begin at byte `begin` of the file, without holes.
fn check(
    path: &Path,
    mut raw: Vec<(String, RawTensor)>,
    begin: usize,
    length: u64,
) -> Result<Vec<(String, TensorInfo)>, TensorError> {
    // Empty tensors share a place; the name makes their order a function of the file.
    raw.sort_by(|(left_name, left), (right_name, right)| {
        (left.data_offsets, left_name).cmp(&(right.data_offsets, right_name))
    });
    let mut tensors = Vec::with_capacity(raw.len());
    let mut end = 0u64;
    for (tensor, info) in raw {
        let path = || path.to_path_buf();
        let Some(dtype) = FileDType::from_name(&info.dtype) else {
            return Err(TensorError::UnknownDType { path: path(), tensor, found: info.dtype });
        };
        let shape = match Shape::checked(info.shape) {
            Ok(shape) => shape,
            Err(source) => return Err(TensorError::Shape { path: path(), tensor, source }),
        };
        let (from, to) = info.data_offsets;
        if from != end {
            return Err(TensorError::Offset { path: path(), tensor, expected: end, found: from });
        }
        // Shapes are within limits, so the only way to have no size is to end within a byte.
        let expected = dtype.bytes(shape.elements()).unwrap_or(0);
        let found = to.saturating_sub(from);
        if found != expected || to < from || dtype.bytes(shape.elements()).is_none() {
            return Err(TensorError::Size { path: path(), tensor, dtype, shape, expected, found });
        }
        end = to;
        if end > length {
            break;
        }
        // Both ends are at most `length`, which is a slice's.
        tensors.push((tensor, TensorInfo { dtype, shape, range: begin + from as usize..begin + to as usize }));
    }
    if end != length {
        return Err(TensorError::DataLength { path: path.to_path_buf(), expected: end, found: length });
    }
    Ok(tensors)
}

/// The header as it stands in the file.
struct RawHeader {
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, RawTensor)>,
}

#[derive(serde::Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawHeader, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
        let mut metadata: Option<Metadata> = None;
        let mut tensors = Vec::new();
        let mut names = BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format!("`{name}` stands twice")));
            }
            if name == METADATA {
                metadata = map.next_value()?;
            } else {
                tensors.push((name, map.next_value()?));
            }
        }
        Ok(RawHeader { metadata: metadata.map(|metadata| metadata.0).unwrap_or_default(), tensors })
    }
}

/// Strings by key, each key once.
struct Metadata(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Metadata, D::Error> {
        struct Strings;
        impl<'de> Visitor<'de> for Strings {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut strings = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if strings.contains_key(&key) {
                        return Err(A::Error::custom(format!("`{METADATA}` has `{key}` twice")));
                    }
                    strings.insert(key, value);
                }
                Ok(Metadata(strings))
            }
        }
        deserializer.deserialize_map(Strings)
    }
}
