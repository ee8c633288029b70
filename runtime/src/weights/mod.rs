//! A network's weights: from a file, or drawn from a seed.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use loom_ir::diagnostics::nearest;
use loom_ir::kernel::{Buffer, BufferKind, Forms, Program};
use loom_ir::numerics::quantise::{SCALE, SUM};
use loom_ir::numerics::stored::{Form, View};
use loom_ir::types::{DType, Shape};

use crate::executor::{WeightBits, stored_forms};
use crate::fp_env::FpEnv;
use crate::storage::{StorageError, StoredFile};
use crate::tensors::{FileDType, Tensor, TensorError, TensorFile};

mod codes;
mod initialise;

use codes::CodesError;

pub use initialise::{InitialiseError, draw_inputs};

/// All weights of a program, in the program's order.
#[derive(Debug, Clone)]
pub struct Weights {
    tensors: Vec<Tensor>,
}

impl Weights {
    /// Takes a program's weights from a safetensors file. They stay in the file, narrower floats and quantised ones too: what
    /// these stand for ([`crate::storage`]) is up to the devices, and to those who ask for a tensor's bits. A weight that the
    /// network multiplies as integers is taken as the codes that it is, or quantised as `loomc convert` does it.
    ///
    /// The file has to hold the program's weights and nothing else; everything that is wrong is told at once.
    pub fn from_file(path: &Path, program: &Program) -> Result<Weights, WeightsError> {
        Weights::from_tensors(&TensorFile::open(path)?, program)
    }

    /// The same from an open file.
    pub fn from_tensors(file: &TensorFile, program: &Program) -> Result<Weights, WeightsError> {
        let stored = StoredFile::of(file)?;
        let made = codes::of_file(&stored, program).map_err(|error| WeightsError::of_codes(file.path(), error))?;
        Weights::of_stored(&stored, program, made)
    }

    /// A program's weights from its artifact, which has each as the program has it.
    pub(crate) fn from_artifact(file: &TensorFile, program: &Program) -> Result<Weights, WeightsError> {
        Weights::of_stored(&StoredFile::plain(file), program, BTreeMap::new())
    }

    /// `made` are weights that other tensors of the file stand for.
    fn of_stored(
        stored: &StoredFile<'_>,
        program: &Program,
        mut made: BTreeMap<String, Tensor>,
    ) -> Result<Weights, WeightsError> {
        let file = stored.file();
        let problems = compare(stored, program, &made);
        if !problems.is_empty() {
            return Err(WeightsError::Mismatch { path: file.path().to_path_buf(), problems });
        }
        let tensors = program.weights().map(|(_, buffer)| match (made.remove(&buffer.name), buffer.dtype) {
            (Some(tensor), _) => Ok(tensor),
            (None, DType::F32) => stored.tensor_f32(&buffer.name).ok_or_else(|| WeightsError::Memory {
                path: file.path().to_path_buf(),
                name: buffer.name.clone(),
                shape: buffer.shape.clone(),
            }),
            (None, _) => Ok(file.tensor(&buffer.name)?),
        });
        Ok(Weights { tensors: tensors.collect::<Result<_, _>>()? })
    }

    /// The weights that are these tensors, if names, types and shapes are the program's, in its order.
    pub fn of_program(tensors: Vec<Tensor>, program: &Program) -> Option<Weights> {
        let fits = |(tensor, (_, buffer)): (&Tensor, (_, &Buffer))| {
            (tensor.name(), tensor.dtype(), tensor.shape()) == (&*buffer.name, buffer.dtype, &buffer.shape)
        };
        let all = tensors.len() == program.weights().count() && tensors.iter().zip(program.weights()).all(fits);
        all.then_some(Weights { tensors })
    }

