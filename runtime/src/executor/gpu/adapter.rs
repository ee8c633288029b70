//! The adapters of a machine, and which of them to use.

use loom_codegen_wgsl::Class;

use super::vulkan;
use crate::fp_env::FpEnv;

/// An adapter, as `loomc devices` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterInfo {
    /// The adapter's name.
    pub name: String,
    /// The driver's name.
    pub driver: String,
    /// The driver's version, in its own words.
    pub driver_info: String,
    /// The graphics interface.
    pub backend: String,
    /// What kind of device it is.
    pub class: Class,
    /// The vendor's number.
    pub vendor: u32,
    /// The device's number, by the vendor.
    pub device: u32,
    /// What the tier strict needs and the adapter or its driver lacks.
    pub lacks: Vec<&'static str>,
    /// What the tier strict asks for although the driver does not list it: then the probe shows whether it is there.
    pub unlisted: Vec<&'static str>,
}

/// The adapters of this machine, in the order in which they'd be chosen: discrete GPUs, integrated ones, software.
/// Nothing is created on them.
pub fn list_adapters() -> Vec<AdapterInfo> {
    // Drivers start threads and compute when they are asked what they are.
    FpEnv::run(|| adapters(None).iter().map(describe).collect())
}

/// The adapters whose names contain `name`, whatever the case, in the order of choice.
pub(super) fn adapters(name: Option<&str>) -> Vec<wgpu::Adapter> {
    let descriptor = wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN,
        flags: wgpu::InstanceFlags::empty(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    };
    let instance = wgpu::Instance::new(descriptor);
    let mut adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
    if let Some(name) = name {
        let name = name.to_lowercase();
        adapters.retain(|adapter| adapter.get_info().name.to_lowercase().contains(&name));
    }
    // Stable: equals stay in the driver's order.
    adapters.sort_by_key(|adapter| std::cmp::Reverse(class(&adapter.get_info())));
    adapters
}

pub(super) fn class(info: &wgpu::AdapterInfo) -> Class {
    match info.device_type {
        wgpu::DeviceType::Cpu => Class::Software,
        wgpu::DeviceType::DiscreteGpu | wgpu::DeviceType::VirtualGpu => Class::Discrete,
        wgpu::DeviceType::IntegratedGpu | wgpu::DeviceType::Other => Class::Integrated,
    }
}

pub(super) fn describe(adapter: &wgpu::Adapter) -> AdapterInfo {
    let info = adapter.get_info();
    let class = class(&info);
    let mut lacks = Vec::new();
    let mut unlisted = Vec::new();
    if !adapter.features().contains(wgpu::Features::PASSTHROUGH_SHADERS) {
        lacks.push("passthrough shaders");
    }
    match vulkan::float_controls(adapter) {
        Err(missing) => lacks.push(missing),
        Ok(controls) => {
            if !controls.rounding_mode_rte {
                lacks.push("shaderRoundingModeRTEFloat32");
            }
            if !controls.signed_zero_inf_nan_preserve {
                lacks.push("shaderSignedZeroInfNanPreserveFloat32");
            }
            // Mesa's lavapipe and NVIDIA's driver don't list it, though both keep subnormals.
            if !controls.denorm_preserve {
                unlisted.push("shaderDenormPreserveFloat32");
            }
        }
    }
    AdapterInfo {
        name: info.name,
        driver: info.driver,
        driver_info: info.driver_info,
        backend: info.backend.to_string(),
        class,
        vendor: info.vendor,
        device: info.device,
        lacks,
        unlisted,
    }
}
