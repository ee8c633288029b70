//! The digest of an artifact: SHA-256 over its metadata and tensors.
//!
//! For each key of the metadata but `loom.digest`, in order, the key and the value; then for each tensor, in the order
//! of the names, its name, type, rank and extents, and bytes. Each text and each run of bytes follows its length, and all
//! numbers are 64 bits, little-endian. So nothing in a file can change unnoticed.

use std::collections::BTreeMap;

use loom_ir::types::Shape;
use sha2::{Digest, Sha256};

use super::key;
use crate::digest::hex;
use crate::tensors::{FileDType, Part, TensorFile};

/// Bytes of a file that lie in memory at a time while they are added up.
const PIECE: usize = 4 << 20;

pub(super) fn of_file(file: &TensorFile) -> String {
    let mut hash = Hash::begin(file.metadata());
    for (name, info) in BTreeMap::from_iter(file.tensors()) {
        let bytes = file.data(name).map_or(0, <[u8]>::len);
        hash.tensor(name, info.dtype, &info.shape, bytes);
        file.pass_over(name, PIECE, &mut |bytes| hash.0.update(bytes));
    }
    hash.finish()
}

/// The digest of the file that these will be.
pub(super) fn of_parts(metadata: &BTreeMap<String, String>, parts: &[Part<'_>]) -> String {
    let mut hash = Hash::begin(metadata);
    for (name, part) in BTreeMap::from_iter(parts.iter().map(|part| (part.name, part))) {
        let bytes = part.bytes();
        hash.tensor(name, FileDType::of(part.dtype), part.shape, bytes.len());
        hash.0.update(&bytes);
    }
    hash.finish()
}

struct Hash(Sha256);

impl Hash {
    fn begin(metadata: &BTreeMap<String, String>) -> Hash {
        let mut hash = Hash(Sha256::new());
        let entries = metadata.iter().filter(|(key, _)| *key != key::DIGEST);
        hash.number(entries.clone().count() as u64);
        for (key, value) in entries {
            hash.bytes(key.as_bytes());
            hash.bytes(value.as_bytes());
        }
        hash
    }

    /// What goes before a tensor's bytes.
    fn tensor(&mut self, name: &str, dtype: FileDType, shape: &Shape, bytes: usize) {
        self.bytes(name.as_bytes());
        self.bytes(dtype.name().as_bytes());
        self.number(shape.rank() as u64);
        for &extent in shape.dims() {
            self.number(extent);
        }
        self.number(bytes as u64);
    }

    fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}
