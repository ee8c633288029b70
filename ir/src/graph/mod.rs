//! The tensor IR: a graph of primitive operations with static shapes, acyclic but for recurrences.
//!
//! A node is one [`Op`] with the type of its value and the path of the layer that it came from; an edge carries which
//! operand it is. Every value has a dtype and is rounded to it where it is defined. The operations are few: each layer is
//! a composition of them ([`Op`] lists them). The text form ([`print`](mod@print), [`parse`]) round-trips.

pub mod op;
pub mod parse;
pub mod print;
pub mod verify;

use std::collections::BTreeMap;

use petgraph::Direction;
use petgraph::stable_graph::{EdgeReference, NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;

use crate::kernel::scalar::{BinaryOp, CompareOp, UnaryOp};
use crate::numerics::quantise::{CodeFormat, SCALE, SUM};
use crate::types::{DType, Shape};

pub use op::{ContractAxes, Op, OpError, ReduceKind, TensorType, Window};
pub use verify::{VerifyError, verify};

/// A node of a [`Graph`].
pub type NodeId = NodeIndex<u32>;

/// An operation, its value's type and its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// The type of its value.
    pub ty: TensorType,
    /// The path of the layer it came from, such as `layers.3`; may be empty.
    pub origin: String,
}

/// A tensor program with named outputs.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// The network's name.
    pub name: String,
    dag: StableDiGraph<Node, u32>,
    outputs: Vec<(String, NodeId)>,
}

impl Graph {
    /// A graph without nodes.
    pub fn new(name: impl Into<String>) -> Graph {
        Graph { name: name.into(), ..Graph::default() }
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.dag[id]
    }

    /// The type of a node's value.
    pub fn ty(&self, id: NodeId) -> &TensorType {
        &self.dag[id].ty
    }

    /// The shape of a node's value.
    pub fn shape(&self, id: NodeId) -> &Shape {
        &self.dag[id].ty.shape
    }

    /// A node's operands, in order.
    pub fn operands(&self, id: NodeId) -> Vec<NodeId> {
        let mut edges: Vec<(u32, NodeId)> =
            self.dag.edges_directed(id, Direction::Incoming).map(|edge| (*edge.weight(), edge.source())).collect();
        edges.sort_unstable();
        edges.into_iter().map(|(_, source)| source).collect()
    }

