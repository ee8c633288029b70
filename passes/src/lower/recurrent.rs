//! Recurrent layers: PyTorch's cells, unrolled by a recurrence over the sequence.
//!
//! What does not depend on the state, the products with the inputs, is computed for the whole sequence at once.

use loom_ir::config::{Cell, CellBiases};
use loom_ir::graph::{Builder, ContractAxes, NodeId, Op, TensorType};
use loom_ir::kernel::scalar::UnaryOp;
use loom_ir::types::{DType, Shape};

use super::layers::Factors;
use super::{activation, combine, quantised};
use crate::shapes::{Quantised, SequenceInput, ShapedRecurrent};

/// Runs the cell over the sequence. Gives `[B, T, directions · hidden_size]`, or the last step's
/// `[B, directions · hidden_size]`.
pub(super) fn recurrent(
    b: &mut Builder<'_>,
    x: NodeId,
    layer: &ShapedRecurrent,
    quantised: &Option<Quantised>,
) -> NodeId {
    let batch = b.graph().shape(x).dims()[0];
    let x = match layer.input {
        SequenceInput::Sequence => x,
        SequenceInput::ChannelsFirst => b.op(Op::Transpose(vec![0, 2, 1]), &[x]),
        SequenceInput::Flat => b.reshape(x, [batch, layer.steps, layer.input_size]),
    };
    let mut directions = vec![direction(b, x, layer, quantised, "")];
    if layer.bidirectional {
        directions.push(direction(b, x, layer, quantised, "_reverse"));
    }
    let axis = b.graph().shape(directions[0]).rank() - 1;
    if directions.len() == 1 { directions[0] } else { combine::concat(b, &directions, axis) }
}

/// One direction; `suffix` ends the names of its weights.
fn direction(
    b: &mut Builder<'_>,
    x: NodeId,
    layer: &ShapedRecurrent,
    quantised: &Option<Quantised>,
    suffix: &str,
) -> NodeId {
    let reverse = !suffix.is_empty();
    let (batch, steps) = (b.graph().shape(x).dims()[0], layer.steps);
    let rows = layer.cell.gates() * layer.hidden_size;
    let factors = (Factors::of_input(quantised), Factors::of_inner(quantised));
    let u = product(b, x, &format!("weight_ih{suffix}"), [rows, layer.input_size], factors.0, None);
    let u = match layer.biases {
        CellBiases::Both => biased(b, u, &format!("bias_ih{suffix}")),
        CellBiases::Single => biased(b, u, &format!("bias{suffix}")),
        CellBiases::None => u,
    };
    // Steps first; those of the reverse direction from the last one on.
    let u = b.op(Op::Transpose(vec![1, 0, 2]), &[u]);
    let u = if reverse { reversed(b, u) } else { u };

    let state = Shape::from([batch, layer.hidden_size]);
    let start = |b: &mut Builder<'_>, role: &str| {
        let start = match layer.learned_start {
            true => {
                let start = b.weight(&format!("{role}{suffix}"), [layer.hidden_size]);
                b.broadcast(start, &state, &[1])
            }
            false => b.splat(0.0, &state),
        };
        b.recur(steps, start)
    };
    let h = start(b, "initial_h");
    let c = (layer.cell == Cell::Lstm).then(|| start(b, "initial_c"));
    // contract(h, weight_hh) + bias_hh, at every step with the same weights.
    let v = product(b, h, &format!("weight_hh{suffix}"), [rows, layer.hidden_size], factors.1, Some(steps));
    let v = if layer.biases == CellBiases::Both { biased(b, v, &format!("bias_hh{suffix}")) } else { v };

    let gates = Gates { u, v, size: layer.hidden_size };
    let after = match layer.cell {
        Cell::Rnn(kind) => {
            let sum = b.add(u, v);
            activation::apply(b, kind, sum, 2)
        }
        Cell::Lstm => {
            let Some(c) = c else { unreachable!("an LSTM has a cell state") };
            lstm(b, &gates, c)
        }
        Cell::Gru => gru(b, &gates, h),
    };
    b.close(h, after);

    if layer.return_sequences {
        let y = if reverse { reversed(b, after) } else { after };
        return b.op(Op::Transpose(vec![1, 0, 2]), &[y]);
    }
    let starts = vec![steps - 1, 0, 0];
    let ends = vec![steps, batch, layer.hidden_size];
    let last = b.op(Op::Slice { starts, ends, steps: vec![1; 3] }, &[after]);
    b.reshape(last, state)
}

