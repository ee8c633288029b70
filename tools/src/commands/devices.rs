//! `loomc devices`.

use std::fmt::Write;

use loom_runtime::session::Device;
use serde::Serialize;

use crate::cli::Devices;
use crate::failure::{Failure, printable};
use crate::stdout;

/// The fields of `loomc devices --json`, schema 1.
#[derive(Serialize)]
struct Report {
    devices: Vec<DeviceReport>,
}

/// One device; for the device gpu, one adapter.
#[derive(Default, Serialize)]
struct DeviceReport {
    /// What `--device` takes.
    device: &'static str,
    /// What it is. For an adapter the name that `--adapter` takes a part of.
    name: String,
    /// Whether networks can run on it.
    usable: bool,
    /// Why not.
    reason: Option<String>,
    /// By which means it is exact, by the tiers of the numerics contract.
    tier: Option<String>,
    /// What that means.
    #[serde(skip)]
    meaning: &'static str,
    /// Adapters: the driver and its version.
    driver: Option<String>,
    /// Adapters: `discrete`, `integrated` or `software`.
    class: Option<&'static str>,
    /// Adapters: the SPIR-V float controls that shaders ask for.
    controls: Vec<&'static str>,
    /// Adapters: how they answered.
    probes: Vec<ProbeReport>,
}

#[derive(Serialize)]
struct ProbeReport {
    name: &'static str,
    passed: bool,
}

pub fn devices(args: &Devices) -> Result<(), Failure> {
    let devices: Vec<DeviceReport> = [cpu()].into_iter().chain(gpus()).chain([interp()]).collect();
    if args.json {
        return stdout::json("devices", &Report { devices });
    }
    let mut text = String::new();
    for device in &devices {
        let _ = write!(text, "{:<8}{}", device.device, printable(&device.name));
        if let Some(driver) = &device.driver {
            let _ = write!(text, ", {}", printable(driver));
        }
        let _ = match (&device.tier, &device.reason) {
            (_, Some(reason)) => writeln!(text, "\n        not usable: {}", printable(reason)),
            (Some(tier), None) => writeln!(text, "\n        {tier}: {}", device.meaning),
            (None, None) => writeln!(text),
        };
        if !device.probes.is_empty() {
            let passed = device.probes.iter().filter(|probe| probe.passed).count();
            let _ = writeln!(text, "        shaders ask for {}", device.controls.join(", "));
            let _ = writeln!(text, "        {passed} of {} probes exact", device.probes.len());
            for probe in device.probes.iter().filter(|probe| !probe.passed) {
                let _ = writeln!(text, "        not exact: {}", probe.name);
            }
        }
    }
    stdout::print(&text)
}

fn interp() -> DeviceReport {
    let name = "reference interpreter".to_string();
    DeviceReport { device: Device::Interp.name(), name, usable: true, ..DeviceReport::default() }
}

fn cpu() -> DeviceReport {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let device = DeviceReport {
        device: Device::Cpu.name(),
        name: format!("{}, {threads} threads", std::env::consts::ARCH),
        ..DeviceReport::default()
    };
    if Device::Cpu.is_compiled_in() { DeviceReport { usable: true, ..device } } else { not_in_this_build(device) }
}

/// All adapters; one entry without a name where there are none.
#[cfg(feature = "gpu")]
fn gpus() -> Vec<DeviceReport> {
    use loom_runtime::executor::gpu::{GpuDevice, GpuOptions, list_adapters};
    let adapters = list_adapters();
    if adapters.is_empty() {
        let reason = Some("there is no Vulkan adapter".to_string());
        return vec![DeviceReport {
            device: Device::Gpu.name(),
            name: "none".to_string(),
            reason,
            ..Default::default()
        }];
    }
    let describe = |adapter: loom_runtime::executor::gpu::AdapterInfo| {
        let mut report = DeviceReport {
            device: Device::Gpu.name(),
            driver: Some(format!("{} {}", adapter.driver, adapter.driver_info).trim().to_string()),
            class: Some(adapter.class.name()),
            tier: adapter.tier.map(|tier| tier.name().to_string()),
            meaning: adapter.tier.map_or("", meaning),
            name: adapter.name,
            ..DeviceReport::default()
        };
        match GpuDevice::open(&GpuOptions { adapter: Some(report.name.clone()) }) {
            Ok(device) => {
                let probe =
                    |probe: &loom_runtime::executor::gpu::Probe| ProbeReport { name: probe.name, passed: probe.passed };
                report.usable = true;
                report.controls.clone_from(&device.info().controls);
                report.probes = device.info().probes.iter().map(probe).collect();
            }
            Err(error) => report.reason = Some(error.to_string()),
        }
        report
    };
    adapters.into_iter().map(describe).collect()
}

/// What the exactness of an adapter rests on, where its probes are exact.
#[cfg(feature = "gpu")]
fn meaning(tier: loom_runtime::executor::gpu::Tier) -> &'static str {
    use loom_runtime::executor::gpu::Tier;
    match tier {
        Tier::Strict => "the driver lists every float control that exact results need",
        Tier::Probed => "the driver does not list shaderDenormPreserveFloat32; subnormals were seen to be kept",
    }
}

#[cfg(not(feature = "gpu"))]
fn gpus() -> Vec<DeviceReport> {
    let device = DeviceReport { device: Device::Gpu.name(), name: "Vulkan".to_string(), ..DeviceReport::default() };
    vec![not_in_this_build(device)]
}

fn not_in_this_build(device: DeviceReport) -> DeviceReport {
    DeviceReport { reason: Some("not in this build".to_string()), ..device }
}
