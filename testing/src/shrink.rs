//! The smallest case that still fails.
//!
//! What a difference needs is a few operations and often a few elements; a random graph has dozens. A case is made smaller
//! step by step, each kept only if the failure stays: one output of all, operands cut off (replaced by inputs with the
//! values that they had), operations left out, extents made shorter, elements made plain.

use std::collections::{BTreeMap, BTreeSet};

use loom_ir::eval::program::for_each_index;
use loom_ir::graph::{Graph, Node, NodeId, Op, TensorType};
use loom_ir::types::{DType, Shape};

use crate::case::{Case, Tensors};

/// How many cases are tried at most: a failing one may take a second.
const ATTEMPTS: usize = 600;

/// Makes a failing case smaller while `fails` holds. `evaluate` gives the outputs of a case as they should be: it is asked
/// for the values inside the graph, where it knows any.
pub fn shrink(case: Case, fails: &mut dyn FnMut(&Case) -> bool, evaluate: &dyn Fn(&Case) -> Option<Tensors>) -> Case {
    let mut shrinker = Shrinker { case, fails, attempts: ATTEMPTS, cuts: 0 };
    loop {
        let before = shrinker.attempts;
        let mut smaller = shrinker.output();
        smaller |= shrinker.cut(evaluate);
        smaller |= shrinker.bypass();
        smaller |= shrinker.extents();
        if !smaller || shrinker.attempts == 0 || shrinker.attempts == before {
            break;
        }
    }
    shrinker.values();
    shrinker.case
}

/// What becomes of a node.
enum Change {
    /// This operation; the type counts for leaves, that of others follows from their operands.
    Node(Op, TensorType),
    /// Its users use another node, an earlier one, instead.
    Alias(NodeId),
}

fn unchanged(node: &Node) -> Change {
    Change::Node(node.op.clone(), node.ty.clone())
}

/// The graph after changes, without what its outputs do not need; `None` where something does not fit any more.
fn rebuild(graph: &Graph, outputs: &[(String, NodeId)], change: &dyn Fn(NodeId, &Node) -> Change) -> Option<Graph> {
    let order = graph.topological();
    let changes: BTreeMap<NodeId, Change> = order.iter().map(|&id| (id, change(id, graph.node(id)))).collect();
    let mut needed: BTreeSet<NodeId> = BTreeSet::new();
    let mut waiting: Vec<NodeId> = outputs.iter().map(|(_, id)| *id).collect();
    while let Some(id) = waiting.pop() {
        if !needed.insert(id) {
            continue;
        }
        match &changes[&id] {
            Change::Alias(other) => waiting.push(*other),
            Change::Node(op, _) if op.arity() > 0 => waiting.extend(graph.operands(id)),
            Change::Node(..) => {}
        }
    }
    let mut smaller = Graph::new(graph.name.clone());
    let mut renamed: BTreeMap<NodeId, NodeId> = BTreeMap::new();
    // Recurrences, with the old node of what follows each step: a later one.
    let mut open: Vec<(NodeId, NodeId)> = Vec::new();
    for &id in order.iter().filter(|id| needed.contains(id)) {
        let new = match &changes[&id] {
            Change::Alias(other) => *renamed.get(other)?,
            Change::Node(Op::Recur(steps), _) => {
                let operands = graph.operands(id);
                let recur = smaller.add_recur(*steps, *renamed.get(&operands[0])?, "");
                open.push((recur, operands[1]));
                recur
            }
            Change::Node(op, ty) if op.arity() == 0 => smaller.add_leaf(op.clone(), ty.clone(), ""),
            Change::Node(op, _) => {
                let operands: Option<Vec<NodeId>> =
                    graph.operands(id).iter().map(|operand| renamed.get(operand).copied()).collect();
                smaller.add(op.clone(), &operands?, "").ok()?
            }
        };
        renamed.insert(id, new);
    }
    for (recur, after) in open {
        smaller.close(recur, *renamed.get(&after)?);
    }
    for (name, id) in outputs {
        smaller.add_output(name.clone(), renamed[id]);
    }
    loom_ir::graph::verify(&smaller).is_ok().then_some(smaller)
}

struct Shrinker<'a> {
    case: Case,
    fails: &'a mut dyn FnMut(&Case) -> bool,
    attempts: usize,
    /// How often [`cut`](Self::cut) ran: its inputs have new names each time.
    cuts: usize,
}

