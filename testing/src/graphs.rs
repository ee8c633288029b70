//! Random valid graphs: every operation, element type and scalar function, odd extents, views of views.
//!
//! Networks reach only some combinations of operations; graphs reach all: slices of windows of paddings, axes of extent
//! 0 and 1, views that don't compose, reductions of reductions. Extents are small and odd, or lie around the sizes at which
//! generated code changes its course: vector widths, tiles, LN1's chunk of 256 and its block of 4096.

use loom_ir::graph::{ContractAxes, Graph, NodeId, Op, ReduceKind, TensorType, Window};
use loom_ir::kernel::scalar::{BinaryOp, CompareOp, UnaryOp, binary_accepts, unary_type};
use loom_ir::limits::MAX_RANK;
use loom_ir::numerics::quantise::CodeFormat;
use loom_ir::types::{DType, Shape};

use crate::choices::Choices;
use crate::values;

/// How large a graph may be.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Operations, at most.
    pub nodes: u64,
    /// Elements of a value, at most.
    pub elements: u64,
    /// Elements computed by all operations, terms of sums included, at most.
    pub work: u64,
}

impl Size {
    /// Graphs for fuzzers, which want many runs.
    pub const QUICK: Size = Size { nodes: 16, elements: 1200, work: 12_000 };
    /// Graphs that the interpreter runs in milliseconds; a few reach beyond a block of 4096.
    pub const SMALL: Size = Size { nodes: 24, elements: 3000, work: 60_000 };
    /// Graphs whose values reach beyond two blocks.
    pub const LARGE: Size = Size { nodes: 12, elements: 9000, work: 200_000 };
}

const DTYPES: [DType; 8] =
    [DType::F32, DType::F32, DType::F32, DType::F32, DType::F32, DType::I32, DType::U32, DType::Bool];

/// Extents at which code changes its course, and their neighbours.
const EDGES: [u64; 22] =
    [8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 513, 4095, 4096, 4097, 8193];

/// A graph of one to three outputs, which passes the verifier.
pub fn random_graph(choices: &mut Choices<'_>, size: Size) -> Graph {
    Generator { graph: Graph::new("random"), nodes: Vec::new(), choices, size, work: 0 }.finish()
}

struct Generator<'a, 'b> {
    graph: Graph,
    /// What later operations may use.
    nodes: Vec<NodeId>,
    choices: &'a mut Choices<'b>,
    size: Size,
    work: u64,
}

impl Generator<'_, '_> {
    fn finish(mut self) -> Graph {
        for _ in 0..1 + self.choices.below(3) {
            let dtype = self.choices.one_of(&DTYPES);
            let shape = self.shape();
            let leaf = self.leaf(TensorType::new(dtype, shape));
            self.nodes.push(leaf);
        }
        let wanted = 1 + self.choices.below(self.size.nodes);
        let mut made = 0;
        // Not every step fits, so there are more tries than nodes.
        for _ in 0..2 * wanted {
            if made == wanted || !self.choices.more() {
                break;
            }
            let x = self.operand();
            if let Some(node) = self.step(x) {
                self.nodes.push(node);
                made += 1;
            }
        }
        self.graph.add_output("output", self.nodes[self.nodes.len() - 1]);
        for name in ["other", "third"] {
            if self.choices.once_in(2) {
                let node = self.choices.one_of(&self.nodes);
                self.graph.add_output(name, node);
            }
        }
        self.graph
    }

    /// Mostly one of the newest nodes: long chains.
    fn operand(&mut self) -> NodeId {
        let count = self.nodes.len() as u64;
        let first = if self.choices.once_in(3) { 0 } else { count.saturating_sub(3) };
        self.nodes[(first + self.choices.below(count - first)) as usize]
    }

    fn extent(&mut self) -> u64 {
        match self.choices.below(16) {
            0 if self.choices.once_in(2) => 0,
            0..=2 => 1,
            3 | 4 => self.choices.one_of(&EDGES),
            _ => self.choices.one_of(&[2, 3, 5, 7, 4, 6, 11, 13]),
        }
    }

