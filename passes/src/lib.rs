//! Loom's passes: from a network config to a planned program.
//!
//! [`pipeline`] names their order and runs them. `passes` knows nothing of devices: what it makes is the same for all.
//!
//! ```
//! use loom_passes::{PipelineOptions, compile};
//!
//! let source = r#"{"batch_size": 2, "layers": [{"type": "dense", "input_size": 4, "output_size": 3}]}"#;
//! let network = loom_ir::config::parse(source)?;
//! let program = compile(&network, &PipelineOptions::default())?;
//! assert_eq!(program.kernels.len(), 1, "the bias and the activation are part of the contraction");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod calibration;
pub mod collapse;
pub mod fuse;
pub mod lower;
pub mod pipeline;
pub mod plan;
pub mod schedule;
pub mod shapes;
pub mod simplify;
pub mod view;

pub use pipeline::{Ir, PASSES, PassError, PipelineOptions, compile, compile_graph, run, run_graph};
