//! The time of each kernel, by the device's own clock.

use std::time::Duration;

use loom_ir::kernel::{Forms, Program, Step};
use loom_runtime::artifact::Artifact;
use loom_runtime::session::{Session, Slices};
use serde::Serialize;

use crate::failure::Failure;
use crate::{flops, format, traffic};

/// Each time is the median of so many rounds.
const ROUNDS: usize = 25;

/// What the device could do, by the user's word.
#[derive(Debug, Clone, Copy)]
pub struct Peaks {
    /// 10^12 float operations a second.
    pub tflops: Option<f64>,
    /// 10^9 bytes a second.
    pub gbs: Option<f64>,
}

/// A step: a kernel, or those of a loop together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KernelTime<'a> {
    /// The kernels' names.
    names: Vec<&'a str>,
    /// How often they are dispatched, one after another.
    turns: u64,
    seconds: f64,
    /// Float operations.
    flops: u64,
    /// Bytes that must be moved at least.
    bytes: u64,
    tflops: f64,
    gbs: f64,
    /// `tflops` as a share of --peak-tflops.
    tflops_share: Option<f64>,
    /// `gbs` as a share of --peak-gbs.
    gbs_share: Option<f64>,
}

/// What an empty submission takes, and the medians of the steps of the first batch; `None` for a device without a clock.
pub fn kernel_times<'a>(
    session: &mut Session,
    artifact: &'a Artifact,
    slices: &Slices,
    peaks: Peaks,
) -> Result<Option<(Duration, Vec<KernelTime<'a>>)>, Failure> {
    let program: &Program = artifact.program();
    // A device with a clock widens weights where it uses them.
    let forms = artifact.weights().forms(program);
    let mut scratch = slices.scratch();
    let mut given = slices.inputs(0, &mut scratch).into_iter();
    // What is carried from run to run begins as zeros.
    let states = loom_ir::kernel::states::States::of(program).filter(|_| slices.carries());
    let zeros: Vec<Vec<u32>> = program.inputs().map(|(_, buffer)| vec![0; buffer.shape.elements() as usize]).collect();
    let carried = |id| states.as_ref().is_some_and(|states| states.has(id));
    let inputs: Vec<&[u32]> = program
        .inputs()
        .zip(&zeros)
        .map(|((id, _), zeros)| if carried(id) { zeros } else { given.next().unwrap_or(zeros) })
        .collect();
    let Some(profile) = session.profile(&inputs, ROUNDS)? else { return Ok(None) };
    let times = profile.steps.iter().map(|(step, time)| KernelTime::new((program, &forms), step, *time, peaks));
    Ok(Some((profile.empty, times.collect())))
}

impl<'a> KernelTime<'a> {
    fn new((program, forms): (&'a Program, &Forms), step: &Step, time: Duration, peaks: Peaks) -> KernelTime<'a> {
        let kernels = &program.kernels[step.kernels()];
        let turns = match step {
            Step::Kernel(_) => 1,
            Step::Loop { count, .. } => *count,
        };
        let flops = kernels.iter().map(flops::of_kernel).fold(0, u64::saturating_add);
        let bytes =
            kernels.iter().map(|kernel| traffic::of_kernel(program, kernel, forms)).fold(0, u64::saturating_add);
        // A time below what the clock can tell is no rate.
        let seconds = time.as_secs_f64();
        let rate = |amount: u64, unit: f64| if seconds > 0.0 { amount as f64 / seconds / unit } else { 0.0 };
        let (tflops, gbs) = (rate(flops, 1e12), rate(bytes, 1e9));
        KernelTime {
            names: kernels.iter().map(|kernel| kernel.name.as_str()).collect(),
            turns,
            seconds,
            flops,
            bytes,
            tflops,
            gbs,
            tflops_share: peaks.tflops.map(|peak| tflops / peak),
            gbs_share: peaks.gbs.map(|peak| gbs / peak),
        }
    }
}

/// The times as a table, with a last line for all of them.
pub fn table(times: &[KernelTime<'_>]) -> String {
    let cells = |cells: [&str; 6]| cells.map(str::to_string).to_vec();
    let share = |value: f64, share: Option<f64>| match share {
        Some(share) => format!("{value:.3} ({:.0} %)", share * 100.0),
        None => format!("{value:.3}"),
    };
    let time = |seconds: f64| format::time(Duration::from_secs_f64(seconds));
    let mut rows = vec![cells(["kernel", "turns", "time", "Mflop", "Tflop/s", "GB/s"])];
    rows.extend(times.iter().map(|kernel| {
        vec![
            kernel.names.join(" + "),
            format::count(kernel.turns),
            time(kernel.seconds),
            format!("{:.3}", kernel.flops as f64 / 1e6),
            share(kernel.tflops, kernel.tflops_share),
            share(kernel.gbs, kernel.gbs_share),
        ]
    }));
    let all = times.iter().map(|kernel| kernel.seconds).sum();
    rows.push(cells(["all kernels", "", &time(all), "", "", ""]));
    format::table(&rows, &[1, 2, 3, 4, 5])
}
