//! What the tests in this crate share.

pub mod network;
pub mod values;
