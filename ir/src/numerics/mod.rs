//! The numerics contract LN1 as data.

mod emit;
pub mod expand;
pub mod library;
pub mod order;
pub mod philox;
pub mod reduction;