    fn shape(&mut self) -> Shape {
        let mut left = self.size.elements;
        let mut dims = Vec::new();
        for _ in 0..self.choices.below(5) {
            let extent = self.extent();
            let extent = if extent > left { 1 } else { extent };
            left /= extent.max(1);
            dims.push(extent);
        }
        Shape::new(dims)
    }

    /// An input, a weight or, where it is small, a constant.
    fn leaf(&mut self, ty: TensorType) -> NodeId {
        let elements = ty.shape.elements();
        let number = self.graph.len();
        let op = match self.choices.below(5) {
            0 if elements <= 64 => {
                let bits: Vec<u32> = (0..elements).map(|_| values::any(ty.dtype, self.choices)).collect();
                Op::Constant(bits.into())
            }
            1 if ty.dtype == DType::I32 => Op::Codes(format!("codes{number}"), self.choices.one_of(&CodeFormat::ALL)),
            1 => Op::Weight(format!("weight{number}")),
            _ => Op::Input(format!("input{number}")),
        };
        self.graph.add_leaf(op, ty, "")
    }

    /// A value of the type of `x`: another node, `x` itself, one value repeated, or a new leaf.
    fn partner(&mut self, x: NodeId) -> NodeId {
        let ty = self.graph.ty(x).clone();
        match self.choices.below(4) {
            0 | 1 => {
                let graph = &self.graph;
                let same: Vec<NodeId> = self.nodes.iter().copied().filter(|&id| *graph.ty(id) == ty).collect();
                if same.is_empty() { x } else { self.choices.one_of(&same) }
            }
            2 => {
                let bits = values::any(ty.dtype, self.choices);
                let scalar = Op::Constant([bits].into());
                let scalar = self.graph.add_leaf(scalar, TensorType::new(ty.dtype, []), "");
                let spread = Op::Broadcast { shape: ty.shape, axes: Vec::new() };
                self.graph.add(spread, &[scalar], "").unwrap_or(x)
            }
            _ => self.leaf(ty),
        }
    }

    /// Adds an operation if it fits its operands and what is left of the work.
    fn add(&mut self, op: Op, operands: &[NodeId]) -> Option<NodeId> {
        let types: Vec<&TensorType> = operands.iter().map(|&id| self.graph.ty(id)).collect();
        let elements = op.result_type(&types).ok()?.shape.elements();
        let work = match &op {
            Op::Contract(axes) => {
                let dims = types[0].shape.dims();
                axes.lhs_reduced.iter().map(|&axis| dims[axis]).fold(elements, u64::saturating_mul)
            }
            Op::Reduce { .. } => types[0].shape.elements(),
            _ => elements,
        };
        let work = self.work.saturating_add(work);
        if elements > self.size.elements || work > self.size.work {
            return None;
        }
        self.work = work;
        self.graph.add(op, operands, "").ok()
    }

    /// Adds an operation on `x` and whatever else it needs.
    fn step(&mut self, x: NodeId) -> Option<NodeId> {
        let ty = self.graph.ty(x).clone();
        match self.choices.below(31) {
            0..=2 => {
                let fitting = UnaryOp::ALL.iter().copied().filter(|&op| unary_type(op, ty.dtype).is_some());
                let op = self.choices.one_of(&fitting.collect::<Vec<_>>());
                self.add(Op::Unary(op), &[x])
            }
            3..=6 => {
                let fitting = BinaryOp::ALL.iter().copied().filter(|&op| binary_accepts(op, ty.dtype));
                let op = self.choices.one_of(&fitting.collect::<Vec<_>>());
                let y = self.partner(x);
                let operands = if self.choices.once_in(2) { [y, x] } else { [x, y] };
                self.add(Op::Binary(op), &operands)
            }
            7 => self.compare(x),
            8 | 9 => {
                let condition = if ty.dtype == DType::Bool { x } else { self.compare(x)? };
                let then = if ty.dtype == DType::Bool { self.leaf_like(&ty) } else { self.partner(x) };
                let otherwise = self.partner(then);
                self.add(Op::Select, &[condition, then, otherwise])
            }
            10 | 11 => {
                let to = self.choices.one_of(&[DType::F32, DType::F32, DType::I32, DType::U32, DType::Bool]);
                self.add(Op::Convert(to), &[x])
            }
            12 | 13 => self.broadcast(x, ty.shape.dims()),
            14 => {
                let shape = self.reshaped(&ty.shape);
                self.add(Op::Reshape(shape), &[x])
            }
            15 => {
                let permutation = self.choices.permutation(ty.shape.rank());
                self.add(Op::Transpose(permutation), &[x])
            }
            16 => self.slice(x, ty.shape.dims()),
            17 => {
                let low = self.numbers(ty.shape.rank(), &[0, 0, 1, 2]);
                let high = self.numbers(ty.shape.rank(), &[0, 0, 1, 3]);
                let value = values::any(ty.dtype, self.choices);
                self.add(Op::Pad { low, high, value }, &[x])
            }
            18 | 19 => self.window(x, &ty),
            20..=22 => self.contract(x),
            23 => self.gather(x, &ty),
            24..=26 => self.recurrence(x, &ty),
            _ => self.reduce(x, &ty),
        }
    }