impl Shrinker<'_> {
    /// Takes the case if it fails too. Values that it does not name any more are left out.
    fn keep(&mut self, graph: Graph, mut values: Tensors) -> bool {
        if self.attempts == 0 {
            return false;
        }
        self.attempts -= 1;
        let names: BTreeSet<String> = graph
            .topological()
            .into_iter()
            .filter_map(|id| match &graph.node(id).op {
                Op::Input(name) | Op::Weight(name) | Op::Codes(name, _) => Some(name.clone()),
                _ => None,
            })
            .collect();
        values.retain(|name, _| names.contains(name));
        let candidate = Case { graph, values };
        let fails = (self.fails)(&candidate);
        if fails {
            self.case = candidate;
        }
        fails
    }

    /// One node, the earliest that fails, as the only output.
    fn output(&mut self) -> bool {
        let graph = self.case.graph.clone();
        if graph.outputs().len() == 1 && graph.outputs().iter().all(|(name, _)| name == "wrong") {
            return false;
        }
        graph.topological().into_iter().filter(|&id| graph.node(id).op.arity() > 0).any(|id| {
            let outputs = [("wrong".to_string(), id)];
            let candidate = rebuild(&graph, &outputs, &|_, node| unchanged(node));
            candidate.is_some_and(|candidate| self.keep(candidate, self.case.values.clone()))
        })
    }

    /// Operations replaced by inputs with their values, the last ones first.
    fn cut(&mut self, evaluate: &dyn Fn(&Case) -> Option<Tensors>) -> bool {
        let graph = self.case.graph.clone();
        let inner: Vec<NodeId> = graph.topological().into_iter().filter(|&id| graph.node(id).op.arity() > 0).collect();
        self.cuts += 1;
        let round = self.cuts;
        let name = |id: NodeId| format!("cut{round}.{}", id.index());
        let mut all = graph.clone();
        for &id in &inner {
            all.add_output(name(id), id);
        }
        let Some(known) = evaluate(&Case { graph: all, values: self.case.values.clone() }) else { return false };
        let mut cuts: BTreeSet<NodeId> = BTreeSet::new();
        for &id in inner.iter().rev() {
            cuts.insert(id);
            let candidate = rebuild(&graph, graph.outputs(), &|id, node| {
                if cuts.contains(&id) { Change::Node(Op::Input(name(id)), node.ty.clone()) } else { unchanged(node) }
            });
            let mut values = self.case.values.clone();
            values.extend(cuts.iter().map(|&id| (name(id), known[&name(id)].clone())));
            if !candidate.is_some_and(|candidate| self.keep(candidate, values)) {
                cuts.remove(&id);
            }
        }
        !cuts.is_empty()
    }

    /// Operations left out: an operand of the same type stands for them.
    fn bypass(&mut self) -> bool {
        let mut any = false;
        'again: loop {
            let graph = self.case.graph.clone();
            for id in graph.topological() {
                for operand in graph.operands(id) {
                    if graph.ty(operand) != graph.ty(id) {
                        continue;
                    }
                    let candidate = rebuild(&graph, graph.outputs(), &|node_id, node| {
                        if node_id == id { Change::Alias(operand) } else { unchanged(node) }
                    });
                    if candidate.is_some_and(|candidate| self.keep(candidate, self.case.values.clone())) {
                        any = true;
                        continue 'again;
                    }
                }
            }
            return any;
        }
    }

    /// Every extent of some length made shorter, wherever it stands.
    fn extents(&mut self) -> bool {
        let mut any = false;
        'again: loop {
            let graph = self.case.graph.clone();
            let all: BTreeSet<u64> =
                graph.topological().iter().flat_map(|&id| graph.shape(id).dims().to_vec()).filter(|&e| e > 1).collect();
            for &extent in all.iter().rev() {
                for shorter in [1, 2, extent / 2, extent - extent / 4, extent - 1] {
                    if shorter == 0 || shorter >= extent {
                        continue;
                    }
                    let new = |number: u64| if number == extent { shorter } else { number };
                    let candidate = rebuild(&graph, graph.outputs(), &|_, node| with_extents(node, &new));
                    let Some(candidate) = candidate else { continue };
                    let values = cropped(&graph, &self.case.values, &new);
                    if self.keep(candidate, values) {
                        any = true;
                        continue 'again;
                    }
                }
            }
            return any;
        }
    }

    /// Elements made 0 or 1, all of a tensor or parts of it.
    fn values(&mut self) {
        for id in self.case.graph.topological() {
            let (Op::Input(name) | Op::Weight(name) | Op::Codes(name, _)) = &self.case.graph.node(id).op else {
                continue;
            };
            let (name, dtype) = (name.clone(), self.case.graph.ty(id).dtype);
            let one = if dtype == DType::F32 { 1f32.to_bits() } else { 1 };
            let count = self.case.values[&name].len();
            let mut part = count;
            while part > 0 && count / part <= 64 {
                for start in (0..count).step_by(part) {
                    let range = start..(start + part).min(count);
                    for plain in [0, one] {
                        let mut values = self.case.values.clone();
                        let Some(bits) = values.get_mut(&name).and_then(|bits| bits.get_mut(range.clone())) else {
                            continue;
                        };
                        if bits.iter().all(|&bits| bits == 0 || bits == one) {
                            break;
                        }
                        bits.fill(plain);
                        if self.keep(self.case.graph.clone(), values) {
                            break;
                        }
                    }
                }
                part /= 2;
            }
        }
    }
}

