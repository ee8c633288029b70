//! An open safetensors file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use loom_ir::types::DType;

use super::Tensor;
use super::error::TensorError;
use super::header::{self, FileDType, TensorInfo};
use super::index;
use super::mmap::FileBytes;
use super::stored::Span;
use crate::storage::PACKED;

/// What the objects of several files' [`PACKED`] are together; `None` where no file has one.
fn joined(objects: &[String]) -> Result<Option<String>, String> {
    if let [] | [_] = objects {
        return Ok(objects.first().cloned());
    }
    let mut all = serde_json::Map::new();
    for object in objects {
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(object).map_err(|error| format!("metadata `{PACKED}` of a file: {error}"))?;
        all.extend(object);
    }
    Ok(Some(serde_json::Value::Object(all).to_string()))
}

/// A safetensors file with a checked header, or several that an index names. Tensors taken from it share its mapped bytes.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    files: Vec<Arc<FileBytes>>,
    metadata: BTreeMap<String, String>,
    /// Each with the number of its file.
    tensors: Vec<(String, TensorInfo, usize)>,
    by_name: BTreeMap<String, usize>,
}

impl TensorFile {
    /// Maps a file and checks its header; of an index (`NAME.index.json`) all files that it names.
    pub fn open(path: &Path) -> Result<TensorFile, TensorError> {
        if index::is_index(path) {
            return TensorFile::open_index(path);
        }
        TensorFile::from_file_bytes(path, FileBytes::map(path)?)
    }

