//! `simplify`: operations that change nothing go.
//!
//! | before | after |
//! |---|---|
//! | `x · 1`, `x / 1`, `x - (+0)`, `x + (-0)`, `-(-x)` | `x` |
//! | `x / 2^n`, both 2^n and 2^-n normal | `x · 2^-n` |
//! | integers: `x + 0`, `x - 0`, `x · 1` | `x` |
//! | `select(true, x, y)`, `select(c, x, x)` | `x` |
//! | `convert` to the type it has | `x` |
//! | `round_T(round_T(x))`, T a number format | `round_T(x)` |
//! | `reshape`, `transpose`, `broadcast`, `slice`, `pad` that move nothing | `x` |
//! | `reshape(reshape(x))`, `transpose(transpose(x))` | one of them |
//!
//! Each holds for every input, NaN, infinities and both zeros included. `x + (+0)` is not there (-0 would become +0), nor
//! is `x · 0`, nor anything that reassociates.

use loom_ir::graph::{Graph, NodeId, Op};
use loom_ir::kernel::scalar::{BinaryOp, UnaryOp};
use loom_ir::types::DType;

use super::splat;

/// Applies the table until nothing changes.
pub fn simplify_identities(mut graph: Graph) -> Graph {
    for id in graph.topological() {
        // Operands come first, so one sweep sees their simplified form.
        if let Some(simpler) = simpler(&mut graph, id) {
            graph.replace(id, simpler);
        }
    }
    graph
}

fn simpler(graph: &mut Graph, id: NodeId) -> Option<NodeId> {
    let node = graph.node(id).clone();
    let operands = graph.operands(id);
    let x = *operands.first()?;
    match &node.op {
        Op::Binary(op) => binary(graph, *op, node.ty.dtype, x, operands[1]),
        // A number of the format is the nearest to itself.
        Op::Unary(UnaryOp::RoundF16 | UnaryOp::RoundBf16 | UnaryOp::RoundF8 | UnaryOp::RoundF4)
            if graph.node(x).op == node.op =>
        {
            Some(x)
        }
        Op::Unary(UnaryOp::Neg) => match graph.node(x).op {
            Op::Unary(UnaryOp::Neg) => Some(graph.operands(x)[0]),
            _ => None,
        },
        Op::Select => match splat(graph, x) {
            Some(bits) => Some(operands[if bits != 0 { 1 } else { 2 }]),
            None => (operands[1] == operands[2]).then(|| operands[1]),
        },
        Op::Convert(dtype) => (graph.ty(x).dtype == *dtype).then_some(x),
        Op::Reshape(_) if *graph.ty(x) == node.ty => Some(x),
        Op::Reshape(_) => match graph.node(x).op {
            Op::Reshape(_) => {
                let inner = graph.operands(x)[0];
                if *graph.ty(inner) == node.ty {
                    return Some(inner);
                }
                graph.add(node.op.clone(), &[inner], &node.origin).ok()
            }
            _ => None,
        },
        Op::Transpose(permutation) if permutation.is_sorted() => Some(x),
        Op::Transpose(outer) => match graph.node(x).op.clone() {
            Op::Transpose(inner) => {
                let both: Vec<usize> = outer.iter().map(|&axis| inner[axis]).collect();
                let origin = graph.operands(x)[0];
                if both.is_sorted() {
                    return Some(origin);
                }
                graph.add(Op::Transpose(both), &[origin], &node.origin).ok()
            }
            _ => None,
        },
        Op::Broadcast { .. } => (graph.ty(x) == &node.ty).then_some(x),
        Op::Slice { starts, steps, .. } => {
            let all = graph.ty(x) == &node.ty && starts.iter().all(|&start| start == 0);
            (all && steps.iter().all(|&step| step == 1)).then_some(x)
        }
        Op::Pad { .. } => (graph.ty(x) == &node.ty).then_some(x),
        _ => None,
    }
}

fn binary(graph: &mut Graph, op: BinaryOp, dtype: DType, a: NodeId, b: NodeId) -> Option<NodeId> {
    let (left, right) = (splat(graph, a), splat(graph, b));
    if dtype != DType::F32 {
        return match op {
            BinaryOp::Add if left == Some(0) => Some(b),
            BinaryOp::Add | BinaryOp::Sub if right == Some(0) => Some(a),
            BinaryOp::Mul if left == Some(1) => Some(b),
            BinaryOp::Mul if right == Some(1) => Some(a),
            _ => None,
        };
    }
    let is = |bits: Option<u32>, value: f32| bits == Some(value.to_bits());
    match op {
        BinaryOp::Add if is(left, -0.0) => Some(b),
        BinaryOp::Add if is(right, -0.0) => Some(a),
        BinaryOp::Sub if is(right, 0.0) => Some(a),
        BinaryOp::Mul if is(left, 1.0) => Some(b),
        BinaryOp::Mul | BinaryOp::Div if is(right, 1.0) => Some(a),
        BinaryOp::Div => {
            let inverse = exact_inverse(f32::from_bits(right?))?;
            let ty = graph.ty(b).clone();
            let origin = graph.node(b).origin.clone();
            let scalar = loom_ir::graph::TensorType::new(DType::F32, []);
            let constant = graph.add_leaf(Op::Constant([inverse.to_bits()].into()), scalar, &origin);
            let broadcast = Op::Broadcast { shape: ty.shape, axes: Vec::new() };
            let factor = graph.add(broadcast, &[constant], &origin).ok()?;
            graph.add(Op::Binary(BinaryOp::Mul), &[a, factor], &origin).ok()
        }
        _ => None,
    }
}

/// 1/x where x is a power of two and both are normal: then dividing and multiplying round the same real number.
fn exact_inverse(x: f32) -> Option<f32> {
    let power_of_two = x.is_normal() && x.to_bits() & 0x007f_ffff == 0;
    let inverse = 1.0 / x;
    (power_of_two && inverse.is_normal()).then_some(inverse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_inverses_replace_a_division() {
        assert_eq!(exact_inverse(4.0), Some(0.25));
        assert_eq!(exact_inverse(-0.5), Some(-2.0));
        assert_eq!(exact_inverse(3.0), None);
        assert_eq!(exact_inverse(f32::INFINITY), None);
        assert_eq!(exact_inverse(f32::from_bits(1)), None);
        // 2^127's inverse is subnormal.
        assert_eq!(exact_inverse(2f32.powi(127)), None);
        assert_eq!(exact_inverse(2f32.powi(126)), Some(2f32.powi(-126)));
    }
}
