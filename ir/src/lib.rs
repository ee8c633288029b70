//! Loom's intermediate representations and their meaning.
//!
//! | module | level |
//! |---|---|
//! | [`config`] | what the user wrote: layers with options and source spans |
//! | [`graph`] | tensors: a graph of primitive operations, with a text form |
//! | [`kernel`] | programs: fused loop nests over buffers, verified |
//! | [`numerics`] | the contract LN1 as data: orders of sums, the scalar library |
//! | [`eval`] | the reference interpreter: the definition of the bits |
//!
//! [`types`], [`limits`] and [`diagnostics`] are shared by all. Nothing here knows of a device.
//!
//! ```
//! use loom_ir::eval::program::{Memory, run};
//! use loom_ir::kernel::scalar::{BinaryOp, Inst, ScalarFn, Value};
//! use loom_ir::kernel::{Access, Arg, Body, Buffer, BufferId, BufferKind, Kernel, Lambda, Program, verify};
//! use loom_ir::types::{DType, Shape};
//!
//! // y[i] = x[i] + x[i], over three elements.
//! let shape = Shape::from([3]);
//! let buffer = |name: &str, kind| Buffer { name: name.to_string(), dtype: DType::F32, shape: shape.clone(), kind };
//! let twice = ScalarFn {
//!     params: vec![DType::F32],
//!     insts: vec![Inst::Binary(BinaryOp::Add, Value(0), Value(0))],
//!     result: Value(1),
//! };
//! let program = verify(Program {
//!     name: "twice".to_string(),
//!     buffers: vec![buffer("x", BufferKind::Input), buffer("y", BufferKind::Output)],
//!     kernels: vec![Kernel {
//!         name: "twice".to_string(),
//!         axes: vec![3],
//!         loads: vec![Access::identity(BufferId(0), shape.clone(), 1)],
//!         body: Body::Map(Lambda { args: vec![Arg::Load(0)], function: twice }),
//!         output: Access::identity(BufferId(1), shape.clone(), 1),
//!         in_loop: None,
//!     }],
//!     plan: None,
//! })?;
//! let mut memory = Memory::new(&program);
//! memory.buffers[0] = [0.5f32, -0.0, 3.0].map(f32::to_bits).to_vec();
//! run(&program, &mut memory);
//! assert_eq!(memory.buffers[1], [1.0f32, -0.0, 6.0].map(f32::to_bits));
//! # Ok::<(), loom_ir::kernel::verify::VerifyError>(())
//! ```

#![forbid(unsafe_code)]

pub mod config;
pub mod diagnostics;
pub mod eval;
pub mod graph;
pub mod kernel;
pub mod limits;
pub mod numerics;
pub mod types;
