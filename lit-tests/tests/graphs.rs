//! Random graphs give the same bits with all passes and few, in the interpreter, on the CPU on one thread and two, and on
//! the GPU.
//!
//! `LOOM_CASES=N` runs more of them, `LOOM_SEED=S` begins with seed S. A difference is shrunk and printed as a golden file.
//! A machine without a GPU adapter fails these tests; software Vulkan is enough.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use loom_ir::kernel::Verified;
use loom_lit_tests::bits;
use loom_lit_tests::lit::LitFile;
use loom_runtime::executor::gpu::{GpuDevice, GpuExecutor, GpuOptions};
use loom_runtime::executor::{ExecuteError, WeightBits};
use loom_testing::case::{Case, Tensors};
use loom_testing::oracles::differential;
use loom_testing::oracles::run::{Given, outputs};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|number| number.parse().ok()).unwrap_or(default)
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    let first = number("LOOM_SEED", 0);
    first..first + number("LOOM_CASES", default)
}

/// The GPU is opened and probed once for all tests.
fn gpu() -> Arc<GpuDevice> {
    static DEVICE: OnceLock<Arc<GpuDevice>> = OnceLock::new();
    Arc::clone(DEVICE.get_or_init(|| GpuDevice::open(&GpuOptions::default()).unwrap()))
}

/// The outputs by name; `None` where the device is too small for the program.
fn on_gpu(program: &Arc<Verified>, given: &Given) -> Result<Option<Tensors>, ExecuteError> {
    let weights: Arc<dyn WeightBits> = Arc::new(given.weights.clone());
    let made = GpuExecutor::new(gpu(), Arc::clone(program), weights);
    let found = match made.and_then(|mut executor| outputs(&mut executor, given)) {
        Err(ExecuteError::Limit { .. }) => return Ok(None),
        other => other?,
    };
    Ok(Some(program.outputs().map(|(_, buffer)| buffer.name.clone()).zip(found).collect()))
}

#[test]
fn the_processor_keeps_every_bit() {
    for seed in seeds(300) {
        differential::expect_agreement(&Case::from_seed(seed), &[1, 2]);
    }
}

#[test]
fn the_gpu_gives_the_same_bits() {
    let (mut ran, mut refused) = (0u64, 0u64);
    for seed in seeds(40) {
        differential::expect(&Case::from_seed(seed), &mut |case| {
            let expected = differential::plain(case)?;
            let program = Arc::new(differential::program(case, &[])?);
            let found = on_gpu(&program, &differential::given(case, &program));
            match found.map_err(|error| format!("seed {seed}: gpu: {error}"))? {
                Some(found) if found != expected => return Err(format!("seed {seed}: gpu differs")),
                Some(_) => ran += 1,
                None => refused += 1,
            }
            Ok(())
        });
    }
    assert!(refused <= ran / 10, "the GPU is too small for {refused} graphs and ran {ran}");
}

/// Every golden file with values: differences that were found once, above all.
#[test]
fn golden_outputs_are_the_gpus_too() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("files/output");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = LitFile::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let Some((program, values)) = file.runnable().unwrap() else { continue };
        let found = on_gpu(&program, &bits::given(&program, &values).unwrap()).unwrap();
        assert_eq!(found, Some(bits::expected(&program, &values).unwrap()), "{}", path.display());
        count += 1;
    }
    assert!(count > 0, "there are golden outputs");
}
