//! Simplification of graphs: four passes, each exact for all inputs (LN1 section 5).

mod cse;
mod dce;
mod fold;
mod identities;

use loom_ir::graph::{Graph, NodeId, Op};

pub use cse::eliminate_common;
pub use dce::eliminate_dead;
pub use fold::fold_constants;
pub use identities::simplify_identities;

/// The bits that a one-element constant repeats under views that add nothing else. A loop: a graph may be as deep as it
/// has nodes.
fn splat(graph: &Graph, mut id: NodeId) -> Option<u32> {
    loop {
        match &graph.node(id).op {
            Op::Constant(bits) => match **bits {
                [bits] => return Some(bits),
                _ => return None,
            },
            Op::Broadcast { .. } | Op::Reshape(_) | Op::Transpose(_) | Op::Slice { .. } => id = graph.operands(id)[0],
            _ => return None,
        }
    }
}
