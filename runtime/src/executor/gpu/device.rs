//! wgpu's device: where its handles, its errors and the making of pipelines live.

use std::borrow::Cow;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use loom_codegen_wgsl::{
    Arithmetic, Controls, Error as CodegenError, Limits, Target, WgslKernel, strict_spirv_for, validate,
};
use sha2::{Digest, Sha256};

use super::adapter::AdapterInfo;
use super::ladder::Form;
use super::pipelines::Pipelines;
use super::submitted::Watcher;
use super::vulkan;
use crate::digest::hex;
use crate::executor::ExecuteError;

/// wgpu's device and queue, and what went wrong on them.
#[derive(Debug)]
pub(super) struct Context {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub target: Target,
    pub limits: wgpu::Limits,
    /// What SPIR-V asks for.
    controls: Controls,
    /// Whether it has packed dot products.
    packed_dot: bool,
    /// What the driver keeps of pipelines.
    pipelines: Option<Pipelines>,
    /// Bytes of the device's own memory, where that is known.
    pub memory: Option<u64>,
    /// The first fault that no error scope saw: the device is lost, or wgpu failed between two calls.
    fault: Arc<Mutex<Option<String>>>,
    /// Who waits for the runs that nobody waits for on their own thread.
    pub watcher: Watcher,
}

/// A pipeline and the layout of its bindings.
#[derive(Debug, Clone)]
pub(super) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
    /// Of a kernel in a loop: the layout of its second group, the loop's index.
    pub turn: Option<wgpu::BindGroupLayout>,
}

/// Waits for a device.
pub(super) struct Waiter {
    device: wgpu::Device,
    fault: Arc<Mutex<Option<String>>>,
}

impl Waiter {
    pub fn wait(&self, until: wgpu::PollType) -> Result<(), ExecuteError> {
        // wgpu panics in `poll` where the device is lost.
        match catch_unwind(AssertUnwindSafe(|| self.device.poll(until))) {
            Ok(Ok(_)) => check(&self.fault),
            Ok(Err(error)) => Err(ExecuteError::Device(error.to_string())),
            Err(_) => {
                let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
                Err(ExecuteError::Device(fault.get_or_insert("the device is lost".to_string()).clone()))
            }
        }
    }
}

fn check(fault: &Mutex<Option<String>>) -> Result<(), ExecuteError> {
    match &*fault.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(fault) => Err(ExecuteError::Device(fault.clone())),
        None => Ok(()),
    }
}

