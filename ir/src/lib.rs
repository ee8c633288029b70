//! Loom's intermediate representations.

pub mod config;
pub mod diagnostics;
pub mod eval;
pub mod graph;
pub mod kernel;
pub mod limits;
pub mod numerics;
pub mod types;
