//! Compiled networks from strangers.

use std::path::Path;

use loom_runtime::artifact::{Artifact, ArtifactError};
use loom_runtime::executor::ExecuteError;
use loom_runtime::session::{Device, RunError, Session, SessionOptions};
use loom_runtime::weights::draw_inputs;

use super::{affordable, expect_no_defect, run};

/// Loads an artifact, with the digest put right so that a fuzzer gets past it, and runs it if it costs little.
///
/// # Panics
/// Where Loom is wrong.
pub fn run(data: &[u8]) {
    let path = Path::new("fuzz.loom");
    let artifact = match Artifact::from_bytes(path, data.to_vec()) {
        Err(ArtifactError::Digest { claimed, found, .. }) => {
            let Some(mended) = replaced(data, claimed.as_bytes(), found.as_bytes()) else { return };
            Artifact::from_bytes(path, mended)
        }
        other => other,
    };
    let artifact = match artifact {
        Ok(artifact) => artifact,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let mut written = Vec::new();
    artifact.write(&mut written).unwrap_or_else(|error| panic!("can't be written again: {error}"));
    Artifact::from_bytes(path, written).unwrap_or_else(|error| panic!("a written artifact is refused: {error}"));
    if !affordable(artifact.program()) {
        return;
    }
    run::agree(artifact.program(), artifact.seed());
    // The way of a caller: sessions, which cut inputs into batches.
    let Ok(inputs) = draw_inputs(artifact.program(), artifact.seed()) else { return };
    match Session::new(&artifact, SessionOptions::on(Device::Interp)) {
        Err(error) => expect_no_defect(&error, artifact.program()),
        Ok(mut session) => {
            if let Err(RunError::Execute(ExecuteError::Internal(message))) = session.run_tensors(&inputs) {
                panic!("{message}");
            }
        }
    }
}

/// The data with the only place of one text taken by another of the same length.
fn replaced(data: &[u8], old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    let same = !old.is_empty() && old.len() == new.len();
    let mut places = data.windows(old.len().max(1)).enumerate().filter(|(_, window)| *window == old);
    let (place, _) = places.next().filter(|_| same)?;
    let mut mended = data.to_vec();
    mended[place..place + new.len()].copy_from_slice(new);
    places.next().is_none().then_some(mended)
}
