//! Layers of integers: their definition, the codes that a file's weights become, and `examples/mnist` in integers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use loom_ir::config::{Precision, parse};
use loom_ir::kernel::BufferKind;
use loom_ir::numerics::formats::Storage;
use loom_ir::numerics::quantise::Scheme;
use loom_ir::types::{DType, Shape};
use loom_passes::{PipelineOptions, compile};
use loom_runtime::artifact::{Artifact, Target};
use loom_runtime::digest::digest;
use loom_runtime::session::{Device, Session, SessionOptions};
use loom_runtime::storage::{Conversion, Granularity, StoredFile, convert_in_memory};
use loom_runtime::tensors::{Tensor, TensorFile, read_tensor, write_tensors};
use loom_runtime::weights::Weights;

const INPUTS: usize = 10;
const OUTPUTS: usize = 3;

fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/mnist").join(file)
}

fn weights() -> Vec<f32> {
    (0..INPUTS * OUTPUTS).map(|index| ((index * index) as f32 * 0.61).sin()).collect()
}

/// The network's outputs on the interpreter and the CPU, which agree.
fn run(source: &str, file: &TensorFile, input: &Tensor) -> Vec<u32> {
    let network = parse(source).unwrap_or_else(|errors| panic!("{errors}"));
    let program = Arc::new(compile(&network, &PipelineOptions::default()).unwrap());
    let weights = Weights::from_tensors(file, &program).unwrap();
    let artifact = Artifact::new(program, weights, Target::Cpu, Vec::new());
    let [interp, cpu] = [Device::Interp, Device::Cpu].map(|device| {
        let mut session = Session::new(&artifact, SessionOptions::on(device)).unwrap();
        session.run_tensors(std::slice::from_ref(input)).unwrap()[0].bits().to_vec()
    });
    assert_eq!(interp, cpu);
    interp
}

fn stored(tensors: &[Tensor]) -> TensorFile {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    write_tensors(&path, tensors).unwrap();
    TensorFile::from_bytes(Path::new("weights"), std::fs::read(&path).unwrap()).unwrap()
}

/// The codes of a row less their zero point, and the row's scale, by the definition of docs/layers.md in plain arithmetic.
fn steps(row: &[f32], given: Option<(f32, Option<i32>)>) -> (Vec<i32>, f32) {
    let (scale, zero_point) = given.unwrap_or_else(|| {
        let finite = row.iter().all(|x| x.is_finite());
        let most = row.iter().fold(0f32, |most, x| most.max(x.abs()));
        (if finite { (most / 127.0).max(f32::from_bits(1)) } else { f32::NAN }, None)
    });
    let (least, most) = zero_point.map_or((-127.0, 127.0), |zero| ((-128 - zero) as f32, (127 - zero) as f32));
    (row.iter().map(|x| (x / scale).round_ties_even().clamp(least, most) as i32).collect(), scale)
}

/// The codes of weights that share a scale, and the scale.
fn weight_codes(weights: &[f32], greatest: f64) -> (Vec<i32>, f32) {
    let most = weights.iter().fold(0f32, |most, w| most.max(w.abs()));
    let scale = if most == 0.0 { 1.0 } else { (f64::from(most) / greatest) as f32 };
    (weights.iter().map(|&w| (f64::from(w) / f64::from(scale)).round_ties_even() as i32).collect(), scale)
}

/// One result: of weights in groups of a size.
fn product(row: &[f32], given: Option<(f32, Option<i32>)>, weights: &[f32], greatest: f64, size: usize) -> f32 {
    let (codes, scale) = steps(row, given);
    scale * times(&codes, weights, greatest, size)
}

