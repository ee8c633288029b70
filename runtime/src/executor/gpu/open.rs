//! Opening adapters: each in the first tier that holds.

use std::path::PathBuf;
use std::sync::Arc;

use loom_codegen_wgsl::{Arithmetic, Target, generate, translation};
use loom_ir::kernel::Verified;
use sha2::{Digest, Sha256};

use super::adapter::{self, AdapterInfo};
use super::certificate::{Certificates, default_cache};
use super::device::{Context, codegen_error};
use super::executor::Ready;
use super::ladder::{Ask, Climber, Form, TierReport, climb, stand};
use super::probe::{Machine, Table};
use crate::digest::hex;
use crate::executor::ExecuteError;
use crate::executor::tier::Tier;
use crate::fp_env::FpEnv;

/// The environment variable that [`GpuOptions::default`] takes the adapter's name from.
const ADAPTER_VARIABLE: &str = "LOOM_ADAPTER";

/// Which device to open, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuOptions {
    /// A part of the adapter's name, whatever the case.
    pub adapter: Option<String>,
    /// The tier; left out, the first of [`Tier::ALL`] that holds.
    pub tier: Option<Tier>,
    /// The folder in which certificates and pipelines are kept, so that a device is not probed every time and kernels are
    /// not compiled again; left out, they are.
    pub cache: Option<PathBuf>,
}

impl Default for GpuOptions {
    /// By the environment: the adapter that `LOOM_ADAPTER` names, or any; the user's cache, for which see
    /// `LOOM_CACHE_DIR` and `LOOM_CACHE` in the documentation of numerics.
    fn default() -> GpuOptions {
        let adapter = std::env::var(ADAPTER_VARIABLE).ok().filter(|name| !name.is_empty());
        GpuOptions { adapter, tier: None, cache: default_cache() }
    }
}

impl GpuOptions {
    /// The tiers to be tried, in this order.
    fn tiers(&self) -> Vec<Tier> {
        self.tier.map_or_else(|| Tier::ALL.to_vec(), |tier| vec![tier])
    }
}

/// What is known of an open device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The adapter.
    pub adapter: AdapterInfo,
    /// The tier that it runs in, and how it was found fit for it.
    pub tier: TierReport,
    /// The tiers that were tried before and refused.
    pub refused: Vec<TierReport>,
}

/// An open GPU, shared by the executors on it.
#[derive(Debug)]
pub struct GpuDevice {
    pub(super) context: Context,
    pub(super) certificates: Certificates,
    info: DeviceInfo,
}

impl GpuDevice {
    /// Opens the first adapter that the options name and that is fit for a tier that they allow: see
    /// [`list_adapters`](super::list_adapters) for the order. The error tells why each was refused.
    pub fn open(options: &GpuOptions) -> Result<Arc<GpuDevice>, OpenError> {
        // A software device computes on threads that it starts now, and they take this thread's environment.
        FpEnv::run(|| GpuDevice::open_first(options))
    }

    fn open_first(options: &GpuOptions) -> Result<Arc<GpuDevice>, OpenError> {
        let certificates = Certificates::new(options.cache.as_deref());
        let mut adapters = Vec::new();
        for adapter in adapter::adapters(options.adapter.as_deref()) {
            let info = adapter::describe(&adapter);
            let name = info.name.clone();
            let climbed = Opened::new(&adapter, info, options).map(|mut opened| {
                let reports = climb(&mut opened, &options.tiers(), &certificates);
                (opened, reports)
            });
            adapters.push((
                name,
                match climbed {
                    Ok((opened, mut reports)) => match reports.pop() {
                        Some(tier) if tier.refusal.is_none() => {
                            let info = DeviceInfo { adapter: opened.info, tier, refused: reports };
                            return Ok(Arc::new(GpuDevice { context: opened.context, certificates, info }));
                        }
                        last => Refused::Tiers(reports.into_iter().chain(last).collect()),
                    },
                    Err(error) => Refused::NotOpened(error),
                },
            ));
        }
        Err(OpenError { name: options.adapter.clone(), tier: options.tier, adapters })
    }

    /// What it is.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// The tier that it runs in.
    pub fn tier(&self) -> Tier {
        self.info.tier.tier
    }

    /// What code is generated for.
    pub fn target(&self) -> &Target {
        &self.context.target
    }
}

/// Why no device was opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.describe())]
pub struct OpenError {
    /// The part of a name that was asked for.
    pub name: Option<String>,
    /// The tier that was asked for.
    pub tier: Option<Tier>,
    /// The adapters of that name, and why each was refused.
    pub adapters: Vec<(String, Refused)>,
}

