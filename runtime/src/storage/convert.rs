//! Files of tensors from any number format to any other.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use loom_ir::numerics::formats::{Number, Storage};
use loom_ir::numerics::quantise::{Parameters, Range, Scheme};
use loom_ir::types::Shape;

use super::read::is_code;
use super::{Groups, PACKED, SCALE, Stored, StoredFile, ZERO_POINT};
use crate::fp_env::FpEnv;
use crate::tensors::{Entry, FileDType, TensorError, stream, write_atomically};

/// What becomes of a file's tensors.
#[derive(Debug, Clone)]
pub struct Conversion {
    /// The format of every tensor that no rule names; `None` leaves those as they are.
    ///
    /// To formats of codes (integers, f8, f4) only floats of at least two axes go this way: biases and norms are small and
    /// lose most. A rule takes them too.
    pub default: Option<Storage>,
    /// Formats by name, the first pattern that fits: `*` stands for any characters.
    pub rules: Vec<(String, Storage)>,
    /// Whether floats that become codes get scales. Without, they are rounded and cut off, which of numbers within ±1 leaves
    /// little.
    pub scaled: bool,
    /// The scheme of integers; unsigned ones are always affine.
    pub scheme: Scheme,
    /// Which elements share a scale.
    pub granularity: Granularity,
}

/// Which elements share a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granularity {
    /// All of a tensor.
    Tensor,
    /// Those of each index of the first axis: of each output of a layer.
    Channel,
    /// At most so many of those.
    Group(u64),
}

/// What [`convert`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// Tensors that were converted, by name, with their format before and after.
    pub changed: Vec<(String, Storage, Storage)>,
    /// How many stayed as they were.
    pub kept: usize,
    /// Bytes of all data before.
    pub bytes_before: u64,
    /// Bytes of all data after.
    pub bytes_after: u64,
}

/// Why a file could not be converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// A file can't be read or written.
    #[error(transparent)]
    File(#[from] TensorError),
    /// A rule that names nothing.
    #[error("{}: no tensor is called `{pattern}`", path.display())]
    NoMatch {
        /// The file.
        path: PathBuf,
        /// The rule's pattern.
        pattern: String,
    },
    /// A tensor that holds no numbers.
    #[error("{}: tensor `{tensor}` is {dtype}: it has no numbers that could become {to}", path.display())]
    NotNumbers {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: FileDType,
        /// The type asked for.
        to: Storage,
    },
    /// A number that can't be stored by scale.
    #[error("{}: tensor `{tensor}`: element {index} is {value}: only finite numbers have a scale", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The element's place, row-major.
        index: usize,
        /// It.
        value: f64,
    },
    /// An integer that the format does not have.
    #[error("{}: tensor `{tensor}`: element {index} is {value}, {to} has {least} to {greatest}", path.display())]
    OutOfRange {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The element's place, row-major.
        index: usize,
        /// It.
        value: i128,
        /// The format.
        to: Storage,
        /// Its least number.
        least: i128,
        /// Its greatest number.
        greatest: i128,
    },
    /// A companion's name that a tensor of the file has already.
    #[error("{}: `{companion}` would be taken for the scales of the new `{tensor}`", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The name.
        companion: String,
    },
}

/// A tensor of the new file.
struct Part<'a> {
    name: String,
    dtype: FileDType,
    shape: Shape,
    content: Content<'a>,
}

enum Content<'a> {
    /// As it is.
    Kept(&'a [u8]),
    /// Each number by itself.
    Numbers(&'a Stored<'a>, Storage),
    /// Codes.
    Codes { stored: &'a Stored<'a>, storage: Storage, scheme: Scheme, groups: Groups, parameters: Vec<Parameters> },
    /// Scales and zero points, made already.
    Made(Vec<u8>),
}

