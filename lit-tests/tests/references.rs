//! The meaning of the layers that no other library's results are kept for, recomputed in float64 the way a textbook has
//! them: sparsemax by sorting, entmax by a long bisection. As in `vectors.rs`, a tolerance decides here and nowhere else.

use std::collections::BTreeMap;

use loom_ir::eval::program::{self, Memory};
use loom_ir::kernel::BufferKind;
use loom_ir::numerics::philox::Stream;
use loom_lit_tests::values::Random;
use loom_passes::{PipelineOptions, compile};

/// A run with random numbers: input, weights by name, output.
struct Run {
    input: Vec<f64>,
    weights: BTreeMap<String, Vec<f64>>,
    output: Vec<f64>,
}

fn run(shape: &[u64], layers: &str) -> Run {
    run_scaled(shape, layers, 3.0)
}

/// Two samples of numbers in (-scale, scale).
fn run_scaled(shape: &[u64], layers: &str, scale: f32) -> Run {
    let source = format!(r#"{{"batch_size": 2, "seed": 5, "input_shape": {shape:?}, "layers": [{layers}]}}"#);
    let network = loom_ir::config::parse(&source).unwrap_or_else(|errors| panic!("{errors}\n{source}"));
    let program = compile(&network, &PipelineOptions::default()).unwrap_or_else(|error| panic!("{error}\n{source}"));
    let mut random = Random(11);
    let mut memory = Memory::new(&program);
    let (mut input, mut weights) = (Vec::new(), BTreeMap::new());
    let wide = |bits: &[u32]| bits.iter().map(|&bits| f64::from(f32::from_bits(bits))).collect::<Vec<f64>>();
    for (id, buffer) in program.buffers_where(|kind| kind.is_input() || kind.is_weight()) {
        let factor = if buffer.kind == BufferKind::Input { scale } else { 1.0 };
        let mut bits = random.floats(buffer.shape.elements() as usize, 0);
        for bits in &mut bits {
            let value = f32::from_bits(*bits) * factor;
            let value = if buffer.name.ends_with("running_var") { value.abs() + 0.1 } else { value };
            *bits = value.to_bits();
        }
        match buffer.kind {
            BufferKind::Input => input = wide(&bits),
            _ => drop(weights.insert(buffer.name.clone(), wide(&bits))),
        }
        memory.buffers[id.index()] = bits;
    }
    program::run(&program, &mut memory);
    let (output, _) = program.outputs().next().unwrap();
    Run { input, weights, output: wide(&memory.buffers[output.index()]) }
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= 2e-6 + 1e-5 * expected.abs(), "[{index}]: {found} is not {expected}");
    }
}

