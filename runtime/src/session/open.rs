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
    use crate::executor::cpu::{CpuExecutor, CpuOptions};
    let (threads, pool) = (options.threads, options.pool.clone());
    let cpu_options = CpuOptions { threads, pool, ..CpuOptions::from_environment()? };
    let executor = CpuExecutor::with_options(Arc::clone(artifact.program()), artifact.weights().clone(), &cpu_options)?;
    Ok(Box::new(executor))
}

#[cfg(feature = "gpu")]
fn gpu(artifact: &Artifact, options: &SessionOptions) -> Opened {
    use crate::executor::gpu::{GpuDevice, GpuExecutor, GpuOptions, Tier};
    let mut gpu_options = GpuOptions { tier: options.gpu_tier, ..GpuOptions::default() };
    if let Some(name) = &options.adapter {
        gpu_options.adapter = Some(name.clone());
    }
    let open = |options: &GpuOptions| {
        let device = GpuDevice::open(options)?;
        GpuExecutor::new(device, Arc::clone(artifact.program()), artifact.weights().clone())
    };
    match open(&gpu_options) {
        // The device passed its probe in that tier, but not all of this network's kernels did: on to the next one.
        Err(ExecuteError::Inexact { tier: Tier::Guarded, .. }) if gpu_options.tier.is_none() => {
            gpu_options.tier = Some(Tier::Soft);
            Ok(Box::new(open(&gpu_options)?))
        }
        opened => Ok(Box::new(opened?)),
    }
}
