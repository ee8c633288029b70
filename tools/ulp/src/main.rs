//! Measures Loom's scalar library against correctly rounded references.

mod batch;
mod measure;
mod reference;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use loom_ir::kernel::scalar::{Inst, ScalarFn, UnaryOp};
use loom_ir::numerics::library::definition;

/// Measures the scalar library over all 2^32 arguments of each function, or a sample of them.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The functions to measure, by name; all of them if none is named.
    functions: Vec<String>,
    /// Measure every N-th argument only.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1 << 32))]
    stride: u64,
    /// Threads to use.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=256))]
    threads: u64,
    /// Print each function's program instead of measuring it.
    #[arg(long)]
    print: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let mut ops: Vec<UnaryOp> = Vec::new();
    for name in &arguments.functions {
        match UnaryOp::from_name(name).filter(|op| op.is_library()) {
            Some(op) => ops.push(op),
            None => {
                eprintln!("error: the library has no function `{name}`");
                std::process::exit(2);
            }
        }
    }
    if ops.is_empty() {
        ops.extend(UnaryOp::ALL.iter().copied().filter(|op| op.is_library()));
    }
    println!(
        "| function | steps off | at | largest error, ulp | at | not correctly rounded | instructions | constants |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for op in ops {
        let Some(function) = definition(op) else { continue };
        if arguments.print {
            println!("{op}{function}");
            continue;
        }
        let report = with_progress(op.name(), (1u64 << 32).div_ceil(arguments.stride), |progress| {
            measure::measure(op, function, arguments.stride, arguments.threads, progress)
        });
        let (instructions, constants) = size(function);
        println!(
            "| {op} | {} | {:e} | {:.3} | {:e} | {:.3} % | {instructions} | {constants} |",
            report.steps,
            report.steps_at,
            report.error,
            report.error_at,
            100.0 * report.wrong as f64 / report.tried as f64,
        );
        if report.broken > 0 {
            println!("{op}: {} results are wrong in kind or sign, such as at {:e}", report.broken, report.broken_at);
        }
    }
}

/// Instructions that compute something (bit casts cost nothing), and constants.
fn size(function: &ScalarFn) -> (usize, usize) {
    let constants = function.insts.iter().filter(|inst| matches!(inst, Inst::Const(..))).count();
    let casts = function.insts.iter().filter(|inst| matches!(inst, Inst::Bitcast(..))).count();
    (function.insts.len() - constants - casts, constants)
}

/// Runs `work` with a progress bar on a terminal.
fn with_progress<T>(name: &'static str, total: u64, work: impl FnOnce(&AtomicU64) -> T) -> T {
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template("{msg:>8} {wide_bar} {percent}% {eta}") {
        bar.set_style(style);
    }
    bar.set_message(name);
    let count = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                bar.set_position(count.load(Ordering::Relaxed));
                thread::sleep(Duration::from_millis(100));
            }
        });
        let result = work(&count);
        done.store(true, Ordering::Relaxed);
        result
    });
    bar.finish_and_clear();
    result
}
