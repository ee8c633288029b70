//! The verifier of graphs.
//!
//! It checks that counts are within [`crate::limits`], that no tensor has elements of 64 bits, that leaves have legal types
//! and constants their elements, that
//! every other node's type is what its operation gives for its operands, that names of inputs, weights and outputs are
//! unique, that there is an output, that cycles go through recurrences alone and that what is on them is computed slice by
//! slice. Not checked: that every node is used.

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
    /// Codes that aren't `i32`.
    #[error("%{}: codes are i32, not {ty}", node.index())]
    Codes {
        /// The node.
        node: NodeId,
        /// Its type.
        ty: TensorType,
    },
    /// Elements of 64 bits.
    #[error("%{}: no device computes in {dtype} yet", node.index())]
    Wide {
        /// The node.
        node: NodeId,
        /// Its elements' type.
        dtype: DType,
    },
    /// Two of a name.
    #[error("the name `{0}` is used twice")]
    DuplicateName(String),
    /// No output.
    #[error("the graph has no output")]
    NoOutput,
    /// A cycle.
    #[error("the graph has a cycle that is no recurrence")]
    Cycle,
    /// Something on a cycle that needs more than the slice of one step.
    #[error("%{}: `{op}` is a part of a recurrence and does not keep to the slice of one step", node.index())]
    Recurrence {
        /// The node.
        node: NodeId,
        /// Its operation.
        op: &'static str,
    },
    /// Too many nodes.
    #[error("{0} nodes, the limit is {limit}", limit = limits::MAX_GRAPH_NODES)]
    TooMany(usize),
}

/// What is on a cycle is computed slice by slice, from one end of its recurrences to the other.
fn check_cycles(graph: &Graph) -> Result<(), VerifyError> {
    for cycle in graph.cycles() {
        let members: BTreeSet<NodeId> = cycle.iter().copied().collect();
        for &id in &cycle {
            let node = graph.node(id);
            let operands = graph.operands(id);
            let types: Vec<&TensorType> = operands.iter().map(|&operand| graph.ty(operand)).collect();
            let slicewise = |position: usize| match node.op {
                Op::Recur(_) => position == 1,
                _ => node.op.is_slicewise(position, &types, &node.ty),
            };
            let inside = (0..operands.len()).filter(|&position| members.contains(&operands[position]));
            if !inside.into_iter().all(slicewise) {
                return Err(VerifyError::Recurrence { node: id, op: node.op.name() });
            }
        }
    }
    Ok(())
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
        if let Op::Input(name) | Op::Weight(name) | Op::Codes(name, _) = &node.op
            && !names.insert(name.as_str())
        {
            return Err(VerifyError::DuplicateName(name.clone()));
        }
        if node.ty.dtype.is_wide() {
            return Err(VerifyError::Wide { node: id, dtype: node.ty.dtype });
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
            if matches!(node.op, Op::Codes(..)) && node.ty.dtype != DType::I32 {
                return Err(VerifyError::Codes { node: id, ty: node.ty.clone() });
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
    check_cycles(graph)?;
    for (name, _) in graph.outputs() {
        if !names.insert(name.as_str()) {
            return Err(VerifyError::DuplicateName(name.clone()));
        }
    }
    if graph.outputs().is_empty() { Err(VerifyError::NoOutput) } else { Ok(()) }
}
