//! Single elements of kernels, as the interpreter gives them, are those of its whole runs.

use loom_ir::eval::program::{Memory, element, for_each_index, run_kernel};
use loom_ir::kernel::BufferKind;
use loom_lit_tests::network::random_network;
use loom_lit_tests::values::Random;
use loom_passes::{PipelineOptions, compile};

#[test]
fn every_element_is_that_of_the_whole_run() {
    let mut kinds = std::collections::BTreeSet::new();
    for seed in 0..30 {
        let source = random_network(seed, 4, 2);
        let network = loom_ir::config::parse(&source).unwrap_or_else(|errors| panic!("{errors}\n{source}"));
        let program = compile(&network, &PipelineOptions::default()).unwrap();
        let mut memory = Memory::new(&program);
        let mut random = Random(seed);
        for (buffer, bits) in program.buffers.iter().zip(&mut memory.buffers) {
            if matches!(buffer.kind, BufferKind::Input | BufferKind::Weight) {
                *bits = random.floats(bits.len(), 9);
            }
        }
        for kernel in &program.kernels {
            run_kernel(&program, kernel, &mut memory);
            let written = &memory.buffers[kernel.output.buffer.index()];
            let mut left: Vec<bool> = vec![true; written.len()];
            for_each_index(&kernel.axes[..kernel.output_axes()], |index| {
                let (place, bits) = element(&program, kernel, &memory, index);
                assert_eq!(bits, written[place as usize], "kernel {} at {index:?}\n{source}", kernel.name);
                left[place as usize] = false;
            });
            assert!(!left.contains(&true), "kernel {}\n{source}", kernel.name);
            kinds.insert(kernel.body.name());
        }
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["contract", "gather", "map", "reduce"]);
}