    fn open_index(path: &Path) -> Result<TensorFile, TensorError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut whole = TensorFile {
            path: path.to_path_buf(),
            files: Vec::new(),
            metadata: BTreeMap::new(),
            tensors: Vec::new(),
            by_name: BTreeMap::new(),
        };
        let mut packed = Vec::new();
        for (file, listed) in index::read(path)? {
            let shard = folder.join(&file);
            let shard = TensorFile::from_file_bytes(&shard, FileBytes::map(&shard)?)?;
            let index = || path.to_path_buf();
            if let Some(tensor) = listed.iter().find(|tensor| shard.info(tensor).is_none()) {
                return Err(TensorError::NotInShard { path: index(), tensor: tensor.clone(), file });
            }
            // The names come in order.
            if let Some((tensor, ..)) = shard.tensors.iter().find(|(name, ..)| listed.binary_search(name).is_err()) {
                return Err(TensorError::NotInIndex { path: index(), tensor: tensor.clone(), file });
            }
            let number = whole.files.len();
            whole.files.extend(shard.files);
            whole.tensors.extend(shard.tensors.into_iter().map(|(name, info, _)| (name, info, number)));
            for (key, value) in shard.metadata {
                if key == PACKED {
                    packed.push(value);
                } else {
                    whole.metadata.entry(key).or_insert(value);
                }
            }
        }
        if let Some(joined) =
            joined(&packed).map_err(|reason| TensorError::Index { path: path.to_path_buf(), reason })?
        {
            whole.metadata.insert(PACKED.to_string(), joined);
        }
        let names = whole.tensors.iter().enumerate().map(|(index, (name, ..))| (name.clone(), index));
        whole.by_name = names.collect();
        Ok(whole)
    }

    /// The same for bytes in memory; `path` is what errors call them.
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<TensorFile, TensorError> {
        TensorFile::from_file_bytes(path, FileBytes::Owned(bytes))
    }

    fn from_file_bytes(path: &Path, bytes: FileBytes) -> Result<TensorFile, TensorError> {
        let header = header::read(path, &bytes)?;
        let by_name = header.tensors.iter().enumerate().map(|(index, (name, _))| (name.clone(), index)).collect();
        Ok(TensorFile {
            path: path.to_path_buf(),
            files: vec![Arc::new(bytes)],
            metadata: header.metadata,
            tensors: header.tensors.into_iter().map(|(name, info)| (name, info, 0)).collect(),
            by_name,
        })
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The size of the file, or of all files, in bytes.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.len() as u64).sum()
    }

    /// The strings about the file.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// All tensors, in the order in which their data lies, file by file.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = (&str, &TensorInfo)> {
        self.tensors.iter().map(|(name, info, _)| (name.as_str(), info))
    }

    /// What the file says of a tensor.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(*self.by_name.get(name)?).map(|(_, info, _)| info)
    }

    /// A tensor of a type that programs compute with.
    pub fn tensor(&self, name: &str) -> Result<Tensor, TensorError> {
        let info = self.info(name).ok_or_else(|| self.no_tensor(name))?;
        match info.dtype.dtype() {
            Some(DType::Bool) => self.bools(name, info),
            Some(dtype) => self
                .span(name)
                .and_then(|span| Tensor::from_map(name, dtype, info.shape.clone(), &span.file, span.range))
                .ok_or_else(|| self.no_tensor(name)),
            None => Err(self.wrong_dtype(name, info.dtype, DType::ALL.to_vec())),
        }
    }

    /// The bytes of a tensor as they lie in the file.
    pub fn data(&self, name: &str) -> Option<&[u8]> {
        let (_, info, file) = self.tensors.get(*self.by_name.get(name)?)?;
        self.files.get(*file)?.get(info.range.clone())
    }

    /// The same, to be kept.
    pub(crate) fn span(&self, name: &str) -> Option<Span> {
        let (_, info, file) = self.tensors.get(*self.by_name.get(name)?)?;
        Some(Span { file: Arc::clone(self.files.get(*file)?), range: info.range.clone() })
    }

    /// The bytes of a tensor in pieces of at most so many, each taken out of memory again when the next one is asked for:
    /// for one pass over a file that may be larger than memory.
    pub(crate) fn pass_over(&self, name: &str, piece: usize, each: &mut dyn FnMut(&[u8])) {
        let Some(Span { file, range }) = self.span(name) else { return };
        let mut begin = range.start;
        while begin < range.end {
            let end = range.end.min(begin.saturating_add(piece.max(1)));
            each(file.get(begin..end).unwrap_or_default());
            file.release(begin..end);
            begin = end;
        }
    }

    /// Whole numbers of any width, as labels come: i64, i32, u32, u8 or i8.
    pub fn integers(&self, name: &str) -> Result<Vec<i64>, TensorError> {
        let info = self.info(name).ok_or_else(|| self.no_tensor(name))?;
        let data = self.data(name).unwrap_or_default();
        let four = |convert: fn([u8; 4]) -> i64| data.as_chunks::<4>().0.iter().map(|&bytes| convert(bytes)).collect();
        match info.dtype.name() {
            "I32" => Ok(four(|bytes| i32::from_le_bytes(bytes).into())),
            "U32" => Ok(four(|bytes| u32::from_le_bytes(bytes).into())),
            "I64" => Ok(data.as_chunks::<8>().0.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect()),
            "U8" => Ok(data.iter().map(|&byte| byte.into()).collect()),
            "I8" => Ok(data.iter().map(|&byte| i64::from(byte as i8)).collect()),
            _ => Err(self.wrong_dtype(name, info.dtype, vec![DType::I32, DType::U32])),
        }
    }

    /// One byte each in the file, one word each in a program.
    fn bools(&self, name: &str, info: &TensorInfo) -> Result<Tensor, TensorError> {
        let data = self.data(name).unwrap_or_default();
        if let Some((index, &value)) = data.iter().enumerate().find(|&(_, &byte)| byte > 1) {
            let (path, tensor) = (self.path.clone(), name.to_string());
            return Err(TensorError::NotABool { path, tensor, index, value });
        }
        let bits: Vec<u32> = data.iter().map(|&byte| byte.into()).collect();
        Tensor::new(name, DType::Bool, info.shape.clone(), bits).ok_or_else(|| self.no_tensor(name))
    }

    fn no_tensor(&self, name: &str) -> TensorError {
        let found = self.tensors.iter().map(|(name, ..)| name.clone()).collect();
        TensorError::NoTensor { path: self.path.clone(), tensor: name.to_string(), found }
    }

    fn wrong_dtype(&self, name: &str, found: FileDType, expected: Vec<DType>) -> TensorError {
        TensorError::WrongDType { path: self.path.clone(), tensor: name.to_string(), expected, found }
    }
}
