//! Random graphs give the same bits with all passes and with none but those that make a program.
//!
//! Networks reach only some combinations of operations; graphs reach all: slices of windows of paddings, axes of extent
//! 0 and 1, views that don't compose, reductions of reductions.

use std::collections::BTreeMap;

use loom_ir::eval::program::{self, Memory};
use loom_ir::graph::{ContractAxes, Graph, NodeId, Op, ReduceKind, TensorType, Window};
use loom_ir::kernel::scalar::{BinaryOp, CompareOp, UnaryOp};
use loom_ir::types::{DType, Shape};
use loom_passes::{PipelineOptions, compile_graph};

/// Elements of a value, at most.
const MOST: u64 = 3000;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    /// Often a value at which rules have exceptions.
    fn float(&mut self) -> u32 {
        let special = [
            0,
            0x8000_0000,
            0x3f80_0000,
            0xbf80_0000,
            0x4000_0000,
            0x7f80_0000,
            0xff80_0000,
            0x7fc0_0000,
            0xffc1_2345,
            0x7f80_0001,
            1,
            0x8000_0001,
            0x0080_0000,
            0x7f7f_ffff,
            0x3400_0000,
        ];
        if self.below(3) == 0 { self.one_of(&special) } else { (self.below(2001) as f32 / 64.0 - 15.0).to_bits() }
    }

    fn bits(&mut self, dtype: DType) -> u32 {
        match dtype {
            DType::F32 => self.float(),
            DType::Bool => self.below(2) as u32,
            DType::I32 | DType::U32 => self.one_of(&[0, 1, 2, 3, 31, 32, 0x7fff_ffff, 0x8000_0000, u32::MAX, 12345]),
        }
    }

    fn shape(&mut self) -> Shape {
        let rank = self.below(5);
        Shape::new((0..rank).map(|_| self.one_of(&[1, 1, 2, 3, 4, 5, 6, 7, 0, 2, 3, 4])).collect::<Vec<_>>())
    }
}

fn random_graph(random: &mut Random) -> Graph {
    let mut graph = Graph::new("random");
    let mut nodes: Vec<NodeId> = Vec::new();
    for number in 0..1 + random.below(3) {
        let dtype = random.one_of(&[DType::F32, DType::F32, DType::F32, DType::F32, DType::I32, DType::U32]);
        let ty = TensorType::new(dtype, random.shape());
        nodes.push(graph.add_leaf(Op::Input(format!("input{number}")), ty, ""));
    }
    for _ in 0..3 + random.below(22) {
        // Mostly the newest nodes: long chains.
        let recent = nodes.len().saturating_sub(3) as u64;
        let index = if random.below(3) == 0 {
            random.below(nodes.len() as u64)
        } else {
            recent + random.below(nodes.len() as u64 - recent)
        };
        let x = nodes[index as usize];
        if let Some(node) = step(&mut graph, random, &nodes, x) {
            nodes.push(node);
        }
    }
    graph.add_output("output", nodes[nodes.len() - 1]);
    if random.below(2) == 0 {
        let other = random.one_of(&nodes);
        graph.add_output("other", other);
    }
    graph
}

