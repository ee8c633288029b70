//! Random networks of Loom 0.0.8, translated, against a reference of what the predecessor computes. The vectors show each
//! quirk alone; here they meet: batches that are mixed, residuals of other shapes, branches in branches.
//!
//! `LOOM_CASES=N` runs more of them.

use std::cell::Cell;

use loom_dialect::{OldWeights, Options, Values, translate};
use loom_lit_tests::predecessor::{Network, Weights};
use loom_lit_tests::values::Random;
use loom_lit_tests::vectors::{close, program, run};
use serde_json::{Value as Json, json};

/// Draws old networks that fit together.
struct Draw {
    random: Random,
    batch: u64,
    weights: Weights,
}

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.random.below(end)
    }

    fn from(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    fn numbers(&mut self, length: u64, scale: f64) -> Vec<f64> {
        // What an f32 holds, so that both sides start with the same numbers.
        let number = |random: &mut Random| f64::from(random.below(2001) as f32 / 1000.0 - 1.0) * scale;
        (0..length).map(|_| f64::from(number(&mut self.random) as f32)).collect()
    }

    fn weight(&mut self, name: String, length: u64) {
        let numbers = self.numbers(length, 0.75);
        self.weights.insert(name, numbers);
    }

    fn divisor(&mut self, number: u64) -> u64 {
        let divisors: Vec<u64> = (1..=number).filter(|&divisor| number.is_multiple_of(divisor)).collect();
        divisors[self.below(divisors.len() as u64) as usize]
    }

    /// A layer that reads `total` numbers, and how many it gives.
    fn layer(&mut self, prefix: &str, total: u64, depth: u64) -> (Json, u64) {
        let sample = total / self.batch;
        let whole = total.is_multiple_of(self.batch);
        loop {
            return match self.below(if depth > 0 { 14 } else { 10 }) {
                0 | 1 if whole => self.dense(prefix, sample),
                2 if whole || depth < TOP => (self.softmax(if depth == TOP { sample } else { total }), total),
                3 if whole => {
                    let size = if self.below(3) > 0 { sample } else { self.divisor(sample) };
                    self.weight(format!("{prefix}.gamma"), size);
                    self.weight(format!("{prefix}.beta"), size);
                    (json!({"type": "layer_norm", "norm_size": size}), total)
                }
                4 => {
                    let size = self.divisor(total);
                    self.weight(format!("{prefix}.gamma"), size);
                    (json!({"type": "rms_norm", "norm_size": size}), total)
                }
                5 if total.is_multiple_of(2) => (self.attention(prefix, total), total),
                6 => {
                    let (width, between) = (self.divisor(total), self.from(1, 4));
                    for (role, from, to) in [("gate", width, between), ("up", width, between), ("down", between, width)]
                    {
                        self.weight(format!("{prefix}.{role}_weight"), from * to);
                        self.weight(format!("{prefix}.{role}_bias"), to);
                    }
                    (json!({"type": "swiglu", "input_height": width, "output_height": between}), total)
                }
                7 if whole && (self.batch == 1 || self.below(4) == 0) => self.recurrent(prefix, sample),
                8 if whole && (self.batch == 1 || self.below(4) == 0) => self.convolution(prefix, sample),
                9 if depth == TOP => (json!({"type": "residual"}), total),
                10 => self.sequential(prefix, total, depth),
                11 | 12 => self.parallel(prefix, total, depth),
                13 if self.below(3) == 0 => self.kmeans(prefix, total),
                _ => continue,
            };
        }
    }

    fn activation(&mut self) -> &'static str {
        ["relu", "tanh", "leaky_relu", "sigmoid", "softplus", "linear"][self.below(6) as usize]
    }

    fn dense(&mut self, prefix: &str, inputs: u64) -> (Json, u64) {
        // Now and then it reads less than there is.
        let inputs = if self.below(5) == 0 { self.from(1, inputs) } else { inputs };
        let outputs = self.from(1, 6);
        self.weight(format!("{prefix}.weight"), inputs * outputs);
        self.weight(format!("{prefix}.bias"), outputs);
        let activation = self.activation();
        let layer = json!({"type": "dense", "input_size": inputs, "output_size": outputs, "activation": activation});
        (layer, outputs * self.batch)
    }

    fn softmax(&mut self, size: u64) -> Json {
        let cols = self.divisor(size);
        let mask: Vec<bool> = (0..size).map(|_| self.below(3) > 0).collect();
        let variants =
            ["standard", "temperature", "grid", "hierarchical", "masked", "sparse", "entmax", "adaptive", "odd"];
        let variant = variants[self.below(9) as usize];
        let temperature = [0.0, 0.5, 2.0][self.below(3) as usize];
        let alpha = [0.0, 1.25, 1.5, 2.0][self.below(4) as usize];
        json!({"type": "softmax", "softmax_variant": variant, "temperature": temperature, "entmax_alpha": alpha,
            "softmax_rows": size / cols, "softmax_cols": cols, "hierarchy_levels": [size / cols, cols], "mask": mask})
    }

    fn attention(&mut self, prefix: &str, total: u64) -> Json {
        let pairs = self.divisor(total / 2);
        let heads = self.divisor(pairs);
        let (size, head) = (2 * pairs, 2 * pairs / heads);
        for role in ["q", "k", "v", "o"] {
            self.weight(format!("{prefix}.{role}_weight"), size * size);
            self.weight(format!("{prefix}.{role}_bias"), size);
        }
        let head = if self.below(6) == 0 { 0 } else { head };
        json!({"type": "multi_head_attention", "d_model": size, "num_heads": heads, "head_dim": head})
    }

    fn recurrent(&mut self, prefix: &str, sample: u64) -> (Json, u64) {
        let (inputs, hidden) = (self.divisor(sample), self.from(1, 4));
        let steps = sample / inputs;
        let kind = if self.below(2) == 0 { "rnn" } else { "lstm" };
        let gates: &[&str] = if kind == "rnn" { &[""] } else { &["_i", "_f", "_g", "_o"] };
        for gate in gates {
            self.weight(format!("{prefix}.weight_ih{gate}"), hidden * inputs);
            self.weight(format!("{prefix}.weight_hh{gate}"), hidden * hidden);
            let bias = if gate.is_empty() { "_h" } else { gate };
            self.weight(format!("{prefix}.bias{bias}"), hidden);
        }
        let layer = json!({"type": kind, "input_size": inputs, "hidden_size": hidden, "seq_length": steps});
        (layer, self.batch * steps * hidden)
    }

    fn convolution(&mut self, prefix: &str, sample: u64) -> (Json, u64) {
        let channels = self.divisor(sample);
        let length = sample / channels;
        let (filters, stride, padding) = (self.from(1, 3), self.from(1, 2), self.below(2));
        let kernel = self.from(1, 3.min(length + 2 * padding));
        self.weight(format!("{prefix}.weight"), filters * channels * kernel);
        self.weight(format!("{prefix}.bias"), filters);
        let positions = (length + 2 * padding - kernel) / stride + 1;
        let activation = self.activation();
        let layer = json!({"type": "conv1d", "input_channels": channels, "input_length": length, "filters": filters,
            "kernel_size": kernel, "stride": stride, "padding": padding, "activation": activation});
        (layer, self.batch * filters * positions)
    }

    fn sequential(&mut self, prefix: &str, total: u64, depth: u64) -> (Json, u64) {
        let mut reached = total;
        let branches: Vec<Json> = (0..self.from(1, 3))
            .map(|index| {
                let (layer, given) =
                    self.layer(&format!("{prefix}.branches.{index}"), reached, (depth - 1).min(TOP - 1));
                // All others are skipped.
                if matches!(layer["type"].as_str(), Some("dense" | "softmax")) {
                    reached = given;
                }
                layer
            })
            .collect();
        (json!({"type": "sequential", "branches": branches}), reached)
    }

    fn parallel(&mut self, prefix: &str, total: u64, depth: u64) -> (Json, u64) {
        let count = self.from(1, 3);
        let (branches, lengths): (Vec<Json>, Vec<u64>) = (0..count)
            .map(|index| self.layer(&format!("{prefix}.branches.{index}"), total, (depth - 1).min(TOP - 1)))
            .unzip();
        let mode = ["concat", "add", "avg", "grid_scatter", "filter", "filter", "multiply"][self.below(7) as usize];
        let longest = lengths.iter().copied().max().unwrap();
        let alike = lengths.iter().all(|&length| length == longest);
        let mut layer = json!({"type": "parallel", "combine_mode": mode, "branches": branches});
        let given = match mode {
            "concat" => lengths.iter().sum(),
            "add" | "avg" if !alike => total,
            "multiply" => total,
            "grid_scatter" => {
                let positions: Vec<Json> = (0..count).map(|index| json!({"target_col": count - 1 - index})).collect();
                layer["grid_positions"] = positions.into();
                layer["grid_output_cols"] = count.into();
                layer["grid_output_rows"] = 1.into();
                layer["grid_output_layers"] = 1.into();
                lengths.iter().sum()
            }
            "filter" => {
                if self.below(3) > 0 {
                    let inputs = self.from(1, (total / self.batch).max(1));
                    self.weight(format!("{prefix}.filter_gate.weight"), inputs * count);
                    self.weight(format!("{prefix}.filter_gate.bias"), count);
                    layer["filter_gate"] = json!({"type": "dense", "input_size": inputs, "output_size": count});
                    layer["filter_temperature"] = [0.0, 0.5][self.below(2) as usize].into();
                }
                longest
            }
            _ => longest,
        };
        (layer, given)
    }

    fn kmeans(&mut self, prefix: &str, total: u64) -> (Json, u64) {
        let batch = std::mem::replace(&mut self.batch, 1);
        let (attached, features) = self.dense(&format!("{prefix}.attached.0"), (total / batch).max(1));
        self.batch = batch;
        let clusters = self.from(1, 3);
        self.weight(format!("{prefix}.cluster_centers"), clusters * features);
        let mode = ["probabilities", "features"][self.below(2) as usize];
        let layer = json!({"type": "kmeans", "num_clusters": clusters, "cluster_dim": features,
            "kmeans_output_mode": mode, "attached_layer": attached});
        (layer, if mode == "features" { features } else { clusters })
    }
}

