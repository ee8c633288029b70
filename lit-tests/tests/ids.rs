//! Ids of embeddings: which inputs hold them is read off the program, and wrong ones are named before anything runs.

use std::sync::Arc;

use loom_ir::kernel::ids::rows_named;
use loom_ir::types::Shape;
use loom_passes::{PipelineOptions, compile};
use loom_runtime::artifact::{Artifact, Target};
use loom_runtime::session::{Device, RunError, Session, SessionOptions};
use loom_runtime::tensors::Tensor;
use loom_runtime::weights::{Weights, draw_inputs};

const EMBEDDING: &str = r#"{"type": "embedding", "vocab_size": 7, "embedding_dim": 3}"#;

fn artifact(layers: &str, skip: &[&str]) -> Artifact {
    let source = format!(r#"{{"batch_size": 2, "input_shape": [2, 2], "layers": [{layers}]}}"#);
    let network = loom_ir::config::parse(&source).unwrap_or_else(|errors| panic!("{errors}"));
    let skip = skip.iter().map(ToString::to_string).collect();
    let program = Arc::new(compile(&network, &PipelineOptions { stop_after: None, skip }).unwrap());
    let weights = Weights::initialise(&program, 1).unwrap();
    Artifact::new(program, weights, Target::Cpu, Vec::new())
}

fn rows(layers: &str, skip: &[&str]) -> Vec<u64> {
    rows_named(artifact(layers, skip).program()).into_values().collect()
}

#[test]
fn programs_tell_which_inputs_hold_ids() {
    let small = r#"{"type": "embedding", "vocab_size": 5, "embedding_dim": 1}"#;
    let behind = format!(r#"{{"type": "flatten"}}, {{"type": "dropout"}}, {EMBEDDING}"#);
    let two = format!(r#"{{"type": "parallel", "branches": [{EMBEDDING}, {small}], "axis": 2}}"#);
    for skip in [&[][..], &["fuse"], &["fuse", "collapse", "simplify", "fold", "cse", "dce"]] {
        assert_eq!(rows(EMBEDDING, skip), [7], "{skip:?}");
        assert_eq!(rows(&behind, skip), [7], "{skip:?}");
        assert_eq!(rows(&two, skip), [5], "the smallest table, {skip:?}");
        assert_eq!(rows(r#"{"type": "relu"}"#, skip), [0; 0], "{skip:?}");
    }
}

#[test]
fn the_first_wrong_id_is_named() {
    let artifact = artifact(EMBEDDING, &[]);
    let tensor = |ids: &[f32]| Tensor::from_f32("input", Shape::from([ids.len() as u64 / 4, 2, 2]), ids).unwrap();
    for device in Device::ALL {
        let mut session = Session::new(&artifact, SessionOptions::on(device)).unwrap();
        assert!(session.run_tensors(&[tensor(&[0.0, 6.0, -0.0, 1.0])]).is_ok());
        for (wrong, found) in
            [(7.0, "7"), (-1.0, "-1"), (2.5, "2.5"), (f32::NAN, "NaN"), (f32::INFINITY, "inf"), (1e10, "10000000000")]
        {
            let ids = [vec![1.0; 9], vec![wrong, 99.0, 1.0]].concat();
            let error = session.run_tensors(&[tensor(&ids)]).unwrap_err();
            let message = format!(
                "input `input`: element 9 is {found}, which is no row of a table of 7: ids are whole numbers from 0 to 6"
            );
            assert_eq!(error.to_string(), message);
            let bits: Vec<u32> = ids[4..].iter().map(|id| id.to_bits()).collect();
            let mut output = vec![0; 2 * 2 * 2 * 3];
            let error = session.run_into(&[&bits], &mut [&mut output]).unwrap_err();
            assert!(matches!(error, RunError::NotAnId { index: 5, rows: 7, .. }), "{error}");
        }
    }
}

#[test]
fn drawn_ids_are_rows() {
    let artifact = artifact(EMBEDDING, &[]);
    let inputs = draw_inputs(artifact.program(), 3).unwrap();
    let ids = inputs[0].as_f32().unwrap();
    assert!(ids.iter().all(|id| id.fract() == 0.0 && (0.0..7.0).contains(id)), "{ids:?}");
    let mut session = Session::new(&artifact, SessionOptions::on(Device::Interp)).unwrap();
    assert!(session.run_tensors(&inputs).is_ok());
}

#[test]
fn an_embedding_reads_the_networks_input() {
    let source = format!(r#"{{"input_shape": [2], "layers": [{{"type": "relu"}}, {EMBEDDING}]}}"#);
    let network = loom_ir::config::parse(&source).unwrap();
    let error = compile(&network, &PipelineOptions::default()).unwrap_err();
    let message = "layers.1: an embedding's ids are the network's input, but these are made by layers.0";
    assert_eq!(error.to_string(), message);
}
