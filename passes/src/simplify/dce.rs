//! `dce`: nodes that no output needs go. Inputs stay: they are what the caller gives.

use std::collections::BTreeSet;

use loom_ir::graph::{Graph, NodeId, Op};

/// Removes dead nodes.
pub fn eliminate_dead(mut graph: Graph) -> Graph {
    let mut live: BTreeSet<NodeId> = BTreeSet::new();
    let mut waiting: Vec<NodeId> = graph.outputs().iter().map(|(_, id)| *id).collect();
    while let Some(id) = waiting.pop() {
        if live.insert(id) {
            waiting.extend(graph.operands(id));
        }
    }
    // Users before operands, so that nothing removed is still used.
    for id in graph.topological().into_iter().rev() {
        if !live.contains(&id) && !matches!(graph.node(id).op, Op::Input(_)) {
            graph.remove(id);
        }
    }
    graph
}
