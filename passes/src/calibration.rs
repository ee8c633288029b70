//! What is measured before a network of integers gets scales for its inputs.

use std::collections::BTreeMap;

use loom_ir::config::{LayerPath, Network, Precision};
use loom_ir::graph::{Builder, Graph, NodeId, Op};

use crate::lower::lower;
use crate::shapes::{ShapeErrors, ShapedKind, infer_shapes};

/// Values that a layer of integers multiplies with weights: one, or two where a recurrent layer has two states.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Watched {
    /// The layer.
    pub path: LayerPath,
    /// Which of its values.
    pub value: WatchedValue,
    /// How many there are.
    pub count: usize,
}

/// A value of a layer of integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WatchedValue {
    /// Its input.
    Input,
    /// What its last product takes, or a recurrent layer's state.
    Inner,
}

impl WatchedValue {
    /// The keys of the value's scale and zero point.
    pub const fn keys(self) -> [&'static str; 2] {
        match self {
            WatchedValue::Input => ["input_scale", "input_zero_point"],
            WatchedValue::Inner => ["inner_scale", "inner_zero_point"],
        }
    }
}

impl Watched {
    /// The layer's key for the scale, as it is reported.
    pub fn name(&self) -> String {
        format!("{}.{}", self.path, self.value.keys()[0])
    }

    /// The names of the graph's outputs with the values.
    pub fn outputs(&self) -> impl Iterator<Item = String> {
        let name = self.name();
        (0..self.count).map(move |number| if number == 0 { name.clone() } else { format!("{name}.{number}") })
    }
}

/// The network as one of floats in place of integers, with one more output for each value that a layer of integers multiplies
/// with weights.
pub fn watched(network: &Network) -> Result<(Graph, Vec<Watched>), ShapeErrors> {
    let mut shaped = infer_shapes(network)?;
    shaped.input_codes = None;
    for layer in shaped.layers.iter_mut().filter(|layer| matches!(layer.kind, ShapedKind::Quantise { .. })) {
        layer.kind = ShapedKind::Identity;
    }
    let mut integers: BTreeMap<String, LayerPath> = BTreeMap::new();
    for layer in shaped.layers.iter_mut().filter(|layer| layer.quantised.is_some()) {
        integers.insert(layer.path.to_string(), layer.path.clone());
        (layer.precision, layer.quantised) = (Precision::F32, None);
    }
    let mut graph = lower(&shaped);
    let mut values: BTreeMap<(LayerPath, WatchedValue), Vec<NodeId>> = BTreeMap::new();
    for id in graph.topological() {
        let operands = graph.operands(id);
        let (Op::Contract(_), &[lhs, rhs]) = (&graph.node(id).op, operands.as_slice()) else { continue };
        for (weight, other) in [(lhs, rhs), (rhs, lhs)] {
            let Op::Weight(name) = &graph.node(source(&graph, weight)).op else { continue };
            let Some((path, role)) = name.rsplit_once('.') else { continue };
            let Some(path) = integers.get(path) else { continue };
            let is_inner = matches!(role, "down_weight" | "o_weight") || role.starts_with("weight_hh");
            let which = if is_inner { WatchedValue::Inner } else { WatchedValue::Input };
            let value = value(&graph, other);
            let found = values.entry((path.clone(), which)).or_default();
            if !found.contains(&value) {
                found.push(value);
            }
        }
    }
    let mut watched = Vec::new();
    for ((path, which), found) in values {
        let entry = Watched { path, value: which, count: found.len() };
        for (name, value) in entry.outputs().zip(found) {
            let value = samples_first(&mut graph, value);
            graph.add_output(name, value);
        }
        watched.push(entry);
    }
    Ok((graph, watched))
}

/// A value as an output whose first axis is that of samples: of a state it is the second.
fn samples_first(graph: &mut Graph, value: NodeId) -> NodeId {
    if !matches!(graph.node(value).op, Op::Recur(_)) {
        return value;
    }
    let origin = graph.node(value).origin.clone();
    let rest = 2..graph.shape(value).rank();
    Builder::new(graph, origin).op(Op::Transpose([1, 0].into_iter().chain(rest).collect()), &[value])
}

/// The value that a layer takes, before the layer itself moves and repeats its elements for the product: samples come first in
/// it, and it has no elements that the layer doesn't take.
fn value(graph: &Graph, mut id: NodeId) -> NodeId {
    let samples = |id: NodeId| graph.shape(id).dims().first();
    while let Some(&operand) = graph.operands(id).first() {
        let whole = match &graph.node(id).op {
            Op::Reshape(_) | Op::Pad { .. } | Op::Window(_) => samples(operand) == samples(id),
            Op::Transpose(permutation) => permutation.first() == Some(&0),
            _ => false,
        };
        if !whole {
            break;
        }
        id = operand;
    }
    id
}

/// The value whose elements a node has, only elsewhere.
fn source(graph: &Graph, mut id: NodeId) -> NodeId {
    while graph.node(id).op.is_view() {
        match graph.operands(id).first() {
            Some(&operand) => id = operand,
            None => break,
        }
    }
    id
}