/// The sum of the groups' products, before the input's scale.
fn times(codes: &[i32], weights: &[f32], greatest: f64, size: usize) -> f32 {
    let mut parts = Vec::new();
    for (weights, codes) in weights.chunks(size).zip(codes.chunks(size)) {
        let (weights, scale) = weight_codes(weights, greatest);
        let total: i32 = weights.iter().zip(codes).map(|(&w, &x)| w * x).sum();
        parts.push(total as f32 * scale);
    }
    // One part is no sum; several are fewer than lanes.
    if parts.len() == 1 { parts[0] } else { fold(parts) }
}

fn bits(y: f32) -> u32 {
    if y.is_nan() { 0x7fc0_0000 } else { y.to_bits() }
}

/// LN1's sum of at most 32 terms: each its own lane, folded by halves.
fn fold(parts: Vec<f32>) -> f32 {
    let mut lanes: Vec<f32> = (0..32).map(|lane| parts.get(lane).map_or(0.0, |part| 0.0 + part)).collect();
    while lanes.len() > 1 {
        let upper = lanes.split_off(lanes.len() / 2);
        lanes.iter_mut().zip(upper).for_each(|(low, high)| *low += high);
    }
    lanes[0]
}

#[test]
fn a_dense_layer_is_its_definition() {
    let mut rows = vec![vec![0.0; INPUTS]; 6];
    rows[0] = (0..INPUTS).map(|index| (index as f32 * 1.7).cos() * 4.0).collect();
    rows[1][3] = f32::from_bits(190);
    rows[2][4] = f32::INFINITY;
    rows[3][5] = f32::NAN;
    rows[4] = (0..INPUTS).map(|index| if index % 2 == 0 { f32::MAX } else { -1.0 }).collect();
    let flat: Vec<f32> = rows.concat();
    let input = Tensor::from_f32("input", [6, INPUTS as u64].into(), &flat).unwrap();
    let weight = Tensor::from_f32("layers.0.weight", [OUTPUTS as u64, INPUTS as u64].into(), &weights()).unwrap();
    let file = stored(&[weight]);
    for (dtype, greatest) in [("int8", 127.0), ("int4", 7.0)] {
        // 10 inputs in groups of at most 4: three of 4, 4 and 2.
        for (group, size) in [("", INPUTS), (r#", "group_size": 4"#, 4)] {
            for (keys, given) in [
                ("", None),
                (r#", "input_scale": 0.03125"#, Some((0.03125, None))),
                (r#", "input_scale": 0.03125, "input_zero_point": 0"#, Some((0.03125, Some(0)))),
                (r#", "input_scale": 0.03125, "input_zero_point": -128"#, Some((0.03125, Some(-128)))),
                (r#", "input_scale": 0.03125, "input_zero_point": 127"#, Some((0.03125, Some(127)))),
                (r#", "input_scale": 0.0625, "input_zero_point": 17"#, Some((0.0625, Some(17)))),
            ] {
                let source = format!(
                    r#"{{"batch_size": 6, "input_shape": [{INPUTS}], "layers": [{{"type": "dense", "output_size": {OUTPUTS},
                        "bias": false, "activation": "linear", "dtype": "{dtype}"{group}{keys}}}]}}"#
                );
                let result = |row: &Vec<f32>| -> Vec<u32> {
                    weights().chunks(INPUTS).map(|w| bits(product(row, given, w, greatest, size))).collect()
                };
                let expected: Vec<u32> = rows.iter().flat_map(result).collect();
                assert_eq!(run(&source, &file, &input), expected, "{source}");
            }
        }
    }
}

/// Two groups of two channels, 3 x 3 taps, padding: the zero point is what padding is.
#[test]
fn a_convolution_is_its_definition() {
    const SIZE: usize = 5;
    let x: Vec<f32> = (0..4 * SIZE * SIZE).map(|index| ((index * index) as f32 * 0.37).sin() + 0.5).collect();
    let w: Vec<f32> = (0..4 * 2 * 9).map(|index| ((index * index) as f32 * 0.61).cos()).collect();
    let input = Tensor::from_f32("input", [1, 4, SIZE as u64, SIZE as u64].into(), &x).unwrap();
    let file = stored(&[Tensor::from_f32("layers.0.weight", [4, 2, 3, 3].into(), &w).unwrap()]);
    for (dtype, greatest) in [("int8", 127.0), ("int4", 7.0)] {
        // Of 18 weights, 9 to 17 make two groups.
        for (group, size) in
            [("", 18), (r#", "group_size": 9"#, 9), (r#", "group_size": 17"#, 9), (r#", "group_size": 18"#, 18)]
        {
            for (keys, given) in [
                ("", None),
                (r#", "input_scale": 0.015625"#, Some((0.015625, None))),
                (r#", "input_scale": 0.0078125, "input_zero_point": -64"#, Some((0.0078125, Some(-64)))),
                (r#", "input_scale": 0.015625, "input_zero_point": 90"#, Some((0.015625, Some(90)))),
            ] {
                let source = format!(
                    r#"{{"input_shape": [4, {SIZE}, {SIZE}], "layers": [{{"type": "conv2d", "filters": 4, "kernel_size": 3,
                        "padding": 1, "groups": 2, "bias": false, "activation": "linear", "dtype": "{dtype}"{group}{keys}}}]}}"#
                );
                let (codes, scale) = steps(&x, given);
                let mut expected = Vec::new();
                for (filter, weights) in w.chunks(18).enumerate() {
                    for (row, column) in (0..SIZE * SIZE).map(|position| (position / SIZE, position % SIZE)) {
                        let taken = |tap: usize| {
                            let (channel, tap) = (filter / 2 * 2 + tap / 9, tap % 9);
                            let (row, column) = ((row + tap / 3).wrapping_sub(1), (column + tap % 3).wrapping_sub(1));
                            let inside = row < SIZE && column < SIZE;
                            if inside { codes[(channel * SIZE + row) * SIZE + column] } else { 0 }
                        };
                        let taken: Vec<i32> = (0..18).map(taken).collect();
                        expected.push(bits(times(&taken, weights, greatest, size) * scale));
                    }
                }
                assert_eq!(run(&source, &file, &input), expected, "{source}");
            }
        }
    }
}

/// h' = relu(u + v), both of integers.
#[test]
fn a_recurrent_layer_is_its_definition() {
    let (times, hidden) = (3, 5);
    let numbers = |count: usize, factor: f32| -> Vec<f32> {
        (0..count).map(|index| ((index * index) as f32 * factor).sin()).collect()
    };
    let (x, ih, hh) = (numbers(2 * times * 4, 0.37), numbers(hidden * 4, 0.61), numbers(hidden * hidden, 0.23));
    let input = Tensor::from_f32("input", [2, 3, 4].into(), &x).unwrap();
    let weight = |role: &str, columns: u64, numbers: &[f32]| {
        Tensor::from_f32(format!("layers.0.{role}"), [hidden as u64, columns].into(), numbers).unwrap()
    };
    let file = stored(&[weight("weight_ih", 4, &ih), weight("weight_hh", 5, &hh)]);
    for (group, size) in [("", 5), (r#", "group_size": 2"#, 2)] {
        for (keys, given, inner) in [
            ("", None, None),
            (r#", "inner_scale": 0.03125"#, None, Some((0.03125, None))),
            (
                r#", "input_scale": 0.0078125, "input_zero_point": 5, "inner_scale": 0.015625, "inner_zero_point": -128"#,
                Some((0.0078125, Some(5))),
                Some((0.015625, Some(-128))),
            ),
        ] {
            let source = format!(
                r#"{{"batch_size": 2, "input_shape": [3, 4], "layers": [{{"type": "rnn", "hidden_size": 5, "biases": "none",
                    "activation": "relu", "dtype": "int8"{group}{keys}}}]}}"#
            );
            // Groups as even as can be: of 5 in groups of 2, of 4 in groups of 2.
            let expected = x.chunks(times * 4).flat_map(|sample| {
                let mut state = vec![0f32; hidden];
                let mut states = Vec::new();
                for step in sample.chunks(4) {
                    let next = ih.chunks(4).zip(hh.chunks(hidden)).map(|(ih, hh)| {
                        let u = product(step, given, ih, 127.0, size.min(4));
                        let v = product(&state, inner, hh, 127.0, size);
                        (u + v).max(0.0)
                    });
                    state = next.collect();
                    states.extend(state.iter().map(|&h| bits(h)));
                }
                states
            });
            let expected: Vec<u32> = expected.collect();
            assert_eq!(run(&source, &file, &input), expected, "{source}");
        }
    }
}