    fn numbers(&mut self, count: usize, list: &[u64]) -> Vec<u64> {
        (0..count).map(|_| self.choices.one_of(list)).collect()
    }

    /// A new leaf of the shape, of any element type.
    fn leaf_like(&mut self, ty: &TensorType) -> NodeId {
        let dtype = self.choices.one_of(&DTYPES);
        self.leaf(TensorType::new(dtype, ty.shape.clone()))
    }

    fn compare(&mut self, x: NodeId) -> Option<NodeId> {
        let op = self.choices.one_of(CompareOp::ALL);
        let y = self.partner(x);
        self.add(Op::Compare(op), &[x, y])
    }

    /// New axes thrown in, axes of extent 1 repeated.
    fn broadcast(&mut self, x: NodeId, dims: &[u64]) -> Option<NodeId> {
        let (mut shape, mut axes) = (Vec::new(), Vec::new());
        for &dim in dims {
            if self.choices.once_in(3) {
                shape.push(self.extent());
            }
            axes.push(shape.len());
            shape.push(if dim == 1 && self.choices.once_in(2) { self.extent() } else { dim });
        }
        if self.choices.once_in(3) {
            shape.push(self.extent());
        }
        self.add(Op::Broadcast { shape: Shape::new(shape), axes }, &[x])
    }

    /// Another shape with as many elements: factors moved about, extents of 1 thrown in.
    fn reshaped(&mut self, shape: &Shape) -> Shape {
        let mut dims = shape.dims().to_vec();
        for _ in 0..1 + self.choices.below(3) {
            match self.choices.below(3) {
                0 if dims.len() > 1 => {
                    let at = self.choices.below(dims.len() as u64 - 1) as usize;
                    let next = dims.remove(at + 1);
                    dims[at] *= next;
                }
                1 if !dims.is_empty() => {
                    let at = self.choices.below(dims.len() as u64) as usize;
                    let divides = |&factor: &u64| dims[at] > 0 && dims[at].is_multiple_of(factor);
                    if let Some(factor) = [2, 3, 5].into_iter().find(divides) {
                        dims[at] /= factor;
                        dims.insert(at + self.choices.below(2) as usize, factor);
                    }
                }
                _ => dims.insert(self.choices.below(dims.len() as u64 + 1) as usize, 1),
            }
        }
        if dims.len() > MAX_RANK { shape.clone() } else { Shape::new(dims) }
    }

    fn slice(&mut self, x: NodeId, dims: &[u64]) -> Option<NodeId> {
        let starts: Vec<u64> = dims.iter().map(|&dim| self.choices.below(dim.min(3))).collect();
        let ends = dims.iter().zip(&starts).map(|(&dim, &start)| dim - self.choices.below(dim - start + 1) / 2);
        let ends = ends.collect();
        let steps = self.numbers(dims.len(), &[1, 1, 1, 2, 3, 100]);
        self.add(Op::Slice { starts, ends, steps }, &[x])
    }