    /// Draws a program's weights: the same seed gives the same bits everywhere.
    ///
    /// What a weight is initialised as follows from its role, the last part of its name:
    ///
    /// | role | values |
    /// |---|---|
    /// | `weight`, `…_weight` | Glorot uniform: `(2u - 1) · limit` with `limit = sqrt(6 / (fan_in + fan_out))`, computed in f64 and rounded once to f32. Of a shape `[out, in, …]`, `fan_out` is `out` and `fan_in` is `in`, each times the extents behind them |
    /// | `bias`, `…_bias`, `beta`, `running_mean` | +0.0 |
    /// | `gamma`, `running_var` | 1.0 |
    /// | `cluster_centers` | `2u - 1` |
    ///
    /// `u` is the word of [`loom_ir::numerics::philox`] with the element's row-major index, in the stream of the layer's
    /// path (the name without the role) and the role.
    pub fn initialise(program: &Program, seed: u64) -> Result<Weights, InitialiseError> {
        let tensors = FpEnv::run(|| initialise::weights(program, seed))?;
        Ok(Weights { tensors })
    }

    /// The tensors, in the program's order.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The forms of those that are kept as they are stored, by their buffers in the program that they are of.
    pub fn forms(&self, program: &Program) -> Forms {
        stored_forms(program, self)
    }

    /// How many numbers they hold.
    pub fn parameters(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.shape().elements()).sum()
    }
}

impl WeightBits for Weights {
    fn bits(&self, index: usize) -> &[u32] {
        self.tensors.get(index).map_or(&[], Tensor::bits)
    }

    fn release(&self, index: usize) {
        if let Some(tensor) = self.tensors.get(index) {
            tensor.release();
        }
    }

    fn stored(&self, index: usize) -> Option<(View<'_>, Form)> {
        self.tensors.get(index)?.stored()
    }
}

/// Why weights could not be taken from a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The file itself is wrong.
    #[error(transparent)]
    File(#[from] TensorError),
    /// The scales of its tensors are wrong.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A weight that is multiplied as an integer and isn't finite.
    #[error("{}: `{name}`: element {index} is {value}: only finite numbers have codes", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The weight.
        name: String,
        /// Which element.
        index: usize,
        /// It.
        value: f32,
    },
    /// Not enough memory for a weight that is stored in fewer bits.
    #[error("{}: no memory for `{name}` {shape}", path.display())]
    Memory {
        /// The file.
        path: PathBuf,
        /// The weight.
        name: String,
        /// Its shape.
        shape: Shape,
    },
    /// The file holds other weights than the network has.
    #[error("{}: these are not the network's weights:{}", path.display(), list(problems))]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// Everything that differs: what is missing, what differs, what is too much.
        problems: Vec<WeightProblem>,
    },
}

impl WeightsError {
    fn of_codes(path: &Path, error: CodesError) -> WeightsError {
        let path = path.to_path_buf();
        match error {
            CodesError::NotFinite { name, index, value } => WeightsError::NotFinite { path, name, index, value },
            CodesError::Memory { name, shape } => WeightsError::Memory { path, name, shape },
        }
    }
}

/// One difference between a network's weights and a file's tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WeightProblem {
    /// Not in the file.
    Missing {
        /// The weight.
        name: String,
        /// Its type.
        dtype: DType,
        /// Its shape.
        shape: Shape,
        /// A tensor of the file that the network doesn't have and that may be meant.
        hint: Option<String>,
    },
    /// Of another shape.
    WrongShape {
        /// The weight.
        name: String,
        /// The network's.
        expected: Shape,
        /// The file's.
        found: Shape,
    },
    /// Of another type.
    WrongDType {
        /// The weight.
        name: String,
        /// The network's.
        expected: DType,
        /// The file's.
        found: FileDType,
    },
    /// Not in the network.
    Extra {
        /// The file's tensor.
        name: String,
        /// A weight that the file doesn't have and that may be meant.
        hint: Option<String>,
    },
}

