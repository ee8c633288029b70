//! `docs/layers.md`: every config in it runs, and every layer, key and variant of the format is in it.

use std::path::Path;
use std::sync::Arc;

use loom_ir::config::{ACTIVATIONS, LAYER_TYPES};
use loom_passes::{PipelineOptions, compile};
use loom_runtime::artifact::{Artifact, Target};
use loom_runtime::session::{Device, Session, SessionOptions};
use loom_runtime::weights::{Weights, draw_inputs};

fn page() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/layers.md")).unwrap()
}

#[test]
fn every_config_runs() {
    let page = page();
    let blocks: Vec<&str> = page.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 19, "{} configs", blocks.len());
    for source in blocks {
        let network = loom_ir::config::parse(source).unwrap_or_else(|errors| panic!("{errors}\n{source}"));
        let program = compile(&network, &PipelineOptions::default()).unwrap_or_else(|e| panic!("{e}\n{source}"));
        let program = Arc::new(program);
        let weights = Weights::initialise(&program, network.seed).unwrap();
        let artifact = Artifact::new(Arc::clone(&program), weights, Target::Cpu, Vec::new());
        let inputs = draw_inputs(&program, 1).unwrap();
        let mut session = Session::new(&artifact, SessionOptions::on(Device::Interp)).unwrap();
        let outputs = session.run_tensors(&inputs).unwrap_or_else(|error| panic!("{error}\n{source}"));
        let finite = outputs[0].as_f32().unwrap().iter().all(|value| value.is_finite());
        assert!(finite, "{source}");
    }
}

#[test]
fn every_layer_and_key_is_described() {
    let page = page();
    let sections: Vec<&str> = page.split("\n## ").collect();
    for row in LAYER_TYPES {
        let named = |section: &&&str| {
            let heading = section.lines().next().unwrap_or_default();
            heading.split(", ").any(|name| name == row.name)
        };
        // An activation as a layer stands with the activations.
        let Some(section) = sections
            .iter()
            .find(named)
            .copied()
            .or_else(|| (row.name == "activation").then(|| sections[sections.len() - 1]))
        else {
            panic!("no section about `{}`", row.name)
        };
        for key in row.keys {
            // The spellings of sizes are told once, in words, for dense layers.
            let elsewhere = row.name == "stitch";
            assert!(
                section.contains(key.name) || elsewhere,
                "`{}` is not in the section about `{}`",
                key.name,
                row.name
            );
        }
    }
    for row in ACTIVATIONS {
        assert!(page.contains(&format!("| `{}`", row.name)), "{}", row.name);
    }
}
