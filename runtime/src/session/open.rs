//! Opens the executor of a device.

use std::sync::Arc;

use super::{Device, SessionError, SessionOptions};
use crate::artifact::Artifact;
use crate::executor::Executor;
use crate::executor::interp::InterpExecutor;

pub(super) fn executor(artifact: &Artifact, options: &SessionOptions) -> Result<Box<dyn Executor>, SessionError> {
    let device = options.device;
    let failed = |source| SessionError::Device { device, source };
    match device {
        Device::Interp => {
            let executor = InterpExecutor::new(Arc::clone(artifact.program()), &**artifact.weights());
            Ok(Box::new(executor.map_err(failed)?))
        }
        Device::Cpu | Device::Gpu => Err(SessionError::NotCompiledIn(device)),
    }
}
