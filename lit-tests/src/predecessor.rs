//! Loom 0.0.8 as a reference has it: flat values, in float64, quirks included. Slow and obvious; it knows nothing of how
//! the dialect is translated, and panics where a config makes no sense.

use std::cell::Cell;
use std::collections::BTreeMap;

use serde_json::Value as Json;

/// Weights by the predecessor's names.
pub type Weights = BTreeMap<String, Vec<f64>>;

/// A network of the predecessor's.
#[derive(Debug)]
pub struct Network<'a> {
    /// Its weights.
    pub weights: &'a Weights,
    /// Samples of a batch.
    pub batch: usize,
    /// Whether a rounding could have decided what a sparse softmax supports: its threshold jumps there.
    pub undecided: Cell<bool>,
}

/// The predecessor gives up on a layer.
#[derive(Debug)]
pub struct Failed;

type Result = std::result::Result<Vec<f64>, Failed>;

fn count(layer: &Json, key: &str) -> usize {
    layer[key].as_u64().unwrap_or(0) as usize
}

fn text<'a>(layer: &'a Json, key: &str) -> &'a str {
    layer[key].as_str().unwrap_or("")
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let e: Vec<f64> = x.iter().map(|x| (x - max).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|e| e / sum).collect()
}

/// Sparsemax whose threshold counts each number twice.
fn sparse(x: &[f64], undecided: &Cell<bool>) -> Vec<f64> {
    let mut sorted = x.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let (mut sum, mut kept) = (0.0, (0.0, 0.0));
    for (index, z) in sorted.iter().enumerate() {
        sum += z;
        let k = (index + 1) as f64;
        if (1.0 + k * z - sum).abs() < 1e-4 {
            undecided.set(true);
        }
        if 1.0 + k * z > sum {
            kept = (k, sum);
        }
    }
    let tau = (2.0 * kept.1 - 1.0) / kept.0;
    x.iter().map(|x| (x - tau).max(0.0)).collect()
}

/// One distribution of a softmax layer.
fn distribution(layer: &Json, x: &[f64], undecided: &Cell<bool>) -> Result {
    let temperature = Some(layer["temperature"].as_f64().unwrap_or(0.0)).filter(|t| *t > 0.0).unwrap_or(1.0);
    let tempered = |x: &[f64]| softmax(&x.iter().map(|x| x / temperature).collect::<Vec<_>>());
    let rows = |cols: usize| x.chunks(cols).flat_map(tempered).collect();
    Ok(match text(layer, "softmax_variant") {
        "grid" if count(layer, "softmax_rows") * count(layer, "softmax_cols") == 0 => return Err(Failed),
        "grid" => rows(count(layer, "softmax_cols")),
        "hierarchical" => {
            let levels = layer["hierarchy_levels"].as_array().ok_or(Failed)?;
            let levels: Vec<usize> = levels.iter().map(|level| level.as_u64().unwrap() as usize).collect();
            if levels.iter().product::<usize>() == x.len() { rows(levels[levels.len() - 1]) } else { tempered(x) }
        }
        "masked" => {
            let mask = layer["mask"].as_array().ok_or(Failed)?;
            let masked = |(x, kept): (&f64, &Json)| if kept == &Json::Bool(true) { *x } else { -1e9 };
            if mask.len() != x.len() {
                return Ok(tempered(x));
            }
            tempered(&x.iter().zip(mask).map(masked).collect::<Vec<_>>())
        }
        "sparse" => sparse(x, undecided),
        "entmax" => {
            let alpha = layer["entmax_alpha"].as_f64().unwrap_or(0.0);
            if alpha <= 1.0 {
                return Ok(softmax(x));
            }
            if alpha >= 2.0 {
                return Ok(sparse(x, undecided));
            }
            let blend =
                softmax(x).into_iter().zip(sparse(x, undecided)).map(|(a, b)| (2.0 - alpha) * a + (alpha - 1.0) * b);
            let blend: Vec<f64> = blend.collect();
            let sum: f64 = blend.iter().sum();
            blend.iter().map(|y| y / sum).collect()
        }
        "adaptive" | "mixture" => softmax(x),
        _ => tempered(x),
    })
}

fn activation(name: &str, x: f64) -> f64 {
    match name {
        "sigmoid" => 1.0 / (1.0 + (-x).exp()),
        "tanh" => x.tanh(),
        "softplus" => (1.0 + x.exp()).ln(),
        "leaky_relu" => {
            if x >= 0.0 {
                x
            } else {
                0.1 * x
            }
        }
        _ => (1.1 * x).max(0.0),
    }
}

