//! Loom's passes: from a network config to a planned program.
//!
//! [`pipeline`] names their order and runs them. `passes` knows nothing of devices: what it makes is the same for all.

pub mod collapse;
pub mod fuse;
pub mod lower;
pub mod pipeline;
pub mod plan;
pub mod schedule;
pub mod shapes;
pub mod simplify;
pub mod view;

pub use pipeline::{Ir, PASSES, PassError, PipelineOptions, compile, compile_graph, run, run_graph};
