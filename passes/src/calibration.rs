//! What is measured before a network of integers gets scales for its inputs.

use std::collections::BTreeMap;

use loom_ir::config::{LayerPath, Network, Precision};
use loom_ir::graph::{Graph, NodeId, Op};

use crate::lower::lower;
use crate::shapes::{ShapeErrors, ShapedKind, infer_shapes};

/// A value that a layer of integers multiplies with weights.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Watched {
    /// The layer.
    pub path: LayerPath,
    /// The key of the value's scale: `input_scale`, or `inner_scale` for what its last product takes.
    pub key: &'static str,
}

impl Watched {
    /// The name of the graph's output with the value.
    pub fn output(&self) -> String {
        format!("{}.{}", self.path, self.key)
    }
}

/// The network as one of floats in place of integers, with one more output for each value that a layer of integers multiplies
/// with weights.
pub fn watched(network: &Network) -> Result<(Graph, Vec<Watched>), ShapeErrors> {
    let mut shaped = infer_shapes(network)?;
    shaped.input_scale = None;
    for layer in shaped.layers.iter_mut().filter(|layer| matches!(layer.kind, ShapedKind::Quantise { .. })) {
        layer.kind = ShapedKind::Identity;
    }
    let mut integers: BTreeMap<String, LayerPath> = BTreeMap::new();
    for layer in shaped.layers.iter_mut().filter(|layer| layer.quantised.is_some()) {
        integers.insert(layer.path.to_string(), layer.path.clone());
        (layer.precision, layer.quantised) = (Precision::F32, None);
    }
    let mut graph = lower(&shaped);
    let mut values: BTreeMap<Watched, NodeId> = BTreeMap::new();
    for id in graph.topological() {
        let operands = graph.operands(id);
        let (Op::Contract(_), &[lhs, rhs]) = (&graph.node(id).op, operands.as_slice()) else { continue };
        for (weight, other) in [(lhs, rhs), (rhs, lhs)] {
            let Op::Weight(name) = &graph.node(source(&graph, weight)).op else { continue };
            let Some((path, role)) = name.rsplit_once('.') else { continue };
            let Some(path) = integers.get(path) else { continue };
            let inner = matches!(role, "down_weight" | "o_weight");
            let key = if inner { "inner_scale" } else { "input_scale" };
            values.insert(Watched { path: path.clone(), key }, value(&graph, other));
        }
    }
    for (watched, &value) in &values {
        graph.add_output(watched.output(), value);
    }
    Ok((graph, values.into_keys().collect()))
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
