//! `loomc devices`.

use std::fmt::Write;
use std::time::Duration;

use loom_runtime::executor::tier::Tier;
use loom_runtime::session::Device;
use serde::Serialize;

use crate::cli::Devices;
use crate::failure::{Failure, printable};
use crate::{format, stdout};

/// The version of the fields of `loomc devices --json`.
const SCHEMA: u32 = 2;

/// The fields of `loomc devices --json`.
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
    /// Adapters: the tier that networks run in, the first usable one of `tiers`.
    tier: Option<&'static str>,
    /// Adapters: the driver and its version.
    driver: Option<String>,
    /// Adapters: `discrete`, `integrated` or `software`.
    class: Option<&'static str>,
    /// Adapters: how they did in each tier.
    tiers: Vec<TierReport>,
}

/// One tier of an adapter.
#[derive(Serialize)]
struct TierReport {
    /// `strict`, `guarded` or `soft`.
    tier: &'static str,
    /// Whether networks can run in it.
    usable: bool,
    /// Properties that it needs and the adapter or its driver does not list.
    lacks: Vec<&'static str>,
    /// Properties that it needs and the driver does not list, though the probes show them to be there.
    unlisted: Vec<&'static str>,
    /// Why it could not be probed.
    error: Option<String>,
    /// The SPIR-V float controls that shaders ask for.
    controls: Vec<&'static str>,
    /// How the adapter answered.
    probes: Vec<ProbeReport>,
    /// How long it took.
    seconds: f64,
}

#[derive(Serialize)]
struct ProbeReport {
    name: String,
    passed: bool,
    /// The first wrong answer.
    difference: Option<DifferenceReport>,
}

/// Bits in hexadecimal.
#[derive(Serialize)]
struct DifferenceReport {
    inputs: Vec<String>,
    expected: String,
    found: String,
}

pub fn devices(args: &Devices) -> Result<(), Failure> {
    let devices: Vec<DeviceReport> = [cpu()].into_iter().chain(gpus(args.gpu_tier)).chain([interp()]).collect();
    if args.json {
        return stdout::versioned_json("devices", SCHEMA, &Report { devices });
    }
    let mut text = String::new();
    for device in &devices {
        let _ = write!(text, "{:<8}{}", device.device, printable(&device.name));
        if let Some(driver) = &device.driver {
            let _ = write!(text, ", {}", printable(driver));
        }
        text.push('\n');
        if let Some(reason) = &device.reason {
            let _ = writeln!(text, "        not usable: {}", printable(reason));
        }
        if let Some(tier) = device.tier {
            let _ = writeln!(text, "        runs in the tier {tier}");
        }
        for tier in &device.tiers {
            describe(&mut text, tier);
        }
    }
    stdout::print(&text)
}

fn describe(text: &mut String, tier: &TierReport) {
    let _ = write!(text, "        {:<9}", tier.tier);
    let (count, seconds) = (tier.probes.len(), Duration::from_secs_f64(tier.seconds));
    let passed = tier.probes.iter().filter(|probe| probe.passed).count();
    let _ = match &tier.error {
        Some(error) => writeln!(text, "could not be probed: {}", printable(error)),
        None if !tier.lacks.is_empty() => writeln!(text, "the adapter lacks {}", tier.lacks.join(", ")),
        None if passed < count => writeln!(text, "not exact: {} of {count} probes fail", count - passed),
        None => writeln!(text, "exact: {count} probes in {}", format::time(seconds)),
    };
    if tier.usable && !tier.controls.is_empty() {
        let _ = writeln!(text, "                 shaders ask for {}", tier.controls.join(", "));
    }
    for property in tier.unlisted.iter().filter(|_| tier.usable) {
        let _ = writeln!(text, "                 the driver does not list {property}, the probes show it");
    }
    for probe in &tier.probes {
        if let Some(DifferenceReport { inputs, expected, found }) = &probe.difference {
            let (name, inputs) = (&probe.name, inputs.join(" "));
            let _ = writeln!(text, "                 {name}: of {inputs} is {found}, not {expected}");
        }
    }
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
fn gpus(tier: Option<Tier>) -> Vec<DeviceReport> {
    use loom_runtime::executor::gpu::{GpuOptions, examine};
    let examined = examine(&GpuOptions { adapter: None, tier, ..GpuOptions::default() });
    if examined.is_empty() {
        let reason = Some("there is no Vulkan adapter".to_string());
        let (device, name) = (Device::Gpu.name(), "none".to_string());
        return vec![DeviceReport { device, name, reason, ..DeviceReport::default() }];
    }
    examined.into_iter().map(adapter).collect()
}

#[cfg(feature = "gpu")]
fn adapter(examination: loom_runtime::executor::gpu::Examination) -> DeviceReport {
    let tier = examination.tier().map(|report| report.tier.name());
    let adapter = examination.adapter;
    let driver = format!("{} {}", adapter.driver, adapter.driver_info);
    let mut report = DeviceReport {
        device: Device::Gpu.name(),
        driver: Some(driver.trim().to_string()),
        class: Some(adapter.class.name()),
        usable: tier.is_some(),
        tier,
        name: adapter.name,
        ..DeviceReport::default()
    };
    match examination.tiers {
        Err(error) => report.reason = Some(format!("it could not be opened: {error}")),
        Ok(tiers) => {
            report.reason = tier.is_none().then(|| "it is not exact in any tier".to_string());
            report.tiers = tiers.into_iter().map(|tier| tier_report(tier, &adapter.unlisted)).collect();
        }
    }
    report
}

#[cfg(feature = "gpu")]
fn tier_report(report: loom_runtime::executor::gpu::TierReport, unlisted: &[&'static str]) -> TierReport {
    use loom_runtime::executor::gpu::{Probe, Refusal};
    let hex = |bits: u32| format!("{bits:08x}");
    let probe = |probe: Probe| ProbeReport {
        passed: probe.passed(),
        name: probe.name,
        difference: probe.difference.map(|difference| DifferenceReport {
            inputs: difference.inputs.into_iter().map(hex).collect(),
            expected: hex(difference.expected),
            found: hex(difference.found),
        }),
    };
    TierReport {
        tier: report.tier.name(),
        usable: report.refusal.is_none(),
        unlisted: if report.tier == Tier::Strict { unlisted.to_vec() } else { Vec::new() },
        controls: report.controls,
        probes: report.probes.into_iter().map(probe).collect(),
        seconds: report.time.as_secs_f64(),
        error: match &report.refusal {
            Some(Refusal::Unprobed(error)) => Some(error.clone()),
            _ => None,
        },
        lacks: match report.refusal {
            Some(Refusal::Lacks(properties)) => properties,
            _ => Vec::new(),
        },
    }
}

#[cfg(not(feature = "gpu"))]
fn gpus(_tier: Option<Tier>) -> Vec<DeviceReport> {
    let device = DeviceReport { device: Device::Gpu.name(), name: "Vulkan".to_string(), ..DeviceReport::default() };
    vec![not_in_this_build(device)]
}

fn not_in_this_build(device: DeviceReport) -> DeviceReport {
    DeviceReport { reason: Some("not in this build".to_string()), ..device }
}
