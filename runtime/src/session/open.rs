//! Opens the executor of a device.

use std::sync::Arc;

use super::{Device, SessionError, SessionOptions};
use crate::artifact::Artifact;
use crate::executor::interp::InterpExecutor;
use crate::executor::{ExecuteError, Executor};

type Opened = Result<Box<dyn Executor>, ExecuteError>;

pub(super) fn executor(artifact: &Artifact, options: &SessionOptions) -> Result<Box<dyn Executor>, SessionError> {
    let device = options.device;
    let opened = match device {
        Device::Interp => interp(artifact),
        #[cfg(feature = "cpu")]
        Device::Cpu => cpu(artifact, options),
        #[cfg(feature = "gpu")]
        Device::Gpu => gpu(artifact, options),
        #[cfg(not(all(feature = "cpu", feature = "gpu")))]
        absent => return Err(SessionError::NotCompiledIn(absent)),
    };
    opened.map_err(|source| SessionError::Device { device, source })
}

fn interp(artifact: &Artifact) -> Opened {
    Ok(Box::new(InterpExecutor::new(Arc::clone(artifact.program()), &**artifact.weights())?))
}

#[cfg(feature = "cpu")]
fn cpu(artifact: &Artifact, options: &SessionOptions) -> Opened {
    use crate::executor::cpu::CpuExecutor;
    let executor = CpuExecutor::new(Arc::clone(artifact.program()), artifact.weights().clone(), options.threads)?;
    Ok(Box::new(executor))
}

#[cfg(feature = "gpu")]
fn gpu(artifact: &Artifact, options: &SessionOptions) -> Opened {
    use crate::executor::gpu::{GpuDevice, GpuExecutor, GpuOptions};
    let mut gpu_options = GpuOptions::default();
    if let Some(name) = &options.adapter {
        gpu_options.adapter = Some(name.clone());
    }
    let device = GpuDevice::open(&gpu_options)?;
    Ok(Box::new(GpuExecutor::new(device, Arc::clone(artifact.program()), artifact.weights().clone())?))
}
