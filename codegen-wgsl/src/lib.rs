//! Loom kernels as WGSL, and as strict SPIR-V.
//!
//! [`generate`] turns every kernel of a verified program into a standalone WGSL module with one entry point, `main`.
//! The text is a function of the program and the [`Target`] alone: no clock, no device and no hash order chooses a
//! shape, and no shape can change a bit (LN1 section 5). [`generate_turns`] gives kernels that stand for whole loops.
//!
//! WGSL promises too little for LN1: a driver may contract, reassociate and flush. What makes the text exact is
//! [`strict_spirv`]: naga's SPIR-V with every float operation marked `NoContraction` and the float controls of a 32-bit
//! IEEE machine demanded. The text therefore holds only what that form makes exact:
//!
//! - float `+`, `-` and `*`; comparisons, but never `!=`; `select`; bit casts; conversions of values in range;
//! - 32-bit integer operations, which wrap in WGSL as in LN1, shift counts masked in the text;
//! - constants as bit patterns behind a `let`, so that no translator folds a float expression with its own arithmetic.
//!
//! Everything else (division, square root, rounding, exp, …) is expanded to these from its one definition in
//! [`loom_ir::numerics`]. [`validate`] refuses a module that holds anything more.
//!
//! # Arithmetic
//!
//! That is [`Arithmetic::Native`]. The other two need no such form, and their text goes to a device by whatever way WGSL
//! goes. In [`Arithmetic::Guarded`] each sum, difference and product, and an operand of each comparison, is passed through
//! an exclusive or with a run-time zero, which keeps compilers from fusing, regrouping and finding maxima; in [`Arithmetic::Soft`] there are no floats: each is the
//! `u32` of its bits, each operation a call of its program in [`loom_ir::numerics::soft`]. [`Validated::check`] holds a
//! module to its arithmetic.
//!
//! # Memory
//!
//! A kernel's bindings are `@group(0)`, numbered in the order of [`WgslKernel::bindings`]: what it reads as
//! `var<storage, read>`, what it writes as `read_write`. Accesses were proved in bounds by the verifier and carry no
//! bounds checks. An executor that binds ranges of one arena buffer for reading and for writing in the same dispatch
//! declares all of them writable in its bind group layout: the SPIR-V is the same for both, and WebGPU only refuses to
//! mix the two *usages* of one buffer. Of plain WGSL it demands that the text agrees with the layout, so there temporary
//! buffers are `read_write` throughout.

#![forbid(unsafe_code)]

mod attend;
mod contract;
mod error;
mod gather;
mod generate;
mod index;
mod lambda;
mod listing;
mod map;
mod reduce;
mod scalar;
mod spirv;
mod stored;
mod target;
mod text;
mod tile;
mod translation;
mod turns;
mod validate;

pub use error::Error;
pub use generate::{Binding, WgslKernel, generate, generate_kernel, generate_stored};
pub use listing::listing;
pub use spirv::{Controls, check_strict, strict_spirv, strict_spirv_for};
pub use stored::{codes_form, codes_words, stored_bytes, stored_words};
pub use target::{Arithmetic, Class, ContractShape, Limits, Quirks, Shapes, Target, TurnCost};
pub use tile::{Cost, Tile};
pub use translation::translation;
pub use turns::{Turns, generate_turns};
pub use validate::{Validated, validate};
