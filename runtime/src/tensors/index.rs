//! Tensors in several files: `NAME.safetensors.index.json`, as Hugging Face writes it beside the files that it names.
//!
//! `{"metadata": {…}, "weight_map": {"a tensor": "a file", …}}`. The files lie in the index's folder or below it, and hold the
//! tensors that the map gives them and no others. What the index's own metadata says is not looked at.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use loom_ir::limits;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::error::TensorError;

/// The end of an index's name.
const ENDING: &str = ".index.json";

/// Whether a path names an index rather than a file of tensors.
pub fn is_index(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(ENDING))
}

#[derive(Deserialize)]
struct Index {
    #[serde(default, rename = "metadata")]
    _metadata: IgnoredAny,
    weight_map: WeightMap,
}

/// Tensors and their files; a tensor that stands twice is refused.
struct WeightMap(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<WeightMap, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = WeightMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object that gives each tensor its file")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((tensor, file)) = map.next_entry::<String, String>()? {
                    if entries.contains_key(&tensor) {
                        return Err(A::Error::custom(format!("`{tensor}` stands twice")));
                    }
                    entries.insert(tensor, file);
                }
                Ok(WeightMap(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// The files that an index names, or none where it can't be read as one.
pub fn shards(path: &Path) -> Vec<PathBuf> {
    let folder = path.parent().unwrap_or(Path::new(""));
    read(path).map_or_else(|_| Vec::new(), |files| files.into_keys().map(|file| folder.join(file)).collect())
}

/// The files of an index, in the order of their names, each with its tensors.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Vec<String>>, TensorError> {
    let open = |source| TensorError::Open { path: path.to_path_buf(), source };
    let file = File::open(path).map_err(open)?;
    if !file.metadata().map_err(open)?.is_file() {
        return Err(TensorError::NotAFile { path: path.to_path_buf() });
    }
    let most = limits::MAX_SAFETENSORS_HEADER_BYTES;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(open)?;
    if bytes.len() as u64 > most {
        let reason = format!("more than {most} bytes");
        return Err(TensorError::Index { path: path.to_path_buf(), reason });
    }
    parse(path, &bytes)
}

/// The same from an index's bytes; `path` is what errors call it. That the files are there, and hold the tensors, is not
/// known then.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Vec<String>>, TensorError> {
    let wrong = |reason: String| TensorError::Index { path: path.to_path_buf(), reason };
    let index: Index = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (tensor, file) in index.weight_map.0 {
        let inside = !file.is_empty() && Path::new(&file).components().all(|part| matches!(part, Component::Normal(_)));
        if !inside {
            return Err(TensorError::ShardPath { path: path.to_path_buf(), tensor, file });
        }
        files.entry(file).or_default().push(tensor);
    }
    if files.len() > limits::MAX_SHARDS {
        return Err(wrong(format!("{} files, the limit is {}", files.len(), limits::MAX_SHARDS)));
    }
    Ok(files)
}
