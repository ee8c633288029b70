//! The reference interpreter: slow, obvious, and the definition of the bits.

pub mod program;
pub mod scalar;
