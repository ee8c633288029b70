//! `loomc calibrate`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use loom_ir::types::{DType, Shape};
use loom_runtime::tensors::{Tensor, write_tensors};

fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/mnist").join(file)
}

fn calibrate(network: &Path, input: &Path, output: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loomc"));
    command.arg("calibrate").arg(network).arg("--weights").arg(example("weights.safetensors"));
    command.arg("--input").arg(input).arg("-o").arg(output).args(more).output().unwrap()
}

#[test]
fn the_examples_scales_are_measured() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("net.json");
    let digits = example("digits.safetensors");
    let done = calibrate(&example("net.json"), &digits, &output, &["--threads", "2"]);
    assert!(done.status.success(), "{done:?}");
    let expected = std::fs::read_to_string(example("net.int8.json")).unwrap();
    assert_eq!(std::fs::read_to_string(&output).unwrap(), expected);

    // With zero points, which a config that has them keeps.
    let (affine, twice) = (folder.path().join("affine.json"), folder.path().join("twice.json"));
    assert!(calibrate(&example("net.json"), &digits, &affine, &["--affine"]).status.success());
    let expected_affine = std::fs::read_to_string(example("net.affine.json")).unwrap();
    assert_eq!(std::fs::read_to_string(&affine).unwrap(), expected_affine);
    assert!(calibrate(&affine, &digits, &twice, &[]).status.success());
    assert_eq!(std::fs::read_to_string(&twice).unwrap(), expected_affine);
    let percentile = ["--method", "percentile", "--percentile", "90"];
    assert!(calibrate(&affine, &digits, &twice, &percentile).status.success());
    assert_ne!(std::fs::read_to_string(&twice).unwrap(), expected_affine);

    // A config that has scales gets others in their places.
    let again = folder.path().join("again.json");
    let percentile = ["--method", "percentile", "--percentile", "99"];
    assert!(calibrate(&output, &digits, &again, &percentile).status.success());
    let text = std::fs::read_to_string(&again).unwrap();
    assert_eq!(text.matches("input_scale").count(), 4);
    assert_eq!(text.matches("\"dtype\": \"int8\"").count(), 4);
    let scales = |text: &str| -> Vec<f32> {
        let values = text.split("\"input_scale\": ").skip(1);
        values.map(|rest| rest.split(',').next().unwrap().parse().unwrap()).collect()
    };
    assert!(scales(&text).iter().zip(scales(&expected)).all(|(less, all)| *less <= all), "{text}");
    assert_ne!(scales(&text), scales(&expected));
}

fn example_of(network: &str, file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(network).join(file)
}

/// The report of a network whose weights are drawn.
fn measured(config: &str, input: &[f32], shape: &[u64]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let [network, samples, output] = ["net.json", "x.safetensors", "out.json"].map(|name| folder.path().join(name));
    std::fs::write(&network, config).unwrap();
    let bits = input.iter().map(|value| value.to_bits()).collect();
    let tensor = Tensor::new("input", DType::F32, Shape::new(shape.to_vec()), bits).unwrap();
    write_tensors(&samples, &[tensor]).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_loomc"));
    let done =
        command.arg("calibrate").arg(network).arg("--input").arg(samples).arg("-o").arg(output).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).unwrap()
}

/// A layer takes what an earlier one leaves of a value, not the whole of it.
#[test]
fn what_is_cut_away_is_not_measured() {
    let report = measured(
        r#"{"input_shape": [8], "layers": [{"type": "slice", "axis": 0, "start": 0, "end": 4}, {"type": "dense", "output_size": 4}]}"#,
        &[0.5, 0.25, -0.5, 0.1, 1000.0, 2000.0, f32::NAN, 1.0],
        &[1, 8],
    );
    assert!(report.contains("(greatest 0.5)"), "{report}");
}

/// Inside of recurrent layers steps come first; samples are counted all the same.
#[test]
fn any_number_of_samples_is_measured_behind_recurrent_layers() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_loomc"));
    command.arg("calibrate").arg(example_of("columns", "net.json"));
    command.arg("--weights").arg(example_of("columns", "weights.safetensors"));
    command.arg("--input").arg(example_of("digits", "digits.safetensors"));
    let done = command.arg("-o").arg(folder.path().join("out.json")).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stdout).starts_with("297 samples"), "{done:?}");

    // One sample, of as many steps as there are samples in a batch; its last step alone has numbers.
    let config = r#"{"seed": 3, "batch_size": 5, "input_shape": [5, 8], "layers": [
        {"type": "lstm", "hidden_size": 4}, {"type": "dense", "output_size": 2}]}"#;
    let mut sample = vec![0.0; 40];
    sample[32..].fill(0.7);
    let one = measured(config, &sample, &[1, 5, 8]);
    let five = measured(config, &sample.repeat(5), &[5, 5, 8]);
    let scale = |report: &str| report.split("layers.1.input_scale ").nth(1).map(str::to_string);
    assert!(scale(&one).is_some_and(|scale| !scale.contains("greatest 0)")), "{one}");
    assert_eq!(scale(&one), scale(&five));
    // The state is what the steps before have left: of one step there is none.
    let state = |report: &str| report.contains("layers.0.inner_scale 1 (greatest 0)");
    assert!(state(&one) && !state(&measured(config, &[0.7; 40], &[1, 5, 8])), "{one}");
}

#[test]
fn what_can_not_be_measured_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.json");
    let digits = example("digits.safetensors");
    let fails = |network: &Path, input: &Path, output: &Path, more: &[&str], expected: &str| {
        let done = calibrate(network, input, output, more);
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.code() == Some(2) && told.contains(expected), "{told}");
    };
    let network = folder.path().join("relu.json");
    std::fs::write(&network, r#"{"input_shape": [1, 28, 28], "layers": [{"type": "relu"}]}"#).unwrap();
    fails(&network, &digits, &output, &[], "no layer multiplies its input with weights");
    fails(&example("net.json"), &example("weights.safetensors"), &output, &[], "input");
    fails(&example("net.json"), &digits, &digits, &[], "the output would replace a file that it is made from");
    let method = ["--method", "percentile", "--percentile", "0"];
    fails(&example("net.json"), &digits, &output, &method, "is not more than 0 and at most 100");
    assert!(!output.exists());
}