impl Network<'_> {
    /// Runs a network on a batch.
    pub fn run(&self, layers: &[Json], input: &[f64]) -> Vec<f64> {
        let mut x = input.to_vec();
        let mut handed_on: Option<Vec<f64>> = None;
        for (index, layer) in layers.iter().enumerate() {
            let prefix = format!("layers.{index}");
            let fits = |r: &Option<Vec<f64>>, y: &[f64]| r.clone().filter(|r| r.len() == y.len());
            let sum = |y: Vec<f64>, r: Option<Vec<f64>>| match r {
                Some(r) => y.iter().zip(&r).map(|(y, r)| y + r).collect(),
                None => y,
            };
            let kind = text(layer, "type");
            if kind == "rms_norm" {
                handed_on = Some(x.clone());
            }
            if kind == "layer_norm" {
                x = sum(x.clone(), fits(&handed_on, &x));
            }
            let input = x.clone();
            x = match kind {
                "residual" => x.iter().map(|&x| activation("relu", x)).collect(),
                "softmax" => {
                    let size = x.len() / self.batch;
                    let plain = |sample: &[f64]| {
                        distribution(layer, sample, &self.undecided).unwrap_or_else(|Failed| softmax(sample))
                    };
                    x.chunks(size).flat_map(plain).collect()
                }
                _ => self.layer(layer, &prefix, &x).unwrap_or(input),
            };
            if kind == "multi_head_attention" || kind == "swiglu" {
                x = sum(x.clone(), fits(&handed_on, &x));
                handed_on = Some(x.clone());
            }
            if kind == "layer_norm" && handed_on.is_some() {
                handed_on = Some(x.clone());
            }
        }
        x
    }

    fn weight(&self, prefix: &str, role: &str) -> &[f64] {
        let name = format!("{prefix}.{role}");
        self.weights.get(&name).unwrap_or_else(|| panic!("no `{name}`"))
    }

    /// A layer as a branch.
    fn layer(&self, layer: &Json, prefix: &str, x: &[f64]) -> Result {
        Ok(match text(layer, "type") {
            "dense" => self.dense(layer, prefix, x),
            "conv1d" => self.conv1d(layer, prefix, x),
            "rnn" => self.recurrent(layer, prefix, x, false),
            "lstm" => self.recurrent(layer, prefix, x, true),
            "multi_head_attention" => self.attention(layer, prefix, x),
            "swiglu" => self.swiglu(layer, prefix, x),
            "softmax" => return distribution(layer, x, &self.undecided),
            kind @ ("layer_norm" | "rms_norm") => self.norm(layer, prefix, x, kind == "layer_norm"),
            "parallel" => return self.parallel(layer, prefix, x),
            "sequential" => {
                let mut y = x.to_vec();
                for (index, branch) in layer["branches"].as_array().unwrap().iter().enumerate() {
                    if matches!(text(branch, "type"), "dense" | "softmax") {
                        y = self.layer(branch, &format!("{prefix}.branches.{index}"), &y)?;
                    }
                }
                y
            }
            "kmeans" => self.kmeans(layer, prefix, x),
            _ => return Err(Failed),
        })
    }

    fn dense(&self, layer: &Json, prefix: &str, x: &[f64]) -> Vec<f64> {
        let (inputs, outputs) = (count(layer, "input_size"), count(layer, "output_size"));
        let (weight, bias) = (self.weight(prefix, "weight"), self.weight(prefix, "bias"));
        let at = |sample: usize, output: usize| {
            let sum: f64 = (0..inputs).map(|i| x[sample * inputs + i] * weight[i * outputs + output]).sum();
            activation(text(layer, "activation"), sum + bias[output])
        };
        (0..self.batch)
            .flat_map(|sample| (0..outputs).map(move |output| at(sample, output)).collect::<Vec<_>>())
            .collect()
    }

    fn conv1d(&self, layer: &Json, prefix: &str, x: &[f64]) -> Vec<f64> {
        let [channels, length, filters, kernel, stride, padding] =
            ["input_channels", "input_length", "filters", "kernel_size", "stride", "padding"]
                .map(|key| count(layer, key));
        let (weight, bias) = (self.weight(prefix, "weight"), self.weight(prefix, "bias"));
        let positions = (length + 2 * padding - kernel) / stride + 1;
        let mut y = Vec::new();
        for sample in x.chunks(channels * length) {
            for filter in 0..filters {
                for position in 0..positions {
                    let mut sum = bias[filter];
                    for channel in 0..channels {
                        for tap in 0..kernel {
                            let place = (position * stride + tap).wrapping_sub(padding);
                            if place < length {
                                sum += sample[channel * length + place]
                                    * weight[(filter * channels + channel) * kernel + tap];
                            }
                        }
                    }
                    y.push(activation(text(layer, "activation"), sum));
                }
            }
        }
        y
    }

    fn recurrent(&self, layer: &Json, prefix: &str, x: &[f64], lstm: bool) -> Vec<f64> {
        let [inputs, hidden, steps] = ["input_size", "hidden_size", "seq_length"].map(|key| count(layer, key));
        let gate = |name: &str, x: &[f64], h: &[f64]| -> Vec<f64> {
            let suffix = if lstm { format!("_{name}") } else { String::new() };
            let ih = self.weight(prefix, &format!("weight_ih{suffix}"));
            let hh = self.weight(prefix, &format!("weight_hh{suffix}"));
            let bias = self.weight(prefix, &if lstm { format!("bias_{name}") } else { "bias_h".to_string() });
            let row = |i: usize| {
                let input: f64 = x.iter().zip(&ih[i * inputs..]).map(|(x, w)| x * w).sum();
                let state: f64 = h.iter().zip(&hh[i * hidden..]).map(|(h, w)| h * w).sum();
                bias[i] + input + state
            };
            (0..hidden).map(row).collect()
        };
        let sigmoid = |x: f64| activation("sigmoid", x);
        let mut y = Vec::new();
        for sample in x.chunks(steps * inputs) {
            let (mut h, mut c) = (vec![0.0; hidden], vec![0.0; hidden]);
            for x in sample.chunks(inputs) {
                if lstm {
                    let [i, f, g, o] = ["i", "f", "g", "o"].map(|name| gate(name, x, &h));
                    c = (0..hidden).map(|n| sigmoid(f[n]) * c[n] + sigmoid(i[n]) * g[n].tanh()).collect();
                    h = (0..hidden).map(|n| sigmoid(o[n]) * c[n].tanh()).collect();
                } else {
                    h = gate("", x, &h).into_iter().map(f64::tanh).collect();
                }
                y.extend(&h);
            }
        }
        y
    }

    fn attention(&self, layer: &Json, prefix: &str, x: &[f64]) -> Vec<f64> {
        let [size, heads, head] = ["d_model", "num_heads", "head_dim"].map(|key| count(layer, key));
        if head == 0 {
            return vec![0.0; x.len()];
        }
        let rows = x.len() / size;
        let projected = |role: &str| -> Vec<f64> {
            let (weight, bias) =
                (self.weight(prefix, &format!("{role}_weight")), self.weight(prefix, &format!("{role}_bias")));
            let at = |row: usize, to: usize| {
                bias[to] + (0..size).map(|from| x[row * size + from] * weight[from * size + to]).sum::<f64>()
            };
            (0..rows * size).map(|index| at(index / size, index % size)).collect()
        };
        let rotated = |x: Vec<f64>| -> Vec<f64> {
            let half = head / 2;
            let at = |index: usize| {
                let (row, d) = (index / size, index % size % head);
                let angle = row as f64 * 10_000f64.powf(-2.0 * (d % half) as f64 / head as f64);
                let other = if d < half { -x[index + half] } else { x[index - half] };
                x[index] * angle.cos() + other * angle.sin()
            };
            (0..x.len()).map(at).collect()
        };
        let (q, k, v) = (rotated(projected("q")), rotated(projected("k")), projected("v"));
        let mut y = vec![0.0; x.len()];
        for row in 0..rows {
            for first in (0..heads).map(|h| h * head) {
                let part = |x: &[f64], row: usize| x[row * size + first..row * size + first + head].to_vec();
                let score = |other: usize| {
                    let products: f64 = part(&q, row).iter().zip(part(&k, other)).map(|(q, k)| q * k).sum();
                    products / (head as f64).sqrt()
                };
                let weights = softmax(&(0..=row).map(score).collect::<Vec<_>>());
                for (other, weight) in weights.iter().enumerate() {
                    for (d, value) in part(&v, other).iter().enumerate() {
                        y[row * size + first + d] += weight * value;
                    }
                }
            }
        }
        y
    }

    fn swiglu(&self, layer: &Json, prefix: &str, x: &[f64]) -> Vec<f64> {
        let (width, between) = (count(layer, "input_height"), count(layer, "output_height"));
        let map = |role: &str, x: &[f64], from: usize, to: usize| -> Vec<f64> {
            let (weight, bias) =
                (self.weight(prefix, &format!("{role}_weight")), self.weight(prefix, &format!("{role}_bias")));
            (0..to).map(|o| bias[o] + (0..from).map(|i| x[i] * weight[i * to + o]).sum::<f64>()).collect()
        };
        let row = |x: &[f64]| {
            let (gate, up) = (map("gate", x, width, between), map("up", x, width, between));
            let middle: Vec<f64> = gate.iter().zip(&up).map(|(g, u)| g * activation("sigmoid", *g) * u).collect();
            map("down", &middle, between, width)
        };
        x.chunks(width).flat_map(row).collect()
    }

    fn norm(&self, layer: &Json, prefix: &str, x: &[f64], layer_norm: bool) -> Vec<f64> {
        let size = count(layer, "norm_size");
        let gamma = self.weight(prefix, "gamma");
        let mut y = vec![0.0; x.len()];
        let rows = if layer_norm { self.batch } else { x.len() / size };
        for (row, x) in x.chunks(size).take(rows).enumerate() {
            let mean = if layer_norm { x.iter().sum::<f64>() / size as f64 } else { 0.0 };
            let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / size as f64;
            for (i, x) in x.iter().enumerate() {
                let beta = if layer_norm { self.weight(prefix, "beta")[i] } else { 0.0 };
                y[row * size + i] = (x - mean) / (variance + 1e-5).sqrt() * gamma[i] + beta;
            }
        }
        y
    }

    fn parallel(&self, layer: &Json, prefix: &str, x: &[f64]) -> Result {
        let branches = layer["branches"].as_array().unwrap();
        let path = |index: usize| format!("{prefix}.branches.{index}");
        let outputs = branches.iter().enumerate().map(|(index, branch)| self.layer(branch, &path(index), x));
        let outputs = outputs.collect::<std::result::Result<Vec<Vec<f64>>, Failed>>()?;
        let longest = outputs.iter().map(Vec::len).max().unwrap();
        let differ = outputs.iter().any(|y| y.len() != longest);
        let weighted = |weights: &[f64]| {
            let at = |i: usize| outputs.iter().zip(weights).map(|(y, w)| w * y.get(i).copied().unwrap_or(0.0)).sum();
            (0..longest).map(at).collect()
        };
        let experts = outputs.len();
        match text(layer, "combine_mode") {
            "concat" => Ok(outputs.concat()),
            "add" | "avg" if differ => Err(Failed),
            "add" => Ok(weighted(&vec![1.0; experts])),
            "avg" => Ok(weighted(&vec![1.0 / experts as f64; experts])),
            "grid_scatter" => {
                let cell = |index: usize| count(&layer["grid_positions"][index], "target_col");
                let mut order: Vec<usize> = (0..experts).collect();
                order.sort_by_key(|&index| cell(index));
                let part = |index: usize, sample: usize| {
                    let size = outputs[index].len() / self.batch;
                    outputs[index][sample * size..(sample + 1) * size].to_vec()
                };
                let sample = |sample: usize| order.iter().flat_map(|&index| part(index, sample)).collect::<Vec<_>>();
                Ok((0..self.batch).flat_map(sample).collect())
            }
            "filter" => {
                let Some(gate) = layer.get("filter_gate") else {
                    return Ok(weighted(&vec![1.0 / experts as f64; experts]));
                };
                let inputs = count(gate, "input_size");
                let prefix = format!("{prefix}.filter_gate");
                let (weight, bias) = (self.weight(&prefix, "weight"), self.weight(&prefix, "bias"));
                let logit = |e: usize| bias[e] + (0..inputs).map(|i| x[i] * weight[e * inputs + i]).sum::<f64>();
                let temperature = layer["filter_temperature"].as_f64().filter(|t| *t > 0.0).unwrap_or(1.0);
                Ok(weighted(&softmax(&(0..experts).map(|e| logit(e) / temperature).collect::<Vec<_>>())))
            }
            _ => Err(Failed),
        }
    }

    fn kmeans(&self, layer: &Json, prefix: &str, x: &[f64]) -> Vec<f64> {
        let alone = Network { weights: self.weights, batch: 1, undecided: Cell::new(false) };
        let features = alone.dense(&layer["attached_layer"], &format!("{prefix}.attached.0"), x);
        let centres: Vec<&[f64]> = self.weight(prefix, "cluster_centers").chunks(features.len()).collect();
        let distance = |c: &&[f64]| -features.iter().zip(*c).map(|(f, c)| (f - c) * (f - c)).sum::<f64>() / 2.0;
        let weights = softmax(&centres.iter().map(distance).collect::<Vec<_>>());
        if text(layer, "kmeans_output_mode") != "features" {
            return weights;
        }
        let at = |i: usize| centres.iter().zip(&weights).map(|(c, w)| c[i] * w).sum();
        (0..features.len()).map(at).collect()
    }
}
