//! Reports as files.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use loom_ir::kernel::{Buffer, Program, verify};
use serde::de::DeserializeOwned;

use super::{Finding, Report, ReportError, assemble};
use crate::artifact::NUMERICS;
use crate::tensors::{self, Part, Tensor, TensorError, TensorFile};

/// The version of the file's layout.
pub(super) const FORMAT: &str = "1";

const REPORT: &str = "loom.report";
const VERSION: &str = "loom.version";
const LN: &str = "loom.numerics";
const PROGRAM: &str = "loom.program";
const DIFFERENCE: &str = "loom.difference";

impl Report {
    /// Writes the report. The file appears whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), TensorError> {
        tensors::write_atomically(path, |file| self.write(file))
    }

    /// The bytes of the report's file.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let metadata: BTreeMap<String, String> = [
            (REPORT, FORMAT.to_string()),
            (VERSION, self.version.clone()),
            (LN, NUMERICS.to_string()),
            (PROGRAM, serde_json::to_string(&***self.program())?),
            (DIFFERENCE, serde_json::to_string(&self.finding)?),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_string(), value))
        .collect();
        let tensors = self.inputs.iter().chain(self.artifact.weights().tensors());
        tensors::container(out, &metadata, &tensors.map(Part::from).collect::<Vec<_>>())
    }

    /// Maps a report's file and checks all of it.
    pub fn load(path: &Path) -> Result<Report, ReportError> {
        Report::from_tensors(&TensorFile::open(path)?)
    }

    /// The same for bytes in memory; `path` is what errors call them.
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Report, ReportError> {
        Report::from_tensors(&TensorFile::from_bytes(path, bytes)?)
    }

    /// The same from an open safetensors file.
    pub fn from_tensors(file: &TensorFile) -> Result<Report, ReportError> {
        let path = || file.path().to_path_buf();
        let Some(format) = file.metadata().get(REPORT) else { return Err(ReportError::NotAReport { path: path() }) };
        if format != FORMAT {
            return Err(ReportError::Format { path: path(), found: format.clone() });
        }
        let numerics = text(file, LN)?;
        if numerics != NUMERICS {
            return Err(ReportError::Numerics { path: path(), found: numerics.to_string() });
        }
        let finding: Finding = json(file, DIFFERENCE)?;
        let program: Program = json(file, PROGRAM)?;
        let program = verify(program).map_err(|source| ReportError::Program { path: path(), source })?;
        let inputs = program.inputs().map(|(_, buffer)| tensor(file, buffer)).collect::<Result<_, _>>()?;
        let weights = program.weights().map(|(_, buffer)| tensor(file, buffer)).collect::<Result<_, _>>()?;
        assemble(text(file, VERSION)?.to_string(), finding, program, weights, inputs)
            .ok_or_else(|| ReportError::Value { path: path(), key: PROGRAM, reason: "its tensors differ".to_string() })
    }
}

fn text<'a>(file: &'a TensorFile, key: &'static str) -> Result<&'a str, ReportError> {
    let missing = || ReportError::Value { path: file.path().to_path_buf(), key, reason: "is missing".to_string() };
    file.metadata().get(key).map(String::as_str).ok_or_else(missing)
}

fn json<T: DeserializeOwned>(file: &TensorFile, key: &'static str) -> Result<T, ReportError> {
    // serde_json counts the depth of nesting and stops at 128.
    serde_json::from_str(text(file, key)?).map_err(|error| {
        let reason = error.to_string();
        ReportError::Value { path: file.path().to_path_buf(), key, reason }
    })
}

/// The tensor of a buffer, of its type and shape.
fn tensor(file: &TensorFile, buffer: &Buffer) -> Result<Tensor, ReportError> {
    let wrong = || ReportError::Tensor { path: file.path().to_path_buf(), tensor: buffer.name.clone() };
    // Asked before anything is copied out of the file.
    if file.info(&buffer.name).is_some_and(|info| info.shape != buffer.shape) {
        return Err(wrong());
    }
    let tensor = file.tensor(&buffer.name)?;
    if tensor.dtype() == buffer.dtype { Ok(tensor) } else { Err(wrong()) }
}
