//! The formats in which a network's weights are kept.

use std::collections::BTreeMap;

use loom_runtime::weights::Weights;

use crate::format;

/// Bytes of weights by format, scales and zero points with the numbers that they belong to.
pub fn by_format(weights: &Weights) -> BTreeMap<&'static str, u64> {
    let mut bytes = BTreeMap::new();
    for tensor in weights.tensors() {
        let (format, size) = match tensor.stored() {
            Some((view, form)) => (form.storage.name(), view.bytes()),
            None => (tensor.dtype().name(), tensor.shape().elements() * tensor.dtype().size()),
        };
        *bytes.entry(format).or_default() += size;
    }
    bytes
}

/// The same for people: `1.2 MB as i8, 4.1 kB as f32`.
pub fn describe(bytes: &BTreeMap<&'static str, u64>) -> String {
    let parts: Vec<String> =
        bytes.iter().map(|(format, size)| format!("{} as {format}", format::bytes(*size))).collect();
    if parts.is_empty() { "none".to_string() } else { parts.join(", ") }
}