/// The product over the last axis of x, the third, with a weight `[rows, elements]`; with `steps`, of each of the first axis with
/// the same.
fn product(
    b: &mut Builder<'_>,
    x: NodeId,
    role: &str,
    [rows, size]: [u64; 2],
    factors: Factors<'_>,
    steps: Option<u64>,
) -> NodeId {
    if let Factors::Codes(quantised, coding) = factors {
        return quantised::linear(b, x, role, [rows, size], (quantised, coding), steps);
    }
    let weight = b.weight(role, [rows, size]);
    let (weight, batch) = match steps {
        Some(steps) => (b.broadcast(weight, &Shape::from([steps, rows, size]), &[1, 2]), vec![0]),
        None => (weight, vec![]),
    };
    let reduced = b.graph().shape(weight).rank() - 1;
    let axes =
        ContractAxes { lhs_batch: batch.clone(), rhs_batch: batch, lhs_reduced: vec![2], rhs_reduced: vec![reduced] };
    b.op(Op::Contract(axes), &[x, weight])
}

/// i, f, o = sigmoid(u + v); g = tanh(u + v); c' = (f · c) + (i · g); h' = o · tanh(c')
fn lstm(b: &mut Builder<'_>, gates: &Gates, c: NodeId) -> NodeId {
    let [i, f, g, o] = [0, 1, 2, 3].map(|gate| gates.sum(b, gate));
    let [i, f, o] = [i, f, o].map(|gate| b.unary(UnaryOp::Sigmoid, gate));
    let g = b.unary(UnaryOp::Tanh, g);
    let kept = b.mul(f, c);
    let new = b.mul(i, g);
    let cell = b.add(kept, new);
    b.close(c, cell);
    let shown = b.unary(UnaryOp::Tanh, cell);
    b.mul(o, shown)
}

/// r, z = sigmoid(u + v); n = tanh(u + (r · v)); h' = ((1 - z) · n) + (z · h)
fn gru(b: &mut Builder<'_>, gates: &Gates, h: NodeId) -> NodeId {
    let [r, z] = [0, 1].map(|gate| gates.sum(b, gate));
    let [r, z] = [r, z].map(|gate| b.unary(UnaryOp::Sigmoid, gate));
    let (u, v) = (gates.of(b, gates.u, 2), gates.of(b, gates.v, 2));
    let reset = b.mul(r, v);
    let n = b.add(u, reset);
    let n = b.unary(UnaryOp::Tanh, n);
    let one = b.splat_like(1.0, z);
    let rest = b.sub(one, z);
    let new = b.mul(rest, n);
    let kept = b.mul(z, h);
    b.add(new, kept)
}

/// The parts of the inputs (u) and of the state (v) in all gates, one after another along the last axis.
struct Gates {
    u: NodeId,
    v: NodeId,
    /// Elements of a gate.
    size: u64,
}

impl Gates {
    fn of(&self, b: &mut Builder<'_>, all: NodeId, gate: u64) -> NodeId {
        let mut ends = b.graph().shape(all).dims().to_vec();
        let mut starts = vec![0; ends.len()];
        (starts[2], ends[2]) = (gate * self.size, (gate + 1) * self.size);
        b.op(Op::Slice { starts, ends, steps: vec![1; 3] }, &[all])
    }

    fn sum(&self, b: &mut Builder<'_>, gate: u64) -> NodeId {
        let (u, v) = (self.of(b, self.u, gate), self.of(b, self.v, gate));
        b.add(u, v)
    }
}

/// y + bias, along the last axis.
fn biased(b: &mut Builder<'_>, y: NodeId, role: &str) -> NodeId {
    let shape = b.graph().shape(y).clone();
    let last = shape.rank() - 1;
    let bias = b.weight(role, [shape.dims()[last]]);
    let bias = b.broadcast(bias, &shape, &[last]);
    b.add(y, bias)
}

/// The steps from the last to the first.
fn reversed(b: &mut Builder<'_>, sequence: NodeId) -> NodeId {
    let steps = b.graph().shape(sequence).dims()[0];
    let numbers = (0..steps as u32).rev().collect();
    let numbers = b.constant(numbers, TensorType::new(DType::U32, [steps]));
    b.op(Op::Gather, &[sequence, numbers])
}
