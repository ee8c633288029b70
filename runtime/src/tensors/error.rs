//! What can be wrong with a safetensors file.

use std::io;
use std::path::PathBuf;

use loom_ir::limits;
use loom_ir::types::{DType, Shape, ShapeLimit};

use super::header::FileDType;

/// Why a safetensors file could not be read or written. All but `Open` and `Write` (the system's fault) and `Memory`
/// are the file's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// The file can't be opened or mapped.
    #[error("{}: can't be read: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A folder, a pipe or a device.
    #[error("{}: not a regular file", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// More bytes than this machine has addresses.
    #[error("{}: {bytes} bytes are too many for this machine", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Not even the length of the header.
    #[error("{}: not a safetensors file: {bytes} bytes, the header's length alone takes 8", path.display())]
    TooShort {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// More than [`limits::MAX_SAFETENSORS_HEADER_BYTES`].
    #[error(
        "{}: not a safetensors file: it claims a header of {claimed} bytes, the limit is {}",
        path.display(),
        limits::MAX_SAFETENSORS_HEADER_BYTES
    )]
    HeaderTooLarge {
        /// The file.
        path: PathBuf,
        /// The header's length according to the file.
        claimed: u64,
    },
    /// The file ends within the header.
    #[error("{}: the file ends within its header: {bytes} bytes, of which the header claims {claimed}", path.display())]
    HeaderTruncated {
        /// The file.
        path: PathBuf,
        /// The header's length according to the file.
        claimed: u64,
        /// The file's size.
        bytes: u64,
    },
    /// The header is not what the format says.
    #[error("{}: the header is wrong: {reason}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column where the JSON is.
        reason: String,
    },
    /// An element type that the format does not have.
    #[error("{}: tensor `{tensor}`: there is no element type `{found}`", path.display())]
    UnknownDType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type according to the file.
        found: String,
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
    /// A place that does not belong to the shape and the type.
    #[error("{}: tensor `{tensor}`: {dtype} {shape} takes {expected} bytes, the file gives it {found}", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: FileDType,
        /// Its shape.
        shape: Shape,
        /// Bytes of that shape and type.
        expected: u64,
        /// Bytes according to the file.
        found: u64,
    },
    /// Tensors that overlap, leave holes, or lie backwards.
    #[error("{}: tensor `{tensor}`: it should begin at byte {expected} of the data, but begins at {found}", path.display())]
    Offset {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The end of the tensor before it.
        expected: u64,
        /// Its beginning according to the file.
        found: u64,
    },
    /// More or fewer bytes than the tensors need: a truncated file most of the time.
    #[error("{}: the tensors take {expected} bytes, the file holds {found} after the header", path.display())]
    DataLength {
        /// The file.
        path: PathBuf,
        /// Bytes of all tensors.
        expected: u64,
        /// Bytes after the header.
        found: u64,
    },
    /// No tensor of that name.
    #[error("{}: there is no tensor `{tensor}`{}", path.display(), of_names(found))]
    NoTensor {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        tensor: String,
        /// What there is.
        found: Vec<String>,
    },
    /// Another element type than needed.
    #[error("{}: tensor `{tensor}` is {found}, needed is {}", path.display(), of_dtypes(expected))]
    WrongDType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is needed: any one of these.
        expected: Vec<DType>,
        /// What the file has.
        found: FileDType,
    },
    /// A bool that is neither 0 nor 1.
    #[error("{}: tensor `{tensor}`: element {index} is a bool stored as {value}", path.display())]
    NotABool {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Which element.
        index: usize,
        /// Its byte.
        value: u8,
    },
    /// The tensor doesn't fit into memory.
    #[error("{}: tensor `{tensor}`: no memory for {bytes} bytes", path.display())]
    Memory {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Bytes asked for.
        bytes: u64,
    },
    /// An index that is no such thing.
    #[error("{}: not an index of safetensors files: {reason}", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// An index that names a file outside of its folder.
    #[error("{}: `{tensor}` would be in `{file}`: the files of an index lie in its folder", path.display())]
    ShardPath {
        /// The index.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The file's path.
        file: String,
    },
    /// An index that says of a tensor that it is in a file which doesn't hold it.
    #[error("{}: `{tensor}` is not in `{file}`", path.display())]
    NotInShard {
        /// The index.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The file.
        file: String,
    },
    /// A tensor that the index doesn't say to be in the file that holds it.
    #[error("{}: `{file}` holds `{tensor}`, which the index does not say", path.display())]
    NotInIndex {
        /// The index.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The file.
        file: String,
    },
    /// The file can't be written. What was there before is untouched.
    #[error("{}: can't be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

fn of_names(names: &[String]) -> String {
    // A file of a large network has hundreds: the first ones show which file it is.
    const SHOWN: usize = 8;
    if names.is_empty() {
        return ", the file holds none".to_string();
    }
    let mut text: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    if let Some(more) = names.len().checked_sub(SHOWN).filter(|&more| more > 0) {
        text.push(format!("{more} more"));
    }
    format!(", the file holds {}", text.join(", "))
}

fn of_dtypes(dtypes: &[DType]) -> String {
    dtypes.iter().map(|dtype| dtype.name()).collect::<Vec<_>>().join(" or ")
}
