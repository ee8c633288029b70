//! What the tests in this crate share.

pub mod bits;
pub mod lit;
pub mod network;
pub mod object;
pub mod predecessor;
pub mod stages;
pub mod vectors;

pub use loom_testing::values;
