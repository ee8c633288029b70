//! GPUs through wgpu, in the strict tier of LN1 section 8.
//!
//! A kernel becomes WGSL, checked SPIR-V in the strict form, and a pipeline that takes that SPIR-V as it is
//! (passthrough, on Vulkan). A device is used only if it has the float controls that the form demands (see [`Tier`]) and
//! answers the probe as the interpreter does; otherwise it is refused, and the refusal says why.
//!
//! [`GpuDevice::open`] gives a device that any number of executors share; [`GpuExecutor`] is a program made ready on it.
//! Nothing in here panics: what wgpu reports in error scopes, by callbacks or by a panic of its own becomes an
//! [`ExecuteError`](super::ExecuteError).

mod adapter;
mod device;
mod executor;
mod float_controls;
mod memory;
mod probe;

pub use adapter::{AdapterInfo, Tier, list_adapters};
pub use device::{DeviceInfo, GpuDevice, GpuOptions};
pub use executor::GpuExecutor;
pub use loom_codegen_wgsl::{Arithmetic, Class, ContractShape, Limits, Quirks, Shapes, Target, Tile};
pub use probe::Probe;
