//! Random graphs on interpreter and CPU.

use std::sync::Arc;

use loom_ir::kernel::{BufferKind, Verified};
use loom_passes::{PipelineOptions, compile_graph};
use loom_runtime::executor::ExecuteError;

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
        let expected = plain(case)?;
        let program = Arc::new(program(case, &[])?);
        let given = given(case, &program);
        let agrees = |found: Result<Vec<Vec<u32>>, ExecuteError>, device: String| {
            let found = found.map_err(|error| format!("{device}: {error}"))?;
            let names = program.outputs().map(|(_, buffer)| buffer.name.clone());
            let found: Tensors = names.zip(found).collect();
            if found == expected { Ok(()) } else { Err(format!("{device} differs")) }
        };
        agrees(interpreted(&program, &given), "the interpreter, after all passes".to_string())?;
        threads
            .iter()
            .try_for_each(|&count| agrees(compiled(&program, &given, count), format!("cpu, threads: {count}")))
    });
}

/// Compares a case by `agrees`, which tells what is wrong.
///
/// # Panics
/// Where anything is, with the smallest case found that is wrong too, as a golden file.
pub fn expect(case: &Case, agrees: &mut dyn FnMut(&Case) -> Result<(), String>) {
    if let Err(wrong) = agrees(case) {
        let small = shrink(case.clone(), &mut |case| agrees(case).is_err(), &|case| plain(case).ok());
        let why = agrees(&small).err().unwrap_or(wrong);
        panic!("{why}\n\n{}", small.lit("A difference that random graphs found."));
    }
}

/// The outputs of a case after the passes that are needed and no others, interpreted.
pub fn plain(case: &Case) -> Result<Tensors, String> {
    Ok(case.interpret(&program(case, &OPTIONAL)?))
}

/// A case's program, without some passes; in words what is wrong if it does not compile, as every case should.
pub fn program(case: &Case, skip: &[&str]) -> Result<Verified, String> {
    let options = PipelineOptions { skip: skip.iter().map(ToString::to_string).collect(), ..Default::default() };
    compile_graph(case.graph.clone(), &options).map_err(|error| error.to_string())
}

/// A case's values in the order of its program.
pub fn given(case: &Case, program: &Verified) -> Given {
    let [inputs, weights] = [BufferKind::is_input, BufferKind::is_weight].map(|keep| case.tensors(program, keep));
    Given { inputs, weights }
}
