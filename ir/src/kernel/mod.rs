//! The kernel IR.

pub mod scalar;