/// Why an adapter was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Its driver would not open it.
    NotOpened(String),
    /// No tier holds.
    Tiers(Vec<TierReport>),
}

impl OpenError {
    fn describe(&self) -> String {
        let called = self.name.as_ref().map_or(String::new(), |name| format!(" called `{name}`"));
        let exact = match self.tier {
            Some(tier) => format!("that is exact in the tier {tier}"),
            None => "that is exact".to_string(),
        };
        let adapters = self.adapters.iter().map(|(name, refused)| match refused {
            Refused::NotOpened(error) => format!("{name} could not be opened: {error}"),
            Refused::Tiers(reports) => {
                let refusals = reports.iter().filter_map(|report| Some((report.tier, report.refusal.as_ref()?)));
                let list: Vec<String> = refusals.map(|(tier, refusal)| format!("{tier}: {refusal}")).collect();
                format!("{name} is not, {}", list.join("; "))
            }
        });
        let adapters: Vec<String> = adapters.collect();
        if adapters.is_empty() {
            format!("a Vulkan adapter{called} was looked for, there is none")
        } else {
            format!("a Vulkan adapter{called} {exact} was looked for; {}", adapters.join("; "))
        }
    }
}

impl From<OpenError> for ExecuteError {
    fn from(error: OpenError) -> ExecuteError {
        ExecuteError::NoDevice(error.to_string())
    }
}

/// An adapter and how it did in every tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examination {
    /// The adapter.
    pub adapter: AdapterInfo,
    /// How it did, tier by tier; or why it could not be opened.
    pub tiers: Result<Vec<TierReport>, String>,
}

impl Examination {
    /// The tier that it would run in.
    pub fn tier(&self) -> Option<&TierReport> {
        self.tiers.iter().flatten().find(|report| report.refusal.is_none())
    }
}

/// Probes all adapters that the options name, in all tiers that they allow, whatever certificates say; what they say is
/// renewed.
pub fn examine(options: &GpuOptions) -> Vec<Examination> {
    FpEnv::run(|| examine_all(options))
}

fn examine_all(options: &GpuOptions) -> Vec<Examination> {
    let certificates = Certificates::new(options.cache.as_deref());
    let adapters = adapter::adapters(options.adapter.as_deref());
    let one = |adapter: &wgpu::Adapter| {
        let info = adapter::describe(adapter);
        let tiers = Opened::new(adapter, info.clone(), options).map(|mut opened| {
            let report = |tier| stand(&mut opened, tier, &certificates, Ask::Afresh);
            options.tiers().into_iter().map(report).collect()
        });
        Examination { adapter: info, tiers }
    };
    adapters.iter().map(one).collect()
}

/// An adapter that is open and on its way to a tier.
struct Opened {
    context: Context,
    info: AdapterInfo,
}

impl Opened {
    fn new(adapter: &wgpu::Adapter, info: AdapterInfo, options: &GpuOptions) -> Result<Opened, String> {
        Ok(Opened { context: Context::open(adapter, &info, options.cache.as_deref())?, info })
    }
}

impl Machine for Opened {
    fn run(&self, program: &Arc<Verified>, inputs: &[&[u32]], outputs: &mut [&mut [u32]]) -> Result<(), ExecuteError> {
        let mut ready = Ready::new(&self.context, Arc::clone(program), &Vec::new(), &self.context.target, None)?;
        ready.run(&self.context, inputs, outputs)
    }
}

impl Climber for Opened {
    fn adapter(&self) -> &AdapterInfo {
        &self.info
    }

    fn lacks(&self, tier: Tier) -> Vec<&'static str> {
        if tier == Tier::Strict { self.info.lacks.clone() } else { Vec::new() }
    }

    fn forms(&self, tier: Tier) -> Vec<Form> {
        Form::of(tier, self.info.unlisted.is_empty())
    }

    fn take(&mut self, form: Form) {
        self.context.take(form);
    }

    /// The shaders are named by their text and what translates it: a run that finds a certificate makes none of them.
    fn digest(&self, table: &Table) -> Result<String, ExecuteError> {
        let target = &self.context.target;
        let mut hash = Sha256::new();
        if target.arithmetic == Arithmetic::Native {
            hash.update(Sha256::digest(translation()));
        }
        for kernel in generate(table.program(), target).map_err(codegen_error)? {
            hash.update(Sha256::digest(kernel.source));
        }
        for input in table.inputs() {
            hash.update(Sha256::digest(bytemuck::cast_slice::<u32, u8>(input)));
        }
        Ok(format!("sha256:{}", hex(&hash.finalize())))
    }
}
