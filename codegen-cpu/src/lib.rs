//! Loom kernels as machine code, through Cranelift.
//!
//! A verified program becomes one function a kernel, in memory ([`compile`]), as text ([`emit_clif`], [`emit_asm`]) or in
//! an object file ([`emit_object`]). The same program gives the same functions, byte for byte. How they're called is
//! written in [`abi`]; their bits are those of `loom_ir::eval`, whatever the processor, the vectors and the split of
//! work:
//!
//! - Cranelift never fuses a product and a sum, and floats are converted and compared by instructions that are LN1's for
//!   all operands;
//! - the order of every sum is LN1's (`emit::sum`, `emit::micro`);
//! - code in memory has wider vectors than Cranelift's where the processor has them: microkernels of contractions
//!   ([`simd`]), and functions over neighbouring elements from a small compiler of our own (`wide`). Each scalar operation is
//!   one IEEE or integer instruction there too, or a short exact sequence;
//! - memory is touched only where guards hold, which with the verifier's proof makes bounds checks unnecessary.

pub mod abi;
mod alike;
mod apart;
mod emit;
mod error;
mod functions;
mod jit;
mod level;
mod object;
mod parallel;
pub mod simd;
pub mod stored;
mod target;
mod text;
mod view;
mod wide;

pub use error::Error;
pub use jit::{JitProgram, KernelCode, Options, compile, compile_stored};
pub use level::{Level, UnknownLevel};
pub use object::{Flat, Object, ObjectOptions, emit_object};
pub use target::Target;
pub use text::{emit_asm, emit_clif};