impl Context {
    /// Opens an adapter, in no tier yet. What the driver keeps of pipelines goes to a folder of the user's.
    pub fn open(adapter: &wgpu::Adapter, info: &AdapterInfo, cache: Option<&Path>) -> Result<Context, String> {
        let limits = adapter.limits();
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("loom"),
            // The tier strict needs the first, profiles the second, quick starts the third; all else does without.
            required_features: adapter.features()
                & (wgpu::Features::PASSTHROUGH_SHADERS
                    | wgpu::Features::TIMESTAMP_QUERY
                    | wgpu::Features::PIPELINE_CACHE),
            required_limits: limits.clone(),
            ..wgpu::DeviceDescriptor::default()
        };
        let (device, queue) =
            pollster::block_on(adapter.request_device(&descriptor)).map_err(|error| error.to_string())?;
        let fault = Arc::new(Mutex::new(None));
        let report = |fault: &Arc<Mutex<Option<String>>>| {
            let fault = Arc::clone(fault);
            move |text: String| {
                fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
            }
        };
        let uncaptured = report(&fault);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| uncaptured(error.to_string())));
        let lost = report(&fault);
        device.set_device_lost_callback(move |reason, text| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                lost(format!("the device is lost: {text}"));
            }
        });
        let target = Target::new(
            info.class,
            Limits {
                workgroups_per_dimension: limits.max_compute_workgroups_per_dimension,
                invocations_per_workgroup: limits
                    .max_compute_invocations_per_workgroup
                    .min(limits.max_compute_workgroup_size_x),
                workgroup_storage: limits.max_compute_workgroup_storage_size,
                storage_buffers: limits.max_storage_buffers_per_shader_stage,
            },
        );
        let pipelines = Pipelines::open(&device, info, cache);
        let (memory, packed_dot) = (vulkan::memory(adapter), vulkan::packed_dot(adapter));
        let (controls, watcher) = (Controls::ALL, Watcher::default());
        Ok(Context { device, queue, target, limits, controls, packed_dot, pipelines, memory, fault, watcher })
    }

    /// Keeps what the driver has of pipelines for other processes.
    pub fn keep_pipelines(&self) {
        if let Some(pipelines) = &self.pipelines {
            pipelines.keep();
        }
    }

    /// From now on shaders are made in this form.
    pub fn take(&mut self, form: Form) {
        self.target = self.target.clone().with_arithmetic(form.arithmetic);
        self.controls = form.controls.unwrap_or(Controls::ALL);
    }

    /// Calls wgpu and collects what it reports.
    pub fn scoped<T>(&self, call: impl FnOnce() -> T) -> Result<T, ExecuteError> {
        match self.reported(call) {
            (value, None) => self.check().map(|()| value),
            (_, Some(wgpu::Error::OutOfMemory { .. })) => Err(ExecuteError::Device("out of memory".to_string())),
            (_, Some(wgpu::Error::Internal { description, .. })) => Err(ExecuteError::Device(description)),
            (_, Some(wgpu::Error::Validation { description, .. })) => Err(ExecuteError::Internal(description)),
        }
    }

    /// Calls wgpu and gives the first error that it reports.
    fn reported<T>(&self, call: impl FnOnce() -> T) -> (T, Option<wgpu::Error>) {
        let filters = [wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Validation];
        let scopes = filters.map(|filter| self.device.push_error_scope(filter));
        let value = call();
        // Innermost first, as they must be popped.
        let errors = scopes.into_iter().rev().map(|scope| pollster::block_on(scope.pop()));
        // All of them are.
        let errors: Vec<Option<wgpu::Error>> = errors.collect();
        (value, errors.into_iter().flatten().next())
    }

    /// Fails if the device has failed.
    pub fn check(&self) -> Result<(), ExecuteError> {
        check(&self.fault)
    }

    /// Waits until all that was submitted is done.
    pub fn wait(&self) -> Result<(), ExecuteError> {
        self.waiter().wait(wgpu::PollType::wait_indefinitely())
    }

    /// What waits for the device, for another thread to have.
    pub fn waiter(&self) -> Waiter {
        Waiter { device: self.device.clone(), fault: Arc::clone(&self.fault) }
    }

    /// A buffer of at least one element.
    pub fn buffer(
        &self,
        label: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
        mapped: bool,
    ) -> Result<wgpu::Buffer, ExecuteError> {
        let size = bytes.max(4);
        let descriptor = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: mapped };
        self.scoped(|| match self.reported(|| self.device.create_buffer(&descriptor)) {
            (_, Some(wgpu::Error::OutOfMemory { .. })) => {
                Err(ExecuteError::Memory { what: format!("`{label}` on the device"), bytes: size })
            }
            (_, Some(error)) => Err(ExecuteError::Internal(error.to_string())),
            (buffer, None) => Ok(buffer),
        })?
    }

    /// Refuses a buffer that is larger than the device can bind.
    pub fn check_binding(&self, what: impl FnOnce() -> String, bytes: u64) -> Result<(), ExecuteError> {
        check_limit(what, bytes, self.limits.max_storage_buffer_binding_size.min(self.limits.max_buffer_size))
    }

    /// What the driver is given of a kernel.
    pub fn shader(&self, kernel: &WgslKernel, arithmetic: Arithmetic) -> Result<Shader, ExecuteError> {
        let validated = validate(&kernel.source).map_err(codegen_error)?;
        validated.check(arithmetic).map_err(codegen_error)?;
        match arithmetic {
            Arithmetic::Native => {
                strict_spirv_for(&validated, self.controls, self.packed_dot).map(Shader::Strict).map_err(codegen_error)
            }
            Arithmetic::Guarded | Arithmetic::Soft => Ok(Shader::Plain(without_comments(&kernel.source))),
        }
    }

    /// Makes the pipeline of a shader for bindings that are read only, or not.
    pub fn pipeline(&self, kernel: &WgslKernel, shader: &Shader, read_only: &[bool]) -> Result<Pipeline, ExecuteError> {
        let name = kernel.name.as_str();
        let entries: Vec<wgpu::BindGroupLayoutEntry> = read_only
            .iter()
            .enumerate()
            .map(|(binding, &read_only)| wgpu::BindGroupLayoutEntry {
                binding: binding as u32,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Storage { read_only },
                    has_dynamic_offset: false,
                    min_binding_size: NonZeroU64::new(4),
                },
                count: None,
            })
            .collect();
        let turn = wgpu::BindGroupLayoutEntry {
            binding: 0,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Uniform,
                has_dynamic_offset: true,
                min_binding_size: NonZeroU64::new(16),
            },
            count: None,
        };
        self.scoped(|| {
            let make = |entries: &[wgpu::BindGroupLayoutEntry]| {
                self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(name), entries })
            };
            let layout = make(&entries);
            let turn = kernel.in_loop.then(|| make(&[turn]));
            let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(name),
                bind_group_layouts: &[Some(&layout), turn.as_ref()][..1 + usize::from(kernel.in_loop)],
                immediate_size: 0,
            });
            let module = shader.module(&self.device, name, kernel.workgroup_size);
            let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(name),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    // Kernels write workgroup memory before they read it.
                    zero_initialize_workgroup_memory: false,
                    ..wgpu::PipelineCompilationOptions::default()
                },
                cache: self.pipelines.as_ref().map(Pipelines::cache),
            });
            Pipeline { pipeline, layout, turn }
        })
    }
}

