//! Number formats of layers: a network of a format is its layers one by one, weights and results rounded between them.

use std::sync::Arc;

use loom_ir::config::Precision;
use loom_ir::numerics::formats::{Number, Storage};
use loom_passes::{PipelineOptions, compile};
use loom_runtime::artifact::{Artifact, Target};
use loom_runtime::session::{Device, Session, SessionOptions};
use loom_runtime::tensors::Tensor;
use loom_runtime::weights::Weights;

/// Layers by themselves, with the shapes of their inputs.
const LAYERS: [(&str, &[u64]); 6] = [
    (r#"{"type": "conv1d", "filters": 4, "kernel_size": 3, "padding": 1, "activation": "gelu""#, &[2, 10]),
    (r#"{"type": "layer_norm""#, &[4, 10]),
    (r#"{"type": "multi_head_attention", "num_heads": 5"#, &[4, 10]),
    (r#"{"type": "lstm", "hidden_size": 6"#, &[4, 10]),
    (r#"{"type": "swiglu", "intermediate_size": 7"#, &[4, 6]),
    (r#"{"type": "softmax""#, &[4, 6]),
];

fn rounded(precision: Precision, bits: &[u32]) -> Vec<u32> {
    let storage = precision.storage();
    let round = |&bits: &u32| {
        let Number::Float(value) = storage.widen(storage.narrow(Storage::F32.widen(bits.into()))) else { panic!() };
        Storage::F32.narrow(Number::Float(value)) as u32
    };
    bits.iter().map(round).collect()
}

fn artifact(source: &str) -> Artifact {
    let network = loom_ir::config::parse(source).unwrap_or_else(|errors| panic!("{errors}\n{source}"));
    let program = compile(&network, &PipelineOptions::default()).unwrap_or_else(|error| panic!("{error}\n{source}"));
    let weights = Weights::initialise(&program, 7).unwrap();
    Artifact::new(Arc::new(program), weights, Target::Cpu, Vec::new())
}

fn run(artifact: &Artifact, device: Device, input: &Tensor) -> Tensor {
    let options = SessionOptions { threads: Some(1), ..SessionOptions::on(device) };
    Session::new(artifact, options).unwrap().run_tensors(std::slice::from_ref(input)).unwrap().remove(0)
}

#[test]
fn a_network_is_its_layers_with_roundings_between() {
    for precision in Precision::ALL.into_iter().filter(|precision| precision.codes().is_none()) {
        let layers: Vec<String> = LAYERS.iter().map(|(layer, _)| format!("{layer}}}")).collect();
        let whole = format!(
            r#"{{"dtype": "{}", "batch_size": 2, "input_shape": [2, 10], "layers": [{}]}}"#,
            precision.name(),
            layers.join(", ")
        );
        let whole = artifact(&whole);
        let values: Vec<f32> = (0..40).map(|index| ((index * index) as f32 * 0.37).sin() * 3.0).collect();
        let input = Tensor::from_f32("input", [2, 2, 10].into(), &values).unwrap();

        let mut value = input.clone();
        for (number, (layer, shape)) in LAYERS.into_iter().enumerate() {
            let alone = artifact(&format!(r#"{{"batch_size": 2, "input_shape": {shape:?}, "layers": [{layer}}}]}}"#));
            // Its weights are those of the whole network, rounded.
            let weights = alone.program().weights().map(|(_, buffer)| {
                let name = buffer.name.replace("layers.0.", &format!("layers.{number}."));
                let tensor = whole.weights().tensors().iter().find(|tensor| tensor.name() == name).unwrap();
                Tensor::new(&buffer.name, buffer.dtype, buffer.shape.clone(), rounded(precision, tensor.bits()))
                    .unwrap()
            });
            let weights = Weights::of_program(weights.collect(), alone.program()).unwrap();
            let alone = Artifact::new(Arc::clone(alone.program()), weights, Target::Cpu, Vec::new());
            let output = run(&alone, Device::Interp, &value.clone().named("input"));
            let bits = rounded(precision, output.bits());
            value = Tensor::new("output", output.dtype(), output.shape().clone(), bits).unwrap();
        }
        for device in [Device::Interp, Device::Cpu] {
            assert_eq!(run(&whole, device, &input).bits(), value.bits(), "{} on {device}", precision.name());
        }
        if precision != Precision::F32 {
            assert!(value.bits().iter().all(|bits| rounded(precision, &[*bits]) == [*bits]), "numbers of the format");
        }
    }
}