    fn window(&mut self, x: NodeId, ty: &TensorType) -> Option<NodeId> {
        let axes: Vec<usize> = (0..ty.shape.rank()).filter(|_| self.choices.below(2) == 0).collect();
        let size = self.numbers(axes.len(), &[1, 2, 3, 5]);
        let stride = self.numbers(axes.len(), &[1, 1, 2, 3]);
        let dilation = self.numbers(axes.len(), &[1, 1, 2]);
        let low = self.numbers(axes.len(), &[0, 0, 1, 2, 7]);
        let high = self.numbers(axes.len(), &[0, 1, 2]);
        let fill = values::any(ty.dtype, self.choices);
        self.add(Op::Window(Window { axes, size, stride, dilation, low, high, fill }), &[x])
    }

    /// A product with another node over axes of equal extents, or with a new leaf that has them in another order; of
    /// floats, or of integers by their low bits.
    fn contract(&mut self, x: NodeId) -> Option<NodeId> {
        let dtype = if self.choices.below(3) == 0 { DType::I32 } else { DType::F32 };
        let x = if self.graph.ty(x).dtype == dtype { x } else { self.add(Op::Convert(dtype), &[x])? };
        let dims = self.graph.shape(x).dims().to_vec();
        let mut axes = ContractAxes {
            lhs_batch: Vec::new(),
            rhs_batch: Vec::new(),
            lhs_reduced: Vec::new(),
            rhs_reduced: Vec::new(),
        };
        for axis in self.choices.permutation(dims.len()) {
            match self.choices.below(4) {
                0 => axes.lhs_batch.push(axis),
                1 => {}
                _ => axes.lhs_reduced.push(axis),
            }
        }
        let shared: Vec<usize> = axes.lhs_batch.iter().chain(&axes.lhs_reduced).copied().collect();
        let y = if self.choices.once_in(2) { self.choices.one_of(&self.nodes) } else { x };
        if self.graph.ty(y).dtype == dtype && self.choices.once_in(2) {
            // Each axis finds a partner of its extent, or is left free.
            let other = self.graph.shape(y).dims().to_vec();
            let mut taken = vec![false; other.len()];
            for list in [true, false] {
                let lhs = std::mem::take(if list { &mut axes.lhs_batch } else { &mut axes.lhs_reduced });
                for axis in lhs {
                    let partner = (0..other.len()).find(|&place| !taken[place] && other[place] == dims[axis]);
                    let Some(partner) = partner else { continue };
                    taken[partner] = true;
                    let (left, right) = if list {
                        (&mut axes.lhs_batch, &mut axes.rhs_batch)
                    } else {
                        (&mut axes.lhs_reduced, &mut axes.rhs_reduced)
                    };
                    left.push(axis);
                    right.push(partner);
                }
            }
            return self.add(Op::Contract(axes), &[x, y]);
        }
        let mut extents: Vec<u64> = shared.iter().map(|&axis| dims[axis]).collect();
        for _ in 0..self.choices.below(3) {
            extents.push(self.extent());
        }
        let order = self.choices.permutation(extents.len());
        let place = |shared: usize| order.iter().position(|&axis| axis == shared);
        let batch = axes.lhs_batch.len();
        axes.rhs_batch = (0..batch).filter_map(place).collect();
        axes.rhs_reduced = (batch..shared.len()).filter_map(place).collect();
        let shape = Shape::checked(order.iter().map(|&axis| extents[axis]).collect::<Vec<u64>>()).ok()?;
        if shape.elements() > self.size.elements {
            return None;
        }
        let y = self.leaf(TensorType::new(dtype, shape));
        self.add(Op::Contract(axes), &[x, y])
    }