/// Adds one operation on `x`, if it fits.
fn step(graph: &mut Graph, random: &mut Random, nodes: &[NodeId], x: NodeId) -> Option<NodeId> {
    let ty = graph.ty(x).clone();
    let dims = ty.shape.dims().to_vec();
    let rank = dims.len() as u64;
    let (op, operands) = match random.below(16) {
        0 | 1 => {
            let ops = [
                UnaryOp::Neg,
                UnaryOp::Neg,
                UnaryOp::Abs,
                UnaryOp::Not,
                UnaryOp::Sqrt,
                UnaryOp::Exp,
                UnaryOp::Tanh,
                UnaryOp::Round,
            ];
            (Op::Unary(random.one_of(&ops)), vec![x])
        }
        2..=4 => {
            let y = partner(graph, random, nodes, x);
            let op = random.one_of(BinaryOp::ALL);
            (Op::Binary(op), if random.below(2) == 0 { vec![x, y] } else { vec![y, x] })
        }
        5 => {
            let y = partner(graph, random, nodes, x);
            let op = Op::Compare(random.one_of(CompareOp::ALL));
            let condition = graph.add(op, &[x, y], "").ok()?;
            if random.below(3) == 0 {
                return Some(condition);
            }
            let z = partner(graph, random, nodes, x);
            (Op::Select, vec![condition, y, z])
        }
        6 => (Op::Convert(random.one_of(&[DType::F32, DType::F32, DType::I32, DType::U32, DType::Bool])), vec![x]),
        7 => {
            let (mut shape, mut axes) = (Vec::new(), Vec::new());
            for &dim in &dims {
                if random.below(3) == 0 {
                    shape.push(1 + random.below(4));
                }
                axes.push(shape.len());
                shape.push(if dim == 1 && random.below(2) == 0 { 1 + random.below(5) } else { dim });
            }
            if random.below(3) == 0 {
                shape.push(1 + random.below(4));
            }
            (Op::Broadcast { shape: Shape::new(shape), axes }, vec![x])
        }
        8 => (Op::Reshape(reshaped(random, &ty.shape)), vec![x]),
        9 => {
            let mut permutation: Vec<usize> = (0..dims.len()).collect();
            for i in (1..dims.len()).rev() {
                permutation.swap(i, random.below(i as u64 + 1) as usize);
            }
            (Op::Transpose(permutation), vec![x])
        }
        10 => {
            let starts: Vec<u64> = dims.iter().map(|&dim| random.below(dim.min(3))).collect();
            let ends = dims.iter().zip(&starts).map(|(&dim, &start)| dim - random.below(dim - start + 1) / 2).collect();
            let steps = dims.iter().map(|_| random.one_of(&[1, 1, 1, 2, 3, 100])).collect();
            (Op::Slice { starts, ends, steps }, vec![x])
        }
        11 => {
            let low = dims.iter().map(|_| random.one_of(&[0, 0, 1, 2])).collect();
            let high = dims.iter().map(|_| random.one_of(&[0, 0, 1, 3])).collect();
            (Op::Pad { low, high, value: random.bits(ty.dtype) }, vec![x])
        }
        12 => {
            let axes: Vec<usize> = (0..dims.len()).filter(|_| random.below(2) == 0).collect();
            let mut pick = |list: &[u64]| axes.iter().map(|_| random.one_of(list)).collect::<Vec<u64>>();
            let (size, stride) = (pick(&[1, 2, 3]), pick(&[1, 1, 2, 3]));
            let (dilation, low, high) = (pick(&[1, 1, 2]), pick(&[0, 0, 1, 2]), pick(&[0, 1, 2]));
            let fill = if ty.dtype == DType::Bool { 1 } else { random.one_of(&[0, 0, 0xff80_0000]) };
            (Op::Window(Window { axes, size, stride, dilation, low, high, fill }), vec![x])
        }
        13 => {
            let y = random.one_of(nodes);
            let other = graph.shape(y).dims().to_vec();
            let mut axes = ContractAxes {
                lhs_batch: Vec::new(),
                rhs_batch: Vec::new(),
                lhs_reduced: Vec::new(),
                rhs_reduced: Vec::new(),
            };
            let mut taken = vec![false; other.len()];
            for (axis, &dim) in dims.iter().enumerate() {
                let partner = (0..other.len()).find(|&other_axis| !taken[other_axis] && other[other_axis] == dim);
                let Some(partner) = partner.filter(|_| random.below(4) > 0) else { continue };
                taken[partner] = true;
                if random.below(3) == 0 {
                    axes.lhs_batch.push(axis);
                    axes.rhs_batch.push(partner);
                } else {
                    axes.lhs_reduced.push(axis);
                    axes.rhs_reduced.push(partner);
                }
            }
            (Op::Contract(axes), vec![x, y])
        }
        _ => {
            // Often followed by its spread along the reduced axes, as in a norm.
            let axes: Vec<usize> = (0..dims.len()).filter(|_| random.below(rank.max(2)) > 0).collect();
            let reduced = graph.add(Op::Reduce { op: random.one_of(&ReduceKind::ALL), axes: axes.clone() }, &[x], "");
            let reduced = reduced.ok()?;
            if random.below(3) == 0 {
                return Some(reduced);
            }
            let kept = (0..dims.len()).filter(|axis| !axes.contains(axis)).collect();
            let spread = graph.add(Op::Broadcast { shape: ty.shape.clone(), axes: kept }, &[reduced], "").ok()?;
            let op = random.one_of(&[BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Div, BinaryOp::Max]);
            (Op::Binary(op), vec![x, spread])
        }
    };
    let types: Vec<&TensorType> = operands.iter().map(|&id| graph.ty(id)).collect();
    let result = op.result_type(&types).ok()?;
    let work = match &op {
        Op::Contract(axes) => axes.lhs_reduced.iter().map(|&axis| dims[axis]).product::<u64>(),
        _ => 1,
    };
    if result.shape.elements() * work.max(1) > MOST * 8 || result.shape.elements() > MOST {
        return None;
    }
    graph.add(op, &operands, "").ok()
}

