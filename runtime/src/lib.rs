//! Loads compiled Loom networks and runs them.
//!
//! An [`Artifact`](artifact::Artifact) is a compiled network, from the compiler or from a `.loom` file. A
//! [`Session`](session::Session) is one made ready on a device; all devices give the same bits.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use loom_runtime::artifact::Artifact;
//! use loom_runtime::session::{Device, Session, SessionOptions};
//! use loom_runtime::tensors::read_tensor;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let artifact = Artifact::load(Path::new("digits.loom"))?;
//! let mut session = Session::new(&artifact, SessionOptions::on(Device::Interp))?;
//! let input = read_tensor(Path::new("digits.safetensors"), "input")?;
//! let outputs = session.run_tensors(&[input])?;
//! println!("{}", loom_runtime::digest::digest(&outputs));
//! # Ok(())
//! # }
//! ```

pub mod artifact;
pub mod compare;
pub mod digest;
pub mod executor;
pub mod report;
pub mod session;
pub mod storage;
pub mod tensors;
pub mod weights;

pub use loom_fp_env as fp_env;
