//! Kernels on a GPU against the interpreter, bit for bit.
//!
//! Needs a Vulkan adapter (a software one will do): without one every test fails. The binary reads no file, so it can be
//! copied to another machine and run there.

mod build;
#[path = "../common/mod.rs"]
mod common;
mod contracts;
mod gathers;
mod maps;
mod memory;
mod random;
mod reductions;
mod sessions;
mod tiers;

use std::sync::{Arc, OnceLock};

use loom_runtime::executor::gpu::{GpuDevice, GpuOptions};

/// The device, opened once for all tests.
fn device() -> Arc<GpuDevice> {
    static DEVICE: OnceLock<Arc<GpuDevice>> = OnceLock::new();
    let open = || match GpuDevice::open(&GpuOptions { cache: None, ..GpuOptions::default() }) {
        Ok(device) => device,
        Err(error) => panic!("{error}"),
    };
    Arc::clone(DEVICE.get_or_init(open))
}

#[test]
fn the_device_passes_its_probe() {
    let device = device();
    let info = device.info();
    println!("{info:#?}");
    assert_eq!(info.tier.refusal, None);
    let listed = loom_runtime::executor::gpu::list_adapters();
    assert!(listed.contains(&info.adapter));
}

#[test]
fn an_adapter_that_is_not_there_is_a_refusal() {
    let options = GpuOptions { adapter: Some("no such adapter".to_string()), ..GpuOptions::default() };
    let error = GpuDevice::open(&options).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("no such adapter"), "{error}");
}
