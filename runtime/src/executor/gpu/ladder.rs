//! The ladder: from tier to tier until one holds.

use std::fmt;
use std::time::{Duration, Instant};

use loom_codegen_wgsl::{Arithmetic, Controls};

use super::adapter::AdapterInfo;
use super::certificate::{Certificate, Certificates};
use super::probe::{Machine, Probe, Table};
use crate::executor::ExecuteError;
use crate::executor::tier::Tier;

/// How shaders are made: what a tier comes down to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    /// What computes floats.
    pub arithmetic: Arithmetic,
    /// What SPIR-V asks for; nothing where it is wgpu that makes it.
    pub controls: Option<Controls>,
}

impl Form {
    /// The only form of the tier guarded.
    pub const GUARDED: Form = Form { arithmetic: Arithmetic::Guarded, controls: None };

    /// The forms of a tier, in the order in which they are tried. `listed` is whether the driver lists that it can keep
    /// subnormals: if it does, it is asked to. If it doesn't, some keep them all the same (Mesa's lavapipe), some once
    /// they are asked to (NVIDIA's 580, which does not list what it then does), and the probe decides.
    pub fn of(tier: Tier, listed: bool) -> Vec<Form> {
        let strict =
            |denorm_preserve| Form { arithmetic: Arithmetic::Native, controls: Some(Controls { denorm_preserve }) };
        match tier {
            Tier::Strict if listed => vec![strict(true)],
            Tier::Strict => vec![strict(false), strict(true)],
            Tier::Guarded => vec![Form::GUARDED],
            Tier::Soft => vec![Form { arithmetic: Arithmetic::Soft, controls: None }],
        }
    }

    /// The names of the float controls.
    pub fn control_names(self) -> Vec<&'static str> {
        self.controls.map_or_else(Vec::new, |controls| controls.names().collect())
    }
}

/// Why a device does not run in a tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The adapter or its driver lacks these properties.
    Lacks(Vec<&'static str>),
    /// These probes gave other bits than the interpreter.
    Fails(Vec<Probe>),
    /// The probe could not be run.
    Unprobed(String),
}

/// So many failed probes are named in a message: a device that flushes subnormals fails dozens.
const NAMED: usize = 2;

/// The end of a sentence that begins with the tier.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Lacks(properties) => write!(f, "lacks {}", properties.join(", ")),
            Refusal::Fails(probes) => {
                let few: Vec<String> = probes.iter().take(NAMED).map(Probe::to_string).collect();
                write!(f, "fails {}", few.join(", "))?;
                match probes.len().saturating_sub(NAMED) {
                    0 => Ok(()),
                    more => write!(f, " and {more} more probes"),
                }
            }
            Refusal::Unprobed(error) => write!(f, "could not be probed: {error}"),
        }
    }
}

/// A device that can be put on the ladder.
pub(super) trait Climber: Machine {
    /// What it lacks for a tier.
    fn lacks(&self, tier: Tier) -> Vec<&'static str>;

    /// The forms of a tier for it.
    fn forms(&self, tier: Tier) -> Vec<Form>;

    /// From now on shaders are made in this form.
    fn take(&mut self, form: Form);

    /// The digest of what it would run of a table, in its form.
    fn digest(&self, table: &Table) -> Result<String, ExecuteError>;

    /// What it is.
    fn adapter(&self) -> &AdapterInfo;
}

/// How a device did in one tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierReport {
    /// The tier.
    pub tier: Tier,
    /// Why it was refused; `None` if it holds.
    pub refusal: Option<Refusal>,
    /// The SPIR-V float controls that shaders ask for.
    pub controls: Vec<&'static str>,
    /// How the device answered the probe; empty where it was not asked.
    pub probes: Vec<Probe>,
    /// Whether a certificate of an earlier probe stands for the answers.
    pub certified: bool,
    /// How long it took to find that out.
    pub time: Duration,
}