    /// Whether `id` is a node of this graph.
    pub fn contains(&self, id: NodeId) -> bool {
        self.dag.contains_node(id)
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.dag.node_count()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All nodes, operands before users, save the second operand of [`Op::Recur`], which comes later where it depends on
    /// it. Among those that are ready the one added first comes first, so the order does not depend on anything but the
    /// graph.
    pub fn topological(&self) -> Vec<NodeId> {
        use std::cmp::Reverse;
        use std::collections::BinaryHeap;
        let mut waiting: Vec<usize> = vec![0; self.dag.node_indices().map(|id| id.index() + 1).max().unwrap_or(0)];
        let mut ready = BinaryHeap::new();
        for id in self.dag.node_indices() {
            waiting[id.index()] =
                self.dag.edges_directed(id, Direction::Incoming).filter(|edge| !self.leads_back(edge)).count();
            if waiting[id.index()] == 0 {
                ready.push(Reverse(id));
            }
        }
        let mut order = Vec::with_capacity(self.len());
        while let Some(Reverse(id)) = ready.pop() {
            order.push(id);
            for edge in self.dag.edges_directed(id, Direction::Outgoing).filter(|edge| !self.leads_back(edge)) {
                let count = &mut waiting[edge.target().index()];
                *count -= 1;
                if *count == 0 {
                    ready.push(Reverse(edge.target()));
                }
            }
        }
        order
    }

    /// Whether an edge gives a recurrence its values after each step.
    fn leads_back(&self, edge: &EdgeReference<'_, u32>) -> bool {
        *edge.weight() == 1 && matches!(self.dag[edge.target()].op, Op::Recur(_))
    }

    /// The recurrences of the graph, each with all that is computed step by step with it: sets of nodes that depend on
    /// one another, each in topological order.
    pub fn cycles(&self) -> Vec<Vec<NodeId>> {
        let mut place = BTreeMap::new();
        for (number, id) in self.topological().into_iter().enumerate() {
            place.insert(id, number);
        }
        let mut cycles: Vec<Vec<NodeId>> = petgraph::algo::kosaraju_scc(&self.dag);
        cycles.retain(|nodes| nodes.len() > 1);
        for nodes in &mut cycles {
            nodes.sort_by_key(|id| place.get(id).copied());
        }
        cycles.sort_by_key(|nodes| place.get(&nodes[0]).copied());
        cycles
    }

    /// The named outputs.
    pub fn outputs(&self) -> &[(String, NodeId)] {
        &self.outputs
    }

    /// Names a node's value as an output.
    pub fn add_output(&mut self, name: impl Into<String>, id: NodeId) {
        self.outputs.push((name.into(), id));
    }

    /// Adds a node without operands, of a given type: an input, weight or constant.
    pub fn add_leaf(&mut self, op: Op, ty: TensorType, origin: &str) -> NodeId {
        self.dag.add_node(Node { op, ty, origin: origin.to_string() })
    }

    /// Adds a node; its type follows from its operands.
    pub fn add(&mut self, op: Op, operands: &[NodeId], origin: &str) -> Result<NodeId, OpError> {
        let types: Vec<&TensorType> = operands.iter().map(|&id| self.ty(id)).collect();
        let ty = op.result_type(&types)?;
        Ok(self.add_typed(op, ty, operands, origin))
    }

    /// Adds a node of a type that someone else answers for: the parser, whose graphs are verified.
    pub(crate) fn add_typed(&mut self, op: Op, ty: TensorType, operands: &[NodeId], origin: &str) -> NodeId {
        let id = self.dag.add_node(Node { op, ty, origin: origin.to_string() });
        for (position, &operand) in operands.iter().enumerate() {
            self.dag.add_edge(operand, id, position as u32);
        }
        id
    }

    /// Adds [`Op::Recur`] without its second operand, so that this can be computed from it; [`Graph::close`] adds it.
    pub fn add_recur(&mut self, steps: u64, init: NodeId, origin: &str) -> NodeId {
        let TensorType { dtype, shape } = self.ty(init).clone();
        let ty = TensorType::new(dtype, [&[steps], shape.dims()].concat());
        self.add_typed(Op::Recur(steps), ty, &[init], origin)
    }

    /// Gives [`Op::Recur`] its second operand: the values after each step.
    pub fn close(&mut self, recur: NodeId, after: NodeId) {
        self.dag.add_edge(after, recur, 1);
    }

    /// Lets every user of `old`, outputs included, use `new` instead.
    pub fn replace(&mut self, old: NodeId, new: NodeId) {
        let users: Vec<_> = self
            .dag
            .edges_directed(old, Direction::Outgoing)
            .map(|edge| (edge.id(), edge.target(), *edge.weight()))
            .collect();
        for (edge, user, position) in users {
            self.dag.remove_edge(edge);
            self.dag.add_edge(new, user, position);
        }
        for (_, output) in &mut self.outputs {
            if *output == old {
                *output = new;
            }
        }
    }

    /// Removes a node that nothing uses any more, or only a recurrence that is about to go too.
    pub fn remove(&mut self, id: NodeId) {
        debug_assert!(self.dag.edges_directed(id, Direction::Outgoing).all(|edge| self.leads_back(&edge)));
        self.dag.remove_node(id);
    }
}

/// Adds nodes for one layer; panics where operands don't fit, which is the compiler's own mistake.
///
/// Users' mistakes are found before: by shape inference on the network.
#[derive(Debug)]
pub struct Builder<'a> {
    graph: &'a mut Graph,
    origin: String,
    /// What is done to each weight.
    rounding: Option<UnaryOp>,
}

