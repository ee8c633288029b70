//! What each fuzz target checks, as a function of bytes that panics where Loom is wrong.
//!
//! | target | bytes are | checked |
//! |---|---|---|
//! | [`config`] | a network's JSON | no panic; mistakes point into the text; what compiles gives the same bits on interpreter and CPU |
//! | [`dialect`] | a config or a bundle of Loom 0.0.8 | no panic; mistakes point into the text; what is translated is a network, with its weights |
//! | [`graph`] | a graph's text | no panic; text and graph round-trip; what compiles gives the same bits |
//! | [`safetensors`] | a safetensors file | no panic; every tensor can be taken and written again |
//! | [`index`] | an index of several safetensors files | no panic; the files lie below its folder, each tensor in one of them |
//! | [`artifact`] | a `.loom` file | no panic; what loads runs and gives the same bits |
//! | [`report`] | a report of a difference | no panic; what loads is written again, explained and run |
//! | [`program`] | choices | programs of random graphs, with numbers changed: what the verifier lets through stays in its buffers |
//! | [`differential`] | choices | random graphs give the same bits with all passes and few, interpreted and compiled |
//!
//! Programs that cost more than [`affordable`] allows are compiled no further: what is looked for is not how long a loop of
//! 2^31 takes.

use loom_ir::eval::cost::{Cost, cost};
use loom_ir::kernel::Program;
use loom_runtime::executor::ExecuteError;
use loom_runtime::session::SessionError;

pub mod artifact;
pub mod config;
pub mod dialect;
pub mod differential;
pub mod graph;
pub mod index;
pub mod program;
pub mod report;
pub mod run;
pub mod safetensors;

/// What is called with each input. It panics where Loom is wrong.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const TARGETS: [(&str, Target); 9] = [
    ("config", config::run),
    ("dialect", dialect::run),
    ("graph", graph::run),
    ("safetensors", safetensors::run),
    ("index", index::run),
    ("artifact", artifact::run),
    ("report", report::run),
    ("program", program::run),
    ("differential", differential::run),
];

/// Whether a fuzzer should run a program: some milliseconds in the interpreter, some in the code generator, some
/// megabytes.
pub fn affordable(program: &Program) -> bool {
    let Cost { steps, instructions, bytes } = cost(program);
    steps < 1 << 21 && instructions < 1 << 13 && bytes < 1 << 24
}

/// A device may have a limit or no memory; it must never find a defect.
pub(crate) fn expect_no_defect(error: &SessionError, program: &Program) {
    if let SessionError::Device { source: ExecuteError::Internal(message), .. } = error {
        panic!("{message}\n{program}");
    }
}