/// Converts a file. Memory beyond the mapped file is that of the scales and of a block of elements; `progress` is told how
/// many tensors of how many are done, each of them looked at twice.
pub fn convert(
    file: &StoredFile<'_>,
    output: &Path,
    conversion: &Conversion,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Converted, ConvertError> {
    let prepared = Prepared::new(file, conversion, progress)?;
    write_atomically(output, |out| prepared.write(out, progress))?;
    Ok(prepared.converted)
}

/// The same into memory.
pub fn convert_in_memory(file: &StoredFile<'_>, conversion: &Conversion) -> Result<Vec<u8>, ConvertError> {
    let prepared = Prepared::new(file, conversion, &mut |_, _| {})?;
    let mut bytes = Vec::new();
    let written = prepared.write(&mut bytes, &mut |_, _| {});
    written.map_err(|source| TensorError::Write { path: file.file().path().to_path_buf(), source })?;
    Ok(bytes)
}

/// A new file, but for the elements' own conversion.
struct Prepared<'a> {
    parts: Vec<Part<'a>>,
    metadata: BTreeMap<String, String>,
    converted: Converted,
    /// Tensors of the old file.
    tensors: usize,
}

impl<'a> Prepared<'a> {
    fn new(
        file: &'a StoredFile<'_>,
        conversion: &Conversion,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Prepared<'a>, ConvertError> {
        let path = || file.file().path().to_path_buf();
        for (pattern, _) in &conversion.rules {
            if !file.tensors().any(|(name, _)| name_fits(pattern, name)) {
                return Err(ConvertError::NoMatch { path: path(), pattern: pattern.clone() });
            }
        }
        let mut converted = Converted { changed: Vec::new(), kept: 0, bytes_before: 0, bytes_after: 0 };
        let mut parts = Vec::new();
        let mut packed = BTreeMap::new();
        let tensors = file.tensors().len();
        for (done, (name, stored)) in file.tensors().enumerate() {
            progress(done, 2 * tensors);
            converted.bytes_before += stored.bytes();
            match conversion.target(name, stored) {
                Some(to) => {
                    let Some(from) = stored.storage else {
                        let (tensor, dtype) = (name.to_string(), stored.dtype);
                        return Err(ConvertError::NotNumbers { path: path(), tensor, dtype, to });
                    };
                    converted.changed.push((name.to_string(), from, to));
                    conversion.converted(file, name, stored, to, &mut parts, &mut packed)?;
                }
                None => {
                    converted.kept += 1;
                    kept(name, stored, &mut parts, &mut packed);
                }
            }
        }
        // Wide elements first: then each lies at a multiple of its size. Then by name, however they came about.
        parts.sort_by(|one, other| (other.dtype.bytes(8), &one.name).cmp(&(one.dtype.bytes(8), &other.name)));
        converted.bytes_after = parts.iter().filter_map(|part| part.dtype.bytes(part.shape.elements())).sum();
        let mut metadata = file.file().metadata().clone();
        metadata.remove(PACKED);
        if !packed.is_empty() {
            metadata.insert(PACKED.to_string(), serde_json::Value::from_iter(packed).to_string());
        }
        Ok(Prepared { parts, metadata, converted, tensors })
    }

    fn write(&self, out: &mut dyn Write, progress: &mut dyn FnMut(usize, usize)) -> io::Result<()> {
        let entries: Vec<Entry<'_>> =
            self.parts.iter().map(|part| Entry { name: &part.name, dtype: part.dtype, shape: &part.shape }).collect();
        let total = 2 * self.tensors;
        stream(out, &self.metadata, &entries, &mut |index, out| {
            progress(self.tensors + index * self.tensors / entries.len().max(1), total);
            self.parts.get(index).map_or(Ok(()), |part| part.write(out))
        })?;
        progress(total, total);
        Ok(())
    }
}

/// A tensor and its companions as they are.
fn kept<'a>(
    name: &str,
    stored: &'a Stored<'a>,
    parts: &mut Vec<Part<'a>>,
    packed: &mut BTreeMap<String, serde_json::Value>,
) {
    let elements = |storage: Option<Storage>, data: &[u8]| match storage {
        Some(Storage::I4 | Storage::F4) if stored.is_packed() => Shape::new([data.len() as u64]),
        _ => stored.shape.clone(),
    };
    if let (true, Some(storage)) = (stored.is_packed(), stored.storage) {
        packed.insert(name.to_string(), described(storage, &stored.shape));
    }
    let shape = elements(stored.storage, stored.data());
    parts.push(Part { name: name.to_string(), dtype: stored.dtype, shape, content: Content::Kept(stored.data()) });
    for (suffix, dtype, shape, data) in stored.companions() {
        parts.push(Part { name: format!("{name}{suffix}"), dtype, shape: shape.clone(), content: Content::Kept(data) });
    }
}