impl<'a> Builder<'a> {
    /// A builder whose nodes come from the layer at `origin`.
    pub fn new(graph: &'a mut Graph, origin: impl Into<String>) -> Builder<'a> {
        Builder { graph, origin: origin.into(), rounding: None }
    }

    /// From now on, weights are rounded by this operation.
    pub fn round_weights(&mut self, rounding: Option<UnaryOp>) {
        self.rounding = rounding;
    }

    /// The graph so far.
    pub fn graph(&self) -> &Graph {
        self.graph
    }

    /// The path of the layer that the nodes come from.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Adds a node.
    ///
    /// # Panics
    /// Where the operands don't fit the operation.
    pub fn op(&mut self, op: Op, operands: &[NodeId]) -> NodeId {
        let name = op.name();
        match self.graph.add(op, operands, &self.origin) {
            Ok(id) => id,
            Err(error) => panic!("{}: `{name}` {error}", self.origin),
        }
    }

    /// The values before each of `steps` steps, from `init` on: see [`Op::Recur`]. [`Builder::close`] says what comes after
    /// each.
    pub fn recur(&mut self, steps: u64, init: NodeId) -> NodeId {
        self.graph.add_recur(steps, init, &self.origin)
    }

    /// What comes after each step of a recurrence.
    pub fn close(&mut self, recur: NodeId, after: NodeId) {
        self.graph.close(recur, after);
    }

    /// The caller's tensor.
    pub fn input(&mut self, name: &str, ty: TensorType) -> NodeId {
        self.graph.add_leaf(Op::Input(name.to_string()), ty, &self.origin)
    }

    /// A tensor of the weights file, called `origin.role`, rounded where weights are.
    pub fn weight(&mut self, role: &str, shape: impl Into<Shape>) -> NodeId {
        let op = Op::Weight(format!("{}.{role}", self.origin));
        let weight = self.graph.add_leaf(op, TensorType::new(DType::F32, shape), &self.origin);
        match self.rounding {
            Some(rounding) => self.unary(rounding, weight),
            None => weight,
        }
    }

    /// The codes of a quantised tensor of the weights file, called `origin.role`, and their scales.
    pub fn codes(
        &mut self,
        role: &str,
        shape: impl Into<Shape>,
        format: CodeFormat,
        scales: impl Into<Shape>,
    ) -> [NodeId; 2] {
        let name = format!("{}.{role}", self.origin);
        let scale = Op::Weight(format!("{name}{SCALE}"));
        let codes = self.graph.add_leaf(Op::Codes(name, format), TensorType::new(DType::I32, shape), &self.origin);
        [codes, self.graph.add_leaf(scale, TensorType::new(DType::F32, scales), &self.origin)]
    }

    /// The sums of those codes of `origin.role` that share a scale.
    pub fn code_sums(&mut self, role: &str, scales: impl Into<Shape>) -> NodeId {
        let op = Op::Weight(format!("{}.{role}{SUM}", self.origin));
        self.graph.add_leaf(op, TensorType::new(DType::I32, scales), &self.origin)
    }

    /// Elements known to the compiler.
    pub fn constant(&mut self, bits: Vec<u32>, ty: TensorType) -> NodeId {
        self.graph.add_leaf(Op::Constant(bits.into()), ty, &self.origin)
    }

    /// Each element's index along `axis` of `shape`.
    pub fn indices(&mut self, shape: &Shape, axis: usize) -> NodeId {
        let ty = TensorType::new(DType::U32, [shape.dims()[axis]]);
        let numbers = self.graph.add_leaf(Op::Iota, ty, &self.origin);
        self.broadcast(numbers, shape, &[axis])
    }

    /// One value repeated over a shape.
    pub fn splat(&mut self, value: f32, shape: &Shape) -> NodeId {
        self.splat_bits(value.to_bits(), DType::F32, shape)
    }

    /// One value of any type, by its bits, repeated over a shape.
    pub fn splat_bits(&mut self, bits: u32, dtype: DType, shape: &Shape) -> NodeId {
        let scalar = self.graph.add_leaf(Op::Constant([bits].into()), TensorType::new(dtype, []), &self.origin);
        self.broadcast(scalar, shape, &[])
    }

    /// One value repeated over the shape of another.
    pub fn splat_like(&mut self, value: f32, like: NodeId) -> NodeId {
        let shape = self.graph.shape(like).clone();
        self.splat(value, &shape)
    }

    /// Elementwise.
    pub fn unary(&mut self, op: UnaryOp, a: NodeId) -> NodeId {
        self.op(Op::Unary(op), &[a])
    }

    /// Elementwise.
    pub fn binary(&mut self, op: BinaryOp, a: NodeId, b: NodeId) -> NodeId {
        self.op(Op::Binary(op), &[a, b])
    }

    /// Elementwise sum.
    pub fn add(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.binary(BinaryOp::Add, a, b)
    }

    /// Elementwise difference.
    pub fn sub(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.binary(BinaryOp::Sub, a, b)
    }

    /// Elementwise product.
    pub fn mul(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.binary(BinaryOp::Mul, a, b)
    }

    /// Elementwise quotient.
    pub fn div(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.binary(BinaryOp::Div, a, b)
    }

    /// Elementwise comparison.
    pub fn compare(&mut self, op: CompareOp, a: NodeId, b: NodeId) -> NodeId {
        self.op(Op::Compare(op), &[a, b])
    }

    /// Elementwise `if condition { then } else { otherwise }`.
    pub fn select(&mut self, condition: NodeId, then: NodeId, otherwise: NodeId) -> NodeId {
        self.op(Op::Select, &[condition, then, otherwise])
    }

    /// Repeats along new axes: see [`Op::Broadcast`].
    pub fn broadcast(&mut self, a: NodeId, shape: &Shape, axes: &[usize]) -> NodeId {
        self.op(Op::Broadcast { shape: shape.clone(), axes: axes.to_vec() }, &[a])
    }

    /// The same elements under another shape.
    pub fn reshape(&mut self, a: NodeId, shape: impl Into<Shape>) -> NodeId {
        self.op(Op::Reshape(shape.into()), &[a])
    }

    /// A reduction: see [`Op::Reduce`].
    pub fn reduce(&mut self, op: ReduceKind, a: NodeId, axes: &[usize]) -> NodeId {
        self.op(Op::Reduce { op, axes: axes.to_vec() }, &[a])
    }

    /// Repeats a reduction's result along the reduced axes, so that it fits what was reduced.
    pub fn spread(&mut self, reduced: NodeId, like: NodeId, axes: &[usize]) -> NodeId {
        let shape = self.graph.shape(like).clone();
        let kept: Vec<usize> = (0..shape.rank()).filter(|axis| !axes.contains(axis)).collect();
        self.broadcast(reduced, &shape, &kept)
    }
}
