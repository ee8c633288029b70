//! Artifacts: the same bytes each time, back as they were, and nothing that a file may hold panics.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{artifact, artifact_bytes, tensor};
use loom_runtime::artifact::{Artifact, ArtifactError, Target};
use loom_runtime::session::{Device, Session, SessionOptions};
use loom_runtime::tensors::{Part, TensorFile, container, write_tensors};
use proptest::prelude::*;
use serde_json::Value;

fn load(bytes: Vec<u8>) -> Result<Artifact, ArtifactError> {
    Artifact::from_bytes(Path::new("test.loom"), bytes)
}

#[test]
fn round_trip() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.loom");
    artifact().save(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes, artifact_bytes(), "the same bytes each time");
    let loaded = Artifact::load(&path).unwrap();
    assert_eq!(loaded.program(), artifact().program());
    assert_eq!(loaded.weights().tensors(), artifact().weights().tensors());
    assert!(loaded.weights().tensors().iter().all(|tensor| tensor.is_mapped()));
    assert_eq!((loaded.target(), loaded.seed()), (Target::Wgsl, 7));
    assert_eq!(loaded.kernels(), artifact().kernels());
    assert_eq!(loaded.metadata(), &BTreeMap::from([("author".to_string(), "a test".to_string())]));
    let mut again = Vec::new();
    loaded.write(&mut again).unwrap();
    assert_eq!(again, bytes);
    assert!(safetensors::SafeTensors::deserialize(&bytes).is_ok());
}

/// Not one bit of a file is free.
#[test]
fn every_flipped_bit_is_noticed() {
    let bytes = artifact_bytes();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            assert!(load(changed).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn every_truncation_is_noticed() {
    let bytes = artifact_bytes();
    for length in 0..bytes.len() {
        assert!(load(bytes[..length].to_vec()).is_err());
    }
}

/// The artifact with its metadata changed and the digest left out or made right.
fn changed(change: impl FnOnce(&mut BTreeMap<String, String>)) -> Result<Artifact, ArtifactError> {
    let file = TensorFile::from_bytes(Path::new("test.loom"), artifact_bytes()).unwrap();
    let mut metadata = file.metadata().clone();
    change(&mut metadata);
    let tensors: Vec<_> = file.tensors().map(|(name, _)| file.tensor(name).unwrap()).collect();
    let parts: Vec<Part<'_>> = tensors.iter().map(Part::from).collect();
    let write = |metadata: &BTreeMap<String, String>| {
        let mut bytes = Vec::new();
        container(&mut bytes, metadata, &parts).unwrap();
        bytes
    };
    match load(write(&metadata)) {
        // The error tells the right digest; a file that lies about its content can be expected to know it too.
        Err(ArtifactError::Digest { found, .. }) => {
            metadata.insert("loom.digest".to_string(), found);
            load(write(&metadata))
        }
        other => other,
    }
}

#[track_caller]
fn refused(change: impl FnOnce(&mut BTreeMap<String, String>)) -> String {
    changed(change).unwrap_err().to_string()
}

#[test]
fn wrong_values() {
    let set = |key: &'static str, value: &'static str| {
        move |metadata: &mut BTreeMap<String, String>| {
            metadata.insert(key.to_string(), value.to_string());
        }
    };
    let remove = |key: &'static str| {
        move |metadata: &mut BTreeMap<String, String>| {
            metadata.remove(key);
        }
    };
    assert!(changed(|_| {}).is_ok());
    assert!(refused(remove("loom.format")).contains("not a compiled network"));
    assert!(refused(set("loom.format", "2")).contains("this is format `2`"));
    assert!(refused(set("loom.numerics", "LN2")).contains("made for the numerics `LN2`"));
    assert!(refused(remove("loom.digest")).ends_with("damaged: no `loom.digest`"));
    assert!(refused(remove("loom.program")).ends_with("damaged: no `loom.program`"));
    assert!(refused(set("loom.target", "tpu")).contains("no target `tpu`"));
    assert!(refused(set("loom.seed", "-1")).contains("`-1` is not a 64-bit number"));
    assert!(refused(set("loom.kernels", "{}")).contains("damaged: `loom.kernels`"));
    assert!(refused(set("loom.program", "{\"name\":1}")).contains("damaged: `loom.program`"));
    let deep: &'static str = Box::leak("[".repeat(100_000).into_boxed_str());
    assert!(refused(set("loom.program", deep)).contains("damaged: `loom.program`"));
    assert!(matches!(
        changed(|metadata| edit(metadata, |program| program["kernels"][0]["axes"][0] = 5.into())),
        Err(ArtifactError::Program { .. })
    ));
    assert!(matches!(
        changed(|metadata| edit(metadata, |program| program["buffers"][2]["name"] = "layers.0.scale".into())),
        Err(ArtifactError::Weights(_))
    ));
}

/// A contraction over nothing still runs its epilogue.
#[test]
fn an_empty_sum_hides_no_access() {
    let empty = |offset: i64| {
        changed(|metadata| {
            edit(metadata, |program| {
                program["kernels"][0]["axes"][2] = 0.into();
                program["kernels"][0]["loads"][2]["coords"][0]["offset"] = offset.into();
            });
        })
    };
    assert!(empty(0).is_ok());
    assert!(matches!(empty(1), Err(ArtifactError::Program { .. })));
}

fn edit(metadata: &mut BTreeMap<String, String>, change: impl FnOnce(&mut Value)) {
    let mut program: Value = serde_json::from_str(&metadata["loom.program"]).unwrap();
    change(&mut program);
    metadata.insert("loom.program".to_string(), program.to_string());
}

#[test]
fn other_safetensors_files_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    write_tensors(&path, &[tensor("a", [1], &[1.0])]).unwrap();
    assert!(matches!(Artifact::load(&path), Err(ArtifactError::NotAnArtifact { .. })));
    fs::write(&path, "{\"layers\": []}, and so on").unwrap();
    assert!(matches!(Artifact::load(&path), Err(ArtifactError::File(_))));
}

