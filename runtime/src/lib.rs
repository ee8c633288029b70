//! Loads compiled Loom networks and runs them.

pub mod executor;