fn described(storage: Storage, shape: &Shape) -> serde_json::Value {
    serde_json::json!({"dtype": storage.name(), "shape": shape.dims()})
}

impl Conversion {
    /// The format that a tensor goes to, if it does not stay as it is.
    fn target(&self, name: &str, stored: &Stored<'_>) -> Option<Storage> {
        let ruled = self.rules.iter().find(|(pattern, _)| name_fits(pattern, name)).map(|&(_, storage)| storage);
        let by_default = self.default.filter(|&to| {
            let float = stored.is_quantised() || stored.storage.is_some_and(|storage| storage.float().is_some());
            stored.storage.is_some() && !(float && is_code(to) && stored.shape.rank() < 2)
        });
        let to = ruled.or(by_default)?;
        // A quantised tensor may go to its own format by other scales.
        (stored.is_quantised() || stored.storage != Some(to)).then_some(to)
    }

    fn converted<'a>(
        &self,
        file: &StoredFile<'_>,
        name: &str,
        stored: &'a Stored<'a>,
        to: Storage,
        parts: &mut Vec<Part<'a>>,
        packed: &mut BTreeMap<String, serde_json::Value>,
    ) -> Result<(), ConvertError> {
        // A tensor of that name, which means something else, would be taken for a companion of the new codes.
        let names = [SCALE, ZERO_POINT].map(|suffix| format!("{name}{suffix}"));
        if let Some(companion) = names.into_iter().find(|companion| is_code(to) && file.get(companion).is_some()) {
            let (path, tensor) = (file.file().path().to_path_buf(), name.to_string());
            return Err(ConvertError::Name { path, tensor, companion });
        }
        let float = stored.is_quantised() || stored.storage.is_some_and(|storage| storage.float().is_some());
        let content = if float && is_code(to) && self.scaled {
            let groups = match self.granularity {
                Granularity::Tensor => Groups::tensor(&stored.shape),
                Granularity::Channel => Groups::channels(&stored.shape),
                Granularity::Group(size) => Groups::of_size(&stored.shape, size),
            };
            let scheme = if to.is_signed() { self.scheme } else { Scheme::Affine };
            let scheme = if to.float().is_some() { Scheme::Symmetric } else { scheme };
            let scales = groups.scales(&stored.shape);
            let parameters = parameters(&stored.shape, &groups, (to, scheme), &|index| single(stored, index));
            let parameters = parameters.map_err(|(index, value)| {
                let (path, tensor) = (file.file().path().to_path_buf(), name.to_string());
                ConvertError::NotFinite { path, tensor, index, value: value.into() }
            })?;
            companions(name, (to, scheme), &scales, &parameters, parts);
            Content::Codes { stored, storage: to, scheme, groups, parameters }
        } else {
            in_range(file, name, stored, to)?;
            Content::Numbers(stored, to)
        };
        let whole = FileDType::of_storage(to).filter(|dtype| dtype.bytes(stored.shape.elements()).is_some());
        let (dtype, shape) = match (whole, to.bytes(stored.shape.elements())) {
            (Some(dtype), _) => (dtype, stored.shape.clone()),
            (None, bytes) => {
                packed.insert(name.to_string(), described(to, &stored.shape));
                (FileDType::BYTES, Shape::new([bytes.unwrap_or(0)]))
            }
        };
        parts.push(Part { name: name.to_string(), dtype, shape, content });
        Ok(())
    }
}

/// Scales, and where there are any zero points, as tensors.
fn companions(
    name: &str,
    (storage, scheme): (Storage, Scheme),
    shape: &Shape,
    parameters: &[Parameters],
    parts: &mut Vec<Part<'_>>,
) {
    let mut scales = Vec::new();
    let bits = parameters.iter().map(|parameters| u64::from(parameters.scale.to_bits()));
    Storage::F32.pack(bits, &mut scales);
    let mut made = vec![(SCALE, Storage::F32, scales)];
    if scheme == Scheme::Affine {
        // The codes of i4 have a byte each here.
        let wide = if storage.bits() < 8 { Storage::I8 } else { storage };
        let mut points = Vec::new();
        let codes = parameters.iter().map(|parameters| wide.narrow(Number::Integer(parameters.zero_point)));
        wide.pack(codes, &mut points);
        made.push((ZERO_POINT, wide, points));
    }
    for (suffix, storage, bytes) in made {
        let dtype = FileDType::of_storage(storage).unwrap_or(FileDType::BYTES);
        let content = Content::Made(bytes);
        parts.push(Part { name: format!("{name}{suffix}"), dtype, shape: shape.clone(), content });
    }
}

