//! Compiled networks: one file with the program, its weights and the code made for a target.
//!
//! `NAME.loom` is a safetensors file. Its tensors are the weights; its `__metadata__` holds
//!
//! | key | value |
//! |---|---|
//! | `loom.format` | the version of this layout, `1` |
//! | `loom.version` | the version of the compiler |
//! | `loom.numerics` | the numerics contract, `LN1` |
//! | `loom.target` | `wgsl` or `cpu` |
//! | `loom.program` | the [`Program`](loom_ir::kernel::Program) as JSON |
//! | `loom.kernels` | the kernels' code as JSON, a list of [`KernelText`] |
//! | `loom.seed` | what the network's config says of random numbers, in decimal; may be absent |
//! | `loom.digest` | SHA-256 of everything else, as 64 hexadecimal digits |
//!
//! The digest is over each key of the metadata but its own, in order, and its value; then over each tensor, in the order
//! of the names: its name, type, rank, extents and bytes. Texts and bytes follow their length; all numbers are 64 bits,
//! little-endian.
//!
//! Other keys belong to the user. Keys are in alphabetic order, tensors in the program's, and nothing else is in a file:
//! the same network, weights and compiler give the same bytes.
//!
//! A file is untrusted when it is loaded. Its program passes the verifier before anything is made from it, and its kernel
//! texts are for people and other hosts: this runtime makes its own from the program.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use loom_ir::kernel::{Verified, verify};
use serde::{Deserialize, Serialize};

use crate::tensors::{self, Part, TensorError, TensorFile};
use crate::weights::Weights;

mod digest;
mod error;

pub use error::ArtifactError;

/// The version of the file's layout.
pub const FORMAT: &str = "1";
/// The numerics contract that programs follow.
pub const NUMERICS: &str = "LN1";

mod key {
    pub const PREFIX: &str = "loom.";
    pub const FORMAT: &str = "loom.format";
    pub const VERSION: &str = "loom.version";
    pub const NUMERICS: &str = "loom.numerics";
    pub const TARGET: &str = "loom.target";
    pub const PROGRAM: &str = "loom.program";
    pub const KERNELS: &str = "loom.kernels";
    pub const SEED: &str = "loom.seed";
    pub const DIGEST: &str = "loom.digest";
}

/// What an artifact holds code for. Every artifact runs on every device: the code is made again where it doesn't fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// WGSL texts.
    Wgsl,
    /// Nothing: machine code is made when the artifact is loaded, for the processor at hand.
    Cpu,
}

impl Target {
    /// The name in files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Target::Wgsl => "wgsl",
            Target::Cpu => "cpu",
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(name: &str) -> Result<Target, String> {
        [Target::Wgsl, Target::Cpu]
            .into_iter()
            .find(|target| target.name() == name)
            .ok_or_else(|| format!("there is no target `{name}`, only `wgsl` and `cpu`"))
    }
}

/// The code of one kernel, as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelText {
    /// The kernel's name in the program.
    pub name: String,
    /// Its source.
    pub source: String,
}

/// A compiled network, ready to be run by a [`Session`](crate::session::Session).
#[derive(Debug, Clone)]
pub struct Artifact {
    program: Arc<Verified>,
    weights: Arc<Weights>,
    target: Target,
    kernels: Vec<KernelText>,
    seed: Option<u64>,
    version: String,
    metadata: BTreeMap<String, String>,
}

impl Artifact {
    /// An artifact of this compiler. The weights must be the program's.
    pub fn new(program: Arc<Verified>, weights: Weights, target: Target, kernels: Vec<KernelText>) -> Artifact {
        Artifact {
            program,
            weights: Arc::new(weights),
            target,
            kernels,
            seed: None,
            version: env!("CARGO_PKG_VERSION").to_string(),
            metadata: BTreeMap::new(),
        }
    }

