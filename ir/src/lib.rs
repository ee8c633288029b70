//! Loom's intermediate representations.

pub mod diagnostics;
pub mod limits;
pub mod types;
