//! `fold`: operations on constants are computed now, by the reference interpreter.
//!
//! Before: `%1 = constant [2.0]; %2 = exp %1`. After: `%2 = constant [...]`. The interpreter gives the very bits that the
//! operation would give at run time; no other arithmetic is used.

use loom_ir::eval::program::{self, Memory};
use loom_ir::graph::{Graph, NodeId, Op};
use loom_ir::kernel::{BufferKind, verify};
use loom_ir::types::Shape;

use super::splat;
use crate::schedule::schedule;

/// What takes more than so many terms is left to the run, as are results with more elements: they'd only make compiling
/// slower and the artifact larger.
const MAX_ELEMENTS: u64 = 1 << 12;

/// Folds every node whose operands are constants. Views of one-element constants stay: they cost nothing.
pub fn fold_constants(mut graph: Graph) -> Graph {
    for id in graph.topological() {
        let node = graph.node(id);
        let operands = graph.operands(id);
        let constant = |&operand: &NodeId| splat(&graph, operand).is_some();
        if node.op.is_view() || operands.is_empty() || !operands.iter().all(constant) {
            continue;
        }
        // An elementwise operation on repeated scalars repeats the result of the scalars.
        let elementwise = !matches!(node.op, Op::Contract(_) | Op::Reduce { .. });
        let large = |shape: &Shape| shape.elements() > MAX_ELEMENTS;
        let work = || operands.iter().any(|&operand| large(graph.shape(operand))) || large(&node.ty.shape);
        if !elementwise && work() {
            continue;
        }
        if let Some(folded) = folded(&mut graph, id, elementwise) {
            graph.replace(id, folded);
        }
    }
    graph
}

/// A constant that stands for node `id`; where `scalar`, computed for one element and repeated.
fn folded(graph: &mut Graph, id: NodeId, scalar: bool) -> Option<NodeId> {
    let node = graph.node(id).clone();
    let mut small = Graph::new("fold");
    let mut operands = Vec::new();
    for operand in graph.operands(id) {
        let bits = splat(graph, operand)?;
        let mut ty = graph.ty(operand).clone();
        let shape = std::mem::take(&mut ty.shape);
        let constant = small.add_leaf(Op::Constant([bits].into()), ty, "");
        let broadcast = Op::Broadcast { shape, axes: Vec::new() };
        operands.push(if scalar { constant } else { small.add(broadcast, &[constant], "").ok()? });
    }
    let result = small.add(node.op.clone(), &operands, "").ok()?;
    small.add_output("output", result);
    let program = verify(schedule(&small)).ok()?;
    let mut memory = Memory::new(&program);
    program::run(&program, &mut memory);
    let (output, _) = program.buffers_where(|kind| *kind == BufferKind::Output).next()?;
    let bits = std::mem::take(&mut memory.buffers[output.index()]);
    let mut ty = node.ty.clone();
    let shape = if scalar { std::mem::take(&mut ty.shape) } else { ty.shape.clone() };
    let constant = graph.add_leaf(Op::Constant(bits.into()), ty, &node.origin);
    if !scalar {
        return Some(constant);
    }
    graph.add(Op::Broadcast { shape, axes: Vec::new() }, &[constant], &node.origin).ok()
}
