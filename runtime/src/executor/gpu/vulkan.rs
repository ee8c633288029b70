//! What Vulkan says about a device and wgpu does not ask: its float arithmetic, and how much memory it has.

/// What a device's shaders can be told, or the first thing that is missing altogether.
pub(super) type Answer = Result<FloatControls, &'static str>;

/// The float controls of LN1's strict tier, for 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FloatControls {
    /// `shaderDenormPreserveFloat32`.
    pub denorm_preserve: bool,
    /// `shaderRoundingModeRTEFloat32`.
    pub rounding_mode_rte: bool,
    /// `shaderSignedZeroInfNanPreserveFloat32`.
    pub signed_zero_inf_nan_preserve: bool,
}

/// Asks the adapter for its float controls.
#[cfg(any(windows, target_os = "linux", target_os = "android"))]
pub(super) fn float_controls(adapter: &wgpu::Adapter) -> Answer {
    use ash::vk;

    // SAFETY: the handle is only read below, while `adapter` is alive, and nothing of it is destroyed.
    let Some(hal) = (unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }) else { return Err("Vulkan") };
    let shared = hal.shared_instance();
    // Since 1.2 the structure below, and SPIR-V's float controls, are part of Vulkan; wgpu enables no extension for them.
    let version = hal.physical_device_capabilities().properties().api_version;
    if shared.instance_api_version().min(version) < vk::API_VERSION_1_2 {
        return Err("Vulkan 1.2");
    }
    let mut controls = vk::PhysicalDeviceFloatControlsProperties::default();
    let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut controls);
    // SAFETY: the physical device belongs to this instance, the instance and the device are of Vulkan 1.2 or later, so
    // the call and both structures exist, and both structures live until it returns.
    unsafe {
        shared.raw_instance().get_physical_device_properties2(hal.raw_physical_device(), &mut properties);
    }
    Ok(FloatControls {
        denorm_preserve: controls.shader_denorm_preserve_float32 != vk::FALSE,
        rounding_mode_rte: controls.shader_rounding_mode_rte_float32 != vk::FALSE,
        signed_zero_inf_nan_preserve: controls.shader_signed_zero_inf_nan_preserve_float32 != vk::FALSE,
    })
}

/// Without Vulkan there is no strict tier.
#[cfg(not(any(windows, target_os = "linux", target_os = "android")))]
pub(super) fn float_controls(_adapter: &wgpu::Adapter) -> Answer {
    Err("Vulkan")
}

/// Whether shaders of the adapter's devices have `SPV_KHR_integer_dot_product`: wgpu turns it on where it is.
#[cfg(any(windows, target_os = "linux", target_os = "android"))]
pub(super) fn packed_dot(adapter: &wgpu::Adapter) -> bool {
    use ash::{khr, vk};

    // SAFETY: the handle is only read below, while `adapter` is alive, and nothing of it is destroyed.
    let Some(hal) = (unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }) else { return false };
    let (shared, capabilities) = (hal.shared_instance(), hal.physical_device_capabilities());
    let version = shared.instance_api_version().min(capabilities.properties().api_version);
    let known = version >= vk::API_VERSION_1_3
        || version >= vk::API_VERSION_1_1 && capabilities.supports_extension(khr::shader_integer_dot_product::NAME);
    if !known {
        return false;
    }
    let mut dot = vk::PhysicalDeviceShaderIntegerDotProductFeatures::default();
    let mut features = vk::PhysicalDeviceFeatures2::default().push_next(&mut dot);
    // SAFETY: the physical device belongs to this instance; the call is part of Vulkan 1.1, and the structure of 1.3 or of the
    // extension, one of which is there; both structures live until it returns.
    unsafe {
        shared.raw_instance().get_physical_device_features2(hal.raw_physical_device(), &mut features);
    }
    dot.shader_integer_dot_product != vk::FALSE
}

/// Whoever makes shaders elsewhere knows by itself.
#[cfg(not(any(windows, target_os = "linux", target_os = "android")))]
pub(super) fn packed_dot(_adapter: &wgpu::Adapter) -> bool {
    false
}

/// Bytes of the largest memory that is the device's own.
#[cfg(any(windows, target_os = "linux", target_os = "android"))]
pub(super) fn memory(adapter: &wgpu::Adapter) -> Option<u64> {
    use ash::vk;

    // SAFETY: the handle is only read below, while `adapter` is alive, and nothing of it is destroyed.
    let hal = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    // SAFETY: the physical device belongs to this instance, and the call is part of every version of Vulkan.
    let properties = unsafe {
        hal.shared_instance().raw_instance().get_physical_device_memory_properties(hal.raw_physical_device())
    };
    let heaps = properties.memory_heaps_as_slice().iter();
    heaps.filter(|heap| heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL)).map(|heap| heap.size).max()
}

/// Nobody says.
#[cfg(not(any(windows, target_os = "linux", target_os = "android")))]
pub(super) fn memory(_adapter: &wgpu::Adapter) -> Option<u64> {
    None
}
