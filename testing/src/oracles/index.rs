//! Indices of tensors in several files, from strangers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use loom_runtime::tensors::parse_index;

/// Reads an index. The files that it names lie below its folder, each tensor is in one of them; and an index that says the
/// same is read alike.
///
/// # Panics
/// Where Loom is wrong.
pub fn run(data: &[u8]) {
    let path = Path::new("fuzz.safetensors.index.json");
    let files = match parse_index(path, data) {
        Ok(files) => files,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let mut seen = BTreeSet::new();
    let mut map = BTreeMap::new();
    for (file, tensors) in &files {
        let below = Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
        assert!(below && !Path::new(file).is_absolute(), "{file:?} is not below the folder");
        assert!(!tensors.is_empty(), "{file:?} holds nothing");
        for tensor in tensors {
            assert!(seen.insert(tensor), "{tensor:?} is in two files");
            map.insert(tensor.as_str(), file.as_str());
        }
    }
    let text = serde_json::json!({ "weight_map": map }).to_string();
    let again = parse_index(path, text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(again, files, "{text}");
}
