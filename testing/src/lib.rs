//! What Loom's tests and fuzzers share.
//!
//! | module | holds |
//! |---|---|
//! | [`values`] | a small random generator, and element values that find mistakes |
//! | [`choices`] | decisions, drawn from a seed or read from a fuzzer's bytes |
//! | [`graphs`] | random valid graphs over every operation |
//! | [`case`] | a graph with the bits of its inputs, and its run in the interpreter |
//! | [`shrink`] | the smallest case that still fails |
//! | `oracles` | what each fuzz target checks, as a function of bytes (feature `oracles`) |

pub mod case;
pub mod choices;
pub mod graphs;
#[cfg(feature = "oracles")]
pub mod oracles;
pub mod shrink;
pub mod values;