    /// Rows of `x`, by numbers most of which are rows.
    fn gather(&mut self, x: NodeId, ty: &TensorType) -> Option<NodeId> {
        let rows = *ty.shape.dims().first()?;
        let numbers = match self.choices.below(3) {
            0 => self.graph.add_leaf(Op::Iota, TensorType::new(DType::U32, [self.choices.below(6)]), ""),
            _ => {
                let rank = self.choices.below(3) as usize;
                let shape = Shape::new(self.numbers(rank, &[1, 2, 3, 5]));
                let ty = TensorType::new(DType::U32, shape);
                let words = self.leaf(ty.clone());
                let bound = Op::Constant([rows as u32 + 1].into());
                let bound = self.graph.add_leaf(bound, TensorType::new(DType::U32, []), "");
                let bound = self.add(Op::Broadcast { shape: ty.shape, axes: Vec::new() }, &[bound])?;
                self.add(Op::Binary(BinaryOp::Rem), &[words, bound])?
            }
        };
        self.add(Op::Gather, &[x, numbers])
    }

    /// A recurrence along the first axis of `x`: a few operations slice by slice between its two ends, some of them with
    /// `x`. Where none fits it is a delay of `x`.
    fn recurrence(&mut self, x: NodeId, ty: &TensorType) -> Option<NodeId> {
        const MOST_STEPS: u64 = 40;
        let (&steps, state) = ty.shape.dims().split_first()?;
        if steps > MOST_STEPS || self.work.saturating_add(ty.shape.elements()) > self.size.work {
            return None;
        }
        let state = TensorType::new(ty.dtype, state.to_vec());
        let graph = &self.graph;
        let fitting: Vec<NodeId> = self.nodes.iter().copied().filter(|&id| *graph.ty(id) == state).collect();
        let init = if fitting.is_empty() { self.leaf(state) } else { self.choices.one_of(&fitting) };
        let recur = self.graph.add_recur(steps, init, "");
        let mut after = recur;
        for _ in 0..1 + self.choices.below(4) {
            let other = self.choices.one_of(&[x, x, recur]);
            let made = match self.choices.below(6) {
                0 => {
                    let fitting = UnaryOp::ALL.iter().copied().filter(|&op| unary_type(op, ty.dtype) == Some(ty.dtype));
                    let op = self.choices.one_of(&fitting.collect::<Vec<_>>());
                    self.add(Op::Unary(op), &[after])
                }
                1 => self.compare_and_choose(after, other),
                2 => self.spread_of_rows(after, ty),
                3 => self.turned(after, ty),
                _ => {
                    let fitting = BinaryOp::ALL.iter().copied().filter(|&op| binary_accepts(op, ty.dtype));
                    let op = self.choices.one_of(&fitting.collect::<Vec<_>>());
                    self.add(Op::Binary(op), &[after, other])
                }
            };
            after = made.filter(|&made| self.graph.ty(made) == ty).unwrap_or(after);
        }
        self.graph.close(recur, if after == recur { x } else { after });
        Some(if self.choices.once_in(4) { recur } else { after })
    }

    fn compare_and_choose(&mut self, a: NodeId, b: NodeId) -> Option<NodeId> {
        let op = self.choices.one_of(CompareOp::ALL);
        let condition = self.add(Op::Compare(op), &[a, b])?;
        self.add(Op::Select, &[condition, b, a])
    }

    /// A sum or extremum of each row of the last axis, repeated along it, and added.
    fn spread_of_rows(&mut self, x: NodeId, ty: &TensorType) -> Option<NodeId> {
        let last = ty.shape.rank().checked_sub(1).filter(|&last| last > 0)?;
        let op = self.choices.one_of(&ReduceKind::ALL);
        let reduced = self.add(Op::Reduce { op, axes: vec![last] }, &[x])?;
        let axes = (0..last).collect();
        let spread = self.add(Op::Broadcast { shape: ty.shape.clone(), axes }, &[reduced])?;
        self.add(Op::Binary(BinaryOp::Sub), &[x, spread])
    }

    /// Each slice's elements in another order: two axes exchanged, then read as the first shape again.
    fn turned(&mut self, x: NodeId, ty: &TensorType) -> Option<NodeId> {
        let rank = ty.shape.rank();
        if rank < 3 {
            return None;
        }
        let mut permutation: Vec<usize> = (0..rank).collect();
        permutation.swap(rank - 1, rank - 2);
        let turned = self.add(Op::Transpose(permutation), &[x])?;
        self.add(Op::Reshape(ty.shape.clone()), &[turned])
    }

