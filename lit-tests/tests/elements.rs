//! Single elements of kernels, as the interpreter gives them, are those of its whole runs.

use loom_ir::eval::program::{Memory, element, for_each_index, run_step};
use loom_ir::kernel::Step;
use loom_lit_tests::network::random_network;
use loom_lit_tests::values::Random;
use loom_passes::{PipelineOptions, compile};

#[test]
fn every_element_is_that_of_the_whole_run() {
    let mut kinds = std::collections::BTreeSet::new();
    let mut loops = 0;
    for seed in 0..30 {
        let source = random_network(seed, 4, 2);
        let network = loom_ir::config::parse(&source).unwrap_or_else(|errors| panic!("{errors}\n{source}"));
        let program = compile(&network, &PipelineOptions::default()).unwrap();
        let mut memory = Memory::new(&program);
        let mut random = Random(seed);
        for (buffer, bits) in program.buffers.iter().zip(&mut memory.buffers) {
            if buffer.kind.is_input() || buffer.kind.is_weight() {
                *bits = random.floats(bits.len(), 9);
            }
        }
        let mut run = 0..0;
        let mut steps = program.steps();
        for (number, kernel) in program.kernels.iter().enumerate() {
            // All of a loop at once: its kernels take turns.
            if !run.contains(&number) {
                let step = steps.next().unwrap();
                run_step(&program, &step, &mut memory);
                loops += usize::from(matches!(step, Step::Loop { .. }));
                run = step.kernels();
            }
            let written = &memory.buffers[kernel.output.buffer.index()];
            let mut left: Vec<bool> = vec![true; written.len()];
            for_each_index(&kernel.axes[..kernel.output_axes()], |index| {
                // After a loop, what is kept from one turn to the next alone is that of the last turn.
                if kernel.in_loop.is_some() && index[0] + 1 < kernel.axes[0] {
                    return;
                }
                let (place, bits) = element(&program, kernel, &memory, index);
                assert_eq!(bits, written[place as usize], "kernel {} at {index:?}\n{source}", kernel.name);
                left[place as usize] = false;
            });
            assert!(kernel.in_loop.is_some() || !left.contains(&true), "kernel {}\n{source}", kernel.name);
            kinds.insert(kernel.body.name());
        }
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["attend", "contract", "gather", "map", "reduce"]);
    assert!(loops > 0);
}
