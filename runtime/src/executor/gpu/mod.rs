//! GPUs through wgpu, in the tiers of LN1 section 8: see [`Tier`].
//!
//! A kernel becomes WGSL. In the tier strict that becomes checked SPIR-V in the strict form, and a pipeline takes it as it
//! is (passthrough, on Vulkan); in the others wgpu translates it for whatever interface there is. A device takes the first
//! tier that it has the properties for and whose probe it answers as the interpreter does, and is refused where there is
//! none; a certificate in the user's cache saves it the same probe next time.
//!
//! [`GpuDevice::open`] gives a device that any number of executors share; [`GpuExecutor`] is a program made ready on it.
//! Nothing in here panics: what wgpu reports in error scopes, by callbacks or by a panic of its own becomes an
//! [`ExecuteError`](super::ExecuteError).

mod adapter;
mod certificate;
mod device;
mod executor;
mod ladder;
mod memory;
mod open;
mod parallel;
mod pipelines;
mod probe;
mod profile;
mod submitted;
mod trial;
mod vulkan;

pub use super::tier::Tier;
pub use adapter::{AdapterInfo, list_adapters};
pub use executor::GpuExecutor;
pub use ladder::{Refusal, TierReport};
pub use loom_codegen_wgsl::{Arithmetic, Class, ContractShape, Cost, Limits, Quirks, Shapes, Target, Tile, TurnCost};
pub use open::{DeviceInfo, Examination, GpuDevice, GpuOptions, OpenError, Refused, examine};
pub use probe::{Difference, Probe};
