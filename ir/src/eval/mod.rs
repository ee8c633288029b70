//! The reference interpreter: slow, obvious, and the definition of the bits.

mod attend;
pub mod batch;
pub mod cost;
pub mod operands;
pub mod program;
pub mod scalar;
