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

/// The definition of docs/layers.md in plain arithmetic, of a weight in groups of a size.
fn expected(row: &[f32], given: Option<f32>, greatest: f64, size: usize) -> Vec<u32> {
    let scale = given.unwrap_or_else(|| {
        let finite = row.iter().all(|x| x.is_finite());
        let most = row.iter().fold(0f32, |most, x| most.max(x.abs()));
        if finite { (most / 127.0).max(f32::from_bits(1)) } else { f32::NAN }
    });
    let codes: Vec<i32> = row.iter().map(|x| (x / scale).round_ties_even().clamp(-127.0, 127.0) as i32).collect();
    let result = |weights: &[f32]| {
        let mut parts = Vec::new();
        for (weights, codes) in weights.chunks(size).zip(codes.chunks(size)) {
            let most = weights.iter().fold(0f32, |most, w| most.max(w.abs()));
            let scale = (f64::from(most) / greatest) as f32;
            let code = |w: f32| (f64::from(w) / f64::from(scale)).round_ties_even() as i32;
            let total: i32 = weights.iter().zip(codes).map(|(&w, &x)| code(w) * x).sum();
            parts.push(total as f32 * scale);
        }
        // One part is no sum; several are fewer than lanes.
        let sum = if parts.len() == 1 { parts[0] } else { fold(parts) };
        let y = sum * scale;
        if y.is_nan() { 0x7fc0_0000 } else { y.to_bits() }
    };
    weights().chunks(INPUTS).map(result).collect()
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
            for (scale, given) in [("", None), (r#", "input_scale": 0.03125"#, Some(0.03125))] {
                let source = format!(
                    r#"{{"batch_size": 6, "input_shape": [{INPUTS}], "layers": [{{"type": "dense", "output_size": {OUTPUTS},
                        "bias": false, "activation": "linear", "dtype": "{dtype}"{group}{scale}}}]}}"#
                );
                let expected: Vec<u32> = rows.iter().flat_map(|row| expected(row, given, greatest, size)).collect();
                assert_eq!(run(&source, &file, &input), expected, "{source}");
            }
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
    let expected = [("int8", "net.json"), ("int8", "net.int8.json"), ("int8", "net.fixed.json"), ("int4", "net.json")];
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
    for scale in ["0.1", "0.0371", "3e-5", "8192"] {
        let network = |between: &str| {
            format!(
                r#"{{"dtype": "int8", "batch_size": 5, "input_shape": [6], "input_scale": {scale}, "layers": [
                {{"type": "relu"}}, {between}
                {{"type": "dense", "output_size": 6, "output_scale": {scale}}}, {between}
                {{"type": "dense", "output_size": 3, "activation": "linear"}}]}}"#
            )
        };
        let taken = run(&network(""), &stored(&[named(1, 6), named(2, 3)].concat()), &input);
        // A shift by nothing hides where the values are from; their scale must then be said.
        let hidden = network(r#"{"type": "scale", "offset": 0.0, "factor": 1.0},"#);
        let hidden = hidden.replace(r#""dense","#, &format!(r#""dense", "input_scale": {scale},"#));
        let made = run(&hidden, &stored(&[named(2, 6), named(4, 3)].concat()), &input);
        assert_eq!(taken, made, "{scale}");
    }
}
