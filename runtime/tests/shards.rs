//! Tensors in several files, by an index.

mod common;

use std::fs;
use std::path::Path;

use common::{program, tensor, weights_file};
use loom_ir::numerics::formats::Storage;
use loom_ir::numerics::quantise::Scheme;
use loom_runtime::storage::{Conversion, Granularity, StoredFile, convert};
use loom_runtime::tensors::{Tensor, TensorError, TensorFile, write_tensors};
use loom_runtime::weights::Weights;

const INDEX: &str = "model.safetensors.index.json";

fn index(folder: &Path, map: &str) -> Result<TensorFile, TensorError> {
    let path = folder.join(INDEX);
    fs::write(&path, format!(r#"{{"metadata": {{"total_size": 32}}, "weight_map": {{{map}}}}}"#)).unwrap();
    TensorFile::open(&path)
}

fn shards(folder: &Path) {
    write_tensors(&folder.join("1.safetensors"), &[tensor("layers.0.weight", [2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])])
        .unwrap();
    write_tensors(&folder.join("2.safetensors"), &[tensor("layers.0.bias", [2], &[7.0, 8.0])]).unwrap();
}

const MAP: &str = r#""layers.0.weight": "1.safetensors", "layers.0.bias": "2.safetensors""#;

#[test]
fn shards_are_one_file() {
    let folder = tempfile::tempdir().unwrap();
    shards(folder.path());
    let file = index(folder.path(), MAP).unwrap();
    let weights = Weights::from_tensors(&file, &program()).unwrap();
    assert!(weights.tensors().iter().all(Tensor::is_mapped));
    let one = weights_file(
        folder.path(),
        &[
            tensor("layers.0.weight", [2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            tensor("layers.0.bias", [2], &[7.0, 8.0]),
        ],
    );
    assert_eq!(weights.tensors(), Weights::from_file(&one, &program()).unwrap().tensors());
    assert_eq!(file.tensors().count(), 2);
    assert_eq!(file.data("layers.0.bias").map(<[u8]>::len), Some(8));
}

#[test]
fn packed_tensors_of_several_shards_become_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let conversion = |rules| Conversion {
        default: None,
        rules,
        scaled: true,
        scheme: Scheme::Symmetric,
        granularity: Granularity::Channel,
    };
    let mut map = Vec::new();
    for name in ["a", "b"] {
        let (wide, narrow) = (folder.path().join("wide"), folder.path().join(name));
        write_tensors(&wide, &[tensor(name, [2, 3], &[1.0, -2.0, 3.0, 4.0, 5.0, -6.0])]).unwrap();
        let wide = TensorFile::open(&wide).unwrap();
        let rules = vec![("*".to_string(), Storage::I4)];
        convert(&StoredFile::of(&wide).unwrap(), &narrow, &conversion(rules), &mut |_, _| {}).unwrap();
        map.extend([format!(r#""{name}": "{name}""#), format!(r#""{name}.scale": "{name}""#)]);
    }
    let file = index(folder.path(), &map.join(", ")).unwrap();
    let stored = StoredFile::of(&file).unwrap();
    let whole = folder.path().join("whole");
    convert(&stored, &whole, &conversion(Vec::new()), &mut |_, _| {}).unwrap();
    let whole = TensorFile::open(&whole).unwrap();
    let again = StoredFile::of(&whole).unwrap();
    assert_eq!(again.tensors().len(), 2);
    for (name, tensor) in stored.tensors() {
        assert_eq!(tensor.storage, Some(Storage::I4));
        assert_eq!(tensor.to_f32(), again.get(name).unwrap().to_f32());
    }
}

#[test]
fn wrong_indices_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    shards(folder.path());
    let error = |map: &str| index(folder.path(), map).unwrap_err();
    for file in ["../1.safetensors", "/1.safetensors", "./1.safetensors", "", "sub/../../1.safetensors"] {
        let found = error(&format!(r#""layers.0.weight": "{file}""#));
        assert!(matches!(&found, TensorError::ShardPath { .. }), "{file}: {found}");
    }
    let found = error(r#""layers.0.weight": "3.safetensors""#);
    assert!(matches!(&found, TensorError::Open { path, .. } if path.ends_with("3.safetensors")), "{found}");
    let found = error(&MAP.replace("bias", "bios"));
    assert!(matches!(&found, TensorError::NotInShard { tensor, .. } if tensor == "layers.0.bios"), "{found}");
    // A tensor that lies in two files is one too many in one of them.
    write_tensors(
        &folder.path().join("3.safetensors"),
        &[tensor("layers.0.bias", [1], &[0.0]), tensor("c", [], &[0.0])],
    )
    .unwrap();
    let found = error(&format!(r#"{MAP}, "c": "3.safetensors""#));
    assert!(matches!(&found, TensorError::NotInIndex { tensor, .. } if tensor == "layers.0.bias"), "{found}");
    let found = error(&format!("{MAP}, {MAP}"));
    assert!(matches!(&found, TensorError::Index { reason, .. } if reason.contains("stands twice")), "{found}");
    for text in ["", "[]", "{}", r#"{"weight_map": []}"#, r#"{"weight_map": {"a": 1}}"#] {
        fs::write(folder.path().join(INDEX), text).unwrap();
        let found = TensorFile::open(&folder.path().join(INDEX)).unwrap_err();
        assert!(matches!(&found, TensorError::Index { .. }), "{text}: {found}");
    }
    // What says of tensors how they are packed is looked at in every file.
    for (name, packed) in [("p", r#"{"p": {"dtype": "i4", "shape": [1]}}"#), ("q", "not json")] {
        let metadata = format!(r#""__metadata__":{{"loom.packed":{packed:?}}}"#);
        let header = format!(r#"{{{metadata},"{name}":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}}"#);
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[7]].concat();
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let found = error(r#""p": "p", "q": "q""#);
    assert!(matches!(&found, TensorError::Index { reason, .. } if reason.contains("loom.packed")), "{found}");
    fs::create_dir(folder.path().join("x.index.json")).unwrap();
    let found = TensorFile::open(&folder.path().join("x.index.json")).unwrap_err();
    assert!(matches!(found, TensorError::NotAFile { .. }), "{found}");
}
