//! What can be wrong with an artifact.

use std::path::PathBuf;

use loom_ir::kernel::verify::VerifyError;

use super::{FORMAT, NUMERICS};
use crate::tensors::TensorError;
use crate::weights::WeightsError;

/// Why an artifact is refused. All are the file's fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// Not even a safetensors file.
    #[error(transparent)]
    File(#[from] TensorError),
    /// A safetensors file that `loomc compile` did not make.
    #[error("{}: not a compiled network (a safetensors file without `loom.format`)", path.display())]
    NotAnArtifact {
        /// The file.
        path: PathBuf,
    },
    /// Made by a compiler of another format.
    #[error("{}: this is format `{found}`, this version of Loom reads format `{FORMAT}`: compile it again", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: String,
    },
    /// Made for other numerics, so it would give other bits.
    #[error("{}: made for the numerics `{found}`, this version of Loom has `{NUMERICS}`", path.display())]
    Numerics {
        /// The file.
        path: PathBuf,
        /// Its numerics.
        found: String,
    },
    /// A key that every artifact has.
    #[error("{}: damaged: no `{key}`", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
    },
    /// Changed since it was written.
    #[error("{}: damaged: its digest is {found}, not {claimed}", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// The digest that the file claims.
        claimed: String,
        /// The digest of what it holds.
        found: String,
    },
    /// A value that can't be read.
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
    /// Other weights than the program's.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}