/// The depth at which a layer is in the network's own list.
const TOP: u64 = 3;

#[test]
fn as_the_predecessor_computes() {
    let cases = std::env::var("LOOM_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(400);
    let (mut compared, mut refused) = (0, 0);
    for seed in 0..cases {
        let mut draw = Draw { random: Random(seed), batch: 1 + seed % 3, weights: Weights::new() };
        let sample = draw.from(1, 8);
        let mut total = sample * draw.batch;
        let mut layers = Vec::new();
        for index in 0..draw.from(1, 4) {
            let (layer, given) = draw.layer(&format!("layers.{index}"), total, TOP);
            layers.push(layer);
            total = given;
        }
        let config = json!({"batch_size": draw.batch, "input_shape": [sample], "grid_rows": 1, "grid_cols": 1,
            "layers_per_cell": layers.len(), "layers": layers});
        let mut old = OldWeights::new();
        for (name, values) in &draw.weights {
            old.insert(name, values.iter().map(|&value| value as f32).collect());
        }
        let translation = match translate(&config.to_string(), Some(&old), &Options::default()) {
            Ok(translation) => translation,
            Err(errors) => {
                // What the translation can't have, and says so.
                let known = [
                    "needs the samples of a batch apart",
                    "fails as a branch",
                    "has not as many cells",
                    "reach it",
                    "reads more than the first sample",
                ];
                let message = errors.to_string();
                assert!(known.iter().any(|part| message.contains(part)), "seed {seed}: {message}\n{config:#}");
                refused += 1;
                continue;
            }
        };
        let input = draw.numbers(sample * draw.batch, 2.0);
        let undecided = Cell::new(false);
        let network = Network { weights: &draw.weights, batch: draw.batch as usize, undecided };
        let expected = network.run(config["layers"].as_array().unwrap(), &input);
        if network.undecided.get() {
            continue;
        }
        let name = format!("seed {seed}");
        let program = program(&name, &translation.config);
        let narrow: Vec<f32> = input.iter().map(|&value| value as f32).collect();
        let found = run(&name, &program, &narrow, |name, dims| {
            let tensor = translation.weights.as_ref().unwrap().iter().find(|tensor| tensor.name == name).unwrap();
            match &tensor.values {
                Values::Given(values) => values.clone(),
                Values::Zeros => vec![0.0; dims.iter().product::<u64>() as usize],
            }
        });
        if let Err(what) = close(&found, &expected, 1e-4, 1e-4) {
            panic!("seed {seed}: {what}\n{config:#}\n{}\n{found:?}\n{expected:?}", translation.config);
        }
        compared += 1;
    }
    assert!(compared > 2 * refused, "{compared} were compared, {refused} refused");
}
