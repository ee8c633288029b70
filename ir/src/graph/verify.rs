//! The verifier of graphs.
//!
//! It checks that counts are within [`crate::limits`], that leaves have legal types and constants their elements, that
//! every other node's type is what its operation gives for its operands, that names of inputs, weights and outputs are
//! unique, that there is an output, and that the graph has no cycle. Not checked: that every node is used.

use std::collections::BTreeSet;

use super::{Graph, NodeId, Op, OpError, TensorType};
use crate::limits;
use crate::types::{DType, Shape, ShapeLimit};

/// Why a graph is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// An operation that does not take its operands.
    #[error("%{}: `{op}` {source}", node.index())]
    Op {
        /// The node.
        node: NodeId,
        /// Its operation.
        op: &'static str,
        /// What's wrong.
        source: OpError,
    },
    /// A node of another type than its operation gives.
    #[error("%{}: is {found}, its operation gives {expected}", node.index())]
    Type {
        /// The node.
        node: NodeId,
        /// Stated.
        found: TensorType,
        /// Inferred.
        expected: TensorType,
    },
    /// A shape over the limits.
    #[error("%{}: {source}", node.index())]
    Shape {
        /// The node.
        node: NodeId,
        /// What's wrong.
        source: ShapeLimit,
    },
    /// A constant without the elements of its shape.
    #[error("%{}: the constant does not hold the elements of its shape", node.index())]
    Constant {
        /// The node.
        node: NodeId,
    },
    /// Numbers of another type, or along more than one axis.
    #[error("%{}: an iota is a u32 of one axis, not {ty}", node.index())]
    Iota {
        /// The node.
        node: NodeId,
        /// Its type.
        ty: TensorType,
    },
    /// Two of a name.
    #[error("the name `{0}` is used twice")]
    DuplicateName(String),
    /// No output.
    #[error("the graph has no output")]
    NoOutput,
    /// A cycle.
    #[error("the graph has a cycle")]
    Cycle,
    /// Too many nodes.
    #[error("{0} nodes, the limit is {limit}", limit = limits::MAX_GRAPH_NODES)]
    TooMany(usize),
}

/// Checks a graph: see the module's documentation.
pub fn verify(graph: &Graph) -> Result<(), VerifyError> {
    if graph.len() > limits::MAX_GRAPH_NODES {
        return Err(VerifyError::TooMany(graph.len()));
    }
    let order = graph.topological();
    if order.len() != graph.len() {
        return Err(VerifyError::Cycle);
    }
    let mut names = BTreeSet::new();
    for id in order {
        let node = graph.node(id);
        if let Op::Input(name) | Op::Weight(name) = &node.op
            && !names.insert(name.as_str())
        {
            return Err(VerifyError::DuplicateName(name.clone()));
        }
        let operands = graph.operands(id);
        if node.op.arity() == 0 && operands.is_empty() {
            let shape = Shape::checked(node.ty.shape.dims());
            let shape = shape.map_err(|source| VerifyError::Shape { node: id, source })?;
            if let Op::Constant(bits) = &node.op {
                let legal = node.ty.dtype != DType::Bool || bits.iter().all(|&bits| bits <= 1);
                if bits.len() as u64 != shape.elements() || !legal {
                    return Err(VerifyError::Constant { node: id });
                }
            }
            if node.op == Op::Iota && (node.ty.dtype != DType::U32 || node.ty.shape.rank() != 1) {
                return Err(VerifyError::Iota { node: id, ty: node.ty.clone() });
            }
            continue;
        }
        let types: Vec<&TensorType> = operands.iter().map(|&operand| graph.ty(operand)).collect();
        let expected =
            node.op.result_type(&types).map_err(|source| VerifyError::Op { node: id, op: node.op.name(), source })?;
        if expected != node.ty {
            return Err(VerifyError::Type { node: id, found: node.ty.clone(), expected });
        }
    }
    let mut outputs = BTreeSet::new();
    for (name, _) in graph.outputs() {
        if !outputs.insert(name) {
            return Err(VerifyError::DuplicateName(name.clone()));
        }
    }
    if graph.outputs().is_empty() { Err(VerifyError::NoOutput) } else { Ok(()) }
}
