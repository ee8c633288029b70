//! Loom's passes.

pub mod collapse;
pub mod fuse;
pub mod plan;
pub mod schedule;
pub mod view;
