//! What can be wrong with a report's file.

use std::path::PathBuf;

use loom_ir::kernel::verify::VerifyError;

use super::file::FORMAT;
use crate::artifact::NUMERICS;
use crate::tensors::TensorError;

/// Why a file is no report that can be run again. All are the file's fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// Not even a safetensors file, or a tensor is missing in it.
    #[error(transparent)]
    File(#[from] TensorError),
    /// A safetensors file that `loomc verify` did not make.
    #[error("{}: no report of a difference (a safetensors file without `loom.report`)", path.display())]
    NotAReport {
        /// The file.
        path: PathBuf,
    },
    /// Made by a version of another format.
    #[error("{}: a report of format `{found}`, this version of Loom reads format `{FORMAT}`", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: String,
    },
    /// Made for other numerics, so other bits would be right.
    #[error("{}: found under the numerics `{found}`, this version of Loom has `{NUMERICS}`", path.display())]
    Numerics {
        /// The file.
        path: PathBuf,
        /// Its numerics.
        found: String,
    },
    /// A value that is missing or can't be read.
    #[error("{}: damaged: `{key}`: {reason}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A program that the verifier refuses.
    #[error("{}: damaged: its program is wrong: {source}", path.display())]
    Program {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: VerifyError,
    },
    /// Tensors of other types or shapes than the program's.
    #[error("{}: damaged: the tensor `{tensor}` is not what its program reads", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
}