    /// The same with the seed that inputs are drawn from where none are given.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Artifact {
        self.seed = Some(seed);
        self
    }

    /// The same with a string of the user's in its metadata. Keys that begin with `loom.` are Loom's and are refused.
    #[must_use]
    pub fn with_metadata(mut self, key: &str, value: &str) -> Artifact {
        if !key.starts_with(key::PREFIX) {
            self.metadata.insert(key.to_string(), value.to_string());
        }
        self
    }

    /// Maps an artifact and checks all of it.
    pub fn load(path: &Path) -> Result<Artifact, ArtifactError> {
        Artifact::from_tensors(&TensorFile::open(path)?)
    }

    /// The same for bytes in memory; `path` is what errors call them.
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Artifact, ArtifactError> {
        Artifact::from_tensors(&TensorFile::from_bytes(path, bytes)?)
    }

    /// The same from an open safetensors file.
    pub fn from_tensors(file: &TensorFile) -> Result<Artifact, ArtifactError> {
        let path = || file.path().to_path_buf();
        let Some(format) = file.metadata().get(key::FORMAT) else {
            return Err(ArtifactError::NotAnArtifact { path: path() });
        };
        if format != FORMAT {
            return Err(ArtifactError::Format { path: path(), found: format.clone() });
        }
        let text =
            |key: &'static str| file.metadata().get(key).ok_or_else(|| ArtifactError::NoKey { path: path(), key });
        let numerics = text(key::NUMERICS)?;
        if numerics != NUMERICS {
            return Err(ArtifactError::Numerics { path: path(), found: numerics.clone() });
        }
        let claimed = text(key::DIGEST)?;
        let found = digest::of_file(file);
        if *claimed != found {
            return Err(ArtifactError::Digest { path: path(), claimed: claimed.clone(), found });
        }
        let wrong = |key: &'static str, reason: String| ArtifactError::Value { path: path(), key, reason };
        let target = text(key::TARGET)?.parse().map_err(|reason| wrong(key::TARGET, reason))?;
        let seed = match file.metadata().get(key::SEED) {
            None => None,
            Some(seed) => Some(seed.parse().map_err(|_| wrong(key::SEED, format!("`{seed}` is not a 64-bit number")))?),
        };
        // serde_json counts the depth of nesting and stops at 128; a program needs fewer than 20.
        let program =
            serde_json::from_str(text(key::PROGRAM)?).map_err(|error| wrong(key::PROGRAM, error.to_string()))?;
        let kernels =
            serde_json::from_str(text(key::KERNELS)?).map_err(|error| wrong(key::KERNELS, error.to_string()))?;
        let program = verify(program).map_err(|source| ArtifactError::Program { path: path(), source })?;
        let weights = Weights::from_artifact(file, &program)?;
        Ok(Artifact {
            program: Arc::new(program),
            weights: Arc::new(weights),
            target,
            kernels,
            seed,
            version: text(key::VERSION)?.clone(),
            metadata: file
                .metadata()
                .iter()
                .filter(|(key, _)| !key.starts_with(key::PREFIX))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        })
    }

    /// Writes the artifact. The file appears whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), TensorError> {
        tensors::write_atomically(path, |file| self.write(file))
    }

    /// The bytes of the artifact's file.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut metadata = self.metadata.clone();
        let mut set = |key: &str, value: String| metadata.insert(key.to_string(), value);
        set(key::FORMAT, FORMAT.to_string());
        set(key::VERSION, self.version.clone());
        set(key::NUMERICS, NUMERICS.to_string());
        set(key::TARGET, self.target.to_string());
        set(key::PROGRAM, serde_json::to_string(&**self.program)?);
        set(key::KERNELS, serde_json::to_string(&self.kernels)?);
        if let Some(seed) = self.seed {
            set(key::SEED, seed.to_string());
        }
        let parts: Vec<Part<'_>> = self.weights.tensors().iter().map(Part::from).collect();
        let digest = digest::of_parts(&metadata, &parts);
        metadata.insert(key::DIGEST.to_string(), digest);
        tensors::container(out, &metadata, &parts)
    }

    /// The program.
    pub fn program(&self) -> &Arc<Verified> {
        &self.program
    }

    /// The weights.
    pub fn weights(&self) -> &Arc<Weights> {
        &self.weights
    }

    /// What the code is for.
    pub fn target(&self) -> Target {
        self.target
    }

    /// The code, one text a kernel; none for [`Target::Cpu`].
    pub fn kernels(&self) -> &[KernelText] {
        &self.kernels
    }

    /// What inputs are drawn from where none are given; 0 where the config did not say.
    pub fn seed(&self) -> u64 {
        self.seed.unwrap_or(0)
    }

    /// The version of the compiler that made it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The user's strings.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}
