//! The table of number formats in `examples/mnist/README.md`: bytes, digits classified rightly, digests.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use loom_ir::numerics::formats::Storage;
use loom_ir::numerics::quantise::Scheme;
use loom_passes::{PipelineOptions, compile};
use loom_runtime::artifact::{Artifact, Target};
use loom_runtime::digest::digest;
use loom_runtime::session::{Device, Session, SessionOptions};
use loom_runtime::storage::{Conversion, Granularity, StoredFile, convert};
use loom_runtime::tensors::{TensorFile, read_tensor};
use loom_runtime::weights::Weights;

fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/mnist").join(file)
}

#[test]
fn mnist_in_every_format() {
    let network: String = std::fs::read_to_string(example("net.json")).unwrap();
    let program = compile(&loom_ir::config::parse(&network).unwrap(), &PipelineOptions::default()).unwrap();
    let program = Arc::new(program);
    let input = read_tensor(&example("digits.safetensors"), "input").unwrap();
    let labels = TensorFile::open(&example("labels.safetensors")).unwrap().integers("labels").unwrap();
    let original = TensorFile::open(&example("weights.safetensors")).unwrap();
    let folder = tempfile::tempdir().unwrap();

    let readme = std::fs::read_to_string(example("README.md")).unwrap();
    let rows = readme.lines().filter(|line| line.starts_with("| `") && line.contains("sha256:"));
    let mut seen = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let [name, options, bytes, right, expected] = cells[..] else { panic!("{row}") };
        let storage = Storage::from_name(name).unwrap();
        let granularity = match options.strip_prefix("--group-size ") {
            Some(size) => Granularity::Group(size.parse().unwrap()),
            None => Granularity::Channel,
        };
        let conversion = Conversion {
            default: Some(storage),
            rules: Vec::new(),
            scaled: true,
            scheme: Scheme::Symmetric,
            granularity,
        };
        let path = folder.path().join(name);
        let converted = convert(&StoredFile::of(&original).unwrap(), &path, &conversion, &mut |_, _| {}).unwrap();
        assert_eq!(converted.bytes_after, bytes.replace(',', "").parse::<u64>().unwrap(), "{name}");
        let weights = Weights::from_file(&path, &program).unwrap();
        let artifact = Artifact::new(Arc::clone(&program), weights, Target::Cpu, Vec::new());
        let mut session = Session::new(&artifact, SessionOptions::on(Device::Cpu)).unwrap();
        let outputs = session.run_tensors(std::slice::from_ref(&input)).unwrap();
        assert_eq!(digest(&outputs), expected, "{name}");
        let scores = outputs[0].as_f32().unwrap().chunks_exact(10);
        let greatest = |row: &[f32]| (0..10).fold(0, |best, class| if row[class] > row[best] { class } else { best });
        let correct = scores.zip(&labels).filter(|(row, label)| greatest(row) as i64 == **label).count();
        assert_eq!(correct, right.parse::<usize>().unwrap(), "{name}");
        seen.push(storage);
    }
    let all: Vec<Storage> = Storage::ALL.into_iter().filter(|&storage| storage != Storage::F64).collect();
    assert_eq!(seen, all, "every format has its row");
}
