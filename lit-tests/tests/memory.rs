//! The plan of memory is near to the least that there can be: for all examples, random networks and random graphs.

use std::path::Path;

use loom_ir::kernel::memory::{ARENA_ALIGNMENT, largest_live_set, live_ranges};
use loom_ir::kernel::{BufferKind, Program};
use loom_lit_tests::network::random_network;
use loom_passes::{PipelineOptions, compile, compile_graph};
use loom_testing::case::Case;

fn program(source: &str) -> Program {
    let network = loom_ir::config::parse(source).unwrap_or_else(|errors| panic!("{errors}\n{source}"));
    compile(&network, &PipelineOptions::default()).unwrap_or_else(|error| panic!("{error}\n{source}")).into_inner()
}

/// The arena is no smaller than the largest set of buffers that are alive together, and at most 1.2 times as large.
#[track_caller]
fn check(name: &str, program: &Program) {
    let (arena, least) = (program.plan.as_ref().unwrap().arena_bytes, largest_live_set(program));
    let ranges = live_ranges(program);
    let alive = |kernel: usize| {
        let buffers = program.buffers.iter().zip(&ranges).filter(|(buffer, _)| buffer.kind == BufferKind::Temp);
        let alive = buffers.filter(|(_, range)| range.is_some_and(|(first, last)| (first..=last).contains(&kernel)));
        alive.map(|(buffer, _)| buffer.bytes().next_multiple_of(ARENA_ALIGNMENT)).sum::<u64>()
    };
    assert_eq!(least, (0..program.kernels.len()).map(alive).max().unwrap_or(0), "{name}");
    assert!(least <= arena && arena * 5 <= least * 6, "{name}: an arena of {arena} bytes for {least}\n{program}");
}

#[test]
fn of_examples() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path().join("net.json");
        if let Ok(source) = std::fs::read_to_string(&path) {
            check(&path.display().to_string(), &program(&source));
            count += 1;
        }
    }
    assert!(count >= 8, "{count} examples");
}

#[test]
fn of_random_networks() {
    for seed in 0..400 {
        let source = random_network(seed, if seed % 4 == 0 { 40 } else { 12 }, if seed % 3 == 0 { 64 } else { 2 });
        check(&source, &program(&source));
    }
}

#[test]
fn of_random_graphs() {
    for seed in 0..300 {
        let program = compile_graph(Case::from_seed(seed).graph, &PipelineOptions::default()).unwrap();
        check(&format!("graph {seed}"), &program);
    }
}
