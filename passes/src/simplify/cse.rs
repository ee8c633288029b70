//! `cse`: equal operations on equal operands become one.
//!
//! Before: `%3 = sub %0 %1; %4 = sub %0 %1`. After: every user of `%4` uses `%3`. Sums, products and equality commute
//! exactly, up to the payload of a NaN, which nothing observes; their operands are compared in any order.

use std::collections::BTreeMap;

use loom_ir::graph::{Graph, NodeId, Op, TensorType};
use loom_ir::kernel::scalar::{BinaryOp, CompareOp};

/// Merges equal nodes.
pub fn eliminate_common(mut graph: Graph) -> Graph {
    let mut known: BTreeMap<(Op, TensorType, Vec<NodeId>), NodeId> = BTreeMap::new();
    for id in graph.topological() {
        let node = graph.node(id);
        if matches!(node.op, Op::Input(_) | Op::Weight(_) | Op::Codes(..)) {
            continue;
        }
        let mut operands = graph.operands(id);
        if commutes(&node.op) {
            operands.sort_unstable();
        }
        match known.entry((node.op.clone(), node.ty.clone(), operands)) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(id);
            }
            std::collections::btree_map::Entry::Occupied(entry) => {
                let first = *entry.get();
                graph.replace(id, first);
            }
        }
    }
    graph
}

fn commutes(op: &Op) -> bool {
    matches!(
        op,
        Op::Binary(BinaryOp::Add | BinaryOp::Mul | BinaryOp::And | BinaryOp::Or | BinaryOp::Xor)
            | Op::Compare(CompareOp::Eq | CompareOp::Ne)
    )
}