/// A value of the type of `x`: another node, `x` itself, or a constant.
fn partner(graph: &mut Graph, random: &mut Random, nodes: &[NodeId], x: NodeId) -> NodeId {
    let ty = graph.ty(x).clone();
    let same: Vec<NodeId> = nodes.iter().copied().filter(|&id| *graph.ty(id) == ty).collect();
    if random.below(2) == 0 {
        return random.one_of(&same);
    }
    let bits = random.bits(ty.dtype);
    let scalar = graph.add_leaf(Op::Constant([bits].into()), TensorType::new(ty.dtype, []), "");
    let broadcast = Op::Broadcast { shape: ty.shape, axes: Vec::new() };
    graph.add(broadcast, &[scalar], "").unwrap()
}

/// Another shape with as many elements: factors moved about, extents of 1 thrown in.
fn reshaped(random: &mut Random, shape: &Shape) -> Shape {
    let mut dims: Vec<u64> = shape.dims().to_vec();
    for _ in 0..1 + random.below(3) {
        match random.below(3) {
            0 if dims.len() > 1 => {
                let at = random.below(dims.len() as u64 - 1) as usize;
                let next = dims.remove(at + 1);
                dims[at] *= next;
            }
            1 if !dims.is_empty() => {
                let at = random.below(dims.len() as u64) as usize;
                if let Some(factor) =
                    [2, 3, 5].into_iter().find(|&factor| dims[at] > 0 && dims[at].is_multiple_of(factor))
                {
                    dims[at] /= factor;
                    dims.insert(at + random.below(2) as usize, factor);
                }
            }
            _ => dims.insert(random.below(dims.len() as u64 + 1) as usize, 1),
        }
    }
    if dims.len() > 8 { shape.clone() } else { Shape::new(dims) }
}

fn outputs(graph: &Graph, skip: &[&str], inputs: &BTreeMap<String, Vec<u32>>) -> BTreeMap<String, Vec<u32>> {
    let skip = skip.iter().map(ToString::to_string).collect();
    let program = compile_graph(graph.clone(), &PipelineOptions { stop_after: None, skip });
    let program = program.unwrap_or_else(|error| panic!("{error}\n{graph}"));
    let mut memory = Memory::new(&program);
    for (id, buffer) in program.inputs() {
        memory.buffers[id.index()].clone_from(&inputs[&buffer.name]);
    }
    program::run(&program, &mut memory);
    program.outputs().map(|(id, buffer)| (buffer.name.clone(), memory.buffers[id.index()].clone())).collect()
}

#[test]
fn passes_keep_every_bit() {
    let cases = std::env::var("LOOM_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1000);
    for seed in 0..cases {
        let mut random = Random::new(seed);
        let graph = random_graph(&mut random);
        let inputs: BTreeMap<String, Vec<u32>> = graph
            .topological()
            .into_iter()
            .filter_map(|id| match &graph.node(id).op {
                Op::Input(name) => {
                    let ty = graph.ty(id);
                    Some((name.clone(), (0..ty.shape.elements()).map(|_| random.bits(ty.dtype)).collect()))
                }
                _ => None,
            })
            .collect();
        let plain = outputs(&graph, &["simplify", "fold", "cse", "dce", "fuse", "collapse"], &inputs);
        for skip in [&[][..], &["simplify", "fold"][..], &["collapse"][..]] {
            assert_eq!(plain, outputs(&graph, skip, &inputs), "seed {seed}, without {skip:?}\n{graph}");
        }
    }
}