#[test]
fn a_files_codes_are_those_that_its_floats_become() {
    let file = TensorFile::open(&example("weights.safetensors")).unwrap();
    let conversion = |storage| Conversion {
        default: Some(storage),
        rules: Vec::new(),
        scaled: true,
        scheme: Scheme::Symmetric,
        granularity: Granularity::Channel,
    };
    let bytes = convert_in_memory(&StoredFile::of(&file).unwrap(), &conversion(Storage::I8)).unwrap();
    let codes = TensorFile::from_bytes(Path::new("codes"), bytes).unwrap();
    let input = read_tensor(&example("digits.safetensors"), "input").unwrap();
    let source = std::fs::read_to_string(example("net.json")).unwrap().replacen('{', r#"{"dtype": "int8", "#, 1);
    assert_eq!(run(&source, &file, &input), run(&source, &codes, &input));
}

#[test]
fn weights_without_codes_are_refused() {
    let mut numbers = weights();
    numbers[7] = f32::INFINITY;
    let weight = Tensor::from_f32("layers.0.weight", [OUTPUTS as u64, INPUTS as u64].into(), &numbers).unwrap();
    let source =
        r#"{"dtype": "int8", "input_shape": [10], "layers": [{"type": "dense", "output_size": 3, "bias": false}]}"#;
    let program = compile(&parse(source).unwrap(), &PipelineOptions::default()).unwrap();
    let error = Weights::from_tensors(&stored(&[weight]), &program).unwrap_err().to_string();
    assert!(error.ends_with("`layers.0.weight`: element 7 is inf: only finite numbers have codes"), "{error}");
}

/// The rows of the table of integers in the example's README.
#[test]
fn mnist_in_integers() {
    let readme = std::fs::read_to_string(example("README.md")).unwrap();
    let rows = readme.lines().filter(|line| line.starts_with("| integers `"));
    let input = read_tensor(&example("digits.safetensors"), "input").unwrap();
    let labels = TensorFile::open(&example("labels.safetensors")).unwrap().integers("labels").unwrap();
    let mut seen = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let [name, file, right, expected] = cells[..] else { panic!("{row}") };
        let name = name.trim_start_matches("integers `");
        let mut network = parse(&std::fs::read_to_string(example(file)).unwrap()).unwrap();
        if file == "net.json" {
            network.precision = Precision::from_name(name).unwrap();
        }
        let program = Arc::new(compile(&network, &PipelineOptions::default()).unwrap());
        let weights = Weights::from_file(&example("weights.safetensors"), &program).unwrap();
        let artifact = Artifact::new(program, weights, Target::Cpu, Vec::new());
        for device in [Device::Cpu, Device::Gpu] {
            let mut session = Session::new(&artifact, SessionOptions::on(device)).unwrap();
            let outputs = session.run_tensors(std::slice::from_ref(&input)).unwrap();
            assert_eq!(digest(&outputs), expected, "{name} of {file} on {device}");
            let scores = outputs[0].as_f32().unwrap().chunks_exact(10);
            let greatest =
                |row: &[f32]| (0..10).fold(0, |best, class| if row[class] > row[best] { class } else { best });
            let correct = scores.zip(&labels).filter(|(row, label)| greatest(row) as i64 == **label).count();
            assert_eq!(correct, right.parse::<usize>().unwrap(), "{name} of {file}");
            // Within half a point of the 496 of f32, in 8 bits.
            assert!(name != "int8" || correct >= 494, "{correct}");
        }
        seen.push((name.to_string(), file.to_string()));
    }
    let expected = [
        ("int8", "net.json"),
        ("int8", "net.int8.json"),
        ("int8", "net.fixed.json"),
        ("int8", "net.affine.json"),
        ("int4", "net.json"),
    ];
    assert_eq!(seen, expected.map(|(name, file)| (name.to_string(), file.to_string())));
}

