//! `loomc devices`.

use std::fmt::Write;

use loom_runtime::session::Device;
use serde::Serialize;

use crate::cli::Devices;
use crate::failure::Failure;
use crate::stdout;

/// The fields of `loomc devices --json`, schema 1.
#[derive(Serialize)]
struct Report {
    devices: Vec<DeviceReport>,
}

#[derive(Serialize)]
struct DeviceReport {
    /// What `--device` takes.
    device: &'static str,
    /// What it is.
    name: String,
    /// Whether networks can run on it.
    usable: bool,
    /// Its tier of the numerics contract.
    tier: Option<String>,
    /// Why it can't be used.
    reason: Option<String>,
}

pub fn devices(args: &Devices) -> Result<(), Failure> {
    let report = Report { devices: Device::ALL.into_iter().map(describe).collect() };
    if args.json {
        return stdout::json("devices", &report);
    }
    let mut text = String::new();
    for device in &report.devices {
        let state = match (&device.tier, &device.reason) {
            (Some(tier), _) => tier.clone(),
            (None, Some(reason)) => format!("not usable: {reason}"),
            (None, None) => "exact".to_string(),
        };
        let _ = writeln!(text, "{:<8}{}: {state}", device.device, device.name);
    }
    stdout::print(&text)
}

fn describe(device: Device) -> DeviceReport {
    let usable = device.is_compiled_in();
    let name = match device {
        Device::Interp => "reference interpreter".to_string(),
        Device::Cpu => {
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            format!("{}, {threads} threads", std::env::consts::ARCH)
        }
        Device::Gpu => "Vulkan".to_string(),
    };
    let reason = (!usable).then(|| "not in this build".to_string());
    DeviceReport { device: device.name(), name, usable, tier: None, reason }
}
