//! Layers over the steps or positions of a sequence: recurrent ones and attention.

use super::Generator;

impl Generator {
    /// One or two recurrent layers over a sequence, whichever way it comes: flat, as steps, or as the positions of a
    /// feature map.
    pub(super) fn recurrent(&mut self) -> String {
        let mut layers = Vec::new();
        let elements = self.elements();
        let (steps, input_size, sizes) = match self.random.below(3) {
            0 if self.shape.len() == 2 => {
                let filters = 1 + self.random.below(3);
                layers.push(format!(r#"{{"type": "conv1d", "filters": {filters}, "kernel_size": 1}}"#));
                (self.shape[1], filters, String::new())
            }
            _ => {
                // Few steps of many elements, or many of few.
                let (few, many) = factors(elements);
                let (steps, size) = if self.random.below(2) == 0 { (few, many) } else { (many, few) };
                layers.push(r#"{"type": "flatten"}"#.to_string());
                (steps, size, format!(r#", "seq_length": {steps}, "input_size": {size}"#))
            }
        };
        self.shape = vec![steps, input_size];
        let stacked = self.random.below(3) == 0;
        let first = self.cell(stacked, &sizes);
        layers.push(first);
        if stacked {
            let second = self.cell(false, "");
            layers.push(second);
        }
        format!(r#"{{"type": "sequential", "branches": [{}]}}"#, layers.join(", "))
    }

    /// A recurrent layer over `[steps, elements]`, which is the shape; `sizes` are the keys that say so.
    fn cell(&mut self, sequences: bool, sizes: &str) -> String {
        let (kind, activation) = match self.random.below(4) {
            0 => ("rnn", String::new()),
            1 => ("rnn", format!(r#", "activation": {}"#, ["\"relu\"", "\"sigmoid\""][self.random.below(2) as usize])),
            2 => ("lstm", String::new()),
            _ => ("gru", String::new()),
        };
        let hidden = 1 + self.random.below(6);
        let biases = ["both", "single", "none"][self.random.below(3) as usize];
        let start = ["zeros", "learned"][self.random.below(2) as usize];
        let bidirectional = self.random.below(2) == 0;
        let sequences = sequences || self.random.below(2) == 0;
        let width = if bidirectional { 2 * hidden } else { hidden };
        self.shape = if sequences { vec![self.shape[0], width] } else { vec![width] };
        format!(
            r#"{{"type": "{kind}", "hidden_size": {hidden}, "biases": "{biases}", "initial_state": "{start}", "bidirectional": {bidirectional}, "return_sequences": {sequences}{activation}{sizes}}}"#
        )
    }

    pub(super) fn attention(&mut self) -> Option<String> {
        let &[length, _] = self.shape.as_slice() else { return None };
        let (groups, kv_heads) = (1 + self.random.below(3), 1 + self.random.below(2));
        let [causal, rope, bias, output_bias] = [2, 3, 3, 2].map(|of| self.random.below(of) > 0);
        let heads = groups * kv_heads;
        let (head_dim, rope) = match self.random.below(3) {
            _ if !rope => (1 + self.random.below(5), "false".to_string()),
            0 => (2 * (1 + self.random.below(3)), r#"true, "rope_freq_base": 50"#.to_string()),
            _ => (2 * (1 + self.random.below(3)), "true".to_string()),
        };
        let window = match self.random.below(3) {
            0 => format!(r#", "sliding_window": {}"#, 1 + self.random.below(4)),
            _ => String::new(),
        };
        let mask = match self.random.below(3) {
            0 => {
                let row = |g: &mut Generator| (0..length).map(|_| g.random.below(3) > 0).collect::<Vec<bool>>();
                let rows: Vec<Vec<bool>> = (0..length).map(|_| row(self)).collect();
                format!(r#", "attention_mask": {rows:?}"#)
            }
            _ => String::new(),
        };
        let output = if self.random.below(4) == 0 {
            self.shape[1] = heads * head_dim;
            r#""output_projection": false"#.to_string()
        } else {
            format!(r#""output_bias": {output_bias}"#)
        };
        Some(format!(
            r#"{{"type": "multi_head_attention", "num_heads": {heads}, "num_kv_heads": {kv_heads}, "head_dim": {head_dim}, "causal": {causal}, "rope": {rope}, "bias": {bias}, {output}{window}{mask}}}"#
        ))
    }
}

/// Two factors of a number, as near to each other as they come, the lesser first.
fn factors(number: u64) -> (u64, u64) {
    let lesser = (1..=number.isqrt()).rev().find(|lesser| number.is_multiple_of(*lesser)).unwrap_or(1);
    (lesser, number / lesser)
}
