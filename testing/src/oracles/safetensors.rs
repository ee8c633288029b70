//! Safetensors files from strangers.

use std::path::Path;

use loom_ir::types::DType;
use loom_runtime::tensors::{FileDType, Part, TensorFile, container};

/// Opens a file, takes every tensor, and writes them again.
///
/// # Panics
/// Where Loom is wrong.
pub fn run(data: &[u8]) {
    let path = Path::new("fuzz.safetensors");
    let file = match TensorFile::from_bytes(path, data.to_vec()) {
        Ok(file) => file,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let mut tensors = Vec::new();
    for (name, info) in file.tensors() {
        let bytes = file.data(name).map(<[u8]>::len);
        assert_eq!(info.dtype.bytes(info.shape.elements()), bytes.map(|bytes| bytes as u64), "{name}");
        if let Ok(tensor) = file.tensor(name) {
            let dtype = DType::ALL.into_iter().find(|&dtype| FileDType::of(dtype) == info.dtype);
            assert!(dtype.is_none_or(|dtype| tensor.dtype() == dtype), "{name} became another type");
            assert_eq!((tensor.shape(), tensor.bits().len() as u64), (&info.shape, info.shape.elements()), "{name}");
            tensors.push(tensor);
        }
    }
    let parts: Vec<Part<'_>> = tensors.iter().map(Part::from).collect();
    let mut written = Vec::new();
    container(&mut written, file.metadata(), &parts).unwrap_or_else(|error| panic!("can't be written again: {error}"));
    let again =
        TensorFile::from_bytes(path, written).unwrap_or_else(|error| panic!("a written file is refused: {error}"));
    assert_eq!(again.metadata(), file.metadata());
    for tensor in &tensors {
        let read = again.tensor(tensor.name()).unwrap_or_else(|error| panic!("a written tensor is refused: {error}"));
        assert_eq!((read.shape(), read.bits()), (tensor.shape(), tensor.bits()));
    }
}