/// The parameters of each group of a tensor's elements; or the first that isn't finite, and its number.
fn parameters(
    shape: &Shape,
    groups: &Groups,
    (storage, scheme): (Storage, Scheme),
    value: &dyn Fn(usize) -> f32,
) -> Result<Vec<Parameters>, (usize, f32)> {
    // The values too: those of quantised tensors are products.
    FpEnv::run(|| {
        let mut ranges = vec![Range::ZERO; groups.scales(shape).elements() as usize];
        for index in 0..shape.elements() as usize {
            let value = value(index);
            let with = ranges.get_mut(groups.of_element(index)).and_then(|range| {
                *range = range.with(value)?;
                Some(())
            });
            with.ok_or((index, value))?;
        }
        Ok(ranges.into_iter().map(|range| Parameters::of(storage, scheme, range)).collect())
    })
}

/// An element as `f32`: an f64 is rounded.
fn single(stored: &Stored<'_>, index: usize) -> f32 {
    f32::from_bits(Storage::F32.narrow(stored.number(index)) as u32)
}

/// Refuses integers that the format does not have.
fn in_range(file: &StoredFile<'_>, tensor: &str, stored: &Stored<'_>, to: Storage) -> Result<(), ConvertError> {
    let Some((least, greatest)) = to.integer_range() else { return Ok(()) };
    let wrong = (0..stored.shape.elements() as usize).find_map(|index| match stored.number(index) {
        Number::Integer(value) if !(least..=greatest).contains(&value) => Some((index, value)),
        _ => None,
    });
    match wrong {
        Some((index, value)) => {
            let (path, tensor) = (file.file().path().to_path_buf(), tensor.to_string());
            Err(ConvertError::OutOfRange { path, tensor, index, value, to, least, greatest })
        }
        None => Ok(()),
    }
}

impl Part<'_> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        match &self.content {
            Content::Kept(bytes) => out.write_all(bytes),
            Content::Made(bytes) => out.write_all(bytes),
            Content::Numbers(stored, storage) => {
                blocks(stored, *storage, out, |index| storage.narrow(stored.number(index)))
            }
            Content::Codes { stored, storage, scheme, groups, parameters } => blocks(stored, *storage, out, |index| {
                let parameters = parameters.get(groups.of_element(index));
                parameters.map_or(0, |parameters| parameters.quantise(*storage, *scheme, single(stored, index)))
            }),
        }
    }
}

/// Writes the elements of a tensor, some thousands at a time.
fn blocks(
    stored: &Stored<'_>,
    storage: Storage,
    out: &mut dyn Write,
    element: impl Fn(usize) -> u64,
) -> io::Result<()> {
    // Even, so that no byte is cut through.
    const BLOCK: usize = 1 << 16;
    let count = stored.shape.elements() as usize;
    let mut bytes = Vec::with_capacity(BLOCK.min(count) * 8);
    (0..count).step_by(BLOCK).try_for_each(|begin| {
        bytes.clear();
        FpEnv::run(|| storage.pack((begin..count.min(begin + BLOCK)).map(&element), &mut bytes));
        out.write_all(&bytes)
    })
}

/// Whether a name is what a pattern says: `*` stands for any characters.
pub fn name_fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    let mut rest = rest;
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::name_fits;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.bc", false),
            ("*", "", true),
            ("a*", "a", true),
            ("*.weight", "layers.0.weight", true),
            ("*.weight", "layers.0.weights", false),
            ("layers.*.w*t", "layers.0.weight", true),
            ("layers.*.bias", "layers.0.weight", false),
            ("*a*a", "a", false),
            ("*a*a", "aa", true),
            ("", "a", false),
        ] {
            assert_eq!(name_fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