/// All numbers of a JSON value, by path.
fn numbers(value: &mut Value) -> Vec<&mut Value> {
    match value {
        Value::Number(_) => vec![value],
        Value::Array(values) => values.iter_mut().flat_map(numbers).collect(),
        Value::Object(map) => map.values_mut().flat_map(numbers).collect(),
        _ => Vec::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Programs with numbers that somebody chose to hurt: refused or run, but never a panic.
    #[test]
    fn hostile_numbers(changes in proptest::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec![
        0i128, 1, 2, 3, 5, 255, 4096, 65_536, -1, -2, i32::MAX as i128, u32::MAX as i128, i64::MAX as i128, i64::MIN as i128, u64::MAX as i128,
    ])), 1..4)) {
        let result = changed(|metadata| edit(metadata, |program| {
            for (index, value) in changes {
                let mut all = numbers(program);
                let at = index.index(all.len());
                *all[at] = if value > i64::MAX as i128 { (value as u64).into() } else { (value as i64).into() };
            }
        }));
        if let Ok(artifact) = result && is_small(&artifact) {
            let expected = run(&artifact, Device::Interp);
            if Device::Cpu.is_compiled_in() {
                // Machine code without bounds checks: the verifier's word is all there is.
                assert_eq!(run(&artifact, Device::Cpu), expected);
            }
        }
    }
}

fn is_small(artifact: &Artifact) -> bool {
    let program = artifact.program();
    let elements: u64 = program.buffers.iter().map(|buffer| buffer.shape.elements()).sum();
    let indices = |axes: &[u64]| axes.iter().fold(1, |product: u64, &extent| product.saturating_mul(extent.max(1)));
    elements < 1 << 20 && program.kernels.iter().all(|kernel| indices(&kernel.axes) < 1 << 20)
}

/// The outputs for inputs of ones.
fn run(artifact: &Artifact, device: Device) -> Vec<Vec<u32>> {
    let mut session = Session::new(artifact, SessionOptions::on(device)).unwrap();
    let program = artifact.program();
    let filled = |(_, buffer): (_, &loom_ir::kernel::Buffer)| vec![0x3F80_0000; buffer.shape.elements() as usize];
    let inputs: Vec<Vec<u32>> = program.inputs().map(filled).collect();
    let mut outputs: Vec<Vec<u32>> = program.outputs().map(filled).collect();
    let inputs: Vec<&[u32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut views: Vec<&mut [u32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    session.run_into(&inputs, &mut views).unwrap();
    outputs
}