/// A node with other extents in its attributes.
fn with_extents(node: &Node, new: &dyn Fn(u64) -> u64) -> Change {
    let shape = |shape: &Shape| Shape::new(shape.dims().iter().map(|&dim| new(dim)).collect::<Vec<_>>());
    let ty = TensorType::new(node.ty.dtype, shape(&node.ty.shape));
    let op = match &node.op {
        Op::Broadcast { shape: to, axes } => Op::Broadcast { shape: shape(to), axes: axes.clone() },
        Op::Reshape(to) => Op::Reshape(shape(to)),
        Op::Slice { starts, ends, steps } => {
            let ends = ends.iter().map(|&end| new(end)).collect();
            Op::Slice { starts: starts.clone(), ends, steps: steps.clone() }
        }
        Op::Constant(bits) => Op::Constant(crop(bits, node.ty.shape.dims(), ty.shape.dims()).into()),
        Op::Recur(steps) => Op::Recur(new(*steps)),
        other => other.clone(),
    };
    Change::Node(op, ty)
}

/// The values of a graph's leaves under shorter extents.
fn cropped(graph: &Graph, values: &Tensors, new: &dyn Fn(u64) -> u64) -> Tensors {
    let mut cropped = Tensors::new();
    for id in graph.topological() {
        if let Op::Input(name) | Op::Weight(name) | Op::Codes(name, _) = &graph.node(id).op {
            let old = graph.shape(id).dims();
            let dims: Vec<u64> = old.iter().map(|&dim| new(dim)).collect();
            cropped.insert(name.clone(), crop(&values[name], old, &dims));
        }
    }
    cropped
}

/// The elements at the indices that remain; no extent may grow.
fn crop(bits: &[u32], old: &[u64], new: &[u64]) -> Vec<u32> {
    let mut kept = Vec::new();
    for_each_index(new, |index| {
        let place = index.iter().zip(old).fold(0, |place, (&i, &extent)| place * extent + i);
        kept.push(bits[place as usize]);
    });
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRAPH: &str = r#"graph "" {
  %0 = input "x" : f32[7, 33]
  %1 = weight "w" : f32[7, 33]
  %2 = tanh %0 : f32[7, 33]
  %3 = mul %2 %1 : f32[7, 33]
  %4 = log %3 : f32[7, 33]
  %5 = transpose %4 permutation=[1, 0] : f32[33, 7]
  %6 = add %5 %5 : f32[33, 7]
  %7 = reduce %6 op=sum axes=[0] : f32[7]
  output "a" %6
  output "b" %7
}
"#;

    #[test]
    fn the_operation_and_the_element_at_fault_remain() {
        let graph = loom_ir::graph::parse::parse(GRAPH).unwrap();
        let element = |k: usize| (k as f32 / 8.0).to_bits();
        let values: Tensors =
            ["x", "w"].into_iter().map(|name| (name.to_string(), (0..7 * 33).map(element).collect())).collect();
        // The fault: a logarithm in a tensor of more than 4 elements, while anything is above 1.
        let mut fails = |case: &Case| {
            let log = Op::Unary(loom_ir::kernel::scalar::UnaryOp::Log);
            let graph = &case.graph;
            let wrong = |&id: &NodeId| graph.node(id).op == log && graph.shape(id).elements() > 4;
            let large = case.values.values().flatten().any(|&bits| f32::from_bits(bits) > 1.0);
            large && graph.topological().iter().any(wrong)
        };
        // The values inside don't matter for this fault.
        let evaluate = |case: &Case| {
            let element = |id: &NodeId| vec![element(9); case.graph.shape(*id).elements() as usize];
            Some(case.graph.outputs().iter().map(|(name, id)| (name.clone(), element(id))).collect())
        };
        let small = shrink(Case { graph, values }, &mut fails, &evaluate);
        assert_eq!(small.graph.len(), 2, "{}", small.graph);
        assert!(fails(&small));
        let (input, bits) = small.values.first_key_value().unwrap();
        assert!(input.starts_with("cut") && (5..=8).contains(&bits.len()), "{}", small.graph);
        assert_eq!(bits.iter().filter(|&&bits| f32::from_bits(bits) > 1.0).count(), 1, "{bits:x?}");
    }
}
