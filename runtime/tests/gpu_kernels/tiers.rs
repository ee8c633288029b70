//! The tiers on the device at hand: each that holds gives the interpreter's bits, and a certificate stands for a probe.

use std::path::Path;
use std::sync::Arc;

use loom_ir::kernel::scalar::UnaryOp;
use loom_ir::kernel::{Arg, Body, verify};
use loom_ir::types::DType;
use loom_runtime::executor::Executor;
use loom_runtime::executor::gpu::{GpuDevice, GpuExecutor, GpuOptions, Refusal, Tier, examine};

use crate::build::{Build, Data, elements, lambda};

/// The options for a tier, with certificates in a folder of the test's own.
fn options(tier: Tier, cache: &Path) -> GpuOptions {
    GpuOptions { tier: Some(tier), cache: Some(cache.to_path_buf()), ..GpuOptions::default() }
}

fn certificates(cache: &Path) -> usize {
    std::fs::read_dir(cache.join("certificates")).map_or(0, Iterator::count)
}

/// On every device of this test (Mesa's lavapipe, NVIDIA's GPUs) strict and soft hold. Guarded holds where plain WGSL keeps
/// subnormals; where it doesn't, that is why it is refused.
#[test]
fn every_tier_holds_or_says_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let options = GpuOptions { cache: Some(folder.path().to_path_buf()), ..GpuOptions::default() };
    let examined = examine(&options);
    let device = &examined[0];
    let reports = device.tiers.as_ref().unwrap();
    assert_eq!(reports.iter().map(|report| report.tier).collect::<Vec<_>>(), Tier::ALL);
    for report in reports {
        println!("{} in {:?}: {:?}", report.tier, report.time, report.refusal);
        match &report.refusal {
            None => assert!(report.probes.iter().all(|probe| probe.passed())),
            Some(Refusal::Fails(probes)) if report.tier == Tier::Guarded => {
                assert_eq!(probes[0].name, "subnormal sums are kept");
            }
            Some(refusal) => panic!("{}: {refusal}", report.tier),
        }
    }
    assert_eq!(device.tier().map(|report| report.tier), Some(Tier::Strict));
    assert_eq!(certificates(folder.path()), reports.iter().filter(|report| report.refusal.is_none()).count());
}

#[test]
fn a_certificate_stands_for_a_probe() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(Tier::Strict, folder.path());
    let certified = |options: &GpuOptions| GpuDevice::open(options).unwrap().info().tier.certified;
    assert!(!certified(&options));
    assert!(certified(&options));
    assert!(!certified(&GpuOptions { cache: None, ..options.clone() }));
    for entry in std::fs::read_dir(folder.path().join("certificates")).unwrap() {
        std::fs::write(entry.unwrap().path(), "no certificate").unwrap();
    }
    assert!(!certified(&options));
    assert!(certified(&options));
}

/// One kernel of each kind that a network is made of, in the tier guarded: tried once, then certified.
#[test]
fn kernels_are_tried_where_the_tier_rests_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(Tier::Guarded, folder.path());
    let Ok(device) = GpuDevice::open(&options) else { return };
    let probed = certificates(folder.path());
    let mut build = Build::new();
    let input = build.input(DType::F32, &[40, 30]);
    let output = build.output(DType::F32, &[40, 30]);
    let (from, to) = (build.identity(input, 2), build.identity(output, 2));
    let function = lambda(&[(Arg::Load(0), DType::F32)], |f, v| {
        let exp = f.unary(UnaryOp::Exp, v[0]);
        f.mul(exp, v[0])
    });
    build.kernel(&[40, 30], vec![from], Body::Map(function), to);
    let program = Arc::new(verify(build.program).unwrap());
    let bits = elements(DType::F32, 1200, Data::Special, 3);
    let run = || {
        let weights = Arc::new(Vec::<Vec<u32>>::new());
        let mut executor = GpuExecutor::new(Arc::clone(&device), Arc::clone(&program), weights).unwrap();
        assert_eq!(executor.tier(), Some(Tier::Guarded));
        let mut found = vec![0; 1200];
        executor.run(&[&bits], &mut [&mut found]).unwrap();
        found
    };
    let first = run();
    assert_eq!(certificates(folder.path()), probed + 1);
    assert_eq!(first, run());
    assert_eq!(certificates(folder.path()), probed + 1);
}