/// Between the layers of a network that says the scales of its results are integers alone.
#[test]
fn integers_from_end_to_end() {
    let network = parse(&std::fs::read_to_string(example("net.fixed.json")).unwrap()).unwrap();
    let program = compile(&network, &PipelineOptions::default()).unwrap();
    let temporary = program.buffers.iter().filter(|buffer| buffer.kind == BufferKind::Temp);
    let floats: Vec<&str> =
        temporary.filter(|buffer| buffer.dtype == DType::F32).map(|buffer| buffer.name.as_str()).collect();
    let [logits] = floats[..] else { panic!("{floats:?}") };
    assert!(logits.starts_with("layers.6:contract"), "{logits}");
}

/// Codes that are taken as they are, and the same that are made anew of what they stand for.
#[test]
fn codes_that_arrive_are_those_of_their_values() {
    let file = |outputs: usize| {
        let numbers = (0..outputs * 6).map(|index| ((index * index) as f32 * 0.37).cos().to_bits()).collect();
        let shape = Shape::from([outputs as u64, 6]);
        let bias = (0..outputs).map(|index| (index as f32 * 0.2).to_bits()).collect();
        [("weight", shape, numbers), ("bias", Shape::from([outputs as u64]), bias)]
    };
    let named = |layer: usize, outputs: usize| {
        file(outputs)
            .map(|(role, shape, bits)| Tensor::new(format!("layers.{layer}.{role}"), DType::F32, shape, bits).unwrap())
    };
    // A product of an odd shape of numbers: ties, ends of the range, NaN and infinities among them.
    let mut bits: Vec<u32> = (0..5 * 6).map(|index| ((index as f32 - 13.0) * 0.05).to_bits()).collect();
    bits[..4].copy_from_slice(&[f32::NAN, f32::INFINITY, -1e30, -0.0].map(f32::to_bits));
    let input = Tensor::new("input", DType::F32, Shape::from([5, 6]), bits).unwrap();
    let zero_points = [None, Some(-128), Some(3), Some(0)];
    for (scale, zero_point) in ["0.1", "0.0371", "3e-5", "8192"].iter().flat_map(|s| zero_points.map(|z| (s, z))) {
        let zero = |value: &str| zero_point.map_or(String::new(), |zero| format!(r#", "{value}_zero_point": {zero}"#));
        let (input_zero, output_zero) = (zero("input"), zero("output"));
        let network = |between: &str| {
            format!(
                r#"{{"dtype": "int8", "batch_size": 5, "input_shape": [6], "input_scale": {scale}{input_zero}, "layers": [
                {{"type": "relu"}}, {between}
                {{"type": "dense", "output_size": 6, "output_scale": {scale}{output_zero}}}, {between}
                {{"type": "dense", "output_size": 3, "activation": "linear"}}]}}"#
            )
        };
        let taken = run(&network(""), &stored(&[named(1, 6), named(2, 3)].concat()), &input);
        // A shift by nothing hides where the values are from; their scale must then be said.
        let hidden = network(r#"{"type": "scale", "offset": 0.0, "factor": 1.0},"#);
        let hidden = hidden.replace(r#""dense","#, &format!(r#""dense", "input_scale": {scale}{input_zero},"#));
        let made = run(&hidden, &stored(&[named(2, 6), named(4, 3)].concat()), &input);
        assert_eq!(taken, made, "{scale} {zero_point:?}");
    }
}
