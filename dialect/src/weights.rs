//! The old weights, by the names that the predecessor's safetensors give them, and which of them a translation takes.

use std::collections::{BTreeMap, BTreeSet};

use loom_ir::limits;

use crate::Values;
use crate::definition::Layer;
use crate::emit::Weight;
use crate::error::DialectError;

/// Weights of the predecessor's, by name. Only the numbers count: in its files the shapes of dense layers' weights
/// don't go with the order of their numbers.
#[derive(Debug, Clone, Default)]
pub struct OldWeights {
    tensors: BTreeMap<String, Vec<f32>>,
    /// Of numbers that were packed in pairs there may be one too many.
    pub(crate) in_pairs: bool,
}

impl OldWeights {
    /// No weights yet.
    pub fn new() -> OldWeights {
        OldWeights::default()
    }

    /// Adds a tensor of the predecessor's name, such as `layers.0.weight`.
    pub fn insert(&mut self, name: impl Into<String>, values: Vec<f32>) {
        self.tensors.insert(name.into(), values);
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The numbers of a tensor.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        self.tensors.get(name).map(Vec::as_slice)
    }
}

/// Takes weights for layers, and knows what is left.
#[derive(Debug)]
pub(crate) struct Taker<'a> {
    weights: Option<&'a OldWeights>,
    taken: BTreeSet<String>,
    /// The prefixes of layers that compute nothing.
    dropped: BTreeSet<String>,
}

/// The weights of one layer, as they are taken.
#[derive(Debug)]
pub(crate) struct Own<'t, 'a> {
    taker: &'t mut Taker<'a>,
    layer: &'t Layer,
    missing: Vec<String>,
    wrong: Vec<DialectError>,
}

impl<'a> Taker<'a> {
    pub fn new(weights: Option<&'a OldWeights>) -> Taker<'a> {
        Taker { weights, taken: BTreeSet::new(), dropped: BTreeSet::new() }
    }

    /// Whether there is a file of weights at all.
    pub fn any(&self) -> bool {
        self.weights.is_some()
    }

    pub fn has(&self, layer: &Layer, role: &str) -> bool {
        self.weights.is_some_and(|weights| weights.get(&format!("{}.{role}", layer.prefix)).is_some())
    }

    /// What the layer has is not read by anything.
    pub fn drop_all(&mut self, layer: &Layer) {
        self.dropped.insert(layer.prefix.clone());
    }

    /// The same for one of its tensors.
    pub fn drop_one(&mut self, layer: &Layer, role: &str) {
        self.taken.insert(format!("{}.{role}", layer.prefix));
    }

    pub fn of<'t>(&'t mut self, layer: &'t Layer) -> Own<'t, 'a> {
        Own { taker: self, layer, missing: Vec::new(), wrong: Vec::new() }
    }

    /// The tensors that no layer took.
    pub fn extra(&self) -> Option<DialectError> {
        // A layer is no deeper than a config can be nested, however many points a name has.
        let above = |name: &str| {
            let ends = name.match_indices('.').take(limits::MAX_CONFIG_DEPTH.saturating_mul(2));
            ends.filter_map(|(end, _)| name.get(..end).map(str::to_owned)).collect::<Vec<String>>()
        };
        let dropped = |name: &&str| above(name).iter().any(|prefix| self.dropped.contains(prefix));
        let taken = |name: &&str| self.taken.contains(*name);
        let names = self.weights?.names().filter(|name| !taken(name) && !dropped(name));
        let names: Vec<String> = names.map(str::to_owned).collect();
        (!names.is_empty()).then_some(DialectError::ExtraWeights { names })
    }
}

impl<'a> Own<'_, 'a> {
    /// The numbers of a tensor, as many as `dims` have. None where there are no weights at all, or a mistake.
    fn numbers(&mut self, role: &str, dims: &[u64]) -> Option<&'a [f32]> {
        let weights = self.taker.weights?;
        let name = format!("{}.{role}", self.layer.prefix);
        let Some(values) = weights.get(&name) else {
            self.missing.push(name);
            return None;
        };
        let needed = dims.iter().fold(1, |product: u64, &size| product.saturating_mul(size));
        let found = values.len() as u64;
        let values = match usize::try_from(needed) {
            Ok(length) if weights.in_pairs && needed % 2 == 1 && found.checked_sub(1) == Some(needed) => {
                values.get(..length)?
            }
            _ => values,
        };
        self.taker.taken.insert(name.clone());
        if values.len() as u64 == needed {
            return Some(values);
        }
        let (path, span) = (self.layer.path.clone(), self.layer.span);
        self.wrong.push(DialectError::WeightSize { path, name, needed, found, span });
        None
    }

    /// A tensor whose numbers lie as the new one's.
    pub fn plain(&mut self, new: &'static str, old: &str, dims: &[u64]) -> Option<Weight> {
        let values = self.numbers(old, dims)?;
        Some(Weight { role: new, dims: dims.to_vec(), values: Values::Given(values.to_vec()) })
    }

    /// A matrix that lies as `[inputs][outputs]` and becomes `[outputs, inputs]`.
    pub fn transposed(&mut self, new: &'static str, old: &str, outputs: u64, inputs: u64) -> Option<Weight> {
        let values = self.numbers(old, &[inputs, outputs])?;
        let width = usize::try_from(outputs).ok()?;
        let column = |output: usize| values.iter().copied().skip(output).step_by(width.max(1));
        let values = Values::Given((0..width).flat_map(column).collect());
        Some(Weight { role: new, dims: vec![outputs, inputs], values })
    }

    /// Several tensors, one after another along the first axis.
    pub fn stacked(&mut self, new: &'static str, old: &[String], dims: &[u64]) -> Option<Weight> {
        let parts: Vec<Option<&[f32]>> = old.iter().map(|name| self.numbers(name, dims)).collect();
        let parts = parts.into_iter().collect::<Option<Vec<&[f32]>>>()?;
        let mut dims = dims.to_vec();
        let first = dims.first_mut()?;
        *first = first.saturating_mul(old.len() as u64);
        Some(Weight { role: new, dims, values: Values::Given(parts.concat()) })
    }

    /// What went wrong.
    pub fn finish(self) -> Vec<DialectError> {
        let mut errors = self.wrong;
        if !self.missing.is_empty() {
            let (path, span) = (self.layer.path.clone(), self.layer.span);
            errors.push(DialectError::MissingWeights { path, names: self.missing, span });
        }
        errors
    }
}