/// A kernel in the form that a pipeline is made of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shader {
    /// Strict SPIR-V, for the driver as it is.
    Strict(Vec<u32>),
    /// WGSL without comments, so that kernels which differ in nothing else are the same.
    Plain(String),
}

impl Shader {
    fn module(&self, device: &wgpu::Device, name: &str, size: u32) -> wgpu::ShaderModule {
        match self {
            Shader::Strict(words) => strict_module(device, name, words, size),
            Shader::Plain(source) => plain_module(device, name, source),
        }
    }

    /// `sha256:` and the digest of what the driver is given.
    pub fn digest(&self) -> String {
        let bytes = match self {
            Shader::Strict(words) => bytemuck::cast_slice(words),
            Shader::Plain(source) => source.as_bytes(),
        };
        format!("sha256:{}", hex(&Sha256::digest(bytes)))
    }
}

/// The text without what follows `//`: WGSL has no string that could hold one.
fn without_comments(source: &str) -> String {
    let code = source.lines().map(|line| line.split("//").next().unwrap_or(line).trim_end());
    code.filter(|line| !line.is_empty()).flat_map(|line| [line, "\n"]).collect()
}

/// Hands SPIR-V to the driver as it is.
fn strict_module(device: &wgpu::Device, name: &str, words: &[u32], size: u32) -> wgpu::ShaderModule {
    let descriptor = wgpu::ShaderModuleDescriptorPassthrough {
        label: Some(name),
        entry_points: Cow::Owned(vec![wgpu::PassthroughShaderEntryPoint {
            name: Cow::Borrowed("main"),
            workgroup_size: (size, 1, 1),
        }]),
        spirv: Some(Cow::Borrowed(words)),
        ..wgpu::ShaderModuleDescriptorPassthrough::default()
    };
    // SAFETY: the words are naga's SPIR-V of a module that naga validated, with the decorations and modes of the strict
    // form added, for which the device has the properties (`float_controls`). It touches no memory but its bindings,
    // within bounds that the verifier of programs proved for buffers of the program's sizes, and its loops end.
    unsafe { device.create_shader_module_passthrough(descriptor) }
}

/// Has wgpu translate WGSL for whatever interface the device is driven through.
fn plain_module(device: &wgpu::Device, name: &str, source: &str) -> wgpu::ShaderModule {
    let source = wgpu::ShaderSource::Wgsl(Cow::Borrowed(source));
    let descriptor = wgpu::ShaderModuleDescriptor { label: Some(name), source };
    // A division by zero has a result in LN1 as in WGSL, but not in the languages that WGSL is translated to.
    let checks = wgpu::ShaderRuntimeChecks { int_div_checks: true, ..wgpu::ShaderRuntimeChecks::unchecked() };
    // SAFETY: the module touches no memory but its bindings, within bounds that the verifier of programs proved for
    // buffers of the program's sizes, and its loops end.
    unsafe { device.create_shader_module_trusted(descriptor, checks) }
}

/// A code generator's error as the user sees it: what a device has too little of is not the program's fault.
pub(super) fn codegen_error(error: CodegenError) -> ExecuteError {
    match error {
        CodegenError::Limit { .. } => ExecuteError::Device(error.to_string()),
        other => ExecuteError::Internal(other.to_string()),
    }
}

/// Refuses what needs more bytes than there may be.
pub(super) fn check_limit(what: impl FnOnce() -> String, need: u64, limit: u64) -> Result<(), ExecuteError> {
    if need > limit { Err(ExecuteError::Limit { what: what(), need, limit }) } else { Ok(()) }
}
