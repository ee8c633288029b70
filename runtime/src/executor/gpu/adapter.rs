//! The adapters of a machine, and which of them to use.

use loom_codegen_wgsl::Class;
use serde::{Serialize, Serializer};

use super::float_controls;
use crate::fp_env::FpEnv;

/// An adapter, as `loomc devices` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    #[serde(serialize_with = "class_name")]
    pub class: Class,
    /// The property that every tier needs and the adapter lacks; `None` if it has them all.
    pub missing: Option<String>,
    /// The tier that it would run in.
    pub tier: Option<Tier>,
}

/// What the exactness of a device rests on (LN1 section 8), beside the probe that each must pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// The SPIR-V and Vulkan specifications: all float controls.
    Strict,
    /// The same, but for subnormals the probe alone: the driver does not list `shaderDenormPreserveFloat32`, as Mesa's
    /// lavapipe and NVIDIA's driver don't, though both keep subnormals.
    Probed,
}

impl Tier {
    /// The name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Tier::Strict => "strict",
            Tier::Probed => "probed",
        }
    }
}

fn class_name<S: Serializer>(class: &Class, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(class.name())
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
    let tier = tier(adapter);
    AdapterInfo {
        name: info.name,
        driver: info.driver,
        driver_info: info.driver_info,
        backend: info.backend.to_string(),
        class,
        missing: tier.err().map(str::to_string),
        tier: tier.ok(),
    }
}

/// The tier of an adapter, or what it lacks.
fn tier(adapter: &wgpu::Adapter) -> Result<Tier, &'static str> {
    if !adapter.features().contains(wgpu::Features::PASSTHROUGH_SHADERS) {
        return Err("passthrough shaders");
    }
    let controls = float_controls::of(adapter)?;
    if !controls.rounding_mode_rte {
        Err("shaderRoundingModeRTEFloat32")
    } else if !controls.signed_zero_inf_nan_preserve {
        Err("shaderSignedZeroInfNanPreserveFloat32")
    } else if controls.denorm_preserve {
        Ok(Tier::Strict)
    } else {
        Ok(Tier::Probed)
    }
}
