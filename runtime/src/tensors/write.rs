//! Writes safetensors files: the same tensors always give the same bytes, and a file appears whole or not at all.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use loom_ir::limits;
use loom_ir::types::{DType, Shape};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use tempfile::NamedTempFile;

use super::Tensor;
use super::error::TensorError;
use super::header::{FileDType, METADATA};

/// The data begins at a multiple of this many bytes, so that a mapped file can be used by vector instructions.
const DATA_ALIGNMENT: u64 = 64;

/// A tensor to be written.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The name.
    pub name: &'a str,
    /// The element type.
    pub dtype: DType,
    /// The extents.
    pub shape: &'a Shape,
    /// One word an element.
    pub bits: &'a [u32],
}

impl<'a> Part<'a> {
    /// The elements as they stand in a file.
    pub fn bytes(&self) -> Cow<'a, [u8]> {
        match self.dtype {
            DType::Bool => self.bits.iter().map(|&bits| u8::from(bits != 0)).collect(),
            _ => Cow::Borrowed(bytemuck::cast_slice(self.bits)),
        }
    }
}

impl<'a> From<&'a Tensor> for Part<'a> {
    fn from(tensor: &'a Tensor) -> Part<'a> {
        Part { name: tensor.name(), dtype: tensor.dtype(), shape: tensor.shape(), bits: tensor.bits() }
    }
}

/// Writes tensors into a safetensors file: see [`container`] and [`write_atomically`].
pub fn write_tensors<'a>(path: &Path, tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<(), TensorError> {
    let parts: Vec<Part<'_>> = tensors.into_iter().map(Part::from).collect();
    write_atomically(path, |file| container(file, &BTreeMap::new(), &parts))
}

/// Writes a safetensors container: the metadata in the order of its keys, the tensors in the order given, but bools, a
/// byte each, behind those of 4 bytes.
pub fn container(out: &mut dyn Write, metadata: &BTreeMap<String, String>, parts: &[Part<'_>]) -> io::Result<()> {
    // A tensor that is stored in fewer bits has none where there's no memory for them.
    if let Some(part) = parts.iter().find(|part| part.bits.len() as u64 != part.shape.elements()) {
        let reason = format!("`{}` {}: {} elements are there", part.name, part.shape, part.bits.len());
        return Err(io::Error::new(io::ErrorKind::OutOfMemory, reason));
    }
    let (bools, words): (Vec<Part<'_>>, Vec<Part<'_>>) =
        parts.iter().copied().partition(|part| part.dtype == DType::Bool);
    let ordered = [words, bools].concat();
    let entries: Vec<Entry<'_>> = ordered
        .iter()
        .map(|part| Entry { name: part.name, dtype: FileDType::of(part.dtype), shape: part.shape })
        .collect();
    stream(out, metadata, &entries, &mut |index, out| match ordered.get(index) {
        Some(part) => out.write_all(&part.bytes()),
        None => Ok(()),
    })
}

/// A tensor of a container, without its data. The elements fill whole bytes.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The name.
    pub name: &'a str,
    /// The element type.
    pub dtype: FileDType,
    /// The extents.
    pub shape: &'a Shape,
}

/// Writes a safetensors container whose data is made while it is written: `data` writes that of the entry with a number,
/// exactly as many bytes as its type and shape say. All types whose elements are multiples of 4 bytes must come first, so that
/// they lie where they can be used.
pub fn stream(
    out: &mut dyn Write,
    metadata: &BTreeMap<String, String>,
    entries: &[Entry<'_>],
    data: &mut dyn FnMut(usize, &mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut json = serde_json::to_vec(&Header { metadata, entries })?;
    let begin = 8 + json.len() as u64;
    let padding = begin.next_multiple_of(DATA_ALIGNMENT) - begin;
    json.extend(std::iter::repeat_n(b' ', padding as usize));
    if json.len() as u64 > limits::MAX_SAFETENSORS_HEADER_BYTES {
        let limit = limits::MAX_SAFETENSORS_HEADER_BYTES;
        let reason = format!("the header takes {} bytes, the format allows {limit}", json.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    out.write_all(&(json.len() as u64).to_le_bytes())?;
    out.write_all(&json)?;
    (0..entries.len()).try_for_each(|index| data(index, out))
}

/// Writes a file beside its place and then renames it: readers see the old content or the new one, and a failure leaves
/// nothing behind.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), TensorError> {
    let failed = |source| TensorError::Write { path: path.to_path_buf(), source };
    let found = std::fs::metadata(path).map(|metadata| metadata.file_type()).ok();
    if found.is_some_and(|kind| kind.is_dir()) {
        return Err(failed(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    if found.is_some_and(|kind| !kind.is_file()) {
        // A pipe or a device such as /dev/null is written to, not replaced.
        let device = OpenOptions::new().write(true).open(path).map_err(failed)?;
        let mut out = BufWriter::new(device);
        return write(&mut out).and_then(|()| out.flush()).map_err(failed);
    }
    // What a link points to is replaced, not the link.
    let place = if path.is_symlink() { path.canonicalize().map_err(failed)? } else { path.to_path_buf() };
    let folder = match place.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    // Asked first because its error would name the temporary file.
    std::fs::metadata(folder).map_err(failed)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".loom-").suffix(".part");
    // The temporary file's usual mode is for its owner only; this one becomes the user's file, as if created by them.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let (file, _registered) = Registered::file(&builder, folder).map_err(failed)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    write(&mut out).map_err(failed)?;
    let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
    file.persist(&place).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Removes the files that [`write_atomically`] is writing at this moment, and lets it begin no other: for a process that ends without
/// returning from it, by a signal for example.
pub fn remove_partial_files() {
    let mut partial = partial_files();
    partial.ended = true;
    for path in &partial.paths {
        // It may have got its name meanwhile, or gone: either is fine.
        let _ = std::fs::remove_file(path);
    }
}

/// The files that are being written.
struct PartialFiles {
    paths: BTreeSet<PathBuf>,
    /// Whether the process ends.
    ended: bool,
}

static PARTIAL_FILES: Mutex<PartialFiles> = Mutex::new(PartialFiles { paths: BTreeSet::new(), ended: false });

fn partial_files() -> MutexGuard<'static, PartialFiles> {
    PARTIAL_FILES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A partial file's entry in the list, as long as it is partial.
struct Registered(PathBuf);

impl Registered {
    /// A file that is in the list from its beginning.
    fn file(builder: &tempfile::Builder<'_, '_>, folder: &Path) -> io::Result<(NamedTempFile, Registered)> {
        let mut partial = partial_files();
        if partial.ended {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "the process is about to end"));
        }
        let file = builder.tempfile_in(folder)?;
        partial.paths.insert(file.path().to_path_buf());
        let registered = Registered(file.path().to_path_buf());
        Ok((file, registered))
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        partial_files().paths.remove(&self.0);
    }
}

/// The header's JSON, keys in order.
struct Header<'a> {
    metadata: &'a BTreeMap<String, String>,
    entries: &'a [Entry<'a>],
}

#[derive(Serialize)]
struct Place<'a> {
    dtype: &'static str,
    shape: &'a Shape,
    data_offsets: (u64, u64),
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry(METADATA, self.metadata)?;
        }
        let mut begin = 0;
        for entry in self.entries {
            let end = begin + entry.dtype.bytes(entry.shape.elements()).unwrap_or(0);
            let place = Place { dtype: entry.dtype.name(), shape: entry.shape, data_offsets: (begin, end) };
            map.serialize_entry(entry.name, &place)?;
            begin = end;
        }
        map.end()
    }
}
