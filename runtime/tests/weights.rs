//! Weights from files and from seeds.

mod common;

use common::{program, tensor, weights_file};
use loom_ir::types::{DType, Shape};
use loom_runtime::executor::WeightBits;
use loom_runtime::tensors::Tensor;
use loom_runtime::weights::{Weights, WeightsError, draw_inputs};

#[test]
fn weights_come_mapped_in_the_programs_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = weights_file(
        folder.path(),
        &[
            tensor("layers.0.bias", [2], &[7.0, 8.0]),
            tensor("layers.0.weight", [2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        ],
    );
    let weights = Weights::from_file(&path, &program()).unwrap();
    assert_eq!(weights.bits(0)[1], 2.0f32.to_bits());
    assert_eq!(weights.bits(1), [7.0f32.to_bits(), 8.0f32.to_bits()]);
    assert!(weights.bits(2).is_empty());
    assert!(weights.tensors().iter().all(Tensor::is_mapped));
    assert_eq!(weights.parameters(), 8);
}

#[test]
fn everything_wrong_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let doubles = Tensor::new("layers.0.bias", DType::I32, Shape::from([3]), vec![1, 2, 3]).unwrap();
    let path = weights_file(
        folder.path(),
        &[tensor("layer.0.weight", [2, 3], &[0.0; 6]), doubles, tensor("step", [], &[1.0])],
    );
    let error = Weights::from_file(&path, &program()).unwrap_err();
    let text = error.to_string().replace(&path.display().to_string(), "FILE");
    assert_eq!(
        text,
        "FILE: these are not the network's weights:
  `layers.0.weight` f32 [2, 3] is missing (is it `layer.0.weight`?)
  `layers.0.bias` has shape [3], the network needs [2]
  `layers.0.bias` is i32, the network needs f32
  `layer.0.weight` is not a weight of the network (did you mean `layers.0.weight`?)
  `step` is not a weight of the network"
    );
    assert!(matches!(error, WeightsError::Mismatch { problems, .. } if problems.len() == 5));
}

#[test]
fn seeds_give_bits() {
    let program = program();
    let weights = Weights::initialise(&program, 7).unwrap();
    let again = Weights::initialise(&program, 7).unwrap();
    assert_eq!(weights.tensors(), again.tensors());
    assert_ne!(weights.bits(0), Weights::initialise(&program, 8).unwrap().bits(0));
    let limit = (6.0f64 / 5.0).sqrt() as f32;
    let values = weights.tensors()[0].as_f32().unwrap();
    assert!(values.iter().all(|value| (-limit..limit).contains(value)));
    assert_eq!(weights.bits(1), [0, 0]);
    let inputs = draw_inputs(&program, 7).unwrap();
    assert_eq!(inputs[0].shape().dims(), [4, 3]);
    assert!(inputs[0].as_f32().unwrap().iter().all(|value| (-1.0..1.0).contains(value)));
}

/// Codes of a layer of integers are made of floats, or of what is quantised; a scale beside floats belongs to nothing.
#[test]
fn codes_need_floats_without_scales() {
    let source = r#"{"dtype": "int8", "input_shape": [3], "layers": [{"type": "dense", "output_size": 2}]}"#;
    let network = loom_ir::config::parse(source).unwrap();
    let program = loom_passes::compile(&network, &loom_passes::PipelineOptions::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bias = || tensor("layers.0.bias", [2], &[7.0, 8.0]);
    let weight = || tensor("layers.0.weight", [2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let told = |tensors: &[Tensor]| {
        let path = weights_file(folder.path(), tensors);
        let error = Weights::from_file(&path, &program).unwrap_err().to_string();
        error.replace(&path.display().to_string(), "FILE")
    };
    let path = weights_file(folder.path(), &[bias(), weight()]);
    assert!(Weights::from_file(&path, &program).is_ok());
    assert_eq!(
        told(&[bias(), weight(), tensor("layers.0.weight.scale", [2], &[1.0, 2.0])]),
        "FILE: these are not the network's weights:
  `layers.0.weight.scale` is not a weight of the network"
    );
    let flags = Tensor::new("layers.0.weight", DType::Bool, Shape::from([2, 3]), vec![1; 6]).unwrap();
    assert_eq!(
        told(&[bias(), flags]),
        "FILE: these are not the network's weights:
  `layers.0.weight` is bool, the network needs f32"
    );
}
