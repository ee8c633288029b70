//! The kernel IR: what a network computes, to the last bit.
//!
//! A [`Program`] is an ordered list of [`Kernel`]s over [`Buffer`]s. A kernel is one fused loop nest: its loads are
//! affine [`Access`]es, its arithmetic is [`scalar::ScalarFn`]s, its reductions carry the order of their sums as data
//! ([`crate::numerics::reduction`]). What a program means is what [`crate::eval`] computes for it. A code generator
//! chooses tiles, vectors, threads and memory, and can't change a bit.
//!
//! Programs from a file are untrusted: [`verify::verify`] proves every access in bounds and every function well typed,
//! and gives the [`Verified`] program that backends ask for.

pub mod access;
pub mod ids;
pub mod memory;
pub mod print;
pub mod program;
pub mod scalar;
pub mod states;
pub mod terms;
pub mod verify;

use std::collections::BTreeMap;

use crate::numerics::stored::Form;

pub use access::{Access, Affine, Guard};
pub use program::{
    Arg, Attend, Body, Buffer, BufferId, BufferKind, Contract, Gather, Kernel, Lambda, MemoryPlan, Program, Reduce,
    ReduceOp, Stage, Step,
};
pub use verify::{Verified, verify};

/// The weights that a device keeps as they are stored, each with its form. All other buffers hold words of 32 bits.
///
/// This is no part of a program, whose weights are `f32`s. Code that is made for some forms reads those weights' stored
/// bytes and has the same bits.
pub type Forms = BTreeMap<BufferId, Form>;
