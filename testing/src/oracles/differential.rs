//! Random graphs on interpreter and CPU.

use std::sync::Arc;

use loom_ir::kernel::{BufferKind, Verified};
use loom_passes::{PipelineOptions, compile_graph};

use super::run::{Given, compiled, interpreted};
use crate::case::{Case, Tensors};
use crate::choices::Choices;
use crate::graphs::Size;
use crate::shrink::shrink;

/// What a program must not be changed by.
const OPTIONAL: [&str; 6] = ["simplify", "fold", "cse", "dce", "fuse", "collapse"];

/// Reads a number of threads, a graph and its values from the bytes and compares.
///
/// # Panics
/// With a small reproducer, where the bits differ.
pub fn run(data: &[u8]) {
    let mut choices = Choices::from_bytes(data);
    let threads = 1 + choices.below(2) as usize;
    expect_agreement(&Case::random(&mut choices, Size::QUICK), &[threads]);
}

/// Compares the ways in which a case can run on the processor: with all passes in the interpreter, and compiled, on each of
/// these numbers of threads.
///
/// # Panics
/// With a small reproducer, where the bits differ.
pub fn expect_agreement(case: &Case, threads: &[usize]) {
    expect(case, &mut |case| {
        let expected = plain(case);
        let program = Arc::new(program(case, &[]));
        let given = given(case, &program);
        let named = |outputs: Vec<Vec<u32>>| -> Tensors {
            program.outputs().map(|(_, buffer)| buffer.name.clone()).zip(outputs).collect()
        };
        let wrong = |found: Result<Vec<Vec<u32>>, _>, device: String| match found {
            Ok(outputs) => (named(outputs) != expected).then(|| format!("{device} differs")),
            Err(error) => Some(format!("{device}: {error}")),
        };
        wrong(interpreted(&program, &given), "the interpreter, after all passes,".to_string()).or_else(|| {
            let mut threads = threads.iter();
            threads.find_map(|&count| wrong(compiled(&program, &given, count), format!("cpu, threads: {count},")))
        })
    });
}

/// Compares a case by `difference`, which tells what is wrong.
///
/// # Panics
/// Where anything is, with the smallest case found that is wrong too, as a golden file.
pub fn expect(case: &Case, difference: &mut dyn FnMut(&Case) -> Option<String>) {
    if let Some(wrong) = difference(case) {
        let small = shrink(case.clone(), &mut |case| difference(case).is_some(), &plain);
        let why = difference(&small).unwrap_or(wrong);
        panic!("{why}\n\n{}", small.lit("A difference that random graphs found."));
    }
}

/// The outputs of a case after the passes that are needed and no others, interpreted.
pub fn plain(case: &Case) -> Tensors {
    case.interpret(&program(case, &OPTIONAL))
}

/// A case's program, without some passes.
///
/// # Panics
/// If the graph does not compile.
pub fn program(case: &Case, skip: &[&str]) -> Verified {
    let options = PipelineOptions { skip: skip.iter().map(ToString::to_string).collect(), ..Default::default() };
    let compiled = compile_graph(case.graph.clone(), &options);
    compiled.unwrap_or_else(|error| panic!("{error}\n{}", case.graph))
}

/// A case's values in the order of its program.
pub fn given(case: &Case, program: &Verified) -> Given {
    let [inputs, weights] = [BufferKind::Input, BufferKind::Weight].map(|kind| case.tensors(program, &kind));
    Given { inputs, weights }
}