impl fmt::Display for WeightProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mean = |f: &mut fmt::Formatter<'_>, hint: &Option<String>, before: &str| match hint {
            Some(hint) => write!(f, " ({before} `{hint}`?)"),
            None => Ok(()),
        };
        match self {
            WeightProblem::Missing { name, dtype, shape, hint } => {
                write!(f, "`{name}` {dtype} {shape} is missing")?;
                mean(f, hint, "is it")
            }
            WeightProblem::WrongShape { name, expected, found } => {
                write!(f, "`{name}` has shape {found}, the network needs {expected}")
            }
            WeightProblem::WrongDType { name, expected, found } => {
                write!(f, "`{name}` is {found}, the network needs {expected}")?;
                match (expected, found.name()) {
                    (DType::F32, "F64") => f.write_str(" (`loomc convert --dtype f32` rounds it)"),
                    _ => Ok(()),
                }
            }
            WeightProblem::Extra { name, hint } => {
                write!(f, "`{name}` is not a weight of the network")?;
                mean(f, hint, "did you mean")
            }
        }
    }
}

/// All problems, one a line; of very many only the first.
fn list(problems: &[WeightProblem]) -> String {
    const SHOWN: usize = 50;
    let mut text: String = problems.iter().take(SHOWN).map(|problem| format!("\n  {problem}")).collect();
    if let Some(more) = problems.len().checked_sub(SHOWN).filter(|&more| more > 0) {
        text.push_str(&format!("\n  and {more} more"));
    }
    text
}

fn compare(file: &StoredFile<'_>, program: &Program, made: &BTreeMap<String, Tensor>) -> Vec<WeightProblem> {
    let coded = codes::coded(program);
    let known: BTreeSet<&str> = program.weights().map(|(_, buffer)| buffer.name.as_str()).collect();
    let missing: Vec<&str> =
        known.iter().copied().filter(|&name| file.get(name).is_none() && !made.contains_key(name)).collect();
    // A scale that belongs to the file's own codes is none of its tensors; where the network has codes and the file numbers, one
    // beside them belongs to nothing, and sums never do.
    let companion = |name: &str| name.strip_suffix(SCALE).or_else(|| name.strip_suffix(SUM)).map(str::to_string);
    let stray = |name: &str| made.contains_key(name) && companion(name).is_some_and(|codes| made.contains_key(&codes));
    let extra: Vec<&str> =
        file.tensors().map(|(name, _)| name).filter(|name| !known.contains(name) || stray(name)).collect();
    // Every pair of names is measured: a courtesy that a hostile file must not be able to make expensive.
    let hints = missing.len().saturating_mul(extra.len()) <= 100_000;
    let hint = |name: &str, among: &[&str]| {
        nearest(name, among.iter().copied().take(if hints { usize::MAX } else { 0 })).map(str::to_string)
    };
    let mut problems = Vec::new();
    for (_, buffer) in program.weights().filter(|(_, buffer)| !made.contains_key(&buffer.name)) {
        let name = || buffer.name.clone();
        let Some(stored) = file.get(&buffer.name) else {
            // Where codes can't be made of a tensor, that is what is told.
            let of_codes = |codes: &str| {
                coded.contains_key(codes)
                    && file.get(codes).is_some_and(|codes| codes.dtype != FileDType::of(DType::I32))
            };
            if companion(&buffer.name).is_some_and(|codes| of_codes(&codes)) {
                continue;
            }
            let (dtype, shape) = (buffer.dtype, buffer.shape.clone());
            problems.push(WeightProblem::Missing { name: name(), dtype, shape, hint: hint(&buffer.name, &extra) });
            continue;
        };
        if stored.shape != buffer.shape {
            let (expected, found) = (buffer.shape.clone(), stored.shape.clone());
            problems.push(WeightProblem::WrongShape { name: name(), expected, found });
        }
        let fits = match buffer.dtype {
            DType::F32 => stored.is_f32(),
            dtype => stored.dtype == FileDType::of(dtype) && !stored.is_quantised(),
        };
        if !fits {
            // Codes are made of floats.
            let expected = if matches!(buffer.kind, BufferKind::Codes(_)) { DType::F32 } else { buffer.dtype };
            problems.push(WeightProblem::WrongDType { name: name(), expected, found: stored.dtype });
        }
    }
    let extras =
        extra.iter().map(|name| WeightProblem::Extra { name: (*name).to_string(), hint: hint(name, &missing) });
    problems.extend(extras);
    problems
}
