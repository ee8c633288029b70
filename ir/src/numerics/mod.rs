//! The numerics contract LN1 as data.

pub mod library;
pub mod order;
pub mod reduction;
