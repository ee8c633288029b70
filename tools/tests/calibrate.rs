//! `loomc calibrate`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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