#[test]
fn normalize() {
    let run_one = |layer: &str| run(&[3, 4], layer);
    let rows = |run: &Run, length: fn(&[f64]) -> f64| -> Vec<f64> {
        run.input.chunks(4).flat_map(|row| row.iter().map(|x| x / length(row)).collect::<Vec<_>>()).collect()
    };
    let found = run_one(r#"{"type": "normalize"}"#);
    assert_close(&found.output, &rows(&found, |row| row.iter().map(|x| x * x).sum::<f64>().sqrt()));
    let found = run_one(r#"{"type": "normalize", "norm": "l1"}"#);
    assert_close(&found.output, &rows(&found, |row| row.iter().map(|x| x.abs()).sum()));
    // Along the other axis, and with a length that is less than what is divided by at least.
    let found = run_one(r#"{"type": "normalize", "axis": 0, "epsilon": 100}"#);
    assert_close(&found.output, &found.input.iter().map(|x| x / 100.0).collect::<Vec<_>>());
}

#[test]
fn scaled_cut_and_repeated() {
    let found = run(
        &[3, 4],
        r#"{"type": "scale", "factor": -2}, {"type": "slice", "axis": -1, "start": 1, "end": 2},
        {"type": "broadcast", "shape": [2, 3, 5]}, {"type": "scale", "offset": 0.5}, {"type": "reshape", "shape": [30]}"#,
    );
    let sample = |sample: &[f64]| (0..30).map(|index| 0.5 - 2.0 * sample[index / 5 % 3 * 4 + 1]).collect::<Vec<_>>();
    assert_close(&found.output, &found.input.chunks(12).flat_map(sample).collect::<Vec<_>>());
}

fn standard(z: &[f64]) -> Vec<f64> {
    let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let e: Vec<f64> = z.iter().map(|z| (z - max).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|e| e / sum).collect()
}

fn sparsemax(z: &[f64]) -> Vec<f64> {
    let mut sorted = z.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let (mut sum, mut tau) = (0.0, 0.0);
    for (k, value) in (1..).zip(sorted) {
        sum += value;
        if 1.0 + f64::from(k) * value > sum {
            tau = (sum - 1.0) / f64::from(k);
        }
    }
    z.iter().map(|z| (z - tau).max(0.0)).collect()
}

fn entmax(z: &[f64], alpha: f64) -> Vec<f64> {
    let v: Vec<f64> = z.iter().map(|z| (alpha - 1.0) * z).collect();
    let p = |tau: f64| v.iter().map(|v| (v - tau).max(0.0).powf(1.0 / (alpha - 1.0))).collect::<Vec<f64>>();
    let high = v.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (mut low, mut high) = (high - 1.0, high);
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if p(middle).iter().sum::<f64>() >= 1.0 { low = middle } else { high = middle }
    }
    p(low)
}

/// Each of the rows of the input, by itself.
fn rows(input: &[f64], length: usize, each: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    input.chunks_exact(length).flat_map(each).collect()
}

#[test]
fn sparse_distributions() {
    for scale in [0.1, 3.0, 40.0] {
        for n in [1, 2, 5, 33] {
            let sized = |options: &str| {
                run_scaled(&[n as u64], &format!(r#"{{"type": "softmax", "softmax_variant": {options}}}"#), scale)
            };
            let found = sized(r#""sparsemax", "temperature": 0.5"#);
            assert_close(
                &found.output,
                &rows(&found.input, n, |x| sparsemax(&x.iter().map(|x| x / 0.5).collect::<Vec<_>>())),
            );
            for alpha in [1.1, 1.3, 1.5, 1.8, 2.0] {
                let found = sized(&format!(r#""entmax", "entmax_alpha": {alpha}"#));
                assert_close(&found.output, &rows(&found.input, n, |x| entmax(x, alpha)));
            }
        }
    }
}

#[test]
fn equal_logits_share_alike() {
    // Ties are ordered by index while the support is found, but every element of it is treated the same.
    for variant in [r#""sparsemax""#, r#""entmax""#, r#""entmax", "entmax_alpha": 1.7"#] {
        let layers = format!(
            r#"{{"type": "parallel", "branches": [{{"type": "sequential", "branches": []}}, {{"type": "sequential", "branches": []}}]}}, {{"type": "softmax", "softmax_variant": {variant}}}"#
        );
        let found = run(&[4], &layers).output;
        for sample in found.chunks_exact(8) {
            assert_eq!(sample[..4], sample[4..], "{variant}");
        }
    }
}

#[test]
fn distributions_of_several_parts() {
    let found = run(&[8], r#"{"type": "softmax", "softmax_variant": "hierarchical", "hierarchy_levels": [2, 3]}"#);
    let tree = |x: &[f64]| {
        let top = standard(&x[..2]);
        (0..2)
            .flat_map(|k| standard(&x[2 + 3 * k..5 + 3 * k]).into_iter().map(|p| top[k] * p).collect::<Vec<_>>())
            .collect()
    };
    assert_close(&found.output, &rows(&found.input, 8, tree));

    let clusters = "[[0, 1, 2], [3], [4, 5]]";
    let adaptive = format!(r#""adaptive", "adaptive_clusters": {clusters}"#);
    let found = run(&[8], &format!(r#"{{"type": "softmax", "softmax_variant": {adaptive}}}"#));
    let with_clusters = |x: &[f64]| {
        let (head, tail) = (standard(&x[..5]), standard(&x[6..]));
        vec![head[0], head[1], head[2], head[3], head[4] * tail[0], head[4] * tail[1]]
    };
    assert_close(&found.output, &rows(&found.input, 8, with_clusters));
    let found = run(&[6], &format!(r#"{{"type": "softmax", "softmax_variant": {adaptive}}}"#));
    assert_close(&found.output, &rows(&found.input, 6, standard));

    let found = run(&[6], r#"{"type": "softmax", "softmax_variant": "mixture", "mixture_weights": [1, 0, 3]}"#);
    let mixture = |x: &[f64]| {
        let parts: Vec<Vec<f64>> = x.chunks_exact(2).map(standard).collect();
        (0..2).map(|k| 0.25 * parts[0][k] + 0.75 * parts[2][k]).collect()
    };
    assert_close(&found.output, &rows(&found.input, 6, mixture));

    // Along the first axis: [3, 4] is 4 columns.
    let found =
        run(&[3, 4], r#"{"type": "softmax", "softmax_variant": "masked", "mask": [true, false, true], "axis": 0}"#);
    let masked = |x: &[f64]| {
        let columns: Vec<Vec<f64>> = (0..4).map(|k| standard(&[x[k], x[8 + k]])).collect();
        (0..3).flat_map(|row| (0..4).map(|k| [columns[k][0], 0.0, columns[k][1]][row]).collect::<Vec<_>>()).collect()
    };
    assert_close(&found.output, &rows(&found.input, 12, masked));
}

#[test]
fn gumbel_noise_is_the_seeds() {
    let layer = |noise: bool| {
        format!(r#"{{"type": "softmax", "softmax_variant": "gumbel", "gumbel_noise": {noise}, "temperature": 2}}"#)
    };
    let found = run(&[5], &layer(true));
    let stream = Stream::new(5, "layers.0", "gumbel");
    let noise: Vec<f64> = (0..5)
        .map(|index| {
            let uniform = f64::from((stream.word(index) >> 9) * 2 + 1) / f64::from(1 << 24);
            -(-uniform.ln()).ln()
        })
        .collect();
    let noisy = |x: &[f64]| standard(&x.iter().zip(&noise).map(|(x, g)| (x + g) / 2.0).collect::<Vec<_>>());
    assert_close(&found.output, &rows(&found.input, 5, noisy));
    let found = run(&[5], &layer(false));
    assert_close(&found.output, &rows(&found.input, 5, |x| standard(&x.iter().map(|x| x / 2.0).collect::<Vec<_>>())));
}

#[test]
fn channels() {
    let found = run(&[3, 2, 2], r#"{"type": "batch_norm", "epsilon": 0.01}"#);
    let weight = |role: &str, channel: usize| found.weights[&format!("layers.0.{role}")][channel];
    let normal = |(index, x): (usize, &f64)| {
        let c = index / 4 % 3;
        (x - weight("running_mean", c)) / (weight("running_var", c) + 0.01).sqrt() * weight("gamma", c)
            + weight("beta", c)
    };
    assert_close(&found.output, &found.input.iter().enumerate().map(normal).collect::<Vec<_>>());
    let found = run(&[3, 5], r#"{"type": "global_avg_pool"}"#);
    assert_close(&found.output, &rows(&found.input, 5, |x| vec![x.iter().sum::<f64>() / 5.0]));
    let found = run(&[3, 5, 2], r#"{"type": "global_max_pool2d"}"#);
    let max = |x: &[f64]| vec![x.iter().copied().fold(f64::NEG_INFINITY, f64::max)];
    assert_close(&found.output, &rows(&found.input, 10, max));
    let found = run(&[3, 5], r#"{"type": "dropout", "rate": 0.9}"#);
    assert_eq!(found.output, found.input);
}

#[test]
fn windows_of_a_length() {
    // (kernel, stride, padding, dilation)
    for (kernel, stride, padding, dilation) in [(3, 3, 0, 1), (3, 2, 1, 1), (2, 1, 1, 3), (5, 4, 2, 2), (2, 3, 1, 14)] {
        // What a window holds beside padding.
        let windows = |x: &[f64]| -> Vec<Vec<f64>> {
            let count = (x.len() + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1;
            let place = |start: usize, tap: usize| (start + tap * dilation).checked_sub(padding);
            let window = |start| (0..kernel).filter_map(|tap| x.get(place(start, tap)?).copied()).collect();
            (0..count).map(|index| window(index * stride)).collect()
        };
        let keys = format!(r#""kernel_size": {kernel}, "stride": {stride}, "padding": {padding}"#);
        let found = run(&[3, 13], &format!(r#"{{"type": "max_pool1d", {keys}, "dilation": {dilation}}}"#));
        let max = |x: &[f64]| windows(x).iter().map(|w| w.iter().copied().fold(f64::NEG_INFINITY, f64::max)).collect();
        assert_eq!(found.output, rows(&found.input, 13, max), "{keys}");
        if dilation > 1 {
            continue;
        }
        for (include, count) in [(true, Some(kernel)), (false, None)] {
            let layer = format!(r#"{{"type": "avg_pool1d", {keys}, "count_include_pad": {include}}}"#);
            let found = run(&[3, 13], &layer);
            let mean = |w: &Vec<f64>| w.iter().sum::<f64>() / count.unwrap_or(w.len()) as f64;
            assert_close(&found.output, &rows(&found.input, 13, |x| windows(x).iter().map(mean).collect()));
        }
    }
}

/// What `contract(x, weight) + bias` is in float64.
fn linear(run: &Run, path: &str, x: &[f64]) -> Vec<f64> {
    let (weight, bias) = (&run.weights[&format!("{path}.weight")], &run.weights[&format!("{path}.bias")]);
    let row = |(row, bias): (&[f64], &f64)| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + bias;
    weight.chunks_exact(x.len()).zip(bias).map(row).collect()
}

#[test]
fn gates() {
    let branch = r#"{"type": "stitch", "output_size": 3}"#;
    let layers = format!(
        r#"{{"type": "parallel", "combine_mode": "filter", "filter_top_k": 2, "filter_temperature": 0.5,
            "filter_gate": {{"type": "dense", "output_size": 3}}, "branches": [{branch}, {branch}, {branch}]}}"#
    );
    let found = run(&[4], &layers);
    let filtered = |x: &[f64]| {
        let logits = linear(&found, "layers.0.filter_gate", x);
        let least = logits.iter().copied().fold(f64::INFINITY, f64::min);
        let kept: Vec<f64> = logits.iter().map(|&z| if z == least { f64::NEG_INFINITY } else { z / 0.5 }).collect();
        let weights = standard(&kept);
        let outputs: Vec<Vec<f64>> = (0..3).map(|k| linear(&found, &format!("layers.0.branches.{k}"), x)).collect();
        (0..3).map(|j| (0..3).map(|k| weights[k] * outputs[k][j]).sum()).collect()
    };
    assert_close(&found.output, &rows(&found.input, 4, filtered));

    // A gate of its own for each place of a sequence.
    let layers = format!(
        r#"{{"type": "parallel", "combine_mode": "filter", "filter_softmax": "sparse",
            "filter_gate": {{"type": "dense", "output_size": 2}}, "branches": [{branch}, {branch}]}}"#
    );
    let found = run(&[5, 4], &layers);
    let filtered = |x: &[f64]| {
        let weights = sparsemax(&linear(&found, "layers.0.filter_gate", x));
        let outputs: Vec<Vec<f64>> = (0..2).map(|k| linear(&found, &format!("layers.0.branches.{k}"), x)).collect();
        (0..3).map(|j| (0..2).map(|k| weights[k] * outputs[k][j]).sum()).collect()
    };
    assert_close(&found.output, &rows(&found.input, 4, filtered));
}

#[test]
fn a_branch_that_is_not_chosen_leaves_no_trace() {
    // The second branch overflows to infinity; its logit is the lesser one.
    let layers = r#"{"type": "parallel", "combine_mode": "filter", "filter_top_k": 1, "filter_gate":
        {"type": "softmax", "softmax_variant": "masked", "mask": [true, false]}, "branches": [
        {"type": "tanh"}, {"type": "elu", "alpha": 1e300}]}"#;
    let found = run(&[2], layers);
    assert_close(&found.output, &found.input.iter().map(|x| x.tanh()).collect::<Vec<_>>());
}

#[test]
fn concatenation_along_an_axis() {
    let two =
        r#""branches": [{"type": "sequential", "branches": []}, {"type": "stitch", "output_size": 1, "bias": false}]"#;
    let found = run(&[2, 3], &format!(r#"{{"type": "parallel", "axis": -1, {two}}}"#));
    let weight = &found.weights["layers.0.branches.1.weight"];
    let joined = |x: &[f64]| [x, &[x.iter().zip(weight).map(|(x, w)| x * w).sum()]].concat();
    assert_close(&found.output, &rows(&found.input, 3, joined));
    // Of shapes that differ, each sample is flattened first.
    let found = run(&[2, 3], &format!(r#"{{"type": "parallel", {two}}}"#));
    let weight = &found.weights["layers.0.branches.1.weight"];
    let flat = |x: &[f64]| {
        let mapped = x.chunks_exact(3).map(|x| x.iter().zip(weight).map(|(x, w)| x * w).sum());
        x.iter().copied().chain(mapped).collect()
    };
    assert_close(&found.output, &rows(&found.input, 6, flat));
}

#[test]
fn distances() {
    for metric in ["squared_euclidean", "euclidean", "manhattan", "cosine"] {
        let layer = format!(
            r#"{{"type": "kmeans", "num_clusters": 4, "distance_metric": "{metric}", "kmeans_temperature": 0.8}}"#
        );
        let found = run(&[3, 5], &layer);
        let centres = &found.weights["layers.0.cluster_centers"];
        let assigned = |f: &[f64]| {
            let sum =
                |each: &dyn Fn(f64, f64) -> f64, c: &[f64]| f.iter().zip(c).map(|(&f, &c)| each(f, c)).sum::<f64>();
            let distance = |c: &[f64]| match metric {
                "squared_euclidean" => sum(&|f, c| (f - c).powi(2), c),
                "euclidean" => sum(&|f, c| (f - c).powi(2), c).sqrt(),
                "manhattan" => sum(&|f, c| (f - c).abs(), c),
                _ => 1.0 - sum(&|f, c| f * c, c) / (sum(&|f, _| f * f, c) * sum(&|_, c| c * c, c)).sqrt(),
            };
            standard(&centres.chunks_exact(5).map(|c| -distance(c) / (2.0 * 0.8 * 0.8)).collect::<Vec<_>>())
        };
        assert_close(&found.output, &rows(&found.input, 5, assigned));
    }
}

/// Attention in float64, for one sample: which key a query may attend to is told by `kept`.
fn attention(run: &Run, x: &[f64], sizes: [usize; 3], rope: bool, kept: impl Fn(usize, usize) -> bool) -> Vec<f64> {
    let [heads, kv_heads, size] = sizes;
    let d_model = run.weights["layers.0.q_weight"].len() / (heads * size);
    let map = |role: char, x: &[f64]| {
        let (weight, bias) =
            (&run.weights[&format!("layers.0.{role}_weight")], &run.weights[&format!("layers.0.{role}_bias")]);
        let row = |(row, bias): (&[f64], &f64)| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + bias;
        weight.chunks_exact(x.len()).zip(bias).map(row).collect::<Vec<f64>>()
    };
    let rotated = |position: usize, head: &[f64]| {
        let half = size / 2;
        let angle = |i: usize| position as f64 * 100f64.powf(-2.0 * (i % half) as f64 / size as f64);
        let other = |i: usize| if i < half { -head[i + half] } else { head[i - half] };
        (0..size).map(|i| head[i] * angle(i).cos() + other(i) * angle(i).sin()).collect::<Vec<f64>>()
    };
    let heads_of = |role: char, turned: bool| -> Vec<Vec<Vec<f64>>> {
        let each = |(position, x): (usize, &[f64])| {
            let all = map(role, x);
            all.chunks_exact(size)
                .map(|head| if turned && rope { rotated(position, head) } else { head.to_vec() })
                .collect()
        };
        x.chunks_exact(d_model).enumerate().map(each).collect()
    };
    let (q, k, v) = (heads_of('q', true), heads_of('k', true), heads_of('v', false));
    let output = |i: usize| {
        let mixed = (0..heads).flat_map(|head| {
            let own = head / (heads / kv_heads);
            let keys: Vec<usize> = (0..k.len()).filter(|&j| kept(i, j)).collect();
            let score =
                |&j: &usize| q[i][head].iter().zip(&k[j][own]).map(|(q, k)| q * k).sum::<f64>() / (size as f64).sqrt();
            let weights = standard(&keys.iter().map(score).collect::<Vec<_>>());
            let value = |d: usize| keys.iter().zip(&weights).map(|(&j, weight)| weight * v[j][own][d]).sum::<f64>();
            (0..size).map(value).collect::<Vec<_>>()
        });
        map('o', &mixed.collect::<Vec<_>>())
    };
    (0..q.len()).flat_map(output).collect()
}

#[test]
fn attention_of_every_kind() {
    let mask = [[true, false, true], [true, true, true], [false, false, false]];
    for (options, rope, kept) in [
        (r#""rope": false"#, false, (|i, j| j <= i) as fn(usize, usize) -> bool),
        (r#""rope_freq_base": 100, "causal": false"#, true, |_, _| true),
        (r#""rope_freq_base": 100, "sliding_window": 2"#, true, |i, j| j <= i && i < j + 2),
        (r#""rope": false, "causal": false, "sliding_window": 1"#, false, |i, j| i == j),
    ] {
        let layer = format!(r#"{{"type": "mha", "num_heads": 4, "num_kv_heads": 2, "head_dim": 6, {options}}}"#);
        let found = run(&[3, 5], &layer);
        assert_close(&found.output, &rows(&found.input, 15, |x| attention(&found, x, [4, 2, 6], rope, kept)));
    }
    let layer =
        format!(r#"{{"type": "mha", "num_heads": 2, "head_dim": 4, "rope": false, "attention_mask": {mask:?}}}"#);
    let found = run(&[3, 5], &layer);
    let kept = |i: usize, j: usize| j <= i && mask[i][j];
    // The last position attends to none: its heads are 0, and what is left is the output's bias.
    assert_close(&found.output, &rows(&found.input, 15, |x| attention(&found, x, [2, 2, 4], false, kept)));
    assert_close(&found.output[10..15], &found.weights["layers.0.o_bias"]);
}

#[test]
fn the_future_changes_no_bit_of_the_past() {
    // Positions 0 to 3 of a sequence of 9, and the same four alone.
    let layer = r#"{"type": "mha", "num_heads": 2, "head_dim": 4}"#;
    let input: Vec<u32> = Random(3).floats(9 * 5, 0);
    let prefix = |length: u64| {
        let source = format!(r#"{{"input_shape": [{length}, 5], "layers": [{layer}]}}"#);
        let program = compile(&loom_ir::config::parse(&source).unwrap(), &PipelineOptions::default()).unwrap();
        let mut memory = Memory::new(&program);
        for (id, buffer) in program.buffers_where(|kind| kind.is_input() || kind.is_weight()) {
            let count = buffer.shape.elements() as usize;
            let seed = buffer.name.bytes().map(u64::from).sum();
            memory.buffers[id.index()] =
                if buffer.kind == BufferKind::Input { input[..count].to_vec() } else { Random(seed).floats(count, 0) };
        }
        program::run(&program, &mut memory);
        let (output, _) = program.outputs().next().unwrap();
        memory.buffers[output.index()].clone()
    };
    assert_eq!(prefix(4), prefix(9)[..20]);
}