/// Tries tiers one after another until one holds. The last report is that of the tier in whose form the device is left,
/// unless it too is a refusal.
pub(super) fn climb(climber: &mut dyn Climber, tiers: &[Tier], certificates: &Certificates) -> Vec<TierReport> {
    let mut reports = Vec::new();
    for &tier in tiers {
        let report = stand(climber, tier, certificates, Ask::Once);
        let holds = report.refusal.is_none();
        reports.push(report);
        if holds {
            break;
        }
    }
    reports
}

/// Whether a device that has a certificate is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// Not again.
    Once,
    /// All the same; what it then fails, it loses the certificate of.
    Afresh,
}

/// Tries one tier, in each of its forms.
pub(super) fn stand(climber: &mut dyn Climber, tier: Tier, certificates: &Certificates, ask: Ask) -> TierReport {
    let begun = Instant::now();
    let mut report = TierReport {
        tier,
        refusal: None,
        controls: Vec::new(),
        probes: Vec::new(),
        certified: false,
        time: Duration::ZERO,
    };
    let lacks = climber.lacks(tier);
    if lacks.is_empty() {
        if let Err(error) = probe(climber, certificates, ask, &mut report) {
            report.refusal = Some(Refusal::Unprobed(error.to_string()));
        }
    } else {
        report.refusal = Some(Refusal::Lacks(lacks));
    }
    report.time = begun.elapsed();
    report
}

