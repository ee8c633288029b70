//! Safetensors files from strangers.

use std::path::Path;

use loom_ir::numerics::formats::Storage;
use loom_ir::numerics::quantise::Scheme;
use loom_ir::types::DType;
use loom_runtime::storage::{Conversion, Granularity, StoredFile, convert_in_memory};
use loom_runtime::tensors::{FileDType, Part, TensorFile, container};

/// Opens a file, takes every tensor, and writes them again; then every number, by scale or not, and in other formats.
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
    numbers(&file);
}

/// What a file's tensors stand for, and the same after they were converted.
fn numbers(file: &TensorFile) {
    let stored = match StoredFile::of(file) {
        Ok(stored) => stored,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    for (name, tensor) in stored.tensors() {
        let bits = tensor.to_f32();
        assert_eq!(bits.is_some(), tensor.is_f32(), "{name}");
        assert!(bits.is_none_or(|bits| bits.len() as u64 == tensor.shape.elements()), "{name}");
    }
    let formats = [Storage::I4, Storage::F4, Storage::U16, Storage::F64];
    for (number, storage) in formats.into_iter().enumerate() {
        let granularity = if number.is_multiple_of(2) { Granularity::Group(3) } else { Granularity::Channel };
        let scheme = Scheme::Symmetric;
        let conversion = Conversion { default: Some(storage), rules: Vec::new(), scaled: true, scheme, granularity };
        let bytes = match convert_in_memory(&stored, &conversion) {
            Ok(bytes) => bytes,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                continue;
            }
        };
        let again = TensorFile::from_bytes(Path::new("again"), bytes.clone())
            .unwrap_or_else(|error| panic!("a converted file is refused: {error}"));
        let again = StoredFile::of(&again).unwrap_or_else(|error| panic!("a converted file is refused: {error}"));
        assert_eq!(again.tensors().len(), stored.tensors().len());
        let nothing = Conversion { default: None, ..conversion };
        let unchanged = convert_in_memory(&again, &nothing).unwrap_or_else(|error| panic!("{error}"));
        assert!(unchanged == bytes, "what is not converted stays as it is");
    }
}