    /// Often followed by its spread along the reduced axes, as in a norm.
    fn reduce(&mut self, x: NodeId, ty: &TensorType) -> Option<NodeId> {
        let rank = ty.shape.rank();
        let axes: Vec<usize> = (0..rank).filter(|_| self.choices.below(rank.max(2) as u64) > 0).collect();
        let op = self.choices.one_of(&ReduceKind::ALL);
        let reduced = self.add(Op::Reduce { op, axes: axes.clone() }, &[x])?;
        if self.choices.below(3) == 0 {
            return Some(reduced);
        }
        let kept = (0..rank).filter(|axis| !axes.contains(axis)).collect();
        let spread = self.add(Op::Broadcast { shape: ty.shape.clone(), axes: kept }, &[reduced])?;
        let op = self.choices.one_of(&[BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Div, BinaryOp::Max]);
        self.add(Op::Binary(op), &[x, spread])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use loom_ir::graph::Node;

    use super::*;

    const PLAIN: [&str; 17] = [
        "input",
        "weight",
        "codes",
        "constant",
        "select",
        "convert",
        "broadcast",
        "reshape",
        "transpose",
        "slice",
        "pad",
        "window",
        "contract",
        "contract of integers",
        "iota",
        "gather",
        "recur",
    ];

    /// An operation with its variant. Without a wildcard: what is new to the IR has to be named here and above, and then
    /// the generator has to make it.
    fn name(node: &Node) -> String {
        match &node.op {
            Op::Reduce { op, .. } => format!("reduce {}", op.name()),
            Op::Contract(_) if node.ty.dtype == DType::I32 => "contract of integers".to_string(),
            Op::Unary(_)
            | Op::Binary(_)
            | Op::Compare(_)
            | Op::Input(_)
            | Op::Weight(_)
            | Op::Codes(..)
            | Op::Constant(_)
            | Op::Select
            | Op::Convert(_)
            | Op::Broadcast { .. }
            | Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Slice { .. }
            | Op::Pad { .. }
            | Op::Window(_)
            | Op::Contract(_)
            | Op::Iota
            | Op::Gather
            | Op::Recur(_) => node.op.name().to_string(),
        }
    }

    fn all_names() -> BTreeSet<String> {
        let scalar = UnaryOp::ALL.iter().map(|op| op.name()).chain(BinaryOp::ALL.iter().map(|op| op.name()));
        let scalar = scalar.chain(CompareOp::ALL.iter().map(|op| op.name()));
        let reduce = ReduceKind::ALL.iter().map(|kind| format!("reduce {}", kind.name()));
        PLAIN.into_iter().chain(scalar).map(str::to_string).chain(reduce).collect()
    }

    #[test]
    fn every_operation_type_and_odd_extent_appears() {
        let (mut ops, mut dtypes, mut extents) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::<u64>::new());
        for seed in 0..400 {
            let graph = random_graph(&mut Choices::from_seed(seed), Size::LARGE);
            loom_ir::graph::verify(&graph).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{graph}"));
            for id in graph.topological() {
                let node = graph.node(id);
                ops.insert(name(node));
                dtypes.insert(node.ty.dtype);
                extents.extend(node.ty.shape.dims());
            }
        }
        let missing: Vec<String> = all_names().difference(&ops).cloned().collect();
        assert!(missing.is_empty(), "never made: {missing:?}");
        assert_eq!(dtypes, DType::ALL.into_iter().collect());
        assert!([0, 1, 2, 3, 5, 7, 11, 13].iter().chain(&EDGES).all(|extent| extents.contains(extent)));
    }

    #[test]
    fn all_bytes_make_valid_graphs() {
        for seed in 0..400u64 {
            let mut random = values::Random(seed);
            let bytes: Vec<u8> = (0..random.below(120)).map(|_| random.word() as u8).collect();
            let graph = random_graph(&mut Choices::from_bytes(&bytes), Size::SMALL);
            loom_ir::graph::verify(&graph).unwrap_or_else(|error| panic!("{bytes:?}: {error}\n{graph}"));
        }
    }
}
