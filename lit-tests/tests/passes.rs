//! What a pass may not change: the bits.

use loom_ir::eval::program::{self, Memory};
use loom_ir::kernel::Verified;
use loom_lit_tests::network::random_network;
use loom_lit_tests::values::Random;
use loom_passes::{PipelineOptions, compile};

/// The output bits of a program, with inputs and weights that follow from their names.
fn run(program: &Verified, seed: u64, special: u64) -> Vec<u32> {
    let mut memory = Memory::new(program);
    for (id, buffer) in program.buffers_where(|kind| kind.is_input() || kind.is_weight()) {
        let name = buffer.name.bytes().fold(seed, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
        memory.buffers[id.index()] = Random(name).floats(buffer.shape.elements() as usize, special);
    }
    program::run(program, &mut memory);
    let (output, _) = program.outputs().next().unwrap();
    memory.buffers[output.index()].clone()
}

fn compiled(source: &str, skip: &[&str]) -> Verified {
    let network = loom_ir::config::parse(source).unwrap_or_else(|errors| panic!("{errors}\n{source}"));
    let options = PipelineOptions { skip: skip.iter().map(ToString::to_string).collect(), ..Default::default() };
    compile(&network, &options).unwrap_or_else(|error| panic!("{error}\n{source}"))
}

fn check(seed: u64, special: u64) {
    let source = random_network(seed, 8, 2);
    let all = compiled(&source, &[]);
    let expected = run(&all, seed, special);
    for skip in [&["fuse"][..], &["collapse"], &["fuse", "collapse"], &["simplify", "fold", "cse", "dce"]] {
        let other = compiled(&source, skip);
        assert_eq!(run(&other, seed, special), expected, "without {skip:?}:\n{source}\n{}", *all);
    }
}

#[test]
fn no_pass_changes_a_bit() {
    let count = std::env::var("LOOM_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(300);
    for seed in 0..count {
        check(seed, 0);
        check(seed, 6);
    }
}

#[test]
fn a_row_of_a_batch_is_that_row_alone() {
    for seed in 0..60 {
        let batch = run_rows(&random_network(seed, 6, 3), seed);
        let alone = run_rows(&random_network(seed, 6, 1), seed);
        let row = alone.len();
        assert_eq!(batch[..row], alone[..], "seed {seed}");
    }
}

fn run_rows(source: &str, seed: u64) -> Vec<u32> {
    run(&compiled(source, &[]), seed, 6)
}
