//! Recurrent layers, against PyTorch's formulas in float64, one number at a time.

use std::collections::BTreeMap;

use loom_ir::eval::program::{Memory, run};
use loom_ir::kernel::BufferKind;
use loom_lit_tests::values::Random;
use loom_passes::{PipelineOptions, compile};

type Tensors = BTreeMap<String, Vec<f32>>;

/// A cell: `gates · hidden` rows of weights.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cell {
    Rnn,
    Lstm,
    Gru,
}

struct Case {
    cell: Cell,
    batch: usize,
    steps: usize,
    input: usize,
    hidden: usize,
    biases: &'static str,
    bidirectional: bool,
    sequences: bool,
    learned: bool,
}

impl Case {
    fn config(&self) -> String {
        let kind = ["rnn", "lstm", "gru"][self.cell as usize];
        let start = if self.learned { "learned" } else { "zeros" };
        format!(
            r#"{{"batch_size": {}, "input_shape": [{}, {}], "layers": [{{"type": "{kind}", "hidden_size": {},
            "biases": "{}", "bidirectional": {}, "return_sequences": {}, "initial_state": "{start}"}}]}}"#,
            self.batch, self.steps, self.input, self.hidden, self.biases, self.bidirectional, self.sequences
        )
    }

    /// The states after each step, `[steps][hidden]`, of one sample in one direction; in the order of the input's steps.
    fn states(&self, x: &[f32], weights: &Tensors, suffix: &str) -> Vec<Vec<f64>> {
        let tensor = |role: &str| weights.get(&format!("layers.0.{role}{suffix}"));
        let matrix = |role: &str, row: usize, v: &[f64]| -> f64 {
            let all = tensor(role).unwrap();
            (0..v.len()).map(|k| f64::from(all[row * v.len() + k]) * v[k]).sum()
        };
        let bias = |role: &str, row: usize| tensor(role).map_or(0.0, |all| f64::from(all[row]));
        let start = |role: &str| -> Vec<f64> {
            (0..self.hidden).map(|i| tensor(role).map_or(0.0, |all| f64::from(all[i]))).collect()
        };
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let (mut h, mut c) = (start("initial_h"), start("initial_c"));
        let mut states = vec![Vec::new(); self.steps];
        let order: Vec<usize> =
            if suffix.is_empty() { (0..self.steps).collect() } else { (0..self.steps).rev().collect() };
        for t in order {
            let x: Vec<f64> = x[t * self.input..(t + 1) * self.input].iter().map(|&x| f64::from(x)).collect();
            let u = |gate: usize, i: usize| {
                let row = gate * self.hidden + i;
                matrix("weight_ih", row, &x) + bias("bias_ih", row) + bias("bias", row)
            };
            let v = |gate: usize, i: usize| {
                let row = gate * self.hidden + i;
                matrix("weight_hh", row, &h) + bias("bias_hh", row)
            };
            let sum = |gate: usize, i: usize| u(gate, i) + v(gate, i);
            let mut next = vec![0.0; self.hidden];
            let mut cell = vec![0.0; self.hidden];
            for i in 0..self.hidden {
                match self.cell {
                    Cell::Rnn => next[i] = sum(0, i).tanh(),
                    Cell::Lstm => {
                        cell[i] = sigmoid(sum(1, i)) * c[i] + sigmoid(sum(0, i)) * sum(2, i).tanh();
                        next[i] = sigmoid(sum(3, i)) * cell[i].tanh();
                    }
                    Cell::Gru => {
                        let (r, z) = (sigmoid(sum(0, i)), sigmoid(sum(1, i)));
                        let n = (u(2, i) + r * v(2, i)).tanh();
                        next[i] = (1.0 - z) * n + z * h[i];
                    }
                }
            }
            (h, c) = (next.clone(), cell);
            states[t] = next;
        }
        states
    }

    fn expected(&self, x: &[f32], weights: &Tensors) -> Vec<f64> {
        let suffixes = if self.bidirectional { &["", "_reverse"][..] } else { &[""] };
        let mut y = Vec::new();
        for sample in x.chunks(self.steps * self.input) {
            let directions: Vec<_> = suffixes.iter().map(|suffix| self.states(sample, weights, suffix)).collect();
            if self.sequences {
                y.extend((0..self.steps).flat_map(|t| directions.iter().flat_map(move |states| states[t].clone())));
            } else {
                // The last step that each direction took.
                y.extend(directions[0][self.steps - 1].clone());
                y.extend(directions.get(1).into_iter().flat_map(|states| states[0].clone()));
            }
        }
        y
    }

    fn check(&self) {
        let network = loom_ir::config::parse(&self.config()).unwrap();
        let program = compile(&network, &PipelineOptions::default()).unwrap();
        let mut random = Random(self.steps as u64 * 31 + self.hidden as u64);
        let mut memory = Memory::new(&program);
        let (mut x, mut weights) = (Vec::new(), Tensors::new());
        for (id, buffer) in program.buffers_where(|kind| kind.is_input() || kind.is_weight()) {
            let bits = random.floats(buffer.shape.elements() as usize, 0);
            let values: Vec<f32> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
            memory.buffers[id.index()] = bits;
            match buffer.kind {
                BufferKind::Input => x = values,
                _ => drop(weights.insert(buffer.name.clone(), values)),
            }
        }
        run(&program, &mut memory);
        let (output, _) = program.outputs().next().unwrap();
        let found = &memory.buffers[output.index()];
        let expected = self.expected(&x, &weights);
        assert_eq!(found.len(), expected.len());
        for (index, (&found, &expected)) in found.iter().zip(&expected).enumerate() {
            let found = f64::from(f32::from_bits(found));
            // States are at most 1, and errors of a few units accumulate over the steps.
            assert!((found - expected).abs() < 4e-6, "{}\nelement {index}: {found}, not {expected}", self.config());
        }
    }
}

#[test]
fn cells_are_pytorchs() {
    for cell in [Cell::Rnn, Cell::Lstm, Cell::Gru] {
        for (index, biases) in ["both", "single", "none"].into_iter().enumerate() {
            for bidirectional in [false, true] {
                for sequences in [false, true] {
                    let learned = (index + usize::from(sequences)) % 2 == 1;
                    let steps = [1, 2, 7][(index + usize::from(bidirectional)) % 3];
                    Case { cell, batch: 2, steps, input: 3, hidden: 5, biases, bidirectional, sequences, learned }
                        .check();
                }
            }
        }
    }
}