/// Looks for the certificate or runs the probe, form by form until one passes.
fn probe(
    climber: &mut dyn Climber,
    certificates: &Certificates,
    ask: Ask,
    report: &mut TierReport,
) -> Result<(), ExecuteError> {
    let table = Table::new()?;
    for form in climber.forms(report.tier) {
        climber.take(form);
        report.controls = form.control_names();
        let digest = climber.digest(&table)?;
        let certificate = Certificate::new(climber.adapter(), report.tier, form, &digest);
        report.certified = ask == Ask::Once && certificates.hold(&certificate);
        if report.certified {
            report.refusal = None;
            return Ok(());
        }
        report.probes = table.run(&*climber)?;
        let failed: Vec<Probe> = report.probes.iter().filter(|probe| !probe.passed()).cloned().collect();
        if failed.is_empty() {
            certificates.add(&certificate);
            report.refusal = None;
            return Ok(());
        }
        certificates.revoke(&certificate);
        report.refusal = Some(Refusal::Fails(failed));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::path::Path;
    use std::sync::Arc;

    use loom_codegen_wgsl::Class;
    use loom_ir::kernel::Verified;

    use super::super::probe::tests::{Fault, Faulty, flushes};
    use super::*;

    /// A device whose faults follow from the form of its shaders.
    struct Fake {
        info: AdapterInfo,
        fault: fn(Form) -> Fault,
        form: Form,
        runs: Cell<usize>,
    }

    impl Fake {
        fn new(fault: fn(Form) -> Fault) -> Fake {
            let info = AdapterInfo {
                name: "a fake".to_string(),
                driver: "a driver".to_string(),
                driver_info: "1".to_string(),
                backend: "none".to_string(),
                class: Class::Discrete,
                vendor: 0,
                device: 0,
                lacks: Vec::new(),
                unlisted: vec!["shaderDenormPreserveFloat32"],
            };
            Fake { info, fault, form: Form::of(Tier::Soft, true)[0], runs: Cell::new(0) }
        }
    }

    impl Machine for Fake {
        fn run(
            &self,
            program: &Arc<Verified>,
            inputs: &[&[u32]],
            outputs: &mut [&mut [u32]],
        ) -> Result<(), ExecuteError> {
            self.runs.set(self.runs.get() + 1);
            Faulty((self.fault)(self.form)).run(program, inputs, outputs)
        }
    }

    impl Climber for Fake {
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
            self.form = form;
        }

        fn digest(&self, _: &Table) -> Result<String, ExecuteError> {
            Ok("sha256:00".to_string())
        }
    }

    /// Keeps subnormals only where shaders ask for it, or compute with integers.
    fn like_nvidia(form: Form) -> Fault {
        match (form.arithmetic, form.controls) {
            (Arithmetic::Native, Some(Controls { denorm_preserve: true })) | (Arithmetic::Soft, _) => |_| None,
            _ => flushes,
        }
    }

    fn fails(report: &TierReport) -> Vec<&str> {
        match &report.refusal {
            Some(Refusal::Fails(probes)) => probes.iter().map(|probe| probe.name.as_str()).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn a_device_that_flushes_is_refused_where_it_does() {
        let mut device = Fake::new(like_nvidia);
        let nowhere = Certificates::new(None);
        let reports = Tier::ALL.map(|tier| stand(&mut device, tier, &nowhere, Ask::Afresh));
        let [strict, guarded, soft] = &reports;
        assert_eq!((&strict.refusal, &soft.refusal), (&None, &None));
        // Without the control it flushes, with it it doesn't.
        assert!(strict.controls.contains(&"DenormPreserve"));
        for name in ["subnormal sums are kept", "subnormal products are kept", "f32 mul"] {
            assert!(fails(guarded).contains(&name), "{name}");
        }
        // It has no other fault, and the message begins with what this one is called.
        assert!(!fails(guarded).contains(&"a product is rounded before it is added"));
        let message = guarded.refusal.as_ref().unwrap().to_string();
        assert!(message.starts_with("fails `subnormal sums are kept` (of "), "{message}");
    }

    #[test]
    fn the_first_tier_that_holds_is_taken() {
        let nowhere = Certificates::new(None);
        let mut sound = Fake::new(|_| |_| None);
        let reports = climb(&mut sound, &Tier::ALL, &nowhere);
        assert_eq!(reports.iter().map(|report| report.tier).collect::<Vec<_>>(), [Tier::Strict]);
        assert_eq!(sound.form.arithmetic, Arithmetic::Native);

        sound.info.lacks.push("passthrough shaders");
        let reports = climb(&mut sound, &Tier::ALL, &nowhere);
        assert_eq!(reports[0].refusal, Some(Refusal::Lacks(vec!["passthrough shaders"])));
        assert_eq!((reports[1].tier, &reports[1].refusal), (Tier::Guarded, &None));
        assert_eq!(sound.form.arithmetic, Arithmetic::Guarded);

        let mut flushing = Fake::new(like_nvidia);
        flushing.info.lacks.push("passthrough shaders");
        let reports = climb(&mut flushing, &Tier::ALL, &nowhere);
        assert!(fails(&reports[1]).contains(&"subnormal sums are kept"));
        assert_eq!((reports[2].tier, &reports[2].refusal), (Tier::Soft, &None));
        assert_eq!(flushing.form.arithmetic, Arithmetic::Soft);

        // Where one tier is asked for, no other will do.
        let reports = climb(&mut flushing, &[Tier::Guarded], &nowhere);
        assert!(matches!(&reports[..], [TierReport { refusal: Some(Refusal::Fails(_)), .. }]));
    }

    #[test]
    fn a_device_with_a_certificate_is_not_probed() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::new(Some(folder.path()));
        let mut device = Fake::new(|_| |_| None);
        let climbs = |device: &mut Fake| {
            let before = device.runs.get();
            let reports = climb(device, &Tier::ALL, &certificates);
            (reports[0].certified, device.runs.get() - before)
        };
        assert_eq!(climbs(&mut device), (false, 1));
        assert_eq!(climbs(&mut device), (true, 0));
        device.info.driver_info = "2".to_string();
        assert_eq!(climbs(&mut device), (false, 1), "another driver");
        break_all(folder.path());
        assert_eq!(climbs(&mut device), (false, 1), "a broken file");
        assert_eq!(climbs(&mut device), (true, 0), "which is written again");
        // What fails when it is asked afresh, loses its certificate.
        device.fault = |_| flushes;
        assert!(stand(&mut device, Tier::Strict, &certificates, Ask::Afresh).refusal.is_some());
        assert!(!climbs(&mut device).0);
    }

    fn break_all(folder: &Path) {
        for entry in std::fs::read_dir(folder.join("certificates")).unwrap() {
            std::fs::write(entry.unwrap().path(), "{}").unwrap();
        }
    }
}
